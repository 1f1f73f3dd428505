//! What is started for a component and for the main process, as the configuration says.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use machines::component::Kind;

use super::incarnation::Incarnation;
use super::outside::Start;
use super::probe::{Check, Probe};
use super::readiness::Ready;
use crate::config::{self, Component, Process};
use crate::spawn::{Program, Streams};

/// The main process.
pub fn process(process: &Process, incarnation: Incarnation) -> Start {
    Start {
        name: "main process".to_owned(),
        program: Program {
            foreground: true,
            ..Program::of_process(process, process.command.clone(), Streams::Inherited)
        },
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
    super::sockets::give(sockets, &mut program);
    Start {
        name: component.name.clone(),
        program,
        ready: ready(component),
        readiness: component
            .readiness
            .as_ref()
            .map(|asked| probe(component, asked)),
        liveness: component
            .liveness
            .as_ref()
            .map(|asked| probe(component, asked)),
        incarnation,
    }
}

fn ready(component: &Component) -> Ready {
    match &component.ready {
        _ if component.kind != Kind::Service => Ready::Never,
        None => Ready::AtOnce,
        Some(config::Ready::Asked(asked)) => Ready::Asked(probe(component, asked)),
        Some(config::Ready::Log(pattern)) => Ready::Log(pattern.clone()),
        Some(config::Ready::Notify) => Ready::Notify,
        Some(config::Ready::Descriptor(number)) => Ready::Descriptor(*number),
    }
}

fn probe(component: &Component, asked: &config::Probe) -> Probe {
    let check = match &asked.check {
        config::Check::Command(command) => Check::Command(Box::new(Program::of_component(
            component,
            command.clone(),
            Streams::Piped,
        ))),
        config::Check::Http(url) => Check::Http(url.clone()),
        config::Check::Tcp(address) => Check::Tcp(address.clone()),
    };
    Probe {
        check,
        interval: asked.interval,
        timeout: asked.timeout,
        threshold: asked.threshold,
    }
}
