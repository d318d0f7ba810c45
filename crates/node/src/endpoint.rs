//! An endpoint of Ethereum's JSON-RPC, over HTTP or WebSocket, with TLS or without.

mod http;
mod network;
mod socket;
mod url;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use rustls::{ClientConfig, RootCertStore};
use sealcast_ledger_client::{Channel, ChannelError};
use tokio_util::task::AbortOnDropHandle;

use crate::tls;

pub use self::{network::NetworkConfig, url::EndpointUrl};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// An endpoint. Its connections are made when they are needed.
pub struct Endpoint {
    way: Way,
}

enum Way {
    Http(Box<http::Client>),
    Socket(socket::Requests, #[expect(dead_code, reason = "the task ends with the endpoint")] AbortOnDropHandle<()>),
}

impl Endpoint {
    /// The one at `url`, whose certificate comes from one of `roots`. Call it within a runtime.
    pub fn new(url: &EndpointUrl, roots: impl FnOnce() -> Result<RootCertStore>) -> Result<Self> {
        let roots = if url.has_tls() { roots()? } else { RootCertStore::empty() };
        let tls: Arc<ClientConfig> = tls::client_with(Arc::new(roots), None, &[])?;
        let way = match url.is_web_socket() {
            false => Way::Http(Box::new(http::Client::new(url.uri(), &tls)?)),
            true => {
                let (requests, task) = socket::open(url.uri().clone(), tls);
                Way::Socket(requests, AbortOnDropHandle::new(tokio::spawn(task)))
            }
        };
        Ok(Self { way })
    }

    async fn exchange(&self, request: Vec<u8>) -> Result<Vec<u8>> {
        match &self.way {
            Way::Http(client) => client.exchange(request, PATIENCE).await,
            Way::Socket(requests, _) => requests.exchange(request).await,
        }
    }
}

impl Channel for Endpoint {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        match tokio::time::timeout(PATIENCE, self.exchange(request)).await {
            Ok(answer) => answer.map_err(|error| ChannelError::Unanswered(format!("{error:#}"))),
            Err(_) => Err(ChannelError::Unanswered(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }
}
