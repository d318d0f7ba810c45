//! JSON-RPC in POST requests.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, Uri, body::Bytes, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::ClientConfig;

/// The longest answer.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Keeps connections open between requests.
pub(super) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
}

impl Client {
    pub(super) fn new(uri: &Uri, tls: &Arc<ClientConfig>) -> Result<Self> {
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            bail!("an endpoint's URL has no user in it: put the key into its path, as providers do");
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(tls))
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self { pool: Pool::builder(TokioExecutor::new()).build(connector), uri: uri.clone() })
    }

    pub(super) async fn exchange(&self, request: Vec<u8>) -> Result<Vec<u8>> {
        let request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(request)))?;
        // The library's own error names the cause behind it.
        let answer = self.pool.request(request).await.context("no connection")?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!(error))?;
        let body = body.to_bytes();
        // Some nodes send an error of JSON-RPC with another status.
        if status != StatusCode::OK && !body.starts_with(b"{\"jsonrpc\"") {
            bail!("the endpoint answers with status {status}");
        }
        Ok(body.to_vec())
    }
}
