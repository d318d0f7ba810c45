//! The secrets of the groups' state at rest: one that was replaced or deleted cannot be read any more.
//!
//! SQLite does not forget. What was deleted stays in its log, in free pages, and, even with `secure_delete`, in the gaps of
//! pages that it rebalanced. A log that is truncated leaves its blocks on the disk, and a reader can keep SQLite from truncating
//! it. So each secret lies in the database sealed under a key of its own. These keys are in the database too, as one value that
//! is sealed under the *master key*. The master key is in `agent.keys`, where it can be overwritten in its place.
//!
//! `agent.keys` has two slots, and the database says which of them it uses. A transaction that replaces or deletes a secret
//! seals the keys of all others under a fresh master key, in the slot that was not in use. Once it is on disk, the slot that
//! was in use until then is overwritten, with the fresh key for the next time. If the agent dies in between, its next start
//! does that.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    error::Unspecified,
    rand,
};
use rusqlite::{Connection, OptionalExtension as _, params, types::Type};
use sealcast_node::files::{self, Mode};
use zeroize::Zeroizing;

/// Holds the master key.
pub(super) const FILE: &str = "agent.keys";
const TABLE: &str =
    "CREATE TABLE vault (one INTEGER PRIMARY KEY CHECK (one = 1), slot INTEGER NOT NULL, keys BLOB NOT NULL)";
/// Where the second slot begins: in another block than the first one, so that a write that a power cut tears spares the other.
const SLOT_BYTES: u64 = 4096;
const KEY_BYTES: usize = 32;
/// What the keys are sealed as.
const KEYS: &str = "sealcast vault";

/// An AES-256 key.
type Key = Zeroizing<[u8; KEY_BYTES]>;

/// One of the places of the master key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot {
    First,
    Second,
}

impl Slot {
    fn other(self) -> Self {
        if self == Self::First { Self::Second } else { Self::First }
    }

    fn offset(self) -> u64 {
        if self == Self::First { 0 } else { SLOT_BYTES }
    }

    fn of_row(number: i64) -> rusqlite::Result<Self> {
        match number {
            0 => Ok(Self::First),
            1 => Ok(Self::Second),
            _ => Err(damaged("the slot of the master key")),
        }
    }

    fn to_row(self) -> i64 {
        i64::from(self == Self::Second)
    }
}

/// The master key's file, of an agent that has its folder to itself.
pub(super) struct Vault {
    file: File,
    /// Nothing was ever sealed under the key in the slot that is not in use.
    is_next_fresh: bool,
}

impl Vault {
    /// Makes the file, with new keys. No secret of a database that was there can be read afterwards.
    pub fn make(dir: &Path) -> Result<()> {
        let mut slots = Zeroizing::new(vec![0; SLOT_BYTES as usize + KEY_BYTES]);
        rand::fill(&mut slots).context("no randomness from the system")?;
        files::write(&dir.join(FILE), &slots, Mode::Secret)
    }

    /// Makes the table of a new database, whose file is there.
    pub fn create_table(dir: &Path, db: &Connection) -> Result<()> {
        db.execute_batch(TABLE)?;
        let file = File::open(dir.join(FILE))?;
        Ok(Keys::default().save(db, Slot::First, &read_key(&file, Slot::First)?)?)
    }

    /// Opens the file of the database `db`. What a crash has left of a retired key is gone afterwards.
    pub fn open(dir: &Path, db: &Connection) -> Result<Self> {
        let path = dir.join(FILE);
        let attempt = || -> Result<Self> {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let (slot, _) = Keys::load(db, &file)?;
            let mut vault = Self { file, is_next_fresh: false };
            vault.renew(slot.other())?;
            Ok(vault)
        };
        attempt().with_context(|| format!("cannot use {}", path.display()))
    }

    /// The secrets of `db`, to be changed within a transaction.
    pub fn change<'a>(&'a mut self, db: &'a Connection) -> rusqlite::Result<Change<'a>> {
        let (slot, keys) = Keys::load(db, &self.file)?;
        Ok(Change { vault: self, db, slot, keys })
    }

