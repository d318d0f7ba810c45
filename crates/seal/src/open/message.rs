//! How a frame came, and the message that came of it.

use std::{fmt, sync::Arc};

use sealcast_identity::DeviceId;

use crate::{
    content::QosClass,
    epoch::EpochId,
    freshness::{DeliveryKind, Freshness},
    keys::{Sender, Started},
    plaintext::Flags,
    replay::{Mark, MarkKey, MarkOf, Order, SenderKey, SenderTag},
    report::LedgerReport,
};

/// When a message is done with, by the MQTT quality of service with which it reached the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandOver {
    /// QoS 0: done with once it was handed on.
    AtMostOnce,
    /// QoS 1 or 2: done with once the client acknowledged it (PUBACK, PUBREC).
    Acknowledged {
        /// The DUP flag: the broker says that it sends this again.
        dup: bool,
    },
}

/// How a frame reached the agent.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// By which way.
    pub kind: DeliveryKind,
    /// When it is done with.
    pub hand_over: HandOver,
    /// The topic's limits on age.
    pub freshness: &'a Freshness,
}

/// What came of a frame that opened.
// A message is the usual outcome: a box for each would cost more than the room that the other one wastes.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
#[must_use]
pub enum Opened {
    /// To be handed to the client, then marked.
    Message(Message),
    /// In order, and nothing for the client: a retained message that its publisher sealed again, live. The client has
    /// had its content when it was first published.
    SealedAgain {
        /// Its publisher.
        sender: DeviceId,
    },
    /// Its sender deletes the topic's retained message. To be marked like a message.
    Tombstone(Message),
}

/// A message that may be handed on.
pub struct Message {
    pub(super) from: Arc<Started>,
    pub(super) age_ms: u64,
    pub(super) flags: Flags,
    pub(super) report: Option<LedgerReport>,
    pub(super) plaintext: Vec<u8>,
    /// Where in the plaintext the properties begin, the payload begins and the payload ends.
    pub(super) props_start: usize,
    pub(super) payload_start: usize,
    pub(super) payload_end: usize,
    pub(super) receipt: Receipt,
}

impl Message {
    /// Who sent it. Proven by a signature if [`Self::is_signed`], else only that some member sent it.
    pub fn sender(&self) -> &DeviceId {
        &self.from.sender.name
    }

    /// What it says of its sender's ledger, if it does.
    pub fn ledger(&self) -> Option<LedgerReport> {
        self.report
    }

    /// Whether it bears its sender's signature, be it alone or in a batch.
    pub fn is_signed(&self) -> bool {
        !self.flags.is_unsigned()
    }

    /// Whether it is a will.
    pub fn is_will(&self) -> bool {
        self.flags.is_will()
    }

    /// Whether its sender deletes the topic's retained message.
    pub fn is_tombstone(&self) -> bool {
        self.flags.is_tombstone()
    }

    /// Whether it was published with RETAIN.
    pub fn is_retain(&self) -> bool {
        self.flags.is_retain()
    }

    /// The quality of service that it was published with; it may be delivered with a lower one.
    pub fn class(&self) -> QosClass {
        self.flags.class()
    }

    /// The epoch it was sealed under.
    pub fn epoch(&self) -> EpochId {
        self.receipt.sender.epoch
    }

    /// When it was sealed (first), by its sender's clock, Unix ms.
    pub fn sealed_ms(&self) -> u64 {
        self.receipt.order.time_ms
    }

    /// How long ago that is, ms; 0 if it is from the future within the tolerance.
    pub fn age_ms(&self) -> u64 {
        self.age_ms
    }

    /// MQTT 5 properties, as encoded property bytes without their length. Bytes of a member, not parsed here.
    pub fn props(&self) -> &[u8] {
        self.plaintext.get(self.props_start..self.payload_start).unwrap_or_default()
    }

    /// The application's bytes.
    pub fn payload(&self) -> &[u8] {
        self.plaintext.get(self.payload_start..self.payload_end).unwrap_or_default()
    }

    /// What to give to [`Opener::mark_delivered`](crate::Opener::mark_delivered) and [`Opener::mark_acknowledged`](crate::Opener::mark_acknowledged).
    #[inline]
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("sender", self.sender())
            .field("epoch", &self.epoch())
            .field("time_ms", &self.sealed_ms())
            .field("payload_bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

/// Names a message to the opener that let it pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub(super) hand_over: HandOver,
    pub(super) sender: SenderKey,
    pub(super) name: SenderTag,
    pub(super) order: Order,
    pub(super) seen_by: SeenBy,
    /// The topic's mark, of what was published with RETAIN or deletes that.
    pub(super) retained: Option<MarkKey>,
}

/// By what it is known whether a message was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeenBy {
    /// The window of its sender and class.
    Window,
    /// A mark of its own, as the counter of a will may be far behind when it comes.
    Will(MarkKey),
    /// The topic's mark alone: a client gets a retained message anew at each subscription.
    Retained,
}

impl Receipt {
    #[inline]
    pub(super) fn new(
        key: SenderKey,
        order: Order,
        sender: &Sender,
        flags: Flags,
        topic: &str,
        delivery: &Delivery<'_>,
    ) -> Self {
        let mark = |of| MarkKey::new(of, key.group, sender.name.as_str(), topic);
        Self {
            hand_over: delivery.hand_over,
            sender: key,
            name: sender.tag,
            order,
            seen_by: match delivery.kind {
                DeliveryKind::Retained => SeenBy::Retained,
                _ if flags.is_will() => SeenBy::Will(mark(MarkOf::Will)),
                _ => SeenBy::Window,
            },
            retained: (flags.is_retain() || flags.is_tombstone()).then(|| mark(MarkOf::Retained)),
        }
    }

    pub(super) fn mark(&self, of: MarkOf, done: bool) -> Mark {
        let retained_in = (of == MarkOf::Retained).then_some(self.sender.group);
        Mark { order: self.order, sender: self.name, retained_in, done }
    }
}
