//! What every chart must offer, and what its handlers may do.

use std::fmt::Debug;
use std::hash::Hash;

use serde::Serialize;
use statig::blocking::{IntoStateMachine, State, Superstate};

/// What a chart's handlers write to while they handle one event.
#[derive(Debug)]
pub struct Outbox<E> {
    pub(crate) effects: Vec<E>,
    pub(crate) guards: Vec<Guard>,
    /// The condition that is found to be its opposite.
    #[cfg(feature = "mutants")]
    pub(crate) flipped: Option<&'static str>,
    /// How many levels below the one whose handler takes nothing.
    #[cfg(feature = "mutants")]
    pub(crate) skipped: Option<usize>,
}

/// A condition that a handler looked at, and what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Guard {
    /// How a diagram names the condition.
    pub name: &'static str,
    /// Whether it held.
    pub held: bool,
}

impl<E> Outbox<E> {
    pub(crate) const fn new() -> Self {
        Self {
            effects: Vec::new(),
            guards: Vec::new(),
            #[cfg(feature = "mutants")]
            flipped: None,
            #[cfg(feature = "mutants")]
            skipped: None,
        }
    }

    /// Asks for `effect` to be carried out once the step is done.
    pub fn emit(&mut self, effect: E) {
        self.effects.push(effect);
    }

    /// Whether the handler of this level is to be passed over: only mutants do that.
    #[cfg(not(feature = "mutants"))]
    #[allow(clippy::unused_self, reason = "as with the mutants")]
    pub(crate) const fn skips(&self) -> bool {
        false
    }

    /// Whether the handler of this level is to be passed over; asked once a level.
    #[cfg(feature = "mutants")]
    pub(crate) fn skips(&mut self) -> bool {
        let skips = self.skipped == Some(0);
        self.skipped = self.skipped.and_then(|levels| levels.checked_sub(1));
        skips
    }

    /// Notes that the handler's choice hangs on `held`; returns it unchanged.
    pub fn when(&mut self, name: &'static str, held: bool) -> bool {
        #[cfg(feature = "mutants")]
        let held = held != (self.flipped == Some(name));
        self.guards.push(Guard { name, held });
        held
    }
}

/// A `statig` chart that this crate can run, explore and draw.
pub trait Chart:
    Clone
    + Debug
    + Eq
    + Hash
    + for<'a> IntoStateMachine<
        Event<'a> = <Self as Chart>::Input,
        Context<'a> = Outbox<<Self as Chart>::Effect>,
        State: State<Self> + Copy + Debug + Eq + Hash + Words,
        Superstate<'a>: Superstate<Self> + Into<&'static str>,
    >
{
    /// An event the chart reacts to.
    type Input: Clone + Debug + Words + 'static;
    /// Something the chart asks the outside to do.
    type Effect: Copy + Debug + Eq + Words + 'static;

    /// The chart's name in diagrams and logs.
    const NAME: &'static str;

    /// Every event, with representative payloads: what the explorer tries.
    fn alphabet() -> Vec<Self::Input>;
    /// The chart's data as the explorer starts with it: every variant that makes
    /// the chart behave differently.
    fn variants() -> Vec<Self>;
    /// What each leaf state means, by name, reachable or not, in the order of the source.
    #[must_use]
    fn states() -> Vec<(&'static str, &'static str)> {
        documented::<<Self as IntoStateMachine>::State>()
    }
    /// What each superstate means, by name.
    fn superstates() -> &'static [(&'static str, &'static str)];
    /// What each event means, by name.
    #[must_use]
    fn events() -> Vec<(&'static str, &'static str)> {
        documented::<Self::Input>()
    }
    /// What each effect means, by name.
    #[must_use]
    fn effects() -> Vec<(&'static str, &'static str)> {
        documented::<Self::Effect>()
    }
    /// The events that an operator asks for, by name, and what that is and how to do it.
    #[must_use]
    fn requests() -> &'static [(&'static str, &'static str)] {
        &[]
    }
    /// The leaf states in which nothing can happen any more.
    fn is_final(_state: &Self::State) -> bool {
        false
    }
}

/// An enum whose variants can be listed, each with its name and docs.
pub trait Words: strum::IntoEnumIterator + strum::EnumMessage + Into<&'static str> {}

impl<T: strum::IntoEnumIterator + strum::EnumMessage + Into<&'static str>> Words for T {}

/// The names and docs of an enum's variants.
fn documented<T: Words>() -> Vec<(&'static str, &'static str)> {
    T::iter()
        .map(|variant| {
            let doc = variant.get_documentation().unwrap_or_default();
            (variant.into(), doc)
        })
        .collect()
}
