//! Writes down each input of the machines with all that came of it: always in memory,
//! and in a file where one is configured.

use std::sync::Arc;

use machines::journal::{FORMAT, Header, Line};
use machines::supervisor::{Input, Reaction, Supervisor};

use super::journal::Journal;
use super::ring::Ring;
use crate::clock::now;
use crate::config;

/// The recorder; it belongs to the event loop.
#[derive(Debug)]
pub struct Recorder {
    /// The number of the last line.
    seq: u64,
    ring: Ring,
    file: Option<Journal>,
}

impl Recorder {
    /// Begins with the machines as they are.
    #[must_use]
    pub fn start(ring: Ring, file: Option<&config::Journal>, machines: &Supervisor) -> Self {
        let header = header(0, machines).unwrap_or_default();
        let file = file.and_then(|settings| {
            let started = Journal::start(settings, &header);
            let path = settings.path.display();
            started
                .inspect_err(|error| tracing::error!("cannot write the journal {path}: {error}"))
                .ok()
        });
        ring.begin(header);
        Self { seq: 0, ring, file }
    }

    /// Begins anew with the machines as they are: they were changed without an input.
    pub fn begin_anew(&mut self, machines: &Supervisor) {
        let Some(header) = header(self.seq, machines) else {
            return;
        };
        if let Some(file) = &mut self.file {
            file.begin_anew(header.clone());
        }
        self.ring.begin_anew(self.seq, header);
    }

    /// Records that `input` led to `reaction` and left the machines as `machines`.
    pub fn record(&mut self, input: Input, reaction: &Reaction, machines: &Supervisor) {
        let line = Line::new(self.seq + 1, now(), input, reaction);
        let text = match line.and_then(|line| serde_json::to_string(&line)) {
            Ok(text) => Arc::<str>::from(text),
            // Inputs, steps and commands are plain enums; should one be no JSON, it is not
            // recorded, and the numbers stay without a gap.
            Err(error) => return tracing::error!("cannot record a step: {error}"),
        };
        self.seq += 1;
        let header = || header(self.seq, machines);
        if let Some(file) = &mut self.file {
            file.write(&text, header);
        }
        self.ring.push(self.seq, text, header);
    }
}

/// The first line of a journal whose next line has the number after `after`.
fn header(after: u64, machines: &Supervisor) -> Option<String> {
    let header = Header {
        format: FORMAT,
        after,
        supervisor: machines.clone(),
    };
    let text = serde_json::to_string(&header);
    let text = text.inspect_err(|error| tracing::error!("cannot record the machines: {error}"));
    Some(text.ok()? + "\n")
}
