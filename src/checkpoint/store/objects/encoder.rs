//! Compression of objects: zstd at its fastest regular level, and a little faster than that, unless
//! it is of no use.

use std::fmt;
use std::io;

use super::super::cipher::{Cipher, Place};
use super::super::id::Id;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

/// The level at which more time buys little more.
const LEVEL: i32 = 1;
/// The shortest match that is looked for, and the size of the table it is looked for in: against
/// the level's own, 7 to 9 % less time for 2 to 3 % more bytes of source code, which is most of the
/// time of a first checkpoint of many small files.
const TUNING: [CParameter; 2] = [CParameter::MinMatch(7), CParameter::HashLog(13)];
/// Shorter objects are not probed.
const PROBED: usize = 16 << 10;
/// The length of a probe.
const PROBE: usize = 4 << 10;

/// Compresses objects. Each thread has its own.
pub struct Encoder {
    zstd: Option<Compressor<'static>>,
    buffer: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            // Without it, objects are stored as they are.
            zstd: tuned().ok(),
            buffer: Vec::new(),
        }
    }
}

fn tuned() -> io::Result<Compressor<'static>> {
    let mut zstd = Compressor::new(LEVEL)?;
    for parameter in TUNING {
        zstd.set_parameter(parameter)?;
    }
    Ok(zstd)
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// What is stored for `bytes`: something shorter that decompresses to them, or
    /// themselves.
    pub fn encode<'a>(&'a mut self, bytes: &'a [u8]) -> &'a [u8] {
        if bytes.len() >= PROBED {
            let middle = bytes.len() / 2;
            let probe = bytes.get(middle..middle + PROBE).unwrap_or_default();
            // Less than a sixteenth to win in a part of it: not worth it for the whole.
            if !is_uneven(probe)
                && self
                    .compress(probe)
                    .is_none_or(|length| length > PROBE - PROBE / 16)
            {
                return bytes;
            }
        }
        match self.compress(bytes) {
            Some(length) if length < bytes.len() => self.buffer.get(..length).unwrap_or(bytes),
            _ => bytes,
        }
    }

    fn compress(&mut self, bytes: &[u8]) -> Option<usize> {
        let room = zstd::zstd_safe::compress_bound(bytes.len());
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let zstd = self.zstd.as_mut()?;
        zstd.compress_to_buffer(bytes, &mut self.buffer[..]).ok()
    }
}

/// Whether some bytes are so much more frequent than others that there is likely something to win
/// for that alone: fewer than 7 bits a byte (Rényi's entropy of order 2).
fn is_uneven(bytes: &[u8]) -> bool {
    let mut counts = [0_u64; 256];
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let pairs: u64 = counts.iter().map(|count| count * count).sum();
    let length = bytes.len() as u64;
    pairs * 128 > length * length
}

/// Decompresses objects. Each thread has its own.
#[derive(Default)]
pub struct Decoder {
    zstd: Option<Decompressor<'static>>,
    stored: Vec<u8>,
    raw: Vec<u8>,
    /// Whether the last object was not compressed.
    is_plain: bool,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// Room for an object as it is stored.
    pub fn stored(&mut self, length: usize) -> &mut [u8] {
        self.stored.resize(length, 0);
        &mut self.stored
    }

    /// The object `id` whose stored form was put into [`Self::stored`].
    pub fn decode(&mut self, cipher: &Cipher, id: &Id, raw: usize) -> io::Result<&[u8]> {
        let opened = cipher.open(Place::Object(id.as_bytes()), &mut self.stored);
        opened.map_err(io::Error::other)?;
        self.is_plain = self.stored.len() == raw;
        if self.is_plain {
            return Ok(&self.stored);
        }
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            empty => empty.insert(Decompressor::new()?),
        };
        self.raw.resize(raw, 0);
        let length = zstd.decompress_to_buffer(&self.stored, &mut self.raw[..])?;
        self.raw.truncate(length);
        Ok(&self.raw)
    }

    /// The object that was decoded last.
    pub fn decoded(&self) -> &[u8] {
        if self.is_plain {
            &self.stored
        } else {
            &self.raw
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_uneven_and_noise_is_not() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(PROBE)
            .collect();
        assert!(!is_uneven(&noise));
        assert!(is_uneven(&b"all work and no play ".repeat(200)));
        let hex: Vec<u8> = noise
            .iter()
            .map(|byte| b"0123456789abcdef"[usize::from(byte % 16)])
            .collect();
        assert!(is_uneven(&hex));
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(64 << 10)
            .collect();
        let text = b"all work and no play ".repeat(3_000);
        let mixed = [&noise[..20_000], &text[..40_000]].concat();
        for bytes in [
            &[][..],
            b"x",
            b"xxxxxxxxxxxxxxxxxxxxxxx",
            &noise,
            &text,
            &mixed,
        ] {
            let mut encoder = Encoder::default();
            let stored = encoder.encode(bytes).to_vec();
            assert!(stored.len() <= bytes.len());
            let mut decoder = Decoder::default();
            decoder.stored(stored.len()).copy_from_slice(&stored);
            let plain = Cipher::default();
            let found = decoder.decode(&plain, &Id::HOLE, bytes.len());
            assert_eq!(found.unwrap(), bytes);
        }
    }
}
