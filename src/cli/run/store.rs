//! The checkpoints: where they are kept, and what takes them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{CLOSING, CONFIG, Failure};
use crate::checkpoint::juicefs::{self, Clones, MetadataReplication, Volume};
use crate::checkpoint::{Driver, Engine, Freezer, Hooks, Interrupted, Store, volume};
use crate::config::{self, Bucket, Config, Lease, Live};
use crate::pid1::tree;
use crate::spawn::Spawner;
use crate::supervise::tree_freezer::TreeFreezer;
use crate::supervise::{Handle, Status};

/// How long it may take to give up the lease.
const RELEASE: Duration = Duration::from_secs(2);

/// Where checkpoints are kept, if they are on; not opened yet.
pub async fn store(config: &Config, spawner: &Spawner) -> Result<Option<Arc<dyn Driver>>, Failure> {
    let Some(storage) = &config.storage else {
        tracing::info!("checkpoints are off: SPRITE_WRITE_DIR is not set");
        return Ok(None);
    };
    if let Some(volume) = &storage.volume {
        let mounted = volume::mount(volume, spawner).await;
        mounted.map_err(|error| Failure::new(CONFIG, error))?;
    }
    let runtime = tokio::runtime::Handle::current();
    if let (config::Driver::Juicefs, Some(volume)) = (storage.driver, &storage.juicefs) {
        let clones = Clones::new(storage, volume, spawner, runtime);
        return Ok(Some(Arc::new(clones)));
    }
    let mut store = Store::new(storage);
    if let Some(bucket) = &config.bucket {
        let with_bucket = store.with_bucket(bucket, runtime);
        store = with_bucket.map_err(|error| Failure::new(CONFIG, error))?;
    }
    Ok(Some(Arc::new(store)))
}

/// Opens the checkpoints, unless they are on what a component brings: what a crash has cut
/// off.
pub async fn open(
    config: &Config,
    engine: Option<&Engine>,
) -> Result<Option<Interrupted>, Failure> {
    if config.has_storage_components() {
        if !tree::is_visible() {
            let why = "a component has \"storage\": true, which needs /proc; mount it";
            return Err(Failure::new(CONFIG, why));
        }
        return Ok(None);
    }
    let Some(engine) = engine else {
        return Ok(None);
    };
    let opened = engine.open().await;
    opened.map_err(|error| Failure::new(CONFIG, error))
}

/// What does the work of checkpoints.
pub fn engine(config: Live, driver: &Arc<dyn Driver>, spawner: &Spawner) -> Engine {
    let storage = config.borrow().storage.clone();
    let freeze = storage.as_ref().is_some_and(|storage| storage.freeze);
    let freezer = freeze.then(|| {
        Arc::new(TreeFreezer::new(&spawner.reaper, spawner.cgroups.clone())) as Arc<dyn Freezer>
    });
    Engine::new(
        Arc::clone(driver),
        Hooks::new(config, spawner.clone()),
        freezer,
        storage.and_then(|storage| storage.mount),
    )
}

/// Shows others that the volume is in use, from its claim on; with the store only to its opening,
/// for it does so from then on.
async fn show_life(
    volume: Volume,
    bucket: Bucket,
    driver: config::Driver,
    mut status: watch::Receiver<Status>,
) {
    let is_claimed = |status: &Status| {
        let claiming = status.components.get(juicefs::METADATA);
        status.is_open || claiming.is_some_and(|part| part.state == "Completed")
    };
    if status.wait_for(is_claimed).await.is_err() {
        return;
    }
    let taken_on = |status: &Status| status.is_open && driver == config::Driver::Store;
    tokio::select! {
        _ = status.wait_for(taken_on) => {}
        Err(error) = juicefs::show_life_of_daemon(volume, bucket) => tracing::warn!("{error}"),
    }
}

/// Ends that, once the volume is no longer in use.
async fn show_no_more_life(life: &JoinHandle<()>, volume: Volume, bucket: Bucket) {
    life.abort();
    let released = juicefs::release(volume, bucket);
    if let Ok(Err(error)) = tokio::time::timeout(RELEASE, released).await {
        tracing::warn!("{error}");
    }
}

/// What keeps the storage, for whoever tells of it.
#[derive(Clone)]
pub struct Kept {
    /// The checkpoints, if they are on.
    pub driver: Option<Arc<dyn Driver>>,
    /// How far the copy of a volume's metadata in the bucket is, if it has one.
    pub metadata: Option<watch::Receiver<MetadataReplication>>,
    /// Shows others that the volume is in use, where no store does.
    life: Option<Arc<JoinHandle<()>>>,
}

impl Kept {
    /// The checkpoints by `driver`. Litestream is asked from now on.
    pub fn new(config: &Config, driver: Option<Arc<dyn Driver>>, handle: &Handle) -> Self {
        let volume = config.storage.as_ref().and_then(|it| it.juicefs.clone());
        let volume = volume.filter(|volume| volume.blocks.is_some());
        let kind = config.storage.as_ref().map(|it| it.driver);
        let kind = kind.unwrap_or_default();
        let mut life = None;
        if let Some((volume, bucket)) = volume.clone().zip(config.bucket.clone())
            && bucket.lease != Lease::Off
        {
            let shown = tokio::spawn(show_life(volume, bucket, kind, handle.status()));
            life = (kind == config::Driver::Juicefs).then(|| Arc::new(shown));
        }
        Self {
            driver,
            metadata: volume.map(juicefs::watch),
            life,
        }
    }

    /// Puts away what was used, once nothing runs any more, and says what is not in the bucket.
    pub async fn close(self, config: &Config, status: &Status) {
        if let Some(driver) = self.driver {
            let _ = tokio::task::spawn_blocking(move || driver.close()).await;
        }
        let Some(storage) = config.storage.clone() else {
            return;
        };
        if let Some(volume) = storage.volume {
            let _ = tokio::task::spawn_blocking(move || volume::unmount(&volume)).await;
        }
        let Some(volume) = storage.juicefs else {
            return;
        };
        // Its component has unmounted it, unless it had to be killed.
        let tidied = volume.clone();
        let tidied = tokio::task::spawn_blocking(move || juicefs::tidy(&tidied));
        let _ = tokio::time::timeout(CLOSING, tidied).await;
        let Some(metadata) = self.metadata else {
            return;
        };
        let end_of = |name: &str| {
            let exit = status.components.get(name)?.last_exit.as_deref()?;
            Some(exit == "exit code 0")
        };
        // One that has claimed nothing has shown nothing.
        if end_of(juicefs::METADATA) == Some(true)
            && let Some((life, bucket)) = self.life.zip(config.bucket.clone())
        {
            show_no_more_life(&life, volume.clone(), bucket).await;
        }
        // What has not begun has left nothing.
        let Some(is_sent) = end_of(juicefs::LITESTREAM) else {
            return;
        };
        let is_flushed = end_of(juicefs::COMPONENT).unwrap_or(true);
        let last = metadata.borrow().clone();
        let told = tokio::task::spawn_blocking(move || {
            if let Some(left) = juicefs::what_is_left(&volume, is_flushed, is_sent, &last) {
                return tracing::warn!("{left}");
            }
            match juicefs::are_written(&volume) {
                Ok(()) => tracing::info!("the volume and its metadata are in the bucket"),
                Err(error) => tracing::warn!("{error}"),
            }
        });
        if let Err(panic) = told.await {
            tracing::error!("cannot tell what is not in the bucket: {panic}");
        }
    }
}
