//! The same promises with another S3 service than all other tests use: one that checks
//! signatures, and keeps objects as files.

use std::fs;

use crate::bucket::survives_the_loss_of_the_machine;
use crate::support::bucket::{LOG, PACKS, Strict, durable, wait_until};
use crate::support::json;

#[test]
fn what_is_durable_survives_the_loss_of_the_machine() {
    if let Some(service) = Strict::start() {
        survives_the_loss_of_the_machine(&|| service.sprite());
    }
}

#[test]
fn what_nobody_needs_any_more_goes() {
    let Some(service) = Strict::start() else {
        return;
    };
    let mut daemon = service.sprite().idle();
    assert_eq!(durable(&daemon)["checkpoint_id"], "v0");
    // Larger than what is sent in one part.
    let mut random = fastrand::Rng::with_seed(7);
    let large: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(40 << 20)
        .collect();
    let path = daemon.sprite.fs().join("large");
    fs::write(&path, large).unwrap();
    assert_eq!(durable(&daemon)["checkpoint_id"], "v1");
    fs::remove_file(path).unwrap();
    assert_eq!(durable(&daemon)["checkpoint_id"], "v2");
    let before = service.objects(PACKS).len();
    let client = daemon.client();
    assert_eq!(client.request("DELETE", "/checkpoints/v1", b"").status, 204);
    client.post("/checkpoints/gc", &json!({}));
    wait_until(&daemon, "packs go", || {
        service.objects(PACKS).len() < before
    });
    assert!(!service.objects(LOG).is_empty());
    let verified = client.post("/checkpoints/verify", &json!({}));
    assert_eq!(verified.status, 200, "{}", verified.text);
    daemon.stop(143);
}

#[test]
fn a_bucket_is_one_environments_there_too() {
    let Some(service) = Strict::start() else {
        return;
    };
    let mut first = service.sprite().idle();
    assert_eq!(durable(&first)["type"], "complete");
    let (code, said) = service.sprite().command(&["true"]).run();
    assert_eq!(code, 78, "{said}");
    assert!(
        said.contains("in use by another sprite-env, which is alive"),
        "{said}"
    );
    first.stop(143);
    let (code, said) = service.sprite().command(&["true"]).run();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_wrong_key_is_told_and_shown_nowhere() {
    let Some(service) = Strict::start() else {
        return;
    };
    let wrong = "not-the-key-of-this-bucket";
    let sprite = service.sprite().env("SPRITE_S3_SECRET_ACCESS_KEY", wrong);
    let (code, said) = sprite.command(&["true"]).run();
    assert_eq!(code, 78, "{said}");
    assert!(
        said.contains("SignatureDoesNotMatch") || said.contains("403"),
        "{said}"
    );
    assert!(!said.contains(wrong), "{said}");
}
