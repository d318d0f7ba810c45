//! `sealcast`: one binary, a role each for the hub, the agents and the people who run them.

mod agent;
mod bench;
mod config;
mod connection;
mod demo;
mod device;
mod enroll;
mod files;
mod group;
mod hub;
mod ledger;
mod link;
mod operator;
mod output;
mod plot;
mod quality;
mod readings;
mod shutdown;
mod tasks;
mod tls;
mod topics;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// End-to-end encrypted MQTT for groups of IoT devices.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    /// Log level on standard error: `error`, `warn`, `info`, `debug`, `trace`, or a tracing filter.
    #[arg(long, global = true, env = "SEALCAST_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Run the hub: CA, embedded broker, ledger and relay in one process.
    Up(hub::Options),
    /// Run a device's agent: MQTT clients connect to it instead of the broker.
    Agent(agent::Options),
    /// Enrol a device: make its key here and have the hub's CA certify it, with a one-time token.
    Enroll(enroll::Options),
    /// Manage devices: add, list, show, revoke.
    #[command(subcommand)]
    Device(device::Command),
    /// Manage groups: create, list, show, grant, revoke, limits, reset.
    #[command(subcommand)]
    Group(group::Command),
    /// Read the ledger: show its entries, or verify it from the first entry on.
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// Show an agent's topics: measured cycle, traffic saved by report on change, alarms.
    Topics(topics::Options),
    /// Try rules for values on a recording, or learn rules from one.
    #[command(subcommand)]
    Quality(quality::Command),
    /// Show the readings on the ledger, with the contract's verdicts.
    #[command(subcommand)]
    Readings(readings::Command),
    /// Run the paper's experiment on this machine and check each step (about 20 seconds).
    Demo(demo::Options),
    /// Measure the cost of sealing, of checks, and of a fleet of agents.
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let default_filter = match cli.role {
        Role::Up(_) | Role::Agent(_) => "info",
        _ => "error",
    };
    let filter = match cli.log.as_deref().map(EnvFilter::try_new) {
        None => EnvFilter::new(default_filter),
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            output::complain(&format!("error: --log: {error}"));
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| output::Complaints)
        // They would go to standard error by a macro that panics if it cannot be written, which is why they arise.
        .log_internal_errors(false)
        .with_ansi(output::colour(&std::io::stderr()))
        .with_target(false)
        .init();

    match run(cli.role) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(role: Role) -> anyhow::Result<ExitCode> {
    tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match role {
            Role::Up(options) => hub::run(options).await.map(|()| ExitCode::SUCCESS),
            Role::Agent(options) => agent::run(options).await.map(|()| ExitCode::SUCCESS),
            Role::Enroll(options) => enroll::run(options).await.map(|()| ExitCode::SUCCESS),
            Role::Device(command) => device::run(command).await.map(|()| ExitCode::SUCCESS),
            Role::Group(command) => group::run(command).await.map(|()| ExitCode::SUCCESS),
            Role::Ledger(command) => ledger::run(command).await.map(|()| ExitCode::SUCCESS),
            Role::Topics(options) => topics::run(&options).map(|()| ExitCode::SUCCESS),
            Role::Quality(command) => quality::run(command).map(|()| ExitCode::SUCCESS),
            Role::Readings(command) => readings::run(command).await.map(|()| ExitCode::SUCCESS),
            Role::Demo(options) => demo::run(options).await,
            Role::Bench(command) => bench::run(command).await.map(|()| ExitCode::SUCCESS),
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}

/// Milliseconds since the Unix epoch, by this machine's clock.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
