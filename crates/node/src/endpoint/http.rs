//! JSON-RPC in POST requests.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail, ensure};
use http_body_util::Full;
use hyper::{Request, StatusCode, Uri, body::Bytes, header};
use rustls::ClientConfig;

use crate::http::{HttpClient, has_user, read_answer};

/// An endpoint at a URL.
pub(super) struct Client {
    http: HttpClient,
    uri: Uri,
}

impl Client {
    pub(super) fn new(uri: &Uri, tls: &Arc<ClientConfig>) -> Result<Self> {
        ensure!(!has_user(uri), "an endpoint's URL has no user in it: put the key into its path, as providers do");
        Ok(Self { http: HttpClient::new(tls), uri: uri.clone() })
    }

    pub(super) async fn exchange(&self, request: Vec<u8>, patience: Duration) -> Result<Vec<u8>> {
        let request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(request)))?;
        let answer = self.http.request(request, patience).await?;
        let status = answer.status();
        let body = read_answer(answer, patience).await?;
        // Some nodes send an error of JSON-RPC with another status.
        if status != StatusCode::OK && !body.starts_with(b"{\"jsonrpc\"") {
            bail!("the endpoint answers with status {status}");
        }
        Ok(body.to_vec())
    }
}
