//! Topic filters (MQTT 5 §4.7): which rule a topic has.

use std::{cmp::Ordering, fmt, str::FromStr};

use sealcast_topic::{compare_specificity, levels, matches, misplaced_wildcard};

/// A topic filter of a rule: 1 to 1024 bytes, `+` for one level, `#` at the end for all that follow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleFilter(String);

/// Why a text is no [`RuleFilter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No bytes, or more than [`RuleFilter::MAX_BYTES`].
    #[error("a topic filter has 1 to 1024 bytes, not {0}")]
    Length(usize),
    /// A control character.
    #[error("a topic filter has no control characters, but one stands at byte {0}")]
    Control(usize),
    /// A wildcard that is not a whole level, or `#` before the end.
    #[error("`+` stands alone in its level and `#` alone in the last one: see level {0}")]
    Wildcard(usize),
}

impl RuleFilter {
    /// Longest filter, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// The filter.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `topic` is one of this filter's. `a/#` matches `a` too; no wildcard matches a first level that begins
    /// with `$` (§4.7.2).
    pub fn matches(&self, topic: &str) -> bool {
        matches(&self.0, topic)
    }

    /// `Less` if `self` is the more specific of two that match the same topic: level by level, a literal comes before
    /// `+` and `+` before `#`, as for groups.
    pub fn compare_specificity(&self, other: &Self) -> Ordering {
        compare_specificity(&self.0, &other.0)
    }
}

impl FromStr for RuleFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            return Err(FilterError::Length(text.len()));
        }
        if let Some(at) = text.find(|c: char| c.is_control()) {
            return Err(FilterError::Control(at));
        }
        if let Some(at) = misplaced_wildcard(text) {
            return Err(FilterError::Wildcard(levels(text.get(..at).unwrap_or_default())));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RuleFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RuleFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_matches() {
        let check = |filter: &str, topic: &str, expected: bool| {
            assert_eq!(filter.parse::<RuleFilter>().unwrap().matches(topic), expected, "{filter} {topic}");
        };
        check("a/b", "a/b", true);
        check("a/+", "a/b", true);
        check("a/+", "a/b/c", false);
        check("a/+", "a", false);
        check("a/#", "a", true);
        check("a/#", "a/b/c", true);
        check("#", "a/b", true);
        check("#", "$SYS/x", false);
        check("$SYS/#", "$SYS/x", true);
        for (text, error) in [
            ("", FilterError::Length(0)),
            ("a/b+", FilterError::Wildcard(2)),
            ("#/a", FilterError::Wildcard(1)),
            ("a\0", FilterError::Control(1)),
        ] {
            assert_eq!(text.parse::<RuleFilter>(), Err(error));
        }
        let order =
            |a: &str, b: &str| a.parse::<RuleFilter>().unwrap().compare_specificity(&b.parse::<RuleFilter>().unwrap());
        assert_eq!(order("a/b", "a/+"), Ordering::Less);
        assert_eq!(order("a/+/c", "a/#"), Ordering::Less);
        assert_eq!(order("a/b", "a/b/#"), Ordering::Less);
    }
}
