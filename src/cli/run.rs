//! The daemon: everything is put together here, and runs until the main process or a
//! signal ends it.

mod cgroups;
mod signals;
mod store;

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::store::Kept;
use super::logging;
use crate::api::{self, Shared};
use crate::cgroups::Cgroups;
use crate::config::{AtEnd, Component, Config, ConfigError, Flags, Listen, load};
use crate::exec::{Runner, Sessions};
use crate::files::Files;
use crate::network::{Namespace, Ports};
use crate::pid1::signals::Signals;
use crate::pid1::{self, init, is_pid_1, sweep};
use crate::reaper::Reaper;
use crate::spawn::{SECRET, Spawner};
use crate::supervise::output::{Sink, Writers};
use crate::supervise::outside::RealWorld;
use crate::supervise::reload::ReloaderParts;
use crate::supervise::sockets::Sockets;
use crate::supervise::status::Phase;
use crate::supervise::{EventLoop, Handle, Parts, Reloader, Status, automatic, handle};
use crate::sys::{self, SignalMask};
use crate::telemetry::logs::Logs;
use crate::telemetry::ring::Ring;

/// sysexits: the command line is wrong.
const USAGE: u8 = 64;
/// sysexits: something that should work does not.
const SOFTWARE: u8 = 70;
/// sysexits: a resource is not available.
const UNAVAILABLE: u8 = 69;
/// sysexits: the configuration is wrong.
const CONFIG: u8 = 78;

/// How long what our tasks have open may take to be closed, where something follows our end.
const CLOSING: Duration = Duration::from_secs(2);

/// Why the daemon could not begin.
#[derive(Debug)]
struct Failure {
    code: u8,
    why: String,
}

impl Failure {
    fn new(code: u8, why: impl std::fmt::Display) -> Self {
        let why = why.to_string();
        Self { code, why }
    }
}

/// Runs the daemon, and does what is to follow its end; returns its exit code.
pub fn run(flags: &Flags) -> u8 {
    let is_bare = init::see_where_we_are();
    let mut at_end = init::at_end(None);
    let run = AssertUnwindSafe(|| supervise(flags, is_bare, &mut at_end));
    // What is to follow follows a panic too: it was told by its hook.
    let code = std::panic::catch_unwind(run).unwrap_or(SOFTWARE);
    if at_end != AtEnd::Exit {
        complain(code, &format!("the end, with exit code {code}: {at_end}"));
    }
    let warn = |why: &str| {
        complain(UNAVAILABLE, why);
    };
    match init::end(at_end, warn) {
        Ok(()) => code,
        Err(error) => complain(UNAVAILABLE, &error.to_string()),
    }
}

/// What is to follow the end goes to `at_end`.
fn supervise(flags: &Flags, is_bare: bool, at_end: &mut AtEnd) -> u8 {
    // First of all, while there is one thread: no signal may be lost from here on.
    let mask = match sys::block_all_signals() {
        Ok(mask) => mask,
        Err(error) => return complain(SOFTWARE, &format!("cannot block signals: {error}")),
    };
    let config = match load(flags) {
        Ok(config) => Arc::new(config),
        Err(error) => return refuse(&error),
    };
    *at_end = init::at_end(config.init.at_end);
    match init::set_up(&config.init, is_bare) {
        Ok(warnings) => {
            for warning in warnings {
                complain(UNAVAILABLE, &warning.to_string());
            }
        }
        Err(error) => return complain(UNAVAILABLE, &error.to_string()),
    }
    if let Some(signal) = config.parent_death_signal
        && let Err(error) = pid1::end_with_parent(signal)
    {
        return complain(SOFTWARE, &format!("parent-death-signal: {error}"));
    }
    // Our children must not read the secrets in /proc/PID/environ.
    sys::hide_variables(SECRET);
    if config.process.command.is_empty() {
        let why = "there is nothing to run: give a command after --, or process_command in the \
                   configuration file";
        return complain(USAGE, why);
    }
    let is_given = config
        .components
        .iter()
        .any(Component::is_given_descriptors);
    if is_given && let Err(error) = sys::child_setup::reserve_descriptors() {
        return complain(SOFTWARE, &format!("cannot reserve descriptors: {error}"));
    }
    let log = logging::start(&config);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(SOFTWARE, &format!("cannot start the runtime: {error}")),
    };
    let start = Start {
        flags: flags.clone(),
        config,
        mask,
        sockets: Sockets::new(is_given),
    };
    let code = match runtime.block_on(daemon(start)) {
        Ok(code) => code,
        Err(failure) => {
            tracing::error!("{}", failure.why);
            failure.code
        }
    };
    drop(log);
    // A thread that is stuck in a system call must not hold us up; without one, what tasks have
    // open is closed, so that it can be unmounted.
    match *at_end {
        AtEnd::Exit => std::mem::forget(runtime),
        _ => runtime.shutdown_timeout(CLOSING),
    }
    code
}

