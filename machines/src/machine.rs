//! The one step function: an event goes in, a [`Step`] comes out.
//!
//! `statig` describes charts; this module runs them. A [`Machine`] does no I/O:
//! what it wants done in the world it returns as effects in the [`Step`].

#[cfg(feature = "mutants")]
pub mod mutation;

use serde::{Deserialize, Serialize};
use statig::Outcome;
use statig::blocking::{State as _, StateExt as _, Superstate as _};

use crate::chart::{Chart, Guard, Outbox};

/// A running chart. Its serialized form is its data and its leaf state; reading it back
/// runs no entry action.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(
    serialize = "C: Serialize, C::State: Serialize",
    deserialize = "C: Deserialize<'de>, C::State: Deserialize<'de>"
))]
pub struct Machine<C: Chart> {
    chart: C,
    state: C::State,
}

/// How a machine took an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Taken {
    /// No state on the way up had a use for it.
    Ignored,
    /// It had effects or changed data, but the state stayed.
    Internal,
    /// The machine left `from` and entered `to`.
    Transition,
}

/// The complete record of one step: log line, journal entry and diagram edge in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<E> {
    /// How the event was taken.
    pub taken: Taken,
    /// The leaf state before.
    pub from: &'static str,
    /// The leaf state after.
    pub to: &'static str,
    /// The state or superstate whose handler took the event.
    pub handler: Option<&'static str>,
    /// The conditions the handlers looked at.
    pub guards: Vec<Guard>,
    /// What the outside is asked to do, in order: by the handler, then by the
    /// exit and entry actions of a transition.
    pub effects: Vec<E>,
    /// How many of the effects are the handler's own.
    pub by_handler: usize,
}

/// A state or superstate, and what entering and leaving it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level<E> {
    /// Its name.
    pub name: &'static str,
    /// The effects of its entry action.
    pub entry: Vec<E>,
    /// The effects of its exit action.
    pub exit: Vec<E>,
}

impl<C: Chart> Machine<C> {
    /// A machine in its initial state. Initial states ask for nothing on entry,
    /// so there are no effects to carry out (checked by `tests/charts.rs`).
    #[must_use]
    pub fn new(chart: C) -> Self {
        Self {
            chart,
            state: C::initial(),
        }
    }

    /// Takes one event to completion.
    pub fn step(&mut self, event: &C::Input) -> Step<C::Effect> {
        #[cfg(feature = "mutants")]
        if let Some(step) = mutation::step(self, event) {
            return step;
        }
        self.plain_step(event)
    }

    fn plain_step(&mut self, event: &C::Input) -> Step<C::Effect> {
        self.step_with(event, Outbox::new(), |_, outcome| outcome)
    }

    /// A step whose outcome goes through `decide` before anything is left or entered.
    fn step_with(
        &mut self,
        event: &C::Input,
        mut outbox: Outbox<C::Effect>,
        decide: impl FnOnce(&mut Self, Outcome<C::State>) -> Outcome<C::State>,
    ) -> Step<C::Effect> {
        let from = self.state.into();
        let (handler, outcome) = self.dispatch(event, &mut outbox);
        let by_handler = outbox.effects.len();
        let taken = match decide(self, outcome) {
            Outcome::Super => Taken::Ignored,
            Outcome::Handled => Taken::Internal,
            Outcome::Transition(target) => {
                self.transition(target, &mut outbox);
                Taken::Transition
            }
        };
        Step {
            taken,
            from,
            to: self.state.into(),
            handler,
            guards: outbox.guards,
            effects: outbox.effects,
            by_handler,
        }
    }

    /// The leaf state.
    #[must_use]
    pub const fn state(&self) -> &C::State {
        &self.state
    }

    /// The data that the chart keeps across states.
    #[must_use]
    pub const fn chart(&self) -> &C {
        &self.chart
    }

    /// Changes the data without an event: for another plan, nothing else.
    pub(crate) const fn chart_mut(&mut self) -> &mut C {
        &mut self.chart
    }

    /// The names of the states on the way from the top to the leaf.
    #[must_use]
    pub fn path(&self) -> Vec<&'static str> {
        self.levels().into_iter().map(|level| level.name).collect()
    }

    /// The states on the path, outermost first, each with the effects of its
    /// entry and exit actions.
    #[must_use]
    pub fn levels(&self) -> Vec<Level<C::Effect>> {
        let mut chart = self.chart.clone();
        let mut state = self.state;
        let (mut entry, mut exit) = (Outbox::new(), Outbox::new());
        state.call_entry_action(&mut chart, &mut entry);
        state.call_exit_action(&mut chart, &mut exit);
        let mut levels = vec![Level {
            name: state.into(),
            entry: entry.effects,
            exit: exit.effects,
        }];
        if let Some(parent) = state.superstate() {
            climb::<C>(parent, &mut chart, &mut levels);
        }
        levels.reverse();
        levels
    }

    /// Offers the event to the leaf state, then to each superstate in turn.
    fn dispatch(
        &mut self,
        event: &C::Input,
        outbox: &mut Outbox<C::Effect>,
    ) -> (Option<&'static str>, Outcome<C::State>) {
        let name = self.state.into();
        let outcome = if outbox.skips() {
            Outcome::Super
        } else {
            self.state.call_handler(&mut self.chart, event, outbox)
        };
        match outcome {
            Outcome::Super => match self.state.superstate() {
                Some(parent) => bubble(parent, &mut self.chart, event, outbox),
                None => (None, Outcome::Super),
            },
            outcome => (Some(name), outcome),
        }
    }

    /// Exits up to the common ancestor, enters down to the target.
    fn transition(&mut self, mut target: C::State, outbox: &mut Outbox<C::Effect>) {
        let (exits, entries) = self.state.transition_path(&mut target);
        self.state.exit(&mut self.chart, outbox, exits);
        self.state = target;
        self.state.enter(&mut self.chart, outbox, entries);
    }
}

fn bubble<C: Chart>(
    mut superstate: C::Superstate<'_>,
    chart: &mut C,
    event: &C::Input,
    outbox: &mut Outbox<C::Effect>,
) -> (Option<&'static str>, Outcome<C::State>) {
    let outcome = if outbox.skips() {
        Outcome::Super
    } else {
        superstate.call_handler(chart, event, outbox)
    };
    match outcome {
        Outcome::Super => match superstate.superstate() {
            Some(parent) => bubble(parent, chart, event, outbox),
            None => (None, Outcome::Super),
        },
        outcome => (Some(superstate.into()), outcome),
    }
}

/// Pushes `superstate` and then everything above it.
fn climb<C: Chart>(
    mut superstate: C::Superstate<'_>,
    chart: &mut C,
    levels: &mut Vec<Level<C::Effect>>,
) {
    let (mut entry, mut exit) = (Outbox::new(), Outbox::new());
    superstate.call_entry_action(chart, &mut entry);
    superstate.call_exit_action(chart, &mut exit);
    let at = levels.len();
    if let Some(parent) = superstate.superstate() {
        climb::<C>(parent, chart, levels);
    }
    let name = superstate.into();
    levels.insert(
        at,
        Level {
            name,
            entry: entry.effects,
            exit: exit.effects,
        },
    );
}
