//! `sealcast init operator`: writes an `operator.toml` in which every key stands and none is set.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use sealcast_node::config::write_template;

use crate::operator::TEMPLATE;

/// `sealcast init operator`.
#[derive(clap::Args)]
pub struct Options {
    /// The operator's folder, which the hub's first start made.
    #[arg(long = "operator", env = "SEALCAST_OPERATOR", value_name = "DIR", default_value = "hub-operator")]
    dir: PathBuf,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let Options { dir } = options;
    ensure!(
        dir.is_dir(),
        "there is no folder {}: the first `sealcast up` makes the operator's folder beside the hub's (--operator)",
        dir.display()
    );
    write_template(dir, "operator.toml", TEMPLATE)
}
