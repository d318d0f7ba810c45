//! What an agent keeps on disk, in one SQLite file: its replica of the ledger, its group state, the replay windows of its
//! clients, the retained messages that it must seal again, the readings that wait for the ledger, how far it has come, what
//! is remembered of values, points of archives that wait to be sent, and what was sent, for proofs.
//!
//! Every write is durable when its call returns (WAL, `synchronous = FULL`), and a call is one transaction: after a crash
//! all of it is there or none. What several sessions write at a time is one transaction together.
//!
//! `sealcast enroll` makes the file, so an agent whose folder lacks it has lost its state.
//!
//! **When the disk fails** (it is full, mostly) a write fails, the log says so once, and [`Store::is_failing`] is true until a
//! write has succeeded again. Nothing that depends on a failed write may leave the agent: a client's connection is closed, and
//! [`Store::probe`] is tried before the next one is opened; the control task, which cannot go on without its write, tries
//! [`Store::commit`] again and again, and nothing is sealed until it has read what it missed. So everything goes on by itself
//! once there is room.

pub mod beside;
mod commit;
mod disk;
mod past;
mod series;
mod session;
mod together;
mod vault;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};
use sealcast_agent_core::{
    Retained, RetainedTopics,
    values::{ArchiveMessage, ValueRow, ValueWrite},
};
use sealcast_identity::Passphrase;
use sealcast_node::{
    doctor::{Holder, open_database},
    files::{self, blocking},
};
use zeroize::Zeroizing;

pub use self::{
    beside::{Waiting, state_files},
    commit::CommitError,
    series::StoredSeries,
};
use self::{
    disk::Disk,
    together::Together,
    vault::{StateRow, Vault},
};

