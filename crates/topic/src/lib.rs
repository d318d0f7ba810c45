//! MQTT topic names and filters (MQTT 5, section 4.7): one parser, one matcher and one order of specificity for all
//! crates, and the topics that Sealcast uses itself.
//!
//! What is narrower than MQTT (what a group may cover, which characters a broker carries) is the concern of the crate
//! that says so: it checks the rest itself.

mod control;
mod filter;
mod name;
mod wire;

pub use control::{CONTROL_LEVEL, ControlTopic, is_control};
pub use filter::{
    FilterError, Subscription, check_filter, compare_specificity, covers, matches, misplaced_wildcard, overlap,
};
pub use name::{MAX_TOPIC_BYTES, TopicError, TopicName};
pub use wire::{PrefixError, Wire};

/// Most levels of a topic or filter that Sealcast carries. MQTT sets no limit, brokers do: mosquitto closes the
/// connection over more than 200.
pub const MAX_TOPIC_LEVELS: usize = 128;

/// How many levels a topic name or filter has: one more than it has slashes.
#[must_use]
pub fn levels(topic: &str) -> usize {
    1 + topic.bytes().filter(|byte| *byte == b'/').count()
}

/// What stands before the first slash.
#[must_use]
pub fn first_level(topic: &str) -> &str {
    topic.split('/').next().unwrap_or_default()
}
