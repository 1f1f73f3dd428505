//! Encryption of what is stored: XChaCha20-Poly1305 (RFC 8439; draft-irtf-cfrg-xchacha-03).
//!
//! What is encrypted is a nonce of 24 bytes, the text in cipher, and a tag of 16 bytes.
//! Each is bound to its place: an object to its id, a list of objects to being one, a record
//! to its number. What is moved elsewhere does not decrypt.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};

use crate::checkpoint::driver::Error;
use crate::config::Key;

/// The length of a nonce.
const NONCE: usize = 24;
/// How much longer something is when it is encrypted.
const OVERHEAD: usize = NONCE + 16;
/// What the keys of other uses differ in (BLAKE3's key derivation).
const CONTEXT: &str = "sprite-env 2026-11-25 checkpoint store";
/// What is encrypted to tell a key from others.
const CHECK: &[u8] = b"sprite-env";

/// Encrypts and decrypts, or leaves as it is.
#[derive(Clone, Default)]
pub struct Cipher(Option<Arc<Keyed>>);

struct Keyed {
    cipher: XChaCha20Poly1305,
    /// The part of nonces that no other run has, and how many this one has used.
    run: [u8; NONCE - 8],
    used: AtomicU64,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "encrypted" } else { "plain" })
    }
}

/// What something encrypted is bound to.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// An object: its id.
    Object(&'a [u8]),
    /// The list of a pack's objects.
    Segment,
    /// A record: its number.
    Record(u64),
    /// The mark of a store.
    Mark,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Object(id) => [b"object:", *id].concat(),
            Self::Segment => b"segment".to_vec(),
            Self::Record(sequence) => [b"record:".as_slice(), &sequence.to_le_bytes()].concat(),
            Self::Mark => b"mark".to_vec(),
        }
    }
}

/// That something does not decrypt: another key, or other bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not decrypt: it is damaged, or of another key")]
pub struct Undecipherable;

impl Cipher {
    /// With this key; none leaves everything as it is.
    pub fn new(key: Option<&Key>) -> Result<Self, Error> {
        let Some(key) = key else {
            return Ok(Self(None));
        };
        let mut run = [0; NONCE - 8];
        getrandom::fill(&mut run).map_err(|error| {
            Error::Unusable(format!(
                "there are no random numbers to encrypt with: {error}"
            ))
        })?;
        let derived = blake3::derive_key(CONTEXT, key.expose());
        Ok(Self(Some(Arc::new(Keyed {
            cipher: XChaCha20Poly1305::new(&derived.into()),
            run,
            used: AtomicU64::new(0),
        }))))
    }

