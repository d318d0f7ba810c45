//! Where MQTT clients connect: `listen`, and the `[[listener]]` tables.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_agent_core::session::Annotate;
use sealcast_node::config::TableAt;
use serde::Deserialize;

const FORMS: &str = "mqtt://ADDRESS:PORT, mqtts://ADDRESS:PORT, ws://ADDRESS:PORT, wss://ADDRESS:PORT or unix:PATH";

/// A `[[listener]]` table. Paths are relative to the configuration's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with listen = \"mqtts://ADDRESS:PORT\"")]
pub struct ListenerFile {
    /// Where and how, see [`FORMS`].
    listen: String,
    /// Allows it to be more than loopback where anybody who reaches it speaks as this device. Default false.
    #[serde(default)]
    beyond_loopback: bool,
    /// TLS: the server's certificate and those above it, leaf first, PEM.
    certificate: Option<PathBuf>,
    /// TLS: its private key, PEM.
    key: Option<PathBuf>,
    /// TLS: the CA whose certificate a client must show. Default: clients show none.
    client_ca: Option<PathBuf>,
    /// Unix socket: the mode of its file. Default 0o600, or 0o666 where `users` says who may connect.
    mode: Option<u32>,
    /// Unix socket: who may connect, by name or number. Default: whoever may write to the file.
    users: Option<Vec<User>>,
    /// The user name that a client must give. Default: clients give none.
    user: Option<String>,
    /// The file with the password that goes with it.
    password_file: Option<PathBuf>,
    /// WebSocket: the origins of web pages that may connect. Default none.
    #[serde(default)]
    origins: Vec<String>,
    /// What its MQTT 5 clients are told of the messages that they get. Default: as the key of the same name says.
    annotate: Option<Annotate>,
    /// The folder that paths are relative to.
    #[serde(skip)]
    dir: PathBuf,
}

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a user's name or number")]
pub enum User {
    /// The user's number.
    Id(u32),
    /// The user's name.
    Name(String),
}

/// Where clients connect, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub place: Place,
    /// The files for TLS, if it is used.
    pub tls: Option<TlsFiles>,
    /// MQTT comes over WebSocket.
    pub web_socket: Option<WebSocket>,
    /// What clients must give.
    pub login: Option<LoginFile>,
    /// What MQTT 5 clients are told of the messages that they get.
    pub annotate: Annotate,
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(UnixPlace),
}

/// A Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixPlace {
    /// Its file.
    pub path: PathBuf,
    /// The file's mode.
    pub mode: u32,
    /// Who may connect; `None`: whoever the mode lets.
    pub users: Option<Vec<User>>,
}

/// What a TLS server needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, leaf first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// PEM; clients must show a certificate under one of these.
    pub client_ca: Option<PathBuf>,
}

/// How WebSocket is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocket {
    /// Web pages that may connect.
    pub origins: Vec<String>,
}

/// What a client must give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginFile {
    /// User name.
    pub user: String,
    /// File with the password.
    pub password_file: PathBuf,
}

impl TlsFiles {
    /// All of them.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca).map(PathBuf::as_path)
    }
}

impl Listener {
    /// Plain MQTT, as the key `listen` asks for it.
    pub fn plain(address: SocketAddr, annotate: Annotate) -> Self {
        Self { place: Place::Tcp(address), tls: None, web_socket: None, login: None, annotate }
    }

    fn scheme(&self) -> &'static str {
        match (&self.place, &self.web_socket, &self.tls) {
            (Place::Unix(_), ..) => "unix",
            (Place::Tcp(_), None, None) => "mqtt",
            (Place::Tcp(_), None, Some(_)) => "mqtts",
            (Place::Tcp(_), Some(_), None) => "ws",
            (Place::Tcp(_), Some(_), Some(_)) => "wss",
        }
    }

    /// Nobody on the way can read it, and whoever connects has to prove something.
    fn is_guarded(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some() || self.login.is_some())
    }

    /// The same at the address that the system has chosen.
    pub fn bound(self, address: SocketAddr) -> Self {
        Self { place: Place::Tcp(address), ..self }
    }
}

/// As a client would be told.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(address) => write!(f, "{}://{address}", self.scheme()),
            Place::Unix(unix) => write!(f, "unix:{}", unix.path.display()),
        }
    }
}