/// Clients whose replay windows are kept.
const MAX_CLIENTS_KEPT: u32 = 4096;
const FILE: &str = "agent.sqlite";
const SCHEMA_VERSION: i64 = 4;
const SCHEMA: &str = "
    CREATE TABLE record (idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
    CREATE TABLE snapshot (height INTEGER NOT NULL, bytes BLOB NOT NULL);
    CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE client (client TEXT PRIMARY KEY, seen_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE window (client TEXT, key BLOB, value BLOB NOT NULL, PRIMARY KEY (client, key)) WITHOUT ROWID;
    CREATE TABLE subscription (client TEXT, filter TEXT, PRIMARY KEY (client, filter)) WITHOUT ROWID;
    CREATE TABLE retained (topic TEXT PRIMARY KEY, time_ms INTEGER NOT NULL, props BLOB NOT NULL,
        payload BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE reading (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, time_ms INTEGER NOT NULL,
        sequence INTEGER NOT NULL, value BLOB NOT NULL, decimals INTEGER NOT NULL);
    CREATE UNIQUE INDEX reading_topic ON reading (topic, sequence);
    CREATE INDEX reading_order ON reading (topic, id);
    CREATE TABLE archive (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, props BLOB NOT NULL,
        payload BLOB NOT NULL);
    CREATE TABLE reading_sequence (topic TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE checkpoint (number INTEGER NOT NULL, mark BLOB NOT NULL);
    CREATE TABLE submitted (nonce INTEGER, digest BLOB, PRIMARY KEY (nonce, digest)) WITHOUT ROWID;
    CREATE TABLE value (kind INTEGER, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
";

/// What was sent, for proofs. Of a group, one series is not over: the newest.
const SERIES_SCHEMA: &str = "
    CREATE TABLE series (id INTEGER PRIMARY KEY AUTOINCREMENT, grp INTEGER NOT NULL, secret BLOB NOT NULL,
        size INTEGER NOT NULL, peaks BLOB NOT NULL, over INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX series_group ON series (grp, over);
    CREATE TABLE sent (series INTEGER, idx INTEGER, time_ms INTEGER NOT NULL, kind INTEGER NOT NULL,
        topic TEXT NOT NULL, whole INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (series, idx)) WITHOUT ROWID;
    CREATE TABLE anchor (series INTEGER, size INTEGER, root BLOB NOT NULL, peaks BLOB NOT NULL,
        on_ledger INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (series, size)) WITHOUT ROWID;
";

/// The agent's database.
pub struct Store {
    connection: Mutex<Connection>,
    /// Locked before the connection.
    vault: Mutex<Vault>,
    retained_topics: Mutex<RetainedTopics>,
    /// What sessions are about to write.
    together: Together,
    disk: Disk,
    _lock: files::Lock,
}

/// A local client, as it was last saved.
pub struct Client {
    /// When, Unix ms.
    pub seen_ms: u64,
    /// The rows of its replay windows.
    pub windows: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it is subscribed to.
    pub filters: Vec<String>,
}

impl Store {
    /// Makes an empty `agent.sqlite` in `dir`, unless one is there. For whoever has locked the folder. A file that is there has
    /// its tables, whatever failed when it was made.
    pub fn make(dir: &Path, passphrase: Option<&Passphrase>) -> Result<()> {
        if Self::require(dir).is_ok() {
            return Ok(());
        }
        // SQLite would take what a lost database left beside itself for the new one's.
        for left in [format!("{FILE}-wal"), format!("{FILE}-shm")] {
            match std::fs::remove_file(dir.join(&left)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", dir.join(left).display()));
                }
                _ => {}
            }
        }
        Vault::make(dir, passphrase)?;
        files::replace(&dir.join(FILE), files::Mode::Secret, |path| {
            let mut connection = Connection::open_with_flags(path, existing())?;
            // Nobody rolls back what was not made to its end.
            connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
            create(dir, passphrase, &mut connection)?;
            connection.close().map_err(|(_, error)| error.into())
        })
    }

    /// Makes a new, empty `agent.sqlite` for a folder that has lost its own, because somebody asked for it.
    pub fn replace_lost(dir: &Path, passphrase: Option<&Passphrase>) -> Result<()> {
        let _lock = files::lock(dir)?;
        ensure!(
            Self::require(dir).is_err(),
            "--new-state is for a folder that has lost its state, but {} is there: start the agent without this option",
            dir.join(FILE).display()
        );
        Self::make(dir, passphrase)
    }

    /// Fails if `dir` has no agent's state.
    pub fn require(dir: &Path) -> Result<()> {
        for path in [dir.join(FILE), dir.join(vault::FILE)] {
            let state = match std::fs::metadata(&path) {
                Err(_) => "missing",
                Ok(found) if found.len() == 0 || path.ends_with(FILE) && is_empty(&path) => "empty",
                Ok(_) => continue,
            };
            bail!(
                "the agent's state is lost: {} is {state}. `sealcast enroll` made this file. {FILE} and {} held the group keys, \
                 what the device's clients have already received, its retained messages, and readings that were not sent yet. \
                 Old copies are of no use in their place: the agent would notice, and drop the keys in them. To go on without \
                 the lost state, start the agent once with --new-state: its groups add the device again by themselves. Or \
                 enrol the device again with a new token",
                path.display(),
                vault::FILE
            );
        }
        Ok(())
    }

    /// Opens `agent.sqlite` in `dir`, and takes it for this process alone.
    pub fn open(dir: &Path, passphrase: Option<&Passphrase>) -> Result<Self> {
        let lock = files::lock(dir)?;
        Self::require(dir)?;
        let path = dir.join(FILE);
        let connection = connect(&path).with_context(|| format!("cannot use {}", path.display()))?;
        let topics = retained_topics(&connection).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            vault: Mutex::new(Vault::open(dir, passphrase, &connection)?),
            connection: Mutex::new(connection),
            retained_topics: Mutex::new(RetainedTopics::new(topics)),
            together: Together::default(),
            disk: Disk::new(path),
            _lock: lock,
        })
    }

    /// Opens a new one.
    #[cfg(test)]
    pub fn create(dir: &Path) -> Result<Self> {
        Self::make(dir, None)?;
        Self::open(dir, None)
    }

    /// Lets the file have so many pages: a full disk.
    #[cfg(test)]
    pub fn limit_pages(&self, pages: u32) -> Result<()> {
        self.read(|db| db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())))
    }

    /// Whether the last write failed because of the disk.
    pub fn is_failing(&self) -> bool {
        self.disk.is_failing()
    }

    /// Whether the disk takes writes: if the last one failed, by trying another.
    pub fn probe(&self) -> bool {
        !self.is_failing() || self.write(|db| db.pragma_update(None, "user_version", SCHEMA_VERSION)).is_ok()
    }

    /// Opens the replica of an agent's folder to read it, whether an agent runs on it or not.
    pub fn read_records(dir: &Path) -> Result<Vec<Vec<u8>>> {
        let (path, connection) = open_to_read(dir)?;
        records(&connection, 0, usize::MAX).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Reads the group state of an agent's folder, whether an agent runs on it or not: what a thief of the device gets.
    pub fn read_state(dir: &Path, passphrase: Option<&Passphrase>) -> Result<Vec<StateRow>> {
        let (path, connection) = open_to_read(dir)?;
        vault::read_beside(dir, passphrase, &connection).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The records of the ledger from this index on, in order, at most so many.
    pub fn records(&self, from: u64, most: usize) -> Result<Vec<Vec<u8>>> {
        self.read(|db| records(db, from, most))
    }

    /// The newest snapshot of the replica.
    pub fn snapshot(&self) -> Result<Option<Vec<u8>>> {
        self.read(|db| db.query_row("SELECT bytes FROM snapshot", [], |row| row.get(0)).optional())
    }

    /// The whole group state.
    pub fn state(&self) -> Result<Vec<StateRow>> {
        let vault = self.vault.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(|db| vault.state(db))
    }

    /// What was last saved of a local client.
    pub fn client(&self, client: &str) -> Result<Option<Client>> {
        self.read(|db| {
            let seen: Option<i64> =
                db.query_row("SELECT seen_ms FROM client WHERE client = ?1", [client], |row| row.get(0)).optional()?;
            let Some(seen_ms) = seen else { return Ok(None) };
            let mut query = db.prepare("SELECT key, value FROM window WHERE client = ?1")?;
            let windows = query.query_map([client], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            let mut query = db.prepare("SELECT filter FROM subscription WHERE client = ?1")?;
            let filters = query.query_map([client], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(Some(Client { seen_ms: seen_ms.cast_unsigned(), windows, filters }))
        })
    }

    /// Forgets all but the `MAX_CLIENTS_KEPT` clients that were here last.
    pub fn forget_old_clients(&self) -> Result<()> {
        self.write(|db| {
            db.execute(
                "DELETE FROM client WHERE client NOT IN (SELECT client FROM client ORDER BY seen_ms DESC LIMIT ?1)",
                [MAX_CLIENTS_KEPT],
            )?;
            db.execute("DELETE FROM window WHERE client NOT IN (SELECT client FROM client)", [])?;
            db.execute("DELETE FROM subscription WHERE client NOT IN (SELECT client FROM client)", [])?;
            Ok(())
        })
    }

    /// The topics that have a retained message of this device's clients.
    pub fn retained_topics(&self) -> MutexGuard<'_, RetainedTopics> {
        self.retained_topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All retained messages of this device's clients.
    pub fn retained(&self) -> Result<Vec<Retained>> {
        self.read(|db| {
            let mut query = db.prepare("SELECT topic, time_ms, props, payload FROM retained ORDER BY topic")?;
            let rows = query.query_map([], |row| {
                Ok(Retained {
                    topic: row.get(0)?,
                    time_ms: row.get::<_, i64>(1)?.cast_unsigned(),
                    props: row.get(2)?,
                    payload: Zeroizing::new(row.get(3)?),
                })
            })?;
            rows.collect()
        })
    }

    /// Reads what an agent remembers of values from its folder, whether it runs or not.
    pub fn read_values(dir: &Path) -> Result<Vec<ValueRow>> {
        let (path, connection) = open_to_read(dir)?;
        values(&connection).with_context(|| format!("cannot read {}", path.display()))
    }

    /// All that is remembered of values.
    pub fn values(&self) -> Result<Vec<ValueRow>> {
        self.read(values)
    }

    /// Writes what is remembered of values, and messages for archives. They may be there already, from a try that seemed to
    /// fail.
    pub fn write_values(&self, writes: &[ValueWrite]) -> Result<()> {
        self.write(|db| {
            let mut put = db.prepare_cached("INSERT OR REPLACE INTO value (kind, key, value) VALUES (?1, ?2, ?3)")?;
            let mut delete = db.prepare_cached("DELETE FROM value WHERE kind = ?1 AND key = ?2")?;
            // `sqlite_sequence` remembers the greatest id, also of what was sent and taken off meanwhile.
            let mut add = db.prepare_cached(
                "INSERT INTO archive (id, topic, props, payload) SELECT ?1, ?2, ?3, ?4
                 WHERE ?1 > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'archive')",
            )?;
            for write in writes {
                match write {
                    ValueWrite::Row(ValueRow { kind, key, value: Some(value) }) => {
                        put.execute(params![kind, key, value])?
                    }
                    ValueWrite::Row(ValueRow { kind, key, value: None }) => delete.execute(params![kind, key])?,
                    ValueWrite::Archive(ArchiveMessage { id, topic, props, payload }) => {
                        add.execute(params![id, topic, &props[..], payload])?
                    }
                };
            }
            Ok(())
        })
    }

    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        blocking(|| {
            let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection).context("the agent's database cannot be read")
        })
    }

    pub(super) fn write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.try_write(work).map_err(not_written)
    }

    fn try_write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let outcome = blocking(|| {
            let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        });
        #[cfg(test)]
        let outcome = sealcast_faults::as_by_disk(outcome);
        self.disk.noted(outcome)
    }
}

