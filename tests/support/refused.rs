//! Configurations that no daemon starts with.

use super::{Sprite, Value};

/// Fails unless a start with `config` ends with 78 and says `why`.
pub fn refused(config: &Value, why: &str) {
    let sprite = Sprite::new().storage().config(config);
    let (code, said) = sprite.command(&["true"]).run();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains(why), "{said}");
}
