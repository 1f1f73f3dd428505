//! What is started for a component and for the main process, as the configuration says.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use machines::component::Kind;

use super::incarnation::Incarnation;
use super::outside::Start;
use super::readiness::Ready;
use crate::cgroups::Cgroup;
use crate::config::{Component, Process};
use crate::spawn::{Program, Streams};

/// The main process.
pub fn process(process: &Process, incarnation: Incarnation) -> Start {
    Start {
        name: "main process".to_owned(),
        program: Program {
            foreground: true,
            cgroup: Cgroup::Process,
            ..Program::of_process(process, process.command.clone(), Streams::Inherited)
        },
        check: Program::new(vec![], Streams::Piped),
        patience: Duration::ZERO,
        ready: Ready::Never,
        readiness: None,
        liveness: None,
        incarnation,
    }
}

/// A component, with the sockets that are open for it.
pub fn component(
    component: &Component,
    sockets: &[Arc<OwnedFd>],
    incarnation: Incarnation,
) -> Start {
    let command = component.start_command.clone();
    let mut program = Program::of_component(component, command, Streams::Output);
    program.cgroup = component.cgroup();
    super::sockets::give(sockets, &mut program);
    let mut check = Program::of_component(component, vec![], Streams::Piped);
    if component.storage {
        // It is not held either, and stays when the rest of the tree goes.
        check.cgroup = component.cgroup();
    }
    Start {
        name: component.name.clone(),
        program,
        check,
        patience: component.stop_timeout,
        ready: match &component.ready {
            _ if component.kind != Kind::Service => Ready::Never,
            None => Ready::AtOnce,
            Some(ready) => Ready::When(ready.clone()),
        },
        readiness: component.readiness.clone(),
        liveness: component.liveness.clone(),
        incarnation,
    }
}
