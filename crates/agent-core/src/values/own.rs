//! The agent's own messages: what they are, and why one was not sent.

use bytes::Bytes;

use super::alarm::Alarm;
use crate::Why;

/// A message that the agent itself publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Whether the broker keeps it.
    pub retain: bool,
    /// The encoded properties, to be sealed.
    pub props: Bytes,
    /// The payload, to be sealed.
    pub payload: Bytes,
    /// What the device wrote and when it came, Unix ms, where it may have to be recorded on the ledger.
    pub recorded: Option<(Bytes, u64)>,
}

impl Own {
    /// What deletes the message that the broker keeps of a topic.
    pub fn empty() -> Self {
        Self { retain: true, props: Bytes::new(), payload: Bytes::new(), recorded: None }
    }
}

/// A message of the agent's own whose time has come. [`Values::sent`](super::Values::sent) or
/// [`Values::not_sent_own`](super::Values::not_sent_own) says what became of it.
#[derive(Debug, PartialEq)]
pub struct Due {
    /// Its topic.
    pub topic: String,
    /// The message.
    pub message: Own,
    pub(super) what: What,
}

#[derive(Debug, PartialEq)]
pub(super) enum What {
    /// A reading that came too early after the one before it.
    Report,
    Alarm(Box<Alarm>),
}

impl Due {
    /// Whether [`Own::empty`] follows it at once. Nobody could tell the broker's empty message from a forged one: so the
    /// end of an alarm is said before it, sealed.
    pub fn is_end(&self) -> bool {
        matches!(&self.what, What::Alarm(alarm) if alarm.over_ms.is_some())
    }
}

/// Why a message of the agent itself was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// It may be later, and so may every other message.
    #[error("{0}")]
    NotYet(Why),
    /// It may be later. Messages of other topics may be sent now.
    #[error("{0}")]
    NoKeyYet(Why),
    /// It may not be sent.
    #[error("{0}")]
    Refused(Why),
}
