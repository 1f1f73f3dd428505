//! What is known of one checkpoint.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::store::Id;

/// Why something could not be captured that should have been.
pub const UNREADABLE: &str = "it may not be read";

/// What is known of one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The checkpoint's id.
    pub id: String,
    /// When its instant was: RFC 3339, UTC.
    pub create_time: String,
    /// The checkpoint that the environment came from: the one made or restored last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_id: Option<String>,
    /// What its maker says about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    /// The checkpoints that it descends from, oldest first. Found by way of `source_id`,
    /// and not stored.
    #[serde(skip)]
    pub history: Vec<String>,
    /// Whether nobody asked for it: it keeps what a restore replaced, or is one of those that
    /// are taken from time to time.
    #[serde(default)]
    pub is_auto: bool,
    /// Whether the live tree is not taken to be it: it was made of an archive, or keeps what a first
    /// start has replaced by what the bucket has.
    #[serde(default, skip_serializing_if = "is_false")]
    pub imported: bool,
    /// The node with the tree's root as its only entry.
    pub root: Id,
    /// The same for what components wanted kept; none if there was nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub components: Option<Id>,
    /// How many entries the tree has, its root not counted.
    pub entries: u64,
    /// How many bytes its files have.
    pub bytes: u64,
    /// The number of the record that made it.
    #[serde(default)]
    pub sequence: u64,
    /// What could not be captured, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

impl Manifest {
    /// Of a checkpoint of which nothing else is known yet.
    #[must_use]
    pub const fn new(id: String, create_time: String) -> Self {
        Self {
            id,
            create_time,
            source_id: None,
            comment: None,
            history: Vec::new(),
            is_auto: false,
            imported: false,
            root: Id::HOLE,
            components: None,
            entries: 0,
            bytes: 0,
            sequence: 0,
            skipped: Vec::new(),
        }
    }

    /// Whether something could not be read, and is not in it.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.skipped
            .iter()
            .any(|skipped| skipped.ends_with(UNREADABLE))
    }

    /// The roots of its trees.
    pub fn roots(&self) -> impl Iterator<Item = Id> {
        std::iter::once(self.root).chain(self.components)
    }
}

/// The id of an automatic checkpoint that is made now.
#[must_use]
pub fn automatic_id() -> String {
    format!("auto-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ"))
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it by reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
