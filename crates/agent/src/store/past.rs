//! What the folder says of its own past, so that an old copy of it shows.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, params};
use sealcast_agent_core::control::FolderPast;
use sealcast_ledger::{Checkpoint, Hash};

use super::Store;

impl Store {
    /// All of it.
    pub fn past(&self) -> Result<FolderPast> {
        self.read(|db| {
            let checkpoint = db
                .query_row("SELECT number, mark FROM checkpoint", [], |row| {
                    Ok(Checkpoint { number: row.get::<_, i64>(0)?.cast_unsigned(), mark: row.get(1)? })
                })
                .optional()?;
            let mut query = db.prepare("SELECT nonce, digest FROM submitted")?;
            let rows = query.query_map([], |row| {
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), Hash::from(row.get::<_, [u8; 32]>(1)?)))
            })?;
            Ok(FolderPast { checkpoint, submitted: rows.collect::<Result<_, _>>()? })
        })
    }
}

pub(super) fn put_checkpoint(db: &Connection, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    db.execute("DELETE FROM checkpoint", [])?;
    let values = params![checkpoint.number.cast_signed(), checkpoint.mark];
    db.execute("INSERT INTO checkpoint (number, mark) VALUES (?1, ?2)", values).map(drop)
}

pub(super) fn add_submitted(db: &Connection, nonce: u64, digest: &Hash) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO submitted (nonce, digest) VALUES (?1, ?2)")?
        .execute(params![nonce.cast_signed(), digest.as_bytes()])
        .map(drop)
}

pub(super) fn forget_submitted(db: &Connection, nonce: u64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM submitted WHERE nonce <= ?1")?.execute([nonce.cast_signed()]).map(drop)
}

pub(super) fn begin_anew(db: &Connection, before_ms: u64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM checkpoint", [])?;
    db.execute("DELETE FROM retained WHERE time_ms < ?1", [before_ms.cast_signed()]).map(drop)
}
