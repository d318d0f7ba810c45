//! `sealcast init hub`: writes a `hub.toml` in which every key stands and none is set.

use std::path::PathBuf;

use anyhow::Result;
use sealcast_node::{config::write_template, files};

use crate::config::TEMPLATE;

/// `sealcast init hub`.
#[derive(clap::Args)]
pub struct Options {
    /// The hub's folder. It is made if it is not there.
    #[arg(long, env = "SEALCAST_HUB", value_name = "DIR", default_value = "hub")]
    dir: PathBuf,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    files::create_dir(&options.dir)?;
    write_template(&options.dir, "hub.toml", TEMPLATE)
}
