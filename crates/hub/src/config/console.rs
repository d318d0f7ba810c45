//! `[console]` of `hub.toml`.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use sealcast_identity::DeviceId;
use serde::Deserialize;

/// `[console]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table with listen = \"ADDRESS:PORT\"")]
pub struct ConsoleFile {
    /// Where it listens; empty: nowhere. On another address than loopback it is served over HTTPS, with the hub's
    /// certificate. Default `127.0.0.1:8088`, if that is free.
    listen: Option<String>,
    /// Devices that sign in as readers by their certificates. Where the console is served over HTTPS.
    certificates: Vec<String>,
}

/// Where the console is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// The address.
    pub listen: SocketAddr,
    /// Whether somebody has chosen it. The hub starts without the console if the default one is taken.
    pub is_chosen: bool,
    /// The devices that sign in as readers by their certificates.
    pub certificates: BTreeSet<DeviceId>,
}

impl Console {
    /// Other machines reach it: then it is served over TLS.
    pub fn is_tls(&self) -> bool {
        !self.listen.ip().is_loopback()
    }
}

impl ConsoleFile {
    /// The same, at this address if there is one.
    pub fn with(self, listen: Option<String>) -> Self {
        Self { listen: listen.or(self.listen), ..self }
    }

    /// Where to listen.
    ///
    /// # Errors
    /// It is no address, or a certificate is no device's or can never be shown.
    pub fn validate(self) -> Result<Option<Console>> {
        let certificates = self
            .certificates
            .iter()
            .map(|name| name.parse().with_context(|| format!("console.certificates: {name:?} is no device's name")));
        let certificates = certificates.collect::<Result<_>>()?;
        let is_chosen = self.listen.is_some();
        let listen = match self.listen.as_deref() {
            None => SocketAddr::from(([127, 0, 0, 1], 8088)),
            Some("") => return Ok(None),
            Some(listen) => listen.parse().with_context(|| {
                format!("console.listen: {listen:?} is no ADDRESS:PORT, such as 127.0.0.1:8088; \"\" serves no console")
            })?,
        };
        let console = Console { listen, is_chosen, certificates };
        ensure!(
            console.certificates.is_empty() || console.is_tls(),
            "console.certificates: on {listen} the console is served without TLS, where nobody shows a certificate. \
             Choose an address that is not loopback with console.listen"
        );
        Ok(Some(console))
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
        let named = read("listen = '0.0.0.0:1'\ncertificates = ['anna']")?.context("a console")?;
        assert!(named.certificates.contains(&"anna".parse()?));
        for text in [
            "listen = 'localhost'",
            "listen = 8088",
            "port = 1",
            "certificates = ['anna']",
            "listen = '0.0.0.0:1'\ncertificates = ['no name']",
            "listen = '0.0.0.0:1'\ncertificates = ['operator']",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        Ok(())
    }
}
