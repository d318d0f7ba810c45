//! What is remembered of a local client between its connections.

use std::collections::{BTreeSet, HashMap};

use sealcast_mqtt::{DeliveryId, SessionState};
use sealcast_seal::{Opener, Receipt};

/// Which messages a client has seen, and which it has not acknowledged.
#[derive(Debug, Default)]
pub struct Memory {
    /// What the client has seen.
    pub opener: Opener,
    /// What it has not acknowledged, as MQTT sees it.
    pub mqtt: SessionState,
    /// The same, as messages.
    pub receipts: HashMap<DeliveryId, (Receipt, FrameId)>,
    /// Topics whose retained message a member has deleted, by what the client was told last.
    pub deleted: Deleted,
    /// Until when the client is known to have been here, Unix ms; `None` if it was never here before.
    pub seen_ms: Option<u64>,
}

/// As many topics are remembered as deleted. Of a further one the broker's own deletion is told once more.
const MAX_DELETED: usize = 1024;

/// Topics without a retained message.
#[derive(Debug, Default)]
pub struct Deleted(BTreeSet<String>);

impl Deleted {
    /// What the client was handed last on `topic` says that its retained message is deleted, or that there is one.
    pub fn note(&mut self, topic: &str, is_deleted: bool) {
        if !is_deleted {
            self.0.remove(topic);
        } else if self.0.len() < MAX_DELETED {
            self.0.insert(topic.to_owned());
        }
    }

    /// Whether the client knows it.
    pub fn contains(&self, topic: &str) -> bool {
        self.0.contains(topic)
    }
}

/// Tells sealed frames apart: the authentication tag at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameId([u8; 16]);

impl FrameId {
    /// Of a frame; of something that is too short for one, zeros.
    pub fn of(frame: &[u8]) -> Self {
        Self(frame.last_chunk().copied().unwrap_or_default())
    }
}

impl Memory {
    /// Whether the client was given this frame and has not acknowledged it.
    pub fn is_unacknowledged(&self, frame: FrameId) -> bool {
        self.receipts.values().any(|(_, given)| *given == frame)
    }
}
