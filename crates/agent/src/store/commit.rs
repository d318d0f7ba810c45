//! The writes of the control plane.

use rusqlite::{Connection, OptionalExtension as _, params};
use sealcast_agent_core::control::Write;

use super::{Store, disk::is_disks};

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The disk fails. It may be mended.
    #[error("the agent's database cannot be written")]
    Disk(#[source] rusqlite::Error),
    /// It would fail again.
    #[error("the agent's database cannot be written")]
    Fault(#[source] rusqlite::Error),
}

impl Store {
    /// Makes writes durable, all or none. They may be there already, from a try that seemed to fail.
    ///
    /// # Errors
    /// The disk fails, or holds another record in the place of one of these.
    pub fn commit(&self, writes: &[Write]) -> Result<(), CommitError> {
        let outcome = self.try_write(|db| writes.iter().try_for_each(|write| apply(db, write)));
        outcome.map_err(|error| if is_disks(&error) { CommitError::Disk(error) } else { CommitError::Fault(error) })
    }
}

fn apply(db: &Connection, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::Record { index, bytes } => return add_record(db, *index, bytes),
        Write::State(sealcast_group::Write { key, value: Some(value) }) => db
            .prepare_cached("INSERT OR REPLACE INTO state (key, value) VALUES (?1, ?2)")?
            .execute(params![key, value.as_slice()])?,
        Write::State(sealcast_group::Write { key, value: None }) => {
            db.prepare_cached("DELETE FROM state WHERE key = ?1")?.execute([key])?
        }
        Write::ReadingOnLedger { topic, sequence } => db
            .prepare_cached("DELETE FROM reading WHERE topic = ?1 AND sequence = ?2")?
            .execute(params![topic.as_str(), sequence.cast_signed()])?,
    };
    Ok(())
}

/// A record is never replaced by another.
fn add_record(db: &Connection, index: u64, bytes: &[u8]) -> rusqlite::Result<()> {
    let index = index.cast_signed();
    let known: Option<Vec<u8>> = db
        .prepare_cached("SELECT bytes FROM record WHERE idx = ?1")?
        .query_row([index], |row| row.get(0))
        .optional()?;
    match known {
        None => db
            .prepare_cached("INSERT INTO record (idx, bytes) VALUES (?1, ?2)")?
            .execute(params![index, bytes])
            .map(drop),
        Some(known) if known == bytes => Ok(()),
        Some(_) => {
            Err(rusqlite::Error::ToSqlConversionFailure(format!("record {index} is there, and is another").into()))
        }
    }
}
