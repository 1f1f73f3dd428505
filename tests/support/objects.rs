//! JSON objects.

use super::Value;

/// An object with the fields of another, and the objects in it too.
pub fn merged(mut object: Value, more: &Value) -> Value {
    let (Some(fields), Some(more)) = (object.as_object_mut(), more.as_object()) else {
        return more.clone();
    };
    for (key, value) in more {
        let own = fields.remove(key).unwrap_or_default();
        fields.insert(key.clone(), merged(own, value));
    }
    object
}

/// `object` with the fields of `more` besides.
pub fn with(mut object: Value, more: &Value) -> Value {
    let fields = object.as_object_mut().zip(more.as_object());
    let (fields, more) = fields.expect("two objects");
    fields.extend(more.clone());
    object
}
