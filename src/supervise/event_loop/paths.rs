//! Drives the real event loop and the real executor along every step that the model
//! knows, in a world that this test holds in its hands: what the executor does must be
//! what the machines asked for, and the machines must end where the model's do.

mod configured;
mod hands;

use std::sync::Arc;

use machines::component::{self, Kind, OnFailure};
use machines::model::{Action, Graph, SETTINGS, Setting, World};
use machines::safety::Intent;
use machines::supervisor::{Command, Input, Reaction};
use machines::timer::Timer;
use machines::{operation, process, system};
use tokio::sync::oneshot;

use super::{EventLoop, Parts};
use crate::checkpoint::{Interrupted, Order, Progress, Request};
use crate::config::Config;
use crate::exec::Sessions;
use crate::exec::sessions::NotAdmitted;
use crate::reaper::Reaper;
use crate::supervise::handle::{self, Envelope, Message};
use crate::supervise::incarnation::Who;
use crate::supervise::timer::Durations;
use crate::telemetry::ring::Ring;
use configured::config;
use hands::{Call, Hands, pid_of};

#[tokio::test]
async fn every_step_of_a_main_process_alone() {
    cover(&SETTINGS[0]).await;
}

#[tokio::test]
async fn every_step_with_a_component_that_restarts() {
    cover(&Setting {
        components: &[(Kind::Service, OnFailure::Restart)],
        retries: 1,
        faults: 1,
        ..SETTINGS[0]
    })
    .await;
}

#[tokio::test]
async fn every_step_with_two_components_in_a_row_kept_alive() {
    cover(&Setting {
        components: &[
            (Kind::Service, OnFailure::Shutdown),
            (Kind::Service, OnFailure::Ignore),
        ],
        needs: &[&[], &[0]],
        keep_alive: true,
        faults: 1,
        crashes: 0,
        ..SETTINGS[0]
    })
    .await;
}

#[tokio::test]
async fn every_step_of_what_somebody_stops_and_starts() {
    cover(&Setting {
        components: &[
            (Kind::Oneshot, OnFailure::Restart),
            (Kind::Scheduled, OnFailure::Ignore),
        ],
        faults: 0,
        crashes: 0,
        control: true,
        ..SETTINGS[0]
    })
    .await;
}

/// Takes every step of `setting` at least once.
async fn cover(setting: &Setting) {
    let config = Arc::new(config(setting));
    let graph = Graph::explore(setting, |_| {});
    let ways = graph.cover();
    let mut steps = 0;
    for way in &ways {
        let mut drive = Drive::new(setting, &config);
        for (number, action) in way.iter().enumerate() {
            if let Err(what) = drive.take(action).await {
                panic!("{what}\nafter {:#?}", &way[..=number]);
            }
        }
        steps += way.len();
    }
    assert!(steps >= graph.transitions);
    println!(
        "{} ways with {steps} steps take all {} steps of {} worlds",
        ways.len(),
        graph.transitions,
        graph.configurations()
    );
}

/// An event loop, and the world of the model beside it.
struct Drive {
    config: Arc<Config>,
    event_loop: EventLoop,
    hands: Arc<Hands>,
    sessions: Sessions,
    world: World,
    /// Whether the main process's start was told of: until then it cannot be signalled.
    launched: bool,
}

impl Drive {
    fn new(setting: &Setting, config: &Arc<Config>) -> Self {
        let world = World::new(
            &setting.plan(),
            setting.faults,
            setting.crashes,
            setting.control,
        );
        let mut drive = Self::off(config, world);
        drive.event_loop.boot(None);
        drive.settle_children();
        drive.hands.calls();
        drive
    }

    fn off(config: &Arc<Config>, world: World) -> Self {
        let (_, inbox) = handle::channel();
        let hands = Arc::new(Hands::default());
        let sessions = Sessions::new(Reaper::default(), 8);
        let event_loop = EventLoop::new(Parts {
            config: Arc::clone(config),
            outside: Arc::clone(&hands) as Arc<_>,
            sessions: sessions.clone(),
            sockets: vec![],
            ring: Ring::default(),
            inbox,
        });
        Self {
            config: Arc::clone(config),
            event_loop,
            hands,
            sessions,
            world,
            launched: false,
        }
    }

    /// Lets `action` happen here and in the model, and compares.
    async fn take(&mut self, action: &Action) -> Result<(), String> {
        let intent = self.world.witness.intent;
        let reaction = self.world.take(action);
        match action {
            Action::Stray => return Ok(()),
            Action::Crash(_) => {
                *self = Self::off(&self.config, self.world.clone());
                self.event_loop.boot(intent.map(|intent| match intent {
                    Intent::Restore => Interrupted::Restore,
                    Intent::RollBack => Interrupted::RollBack,
                }));
            }
            Action::Request(input @ Input::System(_)) => self.request(input, reaction.as_ref())?,
            Action::Own(input) | Action::Fault(input) | Action::Request(input) => {
                self.happen(input).await;
            }
        }
        self.compare(&reaction.unwrap_or_default()).await
    }