fn not_written(error: rusqlite::Error) -> anyhow::Error {
    anyhow::Error::new(error).context("the agent's database cannot be written")
}

/// The file of an agent's folder, to be read beside the agent.
fn open_to_read(dir: &Path) -> Result<(PathBuf, Connection)> {
    ensure!(
        dir.is_dir(),
        "there is no folder {}: give the device's folder, which `sealcast enroll` made (--dir)",
        dir.display()
    );
    let path = dir.join(FILE);
    ensure!(
        path.exists(),
        "{} holds no {FILE}: it is not the folder of an enrolled device, or the agent's state is lost. Give the folder that \
         `sealcast enroll` made (--dir)",
        dir.display()
    );
    let connection = open_database(&path, Holder::of(dir).is_some())?;
    Ok((path, connection))
}

/// Whether a database has no tables: an earlier version that could not make them left the file.
fn is_empty(path: &Path) -> bool {
    // It is asked beside an agent, too, and must leave nothing behind.
    let version = open_database(path, false)
        .and_then(|db| Ok(db.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))?));
    version.is_ok_and(|version| version == 0)
}

fn existing() -> OpenFlags {
    OpenFlags::default().difference(OpenFlags::SQLITE_OPEN_CREATE)
}

fn create(dir: &Path, passphrase: Option<&Passphrase>, connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute_batch(SERIES_SCHEMA)?;
    Vault::create_table(dir, passphrase, &transaction)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    Ok(transaction.commit()?)
}

