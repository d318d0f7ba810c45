//! MQTT topic names and filters (MQTT 5, section 4.7), as far as groups have them.

use std::{cmp::Ordering, fmt, str::FromStr};

use sealcast_topic::{compare_specificity, is_control, matches, misplaced_wildcard, overlap};

use crate::{Refusal, text::check_text};

/// A topic that a reading was taken for: 1 to 1024 bytes, no wildcards, no control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadingTopic(String);

/// A topic filter of a group: 1 to 256 bytes; `+` stands for one level, `#` at the end for all that follow.
///
/// Neither the server's topics (`$...`) nor Sealcast's own (`sealcast/...`) can be asked for by name, and
/// [`group_for_topic`](crate::Replica::group_for_topic) gives them to no group even if a wildcard matches.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(String);

impl ReadingTopic {
    /// Longest topic, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// The topic.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let text = check_text("topic", bytes, 1, Self::MAX_BYTES)?;
        match text.find(['+', '#']) {
            Some(position) => Err(Refusal::BadText { field: "topic".into(), position: position as u64 }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TopicFilter {
    /// Longest filter, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// The filter.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let text = check_text("filter", bytes, 1, Self::MAX_BYTES)?;
        if let Some(position) = misplaced_wildcard(text) {
            return Err(Refusal::BadFilter { filter: text.to_owned(), position: position as u64 });
        }
        if is_reserved(text) {
            return Err(Refusal::ReservedFilter { filter: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether a message published to `topic` is one of this filter's. `#` matches the level above it too: `a/#`
    /// matches `a`. A wildcard does not match a first level that begins with `$` (section 4.7.2).
    ///
    /// `topic` is a topic name: wildcards in it are not looked for.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        !topic.is_empty() && matches(&self.0, topic)
    }

    /// Whether some topic is matched by both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        overlap(&self.0, &other.0)
    }

    /// `Less` if `self` is the more specific, for two filters that match the same topic: level by level, a literal
    /// comes before `+` and `+` before `#`.
    #[must_use]
    pub fn compare_specificity(&self, other: &Self) -> Ordering {
        compare_specificity(&self.0, &other.0)
    }
}

/// Whether no group may have this topic or filter.
pub(crate) fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$') || is_control(topic)
}

macro_rules! topic_text {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = Refusal;

            fn from_str(text: &str) -> Result<Self, Refusal> {
                Self::from_bytes(text.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}
topic_text!(ReadingTopic);
topic_text!(TopicFilter);

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        text.parse().unwrap()
    }

    #[test]
    fn matches_as_the_standard_says() {
        for (pattern, yes, no) in [
            ("#", &["a", "a/b", "/", "sealcast/v1"][..], &["$SYS", "$SYS/x", ""][..]),
            ("+", &["a", "sealcast"], &["a/b", "/", "/a", "$SYS"]),
            ("+/+", &["/", "a/", "/a", "a/b"], &["a", "a/b/c", "$SYS/x"]),
            ("/+", &["/a", "/"], &["a", "/a/b"]),
            ("a/#", &["a", "a/", "a/b", "a/b/c"], &["ab", "b", "A"]),
            ("a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/c/d", "a/b"]),
            ("a/+/#", &["a/b", "a/b/c"], &["a"]),
            ("a/b", &["a/b"], &["a", "a/b/", "a/B"]),
        ] {
            for topic in yes {
                assert!(filter(pattern).matches(topic), "{pattern} should match {topic}");
            }
            for topic in no {
                assert!(!filter(pattern).matches(topic), "{pattern} should not match {topic}");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_filter_of_a_group() {
        for (bad, at) in [("a+", 1), ("+a", 0), ("a/#/b", 2), ("a#", 1), ("#/", 0), ("##", 0), ("a/+b/c", 2)] {
            assert_eq!(
                bad.parse::<TopicFilter>(),
                Err(Refusal::BadFilter { filter: bad.into(), position: at }),
                "{bad}"
            );
        }
        for reserved in ["$SYS/#", "$share/g/t", "sealcast", "sealcast/#", "sealcast/v1/keys/+"] {
            assert_eq!(
                reserved.parse::<TopicFilter>(),
                Err(Refusal::ReservedFilter { filter: reserved.into() }),
                "{reserved}"
            );
        }
        for good in ["sealcasts", "sealcast2/#", "/sealcast", "a/$b", "+/sealcast"] {
            assert!(good.parse::<TopicFilter>().is_ok(), "{good}");
        }
        assert!(matches!("".parse::<TopicFilter>(), Err(Refusal::BadLength { .. })));
        assert!(matches!("x".repeat(257).parse::<TopicFilter>(), Err(Refusal::BadLength { .. })));
        assert!(matches!("a/#".parse::<ReadingTopic>(), Err(Refusal::BadText { position: 2, .. })));
    }

    #[test]
    fn the_more_specific_comes_first() {
        let ordered = ["a/b/c", "a/b/+", "a/b/#", "a/+/c", "a/+/#", "a/#", "+/b/c", "+/#", "#"];
        for (i, first) in ordered.iter().enumerate() {
            for (j, second) in ordered.iter().enumerate() {
                assert_eq!(filter(first).compare_specificity(&filter(second)), i.cmp(&j), "{first} {second}");
            }
        }
        assert_eq!(filter("a").compare_specificity(&filter("a/#")), Ordering::Less);
    }
}
