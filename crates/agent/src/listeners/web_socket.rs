//! Which web pages may connect over WebSocket: browsers let every page try, also on loopback.

use std::net::IpAddr;

use hyper::{HeaderMap, header};

/// The pages that may connect.
pub struct Pages {
    origins: Vec<String>,
    /// Clients must give a password, which no page of somebody else knows.
    any: bool,
}

impl Pages {
    /// Those of `origins`, or of any if clients need a password.
    pub fn new(origins: Vec<String>, any: bool) -> Self {
        Self { origins, any }
    }

    /// Looks at a handshake. A program that is no browser sends no `Origin`, or the address that it connects to.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), String> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        if self.any || self.origins.iter().any(|known| known == origin) || is_own(origin, headers) {
            return Ok(());
        }
        Err(format!("web pages of {origin:?} may not connect: see `origins` of the listener in agent.toml"))
    }
}

/// Whether the page would come from this listener, which has none. A name that was made to point here does not count, and
/// an address is not a name.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let of_origin = origin.split_once("://").map(|(_, host)| host);
    of_origin == Some(host) && is_address(host)
}

fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn admits(pages: &Pages, origin: Option<&str>, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        pages.admit(&headers).is_ok()
    }

    #[test]
    fn pages_of_others_are_refused() {
        let pages = Pages::new(vec!["https://dash.example".to_owned()], false);
        for (origin, host, expected) in [
            (None, "127.0.0.1:9001", true),
            (Some("https://dash.example"), "127.0.0.1:9001", true),
            (Some("https://dash.example.evil"), "127.0.0.1:9001", false),
            (Some("null"), "127.0.0.1:9001", false),
            (Some("http://localhost:3000"), "localhost:9001", false),
            // paho-mqtt.
            (Some("http://127.0.0.1:9001"), "127.0.0.1:9001", true),
            (Some("https://localhost:9001"), "localhost:9001", true),
            (Some("https://192.0.2.7:9001"), "192.0.2.7:9001", true),
            (Some("http://[::1]"), "[::1]", true),
            // A name that its owner has made to point to 127.0.0.1.
            (Some("http://evil.example:9001"), "evil.example:9001", false),
        ] {
            assert_eq!(admits(&pages, origin, host), expected, "{origin:?} {host}");
        }
        assert!(admits(&Pages::new(vec![], true), Some("https://any.example"), "127.0.0.1:9001"));
    }
}
