//! Finds out how far the bucket is, compared with the store of this machine.

use super::super::super::driver::Error;
use super::{Remote, blocking, record_key};

impl Remote {
    /// The number of the first record that the bucket does not have.
    pub(super) async fn connect(&self) -> Result<u64, Error> {
        let local = self.local()?;
        let (prepared, there) = tokio::join!(self.prepare(), self.sequences());
        prepared?;
        let here = blocking(local, |local| local.log.sequences()).await?;
        let next = match there?.last() {
            None => here.first().copied().unwrap_or_default(),
            Some(last) => {
                self.check_same(*last).await?;
                last + 1
            }
        };
        if here.last().is_some_and(|last| *last >= next) && !here.contains(&next) {
            return Err(Error::Fenced(format!(
                "the log of {} ends before record {next}, and this machine no longer has that \
                 record: checkpoints were made here without the bucket. Give another s3.prefix, \
                 or an empty checkpoint.dir to go on from what is in the bucket",
                self.bucket.shown()
            )));
        }
        self.show_life(local, 0).await?;
        Ok(next)
    }

    /// Fails if the record with this number, the bucket's last, is not one of ours.
    async fn check_same(&self, sequence: u64) -> Result<(), Error> {
        let there = self.bucket.get(&record_key(sequence)).await?;
        let Some(there) = there else {
            return Err(Error::Fenced(format!(
                "somebody else removes records of {}",
                self.bucket.shown()
            )));
        };
        let here = blocking(self.local()?, move |local| local.log.bytes(sequence)).await?;
        match here {
            Some(here) if here == there => Ok(()),
            _ => Err(self.fence(sequence, &there)),
        }
    }
}
