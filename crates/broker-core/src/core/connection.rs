//! What is kept of a connection.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sealcast_mqtt::{TopicName, Version};

use crate::packets::Incoming;
use crate::policy::Peer;
use crate::router::SessionId;

/// Topic aliases that a client may set.
pub(super) const ALIAS_MAX: u16 = 32;

/// A connection, unique while the broker runs.
pub type ConnId = u64;

/// Packets of one held up connection that are read all the same, to reach the acknowledgements between them.
pub(super) const MAX_HELD: usize = 256;
/// Bytes of them.
pub(super) const MAX_HELD_BYTES: usize = 64 * 1024;

/// A client that has connected.
pub(super) struct Connection {
    pub session: SessionId,
    pub peer: Peer,
    pub version: Version,
    /// MQTT 5 topic aliases that the client has set.
    pub aliases: HashMap<u16, TopicName>,
    pub max_packet_bytes: Option<usize>,
    /// It takes reason strings and user properties on PUBACK and PUBREC.
    pub explain: bool,
    pub pressure: Held,
    /// Its subscriptions have No Local and Retain As Published.
    pub bridge: bool,
}

/// What a connection that is held up waits for.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    /// The session that has no room.
    pub by: SessionId,
    /// The share that has picked it: any of its members may have room first.
    pub share: Option<Arc<str>>,
    /// When the connection is closed.
    pub until_ms: u64,
}

/// What a connection that is held up has sent.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub wait: Option<Wait>,
    /// When the connection is closed if the packet that is tried again finds no room: its time does not begin anew.
    pub again: Option<u64>,
    pub packets: VecDeque<Incoming>,
    pub bytes: usize,
    /// The driver does not read from it.
    pub stopped: bool,
    /// Packets of it were dropped: nothing that comes later may be acknowledged.
    pub lost: bool,
}

impl Held {
    /// The topic of the message that waits.
    pub(super) fn topic(&self) -> &str {
        match self.packets.front() {
            Some(Incoming::Publish(publish)) => publish.topic.as_deref().unwrap_or_default(),
            _ => "",
        }
    }

    /// Whether no more of its packets are kept.
    pub(super) fn is_full(&self) -> bool {
        self.packets.len() >= MAX_HELD || self.bytes >= MAX_HELD_BYTES
    }
}
