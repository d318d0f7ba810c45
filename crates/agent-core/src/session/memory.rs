//! What is remembered of a local client between its connections.

use std::collections::{BTreeSet, HashMap};

use sealcast_mqtt::{Delivery, DeliveryId, SessionState};
use sealcast_seal::{Opener, Receipt};

use super::copies::{Copies, FrameId};

/// Which messages a client has seen, and which it has not acknowledged.
#[derive(Debug, Default)]
pub struct Memory {
    /// What the client has seen.
    pub opener: Opener,
    /// What it has not acknowledged, as MQTT sees it.
    pub mqtt: SessionState,
    /// The same, as messages.
    pub receipts: HashMap<DeliveryId, (Receipt, FrameId)>,
    /// Messages of which it is to have several copies.
    pub copies: Copies,
    /// Topics whose retained message a member has deleted, by what the client was told last.
    pub deleted: Deleted,
    /// Until when the client is known to have been here, Unix ms; `None` if it was never here before.
    pub seen_ms: Option<u64>,
}

/// What a delivery is to its client, as far as the windows do not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The first of its frame, or as the windows have it.
    First,
    /// Another copy, for another of the client's filters.
    Further,
    /// That one once more, which the client has not acknowledged.
    Again(DeliveryId),
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

impl Memory {
    /// How often the client was given this frame and has not acknowledged it.
    pub fn unacknowledged(&self, frame: FrameId) -> usize {
        self.receipts.values().filter(|(_, given)| *given == frame).count()
    }

    /// What a delivery of `frame` is to its client.
    pub fn turn(&self, delivery: &Delivery, frame: FrameId) -> Turn {
        let gave = |id: &DeliveryId| self.receipts.get(id).is_some_and(|(_, given)| *given == frame);
        let earlier = delivery.redelivery_of.filter(gave);
        // It should come under the same identifier.
        let unnamed = || self.receipts.keys().copied().find(gave).filter(|_| delivery.dup);
        match earlier {
            Some(earlier) => Turn::Again(earlier),
            None if self.copies.expects(frame) => Turn::Further,
            None => unnamed().map_or(Turn::First, Turn::Again),
        }
    }
}
