//! Topic names (MQTT 5 4.7). Filters, which may hold wildcards, are the ledger's concern.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Longest topic name in bytes: its length is carried in two bytes.
pub const MAX_TOPIC_BYTES: usize = 65_535;
/// Most levels of a topic or filter. MQTT sets no limit, brokers do: mosquitto closes the connection over more than 200.
pub const MAX_TOPIC_LEVELS: usize = 128;

/// A topic that may be published to: 1 to 65,535 bytes of UTF-8 without U+0000, `+` and `#` (MQTT 5 4.7.1, 4.7.3).
///
/// Brokers differ in what they let through, so this is checked on both ways. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a text is no topic name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TopicError {
    /// No bytes.
    #[error("topic is empty")]
    Empty,
    /// More than [`MAX_TOPIC_BYTES`].
    #[error("topic has {0} bytes, at most 65535 are allowed")]
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
    /// More than [`MAX_TOPIC_LEVELS`].
    #[error("topic has {0} levels, at most {MAX_TOPIC_LEVELS} are allowed")]
    Levels(usize),
    /// Holds a control character or a noncharacter, for which a broker may close the connection (MQTT 5 1.5.4).
    #[error("topic holds U+{:04X}: control characters and noncharacters are not allowed", u32::from(*.0))]
    Character(char),
    /// A wildcard in a filter does not fill its level, or levels follow `#`.
    #[error("a wildcard is misplaced: `+` must fill a level, and `#` the last one")]
    Misplaced,
    /// A shared subscription without a name or a filter.
    #[error("a shared subscription must read $share/NAME/FILTER")]
    Share,
}

impl TopicName {
    /// Checks and copies a topic name.
    ///
    /// # Errors
    /// [`TopicError`] says which rule it breaks.
    pub fn new(topic: &str) -> Result<Self, TopicError> {
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
        Ok(Self(topic.into()))
    }

    /// As [`TopicName::new`], from bytes.
    ///
    /// # Errors
    /// [`TopicError::Utf8`] besides those of [`TopicName::new`].
    pub fn from_bytes(topic: &[u8]) -> Result<Self, TopicError> {
        Self::new(std::str::from_utf8(topic).map_err(|_| TopicError::Utf8)?)
    }

    /// The topic.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether brokers carry a message with this topic. Some close the connection for what MQTT itself allows.
    ///
    /// # Errors
    /// [`TopicError::Levels`] or [`TopicError::Character`].
    pub fn check_carried(&self) -> Result<(), TopicError> {
        check_carried(&self.0)
    }
}

/// See [`TopicName::check_carried`].
pub(crate) fn check_carried(topic: &str) -> Result<(), TopicError> {
    let levels = topic.split('/').count();
    if levels > MAX_TOPIC_LEVELS {
        return Err(TopicError::Levels(levels));
    }
    match topic.chars().find(|c| c.is_control() || is_noncharacter(*c)) {
        Some(c) => Err(TopicError::Character(c)),
        None => Ok(()),
    }
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// Whether a filter of a SUBSCRIBE or UNSUBSCRIBE is one that every broker takes (MQTT 5 4.7, 4.8.2).
pub(crate) fn check_filter(text: &str) -> Result<(), TopicError> {
    let filter = match text.strip_prefix("$share/") {
        None => text,
        Some(shared) => match shared.split_once('/') {
            Some((name, filter)) if !name.is_empty() && !name.contains(['+', '#']) => filter,
            _ => return Err(TopicError::Share),
        },
    };
    if filter.is_empty() {
        return Err(TopicError::Empty);
    }
    check_carried(text)?;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let fills = level.len() == 1 && (level == "+" || levels.peek().is_none());
        if level.contains(['+', '#']) && !fills {
            return Err(TopicError::Misplaced);
        }
    }
    Ok(())
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

    #[test]
    fn what_brokers_carry() {
        let check = |topic: &str, expected: Option<TopicError>| {
            assert_eq!(check_carried(topic).err(), expected, "{topic:?}");
        };
        check("a/b c/é/\u{FFFD}", None);
        check(&"a/".repeat(127), None);
        check(&"a/".repeat(128), Some(TopicError::Levels(129)));
        for c in ['\u{1}', '\u{1F}', '\u{7F}', '\u{9F}', '\u{FDD0}', '\u{FFFE}', '\u{10FFFF}'] {
            check(&format!("a/{c}"), Some(TopicError::Character(c)));
        }
    }

    #[test]
    fn filters() {
        let check = |filter: &str, expected: Option<TopicError>| {
            assert_eq!(check_filter(filter).err(), expected, "{filter:?}");
        };
        for filter in ["#", "+", "a/+/b/#", "/", "$SYS/#", "$share/g/a/+", "$share/g/#", "$shared"] {
            check(filter, None);
        }
        for filter in ["a#", "a/#/b", "a+/b", "##", "+a", "$share/g/a/#/b"] {
            check(filter, Some(TopicError::Misplaced));
        }
        for filter in ["$share/", "$share/g", "$share//a", "$share/+/a"] {
            check(filter, Some(TopicError::Share));
        }
        for filter in ["", "$share/g/"] {
            check(filter, Some(TopicError::Empty));
        }
        check(&"+/".repeat(128), Some(TopicError::Levels(129)));
    }
}
