//! What a session is made of.

use bytes::Bytes;
use sealcast_ledger::GroupNumber;
use sealcast_mqtt::{ConnectRequest, Delivery, PublishRequest, WillAnswer};

use super::Annotate;
use crate::SyncId;

/// How a session treats its client.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names the connection where values are judged.
    pub connection: u64,
    /// Where the client connects from, for the log.
    pub address: String,
    /// What it is told of the messages that it gets, if it speaks MQTT 5.
    pub annotate: Annotate,
    /// Its client has to give a user name and password, which are this agent's and not the broker's.
    pub login: bool,
    /// A message that several of its filters match comes once for each of them, as far as the broker sends it so.
    pub copies: bool,
    /// Largest packet of either side, in bytes.
    pub max_packet_bytes: usize,
    /// How long a message waits for a key, ms.
    pub key_wait_ms: u64,
}

/// How far a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// CONNECT has not come.
    New,
    /// The driver looks at the client's user name and password.
    Login { request: Box<ConnectRequest> },
    /// The driver opens the client's memory and the connection to the broker.
    Opening { will: WillAnswer, clean_start: bool },
    /// Bytes go both ways.
    Open,
    /// To be closed, for this reason.
    Closing { reason: String },
    /// Nothing follows.
    Closed,
}

/// A connection that the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Draining {
    /// For DISCONNECT.
    pub(super) code: u8,
    /// For a person.
    pub(super) reason: &'static str,
    /// From then on nothing is waited for, by [`crate::Now::run_ms`].
    pub(super) until_ms: u64,
}

/// How long a message waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    /// By [`crate::Now::run_ms`].
    pub(super) deadline_ms: u64,
    /// The last sync with the ledger that was begun when the message was found to need a later one.
    pub(super) news: Option<SyncId>,
}

pub(super) enum Waiting {
    Connect(Box<ConnectRequest>),
    Publish(Box<Publishing>),
    Delivery(Delivery),
}

/// A message on its way up.
pub(super) struct Publishing {
    pub(super) request: PublishRequest,
    /// What the device wrote, before it was converted.
    pub(super) original: Bytes,
    /// Its values were judged, and are not again.
    pub(super) judged: bool,
}

/// Whether the replay windows have to be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsaved {
    No,
    /// By then ([`crate::Now::run_ms`]).
    By(u64),
    /// Before anything else goes out.
    Now,
}

/// Messages for a group that came together, and wait to be sealed together.
pub(super) struct Batch {
    pub(super) group: GroupNumber,
    pub(super) messages: Vec<(Box<Publishing>, Until)>,
}
