//! `[console]` of `hub.toml`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// `[console]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table with listen = \"ADDRESS:PORT\"")]
pub struct ConsoleFile {
    /// Where it listens; empty: nowhere. On another address than loopback it is served over HTTPS, with the hub's
    /// certificate. Default `127.0.0.1:8088`, if that is free.
    listen: Option<String>,
}

/// Where the console is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Console {
    /// The address.
    pub listen: SocketAddr,
    /// Whether somebody has chosen it. The hub starts without the console if the default one is taken.
    pub is_chosen: bool,
}

impl Console {
    /// Other machines reach it: then it is served over TLS.
    pub fn is_tls(&self) -> bool {
        !self.listen.ip().is_loopback()
    }
}

impl ConsoleFile {
    /// At this address, or nowhere.
    pub fn at(listen: Option<SocketAddr>) -> Self {
        Self { listen: Some(listen.map_or_else(String::new, |listen| listen.to_string())) }
    }

    /// Where to listen.
    ///
    /// # Errors
    /// It is no address.
    pub fn validate(self) -> Result<Option<Console>> {
        let Some(listen) = self.listen else {
            return Ok(Some(Console { listen: SocketAddr::from(([127, 0, 0, 1], 8088)), is_chosen: false }));
        };
        if listen.is_empty() {
            return Ok(None);
        }
        let parsed = listen.parse().with_context(|| {
            format!("console.listen: {listen:?} is no ADDRESS:PORT, such as 127.0.0.1:8088; \"\" serves no console")
        });
        Ok(Some(Console { listen: parsed?, is_chosen: true }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_loopback_and_empty_is_nowhere() -> Result<()> {
        let read = |text: &str| toml::from_str::<ConsoleFile>(text)?.validate();
        let default = read("")?.context("a console")?;
        assert_eq!(
            (default.listen.to_string().as_str(), default.is_chosen, default.is_tls()),
            ("127.0.0.1:8088", false, false)
        );
        assert_eq!(read("listen = ''")?, None);
        let chosen = read("listen = '0.0.0.0:1'")?.context("a console")?;
        assert!(chosen.is_chosen && chosen.is_tls());
        for text in ["listen = 'localhost'", "listen = 8088", "port = 1"] {
            assert!(read(text).is_err(), "{text}");
        }
        Ok(())
    }
}
