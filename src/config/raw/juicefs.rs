//! The settings of a JuiceFS volume, as they are written.

use schemars::JsonSchema;

use super::{FailurePolicy, Number, Text, Time};
use crate::config::value::Value;

/// A JuiceFS volume.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JuiceFs {
    /// The program. Default: juicefs, which is looked for in PATH.
    pub binary: Option<Text>,
    /// Where blocks are stored: `bucket`, with a copy of the metadata that Litestream makes, or
    /// `local`, on this machine. Default: bucket if there is one, else local.
    #[schemars(with = "Option<String>", regex(pattern = "^(bucket|local)$"))]
    pub blocks: Option<Text>,
    /// How the environment's directory is there: `image`, in an ext4 filesystem in one file, which
    /// loop devices and e2fsprogs are needed for, or `tree`, as it is; for a new volume. Default:
    /// image where there is /dev/loop-control, else tree.
    #[schemars(with = "Option<String>", regex(pattern = "^(tree|image)$"))]
    pub layout: Option<Text>,
    /// The largest block that is stored, from `64K` to `16M`; for a new volume. Default: 4M.
    pub block_size: Option<Text>,
    /// How blocks are compressed: `none`, `lz4` or `zstd`; for a new volume. Default: none.
    #[schemars(with = "Option<String>", regex(pattern = "^(none|lz4|zstd)$"))]
    pub compression: Option<Text>,
    /// For how many days what was removed can be had back from `.trash`. Default: 0.
    pub trash_days: Option<Number>,
    /// Where blocks that were read or written are kept. Default: `cache` in the volume's
    /// directory.
    pub cache_dir: Option<Text>,
    /// How much is kept there. Default: 1G with blocks in the bucket, else nothing.
    pub cache_size: Option<Text>,
    /// Whether what is written counts as written when it is in the cache. Default: false.
    pub writeback: Option<Value<bool>>,
    /// How long what is known of an open file is believed. Default: 0s.
    pub open_cache: Option<Time>,
    /// How much memory reads and writes may use. Default: 300M.
    pub buffer_size: Option<Text>,
    /// More options of `juicefs mount`: `["--max-uploads=50"]`.
    pub mount_options: Option<Vec<Text>>,
    /// What follows when the mount dies or cannot be used any more: `shutdown` or `restart`.
    /// What has files open there must be started again itself then. Default: shutdown.
    #[schemars(with = "Option<String>", regex(pattern = "^(shutdown|restart)$"))]
    pub on_failure: Option<FailurePolicy>,
    /// How long it may take to become ready. Default: 60s.
    pub ready_timeout: Option<Time>,
    /// How long it may take to write what is left and unmount. Default: 60s.
    pub stop_timeout: Option<Time>,
}

/// An overlayfs over directories that are only read: what is changed in it is in the image on the
/// volume.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overlay {
    /// Whether it is mounted. Default: false.
    pub enabled: Option<Value<bool>>,
    /// How much fits into the image: the same as `storage.volume.size`.
    pub image_size: Option<Text>,
    /// The same as `lower_paths`, with this one alone.
    pub lower_path: Option<Text>,
    /// The directories that it is mounted over, the uppermost first.
    pub lower_paths: Option<Vec<Text>>,
    /// Where it is mounted. Default: `root` in the volume's directory.
    pub target_path: Option<Text>,
    /// Whether the image alone is mounted, and no overlayfs. Default: false.
    pub skip_overlayfs: Option<Value<bool>>,
}

/// The copy of a volume's metadata in the bucket.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Litestream {
    /// The program. Default: litestream, which is looked for in PATH.
    pub binary: Option<Text>,
    /// How often what has changed is copied. Default: 1s.
    pub sync_interval: Option<Time>,
    /// How long it may take to fetch the metadata from the bucket. Default: 10m.
    pub restore_timeout: Option<Time>,
}
