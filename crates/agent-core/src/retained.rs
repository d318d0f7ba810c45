//! The retained messages of this device's clients, which must be sealed again at each new epoch.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

/// Retained messages that are kept to be sealed again.
pub const MAX_RETAINED: usize = 10_000;

/// A retained message in the clear, as its publisher's agent keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// The topic.
    pub topic: String,
    /// When it was published, Unix ms.
    pub time_ms: u64,
    /// The MQTT 5 properties that travel inside the seal, encoded.
    pub props: Vec<u8>,
    /// The payload. An empty one forgets the topic's message, as the broker does.
    pub payload: Zeroizing<Vec<u8>>,
}

/// No more of them can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_RETAINED} retained messages are kept already, which is the limit")]
pub struct TooManyRetained;

/// The topics that have one.
#[derive(Debug, Clone, Default)]
pub struct RetainedTopics(BTreeSet<String>);

impl RetainedTopics {
    /// Those on disk.
    pub fn new(topics: impl IntoIterator<Item = String>) -> Self {
        Self(topics.into_iter().collect())
    }

    /// Makes room for a message that is about to be written, or takes its topic out if it forgets one. What became of the
    /// write is told by [`Self::settle`].
    ///
    /// # Errors
    /// There are too many.
    pub fn keep(&mut self, message: &Retained) -> Result<(), TooManyRetained> {
        if message.payload.is_empty() {
            self.0.remove(&message.topic);
        } else if !self.0.contains(&message.topic) {
            if self.0.len() >= MAX_RETAINED {
                return Err(TooManyRetained);
            }
            self.0.insert(message.topic.clone());
        }
        Ok(())
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether a topic has a message on disk, after a write that succeeded, or failed.
    pub fn settle(&mut self, topic: &str, is_on_disk: bool) {
        if is_on_disk {
            self.0.insert(topic.to_owned());
        } else {
            self.0.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_counts_topics_that_have_a_message() {
        let message = |topic: usize, payload: &[u8]| Retained {
            topic: topic.to_string(),
            time_ms: 0,
            props: Vec::new(),
            payload: Zeroizing::new(payload.to_vec()),
        };
        let mut topics = RetainedTopics::new((0..MAX_RETAINED).map(|topic| topic.to_string()));
        assert_eq!(topics.keep(&message(7, b"new")), Ok(()));
        assert_eq!(topics.keep(&message(MAX_RETAINED, b"one more")), Err(TooManyRetained));
        assert_eq!(topics.keep(&message(MAX_RETAINED, b"")), Ok(()));
        assert_eq!(topics.keep(&message(7, b"")), Ok(()));
        assert_eq!(topics.keep(&message(MAX_RETAINED, b"now there is room")), Ok(()));
        // Which was not written.
        topics.settle(&MAX_RETAINED.to_string(), false);
        assert_eq!(topics.keep(&message(MAX_RETAINED + 1, b"another")), Ok(()));
        // What was to be forgotten is there still.
        assert_eq!(topics.keep(&message(8, b"")), Ok(()));
        topics.settle("8", true);
        assert_eq!(topics.keep(&message(MAX_RETAINED, b"no room")), Err(TooManyRetained));
    }
}
