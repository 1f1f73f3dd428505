//! JSON objects.

use super::Value;

/// `object` with the fields of `more` besides.
pub fn with(mut object: Value, more: &Value) -> Value {
    let fields = object.as_object_mut().zip(more.as_object());
    let (fields, more) = fields.expect("two objects");
    fields.extend(more.clone());
    object
}
