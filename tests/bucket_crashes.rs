//! Killed at every request to the bucket, before the service has it and before its answer comes,
//! and at every fault point of a start that takes over what a bucket has: what was promised is there,
//! on the same machine and after its loss.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::crashes::{MAIN, Met, Operation, kill_main, killed_at, points};
use crate::support::bucket::{Gate, Moment, Service, durable, tree, wait_until};
use crate::support::fault_points::{chosen, counted};
use crate::support::{Daemon, Sprite, Value, is_alive, json, store};

type Looks = BTreeMap<PathBuf, String>;

/// A life that uses the bucket in every way; what was promised to it, and what was asked for.
#[derive(Default)]
struct Life {
    /// How the directory was at each checkpoint that there may be.
    states: BTreeMap<String, Looks>,
    durable: Vec<String>,
    removed: Vec<String>,
}

impl Life {
    /// Lives until the daemon is killed, or to the end.
    fn live(&mut self, daemon: &mut Daemon) -> Option<()> {
        daemon.wait_running_or_end().then_some(())?;
        let client = daemon.client();
        for round in 0..3_u8 {
            let noise = std::iter::repeat_with(|| fastrand::u8(..));
            let content: Vec<u8> = noise.take(70_000).collect();
            fs::write(daemon.sprite.fs().join("file"), content).unwrap();
            let id = format!("v{round}");
            self.states.insert(id.clone(), tree(daemon));
            let answer = client.attempt_with("POST", "/checkpoint", b"{\"wait\": \"durable\"}")?;
            let lines = answer.lines();
            if lines.last().is_some_and(|last| last["type"] == "complete") {
                self.durable.push(id);
            }
        }
        self.removed.push("v0".to_owned());
        self.durable.retain(|id| id != "v0");
        client.attempt("DELETE", "/checkpoints/v0")?;
        let is_idle = |status: &Value| status["replication"]["phase"] == "idle";
        while !is_idle(&client.attempt("GET", "/status")?.json()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon.terminate();
        daemon.wait_without_output();
        Some(())
    }

    /// That all promises were kept.
    fn check(&self, daemon: &Daemon, why: &str) {
        let there = daemon.client().checkpoint_ids(false);
        for id in &self.durable {
            assert!(there.contains(id), "{why}: {id} is lost: {there:?}");
        }
        // In the end the newest is what comes back on another machine.
        for id in there.into_iter().rev() {
            let last = daemon.client().restore(&id);
            assert_eq!(last["type"], "complete", "{why}: {id}: {last}");
            assert_eq!(tree(daemon), self.states[&id], "{why}: {id}");
        }
    }
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

/// Kills before each chosen request, and before its answer.
fn moments(requests: Vec<String>) -> Vec<Moment> {
    let found = counted(requests.into_iter());
    for (name, count) in &found {
        println!("{count:4} {name}");
    }
    let moments = chosen(&found).into_iter().flat_map(|request| {
        [false, true].map(|is_done| Moment {
            request: request.clone(),
            is_done,
        })
    });
    moments.collect()
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
    let moments = moments(gate.requests());
    let mut met = 0;
    for (number, moment) in moments.iter().enumerate() {
        let prefix = format!("killed-{number}");
        gate.requests();
        let mut life = Life::default();
        let mut daemon = start(sprite(&gate, &prefix));
        gate.ambush(daemon.pid(), moment);
        met += usize::from(life.live(&mut daemon).is_none());
        let left = killed(daemon);
        let why = moment.to_string();
        gate.requests();
        end_lease(&service, &prefix);

        let daemon = left.idle();
        life.check(&daemon, &why);
        wait_until(&daemon, "all is in the bucket", || {
            is_replicated(&service, &daemon, &prefix)
        });
        life.durable = daemon.client().checkpoint_ids(false);
        drop(daemon.crash());
        end_lease(&service, &prefix);
        let daemon = sprite(&gate, &prefix).idle();
        life.check(&daemon, &format!("{why}, elsewhere"));
    }
    println!("{met} of {} kills met", moments.len());
    assert!(met * 10 >= moments.len() * 8, "{met} of {}", moments.len());
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
    gate: Gate,
    life: Life,
    objects: BTreeMap<String, Vec<u8>>,
}

impl Lost {
    fn new() -> Option<Self> {
        let service = Service::start()?;
        let gate = service.gate();
        let mut life = Life::default();
        let daemon = sprite(&gate, "lost").idle();
        for id in ["v0", "v1"] {
            let noise = std::iter::repeat_with(|| fastrand::u8(..));
            let content: Vec<u8> = noise.take(70_000).collect();
            fs::write(daemon.sprite.fs().join(id), content).unwrap();
            assert_eq!(durable(&daemon)["checkpoint_id"], id);
            life.states.insert(id.to_owned(), tree(&daemon));
            life.durable.push(id.to_owned());
        }
        drop(daemon.crash());
        end_lease(&service, "lost");
        let keys = service.keys("lost/").into_iter();
        let objects = keys.map(|key| (key.clone(), service.get(&key))).collect();
        Some(Self {
            service,
            gate,
            life,
            objects,
        })
    }

    /// A machine with an empty disk; the bucket is as it was left.
    fn machine(&self) -> Sprite {
        for key in self.service.keys("lost/") {
            if !self.objects.contains_key(&key) {
                self.service.delete(&key);
            }
        }
        for (key, bytes) in &self.objects {
            self.service.put(key, bytes);
        }
        self.gate.requests();
        sprite(&self.gate, "lost")
    }

    /// That another start, on this disk or on another empty one, brings everything back.
    fn check(&self, sprite: Sprite, why: &str) {
        self.gate.requests();
        end_lease(&self.service, "lost");
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
    let sent = |daemon: &Daemon| is_replicated(&lost.service, daemon, "lost");
    let daemon = lost.machine().idle();
    wait_until(&daemon, "all is in the bucket", || sent(&daemon));
    let moments = moments(lost.gate.requests());
    drop(daemon.crash());
    let mut met = 0;
    for moment in &moments {
        let mut daemon = start(lost.machine());
        lost.gate.ambush(daemon.pid(), moment);
        daemon.wait_running_or_end();
        while is_alive(daemon.pid()) && !sent(&daemon) {
            std::thread::sleep(Duration::from_millis(5));
        }
        met += usize::from(!is_alive(daemon.pid()));
        let left = killed(daemon);
        // And a machine that is lost meanwhile changes nothing.
        let next = if moment.is_done {
            sprite(&lost.gate, "lost")
        } else {
            left
        };
        lost.check(next, &moment.to_string());
    }
    println!("{met} of {} kills met", moments.len());
    assert!(met * 10 >= moments.len() * 8, "{met} of {}", moments.len());
}

#[test]
fn a_start_on_an_empty_disk_killed_anywhere() {
    let Some(lost) = Lost::new() else {
        return;
    };
    let Some((found, daemon)) = points(lost.machine(), Operation::Start) else {
        return;
    };
    drop(daemon.crash());
    let mut met = Met::new(found);
    for point in met.chosen.clone() {
        let (sprite, done) = killed_at(lost.machine(), Operation::Start, &point);
        met.add(done);
        lost.check(sprite, &point.to_string());
    }
}
