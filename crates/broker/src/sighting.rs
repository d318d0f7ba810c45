//! What a watcher of all that is published gets.

use std::sync::Arc;

use sealcast_broker_core::Message;
use sealcast_mqtt::TopicName;

/// A message that was published, as far as a watcher is shown it. It holds no payload in memory that the broker has passed on.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// Topic name.
    pub topic: TopicName,
    /// The device that published it; `None` for the hub.
    pub sender: Option<Arc<str>>,
    /// RETAIN flag that it was published with.
    pub retain: bool,
    /// The payload's length.
    pub bytes: usize,
    /// Its first bytes, at most [`Self::MAX_START`].
    pub start: Box<[u8]>,
}

impl Sighting {
    /// Bytes of a payload that are shown.
    pub const MAX_START: usize = 256;

    pub(crate) fn of(message: &Message) -> Self {
        let payload = &message.payload;
        Self {
            topic: message.topic.clone(),
            sender: message.sender.clone(),
            retain: message.retain,
            bytes: payload.len(),
            start: payload.get(..Self::MAX_START).unwrap_or(payload).into(),
        }
    }
}
