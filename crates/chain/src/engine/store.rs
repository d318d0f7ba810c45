//! The file: schema, the lock, and every SQL statement that reads or writes the chain.
//!
//! One SQLite database holds state, blocks, transactions, receipts and logs. It runs in WAL mode with
//! `synchronous=FULL`, so that a commit that returned has reached the disk. A block is one SQLite transaction: a kill at
//! any moment leaves whole blocks only.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use alloy::{
    consensus::Header,
    primitives::{Address, B256, Bytes, LogData, U256},
    rlp::{Decodable as _, Encodable as _},
};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};

use super::config::OpenError;

/// Raised whenever the tables change in a way that older code cannot read.
const SCHEMA_VERSION: i64 = 1;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE accounts (
    address BLOB PRIMARY KEY, nonce INTEGER NOT NULL, balance BLOB NOT NULL, code_hash BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE codes (hash BLOB PRIMARY KEY, code BLOB NOT NULL);
CREATE TABLE slots (
    address BLOB NOT NULL, slot BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (address, slot)
) WITHOUT ROWID;
CREATE TABLE blocks (number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, header BLOB NOT NULL);
CREATE TABLE transactions (
    hash BLOB NOT NULL UNIQUE, block INTEGER NOT NULL, position INTEGER NOT NULL, sender BLOB NOT NULL,
    succeeded INTEGER NOT NULL, gas_used INTEGER NOT NULL, cumulative_gas INTEGER NOT NULL,
    contract BLOB, revert BLOB, raw BLOB NOT NULL
);
CREATE INDEX transactions_block ON transactions (block, position);
CREATE TABLE logs (
    id INTEGER PRIMARY KEY, block INTEGER NOT NULL, log_index INTEGER NOT NULL, position INTEGER NOT NULL,
    tx_hash BLOB NOT NULL, address BLOB NOT NULL, topic0 BLOB, topic1 BLOB, topic2 BLOB, topic3 BLOB, data BLOB NOT NULL
);
CREATE INDEX logs_block ON logs (block, log_index);
CREATE INDEX logs_topic1 ON logs (topic1) WHERE topic1 IS NOT NULL;
";

/// Holds the advisory lock on `<file>.lock` for as long as it lives.
///
/// A file of its own: SQLite's own locks are POSIX locks, which a process loses as soon as it closes any descriptor of
/// the database file, so that file must not be opened for a second purpose.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn acquire(database: &Path) -> Result<Self, OpenError> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| OpenError::Lock { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: database.to_path_buf() }),
            Err(TryLockError::Error(source)) => Err(OpenError::Lock { path, source }),
        }
    }
}

/// Opens for reading and writing, creating the file with owner-only access when it is new.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    create_private(path).map_err(|source| OpenError::Create { path: path.to_path_buf(), source })?;
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    tune(&connection)?;
    Ok(connection)
}

/// Opens for reading only.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    // Read-write at file level, as WAL's shared memory needs it; `query_only` forbids the rest.
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    tune(&connection)?;
    Ok(connection)
}

fn tune(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cache_size", -8192)?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map(drop)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).map(drop)
}

/// Whether the file holds a chain already, and if so that this code can read it.
pub(super) fn is_initialised(connection: &Connection, path: &Path) -> Result<bool, OpenError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => {
            let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables == 0 { Ok(false) } else { Err(OpenError::Foreign { path: path.to_path_buf() }) }
        }
        SCHEMA_VERSION => Ok(true),
        found => Err(OpenError::Version { path: path.to_path_buf(), found, known: SCHEMA_VERSION }),
    }
}

/// Creates the tables. The caller holds the transaction.
pub(super) fn create_schema(connection: &Connection, chain_id: u64) -> rusqlite::Result<()> {
    connection.execute_batch(SCHEMA)?;
    connection.execute("INSERT INTO meta VALUES ('chain_id', ?1)", params![chain_id.to_be_bytes()])?;
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)
}

/// The chain id that the file was created with.
pub(super) fn chain_id(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT value FROM meta WHERE key = 'chain_id'", [], |row| row.get::<_, [u8; 8]>(0))
        .map(u64::from_be_bytes)
}

/// A block's header and the hash of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredBlock {
    pub(crate) hash: B256,
    pub(crate) header: Header,
}

impl StoredBlock {
    pub(super) fn seal(header: Header) -> Self {
        Self { hash: header.hash_slow(), header }
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let encoded: Vec<u8> = row.get(1)?;
        let header = Header::decode(&mut encoded.as_slice()).map_err(|error| corrupt("header", error))?;
        Ok(Self { hash: B256::from(row.get::<_, [u8; 32]>(0)?), header })
    }
}

pub(super) fn insert_block(connection: &Connection, block: &StoredBlock) -> rusqlite::Result<()> {
    let mut encoded = Vec::with_capacity(block.header.length());
    block.header.encode(&mut encoded);
    connection
        .prepare_cached("INSERT INTO blocks VALUES (?1, ?2, ?3)")?
        .execute(params![integer(block.header.number)?, block.hash.0, encoded])
        .map(drop)
}

