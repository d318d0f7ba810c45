//! What is kept of a session: its subscriptions and the messages on their way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sealcast_mqtt::Will;

use super::connection::ConnId;
use super::queue::{Delivery, Queue};
use super::usage::{Loads, Reminder};
use crate::packets::Subscribed;
use crate::policy::{Credential, Peer};
use crate::router::SessionId;

/// Sessions belong to a device: client identifiers of two devices never meet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// As [`crate::Policy::connect`] named it.
    pub device: Arc<str>,
    /// From CONNECT, or chosen by the broker.
    pub client_id: Arc<str>,
}

/// What is kept of a client, connected or not.
pub(super) struct Session {
    pub key: SessionKey,
    pub conn: Option<ConnId>,
    /// It stands in the journal.
    pub stored: bool,
    /// Seconds; 0 ends with the connection, `u32::MAX` never.
    pub expiry_s: u32,
    pub disconnected_ms: u64,
    pub subscriptions: BTreeMap<String, Subscribed>,
    pub queue: Queue,
    /// What of its deliveries is given up first when all queues together are full.
    pub surplus: Loads,
    /// When it is looked at for messages that have expired.
    pub next_expiry_ms: Option<u64>,
    /// When it is looked at while its client is away: not later than it ends, or its will is due.
    pub next_timer_ms: Option<u64>,
    /// Unacknowledged deliveries at once, while it has a connection.
    pub window: usize,
    /// Since when it has had no room for something, and who waits for it.
    pub full: Option<Full>,
    /// By packet identifier.
    pub inflight: BTreeMap<u16, Delivery>,
    pub next_packet_id: u16,
    /// QoS 2 packet identifiers from the client whose PUBREL is awaited.
    pub inbound: BTreeSet<u16>,
    /// Of the connection that it has, or had last.
    pub credential: Option<Credential>,
    pub will: Option<Will>,
    pub will_due_ms: Option<u64>,
    /// It has one of the places that are reserved for control connections.
    pub reserved: bool,
}

impl Session {
    pub(super) fn new(key: SessionKey) -> Self {
        Self {
            key,
            conn: None,
            stored: false,
            expiry_s: 0,
            disconnected_ms: 0,
            subscriptions: BTreeMap::new(),
            queue: Queue::default(),
            surplus: Loads::default(),
            next_expiry_ms: None,
            next_timer_ms: None,
            window: 0,
            full: None,
            inflight: BTreeMap::new(),
            next_packet_id: 1,
            inbound: BTreeSet::new(),
            credential: None,
            will: None,
            will_due_ms: None,
            reserved: false,
        }
    }

    /// Who connected to it last.
    pub(super) fn peer(&self) -> Peer {
        Peer { device: self.key.device.clone(), credential: self.credential }
    }

    /// Whether it outlives its connection.
    pub(super) fn persistent(&self) -> bool {
        self.expiry_s > 0
    }
}

/// A will to be published.
pub(super) struct Due {
    pub session: SessionId,
    pub peer: Peer,
    pub will: Will,
}

/// A session has had no room.
#[derive(Debug, Default)]
pub(super) struct Full {
    /// Since when its own queue has been full, if that is why.
    pub queue_since_ms: Option<u64>,
    pub reminder: Reminder,
    /// Connections that are held up.
    pub waiting: BTreeSet<ConnId>,
}
