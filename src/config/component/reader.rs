//! From a component as it is written to what is meant.

use std::path::PathBuf;
use std::time::Duration;

use machines::component::{Kind, OnFailure};
use serde_json::json;

use super::attributes::attributes;
use super::limits::limits;
use super::probe::{self, Probe, Ready, Schedule};
use super::{Backoff, Component, command, environment, time, user};
use crate::config::Listen;
use crate::config::origin::{Ledger, Origin, from_file};
use crate::config::raw::{self, Text};
use crate::config::signal;
use crate::config::value::{GoDuration, Value};

const DEFAULT_MAX_RESTARTS: u8 = 5;

/// Reads component `name`; `names` are all components, in order.
pub fn check(name: &str, raw: &raw::Component, names: &[&str], ledger: &mut Ledger) -> Component {
    let key = |field: &str| format!("components.{name}.{field}");
    let mut reader = Reader { ledger, name };
    let start_command = reader.command("start_command", raw.start_command.as_ref());
    if start_command.is_none() && raw.start_command.is_none() {
        let why = "missing; give the program and its arguments, such as [\"/scripts/start.sh\"]";
        reader.ledger.wrong(&key("start_command"), why);
    }
    let (kind, schedule) = reader.kind(raw);
    let patience = if kind == Kind::Service { 60_000 } else { 0 };
    let ready_timeout = reader.time("ready_timeout", raw.ready_timeout.as_ref(), patience);
    let written = raw.backoff.clone().unwrap_or_default();
    let stop_signal = reader.stop_signal(raw.stop_signal.as_ref());
    Component {
        name: name.to_owned(),
        start_command: start_command.unwrap_or_default(),
        kind,
        schedule,
        ready: reader.ready(raw, kind),
        ready_timeout: (!ready_timeout.is_zero()).then_some(ready_timeout),
        readiness: reader.standing("readiness", raw.readiness.as_ref(), kind),
        liveness: reader.standing("liveness", raw.liveness.as_ref(), kind),
        checkpoint_command: reader.command("checkpoint_command", raw.checkpoint_command.as_ref()),
        restore_command: reader.command("restore_command", raw.restore_command.as_ref()),
        needs: reader.needs(raw.needs.as_deref().unwrap_or_default(), names),
        on_failure: reader.on_failure(raw.on_failure, kind),
        backoff: reader.backoff(&written),
        max_restarts: reader.ledger.pick(
            &key("backoff.max_restarts"),
            [from_file(written.max_restarts.as_ref())],
            DEFAULT_MAX_RESTARTS,
        ),
        working_dir: reader
            .ledger
            .pick_optional(&key("working_dir"), [from_file(raw.working_dir.as_ref())])
            .map(PathBuf::from),
        environment: environment(&key("environment"), raw.environment.as_ref(), reader.ledger),
        user: user(&key("user"), raw.user.as_ref(), reader.ledger),
        attributes: attributes(&key("attributes"), raw.attributes.as_ref(), reader.ledger),
        limits: limits(&key("limits"), raw.limits.as_ref(), reader.ledger),
        storage: reader.storage(raw, kind),
        listen: reader.listen(raw),
        success_exit_codes: probe::success_exit_codes(
            &key("success_exit_codes"),
            raw.success_exit_codes.as_ref(),
            reader.ledger,
        ),
        stop_signal,
        stop_command: reader.command("stop_command", raw.stop_command.as_ref()),
        pre_stop: probe::hook(&key("pre_stop"), raw.pre_stop.as_ref(), reader.ledger),
        stop_timeout: reader.time("stop_timeout", raw.stop_timeout.as_ref(), 10_000),
    }
}

struct Reader<'a> {
    ledger: &'a mut Ledger,
    name: &'a str,
}

