//! The whole graph of what can come to be, and questions to it.
//!
//! `broken` is safety: is there a state where something does not hold? `stuck` is
//! liveness: from every state where `begun` holds, whatever the world does, and if
//! nobody asks for anything more and nothing more goes wrong, `ended` comes to hold.
//! Both answer with a shortest list of events.

use std::collections::{HashMap, HashSet, VecDeque};

use super::world::{Action, World};
use super::{POSSIBLE, PROGRESS, Setting};
use crate::supervisor::Record;

/// More worlds than this, and something goes on for ever.
const MAX_WORLDS: usize = 300_000;

/// All worlds that can come to be, and how.
#[derive(Debug)]
pub struct Graph {
    setting: Setting,
    worlds: Vec<World>,
    ids: HashMap<World, usize>,
    /// For each world, where the world's own steps lead.
    onward: Vec<Vec<usize>>,
    parent: Vec<Option<(usize, Action)>>,
    /// How many steps there are from all worlds together.
    pub transitions: usize,
    is_endless: bool,
}

impl Graph {
    /// Everything that can come to be in `setting`. `watch` sees each step of a machine.
    pub fn explore(setting: &Setting, mut watch: impl FnMut(&Record)) -> Self {
        let first = World::new(setting);
        let mut graph = Self {
            ids: HashMap::from([(first.clone(), 0)]),
            worlds: vec![first],
            onward: vec![],
            parent: vec![None],
            transitions: 0,
            is_endless: false,
            setting: *setting,
        };
        let mut queue = VecDeque::from([0]);
        let mut actions = Vec::new();
        while let Some(id) = queue.pop_front() {
            if graph.worlds.len() > MAX_WORLDS {
                graph.is_endless = true;
                break;
            }
            actions.clear();
            graph.worlds[id].actions(setting, &mut actions);
            let mut onward = Vec::new();
            for action in actions.drain(..) {
                let mut next = graph.worlds[id].clone();
                if let Some(reaction) = next.take(&action) {
                    reaction.steps.iter().for_each(&mut watch);
                }
                graph.transitions += 1;
                let own = matches!(action, Action::Own(_));
                let next_id = *graph.ids.entry(next.clone()).or_insert_with(|| {
                    graph.worlds.push(next);
                    graph.parent.push(Some((id, action)));
                    queue.push_back(graph.worlds.len() - 1);
                    graph.worlds.len() - 1
                });
                if own && next_id != id {
                    onward.push(next_id);
                }
            }
            graph.onward.push(onward);
        }
        graph
    }

    /// How many worlds there are.
    #[must_use]
    pub fn configurations(&self) -> usize {
        self.worlds.len()
    }

    /// What does not hold of all that can come to be, with the shortest way there.
    #[must_use]
    pub fn flaw(&self) -> Option<(&'static str, Vec<String>)> {
        let broken = self.worlds.iter().position(|w| w.broken().is_some());
        if let Some(id) = broken {
            return Some((self.worlds[id].broken().unwrap_or_default(), self.path(id)));
        }
        if self.is_endless {
            return Some(("there is an end to what can come to be", vec![]));
        }
        let mut progress = PROGRESS.iter();
        let stuck = progress
            .find_map(|(what, begun, ended)| self.stuck(begun, ended).map(|path| (*what, path)));
        stuck.or_else(|| {
            let mut missing = POSSIBLE.iter();
            let missing = missing.find(|(_, is_so)| !self.worlds.iter().any(is_so));
            missing.map(|(what, _)| (*what, vec!["never".to_owned()]))
        })
    }

    /// The shortest way to a state from which `ended` might never come, if any.
    fn stuck(
        &self,
        begun: impl Fn(&World) -> bool,
        ended: impl Fn(&World) -> bool,
    ) -> Option<Vec<String>> {
        // Kahn's algorithm backwards: a state is safe once all its own steps are.
        let mut open: Vec<usize> = self.onward.iter().map(Vec::len).collect();
        let mut back = vec![Vec::new(); self.worlds.len()];
        for (id, onward) in self.onward.iter().enumerate() {
            for next in onward {
                back[*next].push(id);
            }
        }
        let mut safe = vec![false; self.worlds.len()];
        let ends = (0..self.worlds.len()).filter(|id| ended(&self.worlds[*id]));
        let mut queue: VecDeque<_> = ends.collect();
        while let Some(id) = queue.pop_front() {
            if std::mem::replace(&mut safe[id], true) {
                continue;
            }
            for before in &back[id] {
                open[*before] -= 1;
                if open[*before] == 0 {
                    queue.push_back(*before);
                }
            }
        }
        (0..self.worlds.len())
            .find(|id| begun(&self.worlds[*id]) && !safe[*id])
            .map(|id| self.path(id))
    }

    /// Ways from the start that together take every step from every world.
    #[must_use]
    pub fn cover(&self) -> Vec<Vec<Action>> {
        let mut actions = Vec::new();
        let mut open: Vec<VecDeque<Action>> = self
            .worlds
            .iter()
            .map(|world| {
                actions.clear();
                world.actions(&self.setting, &mut actions);
                actions.drain(..).collect()
            })
            .collect();
        let mut ways = Vec::new();
        for id in 0..self.worlds.len() {
            while !open[id].is_empty() {
                let mut way = self.way_to(id);
                let mut at = id;
                while let Some(action) = open[at].pop_front() {
                    let mut next = self.worlds[at].clone();
                    next.take(&action);
                    way.push(action);
                    at = self.ids[&next];
                }
                ways.push(way);
            }
        }
        ways
    }

    /// The shortest way from the start to a world.
    fn way_to(&self, mut id: usize) -> Vec<Action> {
        let mut way = Vec::new();
        while let Some((parent, action)) = &self.parent[id] {
            way.push(action.clone());
            id = *parent;
        }
        way.reverse();
        way
    }

    /// The shortest way from the start to a world, for people.
    fn path(&self, id: usize) -> Vec<String> {
        let mut world = self.worlds[0].clone();
        let mut path = Vec::new();
        for action in self.way_to(id) {
            path.push(format!("{:?} -- {action:?}", world.system()));
            world.take(&action);
        }
        let last = &self.worlds[id];
        path.push(format!("{:?} {:?}", last.system(), last.witness.violation));
        path
    }
}

/// The different steps that are taken anywhere in `settings`.
#[must_use]
pub fn steps_of(settings: &[Setting]) -> HashSet<Record> {
    let mut steps = HashSet::new();
    for setting in settings {
        Graph::explore(setting, |step| {
            if !steps.contains(step) {
                steps.insert(step.clone());
            }
        });
    }
    steps
}
