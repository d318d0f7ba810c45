//! What carries JSON-RPC messages.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

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

/// A channel of any kind, where several kinds stand side by side. Cheap to clone.
#[derive(Clone)]
pub struct AnyChannel(Arc<dyn Boxed>);

type Answered<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, ChannelError>> + Send + 'a>>;

trait Boxed: Send + Sync {
    fn call(&self, request: Vec<u8>) -> Answered<'_>;
}

impl<C: Channel> Boxed for C {
    fn call(&self, request: Vec<u8>) -> Answered<'_> {
        Box::pin(Channel::call(self, request))
    }
}

impl AnyChannel {
    /// The same channel.
    pub fn new(channel: impl Channel) -> Self {
        Self(Arc::new(channel))
    }
}

impl Channel for AnyChannel {
    fn call(&self, request: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, ChannelError>> + Send {
        self.0.call(request)
    }
}

impl fmt::Debug for AnyChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyChannel").finish_non_exhaustive()
    }
}
