//! alloy's own client over anything that carries a request and brings back its answer.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use alloy::{
    rpc::json_rpc::{RequestPacket, ResponsePacket},
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use sealcast_ledger_client::Channel;
use tower_service::Service;

/// A [`Channel`] as alloy's transport.
pub struct CallTransport<C> {
    channel: Arc<C>,
}

impl<C: Channel> CallTransport<C> {
    /// A transport over `channel`.
    pub fn new(channel: C) -> Self {
        Self { channel: Arc::new(channel) }
    }
}

impl<C> Clone for CallTransport<C> {
    fn clone(&self) -> Self {
        Self { channel: Arc::clone(&self.channel) }
    }
}

impl<C> std::fmt::Debug for CallTransport<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallTransport").finish_non_exhaustive()
    }
}

impl<C: Channel> Service<RequestPacket> for CallTransport<C> {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let channel = Arc::clone(&self.channel);
        Box::pin(async move {
            let request = packet.serialize().map_err(TransportError::ser_err)?;
            let answer = channel.call(request.get().as_bytes().to_vec()).await.map_err(TransportErrorKind::custom)?;
            serde_json::from_slice(&answer)
                .map_err(|error| TransportError::deser_err(error, String::from_utf8_lossy(&answer)))
        })
    }
}
