//! Topic names and filters (MQTT 5, §4.7), as far as this broker has them.

use sealcast_topic::{MAX_TOPIC_BYTES, levels, misplaced_wildcard};

pub use sealcast_topic::matches;

/// Why a topic name or filter is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No characters, or more than 65,535 bytes.
    #[error("must have 1 to 65535 bytes")]
    Length,
    /// U+0000, which MQTT forbids.
    #[error("contains the character U+0000")]
    Nul,
    /// `+` or `#` in a topic name.
    #[error("a topic to publish to contains a wildcard, '+' or '#'")]
    Wildcard,
    /// A wildcard that does not fill its level, or `#` before the last level.
    #[error("'+' must fill a whole level, and '#' the last one")]
    Misplaced,
    /// More than [`MAX_TOPIC_LEVELS`].
    #[error("has more than {MAX_TOPIC_LEVELS} levels")]
    Levels,
    /// `$share/<group>/<filter>` without group or filter.
    #[error("a shared subscription must read $share/<group>/<filter>")]
    Share,
}

/// Most levels of a topic or filter; MQTT sets no limit.
pub const MAX_TOPIC_LEVELS: usize = 128;

fn common(text: &str) -> Result<(), TopicError> {
    if text.is_empty() || text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::Length);
    }
    if text.contains('\0') {
        return Err(TopicError::Nul);
    }
    if levels(text) > MAX_TOPIC_LEVELS {
        return Err(TopicError::Levels);
    }
    Ok(())
}

/// Checks a topic name: 1 to 65,535 bytes, no U+0000, no wildcards, at most 128 levels.
pub fn validate_topic(topic: &str) -> Result<(), TopicError> {
    common(topic)?;
    if topic.contains(['+', '#']) { Err(TopicError::Wildcard) } else { Ok(()) }
}

/// Checks a filter (without `$share/<group>/`).
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    common(filter)?;
    if misplaced_wildcard(filter).is_some() { Err(TopicError::Misplaced) } else { Ok(()) }
}

/// Splits and checks a filter as it stands in SUBSCRIBE: `(share group, filter)`.
pub(crate) fn parse_filter(text: &str) -> Result<(Option<&str>, &str), TopicError> {
    if let Some(rest) = text.strip_prefix("$share/") {
        let (group, filter) = rest.split_once('/').ok_or(TopicError::Share)?;
        if group.is_empty() || group.contains(['+', '#']) || filter.is_empty() {
            return Err(TopicError::Share);
        }
        common(group)?;
        validate_filter(filter)?;
        return Ok((Some(group), filter));
    }
    validate_filter(text)?;
    Ok((None, text))
}

/// First levels that only a filter which names them reaches, beside those that begin with `$`.
#[derive(Default)]
pub(crate) struct Reserved(Vec<String>);

impl Reserved {
    pub(crate) fn new(levels: Vec<String>) -> Self {
        Self(levels)
    }

    /// Whether a wildcard in a filter's first level leaves `topic` out.
    pub(crate) fn covers(&self, topic: &str) -> bool {
        let first = topic.split('/').next().unwrap_or_default();
        first.starts_with('$') || self.0.iter().any(|level| level == first)
    }

    /// Whether the first level of `topic` is one of them.
    pub(crate) fn names(&self, topic: &str) -> bool {
        let first = topic.split('/').next().unwrap_or_default();
        self.0.iter().any(|level| level == first)
    }

    /// As [`matches()`], where a wildcard in the first level matches none of these levels.
    pub(crate) fn matches(&self, filter: &str, topic: &str) -> bool {
        !(filter.starts_with(['+', '#']) && self.covers(topic)) && matches(filter, topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_filters() {
        assert_eq!(validate_topic("a/b"), Ok(()));
        assert_eq!(validate_topic(""), Err(TopicError::Length));
        assert_eq!(validate_topic("a\0b"), Err(TopicError::Nul));
        assert_eq!(validate_topic("a/+"), Err(TopicError::Wildcard));
        assert_eq!(validate_filter("a/+/#"), Ok(()));
        assert_eq!(validate_filter("a/#/b"), Err(TopicError::Misplaced));
        assert_eq!(validate_filter("a+"), Err(TopicError::Misplaced));
        assert_eq!(parse_filter("$share/g/a/#"), Ok((Some("g"), "a/#")));
        assert_eq!(parse_filter("$share/g"), Err(TopicError::Share));
        assert_eq!(parse_filter("$share//a"), Err(TopicError::Share));
    }

    #[test]
    fn reserved_levels_must_be_named() {
        let reserved = Reserved::new(vec!["sealcast".into()]);
        for (filter, topic, want) in [
            ("#", "sealcast/v1/ledger", false),
            ("+/v1/#", "sealcast/v1/ledger", false),
            ("+", "sealcast", false),
            ("sealcast/+/ledger", "sealcast/v1/ledger", true),
            ("sealcast/#", "sealcast", true),
            ("+/v1/#", "sealcasts/v1/ledger", true),
            ("#", "a/sealcast/v1", true),
            ("#", "/sealcast", true),
            ("#", "$SYS/x", false),
        ] {
            assert_eq!(reserved.matches(filter, topic), want, "{filter} {topic}");
        }
    }

    #[test]
    fn matching() {
        for (filter, topic, want) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
        ] {
            assert_eq!(matches(filter, topic), want, "{filter} {topic}");
        }
    }
}
