//! `sealcast init`: writes a role's configuration file, with every key in it.

use anyhow::Result;
use clap::Subcommand;

/// `sealcast init`.
#[derive(Subcommand)]
pub enum Command {
    /// Write agent.toml into a device's folder.
    Agent(sealcast_agent::init::Options),
    /// Write hub.toml into a hub's folder.
    Hub(sealcast_hub::init::Options),
    /// Write operator.toml into an operator's folder.
    Operator(sealcast_operator::init::Options),
}

/// Runs the command. A file that is there stays as it is.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Agent(options) => sealcast_agent::init::run(options),
        Command::Hub(options) => sealcast_hub::init::run(options),
        Command::Operator(options) => sealcast_operator::init::run(options),
    }
}
