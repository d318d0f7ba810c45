//! Requests to the hub's HTTPS side: an enrolment, a renewal, and calls that nobody answers over the broker.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::tls::HostPort;

/// The longest answer, unless another bound is set.
const MAX_ANSWER_BYTES: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(30);

/// The hub's HTTPS side.
pub struct Https {
    address: HostPort,
    tls: Arc<ClientConfig>,
    max_answer_bytes: usize,
}

/// What is sent along with a request.
pub struct Body<'a> {
    /// `Authorization` header, unless the certificate in TLS says who asks.
    pub authorization: Option<Zeroizing<String>>,
    /// `Content-Type` header.
    pub content_type: &'a str,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Https {
    /// The hub at `url`, `https://HOST[:PORT]`.
    pub fn new(url: &str, tls: Arc<ClientConfig>) -> Result<Self> {
        let Some(rest) = url.strip_prefix("https://") else {
            bail!("the hub's URL {url:?} does not begin with https://")
        };
        let rest = rest.trim_end_matches('/');
        let with_port = if rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            rest.to_owned()
        } else {
            format!("{rest}:443")
        };
        let address = with_port.parse().with_context(|| format!("the hub's URL {url:?}"))?;
        Ok(Self { address, tls, max_answer_bytes: MAX_ANSWER_BYTES })
    }

    /// The same, which takes longer answers.
    #[must_use]
    pub fn with_max_answer(self, bytes: usize) -> Self {
        Self { max_answer_bytes: bytes, ..self }
    }

    /// GET, or POST if there is a body; the answer's body if its status is 200.
    pub async fn request(&self, path: &str, body: Option<Body<'_>>) -> Result<Vec<u8>> {
        let exchange = self.exchange(path, body);
        match tokio::time::timeout(PATIENCE, exchange).await {
            Err(_) => bail!("the hub at {} did not answer within {} s", self.address, PATIENCE.as_secs()),
            Ok(answer) => answer,
        }
    }

    /// When the hub answers a request, by its own clock, whatever it answers: Unix ms, of whole seconds.
    ///
    /// # Errors
    /// It does not answer, or does not say when.
    pub async fn date_ms(&self) -> Result<u64> {
        let answer = tokio::time::timeout(PATIENCE, self.send("/", None)).await;
        let answer = answer.with_context(|| format!("the hub at {} did not answer", self.address))??;
        let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = httpdate::parse_http_date(date.context("the hub's answer has no date")?)?;
        Ok(u64::try_from(date.duration_since(UNIX_EPOCH)?.as_millis())?)
    }

    async fn exchange(&self, path: &str, body: Option<Body<'_>>) -> Result<Vec<u8>> {
        let answer = self.send(path, body).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), self.max_answer_bytes)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the hub's answer to {path}: {error}"))?
            .to_bytes();
        if status != StatusCode::OK {
            let reason: String =
                String::from_utf8_lossy(&body).trim().chars().filter(|c| !c.is_control()).take(400).collect();
            bail!("the hub refused the request ({status}): {reason}");
        }
        Ok(body.to_vec())
    }

    async fn send(&self, path: &str, body: Option<Body<'_>>) -> Result<Response<Incoming>> {
        let address = &self.address;
        let tcp = TcpStream::connect((address.host.as_str(), address.port))
            .await
            .with_context(|| format!("cannot reach the hub at {address}: is `sealcast up` running there?"))?;
        let name = ServerName::try_from(address.host.clone()).context("the hub's host name")?;
        let stream = tokio_rustls::TlsConnector::from(self.tls.clone())
            .connect(name, tcp)
            .await
            .with_context(|| format!("the TLS handshake with the hub at {address} failed"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().uri(path).header(header::HOST, address.to_string());
        if let Some(body) = &body {
            request = request.method(Method::POST).header(header::CONTENT_TYPE, body.content_type);
            if let Some(authorization) = &body.authorization {
                request = request.header(header::AUTHORIZATION, authorization.as_str());
            }
        }
        let bytes = Bytes::from(body.map(|body| body.bytes).unwrap_or_default());
        sender.send_request(request.body(Full::new(bytes))?).await.with_context(|| {
            format!(
                "{address} closed the connection before it answered: give the hub's HTTPS port, which `sealcast up` \
                     prints (8443 by default), not its broker's"
            )
        })
    }
}
