//! A message on its way, and how it is handed to in-process subscribers.

use std::sync::Arc;

use bytes::Bytes;

/// Quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// At most once.
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// The properties of a PUBLISH that travel from publisher to subscriber (MQTT 5, §3.3.2.3). Empty for MQTT 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// Payload format indicator: 0 bytes, 1 UTF-8.
    pub payload_format: Option<u8>,
    /// Message expiry interval in seconds, as published.
    pub expiry_s: Option<u32>,
    /// Content type.
    pub content_type: Option<String>,
    /// Where a response is awaited.
    pub response_topic: Option<String>,
    /// What a response must carry.
    pub correlation_data: Option<Bytes>,
    /// User properties in order.
    pub user: Vec<(String, String)>,
}

/// A message that reached an in-process subscriber ([`crate::Handle::subscribe`]).
#[derive(Clone, Debug)]
pub struct Received {
    /// Topic name.
    pub topic: Arc<str>,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service it was published with.
    pub qos: Qos,
    /// RETAIN flag it was published with.
    pub retain: bool,
    /// Properties.
    pub properties: MessageProperties,
    /// The device that published it, as [`crate::Policy::connect`] named it; `None` for the hub's own messages.
    pub sender: Option<Arc<str>>,
}

/// A message inside the broker, shared by all who wait for it.
#[derive(Debug)]
pub(crate) struct Message {
    /// Unique in the journal, grows with time.
    pub seq: u64,
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: Qos,
    pub retain: bool,
    pub properties: MessageProperties,
    /// Unix ms after which nobody gets it any more.
    pub expires_ms: Option<u64>,
    pub sender: Option<Arc<str>>,
}

impl Message {
    pub(crate) fn expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms)
    }

    /// Seconds left, for the property of the PUBLISH that goes out (MQTT 5, §3.3.2.3.3).
    pub(crate) fn remaining_s(&self, now_ms: u64) -> Option<u32> {
        let left = self.expires_ms?.saturating_sub(now_ms).div_ceil(1000);
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// What it counts against a byte limit.
    pub(crate) fn cost(&self) -> usize {
        cost(&self.topic, &self.payload, &self.properties)
    }
}

/// What a message counts against a byte limit. Properties too: else they would be a way around it.
pub(crate) fn cost(topic: &str, payload: &[u8], properties: &MessageProperties) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let user: usize = properties.user.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
    let correlation = properties.correlation_data.as_ref().map_or(0, Bytes::len);
    payload.len()
        + topic.len()
        + text(&properties.content_type)
        + text(&properties.response_topic)
        + correlation
        + user
        + 64
}
