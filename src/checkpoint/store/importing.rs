//! Making a checkpoint of an archive.

use std::fs::File;

use super::archive::{self, Imported};
use super::objects::Encoder;
use super::{Store, Work};
use crate::checkpoint::driver::Error;
use crate::checkpoint::manifest::Manifest;
use crate::clock::now;

impl Store {
    /// Nothing else begins meanwhile: what is stored for it is needed by nothing yet.
    pub(super) fn import_archive(
        &self,
        archive: File,
        comment: Option<String>,
    ) -> Result<Manifest, Error> {
        let _collecting = self.hold_collections();
        self.check_owner()?;
        {
            let mut state = self.state();
            state.check_idle()?;
            state.work = Some(Work::Import);
        }
        let imported = self.take_in(archive, comment);
        if imported.is_err()
            && let Ok(opened) = self.opened()
        {
            opened.objects.abandon();
        }
        self.state().work = None;
        imported
    }

    fn take_in(&self, archive: File, comment: Option<String>) -> Result<Manifest, Error> {
        let objects = &self.opened()?.objects;
        let Imported {
            about,
            root,
            components,
            entries,
            bytes,
        } = archive::import(objects, &mut Encoder::default(), archive)?;
        let id = format!("v{}", self.state().catalog.take_number());
        let (time, said, skipped) = match about {
            Some(about) => (about.create_time, about.comment, about.skipped),
            None => (now(), None, Vec::new()),
        };
        self.seal(Manifest {
            comment: comment.or(said),
            imported: true,
            root,
            components,
            entries,
            bytes,
            skipped,
            ..Manifest::new(id, time)
        })
    }
}
