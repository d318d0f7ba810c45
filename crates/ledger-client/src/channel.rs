//! What carries JSON-RPC messages.

use std::future::Future;

/// Why no answer came. The request may have been carried out nevertheless.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Nobody answered in time.
    #[error("no answer within {waited_ms} ms: is the hub running and reachable?")]
    Timeout {
        /// How long the channel waited.
        waited_ms: u64,
    },
    /// The connection is down.
    #[error("the connection to the hub is down: {0}")]
    Down(String),
    /// Nobody answered on any way to the hub.
    #[error("{0}")]
    Unanswered(String),
    /// There is no [`CallId`](crate::CallId) for the request.
    #[error("no randomness from the system")]
    Random,
    /// The request or its answer is longer than the channel carries.
    #[error("a message of {bytes} bytes is too long: at most {max} bytes can be sent")]
    TooLarge {
        /// The message's length.
        bytes: usize,
        /// The longest that is carried.
        max: usize,
    },
}

/// Carries one JSON-RPC message there and the answer back: MQTT request and response, or a call in this process.
///
/// The channel matches answers to requests, so calls may run at the same time. An implementation bounds how long a
/// call waits.
pub trait Channel: Send + Sync + 'static {
    /// Sends `request` and waits for its answer.
    fn call(&self, request: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, ChannelError>> + Send;
}
