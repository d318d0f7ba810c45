//! The URL of an endpoint.

use std::{fmt, str::FromStr};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::Uri;

/// Where an endpoint is: `http`, `https`, `ws` or `wss`. Shown without its path, its query and its user, which often are
/// secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(Uri);

impl FromStr for EndpointUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let uri: Uri = text.parse().context("not a URL")?;
        ensure!(
            matches!(uri.scheme_str(), Some("http" | "https" | "ws" | "wss")) && uri.host().is_some(),
            "not the URL of an endpoint: it begins with http://, https://, ws:// or wss://, and names a host"
        );
        Ok(Self(uri))
    }
}

impl EndpointUrl {
    /// With all that is in it.
    pub fn whole(&self) -> String {
        self.0.to_string()
    }

    /// For a request.
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(super) fn has_tls(&self) -> bool {
        matches!(self.0.scheme_str(), Some("https" | "wss"))
    }

    pub(super) fn is_web_socket(&self) -> bool {
        matches!(self.0.scheme_str(), Some("ws" | "wss"))
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{}{port}", self.0.scheme_str().unwrap_or_default(), self.0.host().unwrap_or_default())
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What authority the URI names, as a host and a port.
pub(super) fn host_and_port(uri: &Uri) -> Result<(String, u16)> {
    let Some(host) = uri.host() else { bail!("the URL has no host") };
    let default = if matches!(uri.scheme_str(), Some("https" | "wss")) { 443 } else { 80 };
    Ok((host.trim_matches(['[', ']']).to_owned(), uri.port_u16().unwrap_or(default)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_url_is_shown_without_its_secrets() -> Result<()> {
        let url: EndpointUrl = "https://user:word@rpc.example:8545/v3/0123456789abcdef?key=x".parse()?;
        assert_eq!(
            (url.to_string().as_str(), format!("{url:?}").as_str()),
            ("https://rpc.example:8545", "https://rpc.example:8545")
        );
        assert!(url.whole().contains("0123456789abcdef"));
        Ok(())
    }

    #[test]
    fn other_urls_are_refused() {
        for text in ["", "localhost:8545", "mqtt://localhost:1", "http://", "/x", "file:///x"] {
            assert!(text.parse::<EndpointUrl>().is_err(), "{text}");
        }
    }
}
