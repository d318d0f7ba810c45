//! The writes of the control plane.

use std::sync::PoisonError;

use rusqlite::{Connection, OptionalExtension as _, params};
use sealcast_agent_core::control::Write;
use sealcast_group::is_secret;

use super::{
    Store,
    disk::is_disks,
    past, series,
    vault::{Change, delete_row, put_row},
};

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
        let mut vault = self.vault.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.try_write(|db| {
            let mut secrets = writes.iter().any(changes_secrets).then(|| vault.change(db)).transpose()?;
            writes.iter().try_for_each(|write| apply(db, secrets.as_mut(), write))?;
            secrets.map(Change::finish).transpose()
        });
        if writes.iter().any(|write| matches!(write, Write::BeginAnew { .. })) {
            self.count_retained();
        }
        let outcome = match outcome {
            Ok(Some(retired)) => self.disk.noted(vault.retire(retired)),
            outcome => outcome.map(drop),
        };
        outcome.map_err(|error| if is_disks(&error) { CommitError::Disk(error) } else { CommitError::Fault(error) })
    }
}

fn changes_secrets(write: &Write) -> bool {
    matches!(write, Write::State(change) if is_secret(&change.key))
}

fn apply(db: &Connection, secrets: Option<&mut Change<'_>>, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::Record { index, bytes } => add_record(db, *index, bytes),
        Write::Snapshot { height, bytes } => put_snapshot(db, *height, bytes),
        Write::State(change) => match (secrets.filter(|_| is_secret(&change.key)), &change.value) {
            (Some(secrets), Some(value)) => secrets.put(&change.key, value),
            (Some(secrets), None) => secrets.delete(&change.key),
            (None, Some(value)) => put_row(db, &change.key, value),
            (None, None) => delete_row(db, &change.key),
        },
        Write::ReadingOnLedger { topic, sequence } => db
            .prepare_cached("DELETE FROM reading WHERE topic = ?1 AND sequence = ?2")?
            .execute(params![topic.as_str(), sequence.cast_signed()])
            .map(drop),
        Write::Submitted { nonce, digest } => past::add_submitted(db, *nonce, digest),
        Write::Answered { nonce } => past::forget_submitted(db, *nonce),
        Write::Checkpoint(checkpoint) => past::put_checkpoint(db, checkpoint),
        Write::DrawAnchor { group, forget_before_ms } => series::draw(db, *group, *forget_before_ms),
        Write::Anchored { group, root, count } => series::anchored(db, *group, root, *count),
        Write::BeginAnew { before_ms } => past::begin_anew(db, *before_ms).and_then(|()| series::begin_anew(db)),
    }
}

/// There is one: the newest.
fn put_snapshot(db: &Connection, height: u64, bytes: &[u8]) -> rusqlite::Result<()> {
    db.execute("DELETE FROM snapshot", [])?;
    db.execute("INSERT INTO snapshot (height, bytes) VALUES (?1, ?2)", params![height.cast_signed(), bytes]).map(drop)
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
