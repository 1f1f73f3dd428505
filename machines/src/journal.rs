//! What happened to the machines, one JSON line a reaction; and doing it again.
//!
//! The first line holds the machines as they were before; each further line is one input
//! with all that came of it. The machines are pure, so the inputs alone determine the
//! rest: [`replay`] feeds them to fresh machines and compares. A journal is a bug
//! report, and one that does not replay is a bug of the machines or of the journal.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::safety::{self, Witness};
use crate::supervisor::{Input, Reaction, Supervisor};

/// The version of the journal's format.
pub const FORMAT: u32 = 1;

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format.
    pub format: u32,
    /// The sequence number of the line before: 0 at the start.
    pub after: u64,
    /// The machines as they were then.
    pub supervisor: Supervisor,
}

/// A line for one input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Its number, without gaps.
    pub seq: u64,
    /// When it was: RFC 3339. For people; replay does not look at it.
    pub time: String,
    /// The input.
    pub input: Input,
    /// The steps that it led to.
    pub steps: Value,
    /// The commands that came out.
    pub commands: Value,
}

impl Line {
    /// The line for `reaction`, which `input` led to.
    pub fn new(
        seq: u64,
        time: String,
        input: Input,
        reaction: &Reaction,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            seq,
            time,
            input,
            steps: serde_json::to_value(&reaction.steps)?,
            commands: serde_json::to_value(&reaction.commands)?,
        })
    }
}

/// Why a journal could not be replayed to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// There is nothing in it.
    Empty,
    /// A line is not what it must be.
    NotAJournal {
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// It was written by a newer program.
    Newer {
        /// Its version.
        format: u32,
    },
    /// Lines are missing or out of order.
    Gap {
        /// The line's number, from 1.
        line: usize,
        /// The sequence number that should be there.
        expected: u64,
        /// The one that is.
        found: u64,
    },
    /// The machines did something else than is recorded.
    Divergence(Box<Divergence>),
    /// The machines did what is recorded, and it must never be: see [`safety`].
    Unsafe {
        /// The line's number, from 1.
        line: usize,
        /// The input.
        input: Input,
        /// What does not hold, or was asked of the world.
        what: &'static str,
    },
}

/// The first place where the machines did something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The line's number, from 1.
    pub line: usize,
    /// The input.
    pub input: Input,
    /// What is recorded: steps and commands.
    pub recorded: (Value, Value),
    /// What the machines do now.
    pub replayed: (Value, Value),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the journal is empty"),
            Self::NotAJournal { line, why } => write!(f, "line {line} is not of a journal: {why}"),
            Self::Newer { format } => write!(
                f,
                "the journal has format {format}; this program reads up to {FORMAT}"
            ),
            Self::Gap {
                line,
                expected,
                found,
            } => write!(
                f,
                "line {line} has number {found} where {expected} should be: lines are missing or \
                 out of order"
            ),
            Self::Divergence(d) => write!(
                f,
                "line {}: on {:?} the machines do something else\n  recorded: {} => {}\n  \
                 replayed: {} => {}",
                d.line, d.input, d.recorded.0, d.recorded.1, d.replayed.0, d.replayed.1
            ),
            Self::Unsafe { line, input, what } => write!(
                f,
                "line {line}: after {input:?} this does not hold, or was done: {what}"
            ),
        }
    }
}

impl std::error::Error for ReplayError {}

/// What a replay has seen.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// How many inputs there were.
    pub inputs: usize,
    /// Whether the last line was cut off, as a crash leaves it. It was not replayed.
    pub cut_off: bool,
    /// The machines as they were at the end.
    pub supervisor: Supervisor,
}

