//! A daemon that may do less than we do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{BIN, Sprite, is_root};

/// As somebody who is not root.
pub fn unprivileged(sprite: Sprite) -> Sprite {
    if !is_root() {
        return sprite;
    }
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(sprite.dir.path(), open.clone()).unwrap();
    fs::set_permissions(sprite.path("data"), open).unwrap();
    let program = sprite.path("sprite-env");
    fs::copy(BIN, &program).unwrap();
    let other = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    sprite.under(&other).program(&program)
}
