//! The checkpoints: where they are kept, and what takes them.

use std::sync::Arc;

use super::{CONFIG, Failure};
use crate::checkpoint::{Driver, Engine, Freezer, Hooks, Interrupted, Store, volume};
use crate::config::{Config, Live};
use crate::pid1::tree;
use crate::spawn::Spawner;
use crate::supervise::tree_freezer::TreeFreezer;

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
    let mut store = Store::new(storage);
    if let Some(bucket) = &config.bucket {
        let runtime = tokio::runtime::Handle::current();
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
