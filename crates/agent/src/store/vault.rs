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
//! does that. Under a passphrase the slots hold their keys wrapped, and all else is the same: so a master key from before the
//! passphrase goes as any other does.

mod aead;
mod key_file;

use std::{collections::BTreeMap, io, path::Path};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OptionalExtension as _, params, types::Type};
use sealcast_identity::Passphrase;
use zeroize::Zeroizing;

pub(super) use self::key_file::FILE;
use self::{
    aead::{KEY_BYTES, Key, fresh_key},
    key_file::{KeyFile, KeyFileError, Slot},
};

const TABLE: &str =
    "CREATE TABLE vault (one INTEGER PRIMARY KEY CHECK (one = 1), slot INTEGER NOT NULL, keys BLOB NOT NULL)";
/// What the keys are sealed as.
const KEYS: &str = "sealcast vault";

/// The master key's file, of an agent that has its folder to itself.
pub(super) struct Vault {
    file: KeyFile,
    /// Nothing was ever sealed under the key in the slot that is not in use.
    is_next_fresh: bool,
}

impl Vault {
    /// Makes the file, with new keys. No secret of a database that was there can be read afterwards.
    pub fn make(dir: &Path, passphrase: Option<&Passphrase>) -> Result<()> {
        KeyFile::make(dir, passphrase)
    }

    /// Makes the table of a new database, whose file is there.
    pub fn create_table(dir: &Path, passphrase: Option<&Passphrase>, db: &Connection) -> Result<()> {
        db.execute_batch(TABLE)?;
        let file = KeyFile::open_to_read(dir, passphrase)?;
        Ok(Keys::default().save(db, Slot::First, &file.read(Slot::First)?)?)
    }

    /// Opens the file of the database `db`. What a crash has left of a retired key is gone afterwards, and so is a master key
    /// that was there before the passphrase.
    pub fn open(dir: &Path, passphrase: Option<&Passphrase>, db: &Connection) -> Result<Self> {
        let attempt = || -> Result<Self> {
            let mut vault = Self { file: KeyFile::open(dir, passphrase)?, is_next_fresh: false };
            let (slot, _) = Keys::load(db, &vault.file)?;
            vault.renew(slot.other())?;
            if vault.file.is_to_be_wrapped(slot)? {
                let transaction = db.unchecked_transaction()?;
                let retired = vault.change(&transaction)?.finish()?;
                transaction.commit()?;
                vault.retire(retired)?;
            }
            Ok(vault)
        };
        attempt().with_context(|| format!("cannot use {}", dir.join(FILE).display()))
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

    fn renew(&mut self, slot: Slot) -> Result<(), KeyFileError> {
        self.is_next_fresh = false;
        self.file.renew(slot)?;
        self.is_next_fresh = true;
        Ok(())
    }

    /// The key for what comes after `slot`. Whether it gets on disk or not, it is not fresh afterwards.
    fn take_next(&mut self, slot: Slot) -> rusqlite::Result<Key> {
        if !self.is_next_fresh {
            self.renew(slot.other())?;
        }
        self.is_next_fresh = false;
        Ok(self.file.read(slot.other())?)
    }
}

/// The key and the value of a row of `state`.
pub type StateRow = (String, Zeroizing<Vec<u8>>);

/// Reads all rows of `state` in an agent's folder beside the agent, which may be changing them.
pub(super) fn read_beside(dir: &Path, passphrase: Option<&Passphrase>, db: &Connection) -> Result<Vec<StateRow>> {
    let file = KeyFile::open_to_read(dir, passphrase)?;
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
    fn load(db: &Connection, file: &KeyFile) -> rusqlite::Result<(Slot, Self)> {
        let (slot, sealed) = vault_row(db)?.ok_or_else(|| damaged("the row of the master key"))?;
        let slot = Slot::of_row(slot).ok_or_else(|| damaged("the slot of the master key"))?;
        let bytes = open(&file.read(slot)?, KEYS, &sealed)?;
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
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let rows = rows.map(|row| {
        let (name, value) = row?;
        let value = match keys.0.get(&name) {
            Some(key) => open(key, &name, &value)?,
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

fn seal(key: &Key, name: &str, value: &[u8]) -> rusqlite::Result<Vec<u8>> {
    aead::seal(key, name.as_bytes(), value).map_err(|_| damaged(name))
}

fn open(key: &Key, name: &str, sealed: &[u8]) -> rusqlite::Result<Zeroizing<Vec<u8>>> {
    aead::open(key, name.as_bytes(), sealed).map_err(|_| damaged(name))
}

/// What cannot be mended: the files do not belong together, or are damaged.
fn damaged(what: &str) -> rusqlite::Error {
    let words =
        format!("{what} does not open with {FILE}: agent.sqlite and {FILE} are not of the same agent, or damaged");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, words.into())
}

/// To whoever writes, the disk's error at `agent.keys` is as one at `agent.sqlite`.
impl From<KeyFileError> for rusqlite::Error {
    fn from(error: KeyFileError) -> Self {
        let code = match &error {
            KeyFileError::Disk(disk) if disk.kind() == io::ErrorKind::StorageFull => rusqlite::ffi::SQLITE_FULL,
            KeyFileError::Disk(_) => rusqlite::ffi::SQLITE_IOERR,
            _ => return Self::FromSqlConversionFailure(0, Type::Blob, Box::new(error)),
        };
        Self::SqliteFailure(rusqlite::ffi::Error::new(code), Some(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
