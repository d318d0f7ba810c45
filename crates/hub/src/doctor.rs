//! `sealcast doctor` for a hub's folder: whether the hub can do its work, and what to do where it cannot.

mod keys;
mod ledger;
mod reach;

use std::path::{Path, PathBuf};

use anyhow::Result;
use sealcast_node::{
    PassphraseArgs,
    config::{folder_of, load},
    doctor::{
        Later, Place, Report, Transport, check_clock, check_database, check_disk, check_holder, check_ports,
        check_ready, check_secrets,
    },
    now_ms,
};

use self::keys::BACKUP;
use crate::{Folders, HubFile, config, folder};

/// A server and its devices may be so far apart, ms: what an agent allows by default.
const TOLERANCE_MS: u64 = 2_000;
/// The hub's databases, and which of them it cannot be without.
const DATABASES: [&str; 4] = ["ledger.sqlite", "broker.db", "hub.sqlite", "kept.sqlite"];

/// Checks the hub's folder `dir`. It may be in any state, and its hub may be running.
pub async fn examine(dir: &Path, config: Option<&Path>, passphrase: PassphraseArgs) -> Report {
    let advice = "give the hub's folder, which the first `sealcast up` makes (--hub)";
    let mut report = match Report::of_folder("hub", dir, advice) {
        Ok(report) => report,
        Err(report) => return report,
    };
    let holder = check_holder(&mut report, dir, "the hub");
    check_disk(&mut report, dir);
    let checked = configuration(&mut report, dir, config, passphrase.passphrase_file.clone());
    check_secrets(&mut report, &secrets(dir, checked.as_ref()));
    if let Some(config) = &checked {
        check_ports(&mut report, &places(config), holder);
        if let (Some(_), Some(address)) = (holder, config.metrics) {
            check_ready(&mut report, address).await;
        }
    }
    if !dir.join("issuing.pem").exists() && report.attempt("files", lost(dir, checked.as_ref()), BACKUP).is_some() {
        report.warn("files", "no hub was started here yet", "sealcast up makes its keys, its ledger and its broker");
        return report;
    }
    if report.attempt("files", lost(dir, checked.as_ref()), BACKUP).is_some() {
        report.ok("files", "none is missing");
    }
    let apart = Folders::beside(dir).and_then(|folders| folders.check_apart());
    report.attempt("files", apart, "move it away from the hub's machine");

    let passphrase_file = checked.as_ref().and_then(|config| config.passphrase_file.clone());
    let key_files = report.key_files(passphrase_file, passphrase.passphrase_file);
    let config = match checked.map_or_else(|| HubFile::default().validate(), Ok) {
        Ok(config) => config,
        Err(_) => return report,
    };
    let found = keys::check(&mut report, dir, &config, key_files.as_ref(), now_ms());
    for name in DATABASES {
        let path = dir.join(name);
        // Which of them must be there was said above.
        if path.exists() {
            check_database(&mut report, "databases", &path, holder.is_some(), BACKUP);
        }
    }
    let known = ledger::check(&mut report, dir, &config, &found, holder.is_some()).await;
    let mut others = Vec::new();
    let issued = found.issuing.as_ref().map(|issuing| issuing.issued_s() * 1000);
    others.extend(issued.map(|time_ms| Later { what: "the CA's certificate", time_ms, came_ms: None }));
    let written = known.as_ref().map(|known| known.replica.last_time_s() * 1000);
    others.extend(written.map(|time_ms| Later { what: "the ledger", time_ms, came_ms: None }));
    check_clock(&mut report, now_ms(), TOLERANCE_MS, &others);
    reach::check(&mut report, &config, &found, holder.is_some()).await;
    report
}

/// The configuration, if it is one.
fn configuration(
    report: &mut Report,
    dir: &Path,
    given: Option<&Path>,
    passphrase_file: Option<PathBuf>,
) -> Option<config::Hub> {
    let path = given.map_or_else(|| dir.join("hub.toml"), Path::to_owned);
    let config = || -> Result<config::Hub> {
        load::<HubFile>(given, &path)?.check(&[], |file| {
            file.with_paths(folder_of(&path)).with_passphrase(passphrase_file).validate()?.check_to_run()
        })
    };
    let advice =
        "correct it: docs/configuration.md has each key, and `sealcast init hub` writes them all into a new file";
    report.configuration(&path, given.is_some(), config(), advice)
}

/// What was lost, by what a hub needs with this configuration.
fn lost(dir: &Path, config: Option<&config::Hub>) -> Result<()> {
    match config {
        Some(config) => folder::check(dir, config),
        None => folder::check(dir, &HubFile::default().validate()?),
    }
}

/// What only the owner of the folder may read.
fn secrets(dir: &Path, config: Option<&config::Hub>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        ["issuing.key", "server.key", "relay.key", "console.verifier"].map(|name| dir.join(name)).into();
    for name in DATABASES {
        paths.extend(["", "-wal", "-shm"].map(|end| dir.join(format!("{name}{end}"))));
    }
    let Some(config) = config else { return paths };
    paths.extend(config.relay_key_file().map(Path::to_owned));
    paths.extend(config.relay_key_password_file().map(Path::to_owned));
    paths.extend(config.passphrase_file.clone());
    paths
}

/// Where the hub listens.
fn places(config: &config::Hub) -> Vec<Place> {
    let place =
        |key: &str, address, is_default| Place { key: key.to_owned(), transport: Transport::Tcp, address, is_default };
    let default = [8443, 8883].map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    let mut places = vec![place("est", config.est, default.contains(&config.est))];
    if config.broker.is_none() {
        places.push(place("mqtt", config.mqtt, default.contains(&config.mqtt)));
    }
    // The hub starts without the console where the default address is taken.
    let console = config.console.as_ref().filter(|console| console.is_chosen);
    places.extend(console.map(|console| place("console.listen", console.listen, false)));
    places.extend(config.metrics.map(|address| place("metrics.listen", address, false)));
    places.extend(config.ledger_listen.map(|address| place("ledger.listen", address, false)));
    places
}
