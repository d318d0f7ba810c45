//! Enrolment tokens: made by the operator, used once. The hub keeps the SHA-256 of the secret, not the secret.
//!
//! A token is for the first key that it is presented with. A registration that was given up may reach the ledger all the
//! same: the token can then be tried again, but never brings a second key onto the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OptionalExtension as _, params};
use sealcast_identity::{DeviceId, PublicKey, StoredToken};
use sealcast_node::files;

/// `hub.sqlite`. The command line writes it while a hub runs on it.
pub struct Tokens {
    connection: Mutex<Connection>,
    /// Devices whose tokens are [`Claim`]ed.
    claimed: Mutex<BTreeSet<DeviceId>>,
    /// Tokens that may be off the disk, though nobody has got anything for them: to be put back.
    in_doubt: Mutex<BTreeMap<DeviceId, Presented>>,
}

/// A token with the SHA-256 of the key that it is for.
#[derive(Clone)]
struct Presented {
    token: StoredToken,
    key_sha256: [u8; 32],
}

/// A token in the hands of one enrolment, which alone can use it up. Given back when dropped: it can then be used again.
#[must_use]
pub struct Claim<'a> {
    tokens: &'a Tokens,
    presented: Presented,
}

/// Whether an enrolment gets a token.
#[must_use]
pub enum Claimed<'a> {
    /// It has it.
    Taken(Claim<'a>),
    /// Another enrolment has it, or it is not there any more.
    Gone,
    /// It was presented with another key before, which may be on the ledger.
    OtherKey,
}

impl Tokens {
    /// Opens or makes the file.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("hub.sqlite");
        let attempt = || -> Result<Connection> {
            if !path.exists() {
                files::write(&path, b"", files::Mode::Secret)?;
            }
            let connection = Connection::open(&path)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS token
                 (device TEXT PRIMARY KEY, secret_sha256 BLOB NOT NULL, expires_ms INTEGER NOT NULL, key_sha256 BLOB)
                 WITHOUT ROWID",
            )?;
            Ok(connection)
        };
        let connection = attempt().with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Self { connection: Mutex::new(connection), claimed: Mutex::default(), in_doubt: Mutex::default() })
    }

    /// Keeps a token, in place of one that its device may have.
    pub fn put(&self, token: &StoredToken) -> Result<()> {
        self.put_all(std::slice::from_ref(token))
    }

    /// Keeps all of them or none, each in place of one that its device may have.
    pub fn put_all(&self, tokens: &[StoredToken]) -> Result<()> {
        self.with(|db| {
            let transaction = db.unchecked_transaction()?;
            let mut insert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO token (device, secret_sha256, expires_ms) VALUES (?1, ?2, ?3)",
            )?;
            for token in tokens {
                insert.execute(params![token.device.as_str(), token.secret_sha256, token.expires_ms.cast_signed()])?;
            }
            drop(insert);
            transaction.commit()
        })
    }

    /// The token of `device` that was not used yet, expired or not.
    pub fn of(&self, device: &DeviceId) -> Result<Option<StoredToken>> {
        self.settle(device)?;
        self.with(|db| {
            db.query_row("SELECT secret_sha256, expires_ms FROM token WHERE device = ?1", [device.as_str()], |row| {
                Ok(StoredToken {
                    device: device.clone(),
                    secret_sha256: row.get(0)?,
                    expires_ms: row.get::<_, i64>(1)?.cast_unsigned(),
                })
            })
            .optional()
        })
    }

    /// Takes a token for one enrolment, of the device's `key`.
    pub fn claim(&self, token: StoredToken, key: &PublicKey) -> Result<Claimed<'_>> {
        if !self.claimed().insert(token.device.clone()) {
            return Ok(Claimed::Gone);
        }
        let claim = Claim { tokens: self, presented: Presented { token, key_sha256: key.fingerprint() } };
        let Presented { token, key_sha256 } = &claim.presented;
        // The enrolment before may have used it up since it was read.
        Ok(match self.key_of(token)? {
            None => Claimed::Gone,
            Some(Some(bound)) if bound != *key_sha256 => Claimed::OtherKey,
            Some(Some(_)) => Claimed::Taken(claim),
            Some(None) if self.bind(token, key_sha256)? => Claimed::Taken(claim),
            Some(None) => Claimed::Gone,
        })
    }

    /// For which key a token is, if it is there and for one.
    fn key_of(&self, token: &StoredToken) -> Result<Option<Option<[u8; 32]>>> {
        self.settle(&token.device)?;
        self.with(|db| {
            let select = "SELECT key_sha256 FROM token WHERE device = ?1 AND secret_sha256 = ?2";
            let row = params![token.device.as_str(), token.secret_sha256];
            db.query_row(select, row, |row| row.get(0)).optional()
        })
    }

    /// From now on the token is for this key; false if it is not there any more.
    fn bind(&self, token: &StoredToken, key_sha256: &[u8; 32]) -> Result<bool> {
        let bound = self.with(|db| {
            let update = "UPDATE token SET key_sha256 = ?3 WHERE device = ?1 AND secret_sha256 = ?2";
            db.execute(update, params![token.device.as_str(), token.secret_sha256, key_sha256])
        })?;
        Ok(bound == 1)
    }

    /// Puts back a token that a failed write may have taken off the disk. Without it, no other of its device's is used up:
    /// an old one must not come back after that.
    fn settle(&self, device: &DeviceId) -> Result<()> {
        let mut in_doubt = self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Presented { token, key_sha256 }) = in_doubt.get(device) else { return Ok(()) };
        self.with(|db| {
            // One that the operator has made meanwhile stays.
            db.execute(
                "INSERT OR IGNORE INTO token (device, secret_sha256, expires_ms, key_sha256) VALUES (?1, ?2, ?3, ?4)",
                params![token.device.as_str(), token.secret_sha256, token.expires_ms.cast_signed(), key_sha256],
            )
        })?;
        in_doubt.remove(device);
        Ok(())
    }

    fn claimed(&self) -> MutexGuard<'_, BTreeSet<DeviceId>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        files::blocking(|| {
            let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection).context("the enrolment tokens in hub.sqlite cannot be used")
        })
    }
}

