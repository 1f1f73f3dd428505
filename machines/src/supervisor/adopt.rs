//! Another plan for machines that run: what a new configuration changes.

use super::{Input, Plan, Supervisor};
use crate::component::{self, Component};
use crate::machine::Machine;
use crate::process::{self, Process};
use crate::system::{Event, State};

impl Supervisor {
    /// Whether another plan may be taken over now: nothing else is under way.
    #[must_use]
    pub const fn is_settled_down(&self) -> bool {
        matches!(
            self.system.state(),
            State::Running | State::Degraded | State::Parked
        )
    }

    /// Goes on with `plan`. For each of its components, `places` has the number of the one of
    /// ours that it is; the others are new. One that waits for its next try, or has used
    /// them up, by other rules than those of `plan`, begins anew. The numbers of all that
    /// begin, in `plan`, are returned.
    ///
    /// Those of ours that are not in `places` must be down, and [`Self::is_settled_down`]
    /// must hold. What comes of it for the machines is told by [`Self::news`].
    pub fn adopt(&mut self, plan: Plan, places: &[Option<usize>]) -> Vec<usize> {
        let components = plan.components.into_iter().enumerate();
        let mut begun = Vec::new();
        let machines = components.map(|(number, chart)| {
            let old = places.get(number).copied().flatten();
            let old = old.and_then(|old| self.components.get(old));
            old.and_then(|old| adjusted(old, &chart))
                .unwrap_or_else(|| {
                    begun.push(number);
                    Machine::new(chart)
                })
        });
        self.components = machines.collect();
        self.needs = plan.needs;
        adjust_process(&mut self.process, plan.process);
        begun
    }

    /// What the machines have to be told after another plan was taken over, one thing after
    /// another (at most one for the system and one for each component): a part that is missing may be gone, one may have come that is not up
    /// yet, and what is waited for may not be needed any more.
    #[must_use]
    pub fn news(&self) -> Option<Input> {
        let is_whole = self.all_ready() && *self.process.state() == process::State::Running;
        match self.system.state() {
            State::Running if !is_whole => return Some(Input::System(Event::ComponentDown)),
            State::Degraded if is_whole => return Some(Input::System(Event::AllUp)),
            _ => {}
        }
        let mut components = 0..self.components.len();
        let waiting = components.find(|number| self.waits_for_nothing(*number));
        waiting.map(|number| Input::Component(number, component::Event::NeedsReady))
    }

    /// Whether a component waits although all that it needs is there.
    #[must_use]
    pub fn waits_for_nothing(&self, number: usize) -> bool {
        self.is_in(number, component::State::Waiting) && self.needs_settled(number)
    }
}

/// A machine as it is, with the rules of `chart`; none if it must begin anew.
fn adjusted(machine: &Machine<Component>, chart: &Component) -> Option<Machine<Component>> {
    let old = machine.chart();
    let same_rules = old.on_failure == chart.on_failure && old.budget == chart.budget;
    if old.kind != chart.kind || !same_rules && machine.is_between_tries() {
        return None;
    }
    let mut machine = machine.clone();
    *machine.chart_mut() = Component {
        restarts: old.restarts.min(chart.budget),
        again: old.again,
        ..chart.clone()
    };
    Some(machine)
}

fn adjust_process(machine: &mut Machine<Process>, chart: Process) {
    use process::State as S;
    let old = machine.chart().clone();
    // Its next try is on its way already, and the last.
    let least = match machine.state() {
        S::Backoff => old.restarts,
        _ => 0,
    };
    let budget = chart.budget.max(least);
    if *machine.state() == S::Failed && budget != old.budget {
        *machine = Machine::new(chart.clone());
    }
    *machine.chart_mut() = Process {
        budget,
        restarts: old.restarts.min(budget),
        last: old.last,
        ..chart
    };
}
