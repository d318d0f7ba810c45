//! TLS for the device's clients. Its certificate is the user's own: the device's is for TLS clients only.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sealcast_node::{files, read_secret};
use tracing::{info, warn};

use crate::config::listener::TlsFiles;

/// Largest PEM file that is read.
const MAX_BYTES: usize = 1 << 20;

/// A listener's certificate, read again when its files change.
pub struct Tls {
    files: TlsFiles,
    held: Mutex<Held>,
}

struct Held {
    /// The files that were looked at last, whether or not they could be used.
    seen: Vec<Option<Stamp>>,
    config: Arc<ServerConfig>,
}

/// What changes when a file does: its device, number, size and time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

impl Tls {
    /// Reads the files.
    pub fn read(files: TlsFiles) -> Result<Self> {
        let seen = stamps(&files);
        let config = read(&files)?;
        Ok(Self { files, held: Mutex::new(Held { seen, config }) })
    }

    /// For the next connection. A certificate that was renewed on disk is used from now on; what cannot be read does not
    /// take the place of what could.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = stamps(&self.files);
        if seen != held.seen {
            held.seen = seen;
            let certificate = self.files.certificate.display();
            match read(&self.files) {
                Ok(config) => {
                    info!(%certificate, "listener: the new certificate is used");
                    held.config = config;
                }
                Err(error) => {
                    warn!(%certificate, "listener: its files have changed and cannot be used, so the old certificate stays: {error:#}");
                }
            }
        }
        held.config.clone()
    }
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    let stamp = |path: &Path| {
        let file = fs::metadata(path).ok()?;
        Some(Stamp(file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    };
    files.paths().map(stamp).collect()
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>> {
    let chain = certificates(&files.certificate)?;
    let key = read_secret(&files.key, MAX_BYTES)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .with_context(|| format!("key: {} holds no private key as unencrypted PEM", files.key.display()))?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).with_context(|| format!("client_ca: {} cannot be used", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.context("client_ca")?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).with_context(|| {
        format!("{} and {} cannot be used together", files.certificate.display(), files.key.display())
    })?;
    // A resumed session would bring back its client's certificate without a look at whether it has ended meanwhile.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = files::read_bytes(path, MAX_BYTES)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.with_context(|| format!("{} is not a PEM file", path.display()))?;
    ensure!(!found.is_empty(), "{} holds no certificate", path.display());
    Ok(found)
}
