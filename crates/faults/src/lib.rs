//! For the tests of other crates: writes to a SQLite database that fail, in each way in which a write can.
//!
//! SQLite itself does it, so the code under test is the one that ships. A connection that was struck fails every write until
//! [`mend`], as a disk does.

use std::cell::Cell;

use rusqlite::{Connection, Error, Result, ffi, hooks::Wal};

thread_local! {
    /// The last commit of this thread was made to fail.
    static STRUCK: Cell<bool> = const { Cell::new(false) };
}

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// At its first statement: the disk takes nothing.
    Refused,
    /// At its end: all statements were executed, and nothing of them is kept.
    Lost,
    /// As far as its caller is told. All of it is on disk. For a database in WAL mode.
    Persisted,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Refused, Self::Lost, Self::Persisted];

    /// From now on writes of `db` fail like this.
    ///
    /// # Errors
    /// SQLite's.
    pub fn strike(self, db: &Connection) -> Result<()> {
        match self {
            Self::Refused => db.pragma_update(None, "query_only", true),
            Self::Lost => db.commit_hook(Some(|| {
                STRUCK.set(true);
                true
            })),
            Self::Persisted => {
                // "If the callback returns an error code, that error will propagate back up […], though the commit will have
                // still occurred" (sqlite3_wal_hook).
                db.wal_hook(Some(|_: &Wal, _| {
                    STRUCK.set(true);
                    Err(disk_error())
                }));
                Ok(())
            }
        }
    }

    /// Whether the write is on disk although it failed.
    pub fn is_persisted(self) -> bool {
        self == Self::Persisted
    }
}

/// Writes succeed again.
///
/// # Errors
/// SQLite's.
pub fn mend(db: &Connection) -> Result<()> {
    db.pragma_update(None, "query_only", false)?;
    db.commit_hook(None::<fn() -> bool>)?;
    // Ends the hook.
    db.pragma_update_and_check(None, "wal_autocheckpoint", 1000, |_| Ok(()))
}

/// What a disk would have had SQLite say of this thread's last write: of a commit that a hook fails, SQLite does not say that
/// the disk does. For code that tells the errors apart.
///
/// # Errors
/// That of `outcome`, or the disk's in its place.
pub fn as_by_disk<T>(outcome: Result<T>) -> Result<T> {
    let struck = STRUCK.take();
    outcome.map_err(|error| if struck { disk_error() } else { error })
}

fn disk_error() -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rusqlite::ErrorCode;

    use super::*;

    #[test]
    fn a_write_is_lost_or_persisted_until_the_connection_is_mended() {
        for fault in Fault::ALL {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("db");
            let mut db = Connection::open(&path).unwrap();
            db.pragma_update(None, "journal_mode", "WAL").unwrap();
            db.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY)").unwrap();
            fault.strike(&db).unwrap();
            let error = as_by_disk(db.execute("INSERT INTO t VALUES (1)", [])).unwrap_err();
            let said = if fault == Fault::Refused { ErrorCode::ReadOnly } else { ErrorCode::SystemIoFailure };
            assert_eq!(error.sqlite_error_code(), Some(said));
            let transaction = db.transaction().unwrap();
            let statement = transaction.execute("INSERT INTO t VALUES (2)", []);
            assert_eq!(statement.is_err(), fault == Fault::Refused);
            if statement.is_ok() {
                transaction.commit().unwrap_err();
            } else {
                drop(transaction);
            }
            mend(&db).unwrap();
            as_by_disk(db.execute("INSERT INTO t VALUES (3)", [])).unwrap();
            drop(db);
            let db = Connection::open(&path).unwrap();
            let mut query = db.prepare("SELECT n FROM t").unwrap();
            let found: Vec<i64> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            let expected: &[i64] = if fault.is_persisted() { &[1, 2, 3] } else { &[3] };
            assert_eq!(found, expected, "{fault:?}");
        }
    }
}
