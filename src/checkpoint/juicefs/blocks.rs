//! The bucket that has a volume's blocks, and beside them what a new machine needs: who uses
//! the volume, and a copy of its metadata.
//!
//! ```text
//! PREFIX-blocks/chunks/…        the blocks, as JuiceFS keeps them
//! PREFIX/volume/starts/N.json   the starts that used the volume, in order
//! PREFIX/volume/metadata/N/…    the metadata, as Litestream keeps them, since start N
//! PREFIX/lease.json             the lease of the checkpoints, which is that of the volume too
//! ```

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::store::{Bucket, Identity};
use super::Error;
use crate::config::{self, Lease, Secret};

/// The variables that JuiceFS and Litestream look for keys and a region in. What is given to
/// `juicefs format` instead would be in the metadata, and with them in their copy.
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const REGION: &str = "AWS_REGION";

/// JuiceFS takes no longer name for a volume.
const LONGEST_NAME: usize = 63;
/// What the name ends with.
const SUFFIX: &str = "-blocks";
/// What the objects beside the blocks begin with, below the prefix.
const BESIDE: &str = "volume";

/// A bucket for a volume, as the components are told of it on their command line: without keys,
/// which are in their environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// The URL of the service; none = that of AWS for the region.
    pub endpoint: Option<String>,
    /// The bucket's name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// What the keys of all objects begin with.
    pub prefix: String,
    /// How others are kept from it.
    pub lease: Lease,
    /// How long after its last sign of life its user counts as gone.
    pub lease_ttl: Duration,
    /// The store of the checkpoints, which says who we are in the bucket.
    pub store: PathBuf,
    /// The program that copies the metadata: its path, or a name that is looked for in `PATH`.
    pub litestream: String,
    /// How often it copies what has changed.
    pub sync_interval: Duration,
}

/// What the keys of what is beside the blocks begin with.
pub fn beside(prefix: &str) -> String {
    format!("{prefix}/{BESIDE}")
        .trim_start_matches('/')
        .to_owned()
}

impl Blocks {
    /// In `bucket`; the checkpoints are in `store`.
    #[must_use]
    pub fn new(
        bucket: &config::Bucket,
        store: PathBuf,
        litestream: String,
        sync_interval: Duration,
    ) -> Self {
        Self {
            endpoint: bucket.endpoint.clone(),
            bucket: bucket.name.clone(),
            region: bucket.region.clone(),
            prefix: bucket.prefix.clone(),
            lease: bucket.lease,
            lease_ttl: bucket.lease_ttl,
            store,
            litestream,
            sync_interval,
        }
    }

    /// What the components need in their environment to use it.
    #[must_use]
    pub fn environment(bucket: &config::Bucket) -> Vec<(String, String)> {
        let keys = [
            (ACCESS_KEY, bucket.access_key.expose()),
            (SECRET_KEY, bucket.secret_key.expose()),
            (REGION, &bucket.region),
            // They would be taken with the keys, or instead of them, or be put into the metadata.
            ("AWS_SESSION_TOKEN", ""),
            ("AWS_PROFILE", ""),
            ("ACCESS_KEY", ""),
            ("SECRET_KEY", ""),
            ("SESSION_TOKEN", ""),
        ];
        keys.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    /// The URL that JuiceFS calls the bucket by.
    pub(super) fn url(&self) -> String {
        let name = &self.bucket;
        match &self.endpoint {
            Some(endpoint) => format!("{}/{name}", endpoint.trim_end_matches('/')),
            None => format!("https://{name}.s3.{}.amazonaws.com", self.region),
        }
    }

    /// The name of the volume, which the keys of its blocks begin with. JuiceFS takes letters,
    /// digits and hyphens only; then a hash of the prefix keeps two apart.
    pub(super) fn volume_name(&self) -> String {
        let prefix = &self.prefix;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = prefix.len() + SUFFIX.len() <= LONGEST_NAME;
        if fits && prefix.chars().all(is_plain) && !prefix.starts_with('-') {
            return format!("{prefix}{SUFFIX}")
                .trim_start_matches('-')
                .to_owned();
        }
        let hash = blake3::hash(prefix.as_bytes()).to_hex();
        let kept: String = prefix
            .to_ascii_lowercase()
            .chars()
            .map(|c| if is_plain(c) { c } else { '-' })
            .take(32)
            .collect();
        let hash: String = hash.chars().take(12).collect();
        format!("{}-{hash}{SUFFIX}", kept.trim_matches('-'))
            .trim_start_matches('-')
            .to_owned()
    }

    /// Where the blocks are, for people.
    pub(super) fn shown(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.volume_name())
    }

    /// What the keys of the metadata since start `line` begin with.
    pub(super) fn metadata(&self, line: u64) -> String {
        format!("{}/metadata/{line}", beside(&self.prefix))
    }

    /// What is beside the blocks, for the volume.
    pub(super) fn beside(&self) -> Result<Bucket, Error> {
        Ok(Bucket::new(&self.settings(beside(&self.prefix)))?)
    }

    /// The blocks themselves.
    pub(super) fn blocks(&self) -> Result<Bucket, Error> {
        Ok(Bucket::new(&self.settings(self.volume_name()))?)
    }

    /// The bucket of the checkpoints.
    pub(super) fn checkpoints(&self) -> Result<Bucket, Error> {
        Ok(Bucket::new(&self.settings(self.prefix.clone()))?)
    }

    /// Who we are in the bucket.
    pub(super) fn identity(&self) -> Result<String, Error> {
        Ok(Identity::of_store(&self.store)?.id)
    }

    fn settings(&self, prefix: String) -> config::Bucket {
        let key = |name| Secret::new(std::env::var(name).unwrap_or_default());
        config::Bucket {
            access_key: key(ACCESS_KEY),
            secret_key: key(SECRET_KEY),
            endpoint: self.endpoint.clone(),
            name: self.bucket.clone(),
            region: self.region.clone(),
            prefix,
            lease: self.lease,
            lease_ttl: self.lease_ttl,
            replicate_timeout: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(prefix: &str) -> String {
        let blocks = Blocks {
            endpoint: None,
            bucket: "bucket".to_owned(),
            region: "us-east-1".to_owned(),
            prefix: prefix.to_owned(),
            lease: Lease::Required,
            lease_ttl: Duration::from_secs(30),
            store: PathBuf::new(),
            litestream: String::new(),
            sync_interval: Duration::from_secs(1),
        };
        blocks.volume_name()
    }

    #[test]
    fn a_volume_has_a_name_that_juicefs_takes() {
        assert_eq!(name("checkpoints"), "checkpoints-blocks");
        assert_eq!(name(""), "blocks");
        for prefix in ["env/alice", "-", "Env", "ä", &"x".repeat(100), "_/_"] {
            let name = name(prefix);
            assert!((3..=LONGEST_NAME).contains(&name.len()), "{name}");
            assert!(!name.starts_with('-') && name.ends_with(SUFFIX), "{name}");
            let is_taken = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.chars().all(is_taken), "{name}");
        }
        assert_ne!(name("a/b"), name("a-b"));
        assert_ne!(name("a/b"), name("a_b"));
    }
}
