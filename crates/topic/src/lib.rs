//! MQTT topic names and filters (MQTT 5, section 4.7): one parser, one matcher and one order of specificity for all
//! crates.
//!
//! What is narrower than MQTT (what a group may cover, how deep a broker lets a topic be) is the concern of the crate
//! that says so: it checks the rest itself.

mod filter;
mod name;

pub use filter::{compare_specificity, matches, misplaced_wildcard};
pub use name::{MAX_TOPIC_BYTES, TopicError, TopicName};

/// How many levels a topic name or filter has: one more than it has slashes.
#[must_use]
pub fn levels(topic: &str) -> usize {
    1 + topic.bytes().filter(|byte| *byte == b'/').count()
}
