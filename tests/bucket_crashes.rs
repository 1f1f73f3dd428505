//! Killed at every request to the bucket, before the service has it and before its answer comes,
//! and at every fault point of a start that takes over what a bucket has: what was promised is there,
//! on the same machine and after its loss.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::crashes::{Killed, MAIN, Met, Operation, kill_main, killed_at, points};
use crate::support::bucket::{Gate, Moment, Service, durable, tree, wait_until};
use crate::support::fault_points::{chosen, counted};
use crate::support::{Daemon, PATIENCE, Sprite, is_alive, json, store, trees};

/// A life that uses the bucket in every way; what was promised to it, and what was asked for.
#[derive(Default)]
struct Life {
    /// How the directory was at each checkpoint that there may be.
    states: BTreeMap<String, trees::Looks>,
    durable: Vec<String>,
    /// Whether v0 is removed, as it was answered.
    removed: bool,
}

impl Life {
    /// Lives until the daemon is killed, or to the end.
    fn live(&mut self, daemon: &mut Daemon) -> Option<()> {
        let begun = Instant::now();
        daemon.wait_running_or_end().then_some(())?;
        let client = daemon.client();
        for round in 0..3_u8 {
            write_noise(daemon, "file");
            let id = format!("v{round}");
            self.states.insert(id.clone(), tree(daemon));
            let answer = client.attempt_with("POST", "/checkpoint", b"{\"wait\": \"durable\"}")?;
            let lines = answer.lines();
            if lines.last().is_some_and(|last| last["type"] == "complete") {
                self.durable.push(id);
            }
        }
        self.durable.retain(|id| id != "v0");
        let answer = client.attempt("DELETE", "/checkpoints/v0")?;
        self.removed = answer.status == 204;
        let mut status = client.attempt("GET", "/status")?.json();
        while status["replication"]["phase"] != "idle" {
            wait_a_little(begun, daemon);
            status = client.attempt("GET", "/status")?.json();
        }
        daemon.terminate();
        (daemon.wait_without_output() == 143).then_some(())
    }

    /// That all promises were kept.
    fn check(&self, daemon: &Daemon, why: &str) {
        let there = daemon.client().checkpoint_ids(false);
        for id in &self.durable {
            assert!(there.contains(id), "{why}: {id} is lost: {there:?}");
        }
        assert!(!self.removed || !there.contains(&"v0".to_owned()), "{why}");
        // In the end the newest is what comes back on another machine.
        for id in there.into_iter().rev() {
            let last = daemon.client().restore(&id);
            assert_eq!(last["type"], "complete", "{why}: {id}: {last}");
            assert_eq!(tree(daemon), self.states[&id], "{why}: {id}");
        }
    }
}

fn write_noise(daemon: &Daemon, name: &str) {
    let noise = trees::noise(&mut fastrand::Rng::new(), 70_000);
    fs::write(daemon.sprite.fs().join(name), noise).unwrap();
}

/// There is no event to wait on for what the bucket has.
fn wait_a_little(begun: Instant, daemon: &Daemon) {
    assert!(begun.elapsed() < PATIENCE, "{}", daemon.output.text());
    std::thread::sleep(Duration::from_millis(5));
}

fn start(sprite: Sprite) -> Daemon {
    sprite.script(MAIN).api().start()
}

/// Kills it, and its process with it, if they still run; what is left.
fn killed(mut daemon: Daemon) -> Sprite {
    daemon.kill();
    daemon.wait_without_output();
    let sprite = daemon.into_sprite();
    kill_main(&sprite);
    sprite
}

/// Nobody waits for the end of a lease here.
fn end_lease(service: &Service, prefix: &str) {
    service.delete(&format!("{prefix}/lease.json"));
}

fn sprite(gate: &Gate, prefix: &str) -> Sprite {
    gate.sprite_with(&json!({"s3": {"prefix": prefix}}))
}

/// Kills before each chosen request, and before its answer; and a count of those that met.
fn moments(requests: Vec<String>) -> (Vec<Moment>, Met) {
    let mut found = counted(requests.into_iter());
    for (name, count) in &mut found {
        // How often it is renewed is a matter of time.
        if name.ends_with("lease.json") {
            *count = 1;
        }
    }
    let moments = chosen(&found).into_iter().flat_map(|request| {
        [false, true].map(|is_done| Moment {
            request: request.clone(),
            is_done,
        })
    });
    (moments.collect(), Met::new(found))
}

