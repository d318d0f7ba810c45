//! What is remembered of a local client between its connections.

use std::collections::HashMap;

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
    /// Until when the client is known to have been here, Unix ms; `None` if it was never here before.
    pub seen_ms: Option<u64>,
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
