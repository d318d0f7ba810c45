//! Whose copy of the ledger a command reads.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sealcast_agent::{read_replica_with_progress, stored_records};
use sealcast_ledger::{Record, Replica};
use sealcast_node::files;

use crate::{operator::OperatorArgs, progress::Bar};

/// Longest copy of a ledger that is read, in bytes.
const MAX_FILE_BYTES: usize = 1 << 30;

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
            Some(dir) => {
                let mut bar = None;
                read_replica_with_progress(dir, |done, all| {
                    bar.get_or_insert_with(|| Bar::of("verifying the ledger", all)).set(done);
                })
            }
            None => {
                let operator = self.operator.connect().await?;
                Ok((operator.records, operator.replica))
            }
        }
    }
}

/// The records in a file that `sealcast ledger export` wrote, or in an agent's folder. They are not verified.
pub fn read_records(path: &Path) -> Result<Vec<Record>> {
    if path.is_dir() {
        return stored_records(path);
    }
    let bytes = files::read_bytes(path, MAX_FILE_BYTES)?;
    Record::decode_all(&bytes).with_context(|| format!("{} cannot be used", path.display()))
}
