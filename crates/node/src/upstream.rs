//! A broker as a node reaches it: plain, over TLS or in a WebSocket, with the login that it wants.

mod config;
mod url;

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use sealcast_mqtt::Credentials;
use sealcast_topic::Wire;

pub use self::{
    config::{Login, Roots, UpstreamConfig, UpstreamFile, Whose},
    url::{BrokerUrl, Scheme},
};
use crate::{
    config::MAX_PACKET_BYTES,
    tls::{HostPort, Identity, Stream, client_with},
    web_socket,
};

/// Where control messages are cut: a common limit of brokers is 128 KB, and MQTT 3.1.1 has no word for it.
const PART_BYTES: usize = 64 << 10;
/// Largest packet that is taken out of a WebSocket, where nothing else is said.
const MAX_TAKEN_BYTES: usize = 8 << 20;
/// How long a connection may take until TLS stands.
const CONNECT: Duration = Duration::from_secs(10);

/// See the module. Cheap to clone; clones share what is learnt of the broker.
#[derive(Clone)]
pub struct Upstream {
    url: BrokerUrl,
    tls: Option<Tls>,
    login: Login,
    /// Somebody else's broker, and not the hub's.
    foreign: bool,
    /// 0 while it is not known.
    max_packet_bytes: Arc<AtomicUsize>,
    part_bytes: usize,
    max_taken_bytes: usize,
    wire: Wire,
}

/// How TLS is spoken.
#[derive(Clone)]
struct Tls {
    config: Arc<RwLock<Arc<ClientConfig>>>,
    roots: Arc<RootCertStore>,
    /// Where [`Self::roots`] are from.
    trusted: Roots,
    /// Whether the node's certificate is shown.
    certificate: bool,
    server_name: String,
    alpn: Vec<String>,
}

impl Upstream {
    /// A broker at `address`, over TLS as `tls` has it for good, or plain; without a user.
    pub fn new(address: HostPort, tls: Option<Arc<ClientConfig>>) -> Self {
        let url = BrokerUrl::new(address, tls.is_some());
        let tls = tls.map(|config| Tls {
            config: Arc::new(RwLock::new(config)),
            roots: Arc::new(RootCertStore::empty()),
            trusted: Roots::Network,
            certificate: false,
            server_name: url.address.host.clone(),
            alpn: Vec::new(),
        });
        Self::of(url, tls)
    }

    fn of(url: BrokerUrl, tls: Option<Tls>) -> Self {
        Self {
            url,
            tls,
            login: Login::default(),
            foreign: false,
            max_packet_bytes: Arc::default(),
            part_bytes: PART_BYTES,
            max_taken_bytes: MAX_TAKEN_BYTES,
            wire: Wire::default(),
        }
    }

    /// The broker that `config` names, or else the one at `enrolled`, which the hub told. `root` is the network's own.
    ///
    /// # Errors
    /// A file cannot be read, or holds something else.
    pub fn open(config: &UpstreamConfig, enrolled: &str, root: &[u8], identity: &Identity<'_>) -> Result<Self> {
        let url = match &config.url {
            Some(url) => url.clone(),
            None => enrolled.parse()?,
        };
        Self::configured(config, url, &config.roots, root, config.certificate.then_some(identity))
    }

    /// The broker that `config` names, for whoever belongs to no network: it shows no certificate, and judges the broker's by
    /// the system's certificate authorities where `config` names no file with others.
    ///
    /// # Errors
    /// It names no broker. A file cannot be read, or holds something else.
    pub fn open_outside(config: &UpstreamConfig) -> Result<Self> {
        let url = config.url.clone().context("url: no broker is named")?;
        let roots = match &config.roots {
            Roots::Network => &Roots::Public,
            roots => roots,
        };
        Self::configured(config, url, roots, &[], None)
    }

    /// `trusted` counts where there is TLS; `root` is the network's.
    fn configured(
        config: &UpstreamConfig,
        url: BrokerUrl,
        trusted: &Roots,
        root: &[u8],
        shown: Option<&Identity<'_>>,
    ) -> Result<Self> {
        let tls = match url.scheme.tls {
            false => None,
            true => {
                let roots = Arc::new(trusted.read(root)?);
                let name = config.server_name.clone().unwrap_or_else(|| url.address.host.clone());
                server_name(&name)?;
                Some(Tls {
                    config: Arc::new(RwLock::new(client_with(roots.clone(), shown, &config.alpn)?)),
                    roots,
                    trusted: trusted.clone(),
                    certificate: shown.is_some(),
                    server_name: name,
                    alpn: config.alpn.clone(),
                })
            }
        };
        // Said at once, and not at the first connection.
        config.login.credentials()?;
        let part_bytes = config.part_bytes.unwrap_or(PART_BYTES);
        Ok(Self { login: config.login.clone(), foreign: config.url.is_some(), part_bytes, ..Self::of(url, tls) })
    }

