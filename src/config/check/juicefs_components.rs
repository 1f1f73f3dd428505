//! The components that serve a JuiceFS volume.

use std::collections::BTreeMap;
use std::time::Duration;

use machines::component::{Kind, OnFailure};

use super::Checker;
use crate::checkpoint::juicefs::{Blocks, COMPONENT, IMAGE, LITESTREAM, METADATA, Volume};
use crate::config::component::probe::{Check, Hook, Probe, Ready};
use crate::config::component::{attributes::Attributes, time};
use crate::config::origin::Origin;
use crate::config::{Backoff, Bucket, Component, raw};

/// How often it is asked whether the mount can be used.
const LIVENESS: Duration = Duration::from_secs(10);
/// How long an answer may take: whoever writes much meanwhile is in its way.
const ANSWER: Duration = Duration::from_secs(30);
/// How long Litestream may take until it has read the database.
const STARTING: Duration = Duration::from_secs(30);
impl Checker<'_> {
    /// The components that serve `volume`, each of which needs the one before it.
    pub(super) fn juicefs_components(
        &mut self,
        written: &raw::JuiceFs,
        litestream: &raw::Litestream,
        bucket: Option<&Bucket>,
        volume: &Volume,
    ) -> Vec<Component> {
        let mut components = Vec::new();
        if let Some(bucket) = bucket.filter(|_| volume.blocks.is_some()) {
            let environment: BTreeMap<_, _> = Blocks::environment(bucket).into_iter().collect();
            components = self.components_of_bucket(litestream, bucket, volume);
            components.push(self.mount_component(written, volume));
            for component in &mut components {
                component.environment.clone_from(&environment);
            }
        } else {
            components.push(self.mount_component(written, volume));
        }
        if volume.image.is_some() {
            components.extend(
                components
                    .last()
                    .map(|mount| image_component(volume, mount)),
            );
        }
        // Each needs the one before it: it is up later, and down earlier.
        for (place, component) in components.iter_mut().enumerate() {
            component.needs = place.checked_sub(1).into_iter().collect();
        }
        components
    }

    /// What claims the volume and fetches its metadata, and what copies them.
    fn components_of_bucket(
        &mut self,
        written: &raw::Litestream,
        bucket: &Bucket,
        volume: &Volume,
    ) -> Vec<Component> {
        let ledger = &mut self.ledger;
        let restore = written.restore_timeout.as_ref();
        let restore = time("litestream.restore_timeout", restore, 600_000, ledger);
        let metadata = Component {
            kind: Kind::Oneshot,
            ready_timeout: (!restore.is_zero()).then_some(restore),
            ..component(METADATA, volume.command("metadata"))
        };
        let litestream = Component {
            ready: Some(Ready::Asked(asked(volume, "replicating", None))),
            // The whole database is copied first.
            ready_timeout: metadata.ready_timeout,
            on_failure: OnFailure::Restart,
            pre_stop: Some(Hook {
                command: volume.command("settled"),
                timeout: STARTING,
            }),
            // It sends what is left.
            stop_timeout: bucket.replicate_timeout,
            ..component(LITESTREAM, volume.command("replicate"))
        };
        vec![metadata, litestream]
    }

    fn mount_component(&mut self, written: &raw::JuiceFs, volume: &Volume) -> Component {
        let origin = written.on_failure.map_or(Origin::Default, |_| Origin::File);
        let on_failure = written.on_failure.map_or(OnFailure::Shutdown, Into::into);
        let shown = format!("{on_failure:?}").to_lowercase().into();
        self.ledger.note("juicefs.on_failure", (), shown, origin);
        if on_failure == OnFailure::Ignore {
            let why = "nothing goes on without the storage; give shutdown or restart";
            self.ledger.wrong("juicefs.on_failure", why);
        }
        let ready_timeout = written.ready_timeout.as_ref();
        let ready_timeout = time(
            "juicefs.ready_timeout",
            ready_timeout,
            60_000,
            &mut self.ledger,
        );
        let stop_timeout = written.stop_timeout.as_ref();
        let stop_timeout = time(
            "juicefs.stop_timeout",
            stop_timeout,
            60_000,
            &mut self.ledger,
        );
        Component {
            ready: Some(Ready::Asked(asked(volume, "ready", None))),
            ready_timeout: (!ready_timeout.is_zero()).then_some(ready_timeout),
            liveness: Some(asked(volume, "ready", Some(LIVENESS))),
            on_failure,
            stop_timeout,
            ..component(COMPONENT, volume.command("mount"))
        }
    }
}

/// A step that tells whether something can be used: at the start, or `interval` by interval, when
/// three bad answers in a row count.
fn asked(volume: &Volume, step: &str, interval: Option<Duration>) -> Probe {
    Probe {
        check: Check::Command(volume.command(step)),
        interval,
        timeout: Some(ANSWER),
        threshold: if interval.is_some() { 3 } else { 1 },
    }
}

/// What mounts the image on the volume that `mount` serves.
fn image_component(volume: &Volume, mount: &Component) -> Component {
    Component {
        ready: Some(Ready::Asked(asked(volume, "image-ready", None))),
        ready_timeout: mount.ready_timeout,
        liveness: Some(asked(volume, "image-ready", Some(LIVENESS))),
        on_failure: mount.on_failure,
        // What is left is written to JuiceFS.
        stop_timeout: mount.stop_timeout,
        ..component(IMAGE, volume.command("image"))
    }
}

/// A service that carries the storage, and is like any other besides.
fn component(name: &str, start_command: Vec<String>) -> Component {
    Component {
        name: name.to_owned(),
        start_command,
        kind: Kind::Service,
        schedule: None,
        ready: None,
        ready_timeout: None,
        readiness: None,
        liveness: None,
        checkpoint_command: None,
        restore_command: None,
        needs: Vec::new(),
        on_failure: OnFailure::Shutdown,
        backoff: Backoff::default(),
        max_restarts: 5,
        working_dir: None,
        environment: BTreeMap::new(),
        user: None,
        attributes: Attributes::default(),
        limits: crate::cgroups::ResourceLimits::default(),
        storage: true,
        listen: Vec::new(),
        success_exit_codes: Vec::new(),
        stop_signal: libc::SIGTERM,
        stop_command: None,
        pre_stop: None,
        stop_timeout: Duration::from_secs(10),
    }
}
