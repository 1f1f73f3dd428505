//! What a chart does, found out by trying: the data behind every picture of it.
//!
//! Breadth-first over every (data, state) configuration that events can lead to, each
//! event of the alphabet is tried in each. Nothing here is read from the source text.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use serde::Serialize;

use crate::chart::{Chart, Guard};
use crate::machine::{Machine, Step, Taken};

/// More configurations than this and a chart is not fit to be drawn.
const MAX_CONFIGURATIONS: usize = 100_000;

/// A chart as a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagram {
    /// The chart's name.
    pub name: &'static str,
    /// The leaf state it starts in.
    pub initial: &'static str,
    /// Leaf states and superstates by name.
    pub states: BTreeMap<&'static str, Node>,
    /// Every event of the alphabet: its name and what it means.
    pub events: Vec<(&'static str, &'static str)>,
    /// Every effect: its name and what it means.
    pub effects: Vec<(&'static str, &'static str)>,
    /// The events that an operator asks for: name, and what and how.
    pub requests: &'static [(&'static str, &'static str)],
    /// All transitions and internal reactions.
    pub edges: Vec<Edge>,
    /// Leaf states that no sequence of events leads to.
    pub unreachable: Vec<&'static str>,
    /// Events that a leaf state has no use for, by leaf state.
    pub ignored: BTreeMap<&'static str, BTreeSet<String>>,
    /// How many (data, state) pairs were visited.
    pub configurations: usize,
}

/// A leaf state or superstate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Node {
    /// What it means.
    pub doc: &'static str,
    /// Where it stands in the source, among its kind.
    pub order: usize,
    /// The superstate around it.
    pub parent: Option<&'static str>,
    /// Whether it is a superstate.
    pub composite: bool,
    /// Whether nothing can happen in it any more.
    pub is_final: bool,
    /// What entering it asks for.
    pub entry: Vec<String>,
    /// What leaving it asks for.
    pub exit: Vec<String>,
}

/// A reaction to an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// Where the arrow starts: a leaf state, or the superstate that stands for all
    /// leaf states in it.
    pub from: &'static str,
    /// The leaf state it leads to; none if the state stays.
    pub to: Option<&'static str>,
    /// The event.
    pub event: String,
    /// The conditions.
    pub guards: Vec<Guard>,
    /// What the handler asks for.
    pub effects: Vec<String>,
    /// The state or superstate whose handler reacts.
    pub handler: &'static str,
}

impl Diagram {
    /// Tries every event in every configuration that can be reached from the chart's
    /// variants.
    ///
    /// # Panics
    ///
    /// If there are more configurations than any picture could show. Only a change of
    /// a chart can cause that; `tests/charts.rs` would catch it.
    #[must_use]
    pub fn explore<C: Chart>() -> Self {
        let mut queue: VecDeque<_> = C::variants().into_iter().map(Machine::new).collect();
        let initial = C::initial().into();
        let alphabet = C::alphabet();
        let mut states = BTreeMap::new();
        let mut edges = BTreeSet::new();
        let mut ignored = BTreeMap::<_, BTreeSet<_>>::new();
        let mut seen: HashSet<_> = queue.iter().cloned().collect();
        while let Some(machine) = queue.pop_front() {
            add_path(&machine, &mut states);
            for event in &alphabet {
                let mut next = machine.clone();
                let step = next.step(event);
                if step.taken == Taken::Ignored {
                    ignored.entry(step.from).or_default().insert(name(event));
                } else {
                    edges.insert(edge(event, &step));
                }
                if seen.insert(next.clone()) {
                    assert!(seen.len() <= MAX_CONFIGURATIONS, "{}: too many", C::NAME);
                    queue.push_back(next);
                }
            }
        }
        document::<C>(&mut states);
        let mut diagram = Self {
            name: C::NAME,
            initial,
            events: C::events(),
            effects: C::effects(),
            requests: C::requests(),
            unreachable: unreachable::<C>(&states),
            edges: edges.into_iter().collect(),
            ignored,
            configurations: seen.len(),
            states,
        };
        diagram.lift();
        diagram
    }

    /// Whether `name` is inside `superstate`, at any depth.
    #[must_use]
    pub fn is_within(&self, name: &str, superstate: &str) -> bool {
        self.above(name).any(|parent| parent == superstate)
    }

