//! The checkpoints: where they are kept, and what takes them.

use std::sync::Arc;

use super::{CONFIG, Failure, SOFTWARE};
use crate::checkpoint::{Driver, Engine, Freezer, Hooks, Interrupted, Store, volume};
use crate::config::{Config, Live};
use crate::spawn::Spawner;
use crate::supervise::tree_freezer::TreeFreezer;

/// Opens where checkpoints are kept, if they are on; also what a crash has cut off.
pub async fn open_store(
    config: &Config,
    spawner: &Spawner,
) -> Result<Option<(Arc<dyn Driver>, Option<Interrupted>)>, Failure> {
    let Some(storage) = &config.storage else {
        tracing::info!("checkpoints are off: SPRITE_WRITE_DIR is not set");
        return Ok(None);
    };
    if let Some(volume) = &storage.volume {
        let mounted = volume::mount(volume, spawner).await;
        mounted.map_err(|error| Failure::new(CONFIG, error))?;
    }
    let mut store = Store::new(storage);
    if let Some(bucket) = &config.bucket {
        let runtime = tokio::runtime::Handle::current();
        let with_bucket = store.with_bucket(bucket, runtime);
        store = with_bucket.map_err(|error| Failure::new(CONFIG, error))?;
    }
    let driver: Arc<dyn Driver> = Arc::new(store);
    let opening = Arc::clone(&driver);
    let mount = storage.mount.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let interrupted = opening.open()?;
        // Nobody's environment depends on it.
        if let Some(at) = mount
            && let Err(error) = opening.mount(&at)
        {
            tracing::warn!("the checkpoints are not mounted: {error}");
        }
        Ok(interrupted)
    });
    let opened = opened.await;
    let interrupted = opened
        .map_err(|panic| Failure::new(SOFTWARE, panic))?
        .map_err(|error: crate::checkpoint::Error| Failure::new(CONFIG, error))?;
    Ok(Some((driver, interrupted)))
}

/// What does the work of checkpoints.
pub fn engine(config: Live, driver: &Arc<dyn Driver>, spawner: &Spawner) -> Engine {
    let freeze = config
        .borrow()
        .storage
        .as_ref()
        .is_some_and(|storage| storage.freeze);
    let freezer = freeze.then(|| {
        Arc::new(TreeFreezer::new(&spawner.reaper, spawner.cgroups.clone())) as Arc<dyn Freezer>
    });
    Engine::new(
        Arc::clone(driver),
        Hooks::new(config, spawner.clone()),
        freezer,
    )
}