/// The checked listeners. Those that do not say how to `annotate` do as is said here.
pub fn listeners(tables: Vec<ListenerFile>, annotate: Annotate) -> Result<Vec<Listener>> {
    let check = |(at, table): (usize, ListenerFile)| {
        let which = format!("listen = {:?}", table.listen);
        table.validate(annotate).with_context(|| TableAt { key: "listener", number: at + 1, which })
    };
    tables.into_iter().enumerate().map(check).collect()
}

impl ListenerFile {
    /// Its paths are relative to `dir`.
    pub fn set_dir(&mut self, dir: &Path) {
        self.dir = dir.to_owned();
    }

    fn validate(self, annotate: Annotate) -> Result<Listener> {
        let (scheme, rest) = match self.listen.split_once("://") {
            Some(parts) => parts,
            None => self.listen.split_once(':').unwrap_or(("", "")),
        };
        let (unix, tls, web_socket) = match scheme {
            "mqtt" => (false, false, false),
            "mqtts" => (false, true, false),
            "ws" => (false, false, true),
            "wss" => (false, true, true),
            "unix" => (true, false, false),
            _ => bail!("listen: it must be {FORMS}"),
        };
        let only = |given: bool, key: &str, fits: bool, where_: &str| {
            ensure!(fits || !given, "{key}: it is for {where_}");
            Ok(())
        };
        for (given, key) in [
            (self.certificate.is_some(), "certificate"),
            (self.key.is_some(), "key"),
            (self.client_ca.is_some(), "client_ca"),
        ] {
            only(given, key, tls, "mqtts:// and wss://")?;
        }
        only(self.mode.is_some(), "mode", unix, "unix:PATH")?;
        only(self.users.is_some(), "users", unix, "unix:PATH")?;
        only(self.beyond_loopback, "beyond_loopback", !unix, "addresses, not for unix:PATH")?;
        only(!self.origins.is_empty(), "origins", web_socket, "ws:// and wss://")?;
        let place = if unix { self.unix(rest)? } else { tcp(rest)? };
        let dir = self.dir;
        let login = match (self.user, self.password_file) {
            (None, None) => None,
            (Some(user), Some(file)) => Some(LoginFile { user, password_file: dir.join(file) }),
            _ => bail!("user and password_file: give both, or none"),
        };
        let tls = match (tls, self.certificate, self.key) {
            (false, ..) => None,
            (true, Some(certificate), Some(key)) => Some(TlsFiles {
                certificate: dir.join(certificate),
                key: dir.join(key),
                client_ca: self.client_ca.map(|file| dir.join(file)),
            }),
            (true, ..) => bail!(
                "certificate and key: a TLS listener needs both (the device's own certificate is for TLS clients only)"
            ),
        };
        let web_socket = web_socket.then_some(WebSocket { origins: self.origins });
        let annotate = self.annotate.unwrap_or(annotate);
        let listener = Listener { place, tls, web_socket, login, annotate };
        if let Place::Tcp(address) = listener.place {
            ensure!(
                address.ip().is_loopback() || self.beyond_loopback || listener.is_guarded(),
                "listen: {address} can be reached from other machines, and whoever reaches it speaks as this device; use \
                 TLS with client_ca, or with user and password_file, or set beyond_loopback = true"
            );
        }
        Ok(listener)
    }

    fn unix(&self, path: &str) -> Result<Place> {
        ensure!(!path.is_empty(), "listen: it must be {FORMS}");
        let mode = self.mode.unwrap_or(if self.users.is_some() { 0o666 } else { 0o600 });
        ensure!(mode <= 0o777, "mode: {mode:#o} is not a file's mode, such as 0o660");
        ensure!(self.users.as_ref().is_none_or(|users| !users.is_empty()), "users: name at least one");
        Ok(Place::Unix(UnixPlace { path: self.dir.join(path), mode, users: self.users.clone() }))
    }
}

