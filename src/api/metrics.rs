//! `GET /metrics`: what there is to count, as OpenMetrics.

use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::Shared;
use super::checkpoints::{metadata_replication, replication};
use super::problem::Problem;
use crate::cgroups::{Cgroup, Usage};
use crate::supervise::Status;
use crate::supervise::status::{Part, Phase};

/// The type of the answer (OpenMetrics 1.0).
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A label and its value, or no label.
type Labels = Vec<(&'static str, String)>;

/// All there is.
pub async fn get(State(shared): State<Shared>) -> Result<impl IntoResponse, Problem> {
    // Files of the kernel are read, and the list of the checkpoints.
    let text = tokio::task::spawn_blocking(move || text(&shared)).await;
    let text = text.map_err(|panic| Problem::unavailable(panic.to_string()))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

fn text(shared: &Shared) -> String {
    let mut metrics = Metrics(Registry::with_prefix("sprite"));
    let status = shared.handle.status().borrow().clone();
    system(shared, &status, &mut metrics);
    let process = [(String::new(), &status.process, Cgroup::Process)];
    children("process", &process, shared, &mut metrics);
    let config = std::sync::Arc::clone(&shared.reloader.live().borrow());
    let components = status
        .components
        .iter()
        .filter_map(|(name, part)| Some((name.clone(), part, config.component(name)?.cgroup())));
    let components: Vec<_> = components.collect();
    children("component", &components, shared, &mut metrics);
    checkpoints(shared, &mut metrics);
    let mut text = String::new();
    // To write to a text does not fail.
    let _ = encode(&mut text, &metrics.0);
    text
}

fn system(shared: &Shared, status: &Status, metrics: &mut Metrics) {
    let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    metrics.0.register("build", "This program", version);
    let phases = Phase::ALL.into_iter().map(|phase| {
        let is_it = f64::from(u8::from(phase == status.phase));
        (vec![("phase", phase.name().to_owned())], is_it)
    });
    metrics.gauges("phase", "1 for what the system is doing", phases);
    let is_ready = u8::from(status.is_ready());
    metrics.gauge("ready", "Whether all is up, as /readyz tells", is_ready);
    let sessions = u32::try_from(shared.runner.sessions().count()).unwrap_or(u32::MAX);
    metrics.gauge("sessions", "Commands that run", sessions);
    let tally = *shared.reaper.tally().borrow();
    let counts = [
        (
            "steps",
            "Steps of the machines",
            *shared.ring.last().borrow(),
        ),
        (
            "stale_events",
            "Events of what had been replaced",
            status.stale_events,
        ),
        ("reaped", "Children that were reaped", tally.reaped),
        ("orphans_reaped", "Of these, orphans", tally.orphans),
        (
            "log_lines",
            "Lines of components",
            *shared.logs.last().borrow(),
        ),
    ];
    for (name, help, count) in counts {
        metrics.counters(name, help, [(vec![], as_f64(count))]);
    }
}

/// The main process, or the components: how each does, and what it uses.
fn children(
    kind: &str,
    children: &[(String, &Part, Cgroup)],
    shared: &Shared,
    metrics: &mut Metrics,
) {
    let labels = |name: &String| match name.as_str() {
        "" => vec![],
        name => vec![("component", name.to_owned())],
    };
    let of_parts = |value: fn(&Part) -> f64| {
        let parts = children.iter();
        parts.map(move |(name, part, _)| (labels(name), value(part)))
    };
    let usages = children.iter().filter_map(|(name, _, cgroup)| {
        let usage = shared.cgroups.as_ref()?.usage(cgroup);
        Some((labels(name), usage))
    });
    let usages: Vec<_> = usages.collect();
    let of_usages = |value: fn(&Usage) -> Option<f64>| {
        let usages = usages.iter();
        usages.filter_map(move |(labels, usage)| Some((labels.clone(), value(usage)?)))
    };
    let name = |what: &str| format!("{kind}_{what}");
    let help = "Whether it is up, or has done what it is there for";
    let is_up = of_parts(|part| {
        let states = ["Up > Running", "Up > Working"];
        flag(part.is_up() || states.contains(&part.state.as_str()))
    });
    metrics.gauges(&name("up"), help, is_up);
    let runs = of_parts(|part| flag(part.pid.is_some()));
    metrics.gauges(&name("running"), "Whether it has a process", runs);
    let uptime = of_parts(|part| {
        let uptime = part.uptime.map(|start| start.elapsed());
        uptime.unwrap_or_default().as_secs_f64()
    });
    metrics.gauges(
        &name("uptime_seconds"),
        "How long its process has run",
        uptime,
    );
    let restarts = of_parts(|part| f64::from(part.restarts));
    let help = "Restarts since it was last healthy";
    metrics.gauges(&name("restarts"), help, restarts);
    let starts = of_parts(|part| as_f64(part.starts));
    metrics.counters(&name("starts"), "How often it was started", starts);
    let cpu = of_usages(|usage| Some(usage.cpu?.as_secs_f64()));
    let help = "Processor time of its cgroup";
    metrics.counters(&name("cpu_seconds"), help, cpu);
    let memory = of_usages(|usage| usage.memory.map(as_f64));
    let help = "Memory of its cgroup";
    metrics.gauges(&name("memory_bytes"), help, memory);
    let processes = of_usages(|usage| Some(f64::from(usage.processes)));
    let help = "Processes in its cgroup";
    metrics.gauges(&name("processes"), help, processes);
}

fn checkpoints(shared: &Shared, metrics: &mut Metrics) {
    let Some(driver) = &shared.driver else {
        return;
    };
    if let Ok(found) = driver.list(true) {
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        metrics.gauge("checkpoints", "Checkpoints that there are", count);
        let times = found
            .iter()
            .flat_map(|it| it.create_time.parse::<Timestamp>());
        if let Some(newest) = times.max() {
            let help = "When the newest checkpoint was taken";
            let seconds = newest.as_duration().as_secs_f64();
            metrics.gauge("checkpoint_newest_timestamp_seconds", help, seconds);
        }
    }
    if let Some(replication) = replication(shared) {
        let left = u32::try_from(replication.checkpoints_left).unwrap_or(u32::MAX);
        let help = "Checkpoints that are not in the bucket yet";
        metrics.gauge("replication_checkpoints_left", help, left);
        let left = as_f64(replication.bytes_left);
        let help = "Bytes of them that are not";
        metrics.gauge("replication_bytes_left", help, left);
    }
    let Some(replication) = metadata_replication(shared) else {
        return;
    };
    if let Some(left) = replication.bytes_left {
        let help = "Bytes of changes of the volume's metadata that are not in the bucket yet";
        metrics.gauge("metadata_replication_bytes_left", help, as_f64(left));
    }
    let since = replication.behind_since.map(|since| since.parse());
    let age = |since| Timestamp::now().duration_since(since).as_secs_f64();
    let lag = match since {
        Some(Ok(since)) => age(since),
        _ => 0.0,
    };
    let help = "For how long there have been any";
    metrics.gauge("metadata_replication_lag_seconds", help, lag);
}

/// Metrics on their way into an answer.
struct Metrics(Registry);

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, value: impl Into<f64>) {
        self.gauges(name, help, [(vec![], value.into())]);
    }

    /// Numbers that go up and down, each with its labels.
    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        self.family::<Gauge<f64, AtomicU64>>(name, help, values, |gauge, value| {
            gauge.set(value);
        });
    }

    /// The same for numbers that only go up.
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        self.family::<Counter<f64, AtomicU64>>(name, help, values, |counter, value| {
            counter.inc_by(value);
        });
    }

    /// Without values there is no such metric.
    fn family<M: Metric + TypedMetric + Default>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, f64)>,
        set: fn(&M, f64),
    ) {
        let family = Family::<Labels, M>::default();
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return;
        }
        for (labels, value) in values {
            set(&*family.get_or_create(&labels), value);
        }
        self.0.register(name, help, family);
    }
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

#[allow(
    clippy::cast_precision_loss,
    reason = "there is no other number in this format"
)]
const fn as_f64(number: u64) -> f64 {
    number as f64
}
