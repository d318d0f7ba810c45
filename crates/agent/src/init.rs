//! `sealcast init agent`: writes an `agent.toml` in which every key stands and none is set.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use sealcast_node::config::write_template;

use crate::config::TEMPLATE;

/// `sealcast init agent`.
#[derive(clap::Args)]
pub struct Options {
    /// The device's folder, made by `sealcast enroll`.
    #[arg(long, env = "SEALCAST_DIR", value_name = "DIR")]
    dir: PathBuf,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let Options { dir } = options;
    ensure!(dir.is_dir(), "there is no folder {}: `sealcast enroll` makes the device's folder (--dir)", dir.display());
    write_template(dir, "agent.toml", TEMPLATE)
}
