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
        }
    }

    /// Asks for `effect` to be carried out once the step is done.
    pub fn emit(&mut self, effect: E) {
        self.effects.push(effect);
    }

    /// Notes that the handler's choice hangs on `held`; returns it unchanged.
    pub fn when(&mut self, name: &'static str, held: bool) -> bool {
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
        State: State<Self> + Copy + Debug + Eq + Hash + Into<&'static str>,
        Superstate<'a>: Superstate<Self> + Into<&'static str>,
    >
{
    /// An event the chart reacts to.
    type Input: Clone + Debug + 'static;
    /// Something the chart asks the outside to do.
    type Effect: Copy + Debug + Eq + 'static;

    /// The chart's name in diagrams and logs.
    const NAME: &'static str;

    /// Every event, with representative payloads: what the explorer tries.
    fn alphabet() -> Vec<Self::Input>;
    /// The chart's data as the explorer starts with it: every variant that makes
    /// the chart behave differently.
    fn variants() -> Vec<Self>;
    /// What each leaf state means, by name, reachable or not, in the order of the source.
    fn states() -> Vec<(&'static str, &'static str)>;
    /// What each superstate means, by name.
    fn superstates() -> &'static [(&'static str, &'static str)];
    /// What each event means, by name.
    fn events() -> Vec<(&'static str, &'static str)>;
    /// The leaf states in which nothing can happen any more.
    fn is_final(_state: &Self::State) -> bool {
        false
    }
}

/// The names and docs of an enum's variants, for [`Chart::states`] and [`Chart::events`].
#[must_use]
pub fn documented<T>() -> Vec<(&'static str, &'static str)>
where
    T: strum::IntoEnumIterator + strum::EnumMessage + Into<&'static str>,
{
    T::iter()
        .map(|variant| {
            let doc = variant.get_documentation().unwrap_or_default();
            (variant.into(), doc)
        })
        .collect()
}
