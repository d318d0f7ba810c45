//! What follows at once from a call.

use bytes::Bytes;
use sealcast_mqtt::TopicName;
use sealcast_quality::FailSafeOutput;

use crate::Why;

/// A message of the agent's own for its local clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Its topic.
    pub topic: TopicName,
    /// Its payload.
    pub payload: Bytes,
    /// User properties for MQTT 5 clients.
    pub properties: Vec<(&'static str, String)>,
}

/// What follows at once.
#[derive(Debug)]
pub enum Output {
    /// For the local clients that subscribed to its topic.
    Local(Local),
    /// What the agent's own connection brought for a fail-safe is not a good value: why.
    Refused {
        /// Its topic.
        topic: String,
        /// Its sealed bytes.
        bytes: usize,
        /// Why.
        why: Why,
    },
    /// For the log: what a fail-safe did, behind the message that it is about. The valve comes first.
    FailSafe {
        /// The topic that it watches.
        topic: String,
        /// What it did.
        output: FailSafeOutput,
    },
}
