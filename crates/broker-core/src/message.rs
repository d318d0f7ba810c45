//! A message on its way, and how it is handed to in-process subscribers.

use std::sync::Arc;

use bytes::Bytes;
use sealcast_mqtt::{Properties, Qos, TopicName};

use crate::policy::{Credential, Peer};

/// A message that reached an in-process subscriber ([`crate::Core::handle_local_subscribe`]).
#[derive(Clone, Debug)]
pub struct Received {
    /// Topic name.
    pub topic: TopicName,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service it was published with.
    pub qos: Qos,
    /// RETAIN flag it was published with.
    pub retain: bool,
    /// What travels from the publisher to the subscriber (MQTT 5, §3.3.2.3). Empty for MQTT 3.
    pub properties: Properties,
    /// Who published it, as [`crate::Policy::connect`] named it; `None` for the hub's own messages. By which credential is
    /// not known of a retained message.
    pub sender: Option<Peer>,
}

/// A message inside the broker, shared by all who wait for it.
#[derive(Debug)]
pub struct Message {
    /// Unique in the journal, grows with time.
    pub seq: u64,
    /// Topic name.
    pub topic: TopicName,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service that it was published with.
    pub qos: Qos,
    /// RETAIN flag that it was published with.
    pub retain: bool,
    /// What travels to the subscribers (MQTT 5, §3.3.2.3).
    pub properties: Properties,
    /// Unix ms after which nobody gets it any more.
    pub expires_ms: Option<u64>,
    /// The device that published it; `None` for the hub.
    pub sender: Option<Arc<str>>,
}

impl Received {
    pub(crate) fn new(message: &Message, credential: Option<Credential>) -> Self {
        Self {
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            qos: message.qos,
            retain: message.retain,
            properties: message.properties.clone(),
            sender: message.sender.clone().map(|device| Peer { device, credential }),
        }
    }
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

/// What a delivery counts beside its message: the journal has the share and the identifiers beside each. The first
/// identifier is in the constant part, so that what is retained costs no more on its way.
pub(crate) fn delivery_cost(share: Option<&str>, subscription_ids: &[u32]) -> usize {
    share.map_or(0, str::len) + size_of_val(subscription_ids.get(1..).unwrap_or_default())
}

/// What a message counts against a byte limit. Properties too: else they would be a way around it.
pub(crate) fn cost(topic: &str, payload: &[u8], properties: &Properties) -> usize {
    payload.len() + topic.len() + properties.memory_bytes() + 64
}