/// The newest block; `None` in a file without a genesis.
pub(crate) fn tip(connection: &Connection) -> rusqlite::Result<Option<StoredBlock>> {
    connection
        .prepare_cached("SELECT hash, header FROM blocks ORDER BY number DESC LIMIT 1")?
        .query_row([], StoredBlock::from_row)
        .optional()
}

pub(crate) fn block_by_number(connection: &Connection, number: u64) -> rusqlite::Result<Option<StoredBlock>> {
    let Ok(number) = integer(number) else { return Ok(None) };
    connection
        .prepare_cached("SELECT hash, header FROM blocks WHERE number = ?1")?
        .query_row([number], StoredBlock::from_row)
        .optional()
}

pub(crate) fn block_by_hash(connection: &Connection, hash: B256) -> rusqlite::Result<Option<StoredBlock>> {
    connection
        .prepare_cached("SELECT hash, header FROM blocks WHERE hash = ?1")?
        .query_row([hash.0], StoredBlock::from_row)
        .optional()
}

/// The hashes of the blocks after `after`, oldest first, at most `limit`.
pub(crate) fn block_hashes_after(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<B256>> {
    connection
        .prepare_cached("SELECT hash FROM blocks WHERE number > ?1 ORDER BY number LIMIT ?2")?
        .query_map(params![integer(after)?, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            row.get::<_, [u8; 32]>(0).map(B256::from)
        })?
        .collect()
}

/// A transaction in a block, with its outcome.
#[derive(Clone, Debug)]
pub(crate) struct StoredTransaction {
    pub(crate) hash: B256,
    pub(crate) block: u64,
    pub(crate) position: u64,
    pub(crate) sender: Address,
    pub(crate) succeeded: bool,
    pub(crate) gas_used: u64,
    pub(crate) cumulative_gas: u64,
    pub(crate) contract: Option<Address>,
    /// What the contract said when it reverted.
    pub(crate) revert: Option<Vec<u8>>,
    /// The signed transaction, EIP-2718.
    pub(crate) raw: Vec<u8>,
}

const TRANSACTION_COLUMNS: &str =
    "hash, block, position, sender, succeeded, gas_used, cumulative_gas, contract, revert, raw";

impl StoredTransaction {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            hash: B256::from(row.get::<_, [u8; 32]>(0)?),
            block: unsigned(row, 1)?,
            position: unsigned(row, 2)?,
            sender: Address::from(row.get::<_, [u8; 20]>(3)?),
            succeeded: row.get(4)?,
            gas_used: unsigned(row, 5)?,
            cumulative_gas: unsigned(row, 6)?,
            contract: row.get::<_, Option<[u8; 20]>>(7)?.map(Address::from),
            revert: row.get(8)?,
            raw: row.get(9)?,
        })
    }
}

pub(super) fn insert_transaction(connection: &Connection, tx: &StoredTransaction) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO transactions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
        .execute(params![
            tx.hash.0,
            integer(tx.block)?,
            integer(tx.position)?,
            tx.sender.0.0,
            tx.succeeded,
            integer(tx.gas_used)?,
            integer(tx.cumulative_gas)?,
            tx.contract.map(|address| address.0.0),
            tx.revert,
            tx.raw
        ])
        .map(drop)
}

pub(crate) fn transaction(connection: &Connection, hash: B256) -> rusqlite::Result<Option<StoredTransaction>> {
    connection
        .prepare_cached(&format!("SELECT {TRANSACTION_COLUMNS} FROM transactions WHERE hash = ?1"))?
        .query_row([hash.0], StoredTransaction::from_row)
        .optional()
}

pub(crate) fn transaction_hashes(connection: &Connection, block: u64) -> rusqlite::Result<Vec<B256>> {
    connection
        .prepare_cached("SELECT hash FROM transactions WHERE block = ?1 ORDER BY position")?
        .query_map([integer(block)?], |row| row.get::<_, [u8; 32]>(0).map(B256::from))?
        .collect()
}

pub(crate) fn transactions_of(connection: &Connection, block: u64) -> rusqlite::Result<Vec<StoredTransaction>> {
    connection
        .prepare_cached(&format!("SELECT {TRANSACTION_COLUMNS} FROM transactions WHERE block = ?1 ORDER BY position"))?
        .query_map([integer(block)?], StoredTransaction::from_row)?
        .collect()
}

/// A log in a block.
#[derive(Clone, Debug)]
pub(crate) struct StoredLog {
    pub(crate) block: u64,
    pub(crate) log_index: u64,
    pub(crate) position: u64,
    pub(crate) tx_hash: B256,
    pub(crate) address: Address,
    pub(crate) data: LogData,
}

pub(crate) const LOG_COLUMNS: &str =
    "block, log_index, position, tx_hash, address, topic0, topic1, topic2, topic3, data";