fn tcp(address: &str) -> Result<Place> {
    let address = address.strip_suffix('/').unwrap_or(address);
    let address = address.parse();
    Ok(Place::Tcp(address.ok().with_context(|| format!("listen: it must be {FORMS}, with an IP address"))?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn listener(text: &str) -> Result<Listener> {
        let mut table: ListenerFile = toml::from_str(text)?;
        table.set_dir(Path::new("/etc/agent"));
        Ok(listeners(vec![table], Annotate::All)?.remove(0))
    }

    const TLS: &str = "certificate = 'a.pem'\nkey = 'a.key'\n";

    #[test]
    fn what_is_allowed() {
        let tls = |listen: &str, more: &str| format!("listen = '{listen}'\n{TLS}{more}");
        for (text, shown) in [
            ("listen = 'mqtt://127.0.0.1:1'".to_owned(), "mqtt://127.0.0.1:1"),
            ("listen = 'mqtt://127.0.0.1:1'\nuser = 'u'\npassword_file = 'p'".to_owned(), "mqtt://127.0.0.1:1"),
            ("listen = 'mqtt://0.0.0.0:1'\nbeyond_loopback = true".to_owned(), "mqtt://0.0.0.0:1"),
            ("listen = 'ws://[::1]:1/'\norigins = ['https://a.example']".to_owned(), "ws://[::1]:1"),
            (tls("mqtts://127.0.0.1:1", ""), "mqtts://127.0.0.1:1"),
            (tls("mqtts://0.0.0.0:1", "client_ca = 'ca.pem'"), "mqtts://0.0.0.0:1"),
            (tls("wss://0.0.0.0:1", "user = 'u'\npassword_file = 'p'"), "wss://0.0.0.0:1"),
            (tls("mqtts://0.0.0.0:1", "beyond_loopback = true"), "mqtts://0.0.0.0:1"),
            ("listen = 'unix:mqtt.sock'".to_owned(), "unix:/etc/agent/mqtt.sock"),
            ("listen = 'unix:///run/mqtt.sock'\nusers = ['mosquitto', 7]".to_owned(), "unix:/run/mqtt.sock"),
        ] {
            assert_eq!(listener(&text).unwrap().to_string(), shown, "{text}");
        }
        let Place::Unix(unix) = listener("listen = 'unix:/s'\nusers = ['m', 7]").unwrap().place else { panic!() };
        assert_eq!((unix.mode, unix.users), (0o666, Some(vec![User::Name("m".into()), User::Id(7)])));
        let Place::Unix(unix) = listener("listen = 'unix:/s'\nmode = 0o660").unwrap().place else { panic!() };
        assert_eq!((unix.mode, unix.users), (0o660, None));
        let annotate = |more: &str| listener(&format!("listen = 'unix:/s'\n{more}")).unwrap().annotate;
        assert_eq!((annotate(""), annotate("annotate = 'none'")), (Annotate::All, Annotate::None));
    }

    #[test]
    fn what_is_refused_is_named() {
        let tls = |listen: &str| format!("listen = '{listen}'\n{TLS}");
        for (text, part) in [
            ("listen = '127.0.0.1:1883'".to_owned(), "mqtts://ADDRESS:PORT"),
            ("listen = 'mqtt://localhost:1883'".to_owned(), "IP address"),
            ("listen = 'http://127.0.0.1:1'".to_owned(), "unix:PATH"),
            ("listen = 'unix:'".to_owned(), "unix:PATH"),
            ("listen = 'mqtt://0.0.0.0:1'".to_owned(), "beyond_loopback"),
            ("listen = 'ws://0.0.0.0:1'\nuser = 'u'\npassword_file = 'p'".to_owned(), "beyond_loopback"),
            (tls("mqtts://0.0.0.0:1"), "client_ca"),
            ("listen = 'mqtts://127.0.0.1:1'\ncertificate = 'a'".to_owned(), "certificate and key"),
            (tls("mqtt://127.0.0.1:1"), "certificate: it is for mqtts:// and wss://"),
            ("listen = 'mqtt://127.0.0.1:1'\nmode = 0o600".to_owned(), "mode: it is for unix:PATH"),
            ("listen = 'unix:/s'\nmode = 0o1600".to_owned(), "mode"),
            ("listen = 'unix:/s'\nusers = []".to_owned(), "users"),
            ("listen = 'unix:/s'\nusers = [true]".to_owned(), "a user's name or number"),
            ("listen = 'mqtt://127.0.0.1:1'\norigins = ['a']".to_owned(), "origins: it is for ws://"),
            ("listen = 'mqtt://127.0.0.1:1'\nuser = 'u'".to_owned(), "give both"),
        ] {
            let error = listener(&text).map_or_else(|error| format!("{error:#}"), |_| "accepted".into());
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = listener("listen = 'unix:'").unwrap_err();
        assert!(
            format!("{error:#}").starts_with("[[listener]] table number 1 (listen = \"unix:\"): listen"),
            "{error:#}"
        );
    }
}
