//! The agent's own messages: where they go, why one is not sent, and what its own connection brings.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use sealcast_node::Link;
use sealcast_seal::Opener;

use crate::{data::DataPlane, readings::Readings};

/// Messages that wait for a key.
const MAX_WAITING: usize = 256;
/// Their bytes: the broker can have any number of large ones wait.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// Where what the agent itself publishes goes.
#[derive(Clone)]
pub struct Outlet {
    /// Keys and topics.
    pub data: Arc<DataPlane>,
    /// To the broker.
    pub link: Link,
    /// To the ledger.
    pub readings: Arc<Readings>,
}

/// A message that the agent itself publishes.
pub(super) struct Own {
    pub retain: bool,
    /// To be sealed.
    pub props: Bytes,
    pub payload: Bytes,
    /// What the device wrote and when it came, where it may have to be recorded.
    pub recorded: Option<(Bytes, u64)>,
}

/// Why a message of the agent itself was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsent {
    /// It may be later.
    #[error("{0}")]
    NotYet(String),
    /// It may not be sent.
    #[error("{0}")]
    Refused(String),
}

/// What the agent's own connection has brought.
#[derive(Default)]
pub struct Watch {
    /// Of what it brings.
    pub(super) opener: Opener,
    /// For a key, and how often each was tried.
    pub(super) waiting: VecDeque<(Brought, u32)>,
}

impl Watch {
    /// Whether one more of `bytes` may wait.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let waiting: usize = self.waiting.iter().map(|(message, _)| message.payload.len()).sum();
        self.waiting.len() < MAX_WAITING && waiting + bytes <= MAX_WAITING_BYTES
    }
}

/// A message that the agent's own connection brought.
#[derive(Debug, Clone)]
pub struct Brought {
    /// Its topic.
    pub topic: String,
    /// Its bytes.
    pub payload: Bytes,
    /// Whether the broker had kept it.
    pub retain: bool,
    /// QoS 1, and whether it may have come before; `None` for QoS 0.
    pub dup: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_key_is_bounded() {
        let brought = |bytes: usize| {
            let payload = Bytes::from(vec![0; bytes]);
            (Brought { topic: "t".into(), payload, retain: false, dup: None }, 0)
        };
        let mut watch = Watch::default();
        assert!(watch.has_room(MAX_WAITING_BYTES) && !watch.has_room(MAX_WAITING_BYTES + 1));
        watch.waiting.push_back(brought(MAX_WAITING_BYTES - 10));
        assert!(watch.has_room(10) && !watch.has_room(11));
        watch.waiting = (0..MAX_WAITING).map(|_| brought(1)).collect();
        assert!(!watch.has_room(1));
    }
}
