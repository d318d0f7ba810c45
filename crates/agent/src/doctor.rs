//! `sealcast doctor` for a device's folder: whether its agent can do its work, and what to do where it cannot.

mod identity;
mod reach;
mod state;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use sealcast_node::{
    PassphraseArgs,
    config::{folder_of, load},
    doctor::{self, Place, Report, Transport, check_disk, check_holder, check_ports, check_ready, check_secrets},
    now_ms,
};

use self::{identity::Identified, reach::Reached};
use crate::{
    config::{self, AgentFile, DEFAULT_LISTEN},
    listeners,
    store::state_files,
};

/// `sealcast-agent doctor`.
#[derive(clap::Args)]
pub struct Options {
    /// The device's folder. Its agent may be running.
    #[arg(long, env = "SEALCAST_DIR", value_name = "DIR")]
    dir: PathBuf,
    /// Configuration file [default: DIR/agent.toml, if it exists].
    #[arg(long, env = "SEALCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(options: Options) -> Result<ExitCode> {
    let Options { dir, config, passphrase, json } = options;
    doctor::print(&[examine(&dir, config.as_deref(), passphrase).await], json)
}

/// Checks the device's folder `dir`. It may be in any state, and its agent may be running.
pub async fn examine(dir: &Path, config: Option<&Path>, passphrase: PassphraseArgs) -> Report {
    let advice = "give the device's folder, which `sealcast enroll` makes (--dir)";
    let mut report = match Report::of_folder("agent", dir, advice) {
        Ok(report) => report,
        Err(report) => return report,
    };
    let holder = check_holder(&mut report, dir, "the agent");
    check_disk(&mut report, dir);
    let checked = configuration(&mut report, dir, config, passphrase.passphrase_file.clone());
    check_secrets(&mut report, &secrets(dir, checked.as_ref()));
    if let Some(config) = &checked {
        files(&mut report, dir, config);
        check_ports(&mut report, &places(config), holder);
        if let (Some(_), Some(address)) = (holder, config.metrics) {
            check_ready(&mut report, address).await;
        }
    }
    let passphrase_file = checked.as_ref().and_then(|config| config.passphrase_file.clone());
    let key_files = report.key_files(passphrase_file, passphrase.passphrase_file);

    let identified = identity::check(&mut report, dir, key_files.as_ref(), now_ms());
    let known = state::check(&mut report, dir, holder.is_some(), identified.as_ref(), key_files.as_ref());
    if let (Some(checked), Some(known)) = (&checked, &known) {
        state::check_waiting(&mut report, checked, known);
    }
    // What is not said is as by default.
    let defaults = || AgentFile::default().validate();
    let checked = checked.map_or_else(defaults, Ok);
    if let (Ok(config), Some(Identified { folder, key: Some(key), .. })) = (&checked, &identified) {
        let reached = Reached { config, folder, key, known: known.as_ref().and_then(|it| it.ledger.as_ref()), holder };
        reached.check(&mut report).await;
    } else {
        report.fail("broker", "not tried: it takes the device's certificate and key", "see what is said of them above");
    }
    report
}

/// The configuration, if it is one.
fn configuration(
    report: &mut Report,
    dir: &Path,
    given: Option<&Path>,
    passphrase_file: Option<PathBuf>,
) -> Option<config::Agent> {
    let path = given.map_or_else(|| dir.join("agent.toml"), Path::to_owned);
    let config = || -> Result<config::Agent> {
        load::<AgentFile>(given, &path)?
            .check(&[], |file| file.with_files(folder_of(&path))?.with_passphrase(passphrase_file).validate())
    };
    let advice =
        "correct it: docs/configuration.md has each key, and `sealcast init agent` writes them all into a new file";
    report.configuration(&path, given.is_some(), config(), advice)
}

/// The files that listeners and doors need.
fn files(report: &mut Report, dir: &Path, config: &config::Agent) {
    let mut doors = config.http.iter().chain(&config.coap);
    let read = listeners::prepare(config).map(drop).and_then(|()| doors.try_for_each(|door| door.token(dir).map(drop)));
    if report.attempt("listeners", read, "see [[listener]], [http] and [coap] in agent.toml").is_some() {
        report.ok("listeners", "their files can be read");
    }
}

/// What only the owner of the folder may read.
fn secrets(dir: &Path, config: Option<&config::Agent>) -> Vec<PathBuf> {
    let mut paths = vec![dir.join("device.key")];
    paths.extend(state_files(dir));
    let Some(config) = config else { return paths };
    for listener in &config.listeners {
        paths.extend(listener.tls.as_ref().map(|tls| tls.key.clone()));
        paths.extend(listener.login.as_ref().map(|login| login.password_file.clone()));
    }
    paths.extend(
        config.http.iter().chain(&config.coap).filter_map(|door| door.token_file.as_ref()).map(|file| dir.join(file)),
    );
    paths.extend(config.passphrase_file.clone());
    paths
}

/// Where the agent listens.
fn places(config: &config::Agent) -> Vec<Place> {
    let tcp =
        |key: &str, address, is_default| Place { key: key.to_owned(), transport: Transport::Tcp, address, is_default };
    let listen = config.listen.map(|address| tcp("listen", address, address == DEFAULT_LISTEN));
    let tables = config.listeners.iter().filter_map(|listener| match listener.place {
        config::listener::Place::Tcp(address) => Some(tcp("listener.listen", address, false)),
        config::listener::Place::Unix(_) => None,
    });
    let http = config.http.as_ref().map(|door| tcp("http.listen", door.listen, false));
    let metrics = config.metrics.map(|address| tcp("metrics.listen", address, false));
    let mut places: Vec<Place> = listen.into_iter().chain(tables).chain(http).chain(metrics).collect();
    places.extend(
        config.coap.as_ref().map(|door| Place { transport: Transport::Udp, ..tcp("coap.listen", door.listen, false) }),
    );
    places
}
