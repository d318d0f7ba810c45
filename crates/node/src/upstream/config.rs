//! `[upstream]` of `agent.toml` and `[broker]` of `hub.toml`: which broker, and with which login.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use rustls::RootCertStore;
use sealcast_mqtt::{Credentials, Text};
use serde::{
    Deserialize, Deserializer,
    de::{self, value::MapAccessDeserializer},
};

use super::url::BrokerUrl;
use crate::{
    key_files::read_password,
    tls::{roots, roots_in, system_roots},
};

/// Smallest part of a control message: its header must not count.
const MIN_PART_BYTES: usize = 4096;

/// The table, or its `url` alone as a string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamFile(Table);

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    /// `mqtt://`, `mqtts://`, `ws://` or `wss://`. Default: what the hub said at enrolment.
    url: Option<String>,
    /// User name. Default none.
    user: Option<String>,
    /// The file with the password. Default none.
    password_file: Option<PathBuf>,
    /// Whether the node's own certificate is shown where there is TLS. Default true.
    certificate: Option<bool>,
    /// The file with the broker's certificate authorities, PEM. Default: the network's root.
    ca_file: Option<PathBuf>,
    /// Whether the system's certificate authorities are trusted. Default false.
    public_roots: bool,
    /// The name in the broker's certificate. Default: the host in `url`.
    server_name: Option<String>,
    /// Names of protocols that are offered in the TLS handshake (ALPN). Default none.
    alpn: Vec<String>,
    /// Whose user name and password the broker gets of a client. Default: `agent` if there is a `user`, else `client`.
    credentials: Option<Whose>,
    /// Where control messages are cut, in bytes of a packet. Default 65,536.
    part_bytes: Option<usize>,
    /// What Sealcast's own topics begin with, in `hub.toml` alone: all others hear it from the hub.
    prefix: Option<String>,
}

/// Whose user name and password the broker gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// The client's own.
    #[default]
    Client,
    /// The agent's.
    Agent,
}

/// A checked [`UpstreamFile`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// `None`: what the hub said at enrolment.
    pub url: Option<BrokerUrl>,
    /// User and password.
    pub login: Login,
    /// Whether the node's own certificate is shown.
    pub certificate: bool,
    /// By which the broker's certificate is judged.
    pub roots: Roots,
    /// The name in the broker's certificate, if not the host in the address.
    pub server_name: Option<String>,
    /// Names of protocols that are offered.
    pub alpn: Vec<String>,
    /// Where control messages are cut.
    pub part_bytes: Option<usize>,
}

/// Certificate authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// The network's own root.
    #[default]
    Network,
    /// The system's.
    Public,
    /// Those in a file.
    File(PathBuf),
}

/// A user name, and where the password is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    user: Option<String>,
    password_file: Option<PathBuf>,
    /// For clients' connections.
    pub whose: Whose,
}

impl<'de> Deserialize<'de> for UpstreamFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = UpstreamFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the broker's address, or a table with it in `url`")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<UpstreamFile, E> {
                Ok(UpstreamFile::default().with_url(Some(url.to_owned())))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<UpstreamFile, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(UpstreamFile)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl UpstreamFile {
    /// Replaces the address, if an option gives one.
    #[must_use]
    pub fn with_url(self, url: Option<String>) -> Self {
        Self(Table { url: url.or(self.0.url), ..self.0 })
    }

    /// Replaces the prefix, if an option gives one.
    #[must_use]
    pub fn with_prefix(self, prefix: Option<String>) -> Self {
        Self(Table { prefix: prefix.or(self.0.prefix), ..self.0 })
    }

    /// For the hub, which alone chooses it: the prefix, and the rest.
    pub fn split_prefix(self) -> (Self, Option<String>) {
        let prefix = self.0.prefix;
        (Self(Table { prefix: None, ..self.0 }), prefix)
    }

    /// Makes paths relative to `dir`.
    #[must_use]
    pub fn with_files(self, dir: &Path) -> Self {
        let at = |path: Option<PathBuf>| path.map(|path| dir.join(path));
        Self(Table { password_file: at(self.0.password_file), ca_file: at(self.0.ca_file), ..self.0 })
    }

    /// Checks every value. `table` is what a message calls it.
    ///
    /// # Errors
    /// What is wrong, by its key.
    pub fn validate(self, table: &str) -> Result<UpstreamConfig> {
        self.0.validate().with_context(|| table.to_owned())
    }
}

