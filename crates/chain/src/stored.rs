//! The entries of the embedded ledger, from its file beside the hub.

use alloy::primitives::Address;
use rusqlite::Connection;
use sealcast_ledger::Record;
use sealcast_ledger_client::{ENTRY_TOPIC, NodeError, record};

use crate::engine::logs_of;

/// Why they cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// SQLite refuses.
    #[error("the ledger's file cannot be read")]
    Sqlite(#[from] rusqlite::Error),
    /// One of them is none.
    #[error("the ledger's file holds what is no entry")]
    Entry(#[from] NodeError),
}

/// All entries of the ledger at this contract, in their order, from its file `db`. They are not verified.
///
/// # Errors
/// The file holds something else.
pub fn stored_records(db: &Connection, contract: [u8; 20]) -> Result<Vec<Record>, StoredError> {
    let logs = logs_of(db, Address::from(contract))?;
    let entries = logs.iter().filter(|log| log.data.topics().first() == Some(&ENTRY_TOPIC));
    Ok(entries.map(|log| record(&log.data)).collect::<Result<_, _>>()?)
}