impl Claim<'_> {
    /// Uses the token up. False if the operator has put another one in its place.
    ///
    /// # Errors
    /// The disk's: the token is not used up.
    pub fn spend(self) -> Result<bool> {
        let Presented { token, .. } = &self.presented;
        let spent = self.tokens.with(|db| {
            db.execute(
                "DELETE FROM token WHERE device = ?1 AND secret_sha256 = ?2",
                params![token.device.as_str(), token.secret_sha256],
            )
        });
        if spent.is_err() {
            let mut in_doubt = self.tokens.in_doubt.lock().unwrap_or_else(PoisonError::into_inner);
            in_doubt.insert(token.device.clone(), self.presented.clone());
            drop(in_doubt);
            // It is tried again when somebody asks for it. Until then a hub that is killed may lose the token.
            self.tokens.settle(&token.device)?;
        }
        Ok(spent? == 1)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.tokens.claimed().remove(&self.presented.token.device);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use sealcast_faults::{Fault, mend};
    use sealcast_identity::SigningKey;

    use super::*;

    pub(crate) fn strike(tokens: &Tokens, fault: Fault) -> Result<()> {
        tokens.with(|db| fault.strike(db))
    }

    pub(crate) fn heal(tokens: &Tokens) -> Result<()> {
        tokens.with(mend)
    }

    /// The next deletion fails, as far as its caller is told, and so does the insertion after it.
    fn strike_twice(tokens: &Tokens) -> Result<()> {
        tokens.with(|db| {
            Fault::Persisted.strike(db)?;
            db.execute_batch(
                "CREATE TEMP TRIGGER full BEFORE INSERT ON token BEGIN SELECT RAISE(FAIL, 'the disk is full'); END",
            )
        })
    }

    fn heal_twice(tokens: &Tokens) -> Result<()> {
        heal(tokens)?;
        tokens.with(|db| db.execute_batch("DROP TRIGGER full"))
    }

    fn key() -> PublicKey {
        *SigningKey::generate().unwrap().public()
    }

    fn claim<'a>(tokens: &'a Tokens, token: &StoredToken, key: &PublicKey) -> Result<Option<Claim<'a>>> {
        Ok(match tokens.claim(token.clone(), key)? {
            Claimed::Taken(claim) => Some(claim),
            Claimed::Gone | Claimed::OtherKey => None,
        })
    }

    fn spend(tokens: &Tokens, token: &StoredToken, key: &PublicKey) -> Result<bool> {
        claim(tokens, token, key)?.map_or(Ok(false), Claim::spend)
    }

    #[test]
    fn a_token_is_kept_until_it_is_spent_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let tokens = Tokens::open(dir.path())?;
        let (device, other): (DeviceId, DeviceId) = ("1111".parse()?, "1112".parse()?);
        let token = StoredToken { device: device.clone(), secret_sha256: [1; 32], expires_ms: 1_000 };
        tokens.put(&token)?;
        assert_eq!(tokens.of(&other)?, None);
        assert_eq!(Tokens::open(dir.path())?.of(&device)?, Some(token.clone()));
        let newer = StoredToken { secret_sha256: [2; 32], ..token.clone() };
        let key = key();
        tokens.put(&newer)?;
        assert!(!spend(&tokens, &token, &key)?, "it was replaced");
        let first = claim(&tokens, &newer, &key)?.context("it is free")?;
        assert!(claim(&tokens, &newer, &key)?.is_none(), "another enrolment has it");
        tokens.put(&token)?;
        assert!(!first.spend()?, "it was replaced meanwhile");
        tokens.put(&newer)?;
        drop(claim(&tokens, &newer, &key)?.context("it is free again")?);
        assert!(spend(&tokens, &newer, &key)?);
        assert!(claim(&tokens, &newer, &key)?.is_none(), "it is used up");
        assert_eq!(tokens.of(&device)?, None);
        Ok(())
    }

    #[test]
    fn a_token_is_for_the_first_key_that_it_is_presented_with_until_it_is_made_anew() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let tokens = Tokens::open(dir.path())?;
        let token = StoredToken { device: "1111".parse()?, secret_sha256: [1; 32], expires_ms: 1_000 };
        tokens.put(&token)?;
        let (first, second) = (key(), key());
        drop(claim(&tokens, &token, &first)?.context("it is for none")?);
        let tokens = Tokens::open(dir.path())?;
        assert!(matches!(tokens.claim(token.clone(), &second)?, Claimed::OtherKey));
        drop(claim(&tokens, &token, &first)?.context("it is for this one")?);
        tokens.put(&token)?;
        assert!(spend(&tokens, &token, &second)?);
        Ok(())
    }

    #[test]
    fn a_token_whose_deletion_and_return_both_failed_is_there_again_once_and_replaces_none() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let tokens = Tokens::open(dir.path())?;
        let (device, key): (DeviceId, _) = ("1111".parse()?, key());
        let token = StoredToken { device: device.clone(), secret_sha256: [1; 32], expires_ms: 1_000 };
        let newer = StoredToken { secret_sha256: [2; 32], ..token.clone() };
        for is_replaced in [false, true] {
            tokens.put(&token)?;
            let claim = claim(&tokens, &token, &key)?.context("it is free")?;
            strike_twice(&tokens)?;
            claim.spend().unwrap_err();
            assert_eq!(Tokens::open(dir.path())?.of(&device)?, None, "the deletion is on disk");
            tokens.of(&device).unwrap_err();
            heal_twice(&tokens)?;
            if is_replaced {
                tokens.put(&newer)?;
                assert!(!spend(&tokens, &token, &key)?);
                assert!(spend(&tokens, &newer, &key)?);
            } else {
                assert_eq!(tokens.of(&device)?.as_ref(), Some(&token));
                assert!(matches!(tokens.claim(token.clone(), &self::key())?, Claimed::OtherKey));
                assert!(spend(&tokens, &token, &key)?);
            }
            assert_eq!(tokens.of(&device)?, None, "none comes back");
        }
        Ok(())
    }

    #[test]
    fn a_token_whose_write_failed_is_neither_lost_nor_good_for_two() -> Result<()> {
        for fault in Fault::ALL {
            let dir = tempfile::tempdir()?;
            let tokens = Tokens::open(dir.path())?;
            let device: DeviceId = "1111".parse()?;
            let token = StoredToken { device: device.clone(), secret_sha256: [1; 32], expires_ms: 1_000 };
            // Made anew: the old one or the new one is there.
            tokens.put(&token)?;
            let newer = StoredToken { secret_sha256: [2; 32], ..token.clone() };
            strike(&tokens, fault)?;
            tokens.put(&newer).unwrap_err();
            let left = if fault.is_persisted() { &newer } else { &token };
            assert_eq!(Tokens::open(dir.path())?.of(&device)?.as_ref(), Some(left), "{fault:?}");
            heal(&tokens)?;
            tokens.put(&newer)?;

            let key = key();
            strike(&tokens, fault)?;
            assert!(spend(&tokens, &newer, &key).is_err(), "{fault:?}: nobody knows for which key it is");
            heal(&tokens)?;
            let claim = claim(&tokens, &newer, &key)?.context("it is free again")?;
            strike(&tokens, fault)?;
            claim.spend().unwrap_err();
            let tokens = Tokens::open(dir.path())?;
            assert_eq!(tokens.of(&device)?.as_ref(), Some(&newer), "{fault:?}");
            assert!(spend(&tokens, &newer, &key)? && !spend(&tokens, &newer, &key)?);
            assert_eq!(Tokens::open(dir.path())?.of(&device)?, None);
        }
        Ok(())
    }

    #[test]
    fn a_file_without_its_table_is_made_by_the_next_start() -> Result<()> {
        let dir = tempfile::tempdir()?;
        files::write(&dir.path().join("hub.sqlite"), b"", files::Mode::Secret)?;
        let token = StoredToken { device: "1111".parse()?, secret_sha256: [1; 32], expires_ms: 1_000 };
        Tokens::open(dir.path())?.put(&token)?;
        assert_eq!(Tokens::open(dir.path())?.of(&token.device)?, Some(token));
        Ok(())
    }
}