fn connect(path: &Path) -> Result<Connection> {
    let mut connection = Connection::open_with_flags(path, existing())?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    ensure!(
        version == SCHEMA_VERSION,
        "it has format version {version}, but this program reads version {SCHEMA_VERSION}: use the program that wrote it"
    );
    transaction.commit()?;
    Ok(connection)
}

fn retained_topics(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = connection.prepare("SELECT topic FROM retained")?;
    let topics = query.query_map([], |row| row.get(0))?;
    topics.collect()
}

fn values(connection: &Connection) -> rusqlite::Result<Vec<ValueRow>> {
    let mut query = connection.prepare("SELECT kind, key, value FROM value ORDER BY kind, key")?;
    let rows = query.query_map([], |row| Ok(ValueRow { kind: row.get(0)?, key: row.get(1)?, value: row.get(2)? }))?;
    rows.collect()
}

fn records(connection: &Connection, from: u64, most: usize) -> rusqlite::Result<Vec<Vec<u8>>> {
    let mut query = connection.prepare_cached("SELECT bytes FROM record WHERE idx >= ?1 ORDER BY idx LIMIT ?2")?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = query.query_map(params![from.cast_signed(), most], |row| row.get(0))?;
    rows.collect()
}

#[cfg(test)]
mod faults;

