//! Topic names: what is published to.

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

use thiserror::Error;

/// Longest topic name in bytes: MQTT carries its length in two bytes.
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// A topic that may be published to: 1 to 65,535 bytes of UTF-8 without U+0000, `+` and `#` (MQTT 5, sections 4.7.1
/// and 4.7.3). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a text is no topic name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TopicError {
    /// No bytes.
    #[error("topic is empty")]
    Empty,
    /// More than [`MAX_TOPIC_BYTES`].
    #[error("topic has {0} bytes, at most {MAX_TOPIC_BYTES} are allowed")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("topic is not valid UTF-8")]
    Utf8,
    /// Holds U+0000.
    #[error("topic holds a NUL character")]
    Nul,
    /// Holds `+` or `#`, which belong in subscriptions only.
    #[error("topic holds a wildcard (`+` or `#`): these belong in subscriptions only")]
    Wildcard,
}

impl TopicName {
    /// Checks and copies a topic name.
    ///
    /// # Errors
    /// [`TopicError`] says which rule it breaks.
    pub fn new(topic: &str) -> Result<Self, TopicError> {
        Self::check(topic)?;
        Ok(Self(topic.into()))
    }

    /// Whether it is a topic name.
    ///
    /// # Errors
    /// [`TopicError`] says which rule it breaks.
    pub fn check(topic: &str) -> Result<(), TopicError> {
        if topic.is_empty() {
            return Err(TopicError::Empty);
        }
        if topic.len() > MAX_TOPIC_BYTES {
            return Err(TopicError::TooLong(topic.len()));
        }
        for byte in topic.bytes() {
            match byte {
                0 => return Err(TopicError::Nul),
                b'+' | b'#' => return Err(TopicError::Wildcard),
                _ => {}
            }
        }
        Ok(())
    }

    /// As [`TopicName::new`], from bytes.
    ///
    /// # Errors
    /// [`TopicError::Utf8`] besides those of [`TopicName::new`].
    pub fn from_bytes(topic: &[u8]) -> Result<Self, TopicError> {
        Self::new(std::str::from_utf8(topic).map_err(|_| TopicError::Utf8)?)
    }

    /// The topic.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A map by topic names can be asked with a text: both compare and hash alike.
impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = TopicError;

    fn from_str(topic: &str) -> Result<Self, TopicError> {
        Self::new(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let check = |topic: &[u8], expected: Option<TopicError>| {
            assert_eq!(TopicName::from_bytes(topic).err(), expected, "{topic:?}");
        };
        check(b"a", None);
        check(b"/", None);
        check(b"hsu/0001/temp erature", None);
        check(b"$SYS/broker", None);
        check(b"", Some(TopicError::Empty));
        check(b"a/+", Some(TopicError::Wildcard));
        check(b"a#", Some(TopicError::Wildcard));
        check(b"a\0b", Some(TopicError::Nul));
        check(b"\xff", Some(TopicError::Utf8));
        check(b"\xed\xa0\x80", Some(TopicError::Utf8));
        check(&[b'a'; MAX_TOPIC_BYTES], None);
        check(&[b'a'; MAX_TOPIC_BYTES + 1], Some(TopicError::TooLong(MAX_TOPIC_BYTES + 1)));
    }
}
