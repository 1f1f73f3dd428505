//! What is supervised in the model: a few small environments that together have every
//! kind of component, with and without needs and restarts.

use crate::component::{Component, Kind, OnFailure};
use crate::process::Process;
use crate::supervisor::Plan;
use crate::system::System;

/// One environment, and how much may go wrong in it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// What it is.
    pub name: &'static str,
    /// The components, by what they are for and what follows when they fail.
    pub components: &'static [Sort],
    /// For each component, the numbers of those that it needs.
    pub needs: &'static [&'static [usize]],
    /// How many of them, from the first on, carry the storage.
    pub storage: usize,
    /// How many restarts the main process may have.
    pub retries: u8,
    /// Whether the system stays up when the main process ends in error.
    pub keep_alive: bool,
    /// How many things may go wrong.
    pub faults: u8,
    /// How often the daemon may crash.
    pub crashes: u8,
    /// Whether somebody stops, starts and restarts single components.
    pub control: bool,
    /// What a new configuration makes of it, once.
    pub reload: Option<Reload>,
}

/// What a new configuration wants supervised.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// The components.
    pub components: &'static [Sort],
    /// For each component, the numbers of those that it needs.
    pub needs: &'static [&'static [usize]],
    /// For each component, the number of the one before that it is.
    pub places: &'static [Option<usize>],
    /// How many restarts the main process may have.
    pub retries: u8,
}

/// A kind of component: what it is for and what follows when it fails.
pub type Sort = (Kind, OnFailure);

impl Setting {
    /// What the machines are made of.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.plan_of(self.components, self.needs, self.retries)
    }

    /// What they go on with, if there is a new configuration.
    #[must_use]
    pub fn next_plan(&self) -> Option<(Plan, Vec<Option<usize>>)> {
        let reload = self.reload.as_ref()?;
        let plan = self.plan_of(reload.components, reload.needs, reload.retries);
        Some((plan, reload.places.to_vec()))
    }

    fn plan_of(&self, components: &[Sort], needs: &[&[usize]], retries: u8) -> Plan {
        Plan {
            system: System {
                keep_alive: self.keep_alive,
                ..System::default()
            },
            process: Process {
                budget: retries,
                ..Process::default()
            },
            components: (0..)
                .zip(components)
                .map(|(number, sort)| component(*sort, number < self.storage))
                .collect(),
            needs: (0..components.len())
                .map(|id| needs.get(id).map_or_else(Vec::new, |n| n.to_vec()))
                .collect(),
        }
    }
}

const fn component((kind, on_failure): Sort, storage: bool) -> Component {
    Component {
        kind,
        success: vec![],
        on_failure,
        budget: 1,
        restarts: 0,
        again: false,
        storage,
    }
}

/// Nothing is supervised but a main process.
const BARE: Setting = Setting {
    name: "no component",
    components: &[],
    needs: &[],
    storage: 0,
    retries: 0,
    keep_alive: false,
    faults: 3,
    crashes: 1,
    control: false,
    reload: None,
};

#[allow(
    non_upper_case_globals,
    reason = "reads as the word that it stands for"
)]
mod sorts {
    use super::{Kind, OnFailure, Sort};

    pub const Ignore: Sort = (Kind::Service, OnFailure::Ignore);
    pub const Restart: Sort = (Kind::Service, OnFailure::Restart);
    pub const Shutdown: Sort = (Kind::Service, OnFailure::Shutdown);
    /// Once, before what needs it.
    pub const Once: Sort = (Kind::Oneshot, OnFailure::Restart);
    /// Once, and nothing goes on without it.
    pub const OnceAtLeast: Sort = (Kind::Oneshot, OnFailure::Shutdown);
    /// Once, if it can be done.
    pub const OnceAtBest: Sort = (Kind::Oneshot, OnFailure::Ignore);
    /// At its times.
    pub const Timed: Sort = (Kind::Scheduled, OnFailure::Ignore);
    /// At its times, and it must not go wrong.
    pub const Strict: Sort = (Kind::Scheduled, OnFailure::Shutdown);
}
use sorts::{Ignore, Once, OnceAtBest, OnceAtLeast, Restart, Shutdown, Strict, Timed};