#[cfg(test)]
mod tests {
    use sealcast_agent_core::{control, session};
    use sealcast_seal::{Changes, Row};

    use super::*;

    fn record(index: u64, bytes: &[u8]) -> control::Write {
        control::Write::Record { index, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_folder_that_no_agent_runs_on_is_read_without_a_trace() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let store = Store::create(dir.path())?;
        store.commit(&[record(0, b"first")])?;
        drop(store);
        let files = || -> Result<std::collections::BTreeSet<_>> {
            std::fs::read_dir(dir.path())?.map(|entry| Ok(entry?.file_name())).collect()
        };
        let before = files()?;
        assert_eq!(Store::read_records(dir.path())?, [b"first"]);
        assert!(Store::read_values(dir.path())?.is_empty());
        assert_eq!(files()?, before);
        Ok(())
    }

    #[test]
    fn keeps_everything_across_a_restart_and_lets_one_process_in() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let store = Store::create(dir.path())?;
        let write = |key: &str, value: Option<&[u8]>| {
            let value = value.map(|value| Zeroizing::new(value.to_vec()));
            control::Write::State(sealcast_group::Write { key: key.to_owned(), value })
        };
        let step = [
            record(0, b"first"),
            write("a", Some(b"1")),
            record(1, b"second"),
            write("b", Some(b"2")),
            write("a", None),
        ];
        store.commit(&step)?;
        let other = [record(2, b"third"), write("c", Some(b"3")), record(1, b"other")];
        assert!(matches!(store.commit(&other), Err(CommitError::Fault(_))), "a record is never replaced");
        store.commit(&step).context("a step that seemed to fail is committed once more")?;
        let row = |value: Option<&[u8]>| Row { key: b"k".to_vec(), value: value.map(<[u8]>::to_vec) };
        let client = |id: &str, row, seen_ms| {
            let changes = Changes { replace_all: false, rows: vec![row] };
            session::Write::Client { id: id.to_owned(), changes, seen_ms }
        };
        let clients = [
            client("pump", row(Some(b"window")), 1),
            client("valve", row(Some(b"x")), 2),
            client("valve", row(None), 3),
        ];
        store.commit_session(&clients, 0)?;
        let retained = |payload: &[u8]| {
            let payload = Zeroizing::new(payload.to_vec());
            session::Write::Retained(Retained { topic: "t".into(), time_ms: 5, props: vec![1], payload })
        };
        store.commit_session(&[retained(b"27")], 0)?;
        let error = Store::open(dir.path(), None).map_or_else(|error| format!("{error:#}"), |_| "opened twice".into());
        assert!(error.contains("in use"), "{error}");
        drop(store);

        let store = Store::open(dir.path(), None)?;
        assert_eq!(store.records(0, 9)?, [b"first".to_vec(), b"second".to_vec()]);
        assert_eq!(store.state()?, [("b".to_owned(), Zeroizing::new(b"2".to_vec()))]);
        let pump = store.client("pump")?.map(|client| (client.seen_ms, client.windows));
        assert_eq!(pump, Some((1, vec![(b"k".to_vec(), b"window".to_vec())])));
        assert_eq!(store.client("valve")?.map(|client| (client.seen_ms, client.windows)), Some((3, Vec::new())));
        assert!(store.client("tank")?.is_none());
        let row = |key: &str, value: Option<&[u8]>| {
            ValueWrite::Row(ValueRow { kind: 1, key: key.into(), value: value.map(Into::into) })
        };
        store.write_values(&[row("a", Some(b"1")), row("b", Some(b"2")), row("a", None)])?;
        assert_eq!(store.values()?.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(store.retained()?.len(), 1);
        store.commit_session(&[retained(b"")], 0)?;
        assert!(store.retained()?.is_empty());
        Ok(())
    }
}
