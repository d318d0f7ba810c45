//! `sealcast doctor`: checks the folders of roles on this machine, each by its own role's checks.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use sealcast_node::{
    PassphraseArgs,
    doctor::{self, Report},
};

/// The folders that the hub and the operator's commands have where nobody names others.
const HUB: &str = "hub";
const OPERATOR: &str = "hub-operator";

/// `sealcast doctor`.
#[derive(clap::Args)]
pub struct Options {
    /// A device's folder. Its agent may be running.
    #[arg(long, env = "SEALCAST_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A hub's folder. The hub may be running [default: hub, if it is here and no folder is named].
    #[arg(long, env = "SEALCAST_HUB", value_name = "DIR")]
    hub: Option<PathBuf>,
    /// An operator's folder [default: hub-operator, if it is here and no folder is named].
    #[arg(long, env = "SEALCAST_OPERATOR", value_name = "DIR")]
    operator: Option<PathBuf>,
    /// Configuration file of the device or of the hub [default: agent.toml or hub.toml in the folder].
    #[arg(long, env = "SEALCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Print JSON: one object for each check.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(options: Options) -> Result<ExitCode> {
    let Options { dir, mut hub, mut operator, config, passphrase, json } = options;
    if dir.is_none() && hub.is_none() && operator.is_none() {
        let here = |name: &str| Some(PathBuf::from(name)).filter(|dir| dir.is_dir());
        (hub, operator) = (here(HUB), here(OPERATOR));
        ensure!(
            hub.is_some() || operator.is_some(),
            "there is neither a folder {HUB} nor {OPERATOR} here: name what to check, by --dir (a device's folder), \
             --hub or --operator"
        );
    }
    ensure!(
        config.is_none() || dir.is_none() || hub.is_none(),
        "--config: say for one folder at a time which configuration it has"
    );
    let reports = examine(dir, hub, operator, config.as_deref(), &passphrase).await;
    doctor::print(&reports, json)
}

async fn examine(
    dir: Option<PathBuf>,
    hub: Option<PathBuf>,
    operator: Option<PathBuf>,
    config: Option<&Path>,
    passphrase: &PassphraseArgs,
) -> Vec<Report> {
    let mut reports = Vec::new();
    if let Some(dir) = dir {
        reports.push(sealcast_agent::doctor::examine(&dir, config, passphrase.clone()).await);
    }
    if let Some(dir) = hub {
        reports.push(sealcast_hub::doctor::examine(&dir, config, passphrase.clone()).await);
    }
    if let Some(dir) = operator {
        reports.push(sealcast_operator::doctor::examine(&dir, passphrase).await);
    }
    reports
}