/// From the smallest to the largest.
pub const SETTINGS: &[Setting] = &[
    BARE,
    Setting {
        name: "a service that needs something to do at its times",
        components: &[Timed, Shutdown],
        needs: &[&[], &[0]],
        faults: 0,
        crashes: 0,
        ..BARE
    },
    Setting {
        name: "nothing but a component that carries the storage",
        components: &[Shutdown],
        storage: 1,
        faults: 1,
        ..BARE
    },
    Setting {
        name: "something to do once that a service needs, kept alive",
        components: &[Once, Shutdown],
        needs: &[&[], &[0]],
        keep_alive: true,
        faults: 2,
        crashes: 0,
        ..BARE
    },
    Setting {
        name: "a service that somebody stops and starts",
        components: &[Restart],
        faults: 1,
        crashes: 0,
        control: true,
        ..BARE
    },
    Setting {
        name: "no component, kept alive, the process restarts",
        retries: 1,
        keep_alive: true,
        ..BARE
    },
    Setting {
        name: "something to do at its times, which somebody stops and starts",
        components: &[Timed],
        faults: 2,
        crashes: 0,
        control: true,
        ..BARE
    },
    Setting {
        name: "something to do at its times that must not go wrong",
        components: &[Strict],
        retries: 1,
        faults: 2,
        ..BARE
    },
    Setting {
        name: "a component that nothing goes on without",
        components: &[Shutdown],
        ..BARE
    },
    Setting {
        name: "a mount that is done once and a service on it carry the storage, kept alive",
        components: &[OnceAtLeast, Restart],
        needs: &[&[], &[0]],
        storage: 2,
        keep_alive: true,
        faults: 2,
        ..BARE
    },
    Setting {
        name: "something to do once, and something that may go wrong",
        components: &[OnceAtLeast, OnceAtBest],
        faults: 1,
        crashes: 0,
        control: true,
        ..BARE
    },
    Setting {
        name: "a component that is ignored when it fails, kept alive",
        components: &[Ignore],
        retries: 1,
        keep_alive: true,
        ..BARE
    },
    Setting {
        name: "a component that restarts, as does the process",
        components: &[Restart],
        retries: 1,
        ..BARE
    },
    Setting {
        name: "two components, side by side",
        components: &[Shutdown, Shutdown],
        faults: 2,
        ..BARE
    },
    Setting {
        name: "two components, the second needs the first, kept alive",
        components: &[Shutdown, Restart],
        needs: &[&[], &[0]],
        keep_alive: true,
        faults: 2,
        ..BARE
    },
    Setting {
        name: "a component on one that may be missing",
        components: &[Ignore, Restart],
        needs: &[&[], &[0]],
        retries: 1,
        faults: 2,
        ..BARE
    },
    Setting {
        name: "three components in a row",
        components: &[Shutdown, Restart, Ignore],
        needs: &[&[], &[0], &[1]],
        faults: 2,
        crashes: 0,
        ..BARE
    },
    Setting {
        name: "a service on one that somebody stops and starts",
        components: &[Ignore, Restart],
        needs: &[&[], &[0]],
        faults: 1,
        crashes: 0,
        control: true,
        ..BARE
    },
    Setting {
        name: "a new configuration takes one of two away, changes the other and brings a third",
        components: &[Ignore, Restart],
        needs: &[&[1], &[]],
        faults: 1,
        crashes: 0,
        control: true,
        reload: Some(Reload {
            components: &[Once, Shutdown],
            needs: &[&[1], &[]],
            places: &[None, Some(1)],
            retries: 1,
        }),
        ..BARE
    },
    Setting {
        name: "a new configuration says that a service needs no other, which somebody has stopped",
        components: &[Ignore, Restart],
        needs: &[&[], &[0]],
        faults: 0,
        crashes: 0,
        control: true,
        reload: Some(Reload {
            components: &[Ignore, Restart],
            needs: &[],
            places: &[Some(0), Some(1)],
            retries: 0,
        }),
        ..BARE
    },
    Setting {
        name: "a new configuration gives up restarts, with the system kept alive",
        components: &[Restart],
        retries: 1,
        keep_alive: true,
        faults: 2,
        crashes: 0,
        reload: Some(Reload {
            components: &[Ignore],
            needs: &[],
            places: &[Some(0)],
            retries: 0,
        }),
        ..BARE
    },
    Setting {
        name: "a component that carries the storage, and another",
        components: &[Shutdown, Restart],
        storage: 1,
        faults: 2,
        ..BARE
    },
    Setting {
        name: "what carries the storage is stopped and started by somebody",
        components: &[Restart, Ignore],
        needs: &[&[], &[0]],
        storage: 1,
        faults: 1,
        crashes: 0,
        control: true,
        ..BARE
    },
    Setting {
        name: "a database that two need, kept alive",
        components: &[Restart, Shutdown, Restart],
        needs: &[&[], &[0], &[0]],
        retries: 1,
        keep_alive: true,
        faults: 1,
        ..BARE
    },
    Setting {
        // What people add at run time: it comes and goes, and nothing depends on it.
        name: "two components and a service that comes and goes beside them",
        components: &[Shutdown, Restart, Ignore],
        needs: &[&[], &[0], &[]],
        faults: 2,
        crashes: 0,
        ..BARE
    },
];
