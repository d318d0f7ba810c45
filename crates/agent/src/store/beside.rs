//! What lies in an agent's folder, read beside the agent: whether it runs or not, nothing is made or changed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rusqlite::Connection;
use sealcast_identity::Passphrase;
use sealcast_ledger::Record;

use super::{FILE, SCHEMA_VERSION, records, vault};

/// Records that are read at a time.
const PAGE: usize = 1024;

/// A folder's files that hold the state.
pub fn state_files(dir: &Path) -> [PathBuf; 4] {
    [FILE, &format!("{FILE}-wal"), &format!("{FILE}-shm"), vault::FILE].map(|name| dir.join(name))
}

/// What waits in the state.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// Readings for the ledger.
    pub readings: u64,
    /// Points of archives for the broker.
    pub archived: u64,
}

/// Fails if the state has another version's format.
pub fn check_version(db: &Connection) -> Result<()> {
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    ensure!(
        version == SCHEMA_VERSION,
        "{FILE} has format version {version}, but this program reads version {SCHEMA_VERSION}"
    );
    Ok(())
}

/// All records of the ledger, in their order.
pub fn stored(db: &Connection) -> impl Iterator<Item = Result<Record>> {
    let mut next = Some(0);
    let pages = std::iter::from_fn(move || {
        let from = next?;
        match records(db, from, PAGE) {
            Ok(page) if page.is_empty() => None,
            Ok(page) => {
                next = Some(from + page.len() as u64);
                Some(page.into_iter().zip(from..).map(read).collect::<Vec<_>>())
            }
            Err(error) => {
                next = None;
                Some(vec![Err(error.into())])
            }
        }
    });
    pages.flatten()
}

fn read((bytes, index): (Vec<u8>, u64)) -> Result<Record> {
    let record = Record::decode(&bytes).with_context(|| format!("entry {index} cannot be read"))?;
    ensure!(record.index == index, "entry {index} is missing");
    Ok(record)
}

/// The groups' state.
pub fn state(db: &Connection, dir: &Path, passphrase: Option<&Passphrase>) -> Result<Vec<vault::StateRow>> {
    vault::read_beside(dir, passphrase, db)
}

/// What waits.
pub fn waiting(db: &Connection) -> Result<Waiting> {
    let count = |table: &str| -> rusqlite::Result<u64> {
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    };
    Ok(Waiting { readings: count("reading")?, archived: count("archive")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_entry_is_named_and_ends_the_list() -> Result<()> {
        let db = Connection::open_in_memory()?;
        db.execute_batch("CREATE TABLE record (idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")?;
        assert_eq!(stored(&db).count(), 0);
        db.execute("INSERT INTO record VALUES (0, x'07')", [])?;
        let said: Vec<String> = stored(&db).filter_map(|record| Some(format!("{:#}", record.err()?))).collect();
        assert_eq!(said.len(), 1);
        assert!(said.iter().all(|text| text.starts_with("entry 0 cannot be read")), "{said:?}");
        db.execute_batch("DROP TABLE record")?;
        assert_eq!(stored(&db).filter(Result::is_err).count(), 1, "and so is a database without them");
        Ok(())
    }
}
