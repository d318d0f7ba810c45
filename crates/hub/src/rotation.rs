//! Another key for the issuing CA, by the word of the root. The hub must not run meanwhile.
//!
//! The new key is on disk before the ledger knows it, and takes the old one's place after that. Whatever was interrupted is
//! finished when it is done again.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use sealcast_identity::{Authority, MAX_PEM_BYTES, Root};
use sealcast_ledger::{Body, KeyRotated};
use sealcast_node::{
    KeyFiles,
    files::{self, Mode},
    now_ms, read_secret,
};

use crate::{apart::YEAR, config, ledger};

const NEXT_KEY: &str = "next-issuing.key";
const NEXT_CERTIFICATE: &str = "next-issuing.pem";

/// Gives the hub in the folder `hub` a new issuing CA, which the root CA in the folder `root` signs; `root_passphrase` is where
/// its passphrase is, if it is not the hub's. The new key is in the token that `key_uri` names, if there is one. Returns the new
/// certificate's SHA-256.
pub async fn rotate_ca(
    hub: &Path,
    root: &Path,
    root_passphrase: Option<&Path>,
    key_uri: Option<&str>,
    config: &config::Hub,
) -> Result<String> {
    let key_files = KeyFiles::new(config.passphrase_file.as_deref())?;
    let root_key_files = root_passphrase.map_or_else(|| Ok(key_files.clone()), |file| KeyFiles::new(Some(file)))?;
    let _lock = files::lock(hub).context("stop the hub first")?;
    let anchor = files::certificate(&hub.join("root.pem"))?;
    let root = Root::new(root_key_files.read(&root.join("root.key"))?, &files::read(&root.join("root.pem"))?)
        .with_context(|| format!("the root CA in {} cannot be used", root.display()))?;
    ensure!(
        *root.certificate() == anchor,
        "the root CA is not the one of the hub in {}: give the folder that the hub's first start made (--root)",
        hub.display()
    );
    let next = next(hub, &root, &key_files, key_uri)?;
    let ledger = ledger::reopen(hub, config).await?;
    let replica = ledger::read(&ledger).await?;
    let id = ledger.first_id();
    if replica.key_of(id.ca()) != Some(next.key().public()) {
        let body = Body::KeyRotated(KeyRotated::to(next.key(), id.ca(), &id)?);
        let entry = body.sign(root.key(), id.root(), replica.next_nonce(id.root()), replica.current_id())?;
        ledger.submit(&entry).await.context("the ledger did not take the entry")?;
    }
    files::write(&hub.join("issuing.key"), &read_secret(&hub.join(NEXT_KEY), MAX_PEM_BYTES)?, Mode::Secret)?;
    files::write(&hub.join("issuing.pem"), next.chain_pem().as_bytes(), Mode::Public)?;
    for name in [NEXT_CERTIFICATE, NEXT_KEY] {
        fs::remove_file(hub.join(name)).with_context(|| format!("cannot remove {name}"))?;
    }
    Ok(next.certificate().fingerprint().to_string())
}

/// The new CA: one that an interrupted rotation has left, or one that is made now.
fn next(hub: &Path, root: &Root, key_files: &KeyFiles, key_uri: Option<&str>) -> Result<Authority> {
    let (key, certificate) = (hub.join(NEXT_KEY), hub.join(NEXT_CERTIFICATE));
    // Written last.
    if certificate.exists() {
        return Authority::new(key_files.read(&key)?, &files::read(&certificate)?)
            .with_context(|| format!("{} cannot be used", certificate.display()));
    }
    KeyFiles::check_other(&hub.join("issuing.key"), key_uri)?;
    let next = root.certify_authority(key_files.make(&key, key_uri)?, "Sealcast", now_ms(), 10 * YEAR)?;
    files::write(&certificate, next.chain_pem().as_bytes(), Mode::Public)?;
    Ok(next)
}
