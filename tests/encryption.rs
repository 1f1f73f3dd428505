//! With a key, nothing that is stored can be read by others.

use std::fs;
use std::path::Path;

use crate::support::bucket::{Service, durable};
use crate::support::{Sprite, json, store};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
const CONTENT: &str = "content-that-nobody-may-read";
const NAME: &str = "name-that-nobody-may-read";
const COMMENT: &str = "comment-that-nobody-may-read";

fn with_key(sprite: Sprite, key: &str) -> Sprite {
    sprite.env("SPRITE_ENCRYPTION_KEY", key)
}

/// Everything in a directory, all files one after the other.
fn everything(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for path in store::files(dir) {
        if path.is_dir() {
            bytes.extend(everything(&path));
        } else {
            bytes.extend(fs::read(path).unwrap());
        }
    }
    bytes
}

fn has(bytes: &[u8], needle: &str) -> bool {
    let needle = needle.as_bytes();
    bytes.windows(needle.len()).any(|part| part == needle)
}

fn fill(sprite: &Sprite) {
    fs::write(sprite.fs().join(NAME), CONTENT).unwrap();
}

/// That a start fails, says why, and does not tell the key.
fn refused(sprite: Sprite, why: &str) {
    let (code, text) = sprite.command(&["sleep", "1000"]).run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains(why), "{text}");
    assert!(!text.contains(KEY) && !text.contains(OTHER), "{text}");
}

/// Another sprite with the same data.
fn again(sprite: &Sprite) -> Sprite {
    Sprite::new().env("SPRITE_WRITE_DIR", sprite.path("data").to_str().unwrap())
}

#[test]
fn a_store_with_a_key() {
    let mut daemon = with_key(Sprite::new().storage(), KEY).idle();
    fill(&daemon.sprite);
    let client = daemon.client();
    client.post("/checkpoint", &json!({ "comment": COMMENT }));
    fs::remove_file(daemon.sprite.fs().join(NAME)).unwrap();
    assert_eq!(client.restore("v0")["type"], "complete");
    let restored = fs::read_to_string(daemon.sprite.fs().join(NAME));
    assert_eq!(restored.unwrap(), CONTENT);
    let verified = client.post("/checkpoints/verify", &json!({"read_data": true}));
    assert_eq!(verified.json()["whole"], true);
    // What is run does not get the key.
    let environment = client.sh("env; cat /proc/$PPID/environ").stdout;
    assert!(!environment.contains(KEY), "{environment}");
    daemon.stop(143);
    let sprite = daemon.into_sprite();
    // What is known of the live tree is a cache of what lies beside it in plain sight.
    let _ = fs::remove_file(sprite.path("data/store/live"));
    let kept = everything(&sprite.path("data/store"));
    // Words so long that random bytes do not make them up.
    for secret in [CONTENT, NAME, COMMENT, "manifest", "created_by"] {
        assert!(!has(&kept, secret), "{secret} can be read");
    }
    refused(
        again(&sprite),
        "is encrypted; set checkpoint.encryption_key",
    );
    refused(
        with_key(again(&sprite), OTHER),
        "was encrypted with another key",
    );
    assert_eq!(everything(&sprite.path("data/store")), kept, "untouched");
    let daemon = sprite.idle();
    assert_eq!(
        daemon.client().get("/checkpoints/v0").json()["comment"],
        COMMENT
    );
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    // Without the key around it, nothing of it would be of use to others; with it, it is.
    let archive = daemon.client().get("/checkpoints/v0/export").bytes;
    let plain = Sprite::new().storage().idle();
    let imported = plain
        .client()
        .request("POST", "/checkpoints/import", &archive);
    assert_eq!(imported.status, 201, "{}", imported.text);
}

#[test]
fn a_bucket_with_a_key() {
    let Some(service) = Service::start() else {
        return;
    };
    let daemon = with_key(service.sprite(), KEY).idle();
    fill(&daemon.sprite);
    let body = json!({"comment": COMMENT, "wait": "durable"});
    let last = daemon.client().post("/checkpoint", &body).lines();
    assert_eq!(last.last().unwrap()["type"], "complete");
    drop(daemon.crash());
    let keys = service.keys("checkpoints/");
    assert!(keys.iter().any(|key| key.contains("/packs/")), "{keys:?}");
    for key in keys {
        let object = service.get(&key);
        for secret in [CONTENT, NAME, COMMENT, "manifest"] {
            assert!(!has(&object, secret), "{secret} can be read in {key}");
        }
    }
    refused(
        service.sprite(),
        "is encrypted; set checkpoint.encryption_key",
    );
    refused(
        with_key(service.sprite(), OTHER),
        "was encrypted with another key",
    );
    let daemon = with_key(service.sprite(), KEY).idle();
    let restored = fs::read_to_string(daemon.sprite.fs().join(NAME));
    assert_eq!(restored.unwrap(), CONTENT);
    assert_eq!(durable(&daemon)["checkpoint_id"], "v1");
}

#[test]
fn only_a_new_store_can_be_encrypted() {
    let mut daemon = Sprite::new().storage().idle();
    daemon.client().checkpoint();
    daemon.stop(143);
    let sprite = daemon.into_sprite();
    refused(
        with_key(again(&sprite), KEY),
        "only a new store can be encrypted",
    );
}

#[test]
fn a_key_that_is_none_is_refused() {
    for key in ["secret", &KEY[1..]] {
        let (code, text) = with_key(Sprite::new().storage(), key)
            .command(&["true"])
            .run();
        assert_eq!(code, 78, "{text}");
        assert!(text.contains("is not 64 hexadecimal digits"), "{text}");
        assert!(!text.contains(key), "{text}");
    }
    let (code, text) = with_key(Sprite::new().storage(), KEY)
        .arg("config")
        .arg("print")
        .run();
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("checkpoint.encryption_key") && !text.contains(KEY),
        "{text}"
    );
}