    /// Lets packets of so many bytes through a WebSocket.
    #[must_use]
    pub fn taking(self, max_packet_bytes: usize) -> Self {
        Self { max_taken_bytes: MAX_TAKEN_BYTES.max(max_packet_bytes), ..self }
    }

    /// Has Sealcast's own topics written in this way.
    #[must_use]
    pub fn with_wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// How Sealcast's own topics are written there.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Whether it may be anybody's: it was named in a configuration, or the hub told that it is a client of it too.
    pub fn is_foreign(&self) -> bool {
        self.foreign || self.wire != Wire::default()
    }

    /// Where control messages are cut, unless the broker says that it takes less.
    pub fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// The node's own user name and password, read anew.
    ///
    /// # Errors
    /// The password's file cannot be read.
    pub fn credentials(&self) -> Result<Option<Credentials>> {
        self.login.credentials()
    }

    /// What goes to the broker in the place of a client's own user name and password, if anything does.
    ///
    /// # Errors
    /// The password's file cannot be read.
    pub fn credentials_of_clients(&self) -> Result<Option<Credentials>> {
        match self.login.whose {
            Whose::Client => Ok(None),
            Whose::Agent => self.login.credentials(),
        }
    }

    /// The TLS configuration, `None` for plain TCP.
    pub fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.as_ref().map(|tls| tls.config.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// All connections that are opened from now on show this certificate, those of clones too.
    ///
    /// # Errors
    /// Certificate and key do not belong together.
    pub fn set_identity(&self, identity: &Identity<'_>) -> Result<()> {
        if let Some(Tls { config, roots, certificate: true, alpn, .. }) = &self.tls {
            let new = client_with(roots.clone(), Some(identity), alpn)?;
            *config.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        Ok(())
    }

    /// The largest packet that it takes, as it has said on an MQTT 5 connection; `None` while that is not known. MQTT 3.1.1
    /// has no word for it.
    pub fn max_packet_bytes(&self) -> Option<usize> {
        Some(self.max_packet_bytes.load(Ordering::Relaxed)).filter(|max| *max > 0)
    }

    /// Notes what the broker said of its largest packet when a connection of MQTT 5 was made.
    pub fn note_max_packet_bytes(&self, max: Option<u32>) {
        // Without a word it takes whatever MQTT can carry.
        let max = max.map_or(MAX_PACKET_BYTES, |max| max as usize);
        self.max_packet_bytes.store(max, Ordering::Relaxed);
    }

    /// Opens a connection, or gives up after 10 seconds.
    pub async fn connect(&self) -> Result<Box<dyn Stream>> {
        let opened = tokio::time::timeout(CONNECT, self.open_stream()).await;
        opened.unwrap_or_else(|_| bail!("no connection to the broker at {self} within {} s", CONNECT.as_secs()))
    }

    async fn open_stream(&self) -> Result<Box<dyn Stream>> {
        let address = &self.url.address;
        let tcp = tokio::net::TcpStream::connect((address.host.as_str(), address.port))
            .await
            .with_context(|| format!("cannot reach the broker at {address}"))?;
        tcp.set_nodelay(true)?;
        let (Some(tls), Some(config)) = (&self.tls, self.tls()) else { return self.wrap(tcp).await };
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(server_name(&tls.server_name)?, tcp)
            .await
            .map_err(|error| self.explain(error))?;
        self.wrap(stream).await
    }

    /// In a WebSocket, if it is to be in one.
    async fn wrap(&self, stream: impl Stream + 'static) -> Result<Box<dyn Stream>> {
        if !self.url.scheme.web_socket {
            return Ok(Box::new(stream));
        }
        Ok(Box::new(web_socket::connect(stream, &self.url.to_string(), self.max_taken_bytes).await?))
    }

    fn explain(&self, error: std::io::Error) -> anyhow::Error {
        let text = error.to_string();
        let is = |what: &str| text.contains(what);
        let trusted = self.tls.as_ref().map(|tls| &tls.trusted);
        let advice = if is("UnknownIssuer") || is("BadSignature") {
            match trusted {
                Some(Roots::File(path)) => format!(": its certificate is not from an authority in {}", path.display()),
                Some(Roots::Public) => {
                    ": its certificate is not from an authority that this system trusts: set `ca_file` to its \
                     authority's instead"
                        .to_owned()
                }
                _ if self.is_foreign() => {
                    ": set `ca_file` or `public_roots` if its certificate is not from this network's CA".to_owned()
                }
                _ => String::new(),
            }
        } else if is("CaUsedAsEndEntity") && self.is_foreign() {
            ": its certificate is that of a certificate authority; give the broker one for a server, which that authority has \
             signed, and set `ca_file` to the authority's"
                .to_owned()
        } else {
            String::new()
        };
        anyhow::Error::new(error).context(format!("the TLS handshake with the broker at {self} failed{advice}"))
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).with_context(|| format!("{host:?} is neither a host name nor an IP address"))
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}
