//! `sealcast ledger attest`: the operator's word on how far the ledger is, again and again, until the process is stopped.

use std::time::Duration;

use anyhow::Result;
use sealcast_ledger::AttestedHead;
use sealcast_node::{output, shutdown};
use tracing::warn;

use crate::operator::OperatorArgs;

/// `sealcast ledger attest`.
#[derive(clap::Args)]
pub struct Options {
    /// Seconds from one statement to the next. Agents warn after 15 minutes without one (`ledger.max_age_ms`).
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
    /// As which operator.
    #[command(flatten)]
    operator: OperatorArgs,
    /// Print each statement as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command. It goes on while the hub is away, and with the ledger that it has read: another one is refused.
pub async fn run(options: Options) -> Result<()> {
    let mut operator = options.operator.connect().await?;
    let attest = async {
        let mut every = tokio::time::interval(Duration::from_secs(options.every));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match operator.attest().await {
                Ok(AttestedHead { time_ms, height, head }) => {
                    let statement =
                        serde_json::json!({ "time_ms": time_ms, "height": height, "head": head.to_string() });
                    output::event(options.json, &statement, &format!("{height} entries, head {head}"))?;
                }
                Err(error) => warn!("nothing was said of the ledger, and it is tried again: {error:#}"),
            }
        }
    };
    tokio::select! {
        outcome = attest => outcome,
        () = shutdown::requested() => Ok(()),
    }
}