/// What serves everybody. What we run needs processors too: where there are few, a second
/// thread of ours takes one from it, and each event is passed between the two.
fn runtime() -> std::io::Result<Runtime> {
    let processors = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    let workers = usize::try_from(processors / 2).map_or(4, |workers| workers.min(4));
    let mut builder = if workers > 1 {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.worker_threads(workers.max(1)).enable_all().build()
}

fn refuse(error: &ConfigError) -> u8 {
    complain(error.exit_code(), &error.to_string())
}

fn complain(code: u8, why: &str) -> u8 {
    for line in why.lines() {
        // Nobody may be there to read it; that is no reason to panic.
        let _ = writeln!(std::io::stderr(), "sprite-env: {line}");
    }
    code
}

/// What the daemon starts with.
struct Start {
    flags: Flags,
    config: Arc<Config>,
    mask: SignalMask,
    sockets: Sockets,
}

async fn daemon(start: Start) -> Result<u8, Failure> {
    let cgroups = cgroups::as_wanted(&start.config)?;
    let end = boot_and_serve(start, cgroups.clone()).await;
    if let Some(cgroups) = cgroups {
        cgroups.remove();
    }
    end
}

/// Starts children where we were started ourselves.
fn spawner(mask: SignalMask, cgroups: Option<Cgroups>) -> Result<Spawner, Failure> {
    let base_dir = std::env::current_dir()
        .map_err(|error| Failure::new(UNAVAILABLE, format!("cannot tell where we are: {error}")))?;
    // We ourselves must not keep a directory in use that a restore replaces.
    std::env::set_current_dir("/")
        .map_err(|error| Failure::new(UNAVAILABLE, format!("cannot go to /: {error}")))?;
    Ok(Spawner {
        reaper: Reaper::default(),
        mask,
        base_dir,
        cgroups,
        oom_score_adj: pid1::protect_from_oom(),
    })
}

async fn boot_and_serve(start: Start, cgroups: Option<Cgroups>) -> Result<u8, Failure> {
    let Start {
        flags,
        config,
        mask,
        sockets,
    } = start;
    let spawner = spawner(mask, cgroups.clone())?;
    let reaper = spawner.reaper.clone();
    pid1::adopt_orphans(config.subreaper)
        .map_err(|error| Failure::new(SOFTWARE, format!("cannot become a subreaper: {error}")))?;
    let mut signals = Signals::new(reaper.clone())
        .map_err(|error| Failure::new(SOFTWARE, format!("cannot read signals: {error}")))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        pid_1 = is_pid_1(),
        "sprite-env starts"
    );
    let (handle, inbox) = handle::channel();
    let sessions = Sessions::new(reaper.clone(), config.limits.exec_sessions);
    let (ring, logs) = (Ring::default(), Logs::default());
    let current = watch::Sender::new(Arc::clone(&config));
    let store = async {
        let driver = store::store(&config, &spawner).await?;
        let engine = |driver| store::engine(current.subscribe(), driver, &spawner);
        let engine = driver.as_ref().map(engine);
        let interrupted = store::open(&config, engine.as_ref()).await?;
        Ok::<_, Failure>((driver, engine, interrupted))
    };
    // A bucket may be slow to answer; whoever wants us to stop need not wait for it.
    let (driver, engine, interrupted) = tokio::select! {
        store = store => store?,
        code = signals::stop_signal(&mut signals, &config.process.signal_map) => return Ok(code),
    };
    let opened = sockets.open(&config.components);
    let opened = opened.map_err(|error| Failure::new(UNAVAILABLE, error))?;
    let base_dir = spawner.base_dir.clone();
    let reloader = Reloader::new(ReloaderParts {
        flags: Flags { base_dir, ..flags },
        config: current.subscribe(),
        handle: handle.clone(),
        sockets,
        cgroups: cgroups.clone(),
    });
    let (storage, status) = (Kept::new(&config, driver, &handle), handle.status());
    // The API comes first: requests are held until there is something to serve them.
    serve(
        &handle,
        &spawner,
        &ring,
        storage.clone(),
        Runner::new(current.subscribe(), spawner.clone(), sessions.clone()),
        reloader.clone(),
        logs.clone(),
    )
    .await?;
    if let Some(pause) = config.storage.as_ref().and_then(|storage| storage.auto) {
        tokio::spawn(automatic::checkpoints(pause, handle.clone()));
    }
    tokio::spawn(release_code(handle.clone()));
    tokio::spawn(signals::pass_on(
        signals,
        handle,
        current.subscribe(),
        reloader.clone(),
    ));
    tokio::spawn(reloader.run());
    let (sink, writers) = sink(&config, logs)?;
    let in_force = current.subscribe();
    let event_loop = EventLoop::new(Parts {
        sockets: opened,
        config: current,
        outside: Arc::new(RealWorld {
            spawner,
            sink,
            engine,
        }),
        sessions,
        ring,
        inbox,
    });
    let code = match tokio::spawn(event_loop.run(interrupted)).await {
        Ok(code) => code,
        Err(panic) => {
            tracing::error!("the event loop failed: {panic}; everything is killed");
            sweep::kill_everything(reaper, cgroups).await;
            SOFTWARE
        }
    };
    let status = status.borrow().clone();
    close(&config, storage, &status, writers).await;
    Ok(in_force
        .borrow()
        .process
        .exit_code_map
        .get(&code)
        .copied()
        .unwrap_or(code))
}

