//! What an engine is opened with, how that can fail, and what it says of its progress.

use std::{io, path::PathBuf};

/// The chain id of an embedded ledger unless its owner chooses another.
pub const DEFAULT_CHAIN_ID: u64 = 7526;

/// What a new chain starts with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Part of every transaction's and every entry's signature; fixed when the file is created.
    pub chain_id: u64,
    /// Accounts that a new chain gives a balance. Fees are zero, so that nobody needs one.
    pub funded: Vec<[u8; 20]>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { chain_id: DEFAULT_CHAIN_ID, funded: Vec::new() }
    }
}

/// Why the engine's file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another engine in this one, has it.
    #[error(
        "{path} is in use by another process: a ledger has one writer. Stop the other process, or give this one its \
         own file"
    )]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The lock file beside it cannot be made.
    #[error("cannot lock {path}: does its folder exist, and is it writable?")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("cannot create {path}")]
    Create {
        /// The database.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a ledger's file.
    #[error("{path} is a database, but not a ledger")]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error(
        "{path} has format {found}, this program reads format {known}: use the program version that wrote it, or a \
         newer one"
    )]
    Version {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The format that this code reads and writes.
        known: i64,
    },
    /// The chain id in the configuration is not the file's.
    #[error(
        "{path} was created with chain id {found}, but the configuration says {wanted}: set chain_id = {found}, it \
         cannot change"
    )]
    ChainId {
        /// The database.
        path: PathBuf,
        /// Its chain id.
        found: u64,
        /// The configured one.
        wanted: u64,
    },
    /// SQLite failed.
    #[error("the ledger's database failed")]
    Database(#[from] rusqlite::Error),
    /// The writer's thread cannot be started.
    #[error("cannot start the ledger's writer")]
    Thread(#[source] io::Error),
}

/// How far the writer is. Changes after every block and after every attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The newest block's number.
    pub height: u64,
    /// Blocks tried since the engine was opened.
    pub attempts: u64,
}
