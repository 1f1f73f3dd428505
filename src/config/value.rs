//! A leaf value of the configuration: as it stands, or `{"$env": "NAME"}`.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, MapAccess, Visitor};

/// A value, and the environment variable it came from, if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value<T> {
    /// What it is.
    pub value: T,
    /// The variable named by `$env`.
    pub variable: Option<String>,
}

/// What can stand in an environment variable.
pub trait FromText: Sized {
    /// What an error says was expected.
    const EXPECTED: &'static str;
    /// Reads the text of a variable.
    fn from_text(text: &str) -> Option<Self>;
}

/// A duration as Go writes it: `30s`, `1m30s`, `500ms`, `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl FromText for String {
    const EXPECTED: &'static str = "a string";
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl FromText for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_text(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" | "" => Some(false),
            _ => None,
        }
    }
}

impl FromText for u8 {
    const EXPECTED: &'static str = "a whole number from 0 to 255";
    fn from_text(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }
}

impl FromText for u64 {
    const EXPECTED: &'static str = "a whole number";
    fn from_text(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }
}

impl FromText for i64 {
    const EXPECTED: &'static str = "a whole number";
    fn from_text(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }
}

impl FromText for f64 {
    const EXPECTED: &'static str = "a number";
    fn from_text(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }
}

impl FromText for GoDuration {
    const EXPECTED: &'static str = "a duration such as \"30s\", \"1m30s\" or \"500ms\"";
    fn from_text(text: &str) -> Option<Self> {
        parse_duration(text).map(Self)
    }
}

/// Reads a Go duration; `0` needs no unit. Negative ones are not durations here.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    // Go's grammar is a subset of jiff's friendly one, but for spaces and long units.
    if text.is_empty() || text.contains(char::is_whitespace) {
        return None;
    }
    let parsed: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(parsed).ok()
}

/// Writes a duration as Go does: `1m30s`, `500ms`, `0s`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let signed = jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX);
    format!("{signed:#}").replace(' ', "")
}

/// A number of bytes, with K, M, G or T for powers of 1024.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units.iter().find(|(unit, _)| text.ends_with(*unit));
    let digits = unit.map_or(text, |(unit, _)| text.trim_end_matches(*unit));
    let number: u64 = digits.parse().ok()?;
    let shift = unit.map_or(0, |(_, shift)| *shift);
    number.checked_mul(1 << shift)
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_text(&text)
            .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &Self::EXPECTED))
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration as Go writes it: 30s, 1m30s, 500ms, 0.",
            "examples": ["30s", "1m30s", "500ms"],
        })
    }
}

impl<T: JsonSchema> JsonSchema for Value<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("ValueOrEnv_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({
            "anyOf": [
                value,
                {
                    "type": "object",
                    "description": "The value of an environment variable.",
                    "properties": { "$env": { "type": "string" }, "default": value },
                    "required": ["$env"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

impl<'de, T: Deserialize<'de> + FromText> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor(PhantomData))
    }
}

struct ValueVisitor<T>(PhantomData<T>);

impl<T> ValueVisitor<T> {
    fn plain<'de, E: de::Error>(from: impl Deserializer<'de, Error = E>) -> Result<Value<T>, E>
    where
        T: Deserialize<'de>,
    {
        T::deserialize(from).map(|value| Value {
            value,
            variable: None,
        })
    }
}

impl<'de, T: Deserialize<'de> + FromText> Visitor<'de> for ValueVisitor<T> {
    type Value = Value<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or {{\"$env\": \"NAME\"}}", T::EXPECTED)
    }
    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Self::Value, E> {
        Self::plain(v.into_deserializer())
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Self::Value, E> {
        Self::plain(v.into_deserializer())
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Self::Value, E> {
        Self::plain(v.into_deserializer())
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Self::Value, E> {
        Self::plain(v.into_deserializer())
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Self::Value, E> {
        Self::plain(v.into_deserializer())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut variable = None;
        let mut default = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "$env" => variable = Some(map.next_value::<String>()?),
                "default" => default = Some(map.next_value::<T>()?),
                other => return Err(de::Error::unknown_field(other, &["$env", "default"])),
            }
        }
        let Some(variable) = variable else {
            return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
        };
        let value = match (std::env::var(&variable), default) {
            (Ok(text), _) => T::from_text(&text).ok_or_else(|| {
                // Not the text itself: it may be a secret.
                de::Error::custom(format!(
                    "the environment variable {variable} does not hold {}",
                    T::EXPECTED
                ))
            })?,
            (Err(_), Some(default)) => default,
            (Err(_), None) => {
                return Err(de::Error::custom(format!(
                    "the environment variable {variable} is not set; set it, or write \
                     {{\"$env\": \"{variable}\", \"default\": …}}"
                )));
            }
        };
        Ok(Value {
            value,
            variable: Some(variable),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("30s", Some(ms(30_000))),
            ("1m30s", Some(ms(90_000))),
            ("500ms", Some(ms(500))),
            ("1h0m0.5s", Some(ms(3_600_500))),
            ("0", Some(ms(0))),
            ("0s", Some(ms(0))),
            ("1.5s", Some(ms(1_500))),
            ("-1s", None),
            ("30", None),
            ("", None),
            ("soon", None),
            ("1 s", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
        for (duration, text) in [(ms(90_000), "1m30s"), (ms(500), "500ms"), (ms(0), "0s")] {
            assert_eq!(format_duration(duration), text);
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("100G"), Some(100 << 30));
        assert_eq!(parse_size("1048576"), Some(1 << 20));
        for wrong in ["", "G", "1.5G", "-1", "10GB", "99999999999T"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }
}
