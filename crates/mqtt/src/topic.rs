//! What brokers carry of the topics that MQTT allows. They differ in what they let through, so this is checked on both
//! ways.

use sealcast_topic::{levels, misplaced_wildcard};
use thiserror::Error;

/// Most levels of a topic or filter. MQTT sets no limit, brokers do: mosquitto closes the connection over more than 200.
pub const MAX_TOPIC_LEVELS: usize = 128;

/// Why a broker may close the connection for a topic or a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotCarried {
    /// A filter without bytes.
    #[error("topic is empty")]
    Empty,
    /// More than [`MAX_TOPIC_LEVELS`].
    #[error("topic has {0} levels, at most {MAX_TOPIC_LEVELS} are allowed")]
    Levels(usize),
    /// Holds a control character or a noncharacter (MQTT 5 1.5.4).
    #[error("topic holds U+{:04X}: control characters and noncharacters are not allowed", u32::from(*.0))]
    Character(char),
    /// A wildcard in a filter does not fill its level, or levels follow `#`.
    #[error("a wildcard is misplaced: `+` must fill a level, and `#` the last one")]
    Misplaced,
    /// A shared subscription without a name or a filter.
    #[error("a shared subscription must read $share/NAME/FILTER")]
    Share,
}

/// Whether brokers carry a message with this topic. Some close the connection for what MQTT itself allows.
///
/// # Errors
/// [`NotCarried::Levels`] or [`NotCarried::Character`].
pub fn check_carried(topic: &str) -> Result<(), NotCarried> {
    let levels = levels(topic);
    if levels > MAX_TOPIC_LEVELS {
        return Err(NotCarried::Levels(levels));
    }
    match topic.chars().find(|c| c.is_control() || is_noncharacter(*c)) {
        Some(c) => Err(NotCarried::Character(c)),
        None => Ok(()),
    }
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// Whether a filter of a SUBSCRIBE or UNSUBSCRIBE is one that every broker takes (MQTT 5 4.7, 4.8.2).
pub(crate) fn check_filter(text: &str) -> Result<(), NotCarried> {
    let filter = match text.strip_prefix("$share/") {
        None => text,
        Some(shared) => match shared.split_once('/') {
            Some((name, filter)) if !name.is_empty() && !name.contains(['+', '#']) => filter,
            _ => return Err(NotCarried::Share),
        },
    };
    if filter.is_empty() {
        return Err(NotCarried::Empty);
    }
    check_carried(text)?;
    if misplaced_wildcard(filter).is_some() {
        return Err(NotCarried::Misplaced);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_brokers_carry() {
        let check = |topic: &str, expected: Option<NotCarried>| {
            assert_eq!(check_carried(topic).err(), expected, "{topic:?}");
        };
        check("a/b c/é/\u{FFFD}", None);
        check(&"a/".repeat(127), None);
        check(&"a/".repeat(128), Some(NotCarried::Levels(129)));
        for c in ['\u{1}', '\u{1F}', '\u{7F}', '\u{9F}', '\u{FDD0}', '\u{FFFE}', '\u{10FFFF}'] {
            check(&format!("a/{c}"), Some(NotCarried::Character(c)));
        }
    }

    #[test]
    fn filters() {
        let check = |filter: &str, expected: Option<NotCarried>| {
            assert_eq!(check_filter(filter).err(), expected, "{filter:?}");
        };
        for filter in ["#", "+", "a/+/b/#", "/", "$SYS/#", "$share/g/a/+", "$share/g/#", "$shared"] {
            check(filter, None);
        }
        for filter in ["a#", "a/#/b", "a+/b", "##", "+a", "$share/g/a/#/b"] {
            check(filter, Some(NotCarried::Misplaced));
        }
        for filter in ["$share/", "$share/g", "$share//a", "$share/+/a"] {
            check(filter, Some(NotCarried::Share));
        }
        for filter in ["", "$share/g/"] {
            check(filter, Some(NotCarried::Empty));
        }
        check(&"+/".repeat(128), Some(NotCarried::Levels(129)));
    }
}
