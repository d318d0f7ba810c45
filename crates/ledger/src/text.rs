//! Texts on the ledger: each is checked once, where it comes in, by the rules that the contract has too.

use std::{fmt, str::FromStr};

use crate::Refusal;

/// A group's name: 1 to 64 characters of `A-Z a-z 0-9 . _ -`, not beginning with a dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(String);

/// Why something was revoked or reset, for people: up to 256 bytes of UTF-8 without control characters, or nothing.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Reason(String);

/// A certificate's serial number as in its DER, 1 to 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Serial(Vec<u8>);

impl GroupName {
    /// Longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        check_name("group", bytes).map(|text| Self(text.to_owned()))
    }
}

impl Reason {
    /// Longest reason, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// The reason.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        check_text("reason", bytes, 0, Self::MAX_BYTES).map(|text| Self(text.to_owned()))
    }
}

impl Serial {
    /// Longest serial number, in bytes.
    pub const MAX_BYTES: usize = 32;

    /// From the bytes; refuses none and more than 32.
    pub fn new(bytes: &[u8]) -> Result<Self, Refusal> {
        check_length("serial", bytes.len(), 1, Self::MAX_BYTES)?;
        Ok(Self(bytes.to_vec()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        Self::from_bytes(text.as_bytes())
    }
}

impl FromStr for Reason {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Hexadecimal, as certificate tools print it, without colons.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) fn check_length(field: &'static str, length: usize, min: usize, max: usize) -> Result<(), Refusal> {
    if (min..=max).contains(&length) {
        return Ok(());
    }
    Err(Refusal::BadLength { field: field.into(), length: length as u64, min: min as u64, max: max as u64 })
}

/// The alphabet of device ids and group names.
pub(crate) fn check_name<'a>(field: &'static str, bytes: &'a [u8]) -> Result<&'a str, Refusal> {
    check_length(field, bytes.len(), 1, GroupName::MAX_BYTES)?;
    let allowed = |(i, c): (usize, &u8)| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-') || (*c == b'.' && i > 0);
    match bytes.iter().enumerate().position(|found| !allowed(found)) {
        Some(position) => Err(Refusal::BadText { field: field.into(), position: position as u64 }),
        None => str::from_utf8(bytes).map_err(|_| Refusal::BadText { field: field.into(), position: 0 }),
    }
}

/// UTF-8 without control characters (U+0000 to U+001F, U+007F to U+009F), which would reach terminals and logs.
pub(crate) fn check_text<'a>(field: &'static str, bytes: &'a [u8], min: usize, max: usize) -> Result<&'a str, Refusal> {
    check_length(field, bytes.len(), min, max)?;
    let bad = |position: usize| Refusal::BadText { field: field.into(), position: position as u64 };
    let (text, malformed_at) = match str::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(e) => {
            let valid = bytes.get(..e.valid_up_to()).and_then(|b| str::from_utf8(b).ok()).unwrap_or_default();
            (valid, Some(e.valid_up_to()))
        }
    };
    match text.char_indices().find(|(_, c)| c.is_control()).map(|(at, _)| at).or(malformed_at) {
        Some(position) => Err(bad(position)),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(result: Result<&str, Refusal>) -> Option<u64> {
        match result {
            Ok(_) => None,
            Err(Refusal::BadText { position, .. }) => Some(position),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn text_is_utf8_without_control_characters() {
        for (bytes, expected) in [
            (&b"plain"[..], None),
            ("日本語 – 😀".as_bytes(), None),
            (b"a\nb", Some(1)),
            (b"\x1b[31m", Some(0)),
            (b"ab\x7f", Some(2)),
            ("é\u{85}".as_bytes(), Some(2)),
            ("\u{a0}".as_bytes(), None),
            (b"a\xc0\x80", Some(1)),          // overlong
            (b"a\xed\xa0\x80", Some(1)),      // surrogate
            (b"ab\xf4\x90\x80\x80", Some(2)), // beyond Unicode
            (b"ab\xe6\x97", Some(2)),         // cut short
            (b"\n\xff", Some(0)),
        ] {
            assert_eq!(position(check_text("reason", bytes, 0, 64)), expected, "{bytes:?}");
        }
        assert_eq!(
            check_text("reason", &[b'a'; 65], 0, 64),
            Err(Refusal::BadLength { field: "reason".into(), length: 65, min: 0, max: 64 })
        );
    }

    #[test]
    fn names_have_the_alphabet_of_device_ids() {
        assert_eq!("hsu0001".parse::<GroupName>().unwrap().as_str(), "hsu0001");
        for (bad, at) in [("a/b", 1), (".a", 0), ("é", 0), ("a b", 1)] {
            assert_eq!(position(check_name("group", bad.as_bytes())), Some(at), "{bad}");
        }
        let refused = "hsu 1".parse::<GroupName>().unwrap_err().to_string();
        assert!(refused.contains("at byte 3: letters (A to Z, a to z), digits, '_' and '-' are allowed"), "{refused}");
        assert!(matches!("".parse::<GroupName>(), Err(Refusal::BadLength { length: 0, .. })));
    }
}
