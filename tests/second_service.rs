//! The same promises with another S3 service than all other tests use: one that checks
//! signatures, and keeps objects as files.

use std::fs;

use crate::support::bucket::{LOG, PACKS, Strict, durability, durable, tree, wait_until};
use crate::support::{is_root, json, trees};

#[test]
fn what_is_durable_survives_the_loss_of_the_machine() {
    let Some(service) = Strict::start() else {
        return;
    };
    let daemon = service.sprite().idle();
    trees::make(&daemon.sprite.fs(), is_root());
    assert_eq!(durable(&daemon)["type"], "complete");
    let first = tree(&daemon);
    // Larger than what is sent in one part.
    let mut random = fastrand::Rng::with_seed(7);
    let large: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(40 << 20)
        .collect();
    fs::write(daemon.sprite.fs().join("large"), large).unwrap();
    assert_eq!(durable(&daemon)["checkpoint_id"], "v1");
    let second = tree(&daemon);
    drop(daemon.crash());

    let mut daemon = service.sprite().idle();
    daemon.wait_for("v1 of the bucket");
    assert_eq!(tree(&daemon), second);
    assert_eq!(durability(&daemon, "v0"), "durable");
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    assert_eq!(tree(&daemon), first);
    let verified = daemon.client().post("/checkpoints/verify", &json!({}));
    assert_eq!(verified.status, 200, "{}", verified.text);

    // What nobody needs any more goes from there too.
    let before = service.objects(PACKS).len();
    assert_eq!(
        daemon
            .client()
            .request("DELETE", "/checkpoints/v1", b"")
            .status,
        204
    );
    let automatic = daemon.client().get("/checkpoints?includeAuto=true").json();
    for checkpoint in automatic.as_array().unwrap() {
        let id = checkpoint["id"].as_str().unwrap();
        if id.starts_with("auto") {
            daemon
                .client()
                .request("DELETE", &format!("/checkpoints/{id}"), b"");
        }
    }
    daemon.client().post("/checkpoints/gc", &json!({}));
    wait_until(&daemon, "packs go", || {
        service.objects(PACKS).len() < before
    });
    assert!(!service.objects(LOG).is_empty());
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
