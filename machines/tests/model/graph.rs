//! The whole graph of what can come to be, and two questions to it.
//!
//! `broken` is safety: is there a state where something does not hold? `stuck` is
//! liveness: from every state where `begun` holds, whatever the world does, and if
//! nobody asks for anything more and nothing more goes wrong, `ended` comes to hold.
//! Both answer with a shortest list of events.

use std::collections::{HashMap, VecDeque};

use machines::supervisor::Plan;

use crate::world::{Action, World};

pub struct Graph {
    worlds: Vec<World>,
    onward: Vec<Vec<usize>>,
    parent: Vec<Option<(usize, Action)>>,
    pub transitions: usize,
}

impl Graph {
    pub fn explore(plan: &Plan, faults: u8, crashes: u8) -> Self {
        let first = World::new(plan, faults, crashes);
        let mut ids = HashMap::from([(first.clone(), 0)]);
        let mut graph = Self {
            worlds: vec![first],
            onward: vec![],
            parent: vec![None],
            transitions: 0,
        };
        let mut queue = VecDeque::from([0]);
        let mut actions = Vec::new();
        while let Some(id) = queue.pop_front() {
            actions.clear();
            graph.worlds[id].actions(plan, &mut actions);
            let mut onward = Vec::new();
            for action in actions.drain(..) {
                let mut next = graph.worlds[id].clone();
                next.take(&action);
                graph.transitions += 1;
                let own = matches!(action, Action::Own(_));
                let next_id = *ids.entry(next.clone()).or_insert_with(|| {
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

    pub fn len(&self) -> usize {
        self.worlds.len()
    }

    pub fn worlds(&self) -> &[World] {
        &self.worlds
    }

    /// The shortest way to a state from which `ended` might never come, if any.
    pub fn stuck(
        &self,
        begun: impl Fn(&World) -> bool,
        ended: impl Fn(&World) -> bool,
    ) -> Option<Vec<String>> {
        // Kahn's algorithm backwards: a state is safe once all its own steps are.
        let mut open: Vec<usize> = self.onward.iter().map(Vec::len).collect();
        let mut back = vec![Vec::new(); self.len()];
        for (id, onward) in self.onward.iter().enumerate() {
            for next in onward {
                back[*next].push(id);
            }
        }
        let mut safe = vec![false; self.len()];
        let ends = (0..self.len()).filter(|id| ended(&self.worlds[*id]));
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
        (0..self.len())
            .find(|id| begun(&self.worlds[*id]) && !safe[*id])
            .map(|id| self.path(id))
    }

    /// The shortest way to a state where `holds` does not.
    pub fn broken(&self, holds: impl Fn(&World) -> bool) -> Option<Vec<String>> {
        (0..self.len())
            .find(|id| !holds(&self.worlds[*id]))
            .map(|id| self.path(id))
    }

    fn path(&self, mut id: usize) -> Vec<String> {
        let last = &self.worlds[id];
        let mut path = vec![format!("{:?} {:?}", last.system(), last.violation)];
        while let Some((parent, action)) = &self.parent[id] {
            let state = self.worlds[*parent].system();
            path.push(format!("{state:?} -- {action:?}"));
            id = *parent;
        }
        path.reverse();
        path
    }
}