impl Reader<'_> {
    fn key(&self, field: &str) -> String {
        format!("components.{}.{field}", self.name)
    }

    fn command(&mut self, field: &str, written: Option<&Vec<Text>>) -> Option<Vec<String>> {
        command(&self.key(field), written, self.ledger)
    }

    fn time(&mut self, field: &str, written: Option<&Value<GoDuration>>, ms: u64) -> Duration {
        time(&self.key(field), written, ms, self.ledger)
    }

    fn kind(&mut self, raw: &raw::Component) -> (Kind, Option<Schedule>) {
        let types = [from_file(raw.kind.as_ref())];
        let text = self.ledger.pick_optional(&self.key("type"), types);
        let times = [from_file(raw.schedule.as_ref())];
        let times = self.ledger.pick_optional(&self.key("schedule"), times);
        let kind = match text.as_deref() {
            None | Some("service") => Kind::Service,
            Some("oneshot") => Kind::Oneshot,
            Some(other) => {
                let why = format!("\"{other}\" is none; there are service and oneshot");
                self.ledger.wrong(&self.key("type"), why);
                Kind::Service
            }
        };
        let Some(times) = times else {
            return (kind, None);
        };
        if text.as_deref() == Some("service") {
            let why = "a service stays up and runs at no times; leave out one of type and schedule";
            self.ledger.wrong(&self.key("schedule"), why);
        }
        let schedule = Schedule::parse(&times);
        let schedule = schedule.map_err(|why| self.ledger.wrong(&self.key("schedule"), why));
        (Kind::Scheduled, schedule.ok())
    }

    fn storage(&mut self, raw: &raw::Component, kind: Kind) -> bool {
        let key = self.key("storage");
        let storage = [from_file(raw.storage.as_ref())];
        let storage = self.ledger.pick(&key, storage, false);
        if storage && kind == Kind::Scheduled {
            let why = "what runs at its times cannot carry the storage";
            self.ledger.wrong(&key, why);
        }
        if storage && matches!(raw.on_failure, Some(raw::FailurePolicy::Ignore)) {
            let why = "nothing goes on without the storage; give shutdown or restart";
            self.ledger.wrong(&self.key("on_failure"), why);
        }
        storage
    }

    fn ready(&mut self, raw: &raw::Component, kind: Kind) -> Option<Ready> {
        let command = self.command("ready_command", raw.ready_command.as_ref());
        let key = self.key("ready");
        if kind != Kind::Service && (command.is_some() || raw.ready.is_some()) {
            let why = "means nothing for what ends by itself; its exit code tells";
            self.ledger.wrong(&key, why);
        }
        match (command, &raw.ready) {
            (Some(_), Some(_)) => {
                self.ledger
                    .wrong(&key, "is given beside ready_command; keep one");
                None
            }
            (Some(command), None) => Some(Ready::Asked(Probe {
                check: probe::Check::Command(command),
                interval: None,
                timeout: None,
                threshold: 1,
            })),
            (None, Some(raw)) => probe::ready(&key, raw, self.ledger),
            (None, None) => None,
        }
    }

    fn standing(&mut self, field: &str, raw: Option<&raw::Probe>, kind: Kind) -> Option<Probe> {
        let key = self.key(field);
        let raw = raw?;
        if kind != Kind::Service {
            self.ledger
                .wrong(&key, "means nothing for what ends by itself");
        }
        probe::standing(&key, raw, self.ledger)
    }

    fn listen(&mut self, raw: &raw::Component) -> Vec<Listen> {
        let key = self.key("listen");
        let written = raw.listen.iter().flatten();
        let addresses: Vec<_> = written.map(|text| text.value.clone()).collect();
        let mut sockets = Vec::new();
        for address in &addresses {
            match Listen::parse(address, &self.ledger.base_dir) {
                Ok(socket) => sockets.push(socket),
                Err(why) => self.ledger.wrong(&key, why),
            }
        }
        let room = probe::DESCRIPTORS.count();
        if addresses.len() > room {
            let why = format!("there is room for {room} sockets");
            self.ledger.wrong(&key, why);
        }
        let fd = raw.ready.as_ref().and_then(|ready| ready.fd.as_ref());
        if fd.is_some_and(|fd| fd.value < 3 + addresses.len() as u64) {
            let why = "this descriptor is one of the sockets that listen gives; take a higher one";
            self.ledger.wrong(&self.key("ready.fd"), why);
        }
        let origin = raw
            .listen
            .as_ref()
            .map_or(Origin::Default, |_| Origin::File);
        let shown = json!(addresses);
        self.ledger.note(&key, sockets, shown, origin)
    }

    fn on_failure(&mut self, written: Option<raw::FailurePolicy>, kind: Kind) -> OnFailure {
        let origin = written.map_or(Origin::Default, |_| Origin::File);
        let default = match kind {
            Kind::Scheduled => OnFailure::Ignore,
            Kind::Service | Kind::Oneshot => OnFailure::Shutdown,
        };
        let policy = written.map_or(default, Into::into);
        if kind == Kind::Scheduled && policy == OnFailure::Restart {
            let why =
                "what has a schedule is started again at its next time; give ignore or shutdown";
            self.ledger.wrong(&self.key("on_failure"), why);
        }
        let shown = format!("{policy:?}").to_lowercase().into();
        self.ledger
            .note(&self.key("on_failure"), policy, shown, origin)
    }

    fn stop_signal(&mut self, written: Option<&Text>) -> i32 {
        let key = self.key("stop_signal");
        let text = self
            .ledger
            .pick(&key, [from_file(written)], "TERM".to_owned());
        signal::parse(&text).unwrap_or_else(|| {
            self.ledger.wrong(&key, format!("\"{text}\" is no signal"));
            libc::SIGTERM
        })
    }

    fn needs(&mut self, written: &[String], names: &[&str]) -> Vec<usize> {
        let key = self.key("needs");
        let mut needs = Vec::new();
        for need in written {
            match names.iter().position(|name| name == need) {
                Some(_) if need == self.name => {
                    self.ledger.wrong(&key, "a component cannot need itself");
                }
                Some(id) => needs.push(id),
                None => {
                    let hint = super::super::error::nearest(need, names)
                        .map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
                    let why = format!("there is no component \"{need}\"{hint}");
                    self.ledger.wrong(&key, why);
                }
            }
        }
        let origin = if written.is_empty() {
            Origin::Default
        } else {
            Origin::File
        };
        self.ledger.note(&key, needs, json!(written), origin)
    }

    fn backoff(&mut self, written: &raw::Backoff) -> Backoff {
        let default = Backoff::default();
        let min = self.time("backoff.min", written.min.as_ref(), 500);
        let max = self.time("backoff.max", written.max.as_ref(), 30_000);
        let (factor, jitter) = (self.key("backoff.factor"), self.key("backoff.jitter"));
        let backoff = Backoff {
            min,
            max,
            factor: self.ledger.pick(
                &factor,
                [from_file(written.factor.as_ref())],
                default.factor,
            ),
            jitter: self.ledger.pick(
                &jitter,
                [from_file(written.jitter.as_ref())],
                default.jitter,
            ),
            reset_after: self.time("backoff.reset_after", written.reset_after.as_ref(), 60_000),
        };
        if backoff.factor < 1.0 || !backoff.factor.is_finite() {
            self.ledger.wrong(&factor, "must be 1 or more");
        }
        if !(0.0..=1.0).contains(&backoff.jitter) {
            self.ledger.wrong(&jitter, "must be from 0 to 1");
        }
        if backoff.max < backoff.min {
            let why = "must not be less than backoff.min";
            self.ledger.wrong(&self.key("backoff.max"), why);
        }
        backoff
    }
}
