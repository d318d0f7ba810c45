//! A client of the console's HTTP API.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, Uri,
    body::{Bytes, Incoming},
    header,
};
use rustls::ClientConfig;
use sealcast_console::{EntryPage, ErrorBody, SignedIn, State, Token, WirePage};
use sealcast_node::http::{HttpClient, has_user, read_answer};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::sse::{self, Parser};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The server says something each 15 s at least: a feed that is silent for longer is dead.
const MAX_SILENCE: Duration = Duration::from_secs(40);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or it broke.
    #[error("the console does not answer: {0:#}")]
    Unreachable(anyhow::Error),
    /// The console says no.
    #[error("{message}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// What is wrong and what to do.
        message: String,
    },
    /// That is no console, or one of another version.
    #[error("the console's answer cannot be read: {0:#}")]
    Answer(anyhow::Error),
}

impl ClientError {
    /// The session has ended, or the token is not the console's.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }
}

/// Where a console is: `http://` on this machine, `https://` anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleUrl(Uri);

impl std::str::FromStr for ConsoleUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let uri: Uri = text.parse().with_context(|| format!("{text:?} is no URL"))?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            bail!("{text:?} is no URL of a console, such as http://127.0.0.1:8088");
        };
        // The URL is printed.
        ensure!(!has_user(&uri), "a console's URL has no user in it: sign in with --token-file or --identity");
        ensure!(uri.path() == "/" && uri.query().is_none(), "{text:?}: a console's URL ends behind its port");
        match scheme {
            "https" => {}
            "http" => ensure!(is_this_machine(host), "{text:?}: without TLS others can read the sign-in: use https://"),
            _ => bail!("{text:?} begins with neither http:// nor https://"),
        }
        Ok(Self(uri))
    }
}

impl std::fmt::Display for ConsoleUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl ConsoleUrl {
    /// Whether its server has to show a certificate.
    pub fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    fn at(&self, path: &str) -> Result<Uri> {
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = Some(path.parse()?);
        Ok(Uri::from_parts(parts)?)
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// How somebody signs in.
pub enum Credential {
    /// By a token.
    Token(Token),
    /// By the certificate that the client's TLS shows.
    Certificate,
}

/// See the module.
pub struct Client {
    http: HttpClient,
    url: ConsoleUrl,
    credential: Credential,
    session: Option<Session>,
}

struct Session {
    /// None where the certificate stands for it.
    cookie: Option<String>,
    csrf: String,
}

impl Client {
    /// Of the console at `url`. `tls` says which servers are believed, and shows a certificate if the credential is one.
    pub fn new(url: ConsoleUrl, tls: &Arc<ClientConfig>, credential: Credential) -> Self {
        Self { http: HttpClient::new(tls), url, credential, session: None }
    }

    /// Begins a session, in the place of the former one.
    pub async fn sign_in(&mut self) -> Result<SignedIn, ClientError> {
        self.session = None;
        let answer = match &self.credential {
            Credential::Certificate => self.send(Method::GET, "/api/session", &[], String::new()).await?,
            Credential::Token(token) => {
                let proof = serde_json::json!({ "proof": hex::encode(token.sign_in()) }).to_string();
                self.send(Method::POST, "/api/session", &[], proof).await?
            }
        };
        let cookie = answer.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
        let cookie = cookie.and_then(|text| text.split(';').next()).map(str::to_owned);
        let signed_in: SignedIn = read(answer).await?;
        self.session = Some(Session { cookie, csrf: signed_in.csrf.clone() });
        Ok(signed_in)
    }

    /// Ends the session, if there is one.
    pub async fn sign_out(&mut self) -> Result<(), ClientError> {
        let Some(Session { csrf, .. }) = &self.session else { return Ok(()) };
        let csrf = [("x-sealcast-csrf", csrf.as_str())];
        self.send(Method::DELETE, "/api/session", &csrf, String::new()).await?;
        self.session = None;
        Ok(())
    }

    /// All that an overview needs.
    pub async fn state(&self) -> Result<State, ClientError> {
        self.see("/api/state").await
    }

    /// The newest entries of the ledger, newest first.
    pub async fn entries(&self, limit: usize) -> Result<EntryPage, ClientError> {
        self.see(&format!("/api/entries?limit={limit}")).await
    }

    /// The newest messages at the hub's own broker, newest first.
    pub async fn wire(&self, limit: usize) -> Result<WirePage, ClientError> {
        self.see(&format!("/api/wire?limit={limit}")).await
    }

    /// What happens behind the event `last`.
    pub async fn feed(&self, last: &str) -> Result<Feed, ClientError> {
        let answer = self.send(Method::GET, "/api/feed", &[("last-event-id", last)], String::new()).await?;
        Ok(Feed { body: answer.into_body(), parser: Parser::default(), ready: VecDeque::new() })
    }

    async fn see<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        read(self.send(Method::GET, path, &[], String::new()).await?).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = self.request(method, path, headers, body).map_err(ClientError::Unreachable)?;
        let answer = self.http.request(request, PATIENCE).await;
        let answer =
            answer.with_context(|| format!("{} cannot be reached", self.url)).map_err(ClientError::Unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said: Result<ErrorBody, ClientError> = read(answer).await;
        let message = said.map_or_else(|_| format!("{} answers with status {status}", self.url), |it| it.error.message);
        Err(ClientError::Refused { status: status.as_u16(), message })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(method).uri(self.url.at(path)?);
        if let Some(Session { cookie: Some(cookie), .. }) = &self.session {
            request = request.header(header::COOKIE, cookie);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }
}

async fn read<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T, ClientError> {
    let bytes = read_answer(answer, PATIENCE).await.map_err(ClientError::Unreachable)?;
    serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer(error.into()))
}

/// The live feed.
pub struct Feed {
    body: Incoming,
    parser: Parser,
    ready: VecDeque<sse::Event>,
}

impl Feed {
    /// The next event; `None` if the server ends the feed.
    pub async fn next(&mut self) -> Result<Option<sse::Event>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let frame = timeout(MAX_SILENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| ClientError::Unreachable(anyhow::anyhow!("its feed is silent")))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| ClientError::Unreachable(anyhow::anyhow!(error)))?;
            if let Some(bytes) = frame.data_ref() {
                let events = self.parser.push(bytes).map_err(|error| ClientError::Answer(error.into()))?;
                self.ready.extend(events);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_over_tls_or_to_this_machine_only() {
        for good in ["http://127.0.0.1:8088", "http://[::1]:1/", "http://localhost", "https://hub.example:8088"] {
            let url: ConsoleUrl = good.parse().unwrap();
            assert_eq!(url.to_string(), good.trim_end_matches('/'));
            assert_eq!(url.at("/api/state").unwrap(), *format!("{url}/api/state"));
        }
        for bad in [
            "http://hub.example:8088",
            "http://10.0.0.1",
            "127.0.0.1:8088",
            "ftp://localhost",
            "http://localhost/x",
            "https://anna:secret@hub.example:8088",
            "http://anna@localhost",
        ] {
            let said = bad.parse::<ConsoleUrl>().unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
