//! Topic names and filters (MQTT 5, §4.7), as far as this broker has them.

use sealcast_topic::{FilterError, MAX_TOPIC_LEVELS, Subscription, TopicName, first_level, levels, matches};

/// Why a topic name or filter cannot be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Not a topic name.
    #[error(transparent)]
    Name(#[from] sealcast_topic::TopicError),
    /// Not a topic filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// More than [`MAX_TOPIC_LEVELS`].
    #[error("has more than {MAX_TOPIC_LEVELS} levels")]
    Levels,
}

/// Checks how deep a topic name or filter is.
pub(crate) fn check_levels(text: &str) -> Result<(), TopicError> {
    if levels(text) > MAX_TOPIC_LEVELS { Err(TopicError::Levels) } else { Ok(()) }
}

/// Checks a topic name and how deep it is.
pub fn parse_topic(topic: &str) -> Result<TopicName, TopicError> {
    let name = TopicName::new(topic)?;
    check_levels(topic)?;
    Ok(name)
}

/// Checks a filter (without `$share/<group>/`) and how deep it is.
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    sealcast_topic::check_filter(filter)?;
    check_levels(filter)
}

/// Splits and checks a filter as it stands in SUBSCRIBE: `(share group, filter)`.
pub(crate) fn parse_filter(text: &str) -> Result<(Option<&str>, &str), TopicError> {
    let Subscription { share, filter } = Subscription::parse(text)?;
    check_levels(filter)?;
    Ok((share, filter))
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
        let first = first_level(topic);
        first.starts_with('$') || self.0.iter().any(|level| level == first)
    }

    /// Whether the first level of `topic` is one of them.
    pub(crate) fn names(&self, topic: &str) -> bool {
        let first = first_level(topic);
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
        assert_eq!(parse_topic("a/b").as_deref(), Ok("a/b"));
        assert_eq!(parse_topic(""), Err(sealcast_topic::TopicError::Empty.into()));
        assert_eq!(parse_topic("a/+"), Err(sealcast_topic::TopicError::Wildcard.into()));
        assert!(parse_topic(&"a/".repeat(127)).is_ok());
        assert_eq!(parse_topic(&"a/".repeat(128)), Err(TopicError::Levels));
        assert_eq!(validate_filter("a/+/#"), Ok(()));
        assert_eq!(validate_filter("a/#/b"), Err(FilterError::Misplaced.into()));
        assert_eq!(validate_filter(&"+/".repeat(128)), Err(TopicError::Levels));
        assert_eq!(parse_filter("$share/g/a/#"), Ok((Some("g"), "a/#")));
        assert_eq!(parse_filter("$share/g"), Err(FilterError::Share.into()));
        let deepest = "+/".repeat(127);
        assert_eq!(parse_filter(&format!("$share/g/{deepest}")), Ok((Some("g"), deepest.as_str())));
        assert_eq!(parse_filter(&format!("$share/g/{deepest}/")), Err(TopicError::Levels));
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
}
