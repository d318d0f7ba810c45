//! What brokers carry of the topics that MQTT allows. They differ in what they let through, so this is checked on both
//! ways.

use sealcast_topic::{FilterError, MAX_TOPIC_LEVELS, Subscription, levels};
use thiserror::Error;

/// Why a broker may close the connection for a topic or a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotCarried {
    /// No topic filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// More than [`MAX_TOPIC_LEVELS`].
    #[error("topic has {0} levels, at most {MAX_TOPIC_LEVELS} are allowed")]
    Levels(usize),
    /// Holds a control character or a noncharacter (MQTT 5 1.5.4).
    #[error("topic holds U+{:04X}: control characters and noncharacters are not allowed", u32::from(*.0))]
    Character(char),
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
    Subscription::parse(text)?;
    check_carried(text)
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
        for filter in ["#", "a/+/b/#", "$SYS/#", "$share/g/a/+"] {
            check(filter, None);
        }
        check("$share/g/a/#/b", Some(NotCarried::Filter(FilterError::Misplaced)));
        check("$share/g", Some(NotCarried::Filter(FilterError::Share)));
        check("$share/\u{7F}/a", Some(NotCarried::Character('\u{7F}')));
        check(&"+/".repeat(128), Some(NotCarried::Levels(129)));
    }
}