/// Feeds the inputs of a journal to fresh machines, compares what they do, and checks
/// what must always hold. `watch` sees each reaction and the machines after it.
pub fn replay(
    text: &str,
    mut watch: impl FnMut(&Reaction, &Supervisor),
) -> Result<Replayed, ReplayError> {
    let mut lines = text.split_inclusive('\n').enumerate();
    let (_, first) = lines.next().ok_or(ReplayError::Empty)?;
    let header: Header = parse(first, 1)?;
    if header.format > FORMAT {
        let format = header.format;
        return Err(ReplayError::Newer { format });
    }
    let mut supervisor = header.supervisor;
    let mut witness = Witness::of(&supervisor);
    let (mut inputs, mut cut_off) = (0, false);
    for (index, text) in lines {
        let number = index + 1;
        let line: Line = match parse(text, number) {
            // A crash in the middle of a line: what came before it stands.
            Err(_) if !text.ends_with('\n') => {
                cut_off = true;
                break;
            }
            parsed => parsed?,
        };
        let expected = header.after + inputs as u64 + 1;
        if line.seq != expected {
            return Err(ReplayError::Gap {
                line: number,
                expected,
                found: line.seq,
            });
        }
        let reaction = supervisor.handle(line.input.clone());
        witness.observe(&line.input, &reaction, &supervisor);
        watch(&reaction, &supervisor);
        let again = Line::new(line.seq, String::new(), line.input, &reaction)
            .map_err(|error| wrong(number, &error))?;
        let recorded = (line.steps, line.commands);
        let replayed = (again.steps, again.commands);
        if recorded != replayed {
            return Err(ReplayError::Divergence(Box::new(Divergence {
                line: number,
                input: again.input,
                recorded,
                replayed,
            })));
        }
        if let Some(what) = safety::broken(&supervisor, &witness) {
            let input = again.input;
            return Err(ReplayError::Unsafe {
                line: number,
                input,
                what,
            });
        }
        inputs += 1;
    }
    Ok(Replayed {
        inputs,
        cut_off,
        supervisor,
    })
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, line: usize) -> Result<T, ReplayError> {
    serde_json::from_str(text).map_err(|error| wrong(line, &error))
}

fn wrong(line: usize, error: &serde_json::Error) -> ReplayError {
    ReplayError::NotAJournal {
        line,
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::supervisor::Plan;
    use crate::{process, system};

    /// The journal of a process that starts, exits with 3 and is cleaned up after.
    fn journal() -> String {
        let mut supervisor = Supervisor::new(Plan::default());
        let header = Header {
            format: FORMAT,
            after: 0,
            supervisor: supervisor.clone(),
        };
        let mut text = serde_json::to_string(&header).unwrap() + "\n";
        let inputs = [
            Input::System(system::Event::Boot),
            Input::Process(process::Event::Launched),
            Input::Process(process::Event::Exited(Exit::Code(3))),
            Input::System(system::Event::TreeEmpty),
        ];
        for (seq, input) in (1..).zip(inputs) {
            let reaction = supervisor.handle(input.clone());
            let line = Line::new(seq, String::new(), input, &reaction).unwrap();
            text += &(serde_json::to_string(&line).unwrap() + "\n");
        }
        text
    }

    fn error(text: &str) -> String {
        replay(text, |_, _| {}).unwrap_err().to_string()
    }

    #[test]
    fn a_journal_replays_to_the_same_end() {
        let replayed = replay(&journal(), |_, _| {}).unwrap();
        assert_eq!((replayed.inputs, replayed.cut_off), (4, false));
        assert_eq!(replayed.supervisor.exit_code(), Some(3));
    }

    #[test]
    fn what_must_never_be_is_found_even_if_it_replays() {
        let text = journal();
        // The tree is said to be empty although nothing was stopped: no world does that,
        // and the machines believe it.
        let mut supervisor = Supervisor::new(Plan::default());
        let mut lines: Vec<_> = text.lines().take(1).map(str::to_owned).collect();
        let inputs = [
            Input::System(system::Event::Boot),
            Input::Process(process::Event::Launched),
            Input::System(system::Event::ProcessExited { success: true }),
        ];
        for (seq, input) in (1..).zip(inputs) {
            let reaction = supervisor.handle(input.clone());
            let line = Line::new(seq, String::new(), input, &reaction).unwrap();
            lines.push(serde_json::to_string(&line).unwrap());
        }
        assert!(error(&lines.join("\n")).contains(
            "line 4: after System(ProcessExited { success: true }) this does not hold, or was \
             done: the tree was swept before"
        ));
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_left_out() {
        let text = journal();
        let replayed = replay(&text[..text.len() - 10], |_, _| {}).unwrap();
        assert_eq!((replayed.inputs, replayed.cut_off), (3, true));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert_eq!(error(""), "the journal is empty");
        assert!(error("\u{0}\u{1}binary").starts_with("line 1 is not of a journal"));
        assert!(error("{\"some\": \"json\"}\n").starts_with("line 1 is not of a journal"));
        let text = journal();
        let lines: Vec<_> = text.lines().collect();
        let newer = lines[0].replace("\"format\":1", "\"format\":9");
        assert!(error(&newer).contains("has format 9"));
        let swapped = [lines[0], lines[2], lines[1]].join("\n");
        assert!(error(&swapped).contains("line 2 has number 2 where 1 should be"));
        let garbled = [lines[0], lines[1], "{}", lines[3]].join("\n") + "\n";
        assert!(error(&garbled).starts_with("line 3 is not of a journal"));
        let changed = text.replace("\"to\":\"Running\"", "\"to\":\"Degraded\"");
        assert!(
            error(&changed).starts_with("line 3: on Process(Launched)"),
            "{}",
            error(&changed)
        );
    }
}
