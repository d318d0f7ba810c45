//! What goes between the doors and the bus.

use bytes::Bytes;
use sealcast_ledger::TopicFilter;
use sealcast_mqtt::{Text, TopicName, reason};
use tokio::sync::{mpsc, oneshot};

/// A message of a door.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its topic.
    pub topic: TopicName,
    /// Its bytes.
    pub payload: Bytes,
    /// Whether the broker keeps it as the topic's last value.
    pub retain: bool,
    /// Its media type.
    pub content_type: Option<Text>,
}

/// A message for a door.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its topic.
    pub topic: TopicName,
    /// Its bytes, opened.
    pub payload: Bytes,
    /// Its media type, if the sender gave one.
    pub content_type: Option<Text>,
}

/// What a listener gets.
#[derive(Debug, Clone)]
pub enum Item {
    /// A message.
    Message(Incoming),
    /// What the broker had kept has been handed over; from now on everything is new.
    Current,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody may publish there: no group covers the topic, or the device is no member.
    #[error("{0}")]
    Denied(String),
    /// The content was refused.
    #[error("{0}")]
    Content(String),
    /// Larger than agent or broker take.
    #[error("{0}")]
    TooLarge(String),
    /// Topic or filter is not a valid one.
    #[error("{0}")]
    Invalid(String),
    /// Not now: broker away, too much at once.
    #[error("{0}")]
    Unavailable(String),
}

impl Refused {
    /// By an MQTT 5 reason code.
    pub(super) fn by_code(code: u8, said: &str) -> Self {
        let text = if said.is_empty() { format!("refused with MQTT reason code {code:#04x}") } else { said.to_owned() };
        match code {
            reason::NOT_AUTHORIZED => Self::Denied(text),
            reason::PACKET_TOO_LARGE => Self::TooLarge(text),
            reason::TOPIC_NAME_INVALID | reason::TOPIC_FILTER_INVALID => Self::Invalid(text),
            reason::UNSPECIFIED
            | reason::SERVER_UNAVAILABLE
            | reason::SERVER_BUSY
            | reason::SERVER_SHUTTING_DOWN
            | reason::MESSAGE_RATE_TOO_HIGH
            | reason::QUOTA_EXCEEDED => Self::Unavailable(text),
            _ => Self::Content(text),
        }
    }
}

/// What the bus is asked for.
pub(super) enum Request {
    Publish(Outgoing, oneshot::Sender<Result<(), Refused>>),
    Listen { id: u64, filter: TopicFilter, sender: mpsc::Sender<Item>, done: oneshot::Sender<Result<(), Refused>> },
    Leave(u64),
}
