//! Sees to it that the newest metadata of a volume in the bucket are here.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::super::driver::Context as _;
use super::super::durable;
use super::blocks::Blocks;
use super::{
    DATABASE, Error, LOG, STATE, Volume, image, left, litestream, lock, mounting, program, starts,
    wait_for,
};

/// What belongs to metadata: the database, what SQLite has beside it, and what Litestream has.
const PARTS: [&str; 4] = [DATABASE, LOG, "metadata.db-shm", STATE];

/// Claims the volume, fetches its metadata if those here are older or missing, makes a new one
/// if there is none, and tells it what has changed.
pub fn prepare(volume: &Volume) -> Result<(), Error> {
    let Some(blocks) = &volume.blocks else {
        return Ok(());
    };
    mounting::make_directories(volume)?;
    program::check(volume)?;
    litestream::check(blocks)?;
    // What a killed sprite-env has left writes to them.
    image::make_way(volume)?;
    let _locks = (
        lock::take(&volume.lock())?,
        lock::take(&volume.litestream_lock())?,
    );
    mounting::detach(volume);
    if volume.objects().exists() {
        return Err(Error::Elsewhere {
            dir: volume.dir.clone(),
            has: volume.objects().display().to_string(),
            wanted: blocks.shown(),
            hint: "set juicefs.blocks to \"local\", or move the directory away",
        });
    }
    wait_for(async {
        let claim = starts::claim(volume, blocks).await?;
        let (here, there) = (volume.clone(), claim.clone());
        // It may take long.
        let fetching = tokio::task::spawn_blocking(move || make_newest(&here, &there));
        tokio::select! {
            done = fetching => done.map_err(std::io::Error::other).context("fetch the metadata of", &volume.dir)?,
            Err(error) = starts::show_life(blocks, &claim.run) => Err(error),
        }
    })
}

/// Fetches the metadata unless they are here, and makes the volume ready.
fn make_newest(volume: &Volume, claim: &starts::Claim) -> Result<(), Error> {
    let Some(blocks) = &volume.blocks else {
        return Ok(());
    };
    if !claim.are_here {
        fetch(volume, blocks, &claim.sources)?;
    }
    mounting::make_ready(volume)?;
    // What it has copied is in another line.
    durable::remove_tree(&volume.dir.join(STATE))?;
    starts::are_of(volume, claim.line, !claim.are_here)?;
    forget_caches(volume)
}

/// Puts the newest metadata of these lines in the place of what is here, which is kept beside.
fn fetch(volume: &Volume, blocks: &Blocks, lines: &[u64]) -> Result<(), Error> {
    let restored = volume.dir.join("metadata.restored");
    for line in lines {
        for part in ["", "-wal", "-shm", ".tmp", ".tmp-wal", ".tmp-shm"] {
            durable::remove_file(&volume.dir.join(format!("metadata.restored{part}")))?;
        }
        litestream::restore(volume, blocks, *line, &restored)?;
        if !restored.exists() {
            continue;
        }
        tracing::info!(
            "the metadata are fetched from s3://{}/{}",
            blocks.bucket,
            blocks.metadata(*line)
        );
        let file = fs::File::open(&restored).context("open", &restored)?;
        file.sync_all().context("write", &restored)?;
        set_aside(volume)?;
        // What those here were told, these were not.
        durable::remove_file(&volume.told())?;
        durable::rename(&restored, &volume.metadata())?;
        return Ok(());
    }
    // What is here is older than what somebody has made of it and not copied; or it is that of a
    // first start that was cut off.
    if starts::line(volume)?.is_some() {
        set_aside(volume)?;
    }
    Ok(())
}

/// Removes what was cached of metadata that are no longer here, unless it has never been sent.
fn forget_caches(volume: &Volume) -> Result<(), Error> {
    let ours = starts::cache(volume)?.unwrap_or_default().to_string();
    for dir in volume.cache.split(':').map(Path::new) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_another = name.parse::<u64>().is_ok() && name != ours;
            if is_another && left::staged([entry.path().as_path()]) == left::Staged::default() {
                durable::remove_tree(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// Moves what is older than what the bucket has away. It is for people to look at and remove.
fn set_aside(volume: &Volume) -> Result<(), Error> {
    let parts = PARTS.map(|name| volume.dir.join(name));
    if !parts.iter().any(|part| part.exists()) {
        return Ok(());
    }
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6f");
    let aside = volume.dir.join(format!("older-{time}"));
    fs::create_dir_all(&aside).context("create", &aside)?;
    // The database comes last: as long as it is here, so is all that belongs to it.
    for (part, name) in parts.iter().zip(PARTS).rev() {
        if part.exists() {
            durable::rename(part, &aside.join(name))?;
        }
    }
    tracing::info!(
        "the metadata here may be older than what was made of them: moved to {}, remove them if \
         you do not need them",
        aside.display()
    );
    Ok(())
}