#[test]
fn replication_killed_at_every_request() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    let mut daemon = start(sprite(&gate, "traced"));
    let whole = Life::default().live(&mut daemon);
    assert!(whole.is_some(), "{}", daemon.output.text());
    let (moments, mut met) = moments(gate.requests());
    for (number, moment) in moments.iter().enumerate() {
        let prefix = format!("killed-{number}");
        let gate = service.gate();
        let mut life = Life::default();
        let mut daemon = start(sprite(&gate, &prefix));
        gate.ambush(daemon.pid(), moment);
        met.add(life.live(&mut daemon).is_none());
        let left = killed(daemon);
        let why = moment.to_string();
        end_lease(&service, &prefix);

        let daemon = left.idle();
        life.check(&daemon, &why);
        wait_until(&daemon, "all is in the bucket", || {
            is_replicated(&service, &daemon, &prefix)
        });
        life.durable = daemon.client().checkpoint_ids(false);
        drop(daemon.crash());
        end_lease(&service, &prefix);
        let daemon = sprite(&service.gate(), &prefix).idle();
        life.check(&daemon, &format!("{why}, elsewhere"));
    }
}

/// Whether the bucket has all that the store has.
fn is_replicated(service: &Service, daemon: &Daemon, prefix: &str) -> bool {
    let log = store::try_files(&daemon.sprite.path("data/store/log"));
    let last = log.last().and_then(|path| path.file_name()?.to_str());
    let keys = service.keys(&format!("{prefix}/log/"));
    keys.last().and_then(|key| key.rsplit('/').next()) == last
}

/// What a lost machine has left in a bucket: two checkpoints, and how the directory was.
struct Lost {
    service: Service,
    life: Life,
    /// By their keys below the prefix.
    objects: BTreeMap<String, Vec<u8>>,
    machines: Cell<usize>,
}

/// A machine with an empty disk, and a bucket as it was left.
struct Machine {
    sprite: Sprite,
    gate: Gate,
    prefix: String,
}

impl Lost {
    fn new() -> Option<Self> {
        let service = Service::start()?;
        let mut life = Life::default();
        let daemon = sprite(&service.gate(), "lost").idle();
        for id in ["v0", "v1"] {
            write_noise(&daemon, id);
            assert_eq!(durable(&daemon)["checkpoint_id"], id);
            life.states.insert(id.to_owned(), tree(&daemon));
            life.durable.push(id.to_owned());
        }
        drop(daemon.crash());
        end_lease(&service, "lost");
        let keys = service.keys("lost/").into_iter();
        let objects = keys.map(|key| {
            let below = key.strip_prefix("lost/").unwrap();
            (below.to_owned(), service.get(&key))
        });
        let objects = objects.collect();
        Some(Self {
            service,
            life,
            objects,
            machines: Cell::default(),
        })
    }

    fn machine(&self) -> Machine {
        let prefix = format!("lost-{}", self.machines.replace(self.machines.get() + 1));
        for (key, bytes) in &self.objects {
            self.service.put(&format!("{prefix}/{key}"), bytes);
        }
        let gate = self.service.gate();
        Machine {
            sprite: sprite(&gate, &prefix),
            gate,
            prefix,
        }
    }

    /// That another start, on this disk or on another empty one, brings everything back.
    fn check(&self, sprite: Sprite, prefix: &str, why: &str) {
        end_lease(&self.service, prefix);
        let daemon = sprite.idle();
        assert_eq!(tree(&daemon), self.life.states["v1"], "{why}");
        self.life.check(&daemon, why);
        drop(daemon.crash());
    }
}

#[test]
fn a_start_on_an_empty_disk_killed_at_every_request() {
    let Some(lost) = Lost::new() else {
        return;
    };
    let machine = lost.machine();
    let daemon = machine.sprite.idle();
    wait_until(&daemon, "all is in the bucket", || {
        is_replicated(&lost.service, &daemon, &machine.prefix)
    });
    let (moments, mut met) = moments(machine.gate.requests());
    drop(daemon.crash());
    for moment in &moments {
        let machine = lost.machine();
        let mut daemon = start(machine.sprite);
        machine.gate.ambush(daemon.pid(), moment);
        daemon.wait_running_or_end();
        let (begun, prefix) = (Instant::now(), &machine.prefix);
        while is_alive(daemon.pid()) && !is_replicated(&lost.service, &daemon, prefix) {
            wait_a_little(begun, &daemon);
        }
        met.add(!is_alive(daemon.pid()));
        let left = killed(daemon);
        // And a machine that is lost meanwhile changes nothing.
        let next = if moment.is_done {
            sprite(&lost.service.gate(), prefix)
        } else {
            left
        };
        lost.check(next, prefix, &moment.to_string());
    }
}

#[test]
fn a_start_on_an_empty_disk_killed_anywhere() {
    let Some(lost) = Lost::new() else {
        return;
    };
    let Some((found, daemon)) = points(lost.machine().sprite, Operation::Start) else {
        return;
    };
    drop(daemon.crash());
    let chosen = chosen(&found);
    let mut met = Met::new(found);
    for point in chosen {
        let machine = lost.machine();
        let Killed {
            sprite, has_met, ..
        } = killed_at(machine.sprite, Operation::Start, &point);
        met.add(has_met);
        lost.check(sprite, &machine.prefix, &point.to_string());
    }
}
