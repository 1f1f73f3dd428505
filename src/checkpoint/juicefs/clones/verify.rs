//! Whether the checkpoints are whole.

use std::fs::File;
use std::io::Read as _;

use rustix::fs::{self as sys, FileType, Mode, OFlags};

use super::super::super::driver::{Affected, Context as _, Driver as _, Error, Verified};
use super::super::super::manifest::Manifest;
use super::super::super::store::Place;
use super::Clones;
use super::directory::entries;
use super::programs::Step;

/// How much is read at once.
const BLOCK: usize = 1 << 20;

impl Clones {
    /// Looks whether the filesystem of each checkpoint is whole; with `read_data`, also whether
    /// each of its files can be read.
    pub(super) fn verify_all(&self, read_data: bool) -> Result<Verified, Error> {
        self.check_open()?;
        let (manifests, damaged) = {
            let state = self.state();
            let manifests: Vec<_> = state.index.list(true).collect();
            (manifests, state.index.damaged().to_vec())
        };
        let mut verified = Verified {
            checkpoints: manifests.len() + damaged.len(),
            objects: manifests.len(),
            bytes: manifests.iter().map(|manifest| manifest.bytes).sum(),
            ..Verified::default()
        };
        let mut affected: Vec<_> = damaged
            .into_iter()
            .map(|(id, problem)| Affected { id, problem })
            .collect();
        for manifest in manifests {
            if let Err(error) = self.verify_one(&manifest, read_data) {
                // It may have been removed meanwhile.
                if self.find(&manifest.id).is_ok() {
                    affected.push(Affected {
                        id: manifest.id,
                        problem: error.to_string(),
                    });
                }
            }
        }
        verified.damaged = affected.iter().map(|it| it.problem.clone()).collect();
        verified.whole = affected.is_empty();
        verified.affected = affected;
        Ok(verified)
    }

    fn verify_one(&self, manifest: &Manifest, read_data: bool) -> Result<(), Error> {
        self.step(Step::Check, &[&self.image_of(&manifest.id)])?;
        if !read_data {
            return Ok(());
        }
        let view = self.view(&manifest.id)?;
        let mut left = vec![Place::root(view.root()).context("open", view.root())?];
        let mut buffer = vec![0; BLOCK];
        while let Some(place) = left.pop() {
            read_all(&place, &mut left, &mut buffer)?;
        }
        Ok(())
    }
}

/// Reads every file in a directory; adds the directories in it to what is left.
fn read_all(place: &Place, left: &mut Vec<Place>, buffer: &mut [u8]) -> Result<(), Error> {
    let directory = place.open().context("open", &place.full())?;
    for (name, stat) in entries(&directory, &place.full())? {
        let path = || place.full_of(name.to_bytes());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                left.push(place.child(name.to_bytes()).context("open", &path())?);
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = sys::openat(&directory, &name, flags, Mode::empty());
                let mut file = File::from(file.context("open", &path())?);
                while file.read(buffer).context("read", &path())? > 0 {}
            }
            _ => {}
        }
    }
    Ok(())
}
