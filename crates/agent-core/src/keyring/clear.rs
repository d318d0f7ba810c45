//! What passes unsealed because the configuration says so.

use std::str::FromStr;

use sealcast_topic::{FilterError, check_filter, first_level, is_control, matches, overlap};

/// A filter of topics that pass unsealed. Unlike a group's it may name the broker's own topics, as `$SYS/#` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearFilter(String);

/// Why a text is no such filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClearFilterError {
    /// MQTT does not allow it.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// It is about the agents' own topics.
    #[error("Sealcast's own topics are for the agents themselves")]
    Control,
    /// It is a shared subscription.
    #[error("a shared subscription has no topics of its own: leave out $share and the name of the share")]
    Share,
}

impl ClearFilter {
    /// Whether both match some topic.
    pub fn overlaps(&self, filter: &str) -> bool {
        overlap(&self.0, filter)
    }

    /// Whether it matches `topic` (MQTT 5, section 4.7).
    pub fn matches(&self, topic: &str) -> bool {
        matches(&self.0, topic)
    }
}

impl FromStr for ClearFilter {
    type Err = ClearFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_filter(text)?;
        if is_control(text) {
            return Err(ClearFilterError::Control);
        }
        if first_level(text) == "$share" {
            return Err(ClearFilterError::Share);
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_may_name_the_brokers_topics_and_not_the_agents() {
        let clear = |text: &str| text.parse::<ClearFilter>();
        assert!(clear("$SYS/#").is_ok_and(|filter| filter.matches("$SYS/broker/uptime")));
        assert!(clear("#").is_ok_and(|filter| filter.matches("a/b") && !filter.matches("$SYS/broker/uptime")));
        assert_eq!(clear("sealcast/#"), Err(ClearFilterError::Control));
        assert_eq!(clear("$share/g/a"), Err(ClearFilterError::Share));
        assert_eq!(clear("a/#/b"), Err(ClearFilterError::Filter(FilterError::Misplaced)));
        assert_eq!(clear(""), Err(ClearFilterError::Filter(FilterError::Empty)));
    }
}
