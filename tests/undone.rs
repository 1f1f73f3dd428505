//! A restore that does not come out right is undone, by the next start if not at once.

use std::fs;

use crate::support::Sprite;
use crate::support::beside::beside;

#[test]
fn one_that_somebody_spoils_is_undone_by_the_next_start() {
    let mut daemon = Sprite::new().storage().idle();
    let (client, path) = (daemon.client(), daemon.sprite.fs().join("busy"));
    fs::write(&path, "first").unwrap();
    let id = client.checkpoint();
    let new = daemon.sprite.fs().join("new");
    // Somebody who is not ours, and so not stopped: what is put back does not stay either, unless he
    // pauses just then.
    let write = || fs::write(&path, fastrand::u64(..).to_string()).unwrap();
    let why = loop {
        fs::write(&new, "").unwrap();
        let answer = beside(write, || client.restore(&id));
        let why = answer["error"].as_str().unwrap_or_default();
        if why.contains("could not be put back as it was") {
            break why.to_owned();
        }
    };
    assert!(
        why.contains("is not as it should be after the restore"),
        "{why}"
    );
    assert!(why.contains("busy"), "{why}");
    assert_eq!(daemon.wait(), 70);
    let daemon = daemon.into_sprite().idle();
    assert!(new.exists());
    assert_eq!(daemon.client().restore(&id)["type"], "complete");
    assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    assert!(!new.exists());
}
