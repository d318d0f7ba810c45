//! What a session has its driver do.

use bytes::Bytes;
use sealcast_ledger::{GroupNumber, ReadingTopic};
use sealcast_mqtt::Credentials;
use sealcast_reading::Decimal;
use sealcast_seal::{Changes, Content};

use tracing::warn;

use crate::{Keyring, RecordRules, Retained, Why, anchors};

/// What has to be on disk before the effects of the same step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A local client was here, and its replay windows changed.
    Client {
        /// Its id.
        id: String,
        /// Of the windows.
        changes: Changes,
        /// When it was here, Unix ms.
        seen_ms: u64,
    },
    /// What a local client is subscribed to, in the place of what was written before.
    Subscriptions {
        /// Its id.
        id: String,
        /// As it named them.
        filters: Vec<String>,
    },
    /// In the place of the topic's last one; without a payload it forgets that one.
    Retained(Retained),
    /// Readings for the ledger. Each gets the topic's next sequence number, after `last`.
    Readings {
        /// What they are readings of.
        topic: ReadingTopic,
        /// Each with its time, Unix ms.
        values: Vec<(Decimal, u64)>,
        /// The sequence number that the ledger had last, 0 if none.
        last: u64,
    },
    /// A message that was sealed: the next one of the group's series, see `sealcast_audit`.
    Sent {
        /// The group.
        group: GroupNumber,
        /// The message.
        message: sealcast_audit::Sent,
    },
    /// All that is remembered of values and not yet written ([`crate::values::Values::take_writes`]).
    Values,
}

impl Write {
    /// What a message that was sealed is in its group's series, where that is anchored.
    pub fn sent(
        keyring: &Keyring,
        group: GroupNumber,
        topic: &str,
        content: &Content<'_>,
        now_ms: u64,
    ) -> Option<Self> {
        let rules = keyring.anchors()?;
        let message = sealcast_audit::Sent {
            time_ms: now_ms,
            kind: anchors::kind(content.purpose, content.retain)?,
            topic: topic.to_owned(),
            digest: sealcast_audit::payload_digest(content.payload),
            payload: rules.payloads.then(|| content.payload.to_vec()),
        };
        Some(Self::Sent { group, message })
    }

    /// The readings of a message that goes out, if they are for the ledger, which had `last` as the topic's last sequence
    /// number. What cannot be read is told, and does not hold up the message.
    pub fn readings(rules: &RecordRules, topic: &str, payload: &[u8], last: u64, now_ms: u64) -> Option<Self> {
        match rules.read(topic, payload, now_ms) {
            Ok(recorded) => recorded.map(|(topic, values)| Self::Readings { topic, values, last }),
            Err(error) => {
                warn!(topic, "published, but not recorded on the ledger: {error}");
                None
            }
        }
    }
}

/// What follows once the writes of the same step are on disk, in this order.
#[derive(Debug)]
pub enum Effect {
    /// For the client's connection.
    ToClient(Bytes),
    /// For the connection to the broker.
    ToBroker(Bytes),
    /// Look whether these let a client in, then call [`super::Session::login_checked`].
    CheckLogin {
        /// What the client gives.
        credentials: Credentials,
    },
    /// Take the client's [`super::Memory`] from the connection that has it, and connect to the broker; then call
    /// [`super::Session::opened`] or [`super::Session::not_opened`].
    Open {
        /// The client id; those without share the empty one, and are not the same client.
        id: String,
    },
    /// The ledger is to be read to its end once more.
    AskForNews,
    /// The broker has accepted the connection.
    Connected {
        /// It had kept the session.
        resumed: bool,
    },
    /// The broker has refused the connection.
    Refused {
        /// Its return or reason code.
        code: u8,
    },
    /// Something that a person may have to know.
    Tell(ClientEvent),
    /// The connection is over: write what was put out before, and close both sides.
    Close {
        /// For the log.
        reason: String,
    },
}

/// Something that an agent did not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEvent {
    /// What became of it.
    pub what: Refused,
    /// The local client.
    pub client: String,
    /// Its topic; a subscription's filter.
    pub topic: String,
    /// Why.
    pub why: Why,
}

impl ClientEvent {
    /// A client could not connect, or its connection ended.
    pub fn of_connection(client: &str, why: Why) -> Self {
        Self { what: Refused::Connection, client: client.to_owned(), topic: String::new(), why }
    }
}

/// What was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A delivery from the broker was not given to the client.
    Delivery {
        /// How many bytes came.
        bytes: usize,
    },
    /// What the broker kept of a topic to which the client subscribes was deleted, and no member has sealed that.
    Deletion,
    /// A filter of the client was not subscribed to.
    Subscription,
    /// A filter of the client was subscribed to, and nothing can come by it.
    Uncovered,
    /// A message of the client was not sent.
    Publish,
    /// The client could not connect, or its connection ended. No topic is known.
    Connection,
}
