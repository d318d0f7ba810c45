//! TLS as both sides use it: certificates of our own CA only, aws-lc underneath.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, Signer, SingleCertAndKey, public_key_to_spki},
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, alg_id};
use sealcast_identity::{SigningKey, signature_to_der};

use crate::config::MAX_PACKET_BYTES;

/// Where control messages are cut: a common limit of brokers is 128 KB, and MQTT 3.1.1 has no word for it.
const PART_BYTES: usize = 64 << 10;
/// How long a connection may take until TLS stands.
const CONNECT: Duration = Duration::from_secs(10);

/// Makes aws-lc the process's crypto provider. Libraries underneath ask for the default one.
pub fn install_provider() {
    // An error says that one is installed: by an earlier call of ours.
    let _ = default_provider().install_default();
}

/// A certificate chain, leaf first, and its key, wherever that is.
pub struct Identity<'a> {
    /// DER, leaf first.
    pub chain: &'a [Vec<u8>],
    /// The leaf's.
    pub key: &'a SigningKey,
}

impl Identity<'_> {
    /// As rustls takes them.
    fn certified(&self) -> Result<Arc<SingleCertAndKey>> {
        let chain = self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let certified = CertifiedKey::new(chain, Arc::new(Key(self.key.clone())));
        certified.keys_match().context("this node's certificate and key do not belong together")?;
        Ok(Arc::new(SingleCertAndKey::from(certified)))
    }
}

/// Signs handshakes.
#[derive(Debug)]
struct Key(SigningKey);

impl rustls::sign::SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(Self(self.0.clone())) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ECDSA_P256, self.0.public().to_uncompressed()))
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signature = self.0.sign(message).and_then(|signature| signature_to_der(&signature));
        signature.map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// A client that trusts servers under `root` and shows `identity`.
pub fn client(root: &[u8], identity: Option<&Identity<'_>>) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder().with_root_certificates(roots(root)?);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(identity.certified()?),
    };
    Ok(Arc::new(config))
}

/// A client that trusts whichever server shows a root with this SHA-256 fingerprint in its chain: the bootstrap of RFC
/// 7030 §4.1.1, with the fingerprint from the enrolment token in place of a person who compares it.
pub fn pinned_client(root_fingerprint: [u8; 32]) -> Arc<ClientConfig> {
    let verifier = PinnedRoot { fingerprint: root_fingerprint, provider: Arc::new(default_provider()) };
    let config =
        ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    Arc::new(config)
}

/// A server whose clients may show a certificate under `root`, and need not: EST, where they come to get one. No connection
/// takes over from an earlier one who the client is, so a certificate that has ended is not shown again in that way.
pub fn server(identity: &Identity<'_>, root: &[u8]) -> Result<Arc<ServerConfig>> {
    let clients = WebPkiClientVerifier::builder(Arc::new(roots(root)?))
        .allow_unauthenticated()
        .build()
        .context("the CA's root certificate cannot be used")?;
    let mut config =
        ServerConfig::builder().with_client_cert_verifier(clients).with_cert_resolver(identity.certified()?);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn roots(root: &[u8]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from(root.to_vec())).context("the CA's root certificate cannot be used")?;
    Ok(store)
}

#[derive(Debug)]
struct PinnedRoot {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let sha256 = |der: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let pinned = intermediates.iter().find(|der| sha256(der).as_ref() == self.fingerprint).ok_or_else(|| {
            rustls::Error::General(
                "the server does not show the root certificate that the enrolment token names: this is not the hub \
                 that made the token, or somebody intercepts the connection"
                    .into(),
            )
        })?;
        let general = |error: &dyn fmt::Display| rustls::Error::General(error.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| general(&error))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A network address as a person writes it: a host name or IP address and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (host, port) = text.rsplit_once(':').with_context(|| format!("{text:?} is not HOST:PORT"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().with_context(|| format!("the port of {text:?} is not a number from 1 to 65535"))?;
        if host.is_empty() || port == 0 {
            bail!("{text:?} is not HOST:PORT");
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// The broker as a node reaches it: plain TCP, or TLS with the node's certificate.
#[derive(Clone)]
pub struct Upstream {
    address: HostPort,
    tls: Option<Arc<RwLock<Arc<ClientConfig>>>>,
    /// 0 while it is not known.
    max_packet_bytes: Arc<AtomicUsize>,
    part_bytes: usize,
}

impl Upstream {
    /// A broker at `address`, over TLS if there is a configuration for it.
    pub fn new(address: HostPort, tls: Option<Arc<ClientConfig>>) -> Self {
        let tls = tls.map(|config| Arc::new(RwLock::new(config)));
        Self { address, tls, max_packet_bytes: Arc::default(), part_bytes: PART_BYTES }
    }

    /// Sets where control messages are cut if the broker does not say how much it takes.
    #[must_use]
    pub fn with_part_bytes(self, part_bytes: usize) -> Self {
        Self { part_bytes, ..self }
    }

    /// Where control messages are cut, unless the broker says that it takes less.
    pub fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// The TLS configuration, `None` for plain TCP.
    pub fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.as_ref().map(|config| config.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// All connections that are opened from now on get this configuration, those of clones too. Over plain TCP there is
    /// none.
    pub fn set_tls(&self, new: Arc<ClientConfig>) {
        if let Some(config) = &self.tls {
            *config.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
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
        let opened = tokio::time::timeout(CONNECT, self.open()).await;
        opened
            .unwrap_or_else(|_| bail!("no connection to the broker at {} within {} s", self.address, CONNECT.as_secs()))
    }

    async fn open(&self) -> Result<Box<dyn Stream>> {
        let address = &self.address;
        let tcp = tokio::net::TcpStream::connect((address.host.as_str(), address.port))
            .await
            .with_context(|| format!("cannot reach the broker at {address}"))?;
        tcp.set_nodelay(true)?;
        let Some(config) = self.tls() else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(address.host.clone())
            .with_context(|| format!("{:?} is neither a host name nor an IP address", address.host))?;
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .with_context(|| format!("the TLS handshake with the broker at {address} failed"))?;
        Ok(Box::new(stream))
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// A byte stream to the broker.
pub trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() -> Result<()> {
        for (text, host, port) in [("localhost:8883", "localhost", 8883), ("[::1]:1", "::1", 1)] {
            let address: HostPort = text.parse()?;
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
        for bad in ["localhost", ":1", "host:0", "host:65536", "host:"] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
        Ok(())
    }
}
