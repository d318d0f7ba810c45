//! `sealcast ledger`: show the entries, verify them from the first one on.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use sealcast_agent::read_replica;
use sealcast_ledger::{Record, Replica, Summary};
use sealcast_node::{
    files::{self, Mode},
    output,
};
use serde::Serialize;

use crate::{attest, device::Entry, operator::OperatorArgs};

/// `sealcast ledger`.
#[derive(Subcommand)]
pub enum Command {
    /// Show the entries.
    Show {
        /// Whose copy of the ledger.
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check each entry's signature, rules and place in the hash chain, from the first entry on.
    Verify {
        /// Whose copy of the ledger.
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write all entries to a file, for somebody who verifies a proof, or keeps them.
    Export {
        /// The file.
        #[arg(value_name = "FILE")]
        out: PathBuf,
        /// Whose copy of the ledger.
        #[command(flatten)]
        source: Source,
    },
    /// Tell the agents how far the ledger is, until stopped: signed by the operator, so that they notice a hub that withholds
    /// entries from them.
    Attest(attest::Options),
}

/// Whose copy.
#[derive(clap::Args)]
pub struct Source {
    /// As which operator.
    #[command(flatten)]
    operator: OperatorArgs,
    /// An agent's folder: read that agent's copy of the ledger, and do not ask the hub.
    #[arg(long, value_name = "DIR")]
    agent: Option<PathBuf>,
}

impl Source {
    /// Its records and what they amount to, verified.
    pub async fn read(&self) -> Result<(Vec<Record>, Replica)> {
        match &self.agent {
            Some(dir) => read_replica(dir),
            None => {
                let operator = self.operator.connect().await?;
                Ok((operator.records, operator.replica))
            }
        }
    }
}

#[derive(Serialize)]
struct Row {
    index: u64,
    time: String,
    originator: String,
    nonce: u64,
    kind: String,
    entry: String,
    bytes: usize,
    head: String,
}

/// Tells each record as it was when it came. They have been verified.
fn rows(records: &[Record], mut replica: Replica) -> Result<Vec<Row>> {
    let row = |record: &Record| {
        let event = replica.apply_without_signature_check(record)?;
        let originator = record.entry.originator();
        let summary = Summary { index: record.index, time_s: record.time_s, originator, event };
        let entry = Entry::new(&replica, &summary);
        Ok(Row {
            index: entry.index,
            time: entry.time,
            originator: entry.originator,
            nonce: record.entry.nonce(),
            kind: record.entry.kind().to_string(),
            entry: entry.entry,
            bytes: record.entry.encoded_body().len(),
            head: record.head.to_string(),
        })
    };
    records.iter().map(row).collect()
}

/// Runs the command.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Show { source, json } => {
            let (records, replica) = source.read().await?;
            let rows = rows(&records, Replica::new(*replica.genesis()))?;
            if json {
                return output::json(&rows);
            }
            let cells: Vec<[String; 5]> = rows
                .into_iter()
                .map(|row| {
                    [row.index.to_string(), row.time, row.originator, row.entry, row.head.chars().take(12).collect()]
                })
                .collect();
            output::table(["ENTRY", "TIME", "SIGNED BY", "WHAT", "HEAD"], &cells)
        }
        Command::Export { out, source } => {
            let (records, replica) = source.read().await?;
            files::write(&out, &Record::encode_all(&records), Mode::Public)?;
            output::line(&format!("{}: {} entries, head {}", out.display(), records.len(), replica.head()))
        }
        Command::Attest(options) => attest::run(options).await,
        Command::Verify { source, json } => {
            let (_, replica) = source.read().await?;
            if json {
                return output::json(&serde_json::json!({
                    "ledger": replica.genesis().id.to_string(),
                    "height": replica.height(),
                    "head": replica.head().to_string(),
                    "verified": true,
                }));
            }
            output::line(&format!(
                "ledger {}: {} entries verified: signatures, rules and hash chain\nhead {}",
                replica.genesis().id,
                replica.height(),
                replica.head()
            ))
        }
    }
}
