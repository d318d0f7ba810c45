//! `sealcast`: one binary, a role each for the hub, the agents and the people who run them.

mod doctor;
mod examples;
mod init;
mod quality;
#[cfg(test)]
mod reference;
mod shell;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use sealcast_agent::{enroll, topics, why};
use sealcast_hub::console;
use sealcast_lab::{bench, demo};
use sealcast_node::{
    examples::with_examples,
    process::{self, Lasts, LogOptions},
};
use sealcast_operator::{audit, broker, device, duty, group, key, ledger, readings};

/// End-to-end encrypted MQTT for groups of IoT devices.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    log: LogOptions,
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Run the hub: CA, embedded broker, ledger and relay in one process.
    Up(sealcast_hub::Options),
    /// Run a device's agent: MQTT clients connect to it instead of the broker.
    Agent(sealcast_agent::Options),
    /// Enrol a device: make its key here and have the hub's CA certify it, with a one-time token.
    Enroll(enroll::Options),
    /// Carry out what is asked for on the hub's console, and tell the agents how far the ledger is, with the operator's key.
    Operator(duty::Options),
    /// Show a running hub in this terminal.
    Watch(sealcast_watch::Options),
    /// Manage who may sign in to the hub's console.
    #[command(subcommand)]
    Console(console::Command),
    /// Manage devices: add, list, show, revoke.
    #[command(subcommand)]
    Device(device::Command),
    /// Manage groups: create, list, show, grant, revoke, limits, reset.
    #[command(subcommand)]
    Group(group::Command),
    /// Print what to set at a broker of somebody else's.
    #[command(subcommand)]
    Broker(broker::Command),
    /// Replace the operator's key, or the hub's CA's, by a new one.
    #[command(subcommand)]
    Key(key::Command),
    /// Read the ledger: show its entries, or verify it from the first entry on.
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// Show an agent's topics: measured cycle, traffic saved by report on change, alarms.
    Topics(topics::Options),
    /// Show why messages on a topic were not sent or not handed on, the last ones first.
    Why(why::Options),
    /// Write a role's configuration file: every key with its default and what it does, none of them set.
    #[command(subcommand)]
    Init(init::Command),
    /// Check the folder of a device, a hub or an operator, and say what to do where something is wrong. Changes nothing.
    Doctor(doctor::Options),
    /// Try rules for values on a recording, or learn rules from one.
    #[command(subcommand)]
    Quality(quality::Command),
    /// Show the readings on the ledger, with the contract's verdicts.
    #[command(subcommand)]
    Readings(readings::Command),
    /// Prove what a device has sent, and verify such a proof without any key.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Run the paper's experiment on this machine and check each step (about half a minute).
    Demo(demo::Options),
    /// Measure the cost of sealing, of checks, and of a fleet of agents.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Print the script by which a shell completes these commands.
    Completions(shell::CompletionsOptions),
    /// Write manual pages for these commands.
    Man(shell::ManOptions),
}

/// All commands, with examples.
fn command() -> clap::Command {
    with_examples(Cli::command(), examples::EXAMPLES)
}

fn main() -> ExitCode {
    let Cli { log, role } = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    #[cfg(feature = "pkcs11")]
    sealcast_token::install();
    let lasts = match role {
        Role::Up(_) | Role::Agent(_) | Role::Operator(_) => Lasts::UntilStopped,
        _ => Lasts::UntilDone,
    };
    process::run(&log, lasts, run(role))
}

async fn run(role: Role) -> anyhow::Result<ExitCode> {
    match role {
        Role::Up(options) => sealcast_hub::run(options).await?,
        Role::Agent(options) => sealcast_agent::run(options).await?,
        Role::Enroll(options) => enroll::run(options).await?,
        Role::Operator(options) => duty::run(options).await?,
        Role::Watch(options) => sealcast_watch::run(options).await?,
        Role::Console(command) => console::run(&command)?,
        Role::Device(command) => device::run(command).await?,
        Role::Group(command) => group::run(command).await?,
        Role::Broker(command) => broker::run(command).await?,
        Role::Key(command) => key::run(command).await?,
        Role::Ledger(command) => ledger::run(command).await?,
        Role::Topics(options) => topics::run(&options)?,
        Role::Why(options) => why::run(&options)?,
        Role::Init(command) => init::run(&command)?,
        Role::Doctor(options) => return doctor::run(options).await,
        Role::Quality(command) => quality::run(command)?,
        Role::Readings(command) => readings::run(command).await?,
        Role::Audit(command) => audit::run(command).await?,
        Role::Demo(options) => return demo::run(options).await,
        Role::Bench(command) => bench::run(command).await?,
        Role::Completions(options) => shell::completions(&options, command())?,
        Role::Man(options) => shell::man(&options, command())?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_an_example_and_each_example_is_a_command() {
        let faults = sealcast_node::examples::faults(&Cli::command(), examples::EXAMPLES);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// Why a command has no `--json`.
    const WITHOUT_JSON: &[(&str, &str)] = &[
        ("completions", "it prints a script for a shell"),
        ("man", "it writes files into the folder that is named"),
        ("init agent", "it writes one file into the folder that is named"),
        ("init hub", "as `init agent`"),
        ("init operator", "as `init agent`"),
    ];

    #[test]
    fn each_command_prints_json_and_a_document_says_what() {
        let faults = sealcast_node::commands::without_json(&Cli::command(), WITHOUT_JSON);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        let document = include_str!("../../../docs/json.md");
        for (path, _) in sealcast_node::commands::leaves(&Cli::command()) {
            let is_told = document.contains(&format!("`sealcast {path}`"));
            let is_without = WITHOUT_JSON.iter().any(|(without, _)| *without == path);
            assert!(is_told != is_without, "docs/json.md and `sealcast {path}`");
        }
    }
}
