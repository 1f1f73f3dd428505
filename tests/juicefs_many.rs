//! Many checkpoints of a developer's tree in an image on a JuiceFS volume.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::support::juicefs::{fs as tree, image, running};
use crate::support::objects::merged;
use crate::support::{json, trees};

#[expect(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it belongs to the benchmarks, which use all of it"
)]
#[path = "../benches/checkpoint/trees.rs"]
mod large;

/// How many checkpoints are made; `SPRITE_CHECKPOINTS` says another number.
const CHECKPOINTS: usize = 12;

#[test]
fn many_checkpoints_of_fifty_thousand_files_are_all_there() {
    let more = json!({"storage": {"volume": {"size": "8G"}}});
    let daemon = image().and_then(|config| running(&merged(config, &more)));
    let Some(mut daemon) = daemon else { return };
    let count = std::env::var("SPRITE_CHECKPOINTS");
    let count = count.map_or(CHECKPOINTS, |count| count.parse().unwrap());
    let client = daemon.client();
    large::t1(&tree(&daemon), 1);
    let mut states: BTreeMap<String, BTreeMap<PathBuf, String>> = BTreeMap::new();
    for round in 0..count {
        large::m1(&tree(&daemon), round as u64);
        let id = client.checkpoint();
        if round % 8 == 1 {
            states.insert(id, trees::describe(&tree(&daemon)));
        }
        // Some are not wanted any more.
        if round % 6 == 5 {
            let gone = client.request("DELETE", &format!("/checkpoints/v{}", round - 3), b"");
            assert_eq!(gone.status, 204, "{}", gone.text);
        }
    }
    let listed = client.get("/checkpoints").json();
    assert_eq!(listed.as_array().unwrap().len(), count - count / 6);
    for (id, state) in states.iter().rev() {
        assert_eq!(client.restore(id)["type"], "complete", "{id}");
        assert!(trees::describe(&tree(&daemon)) == *state, "{id}");
    }
    daemon.stop(143);
}
