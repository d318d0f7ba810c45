//! The command line of `sealcast-agent`: the roles that a device needs, without the hub's ledger and broker.
//!
//! It is in the library so that `sealcast` can write the manual pages and the completions of both programs. The device's
//! program would grow by what makes them.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use sealcast_node::{
    examples::{Example, with_examples},
    process::{self, Lasts, LogOptions},
};

use crate::{
    agent::{self, Options},
    audit, doctor, enroll, init, topics, why,
};

/// End-to-end encrypted MQTT for groups of IoT devices: the device's side.
#[derive(Parser)]
#[command(name = "sealcast-agent", version, max_term_width = 100)]
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
    /// Write an agent.toml with every key, its default and what it does, none of them set.
    Init(init::Options),
    /// Show an agent's topics: measured cycle, traffic saved by report on change, alarms.
    Topics(topics::Options),
    /// Show why messages on a topic were not sent or not handed on, the last ones first.
    Why(why::Options),
    /// Check a device's folder and whom it reaches, and say what to do where something is wrong. Changes nothing.
    Doctor(doctor::Options),
    /// Prove what this device has sent to somebody who has no keys.
    #[command(subcommand)]
    Audit(audit::Command),
}

const EXAMPLES: &[Example] = &[
    (
        "Enrol this device",
        "sealcast-agent enroll --hub https://hub.example.org:8443 --token-file 1111.token --dir 1111",
    ),
    ("Write an agent.toml with every key, to set some of them", "sealcast-agent init --dir 1111"),
    ("Start its agent", "sealcast-agent run --dir 1111 --listen 127.0.0.1:18831"),
    ("Check the folder and agent.toml, and start nothing", "sealcast-agent run --dir 1111 --check"),
    ("Show its topics", "sealcast-agent topics --dir 1111"),
    ("See why a message did not come", "sealcast-agent why --dir 1111 hsu0001/room1"),
    ("See what is wrong with it, and what to do", "sealcast-agent doctor --dir 1111"),
    ("Prove what it has sent", "sealcast-agent audit prove --dir 1111 --topic 'hsu0001/#' --out proof"),
];

/// All commands, with examples.
#[must_use]
pub fn command() -> clap::Command {
    with_examples(Cli::command(), EXAMPLES)
}

/// Does what the process's arguments ask for, to the process's end.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { log, role } = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let lasts = match role {
        Role::Run(_) => Lasts::UntilStopped,
        _ => Lasts::UntilDone,
    };
    process::run(&log, lasts, async {
        match role {
            Role::Run(options) => agent::run(options).await?,
            Role::Enroll(options) => enroll::run(options).await?,
            Role::Init(options) => init::run(&options)?,
            Role::Topics(options) => topics::run(&options)?,
            Role::Why(options) => why::run(&options)?,
            Role::Doctor(options) => return doctor::run(options).await,
            Role::Audit(audit::Command::Prove(options)) => audit::run(&options, || {})?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_prints_json() {
        let faults = sealcast_node::commands::without_json(
            &Cli::command(),
            &[("init", "it writes one file into the folder that is named")],
        );
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn each_command_has_an_example_and_each_example_is_a_command() {
        let faults = sealcast_node::examples::faults(&Cli::command(), EXAMPLES);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
