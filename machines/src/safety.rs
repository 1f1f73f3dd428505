//! What must always be true of the machines and of the world that they run, in words.
//!
//! The same list is checked three times: of everything that can come to be (`tests/model`),
//! of every journal that is replayed (`sprite-env replay`), and so of every run of the
//! integration tests.

mod steps;
mod witness;

use crate::chart::Chart as _;
use crate::component;
use crate::operation;
use crate::process;
use crate::supervisor::Supervisor;
use crate::system::{self, System};

pub use steps::{STEPS, StepProperty};
use witness::of_state;
pub use witness::{Intent, Proc, Witness};

/// A sentence, and whether it is true of the machines and the world beside them.
pub type Property = (&'static str, fn(&Supervisor, &Witness) -> bool);

/// What must hold after every input.
pub const PROPERTIES: &[Property] = &[
    ("running means that everything is up", |m, _| {
        *m.system().state() != system::State::Running || is_all_up(m)
    }),
    (
        "stopped or failed means nothing is alive, held, armed or under way",
        |m, w| !is_over(m) || w.nothing_left(),
    ),
    (
        "failed means that there was a failure, stopped that there was none",
        |m, _| {
            let failed = m.system().chart().failure.is_some();
            !is_over(m) || failed == (*m.system().state() == system::State::Failed)
        },
    ),
    (
        "an exit code is there when it is over, and only then",
        |m, _| m.exit_code().is_some() == is_over(m),
    ),
    (
        "a timer runs only where it is waited for",
        timers_are_awaited,
    ),
    ("idle means that no work is under way", |m, w| {
        *m.operation().state() != operation::State::Idle
            || w.job.is_none() && !w.winding_down && !w.frozen
    }),
    (
        "the system operates exactly while an operation is under way",
        |m, _| {
            use system::State as S;
            let idle = *m.operation().state() == operation::State::Idle;
            match m.system().state() {
                S::StoppingOperation
                | S::Checkpointing
                | S::Preparing
                | S::DrainingProcess
                | S::DrainingComponents
                | S::DrainingTree
                | S::Swapping
                | S::RollingBack => !idle,
                _ => idle,
            }
        },
    ),
    (
        "writes are held only while a checkpoint pauses or thaws",
        |m, w| {
            use operation::State as S;
            !w.frozen
                || matches!(
                    m.operation().state(),
                    S::Freezing | S::Capturing | S::Thawing { .. }
                )
        },
    ),
    ("parked means that the main process is down", |m, w| {
        *m.system().state() != system::State::Parked || !w.process.alive
    }),
    (
        "serving means that the main process is up or coming back",
        |m, _| {
            use process::State as P;
            use system::State as S;
            !matches!(m.system().state(), S::Running | S::Degraded)
                || matches!(m.process().state(), P::Launching | P::Running | P::Backoff)
        },
    ),
    ("degraded means that not everything is up", |m, _| {
        *m.system().state() != system::State::Degraded || !is_all_up(m)
    }),
    (
        "only what is to be restarted is, and as often as it may be",
        |m, _| {
            use component::{OnFailure, State as C};
            let mut components = m.components().iter();
            let process = m.process();
            let p = process.chart();
            components.all(|component| {
                let c = component.chart();
                let restarts = c.on_failure == OnFailure::Restart;
                c.restarts <= c.budget
                    && (*component.state() != C::Backoff || restarts && c.restarts > 0)
                    && (*component.state() != C::Failed || !restarts || c.restarts == c.budget)
            }) && p.restarts <= p.budget
                && (*process.state() != process::State::Backoff || p.restarts > 0)
                && (*process.state() != process::State::Failed
                    || p.budget > 0 && p.restarts == p.budget)
        },
    ),
    (
        "after a second shutdown nothing is told to go gently",
        |m, _| {
            let mut components = m.components().iter();
            !m.system().chart().urgent
                || *m.process().state() != process::State::Terminating
                    && components.all(|c| *c.state() != component::State::Terminating)
        },
    ),
    (
        "the exit code is that of the main process, if nothing else failed",
        |m, w| {
            use system::Failure;
            let own = !matches!(
                m.system().chart().failure,
                Some(Failure::Component | Failure::Operation | Failure::Storage)
            );
            let last = w.last_exit.map(crate::exit::Exit::code);
            !(is_over(m) && own) || last.is_none() || m.exit_code() == last
        },
    ),
];

/// The first thing that does not hold.
#[must_use]
pub fn broken(machines: &Supervisor, witness: &Witness) -> Option<&'static str> {
    witness.violation.or_else(|| {
        let mut properties = PROPERTIES.iter();
        let (what, _) = properties.find(|(_, holds)| !holds(machines, witness))?;
        Some(what)
    })
}

fn is_over(machines: &Supervisor) -> bool {
    System::is_final(machines.system().state())
}

fn is_all_up(machines: &Supervisor) -> bool {
    let mut components = machines.components().iter();
    components.all(crate::machine::Machine::is_usable)
        && *machines.process().state() == process::State::Running
}

fn timers_are_awaited(machines: &Supervisor, world: &Witness) -> bool {
    let mut components = machines.components().iter().zip(&world.components);
    components
        .all(|(machine, proc)| !proc.timer || of_state::component_awaits_timer(*machine.state()))
        && (!world.process.timer || of_state::process_awaits_timer(*machines.process().state()))
        && (!world.operation_timer || of_state::is_pausing(*machines.operation().state()))
        && (!world.system_timer || of_state::awaits_empty_tree(*machines.system().state()))
}