/// Where what components write goes.
fn sink(config: &Config, logs: Logs) -> Result<(Sink, Writers), Failure> {
    let files = config.logs.as_ref();
    Sink::start(config.log_json, logs, files).map_err(|error| {
        let dir = files.map(|files| files.dir.display().to_string());
        let dir = dir.unwrap_or_default();
        Failure::new(CONFIG, format!("logs.dir: cannot make {dir}: {error}"))
    })
}

/// Puts away what was used, once nothing runs any more.
async fn close(config: &Config, storage: Kept, status: &Status, writers: Writers) {
    storage.close(config, status).await;
    // What components wrote last is still on its way. Pipes that somebody outside our
    // tree holds open must not keep us.
    let drained = writers.drained();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), drained).await;
    if let Some(Listen::Unix(path)) = config.api.as_ref().map(|api| &api.listen) {
        let _ = std::fs::remove_file(path);
    }
}

async fn serve(
    handle: &Handle,
    spawner: &Spawner,
    ring: &Ring,
    storage: Kept,
    runner: Runner,
    reloader: Reloader,
    logs: Logs,
) -> Result<(), Failure> {
    let config = Arc::clone(&reloader.live().borrow());
    let Some(api) = &config.api else {
        return Ok(());
    };
    let listener = api::serve::listen(&api.listen).await;
    let listener = listener.map_err(|error| Failure::new(UNAVAILABLE, error))?;
    tracing::info!("the API listens at {}", listener.address());
    let files = Files::new(&config.fs_root, reloader.live());
    let files = files.map_err(|error| {
        let root = config.fs_root.display();
        Failure::new(CONFIG, format!("cannot open fs.root, {root}: {error}"))
    })?;
    let namespace = Namespace::new(config.network.namespace.clone());
    let router = api::routes::router(Shared {
        ports: Ports::new(namespace.clone()),
        namespace,
        url_proxy: config.url_proxy.clone(),
        handle: handle.clone(),
        runner,
        reloader,
        logs,
        files,
        ring: ring.clone(),
        driver: storage.driver,
        metadata_replication: storage.metadata,
        cgroups: spawner.cgroups.clone(),
        reaper: spawner.reaper.clone(),
        token: api.token.clone(),
        debug_endpoints: config.debug_endpoints,
        sprite_name: config.sprite_name.clone(),
        since: crate::clock::now(),
        request_body: config.limits.request_body,
        hold: config.limits.hold,
    });
    tokio::spawn(async move {
        if let Err(error) = listener.serve(router).await {
            tracing::error!("the API ended: {error}");
        }
    });
    Ok(())
}

/// Once everything is up, most of our own code has been run for the last time.
async fn release_code(handle: Handle) {
    let mut status = handle.status();
    let up = status
        .wait_for(|status| status.phase == Phase::Serving)
        .await;
    if up.is_ok()
        && let Err(error) = sys::release_code()
    {
        tracing::debug!(%error, "the memory of the start is kept");
    }
}
