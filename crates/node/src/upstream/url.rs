//! Where a broker is.

use std::{fmt, str::FromStr};

use anyhow::{Context as _, Result, bail, ensure};

use crate::tls::HostPort;

/// Where brokers take MQTT over WebSocket, if an address has no path.
const DEFAULT_PATH: &str = "/mqtt";

/// How a broker is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// With TLS.
    pub tls: bool,
    /// In a WebSocket.
    pub web_socket: bool,
}

/// A broker's address: `mqtt://HOST:PORT`, `mqtts://HOST:PORT`, `ws://HOST:PORT/PATH` or `wss://HOST:PORT/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// How.
    pub scheme: Scheme,
    /// Where.
    pub address: HostPort,
    /// Of a WebSocket; else empty.
    pub path: String,
}

impl BrokerUrl {
    /// MQTT over plain TCP or TLS.
    pub fn new(address: HostPort, tls: bool) -> Self {
        Self { scheme: Scheme { tls, web_socket: false }, address, path: String::new() }
    }
}

impl FromStr for BrokerUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let scheme = |tls, web_socket| Scheme { tls, web_socket };
        let (scheme, rest) = match text.split_once("://") {
            Some(("mqtt", rest)) => (scheme(false, false), rest),
            Some(("mqtts", rest)) => (scheme(true, false), rest),
            Some(("ws", rest)) => (scheme(false, true), rest),
            Some(("wss", rest)) => (scheme(true, true), rest),
            _ => bail!(
                "{text:?} must be mqtts://HOST:PORT or mqtt://HOST:PORT, or for a WebSocket wss://HOST:PORT/PATH or \
                 ws://HOST:PORT/PATH"
            ),
        };
        // Without the text, which has the password in it.
        ensure!(!rest.contains('@'), "an address has no user and password in it: set `user` and `password_file`");
        let (address, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let path = match (scheme.web_socket, path) {
            (true, "" | "/") => DEFAULT_PATH,
            (false, "/") => "",
            (false, path) if !path.is_empty() => bail!("{text:?} has a path, which only a WebSocket can have"),
            (_, path) => path,
        };
        let printable = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        ensure!(printable, "the path of {text:?} has a character that must be escaped");
        Ok(Self { scheme, address: address.parse().with_context(|| format!("{text:?}"))?, path: path.to_owned() })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.scheme.web_socket, self.scheme.tls) {
            (false, false) => "mqtt",
            (false, true) => "mqtts",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        write!(f, "{scheme}://{}{}", self.address, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() -> Result<()> {
        for (text, written) in [
            ("mqtt://localhost:1883", "mqtt://localhost:1883"),
            ("mqtts://[::1]:8883/", "mqtts://[::1]:8883"),
            ("ws://broker:80", "ws://broker:80/mqtt"),
            ("wss://broker:443/a/ws?x=1", "wss://broker:443/a/ws?x=1"),
        ] {
            assert_eq!(text.parse::<BrokerUrl>()?.to_string(), written);
        }
        Ok(())
    }

    #[test]
    fn what_is_no_address_is_refused_and_a_password_is_not_shown() {
        for (text, part) in [
            ("broker:1883", "mqtts://"),
            ("http://broker:1883", "mqtts://"),
            ("mqtt://broker", "HOST:PORT"),
            ("mqtt://broker:1883/x", "path"),
            ("ws://broker:80/a b", "escaped"),
            ("mqtts://me:secret@broker:1883", "password_file"),
        ] {
            let error = text.parse::<BrokerUrl>().map_or_else(|error| format!("{error:#}"), |url| url.to_string());
            assert!(error.contains(part) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
