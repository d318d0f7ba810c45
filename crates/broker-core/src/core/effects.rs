//! What comes out of the core.

use std::sync::Arc;

use sealcast_mqtt::TopicName;

use super::connection::ConnId;
use super::queue::Delivery;
use super::session::SessionKey;
use crate::message::{Message, Received};
use crate::packets::{Outgoing, Subscribed};
use crate::router::{LocalId, SessionId};

/// Something the driver does once the records before it are durable.
#[derive(Debug)]
pub enum Output {
    /// Goes to this connection.
    Send(ConnId, Outgoing),
    /// Close after what was sent before.
    Close(ConnId),
    /// For a subscriber inside the process.
    Local(LocalId, Box<Received>),
    /// For whoever watches all that is published.
    Published(Arc<Message>),
    /// A hub message with this token is stored and on its way.
    Done(u64),
}

/// A change of durable state. Order matters.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants say what each field is of")]
pub enum JournalRecord {
    /// New session, or new expiry; it is online.
    Session { id: SessionId, key: SessionKey, expiry_s: u32 },
    /// Its client has gone.
    Disconnected { id: SessionId, at_ms: u64, expiry_s: u32 },
    /// The session with its subscriptions, deliveries and identifiers, except for the deliveries that shares are owed.
    SessionEnd { id: SessionId },
    /// New, or with other options.
    Subscribed { session: SessionId, filter: String, subscribed: Subscribed },
    /// No more subscribed.
    Unsubscribed { session: SessionId, filter: String },
    /// Deliveries of it follow.
    Message(Arc<Message>),
    /// No delivery of it is left.
    MessageEnd { seq: u64 },
    /// New, or left by an ended session and now this one's.
    Delivery { session: SessionId, delivery: Delivery },
    /// QoS 2: goes out under this identifier.
    Sent { order: u64, id: u16 },
    /// QoS 2: PUBREC has come.
    Released { order: u64 },
    /// Acknowledged, expired or given up.
    DeliveryEnd { order: u64 },
    /// The same for one that a share was owed: it goes out at QoS 0.
    DeliveredOnce { order: u64 },
    /// QoS 2 of a client: PUBREC goes out, PUBREL is awaited.
    Inbound { session: SessionId, id: u16 },
    /// PUBREL has come.
    InboundEnd { session: SessionId, id: u16 },
    /// Takes the place of what was retained on its topic.
    Retained(Arc<Message>),
    /// Nothing is retained on this topic any more.
    RetainedEnd { topic: TopicName },
}

impl JournalRecord {
    /// Whether outputs must wait for it. The others may be lost in a crash: the outcome is a QoS 1 message twice, a
    /// second PUBREL, or a session that is taken to have been online until the crash.
    pub fn gates(&self) -> bool {
        !matches!(self, Self::DeliveryEnd { .. } | Self::MessageEnd { .. } | Self::Disconnected { .. })
    }

    /// Rough memory while it waits for the journal.
    pub fn cost(&self) -> usize {
        match self {
            Self::Message(message) | Self::Retained(message) => message.cost(),
            Self::Delivery { delivery, .. } => 64 + delivery.own_cost(),
            _ => 64,
        }
    }
}

/// What has come out of the core since it was asked last.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be done in this order, once the records before them are durable.
    pub outputs: Vec<Output>,
    /// To be stored in this order.
    pub records: Vec<JournalRecord>,
    /// Connections to read from again, or no more; at once, since nothing that leaves depends on it.
    pub reading: Vec<(ConnId, bool)>,
}

impl Effects {
    pub(crate) fn send(&mut self, conn: ConnId, packet: Outgoing) {
        self.outputs.push(Output::Send(conn, packet));
    }

    pub(crate) fn record(&mut self, record: JournalRecord) {
        self.records.push(record);
    }
}
