//! Drives the real event loop and the real executor along every step that the model
//! knows, in a world that this test holds in its hands: what the executor does must be
//! what the machines asked for, and the machines must end where the model's do.

mod configured;
mod expected;
mod hands;

use std::sync::Arc;

use machines::component::{self, Kind, OnFailure};
use machines::model::{Action, Graph, Reload, SETTINGS, Setting, World};
use machines::safety::Intent;
use machines::supervisor::{Command, Input, Reaction};
use machines::{operation, process, system};
use tokio::sync::{oneshot, watch};

use super::{EventLoop, Parts};
use crate::checkpoint::{Interrupted, Order, Progress, Request};
use crate::config::Config;
use crate::exec::Sessions;
use crate::exec::sessions::NotAdmitted;
use crate::reaper::Reaper;
use crate::supervise::handle::{self, Adoption, Envelope, Message};
use crate::supervise::incarnation::Who;
use crate::telemetry::ring::Ring;
use configured::{config, reloaded};
use hands::{Hands, pid_of};

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

#[tokio::test]
async fn every_step_of_what_carries_the_storage() {
    cover(&Setting {
        components: &[
            (Kind::Service, OnFailure::Restart),
            (Kind::Service, OnFailure::Ignore),
        ],
        needs: &[&[], &[0]],
        storage: 1,
        faults: 1,
        ..SETTINGS[0]
    })
    .await;
}

#[tokio::test]
async fn every_step_with_a_new_configuration() {
    let quiet = Setting {
        components: &[(Kind::Service, OnFailure::Restart)],
        faults: 0,
        crashes: 0,
        ..SETTINGS[0]
    };
    // One comes before the one that stays, which goes on in another place by other rules.
    let comes = Reload {
        components: &[
            (Kind::Service, OnFailure::Ignore),
            (Kind::Service, OnFailure::Shutdown),
        ],
        needs: &[&[], &[0]],
        places: &[None, Some(0)],
        retries: 1,
    };
    // One goes, for which somebody has to stop it, and another has its place.
    let goes = Reload {
        components: &[(Kind::Oneshot, OnFailure::Ignore)],
        needs: &[],
        places: &[None],
        retries: 0,
    };
    for (reload, control) in [(comes, false), (goes, true)] {
        let reload = Some(reload);
        cover(&Setting {
            reload,
            control,
            ..quiet
        })
        .await;
    }
}

/// Takes every step of `setting` at least once.
async fn cover(setting: &Setting) {
    let configs = (Arc::new(config(setting)), reloaded(setting).map(Arc::new));
    let graph = Graph::explore(setting, |_| {});
    let ways = graph.cover();
    let mut steps = 0;
    for way in &ways {
        let mut drive = Drive::new(setting, configs.clone());
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

const fn interrupted(intent: Intent) -> Interrupted {
    match intent {
        Intent::Restore => Interrupted::Restore,
        Intent::RollBack => Interrupted::RollBack,
    }
}

/// The configuration, and the one that a reload brings.
type Configs = (Arc<Config>, Option<Arc<Config>>);

/// An event loop, and the world of the model beside it.
struct Drive {
    config: Arc<Config>,
    /// What a reload makes of it.
    next: Option<Arc<Config>>,
    event_loop: EventLoop,
    hands: Arc<Hands>,
    sessions: Sessions,
    world: World,
    /// Whether the main process's start was told of: until then it cannot be signalled.
    launched: bool,
}

impl Drive {
    fn new(setting: &Setting, configs: Configs) -> Self {
        let world = World::new(setting);
        let mut drive = Self::off(configs, world);
        drive.event_loop.start(None);
        drive.settle_children();
        drive.hands.calls();
        drive
    }

    fn off((config, next): Configs, world: World) -> Self {
        let (_, inbox) = handle::channel();
        let hands = Arc::new(Hands::default());
        let sessions = Sessions::new(Reaper::default(), 8);
        let event_loop = EventLoop::new(Parts {
            config: watch::Sender::new(Arc::clone(&config)),
            outside: Arc::clone(&hands) as Arc<_>,
            sessions: sessions.clone(),
            sockets: vec![],
            ring: Ring::default(),
            inbox,
        });
        Self {
            config,
            next,
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
            Action::Reload(..) => self.reload()?,
            Action::Crash(_) => {
                let configs = (Arc::clone(&self.config), self.next.clone());
                *self = Self::off(configs, self.world.clone());
                self.event_loop.start(intent.map(interrupted));
            }
            Action::Request(input @ Input::System(_)) => self.request(input, reaction.as_ref())?,
            Action::Own(input) | Action::Fault(input) | Action::Request(input) => {
                self.happen(input).await;
            }
        }
        self.compare(&reaction.unwrap_or_default()).await
    }

    /// Has the loop take over what the model has taken over.
    fn reload(&mut self) -> Result<(), String> {
        self.config = self.next.clone().unwrap();
        let (reply, mut answer) = oneshot::channel();
        self.event_loop.receive(Message::Adopt(Adoption {
            config: Arc::clone(&self.config),
            sockets: vec![],
            reply,
        }));
        match answer.try_recv() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("the new configuration was answered with {other:?}")),
        }
    }

    /// What the component at `place` is called by outside.
    fn who(&self, place: usize) -> Who {
        Who::Component(self.event_loop.executor.roster().number(place).unwrap())
    }

    /// An input as the outside sends it.
    fn as_outside(&self, input: &Input) -> Input {
        use system::Event as E;
        let number = |place: usize| match self.who(place) {
            Who::Component(number) => number,
            who => unreachable!("{who:?}"),
        };
        match input.clone() {
            Input::Component(place, event) => Input::Component(number(place), event),
            Input::System(E::StartComponent(place)) => {
                Input::System(E::StartComponent(number(place)))
            }
            Input::System(E::StopComponent(place)) => {
                Input::System(E::StopComponent(number(place)))
            }
            Input::System(E::RestartComponent(place)) => {
                Input::System(E::RestartComponent(number(place)))
            }
            input => input,
        }
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
            input: self.as_outside(input),
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
            Input::Component(place, component::Event::TimedOut) => {
                self.fire(self.who(*place)).await
            }
            Input::Operation(operation::Event::TimedOut) => self.fire(Who::Operation).await,
            Input::System(system::Event::TimedOut) => self.fire(Who::System).await,
            Input::System(system::Event::TreeEmpty) => {
                self.hands.end_sweep();
                self.next().await
            }
            Input::System(event) => {
                let cut_off = match event {
                    system::Event::ResumeRestore => Some(Interrupted::Restore),
                    system::Event::ResumeRollBack => Some(Interrupted::RollBack),
                    _ => None,
                };
                self.hands.end_opening(match event {
                    system::Event::OpenFailed => Err("no".to_owned()),
                    _ => Ok(cut_off),
                });
                self.next().await
            }
            Input::Operation(event) => {
                self.hands.end_work(event.clone());
                self.next().await
            }
            Input::Process(_) => self.of_child(Who::Process, input),
            Input::Component(place, _) => self.of_child(self.who(*place), input),
        };
        self.event_loop.receive(message);
    }

    async fn fire(&mut self, who: Who) -> Message {
        self.hands.fire(who);
        self.next().await
    }

    fn of_child(&self, who: Who, input: &Input) -> Message {
        Message::Event(Envelope {
            input: self.as_outside(input),
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
        let components = components.map(|(place, proc)| (self.who(place), proc.timer));
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
}
