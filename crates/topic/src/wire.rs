//! How Sealcast's own topics are written at a broker that is somebody else's.

use std::borrow::Cow;

use crate::{CONTROL_LEVEL, first_level};

/// What Sealcast's own topics begin with in this program, and at a broker unless another prefix is chosen.
const OWN: &str = "sealcast/v1";
/// Longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 128;
/// Slashes of a prefix: the longest topic has four more, and Azure's and AWS's brokers take seven.
const MAX_SLASHES: usize = 3;
/// Stands for a dot: RabbitMQ makes a slash of that. No name has it.
const DOT: char = '=';

/// Why a text is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It is empty or too long.
    #[error("a prefix has 1 to {MAX_PREFIX_BYTES} characters")]
    Length,
    /// It has a character that not every broker carries as it is.
    #[error("a prefix may not have {0:?}: use letters, digits, '_', '-', '=' and '/'")]
    Character(char),
    /// Between two slashes, before the first one or after the last one, there is nothing.
    #[error("a prefix has no empty level")]
    EmptyLevel,
    /// Topics would have more slashes than some brokers take.
    #[error("a prefix has at most {MAX_SLASHES} slashes")]
    Slashes,
}

/// Translates Sealcast's own topics and filters, which [`crate::ControlTopic`] writes, to what a broker gets, and back. The
/// default leaves them as they are, for the hub's own broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wire {
    /// `None`: as they are.
    prefix: Option<Box<str>>,
}

impl Wire {
    /// For somebody else's broker where no other prefix is chosen.
    #[must_use]
    pub fn foreign() -> Self {
        Self { prefix: Some(OWN.into()) }
    }

    /// For somebody else's broker: with this prefix, and without characters that some brokers change.
    ///
    /// # Errors
    /// [`PrefixError`]
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        if prefix.is_empty() || prefix.len() > MAX_PREFIX_BYTES {
            return Err(PrefixError::Length);
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '=' | '/');
        if let Some(other) = prefix.chars().find(|c| !fits(*c)) {
            return Err(PrefixError::Character(other));
        }
        if prefix.split('/').any(str::is_empty) {
            return Err(PrefixError::EmptyLevel);
        }
        if prefix.matches('/').count() > MAX_SLASHES {
            return Err(PrefixError::Slashes);
        }
        Ok(Self { prefix: Some(prefix.into()) })
    }

    /// What Sealcast's own topics begin with at somebody else's broker. `None` for the hub's own.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// Whether a topic or filter at the broker is one of Sealcast's own, or would be at another broker.
    #[must_use]
    pub fn is_control(&self, topic: &str) -> bool {
        first_level(topic) == CONTROL_LEVEL
            || self.prefix.as_deref().is_some_and(|prefix| below(topic, prefix).is_some() || topic == prefix)
    }

    /// What the broker gets. Topics that are not Sealcast's stay as they are.
    #[must_use]
    pub fn outward<'a>(&self, topic: &'a str) -> Cow<'a, str> {
        match (self.prefix.as_deref(), below(topic, OWN)) {
            (Some(prefix), Some(rest)) => format!("{prefix}/{}", self.name(rest)).into(),
            _ => topic.into(),
        }
    }

    /// A name as a part of what the broker gets.
    #[must_use]
    pub fn name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        if self.prefix.is_some() && name.contains('.') {
            name.chars().map(|c| if c == '.' { DOT } else { c }).collect::<String>().into()
        } else {
            name.into()
        }
    }

    /// What a topic of the broker is here. `None` for one that looks like Sealcast's own, and is not at this broker.
    #[must_use]
    pub fn inward<'a>(&self, topic: &'a str) -> Option<Cow<'a, str>> {
        let Some(prefix) = self.prefix.as_deref() else { return Some(topic.into()) };
        match below(topic, prefix) {
            Some(rest) if rest.contains('.') => None,
            Some(rest) => Some(format!("{OWN}/{}", rest.replace(DOT, ".")).into()),
            None if first_level(topic) == CONTROL_LEVEL => None,
            None => Some(topic.into()),
        }
    }
}

/// What stands below a level.
fn below<'a>(topic: &'a str, level: &str) -> Option<&'a str> {
    topic.strip_prefix(level)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ControlTopic;

    fn wire(prefix: &str) -> Wire {
        Wire::new(prefix).unwrap_or_else(|error| panic!("{prefix}: {error}"))
    }

    #[test]
    fn at_the_hubs_broker_topics_stay_as_they_are() {
        let wire = Wire::default();
        for topic in ["sealcast/v1/keys/a.b", "sealcast/x", "a.b/c"] {
            assert_eq!(wire.outward(topic), topic);
            assert_eq!(wire.inward(topic).as_deref(), Some(topic));
        }
    }

    #[test]
    fn elsewhere_they_have_the_prefix_and_no_dots() {
        let wire = wire("plant-7/sealcast");
        let topic = ControlTopic::Inbox { device: "a.b", group: "+", committer: "c" }.to_string();
        assert_eq!(wire.outward(&topic), "plant-7/sealcast/inbox/a=b/+/c");
        assert_eq!(wire.inward("plant-7/sealcast/inbox/a=b/7/c").as_deref(), Some("sealcast/v1/inbox/a.b/7/c"));
        assert_eq!(wire.outward("other/a.b"), "other/a.b");
        assert_eq!(wire.inward("other/a=b").as_deref(), Some("other/a=b"));
        for strangers in ["sealcast/v1/ledger", "plant-7/sealcast/keys/a.b"] {
            assert_eq!(wire.inward(strangers), None, "{strangers}");
        }
        assert_eq!(wire.name("a.b"), "a=b");
        for topic in ["plant-7/sealcast", "plant-7/sealcast/keys/a", "sealcast/v1/ledger"] {
            assert!(wire.is_control(topic), "{topic}");
        }
        for topic in ["plant-7/sealcasts/x", "plant-7", "plant-7/#", "plant-7/+/keys", "#"] {
            assert!(!wire.is_control(topic), "{topic}");
        }
    }

    #[test]
    fn no_topic_has_more_than_seven_slashes() {
        let wire = wire("a/b/c/d");
        let longest = ControlTopic::Inbox { device: "1111", group: "7", committer: "2222" }.to_string();
        assert_eq!(wire.outward(&longest).matches('/').count(), 7);
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for (text, error) in [
            ("", PrefixError::Length),
            (&*"x".repeat(129), PrefixError::Length),
            ("a.b", PrefixError::Character('.')),
            ("a/+", PrefixError::Character('+')),
            ("$share/a", PrefixError::Character('$')),
            ("/a", PrefixError::EmptyLevel),
            ("a/", PrefixError::EmptyLevel),
            ("a//b", PrefixError::EmptyLevel),
            ("a/b/c/d/e", PrefixError::Slashes),
        ] {
            assert_eq!(Wire::new(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same(name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", prefix in "[A-Za-z0-9_=-]{1,5}(/[a-z]{1,5}){0,3}") {
            let wire = wire(&prefix);
            let topic = ControlTopic::Keys { device: &name }.to_string();
            let outward = wire.outward(&topic).into_owned();
            prop_assert!(outward.chars().all(|c| c.is_ascii_alphanumeric() || "_=/-".contains(c)), "{}", outward);
            let inward = wire.inward(&outward);
            prop_assert_eq!(inward.as_deref(), Some(&*topic));
        }
    }
}
