//! The hub's keys and certificates.

use std::path::Path;

use anyhow::Result;
use sealcast_identity::{Authority, Certificate, Network, SigningKey, TrustAnchor};
use sealcast_node::{
    KeyFiles,
    doctor::{Report, check_certificate},
    files,
};

use crate::{config, folder};

/// Of the lifetime of a certificate that a person has to renew, percent: a year of ten.
const WARN_PART: u64 = 10;
/// Of that of one that a start renews in its last 30 days.
const SERVER_PART: u64 = 8;
/// What to do about a file that nobody can make again.
pub const BACKUP: &str = "stop the hub and restore the folder from a backup: docs/recovery.md";
const ROTATE: &str = "stop the hub, and give it a new issuing CA with the root CA's folder: sealcast key rotate ca";
const RESTART: &str = "start the hub again: a start makes a new one";
const OPERATOR: &str = "sealcast key rotate operator, where the operator's folder is";

/// What was found.
#[derive(Default)]
pub struct Found {
    /// The root, by which all else is judged.
    pub anchor: Option<TrustAnchor>,
    /// The CA's certificate.
    pub issuing: Option<Certificate>,
    /// The CA with its key.
    pub authority: Option<Authority>,
    /// The key of the hub's server.
    pub server_key: Option<SigningKey>,
    /// What devices are told.
    pub network: Option<Network>,
}

/// Reads all of them.
pub fn check(
    report: &mut Report,
    dir: &Path,
    config: &config::Hub,
    key_files: Option<&KeyFiles>,
    now_ms: u64,
) -> Found {
    let mut found = Found::default();
    let path = |name: &str| dir.join(name);
    let anchor = || -> Result<TrustAnchor> { Ok(TrustAnchor::new(files::certificate(&path("root.pem"))?)?) };
    found.anchor = report.attempt("root", anchor(), BACKUP);
    if let Some(anchor) = &found.anchor {
        check_certificate(
            report,
            "root",
            anchor.root(),
            now_ms,
            WARN_PART,
            "found a new network: docs/certificates.md",
        );
    }
    found.issuing = report.attempt("issuing CA", files::certificate(&path("issuing.pem")), BACKUP);
    if let Some(issuing) = &found.issuing {
        check_certificate(report, "issuing CA", issuing, now_ms, WARN_PART, ROTATE);
        if let Some(anchor) = &found.anchor
            && !issuing.is_issued_by(anchor.root())
        {
            report.fail("issuing CA", "issuing.pem is not of the root in root.pem", BACKUP);
        }
    }
    if let Some(key_files) = key_files {
        let authority =
            || Ok(Authority::new(key_files.read(&path("issuing.key"))?, &files::read(&path("issuing.pem"))?)?);
        found.authority = report.attempt("issuing CA", authority(), BACKUP);
        if found.authority.is_some() {
            report.ok("issuing CA", "issuing.key is that of issuing.pem");
        }
        found.server_key = report.attempt("server", key_files.read(&path("server.key")), BACKUP);
    }
    server(report, dir, config, &found, now_ms);
    if let Some(operator) = report.attempt("operator", files::certificate(&path("operator.pem")), BACKUP) {
        check_certificate(report, "operator", &operator, now_ms, WARN_PART, OPERATOR);
    }
    report.attempt(
        "relay key",
        folder::relay_key(dir, config),
        "restore relay.key, or name another account in key_file",
    );
    if let Some(anchor) = &found.anchor {
        let network = || Ok(Network::verify(files::read(&path("network.json"))?.as_bytes(), anchor, now_ms)?);
        found.network = report.attempt("network", network(), RESTART);
    }
    if let Some(network) = &found.network {
        report.ok("network", format!("devices are told of the hub {} and the broker {}", network.hub, network.broker));
    }
    found
}

fn server(report: &mut Report, dir: &Path, config: &config::Hub, found: &Found, now_ms: u64) {
    let Some(server) = report.attempt("server", files::certificate(&dir.join("server.pem")), RESTART) else { return };
    check_certificate(report, "server", &server, now_ms, SERVER_PART, RESTART);
    let names = config.names.join(", ");
    if found.server_key.as_ref().is_some_and(|key| key.public() != server.public_key()) {
        report.fail("server", "server.pem is not of the key in server.key", RESTART);
    } else if found.issuing.as_ref().is_some_and(|issuing| !server.is_issued_by(issuing)) {
        report.fail("server", "server.pem is not of the CA in issuing.pem", RESTART);
    } else if !server.is_for_names(&config.names) {
        report.warn("server", format!("server.pem is not for the names {names}"), RESTART);
    } else {
        report.ok("server", format!("server.pem is for {names}"));
    }
}