    /// The superstates around `name`, innermost first.
    pub fn above(&self, name: &str) -> impl Iterator<Item = &'static str> {
        let parent = |name: &str| self.states.get(name).and_then(|node| node.parent);
        std::iter::successors(parent(name), move |at| parent(at))
    }

    /// The states directly inside `parent`, or at the top, in the order of the source.
    #[must_use]
    pub fn children(&self, parent: Option<&str>) -> Vec<(&'static str, &Node)> {
        let mut children: Vec<_> = self
            .states
            .iter()
            .filter(|(_, node)| node.parent == parent)
            .map(|(name, node)| (*name, node))
            .collect();
        children.sort_by_key(|(name, node)| self.first_leaf(name, node));
        children
    }

    /// The leaf states in the order of the source.
    #[must_use]
    pub fn leaves(&self) -> Vec<(&'static str, &Node)> {
        let mut leaves: Vec<_> = self
            .states
            .iter()
            .filter(|(_, node)| !node.composite)
            .map(|(name, node)| (*name, node))
            .collect();
        leaves.sort_by_key(|(_, node)| node.order);
        leaves
    }

    /// The leaf states that nothing leads out of although they are not final, and the
    /// final ones that something does lead out of.
    #[must_use]
    pub fn dead_ends(&self) -> Vec<&'static str> {
        let is_left = |name| {
            let mut levels = std::iter::once(name).chain(self.above(name));
            levels.any(|at| {
                let mut edges = self.edges.iter();
                edges.any(|edge| edge.from == at && edge.to.is_some())
            })
        };
        let leaves = self.leaves().into_iter();
        let wrong = leaves.filter(|(name, node)| is_left(*name) == node.is_final);
        wrong.map(|(name, _)| name).collect()
    }

    /// A superstate stands where its first leaf does.
    fn first_leaf(&self, name: &str, node: &Node) -> usize {
        if !node.composite {
            return node.order;
        }
        self.states
            .iter()
            .filter(|(leaf, node)| !node.composite && self.is_within(leaf, name))
            .map(|(_, node)| node.order)
            .min()
            .unwrap_or(usize::MAX)
    }

    /// Draws what a superstate's handler does once, from the superstate, where it does
    /// the same in every leaf state that leaves it to the superstate.
    fn lift(&mut self) {
        let (own, inherited): (Vec<_>, Vec<_>) = std::mem::take(&mut self.edges)
            .into_iter()
            .partition(|edge| edge.from == edge.handler);
        let mut by_reaction = BTreeMap::<Edge, BTreeSet<&'static str>>::new();
        let mut takers = BTreeMap::<(&'static str, String), BTreeSet<&'static str>>::new();
        for edge in &inherited {
            let lifted = Edge {
                from: edge.handler,
                ..edge.clone()
            };
            by_reaction.entry(lifted).or_default().insert(edge.from);
            let key = (edge.handler, edge.event.clone());
            takers.entry(key).or_default().insert(edge.from);
        }
        let mut edges: BTreeSet<_> = own.into_iter().collect();
        for (lifted, leaves) in by_reaction {
            let key = (lifted.handler, lifted.event.clone());
            if takers.get(&key) == Some(&leaves) {
                edges.insert(lifted);
            } else {
                edges.extend(leaves.into_iter().map(|from| Edge {
                    from,
                    ..lifted.clone()
                }));
            }
        }
        self.edges = edges.into_iter().collect();
    }
}

fn add_path<C: Chart>(machine: &Machine<C>, states: &mut BTreeMap<&'static str, Node>) {
    let levels = machine.levels();
    let leaf = levels.len() - 1;
    let mut parent = None;
    for (depth, level) in levels.into_iter().enumerate() {
        let node = Node {
            parent,
            composite: depth < leaf,
            is_final: depth == leaf && C::is_final(machine.state()),
            entry: level.entry.iter().map(name).collect(),
            exit: level.exit.iter().map(name).collect(),
            ..Node::default()
        };
        parent = Some(level.name);
        states.entry(level.name).or_insert(node);
    }
}

fn document<C: Chart>(states: &mut BTreeMap<&'static str, Node>) {
    let docs = C::superstates().iter().copied().chain(C::states());
    for (order, (name, doc)) in docs.enumerate() {
        if let Some(node) = states.get_mut(name) {
            node.doc = doc;
            node.order = order;
        }
    }
}

fn edge<E: std::fmt::Debug>(event: &impl std::fmt::Debug, step: &Step<E>) -> Edge {
    let by_handler = step.effects.iter().take(step.by_handler);
    Edge {
        from: step.from,
        to: (step.taken == Taken::Transition).then_some(step.to),
        event: name(event),
        guards: step.guards.clone(),
        effects: by_handler.map(name).collect(),
        handler: step.handler.unwrap_or(step.from),
    }
}

fn unreachable<C: Chart>(states: &BTreeMap<&'static str, Node>) -> Vec<&'static str> {
    C::states()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !states.contains_key(name))
        .collect()
}

/// How a picture names an event or effect: its `Debug` form with the data that a
/// reader needs, on one line: `Exited(0)`, `SetTimer(Backoff)`.
pub(crate) fn name(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let text = text.replace("Code(", "").replace("))", ")");
    match text.find(" { attempt") {
        Some(at) => format!("{})", text.get(..at).unwrap_or(&text)),
        None => text
            .replace(" { ", "(")
            .replace(" }", ")")
            .replace("success: ", "success="),
    }
}