impl StoredLog {
    pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mut topics = Vec::with_capacity(4);
        for column in 5..9 {
            match row.get::<_, Option<[u8; 32]>>(column)? {
                Some(topic) => topics.push(B256::from(topic)),
                None => break,
            }
        }
        Ok(Self {
            block: unsigned(row, 0)?,
            log_index: unsigned(row, 1)?,
            position: unsigned(row, 2)?,
            tx_hash: B256::from(row.get::<_, [u8; 32]>(3)?),
            address: Address::from(row.get::<_, [u8; 20]>(4)?),
            data: LogData::new_unchecked(topics, Bytes::from(row.get::<_, Vec<u8>>(9)?)),
        })
    }
}

pub(super) fn insert_log(connection: &Connection, log: &StoredLog) -> rusqlite::Result<()> {
    let topics = log.data.topics();
    let topic = |at: usize| topics.get(at).map(|topic| topic.0);
    connection
        .prepare_cached("INSERT INTO logs VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
        .execute(params![
            integer(log.block)?,
            integer(log.log_index)?,
            integer(log.position)?,
            log.tx_hash.0,
            log.address.0.0,
            topic(0),
            topic(1),
            topic(2),
            topic(3),
            log.data.data.as_ref()
        ])
        .map(drop)
}

pub(crate) fn logs_of_transaction(
    connection: &Connection,
    block: u64,
    position: u64,
) -> rusqlite::Result<Vec<StoredLog>> {
    connection
        .prepare_cached(&format!(
            "SELECT {LOG_COLUMNS} FROM logs WHERE block = ?1 AND position = ?2 ORDER BY log_index"
        ))?
        .query_map(params![integer(block)?, integer(position)?], StoredLog::from_row)?
        .collect()
}

/// All logs of a contract, in their order.
pub(crate) fn logs_of(connection: &Connection, contract: Address) -> rusqlite::Result<Vec<StoredLog>> {
    connection
        .prepare(&format!("SELECT {LOG_COLUMNS} FROM logs WHERE address = ?1 ORDER BY block, log_index"))?
        .query_map([contract.0.0], StoredLog::from_row)?
        .collect()
}

/// An account as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredAccount {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
}

pub(crate) fn account(connection: &Connection, address: Address) -> rusqlite::Result<Option<StoredAccount>> {
    connection
        .prepare_cached("SELECT nonce, balance, code_hash FROM accounts WHERE address = ?1")?
        .query_row([address.0.0], |row| {
            Ok(StoredAccount {
                nonce: unsigned(row, 0)?,
                balance: U256::from_be_bytes(row.get::<_, [u8; 32]>(1)?),
                code_hash: B256::from(row.get::<_, [u8; 32]>(2)?),
            })
        })
        .optional()
}

pub(super) fn put_account(connection: &Connection, address: Address, account: &StoredAccount) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO accounts VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            address.0.0,
            integer(account.nonce)?,
            account.balance.to_be_bytes::<32>(),
            account.code_hash.0
        ])
        .map(drop)
}

pub(super) fn remove_account(connection: &Connection, address: Address) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM accounts WHERE address = ?1")?.execute([address.0.0]).map(drop)
}

pub(super) fn remove_slots(connection: &Connection, address: Address) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM slots WHERE address = ?1")?.execute([address.0.0]).map(drop)
}

pub(crate) fn code(connection: &Connection, hash: B256) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT code FROM codes WHERE hash = ?1")?
        .query_row([hash.0], |row| row.get(0))
        .optional()
}

pub(super) fn put_code(connection: &Connection, hash: B256, code: &[u8]) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT OR IGNORE INTO codes VALUES (?1, ?2)")?.execute(params![hash.0, code]).map(drop)
}

pub(crate) fn slot(connection: &Connection, address: Address, slot: U256) -> rusqlite::Result<U256> {
    let value = connection
        .prepare_cached("SELECT value FROM slots WHERE address = ?1 AND slot = ?2")?
        .query_row(params![address.0.0, slot.to_be_bytes::<32>()], |row| row.get::<_, [u8; 32]>(0))
        .optional()?;
    Ok(value.map(U256::from_be_bytes).unwrap_or_default())
}

pub(super) fn put_slot(connection: &Connection, address: Address, slot: U256, value: U256) -> rusqlite::Result<()> {
    let slot = slot.to_be_bytes::<32>();
    if value.is_zero() {
        connection
            .prepare_cached("DELETE FROM slots WHERE address = ?1 AND slot = ?2")?
            .execute(params![address.0.0, slot])
            .map(drop)
    } else {
        connection
            .prepare_cached("INSERT OR REPLACE INTO slots VALUES (?1, ?2, ?3)")?
            .execute(params![address.0.0, slot, value.to_be_bytes::<32>()])
            .map(drop)
    }
}

/// SQLite's integers are signed: what does not fit cannot have been stored.
pub(crate) fn integer(value: u64) -> rusqlite::Result<i64> {
    i64::try_from(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn corrupt(what: &'static str, error: impl std::fmt::Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        0,
        rusqlite::types::Type::Blob,
        format!("the stored {what} cannot be read: {error}").into(),
    )
}
