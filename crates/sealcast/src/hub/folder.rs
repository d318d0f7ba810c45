//! The hub's folder: its keys and certificates, made at the first start.
//!
//! ```text
//! root.key root.pem          the root CA; the key is needed only here, at the first start
//! issuing.key issuing.pem    the CA that certifies devices (the file holds its certificate, then the root's)
//! operator.key operator.pem  who may create groups, grant and revoke; a TLS client of the broker
//! server.key server.pem      the hub's server certificate, made anew at each start
//! relay.key                  the Ethereum account that pays for entries (secp256k1, hex)
//! network.json               what a device has to know, signed by the CA
//! ```

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use sealcast_identity::{Authority, Certificate, Root, SigningKey, key_to_pem};
use zeroize::Zeroizing;

use crate::{
    config,
    files::{self, Mode},
};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The hub's keys.
pub struct Keys {
    /// The issuing CA.
    pub authority: Authority,
    /// The operator's certificate; its key stays in the folder.
    pub operator: Certificate,
    /// Certificate of the hub's servers, leaf first, with the root for clients that pin it.
    pub server_chain: Vec<Vec<u8>>,
    /// Its key, PKCS#8 DER.
    pub server_key: Zeroizing<Vec<u8>>,
    /// The relay's secp256k1 key.
    pub relay_key: Zeroizing<[u8; 32]>,
}

/// Reads the hub's keys, making those that are not there.
pub fn keys(dir: &Path, config: &config::Hub, now_ms: u64) -> Result<Keys> {
    let path = |name: &str| dir.join(name);
    let keep = |name: &str, text: &str, mode| files::write(&path(name), text.as_bytes(), mode);

    if !path("issuing.pem").exists() {
        let root = Root::create("Sealcast", now_ms, 20 * YEAR)?;
        let authority = root.create_authority("Sealcast", now_ms, 10 * YEAR)?;
        keep("root.key", &root.key_pem(), Mode::Secret)?;
        keep("root.pem", &root.certificate().to_pem(), Mode::Public)?;
        keep("issuing.key", &authority.key_pem(), Mode::Secret)?;
        // Last: its presence says that the others are there.
        keep("issuing.pem", &authority.chain_pem(), Mode::Public)?;
    }
    let authority =
        Authority::from_pem(&files::read_secret(&path("issuing.key"))?, &files::read(&path("issuing.pem"))?)
            .with_context(|| format!("the CA in {} cannot be used", dir.display()))?;

    if !path("operator.pem").exists() {
        let key = SigningKey::generate()?;
        let issued = authority.issue_operator(key.public(), now_ms, 10 * YEAR)?;
        keep("operator.key", &key_to_pem(&key), Mode::Secret)?;
        keep("operator.pem", &issued.chain_pem(), Mode::Public)?;
    }
    let operator = files::certificate(&path("operator.pem"))?;

    let server_key = if path("server.key").exists() {
        files::key(&path("server.key"))?
    } else {
        let key = SigningKey::generate()?;
        keep("server.key", &key_to_pem(&key), Mode::Secret)?;
        key
    };
    let server = authority.issue_server(&config.names, server_key.public(), now_ms, YEAR)?;
    keep("server.pem", &server.chain_pem(), Mode::Public)?;
    let mut server_chain: Vec<Vec<u8>> = server.chain().iter().map(|certificate| certificate.der().to_vec()).collect();
    server_chain.push(authority.root().der().to_vec());

    if !path("relay.key").exists() {
        let mut key = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(key.as_mut()).context("no randomness from the system")?;
        keep("relay.key", &Zeroizing::new(hex::encode(*key)), Mode::Secret)?;
    }
    let mut relay_key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(files::read_secret(&path("relay.key"))?.trim(), relay_key.as_mut())
        .with_context(|| format!("{} does not hold 64 hex digits", path("relay.key").display()))?;

    Ok(Keys { authority, operator, server_chain, server_key: server_key.to_pkcs8_der().clone(), relay_key })
}
