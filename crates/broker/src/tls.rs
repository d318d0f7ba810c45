//! Mutual TLS: the broker's own identity, and who is at the other end.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why a TLS listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// PEM that cannot be read.
    #[error("cannot read the {what} as PEM")]
    Pem {
        /// Which of the three inputs.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// No certificate where at least one is needed.
    #[error("the {what} contains no certificate")]
    Empty {
        /// Which of the inputs.
        what: &'static str,
    },
    /// A client root that is no usable certificate, or a key that does not belong to the certificate.
    #[error("cannot use the broker's TLS certificate, its key or the client roots")]
    Rustls(#[from] rustls::Error),
    /// The client roots make no verifier.
    #[error("cannot verify client certificates with the configured roots")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The broker's TLS identity and the roots that client certificates must chain to.
pub struct TlsIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_roots: Vec<CertificateDer<'static>>,
}

impl TlsIdentity {
    /// From DER: the broker's chain (leaf first), its private key, and the client roots.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_roots: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self { chain, key, client_roots }
    }

    /// From PEM text: the broker's chain (leaf first), its private key (PKCS#8 or SEC1), and the client roots.
    pub fn from_pem(chain: &[u8], key: &[u8], client_roots: &[u8]) -> Result<Self, TlsError> {
        let certificates = |pem, what| {
            CertificateDer::pem_slice_iter(pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|source| TlsError::Pem { what, source })
        };
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| TlsError::Pem { what: "broker's private key", source })?;
        Ok(Self {
            chain: certificates(chain, "broker's certificate chain")?,
            key,
            client_roots: certificates(client_roots, "client roots")?,
        })
    }

    /// The configuration of a listener. The crypto provider is named here, so no process default is needed.
    pub(crate) fn server_config(&self) -> Result<rustls::ServerConfig, TlsError> {
        if self.chain.is_empty() {
            return Err(TlsError::Empty { what: "broker's certificate chain" });
        }
        if self.client_roots.is_empty() {
            return Err(TlsError::Empty { what: "client roots" });
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for root in &self.client_roots {
            roots.add(root.clone())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        // A resumed session would bring back its client's certificate without a look at whether it has ended meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl Clone for TlsIdentity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key(), client_roots: self.client_roots.clone() }
    }
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").field("chain", &self.chain.len()).field("key", &"<redacted>").finish()
    }
}