    /// All rows of `state`, opened.
    pub fn state(&self, db: &Connection) -> rusqlite::Result<Vec<StateRow>> {
        read(db, &Keys::load(db, &self.file)?.1)
    }

    /// Destroys a key that nothing on disk needs any more.
    pub fn retire(&mut self, retired: Retired) -> rusqlite::Result<()> {
        Ok(self.renew(retired.0)?)
    }

    fn renew(&mut self, slot: Slot) -> Result<(), DiskError> {
        self.is_next_fresh = false;
        let key = fresh_key().map_err(|_| io::Error::other("no randomness from the system"))?;
        self.file.write_all_at(&*key, slot.offset())?;
        self.file.sync_data()?;
        self.is_next_fresh = true;
        Ok(())
    }

    /// The key for what comes after `slot`. Whether it gets on disk or not, it is not fresh afterwards.
    fn take_next(&mut self, slot: Slot) -> rusqlite::Result<Key> {
        if !self.is_next_fresh {
            self.renew(slot.other())?;
        }
        self.is_next_fresh = false;
        Ok(read_key(&self.file, slot.other())?)
    }
}

/// The key and the value of a row of `state`.
pub type StateRow = (String, Zeroizing<Vec<u8>>);

/// Reads all rows of `state` in an agent's folder beside the agent, which may be changing them.
pub(super) fn read_beside(dir: &Path, db: &Connection) -> Result<Vec<StateRow>> {
    let path = dir.join(FILE);
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    loop {
        let before = vault_row(db)?;
        let transaction = db.unchecked_transaction()?;
        match Keys::load(&transaction, &file).and_then(|(_, keys)| read(&transaction, &keys)) {
            Ok(rows) => return Ok(rows),
            Err(error) => {
                drop(transaction);
                // Was the key retired between the two reads?
                if vault_row(db)? == before {
                    return Err(error.into());
                }
            }
        }
    }
}

/// A retired master key's place: nothing that the transaction has left needs it.
#[must_use = "the key is still there"]
pub(super) struct Retired(Slot);

/// Changes of secrets, in one transaction.
pub(super) struct Change<'a> {
    vault: &'a mut Vault,
    db: &'a Connection,
    slot: Slot,
    keys: Keys,
}

impl Change<'_> {
    pub fn put(&mut self, name: &str, value: &[u8]) -> rusqlite::Result<()> {
        let key = fresh_key().map_err(|_| damaged("the system's randomness"))?;
        put_row(self.db, name, &seal(&key, name, value)?)?;
        self.keys.0.insert(name.to_owned(), key);
        Ok(())
    }

    pub fn delete(&mut self, name: &str) -> rusqlite::Result<()> {
        self.keys.0.remove(name);
        delete_row(self.db, name)
    }

    /// Seals the keys that are left under a fresh master key. The last thing before the transaction's commit.
    pub fn finish(self) -> rusqlite::Result<Retired> {
        let key = self.vault.take_next(self.slot)?;
        self.keys.save(self.db, self.slot.other(), &key)?;
        Ok(Retired(self.slot))
    }
}

/// The key of each secret, by its name.
#[derive(Default)]
struct Keys(BTreeMap<String, Key>);

impl Keys {
    fn load(db: &Connection, file: &File) -> rusqlite::Result<(Slot, Self)> {
        let (slot, sealed) = vault_row(db)?.ok_or_else(|| damaged("the row of the master key"))?;
        let slot = Slot::of_row(slot)?;
        let bytes = open(&read_key(file, slot)?, KEYS, sealed)?;
        Ok((slot, Self::decode(&bytes).ok_or_else(|| damaged(KEYS))?))
    }

    fn save(&self, db: &Connection, slot: Slot, master: &Key) -> rusqlite::Result<()> {
        let sealed = seal(master, KEYS, &self.encode())?;
        db.prepare_cached("INSERT OR REPLACE INTO vault (one, slot, keys) VALUES (1, ?1, ?2)")?
            .execute(params![slot.to_row(), sealed])
            .map(drop)
    }

