//! What must be true of each step that a machine takes, in words.

use crate::component::{self, Kind, OnFailure};
use crate::machine::Taken;
use crate::process;
use crate::supervisor::{Command, Input, Record, Supervisor};
use crate::system;

/// A sentence, and whether it is true of a step; the machines are as the whole reaction
/// left them.
pub type StepProperty = (&'static str, fn(&Record, &Supervisor) -> bool);

/// What must hold of every step.
pub const STEPS: &[StepProperty] = &[
    ("a request is either taken or refused", |step, _| {
        use system::Effect as E;
        let Input::System(event) = &step.input else {
            return true;
        };
        let passed_on = |effect: &Command| {
            matches!(
                effect,
                Command::System(
                    E::StartComponent(_) | E::StopComponent(_) | E::RestartComponent(_)
                )
            )
        };
        !event.is_refusable()
            || step.taken == Taken::Transition
            || step.effects == [Command::System(E::Refuse)]
            || step.effects.iter().all(passed_on) && step.effects.len() == 1
    }),
    (
        "a restore is ended by a shutdown or by its own failure, and by nothing else",
        |step, _| {
            use system::Event as E;
            let from = ["Draining", "Swapping", "RollingBack"];
            !(is_system(step)
                && from.iter().any(|state| step.from.starts_with(state))
                && is_stopping(step.to))
                || matches!(step.input, Input::System(E::Shutdown | E::OperationFailed))
        },
    ),
    (
        "a sealed checkpoint counts, whatever becomes of its copy elsewhere",
        |step, _| step.from != "Replicating" || ["Replicating", "Idle"].contains(&step.to),
    ),
    (
        "who waits for the copy of a sealed checkpoint is told when the system stops",
        |step, _| {
            use crate::operation::{Effect, Event};
            step.from != "Replicating"
                || step.input != Input::Operation(Event::Abort)
                || step.effects == [Command::Operation(Effect::Hurry)]
        },
    ),
    (
        "what is kept alive is neither stopped nor started again by an error of its process",
        |step, m| {
            use system::Event as E;
            let error = matches!(
                step.input,
                Input::System(E::ProcessExited { success: false } | E::ProcessFailed)
            );
            let leads_on = step.taken == Taken::Transition && !is_stopping(step.from);
            !(error && m.system().chart().keep_alive && leads_on) || step.to == "Parked"
        },
    ),
    (
        "a process that ended well does not leave the system parked",
        |step, _| {
            let well = Input::System(system::Event::ProcessExited { success: true });
            step.input != well || step.to != "Parked"
        },
    ),
    (
        "a component that fails during a stop makes it a failure",
        |step, m| {
            step.input != Input::System(system::Event::ComponentFailed)
                || !is_stopping(step.from)
                || m.system().chart().failure.is_some()
        },
    ),
    (
        "what may be missing is lost, and what may not has failed",
        |step, m| {
            step.effects.iter().all(|effect| match effect {
                Command::Component(id, component::Effect::ReportLost) => {
                    on_failure(m, *id) == Some(OnFailure::Ignore)
                }
                Command::Component(id, component::Effect::ReportFailed) => {
                    on_failure(m, *id) != Some(OnFailure::Ignore)
                }
                _ => true,
            })
        },
    ),
    (
        "health forgives restarts, and so does a new start",
        |step, m| match &step.input {
            Input::Component(id, component::Event::TimedOut) if step.from == "Ready" => {
                restarts(m, *id) == Some(0)
            }
            Input::Component(id, component::Event::Start | component::Event::Restart)
                if step.to == "Waiting" && step.from != "Waiting" =>
            {
                restarts(m, *id) == Some(0)
            }
            Input::Component(id, component::Event::Exited(_)) if step.to == "Completed" => {
                restarts(m, *id) == Some(0)
            }
            Input::Process(process::Event::TimedOut) if step.from == "Running" => {
                m.process().chart().restarts == 0
            }
            Input::Process(process::Event::Start) if step.to == "Launching" => {
                m.process().chart().restarts == 0
            }
            _ => true,
        },
    ),
    (
        "what is told to go for not being well is killed if it does not",
        |step, _| match step.input {
            Input::Component(id, component::Event::TimedOut) if step.from == "Aborting" => {
                let kill = Command::Component(id, component::Effect::Kill);
                step.effects.contains(&kill)
            }
            _ => true,
        },
    ),
    (
        "what somebody wants down does not come back by itself",
        |step, m| match step.input {
            Input::Component(id, component::Event::Halt) => {
                let component = m.components().get(id);
                component.is_none_or(|it| !it.chart().again)
            }
            _ => true,
        },
    ),
    ("only what has a schedule waits for its time", |step, m| {
        let Input::Component(id, _) = step.input else {
            return true;
        };
        let component = m.components().get(id);
        !["Scheduled", "Working"].contains(&step.to)
            || component.is_some_and(|it| it.chart().kind == Kind::Scheduled)
    }),
    ("a second shutdown hurries the stop", |step, _| {
        use system::Effect as E;
        let hurry = match step.from {
            "SweepingTree" => E::KillTree,
            _ => E::Escalate,
        };
        step.input != Input::System(system::Event::Shutdown)
            || !is_stopping(step.from)
            || step.effects.contains(&Command::System(hurry))
    }),
    (
        "after a second shutdown the process is not started, nor, once they go down, a component",
        |step, m| {
            use system::State as S;
            let goes_down = |id: &usize| {
                let component = m.components().get(*id);
                // What carries the storage goes last.
                let storage = component.is_some_and(|it| it.chart().storage);
                match m.system().state() {
                    S::StoppingComponents => !storage,
                    S::StoppingStorage => storage,
                    _ => false,
                }
            };
            let starts = step.effects.iter().any(|effect| match effect {
                Command::Component(id, component::Effect::Spawn) => goes_down(id),
                Command::Process(process::Effect::Spawn) => true,
                _ => false,
            });
            !(starts && m.system().chart().urgent)
        },
    ),
];

const fn is_system(step: &Record) -> bool {
    matches!(step.input, Input::System(_))
}

fn is_stopping(state: &str) -> bool {
    state.starts_with("Stopping") || state == "SweepingTree"
}

fn on_failure(machines: &Supervisor, id: usize) -> Option<OnFailure> {
    let component = machines.components().get(id)?;
    Some(component.chart().on_failure)
}

fn restarts(machines: &Supervisor, id: usize) -> Option<u8> {
    let component = machines.components().get(id)?;
    Some(component.chart().restarts)
}
