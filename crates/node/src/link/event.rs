//! What a link tells its owner, and what becomes of a call or a message.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

/// Largest control message, in bytes: a page of ledger records with full commits.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Events that wait for their owner: what does not fit waits at the broker.
pub(super) const MAX_EVENTS: usize = 64;
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What happens on a [`Link`](super::Link).
#[derive(Debug)]
pub enum LinkEvent {
    /// Connected and subscribed.
    Up,
    /// The connection is gone, or cannot be made for another reason than before; the link tries again by itself.
    Down(String),
    /// The broker has taken a message for which nobody waits by an [`Answer`].
    Taken {
        /// The message's topic.
        topic: String,
    },
    /// The broker refused a message that was published.
    Refused {
        /// The message's topic.
        topic: String,
        /// Why, in its words or by the name of its reason code.
        reason: String,
    },
    /// A message on one of the subscribed topics.
    Message {
        /// The topic.
        topic: String,
        /// The bytes.
        payload: Bytes,
        /// The broker had kept it.
        retain: bool,
        /// At QoS 1, whether it may have come before; `None` at QoS 0.
        dup: Option<bool>,
    },
}

/// Why a call or publish did not go through.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// There is no connection, with the reason.
    #[error("the connection to the broker is down: {0}")]
    Down(String),
    /// The hub did not answer.
    #[error("no answer from the hub within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
    /// The queue is full.
    #[error("too much is waiting to be sent to the hub")]
    Busy,
    /// A call whose request has no [`CallId`](sealcast_ledger_client::CallId).
    #[error("the request has no id by which its answer could be found")]
    Unnamed,
    /// The broker refused it, with its reason.
    #[error("the broker refused the message: {0}")]
    Refused(String),
}

/// What the broker says of a message: taken, or why it is refused. An error if the connection ended before it said
/// anything, and the message may have arrived or not.
pub type Answer = oneshot::Receiver<Result<(), String>>;