    /// For each secret its key and its name, with a zero byte behind.
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let bytes = self.0.keys().map(|name| KEY_BYTES + name.len() + 1).sum();
        // Grown in steps it would leave copies of the keys in memory.
        let mut out = Zeroizing::new(Vec::with_capacity(bytes));
        for (name, key) in &self.0 {
            out.extend_from_slice(&**key);
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
        out
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut keys = BTreeMap::new();
        while let Some((key, rest)) = bytes.split_first_chunk::<KEY_BYTES>() {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let (name, rest) = rest.split_at_checked(end)?;
            keys.insert(str::from_utf8(name).ok()?.to_owned(), Zeroizing::new(*key));
            bytes = rest.get(1..)?;
        }
        bytes.is_empty().then_some(Self(keys))
    }
}

/// All rows of `state`: those that have a key are sealed.
fn read(db: &Connection, keys: &Keys) -> rusqlite::Result<Vec<StateRow>> {
    let mut query = db.prepare("SELECT key, value FROM state ORDER BY key")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let rows = rows.map(|row| {
        let (name, value) = row?;
        let value = match keys.0.get(&name) {
            Some(key) => open(key, &name, value)?,
            None => Zeroizing::new(value),
        };
        Ok((name, value))
    });
    rows.collect()
}

/// Writes a row of `state`.
pub(super) fn put_row(db: &Connection, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO state (key, value) VALUES (?1, ?2)")?
        .execute(params![key, value])
        .map(drop)
}

/// Deletes a row of `state`.
pub(super) fn delete_row(db: &Connection, key: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM state WHERE key = ?1")?.execute([key]).map(drop)
}

fn vault_row(db: &Connection) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
    db.prepare_cached("SELECT slot, keys FROM vault")?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

fn read_key(file: &File, slot: Slot) -> Result<Key, DiskError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    file.read_exact_at(&mut *key, slot.offset())?;
    Ok(key)
}

fn fresh_key() -> Result<Key, Unspecified> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(&mut *key)?;
    Ok(key)
}

/// `value` under `key`, with the nonce before it. Only under the same name does it open again.
fn seal(key: &Key, name: &str, value: &[u8]) -> rusqlite::Result<Vec<u8>> {
    let failed = |_| damaged(name);
    let aead = RandomizedNonceKey::new(&AES_256_GCM, &**key).map_err(failed)?;
    let mut sealed = Zeroizing::new(Vec::with_capacity(value.len() + AES_256_GCM.tag_len()));
    sealed.extend_from_slice(value);
    let nonce = aead.seal_in_place_append_tag(Aad::from(name), &mut *sealed).map_err(failed)?;
    Ok([nonce.as_ref().as_slice(), &sealed].concat())
}

fn open(key: &Key, name: &str, sealed: Vec<u8>) -> rusqlite::Result<Zeroizing<Vec<u8>>> {
    let mut sealed = Zeroizing::new(sealed);
    let aead = RandomizedNonceKey::new(&AES_256_GCM, &**key).map_err(|_| damaged(name))?;
    let (nonce, sealed) = sealed.split_first_chunk_mut::<NONCE_LEN>().ok_or_else(|| damaged(name))?;
    let opened = aead.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), sealed);
    Ok(Zeroizing::new(opened.map_err(|_| damaged(name))?.to_vec()))
}

/// What cannot be mended: the files do not belong together, or are damaged.
fn damaged(what: &str) -> rusqlite::Error {
    let words =
        format!("{what} does not open with {FILE}: agent.sqlite and {FILE} are not of the same agent, or damaged");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, words.into())
}

/// The disk's error at `agent.keys`. To whoever writes it is as one at `agent.sqlite`.
#[derive(Debug, thiserror::Error)]
#[error("{FILE}: {0}")]
struct DiskError(#[from] io::Error);

impl From<DiskError> for rusqlite::Error {
    fn from(error: DiskError) -> Self {
        let code = match error.0.kind() {
            io::ErrorKind::StorageFull => rusqlite::ffi::SQLITE_FULL,
            _ => rusqlite::ffi::SQLITE_IOERR,
        };
        Self::SqliteFailure(rusqlite::ffi::Error::new(code), Some(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
