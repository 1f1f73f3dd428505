//! Breaks one arrow of a chart while it runs, in one small way, for the mutation check.

use std::cell::{Cell, RefCell};

use statig::Outcome;
use strum::IntoEnumIterator as _;

use super::{Machine, Step, Taken};
use crate::chart::{Chart, Outbox};
use crate::explore::{Edge, name};

/// One small way in which a chart is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The chart.
    pub machine: &'static str,
    /// What is broken.
    pub fault: Fault,
}

/// What is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The event is not taken by this handler: it goes on to the superstate.
    Drop(Edge),
    /// It leads to this leaf state instead.
    Retarget(Edge, &'static str),
    /// The handler does not ask for this effect.
    DropEffect(Edge, String),
    /// The handler finds the opposite of this condition.
    FlipGuard(Edge, &'static str),
    /// The handler does not change the chart's data.
    ForgetData(Edge),
    /// Entering or leaving this state does not ask for this effect.
    DropAction(&'static str, String),
}

thread_local! {
    static MUTATION: RefCell<Option<Mutation>> = const { RefCell::new(None) };
    static APPLIED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `check` with all charts of this thread broken as `mutation` says.
pub fn with<T>(mutation: &Mutation, check: impl FnOnce() -> T) -> T {
    MUTATION.set(Some(mutation.clone()));
    APPLIED.set(false);
    let result = check();
    MUTATION.set(None);
    result
}

/// Whether the broken place was come by since [`with`] began.
#[must_use]
pub fn is_applied() -> bool {
    APPLIED.get()
}

/// Stops machines that go round in circles: whole ones come to an end by themselves, as
/// the model check shows.
///
/// # Panics
///
/// If one input has led to too many steps.
pub fn must_end(steps: usize) {
    assert!(steps < 1_000, "the machines go round in circles");
}

/// The step that the broken chart takes, if it is another one.
pub(super) fn step<C: Chart>(
    machine: &mut Machine<C>,
    event: &C::Input,
) -> Option<Step<C::Effect>> {
    MUTATION.with_borrow(|mutation| {
        let mutation = mutation.as_ref().filter(|m| m.machine == C::NAME)?;
        let before = machine.clone();
        let step = machine.plain_step(event);
        let right = machine.clone();
        let broken = fault(&mutation.fault, machine, &before, event, &step);
        match broken {
            // What comes to the same is not broken.
            Some(broken) if broken != step || *machine != right => {
                APPLIED.set(true);
                Some(broken)
            }
            _ => {
                *machine = before;
                None
            }
        }
    })
}

/// The event's own name: of its payload, the conditions say what counts.
fn word(event: &str) -> &str {
    event.split('(').next().unwrap_or(event)
}

/// `machine` took `step` from `before`; makes it the broken one, if it is concerned.
fn fault<C: Chart>(
    fault: &Fault,
    machine: &mut Machine<C>,
    before: &Machine<C>,
    event: &C::Input,
    step: &Step<C::Effect>,
) -> Option<Step<C::Effect>> {
    let concerns = |edge: &Edge| {
        step.handler == Some(edge.handler)
            && step.guards == edge.guards
            && word(&name(event)) == word(&edge.event)
            && before.path().contains(&edge.from)
    };
    match fault {
        Fault::Drop(edge) if concerns(edge) => {
            *machine = before.clone();
            let mut outbox = Outbox::new();
            let mut levels = before.path().into_iter().rev();
            outbox.skipped = levels.position(|level| level == edge.handler);
            Some(machine.step_with(event, outbox, |_, outcome| outcome))
        }
        Fault::Retarget(edge, to) if concerns(edge) => {
            let target = C::State::iter().find(|state| (*state).into() == *to)?;
            *machine = before.clone();
            Some(machine.step_with(event, Outbox::new(), |_, _| Outcome::Transition(target)))
        }
        Fault::DropEffect(edge, effect) if concerns(edge) => {
            let own = step.effects.iter().take(step.by_handler);
            let at = own.map(name).position(|own| own == *effect)?;
            let mut step = step.clone();
            step.effects.remove(at);
            step.by_handler -= 1;
            Some(step)
        }
        Fault::FlipGuard(edge, guard) if concerns(edge) => {
            *machine = before.clone();
            let mut outbox = Outbox::new();
            outbox.flipped = Some(guard);
            Some(machine.step_with(event, outbox, |_, outcome| outcome))
        }
        Fault::ForgetData(edge) if concerns(edge) && machine.chart != before.chart => {
            *machine = before.clone();
            let chart = before.chart.clone();
            Some(machine.step_with(event, Outbox::new(), |machine, outcome| {
                machine.chart = chart;
                outcome
            }))
        }
        Fault::DropAction(state, effect) if step.taken == Taken::Transition => {
            let (from, to) = (before.path(), machine.path());
            let is_leaf = step.from == step.to && step.to == *state;
            if !is_leaf && from.contains(state) == to.contains(state) {
                return None;
            }
            let at = step.effects.iter().enumerate().skip(step.by_handler);
            let (at, _) = at.into_iter().find(|(_, e)| name(e) == *effect)?;
            let mut step = step.clone();
            step.effects.remove(at);
            Some(step)
        }
        _ => None,
    }
}