    fn request(&mut self, input: &Input, reaction: Option<&Reaction>) -> Result<(), String> {
        let (reply, mut answer) = oneshot::channel();
        let request = match input {
            Input::System(system::Event::Checkpoint) => Some(Request::Checkpoint {
                comment: None,
                until_durable: false,
                automatic: false,
            }),
            Input::System(system::Event::Restore) => Some(Request::Restore { id: "v1".into() }),
            _ => None,
        };
        self.event_loop.receive(Message::Event(Envelope {
            input: input.clone(),
            incarnation: None,
            order: request.map(|request| Order {
                request,
                progress: Progress::unheard(),
            }),
            reply: Some(reply),
        }));
        let refused = reaction.is_some_and(|r| r.is_refusal() || r.is_ignored());
        match answer.try_recv() {
            Ok(answer) if answer.is_err() == refused => Ok(()),
            other => Err(format!("{input:?} was answered with {other:?}")),
        }
    }

    /// Lets happen to the executor what `input` says.
    async fn happen(&mut self, input: &Input) {
        let message = match input {
            Input::Process(process::Event::Launched) => {
                self.launched = true;
                let incarnation = self.hands.child(Who::Process);
                let pid = pid_of(Who::Process);
                Message::Spawned { incarnation, pid }
            }
            Input::Process(process::Event::TimedOut) => self.fire(Who::Process).await,
            Input::Component(id, component::Event::TimedOut) => {
                self.fire(Who::Component(*id)).await
            }
            Input::Operation(operation::Event::TimedOut) => self.fire(Who::Operation).await,
            Input::System(system::Event::TimedOut) => self.fire(Who::System).await,
            Input::System(_) => {
                self.hands.end_sweep();
                self.next().await
            }
            Input::Operation(event) => {
                self.hands.end_work(event.clone());
                self.next().await
            }
            Input::Process(_) => self.of_child(Who::Process, input),
            Input::Component(id, _) => self.of_child(Who::Component(*id), input),
        };
        self.event_loop.receive(message);
    }

    async fn fire(&mut self, who: Who) -> Message {
        self.hands.fire(who);
        self.next().await
    }

    fn of_child(&self, who: Who, input: &Input) -> Message {
        Message::Event(Envelope {
            input: input.clone(),
            incarnation: Some(self.hands.child(who)),
            order: None,
            reply: None,
        })
    }

    /// The next message that one of the executor's tasks sends.
    async fn next(&mut self) -> Message {
        self.event_loop.inbox.messages.recv().await.unwrap()
    }

    /// Tells of the components that were just started.
    fn settle_children(&mut self) {
        for (who, incarnation) in self.hands.newborn() {
            if who == Who::Process {
                self.launched = false;
                continue;
            }
            let pid = pid_of(who);
            self.event_loop
                .receive(Message::Spawned { incarnation, pid });
        }
    }

    async fn compare(&mut self, reaction: &Reaction) -> Result<(), String> {
        let calls = self.hands.calls();
        let expected = self.expected(&reaction.commands);
        if calls != expected {
            return Err(format!("did {calls:?}\ninstead of {expected:?}"));
        }
        self.settle_children();
        for given_up in self.hands.given_up() {
            // Work that was given up ends late, and what it says is stale.
            let before = self.event_loop.executor.facts.stale_events;
            given_up.send(operation::Event::Failed).unwrap();
            let late = self.next().await;
            self.event_loop.receive(late);
            if self.event_loop.executor.facts.stale_events != before + 1 {
                return Err("a stale event was taken".to_owned());
            }
        }
        // Timers that were cleared are dropped by their tasks.
        tokio::task::yield_now().await;
        self.compare_state(reaction)
    }

    fn compare_state(&self, reaction: &Reaction) -> Result<(), String> {
        let witness = &self.world.witness;
        if self.event_loop.supervisor != self.world.machines {
            return Err(format!(
                "the machines are {:?}\ninstead of {:?}",
                self.event_loop.supervisor, self.world.machines
            ));
        }
        let armed = [
            (Who::System, witness.system_timer),
            (Who::Operation, witness.operation_timer),
            (Who::Process, witness.process.timer),
        ];
        let components = witness.components.iter().enumerate();
        let components = components.map(|(id, proc)| (Who::Component(id), proc.timer));
        for (who, armed) in armed.into_iter().chain(components) {
            if self.hands.is_armed(who) != armed {
                return Err(format!("the timer of {who:?} should be armed: {armed}"));
            }
        }
        let closes = Command::System(system::Effect::CloseSessions);
        if reaction.commands.contains(&closes)
            && !matches!(self.sessions.admit(), Err(NotAdmitted::Closed))
        {
            return Err("sessions were not closed".to_owned());
        }
        Ok(())
    }

    /// What the executor has to do for `commands`.
    fn expected(&self, commands: &[Command]) -> Vec<Call> {
        let durations = Durations::new(&self.config);
        let sleep = |who, timer| match timer {
            Timer::Schedule => Some(Call::Until(who)),
            timer => durations.of(who, timer).map(|time| Call::Sleep(who, time)),
        };
        let mut calls = Vec::new();
        for command in commands {
            match *command {
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
                Command::Component(id, effect) => {
                    use component::Effect as E;
                    let who = Who::Component(id);
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
