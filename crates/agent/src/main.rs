//! `sealcast-agent`: the roles that a device needs, without the hub's ledger and broker.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sealcast_agent::{Options, audit, enroll, topics, why};
use sealcast_node::process::{self, Lasts, LogOptions};

/// End-to-end encrypted MQTT for groups of IoT devices: the device's side.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    log: LogOptions,
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Run a device's agent: MQTT clients connect to it instead of the broker.
    #[command(alias = "agent")]
    Run(Options),
    /// Enrol a device: make its key here and have the hub's CA certify it, with a one-time token.
    Enroll(enroll::Options),
    /// Show an agent's topics: measured cycle, traffic saved by report on change, alarms.
    Topics(topics::Options),
    /// Show why messages on a topic were not sent or not handed on, the last ones first.
    Why(why::Options),
    /// Prove what this device has sent to somebody who has no keys.
    #[command(subcommand)]
    Audit(audit::Command),
}

fn main() -> ExitCode {
    let Cli { log, role } = Cli::parse();
    #[cfg(feature = "pkcs11")]
    sealcast_token::install();
    let lasts = match role {
        Role::Run(_) => Lasts::UntilStopped,
        Role::Enroll(_) | Role::Topics(_) | Role::Why(_) | Role::Audit(_) => Lasts::UntilDone,
    };
    process::run(&log, lasts, async {
        match role {
            Role::Run(options) => sealcast_agent::run(options).await?,
            Role::Enroll(options) => enroll::run(options).await?,
            Role::Topics(options) => topics::run(&options)?,
            Role::Why(options) => why::run(&options)?,
            Role::Audit(audit::Command::Prove(options)) => audit::run(&options)?,
        }
        Ok(ExitCode::SUCCESS)
    })
}