impl Table {
    fn validate(self) -> Result<UpstreamConfig> {
        ensure!(
            self.prefix.is_none(),
            "prefix: the hub chooses it, with `prefix` in the table `broker` of its hub.toml, and tells it to all others"
        );
        let url: Option<BrokerUrl> = self.url.as_deref().map(str::parse).transpose()?;
        let plain = url.as_ref().is_some_and(|url| !url.scheme.tls);
        for (key, is_set) in [
            ("certificate", self.certificate == Some(true)),
            ("ca_file", self.ca_file.is_some()),
            ("public_roots", self.public_roots),
            ("server_name", self.server_name.is_some()),
            ("alpn", !self.alpn.is_empty()),
        ] {
            ensure!(!(plain && is_set), "{key}: there is no TLS at this address; use mqtts:// or wss://");
        }
        ensure!(
            self.password_file.is_none() || self.user.is_some(),
            "password_file: a password needs a `user`, else MQTT 3.1.1 does not carry it"
        );
        let whose = match (self.credentials, &self.user) {
            (Some(Whose::Agent), None) => bail!("credentials: \"agent\" needs a `user`"),
            (Some(whose), _) => whose,
            (None, Some(_)) => Whose::Agent,
            (None, None) => Whose::Client,
        };
        if let Some(user) = &self.user {
            text(user).context("user")?;
        }
        let roots = match (self.ca_file, self.public_roots) {
            (Some(_), true) => bail!("public_roots: cannot be used together with `ca_file`"),
            (Some(file), false) => Roots::File(file),
            (None, true) => Roots::Public,
            (None, false) => Roots::Network,
        };
        for name in &self.alpn {
            ensure!((1..=255).contains(&name.len()), "alpn: a name has 1 to 255 bytes");
        }
        if let Some(bytes) = self.part_bytes {
            ensure!(bytes >= MIN_PART_BYTES, "part_bytes: must be at least {MIN_PART_BYTES}");
        }
        Ok(UpstreamConfig {
            url,
            login: Login { user: self.user, password_file: self.password_file, whose },
            certificate: self.certificate.unwrap_or(true),
            roots,
            server_name: self.server_name,
            alpn: self.alpn,
            part_bytes: self.part_bytes,
        })
    }
}

impl Roots {
    pub(super) fn read(&self, network: &[u8]) -> Result<RootCertStore> {
        match self {
            Self::Network => roots(network),
            Self::Public => system_roots().context("public_roots"),
            Self::File(path) => roots_in(path).context("ca_file"),
        }
    }
}

impl Login {
    /// Reads the password.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>> {
        let Some(user) = &self.user else { return Ok(None) };
        let password = self.password_file.as_deref().map(password).transpose()?;
        Ok(Some(Credentials { username: Some(text(user)?), password }))
    }
}

fn password(path: &Path) -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(&read_password(path).context("password_file")?))
}

fn text(user: &str) -> Result<Text> {
    ensure!(!user.is_empty(), "a user name has at least one character");
    Text::new(user).context("MQTT cannot carry it")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::files;

    #[derive(Deserialize)]
    struct File {
        upstream: UpstreamFile,
    }

    fn config(text: &str) -> Result<UpstreamConfig> {
        toml::from_str::<File>(text)?.upstream.validate("upstream")
    }

    #[test]
    fn an_address_alone_is_enough() {
        let short = config("upstream = 'mqtt://broker:1883'").unwrap();
        assert_eq!(short, config("[upstream]\nurl = 'mqtt://broker:1883'").unwrap());
        assert_eq!((short.login.whose, short.roots), (Whose::Client, Roots::Network));
        let enrolled = config("[upstream]\npublic_roots = true").unwrap();
        assert_eq!((enrolled.url, enrolled.roots, enrolled.certificate), (None, Roots::Public, true));
    }

    #[test]
    fn an_agent_with_a_user_replaces_its_clients_credentials() {
        for (text, whose) in [
            ("user = 'u'", Whose::Agent),
            ("user = 'u'\ncredentials = 'client'", Whose::Client),
            ("credentials = 'client'", Whose::Client),
            ("", Whose::Client),
        ] {
            assert_eq!(config(&format!("[upstream]\n{text}")).unwrap().login.whose, whose, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        for (text, part) in [
            ("ulr = 'mqtt://x:1'", "ulr"),
            ("url = 'mqtt://x'", "HOST:PORT"),
            ("url = 'mqtt://x:1'\npublic_roots = true", "public_roots: there is no TLS"),
            ("url = 'ws://x:1'\nserver_name = 'y'", "server_name: there is no TLS"),
            ("ca_file = 'a'\npublic_roots = true", "ca_file"),
            ("password_file = 'a'", "`user`"),
            ("credentials = 'agent'", "`user`"),
            ("credentials = 'mine'", "mine"),
            ("user = ''", "user"),
            ("part_bytes = 4095", "part_bytes"),
            ("prefix = 'plant'", "the hub chooses it"),
            ("alpn = ['']", "alpn"),
        ] {
            let error =
                config(&format!("[upstream]\n{text}")).map_or_else(|error| format!("{error:#}"), |_| "ok".into());
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_is_read_each_time_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let file = toml::from_str::<File>("[upstream]\nuser = 'u'\npassword_file = 'password'").unwrap().upstream;
        let config = file.with_files(dir.path()).validate("upstream").unwrap();
        let error = format!("{:#}", config.login.credentials().unwrap_err());
        assert!(error.contains("password_file"), "{error}");
        for (written, read) in [("secret\n", "secret"), (" a b ", " a b ")] {
            files::write(&path, written.as_bytes(), files::Mode::Secret).unwrap();
            let credentials = config.login.credentials().unwrap().unwrap();
            assert_eq!(credentials.password.as_deref(), Some(read.as_bytes()));
            assert!(!format!("{config:?} {credentials:?}").contains(read));
        }
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", Roots::File(path.clone()).read(&[]).unwrap_err());
            assert!(error.contains("ca_file"), "{error}");
        }
    }
}
