//! TLS as both sides use it: certificates of our own CA only, aws-lc underneath.

use std::{fmt, path::Path, str::FromStr, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, Signer, SingleCertAndKey, public_key_to_spki},
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, alg_id, pem::PemObject as _};
use sealcast_identity::{SigningKey, signature_to_der};

use crate::files;

/// Makes aws-lc the process's crypto provider. Libraries underneath ask for the default one.
pub fn install_provider() {
    let mut provider = default_provider();
    // First what groups use as well: each message passes TLS four times, and AES-256 has 14 rounds, not 10.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    // An error says that one is installed: by an earlier call of ours.
    let _ = provider.install_default();
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
    client_with(Arc::new(roots(root)?), identity, &[])
}

/// The same with any roots, and with the names of protocols that are offered (ALPN).
pub fn client_with(
    roots: Arc<RootCertStore>,
    identity: Option<&Identity<'_>>,
    alpn: &[String],
) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(identity.certified()?),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
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

/// One root.
pub fn roots(root: &[u8]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from(root.to_vec())).context("the CA's root certificate cannot be used")?;
    Ok(store)
}

/// The certificate authorities of this system.
pub fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs);
    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    ensure!(
        added > 0,
        "this system has no certificate authorities{why}: install them (Debian: ca-certificates), or set `ca_file`"
    );
    Ok(store)
}

/// Those in a file, PEM.
pub fn roots_in(path: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let pem = files::read(path)?;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let added = certificate.map_err(anyhow::Error::new).and_then(|der| Ok(store.add(der)?));
        added.with_context(|| format!("{} has a certificate that cannot be used", path.display()))?;
    }
    ensure!(!store.is_empty(), "{} has no certificate in it (PEM)", path.display());
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
