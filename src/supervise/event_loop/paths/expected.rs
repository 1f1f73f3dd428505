//! What the executor has to do, by what the machines of the model ask for.

use machines::supervisor::Command;
use machines::timer::Timer;
use machines::{component, operation, process, system};

use super::Drive;
use super::hands::Call;
use crate::supervise::incarnation::Who;
use crate::supervise::timer::duration;

impl Drive {
    /// What the executor has to do for `commands`.
    pub(super) fn expected(&self, commands: &[Command]) -> Vec<Call> {
        let sleep = |who, timer| {
            let component = match who {
                Who::Component(number) => self.event_loop.executor.roster().place(number),
                _ => None,
            };
            let component = component.map(|place| &self.config.components[place]);
            match timer {
                Timer::Schedule => Some(Call::Until(who)),
                timer => {
                    duration(&self.config, component, timer).map(|time| Call::Sleep(who, time))
                }
            }
        };
        let mut calls = Vec::new();
        for command in commands {
            match *command {
                Command::System(system::Effect::OpenStorage) => calls.push(Call::Open),
                Command::System(system::Effect::SweepTree) => calls.push(Call::Sweep),
                Command::System(system::Effect::KillTree) => calls.push(Call::KillTree),
                Command::System(system::Effect::SetTimer(timer)) => {
                    calls.extend(sleep(Who::System, timer));
                }
                Command::Operation(operation::Effect::SetTimer(timer)) => {
                    calls.extend(sleep(Who::Operation, timer));
                }
                Command::Operation(operation::Effect::Cancel) => calls.push(Call::Cancel),
                Command::System(_)
                | Command::Operation(operation::Effect::ClearTimer | operation::Effect::Hurry) => {}
                Command::Operation(effect) => calls.push(Call::Work(effect)),
                Command::Process(effect) => {
                    use process::Effect as E;
                    let who = Who::Process;
                    match effect {
                        E::Spawn => calls.push(Call::Start(who, "a process".to_owned())),
                        E::Terminate if self.launched => calls.extend(terminate(who)),
                        E::Kill if self.launched => calls.push(Call::Signal(who, libc::SIGKILL)),
                        E::SetTimer(timer) => calls.extend(sleep(who, timer)),
                        _ => {}
                    }
                }
                Command::Component(place, effect) => {
                    use component::Effect as E;
                    let who = self.who(place);
                    match effect {
                        E::Spawn => calls.push(Call::Start(who, "a component".to_owned())),
                        E::Terminate => calls.extend(terminate(who)),
                        E::Kill => calls.push(Call::Signal(who, libc::SIGKILL)),
                        E::SetTimer(timer) => calls.extend(sleep(who, timer)),
                        _ => {}
                    }
                }
            }
        }
        calls
    }
}

/// A stopped process must run to hear that it is to go.
fn terminate(who: Who) -> [Call; 2] {
    [libc::SIGTERM, libc::SIGCONT].map(|signal| Call::Signal(who, signal))
}
