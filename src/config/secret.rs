//! Text that must not be shown.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// A token or key. It has no `Display`, and its `Debug` form is a mask.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Whether `guess` is the same, in a time that does not depend on where they differ.
    #[must_use]
    pub fn is(&self, guess: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(guess).into()
    }

    /// The text itself, for what has to send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// A key to encrypt with. Its `Debug` form is a mask.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// The key with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key that 64 hexadecimal digits say.
    #[must_use]
    pub fn parse(digits: &str) -> Option<Self> {
        let parsed = blake3::Hash::from_hex(digits.trim()).ok()?;
        Some(Self(*parsed.as_bytes()))
    }

    /// The key itself, for what encrypts with it.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}
