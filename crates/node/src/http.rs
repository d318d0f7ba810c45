//! A client of HTTP/1.1, with TLS or without: the one for an endpoint of JSON-RPC and for a hub's console.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::ClientConfig;
use tokio::time::timeout;

/// The longest answer that is read: the state of a fleet of tens of thousands of devices, or a page of a ledger.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Keeps connections open between requests.
pub struct HttpClient {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    /// `tls` says which servers are believed, and which certificate they are shown.
    pub fn new(tls: &Arc<ClientConfig>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(tls))
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Self { pool: Pool::builder(TokioExecutor::new()).build(connector) }
    }

    /// The answer up to its body, which [`read_answer`] reads.
    ///
    /// # Errors
    /// There is no connection, or no answer within `patience`.
    pub async fn request(&self, request: Request<Full<Bytes>>, patience: Duration) -> Result<Response<Incoming>> {
        let answer = timeout(patience, self.pool.request(request)).await;
        let answer = answer.map_err(|_| anyhow!("no answer within {} s", patience.as_secs()))?;
        // The library's own error names the cause behind it.
        answer.context("no connection")
    }
}

/// The body of an answer.
///
/// # Errors
/// It is longer than 32 MiB, breaks, or does not end within `patience`.
pub async fn read_answer(answer: Response<Incoming>, patience: Duration) -> Result<Bytes> {
    let body = timeout(patience, Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect()).await;
    let body = body.map_err(|_| anyhow!("the answer does not end"))?;
    Ok(body.map_err(|error| anyhow!(error))?.to_bytes())
}

/// Whether there is a user, and perhaps a password, in a URL. Nothing here sends them.
pub fn has_user(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
}
