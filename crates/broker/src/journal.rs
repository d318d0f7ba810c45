//! The journal: the core's durable state in SQLite, written by one thread.
//!
//! Contract: [`Journal::append`] takes records in order and never blocks; the sequence number that it returns comes out
//! of the channel given to [`Journal::open`] once these records and all before them are on disk (WAL,
//! `synchronous=FULL`: the log is synced at each commit). Batches that arrive during a commit share the next one. After
//! a failure nothing more is written or reported: the channel closes, and the driver stops the broker, so that nothing
//! is acknowledged that is not stored.

mod read;
mod write;

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use sealcast_broker_core::{JournalRecord, Restored};
use tokio::sync::mpsc as tokio_mpsc;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder cannot be made.
    #[error("cannot create the folder {path}")]
    Folder {
        /// Which folder.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The journal cannot be made, or kept from other users of the machine.
    #[error("cannot create {path}, or cannot make it readable by its owner alone (does it belong to another user?)")]
    File {
        /// Which file.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// SQLite refuses.
    #[error("cannot use the broker's journal {path} (is another broker using this folder?)")]
    Sqlite {
        /// Which file.
        path: String,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// Written by a later version.
    #[error(
        "the broker's journal {path} was written by a later version of Sealcast: its format is {found}, and this \
         version reads formats up to {FORMAT}; start the later version again"
    )]
    Format {
        /// Which file.
        path: String,
        /// Its format.
        found: i64,
    },
    /// The writer thread cannot be started.
    #[error("cannot start the thread that writes the broker's journal")]
    Thread(#[source] std::io::Error),
}

const FORMAT: i64 = 3;

const SCHEMA: &str = "
CREATE TABLE session (
  id INTEGER PRIMARY KEY, device TEXT NOT NULL, client_id TEXT NOT NULL, expiry_s INTEGER NOT NULL,
  disconnected_ms INTEGER, UNIQUE (device, client_id)) STRICT;
CREATE TABLE subscription (
  session INTEGER NOT NULL, filter TEXT NOT NULL, options INTEGER NOT NULL, sub_id INTEGER,
  PRIMARY KEY (session, filter)) STRICT, WITHOUT ROWID;
CREATE TABLE message (
  seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL, retain INTEGER NOT NULL,
  properties BLOB NOT NULL, expires_ms INTEGER, sender TEXT) STRICT;
CREATE TABLE delivery (
  seq_no INTEGER PRIMARY KEY, session INTEGER NOT NULL, message INTEGER NOT NULL, qos INTEGER NOT NULL,
  retain INTEGER NOT NULL, sub_ids TEXT NOT NULL, packet_id INTEGER, released INTEGER NOT NULL DEFAULT 0,
  share TEXT) STRICT;
CREATE INDEX delivery_session ON delivery (session);
CREATE TABLE inbound (
  session INTEGER NOT NULL, packet_id INTEGER NOT NULL, PRIMARY KEY (session, packet_id)) STRICT, WITHOUT ROWID;
CREATE TABLE retained (
  topic TEXT PRIMARY KEY, seq INTEGER NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,
  properties BLOB NOT NULL, expires_ms INTEGER, sender TEXT) STRICT, WITHOUT ROWID;
";

/// From format 1, which did not know by which shared subscription a delivery came: those in it, by none.
const FROM_1: &str = "ALTER TABLE delivery ADD COLUMN share TEXT;";

/// From format 2, in which one delivery stood for several shares, with U+0000 between them: each becomes one of its own,
/// unless it has been sent at QoS 2, since then none of them may have it again.
const FROM_2: &str = "
ALTER TABLE delivery ADD COLUMN share TEXT;
CREATE TEMP TABLE part AS
  WITH RECURSIVE rest (seq_no, shares, zero) AS (
    SELECT seq_no, shares, instr(shares, x'00') FROM delivery WHERE shares IS NOT NULL
    UNION ALL
    SELECT seq_no, substr(shares, zero + 1), instr(substr(shares, zero + 1), x'00') FROM rest WHERE zero > 0)
  SELECT seq_no, CAST(iif(zero > 0, substr(shares, 1, zero - 1), shares) AS TEXT) AS share FROM rest;
UPDATE delivery SET share = (SELECT min(share) FROM part WHERE part.seq_no = delivery.seq_no);
INSERT INTO delivery (session, message, qos, retain, sub_ids, share)
  SELECT session, message, qos, retain, sub_ids, part.share FROM part JOIN delivery USING (seq_no)
  WHERE part.share > delivery.share AND packet_id IS NULL ORDER BY seq_no, part.share;
DROP TABLE part;
ALTER TABLE delivery DROP COLUMN shares;
";

/// Most records in one commit.
const COMMIT_RECORDS: usize = 20_000;

type Batch = (u64, Vec<JournalRecord>);

/// The writer's end.
pub(crate) struct Journal {
    batches: Option<mpsc::Sender<Batch>>,
    thread: Option<JoinHandle<rusqlite::Result<()>>>,
    path: String,
    next: u64,
}

impl Journal {
    /// Opens or creates `broker.db` in `dir`, reads it, and starts the writer. Durable sequence numbers go to `durable`.
    pub(crate) fn open(
        dir: &Path,
        durable: tokio_mpsc::UnboundedSender<u64>,
    ) -> Result<(Self, Restored), JournalError> {
        std::fs::create_dir_all(dir)
            .map_err(|source| JournalError::Folder { path: dir.display().to_string(), source })?;
        let path = dir.join("broker.db");
        restrict(&path).map_err(|source| JournalError::File { path: path.display().to_string(), source })?;
        let name = path.display().to_string();
        let sqlite = |source| JournalError::Sqlite { path: name.clone(), source };
        let mut db = Connection::open(&path).map_err(sqlite)?;
        prepare(&mut db).map_err(sqlite)?;
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
        if found != FORMAT {
            return Err(JournalError::Format { path: name, found });
        }
        let restored = read::read(&mut db).map_err(sqlite)?;
        let (batches, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("broker-journal".into())
            .spawn(move || run(db, &queue, &durable))
            .map_err(JournalError::Thread)?;
        Ok((Self { batches: Some(batches), thread: Some(thread), path: name, next: 1 }, restored))
    }

    /// Queues records; the number that will be reported when they are durable.
    pub(crate) fn append(&mut self, records: Vec<JournalRecord>) -> u64 {
        let seq = self.next;
        self.next += 1;
        if let Some(batches) = &self.batches {
            // A writer that has ended has closed the `durable` channel; the driver sees that.
            let _ = batches.send((seq, records));
        }
        seq
    }

    /// Waits until everything is written, and gives the reason if it could not be. Blocks.
    pub(crate) fn close(&mut self) -> Result<(), String> {
        self.batches = None;
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(format!("cannot write the broker's journal {}: {error}", self.path)),
            Some(Err(_)) => Err(format!("the thread that writes the broker's journal {} panicked", self.path)),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(reason) = self.close() {
            tracing::error!("{reason}");
        }
    }
}

/// Makes the journal the owner's alone, whatever the umask: it holds retained and queued messages, and clear topics in
/// the clear. SQLite gives `-wal` and `-shm` the mode of the database; those of an earlier run are changed here.
#[cfg(unix)]
fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    for suffix in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::set_permissions(name, std::fs::Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn restrict(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn prepare(db: &mut Connection) -> rusqlite::Result<()> {
    db.busy_timeout(std::time::Duration::from_secs(2))?;
    // One broker per folder: the lock is held until the process ends.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let step = match version {
        0 => Some(SCHEMA),
        1 => Some(FROM_1),
        2 => Some(FROM_2),
        _ => None,
    };
    if let Some(step) = step {
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    transaction.commit()
}

fn run(
    mut db: Connection,
    queue: &mpsc::Receiver<Batch>,
    durable: &tokio_mpsc::UnboundedSender<u64>,
) -> rusqlite::Result<()> {
    while let Ok((mut last, mut records)) = queue.recv() {
        while records.len() < COMMIT_RECORDS
            && let Ok((seq, more)) = queue.try_recv()
        {
            last = seq;
            records.extend(more);
        }
        if let Err(error) = write::commit(&mut db, &records) {
            tracing::error!(%error, "cannot write the broker's journal: the broker stops, and acknowledges nothing more");
            return Err(error);
        }
        if durable.send(last).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
