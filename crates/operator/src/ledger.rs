//! `sealcast ledger`: show the entries, verify them from the first one on. What moves the ledger is in `moving`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use sealcast_ledger::{Record, Replica, Summary};
use sealcast_node::{
    files::{self, Mode},
    output::{self, Column},
};
use serde::Serialize;

use crate::{attest, device::Entry, moving, source::Source};

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
    /// Write all entries to a file, for somebody who verifies a proof, or keeps them, and to move the ledger.
    Export {
        /// The file.
        #[arg(value_name = "FILE")]
        out: PathBuf,
        /// Whose copy of the ledger.
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Bring the entries of an exported ledger to the contract that succeeds it on another network.
    Import(moving::Import),
    /// Move the ledger to the contract that has its entries: the operator signs the last entry here.
    Move(moving::Move),
    /// Tell the agents how far the ledger is, until stopped: signed by the operator, so that they notice a hub that withholds
    /// entries from them.
    Attest(attest::Options),
}

#[derive(Serialize)]
struct Row {
    index: u64,
    time_s: u64,
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
            time_s: entry.time_s,
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
                    let (time, head) = (output::utc(row.time_s), row.head.chars().take(12).collect());
                    [row.index.to_string(), time, row.originator, row.entry, head]
                })
                .collect();
            let header = ["ENTRY".into(), "TIME".into(), "SIGNED BY".into(), Column::cut("WHAT"), Column::cut("HEAD")];
            output::table_or("No entries yet: the first one comes when a device enrols.", header, &cells)
        }
        Command::Attest(options) => attest::run(options).await,
        Command::Export { out, source, json } => {
            let (records, replica) = source.read().await?;
            files::write(&out, &Record::encode_all(&records), Mode::Public)?;
            let words = format!("{}: {} entries, head {}", out.display(), records.len(), replica.head());
            let exported = serde_json::json!({
                "file": out.display().to_string(),
                "ledger": replica.genesis().id.to_string(),
                "contract": replica.current_id().to_string(),
                "height": replica.height(),
                "head": replica.head().to_string(),
            });
            output::outcome(json, &exported, &words)
        }
        Command::Import(options) => moving::import(options).await,
        Command::Move(options) => moving::move_to(options).await,
        Command::Verify { source, json } => {
            let (_, replica) = source.read().await?;
            if json {
                return output::json(&serde_json::json!({
                    "ledger": replica.genesis().id.to_string(),
                    "contract": replica.current_id().to_string(),
                    "height": replica.height(),
                    "head": replica.head().to_string(),
                    "verified": true,
                }));
            }
            output::line(&format!(
                "ledger {}: {} entries verified: signatures, rules and hash chain\nat contract {}\nhead {}",
                replica.genesis().id,
                replica.height(),
                replica.current_id(),
                replica.head()
            ))
        }
    }
}