    /// Whether it encrypts.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// How much longer something is that it has encrypted.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        if self.is_on() { OVERHEAD } else { 0 }
    }

    /// `text` as it is stored, put into `buffer` if it is encrypted.
    pub fn seal<'a>(
        &self,
        place: Place,
        text: &'a [u8],
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], Error> {
        let Some(keyed) = &self.0 else {
            return Ok(text);
        };
        let mut nonce = XNonce::default();
        let used = keyed.used.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        for (to, from) in nonce.iter_mut().zip(keyed.run.iter().chain(&used)) {
            *to = *from;
        }
        buffer.clear();
        buffer.extend_from_slice(&nonce);
        buffer.extend_from_slice(text);
        let inner = buffer.get_mut(NONCE..).unwrap_or_default();
        let tag = keyed
            .cipher
            .encrypt_inout_detached(&nonce, &place.bytes(), inner.into())
            .map_err(|_| Error::Unusable("something is too long to be encrypted".to_owned()))?;
        buffer.extend_from_slice(&tag);
        Ok(buffer)
    }

    /// Makes what was stored into the text that it was.
    pub fn open(&self, place: Place, stored: &mut Vec<u8>) -> Result<(), Undecipherable> {
        let Some(keyed) = &self.0 else {
            return Ok(());
        };
        let (nonce, rest) = stored
            .split_first_chunk_mut::<NONCE>()
            .ok_or(Undecipherable)?;
        let (text, tag) = rest.split_last_chunk_mut::<16>().ok_or(Undecipherable)?;
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        keyed
            .cipher
            .decrypt_inout_detached(&nonce, &place.bytes(), text.into(), &tag)
            .map_err(|_| Undecipherable)?;
        let length = stored.len() - OVERHEAD;
        stored.copy_within(NONCE..NONCE + length, 0);
        stored.truncate(length);
        Ok(())
    }

    /// The same as text.
    pub fn seal_text(&self, place: Place, text: &[u8]) -> Result<String, Error> {
        Ok(STANDARD.encode(self.seal(place, text, &mut Vec::new())?))
    }

    /// The text that [`Self::seal_text`] was given.
    pub fn open_text(&self, place: Place, text: &str) -> Result<Vec<u8>, Undecipherable> {
        let mut stored = STANDARD.decode(text).map_err(|_| Undecipherable)?;
        self.open(place, &mut stored)?;
        Ok(stored)
    }

    /// A word that only this key can have written; none without one.
    pub fn mark(&self) -> Result<Option<String>, Error> {
        let is_on = self.is_on();
        let mark = is_on.then(|| self.seal_text(Place::Mark, CHECK));
        mark.transpose()
    }

    /// Fails with the reason if what has this mark was not written with this key, or without
    /// one.
    pub fn check(&self, mark: Option<&str>) -> Result<(), &'static str> {
        match mark {
            None if self.is_on() => Err(
                "is not encrypted, and checkpoint.encryption_key is set; only a new store can be \
                 encrypted: export the checkpoints, and import them there",
            ),
            Some(_) if !self.is_on() => {
                Err("is encrypted; set checkpoint.encryption_key, or SPRITE_ENCRYPTION_KEY")
            }
            Some(mark) if self.open_text(Place::Mark, mark).as_deref() != Ok(CHECK) => {
                Err("was encrypted with another key than checkpoint.encryption_key")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(byte: u8) -> Cipher {
        Cipher::new(Some(&Key::new([byte; 32]))).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let ours = cipher(1);
        for text in [&b""[..], b"x", &vec![7; 100_000]] {
            let mut buffer = Vec::new();
            let sealed = ours
                .seal(Place::Record(3), text, &mut buffer)
                .unwrap()
                .to_vec();
            assert_eq!(sealed.len(), text.len() + ours.overhead());
            let again = ours.seal(Place::Record(3), text, &mut buffer).unwrap();
            assert_ne!(again, sealed, "never the same nonce");
            let open = |cipher: &Cipher, place, mut sealed: Vec<u8>| {
                cipher.open(place, &mut sealed).map(|()| sealed)
            };
            assert_eq!(open(&ours, Place::Record(3), sealed.clone()).unwrap(), text);
            assert_eq!(
                open(&cipher(1), Place::Record(3), sealed.clone()).unwrap(),
                text
            );
            assert!(open(&ours, Place::Record(4), sealed.clone()).is_err());
            assert!(open(&ours, Place::Segment, sealed.clone()).is_err());
            assert!(open(&cipher(2), Place::Record(3), sealed.clone()).is_err());
            let mut damaged = sealed.clone();
            damaged[30] ^= 1;
            assert!(open(&ours, Place::Record(3), damaged).is_err());
            assert!(open(&ours, Place::Record(3), sealed[..39].to_vec()).is_err());
        }
    }

    #[test]
    fn a_mark_tells_one_key_from_another() {
        let (ours, plain) = (cipher(1), Cipher::default());
        let mark = ours.mark().unwrap();
        assert_eq!(ours.check(mark.as_deref()), Ok(()));
        assert_eq!(plain.check(plain.mark().unwrap().as_deref()), Ok(()));
        for (cipher, mark) in [
            (cipher(2), mark.as_deref()),
            (plain, mark.as_deref()),
            (ours, None),
        ] {
            assert!(cipher.check(mark).is_err());
        }
    }
}
