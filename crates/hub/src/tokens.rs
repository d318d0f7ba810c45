//! Enrolment tokens: made by the operator, used once. The hub keeps the SHA-256 of the secret, not the secret.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OptionalExtension as _, params};
use sealcast_identity::{DeviceId, StoredToken};
use sealcast_node::files;

/// `hub.sqlite`. The command line writes it while a hub runs on it.
pub struct Tokens {
    connection: Mutex<Connection>,
    /// Devices whose tokens are [`Claim`]ed.
    claimed: Mutex<BTreeSet<DeviceId>>,
}

/// A token in the hands of one enrolment, which alone can use it up. Given back when dropped: it can then be used again.
#[must_use]
pub struct Claim<'a> {
    tokens: &'a Tokens,
    token: StoredToken,
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
                 (device TEXT PRIMARY KEY, secret_sha256 BLOB NOT NULL, expires_ms INTEGER NOT NULL) WITHOUT ROWID",
            )?;
            Ok(connection)
        };
        let connection = attempt().with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Self { connection: Mutex::new(connection), claimed: Mutex::default() })
    }

    /// Keeps a token, in place of one that its device may have.
    pub fn put(&self, token: &StoredToken) -> Result<()> {
        self.with(|db| {
            db.execute(
                "INSERT OR REPLACE INTO token (device, secret_sha256, expires_ms) VALUES (?1, ?2, ?3)",
                params![token.device.as_str(), token.secret_sha256, token.expires_ms.cast_signed()],
            )
        })?;
        Ok(())
    }

    /// The token of `device` that was not used yet, expired or not.
    pub fn of(&self, device: &DeviceId) -> Result<Option<StoredToken>> {
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

    /// Takes a token for one enrolment. `None` if another one has it, or it is not there any more.
    pub fn claim(&self, token: StoredToken) -> Result<Option<Claim<'_>>> {
        if !self.claimed().insert(token.device.clone()) {
            return Ok(None);
        }
        let claim = Claim { tokens: self, token };
        // The enrolment before may have used it up since it was read.
        let is_there = self.of(&claim.token.device)?.as_ref() == Some(&claim.token);
        Ok(is_there.then_some(claim))
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
        let Self { tokens, token } = &self;
        let spent = tokens.with(|db| {
            db.execute(
                "DELETE FROM token WHERE device = ?1 AND secret_sha256 = ?2",
                params![token.device.as_str(), token.secret_sha256],
            )
        });
        if spent.is_err() {
            // It may be off the disk all the same, and nobody has got anything for it.
            tokens.with(|db| {
                db.execute(
                    "INSERT OR IGNORE INTO token (device, secret_sha256, expires_ms) VALUES (?1, ?2, ?3)",
                    params![token.device.as_str(), token.secret_sha256, token.expires_ms.cast_signed()],
                )
            })?;
        }
        Ok(spent? == 1)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.tokens.claimed().remove(&self.token.device);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use sealcast_faults::{Fault, mend};

    use super::*;

    pub(crate) fn strike(tokens: &Tokens, fault: Fault) -> Result<()> {
        tokens.with(|db| fault.strike(db))
    }

    pub(crate) fn heal(tokens: &Tokens) -> Result<()> {
        tokens.with(mend)
    }

    fn spend(tokens: &Tokens, token: &StoredToken) -> Result<bool> {
        tokens.claim(token.clone())?.map_or(Ok(false), Claim::spend)
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
        tokens.put(&newer)?;
        assert!(!spend(&tokens, &token)?, "it was replaced");
        let claim = tokens.claim(newer.clone())?.context("it is free")?;
        assert!(tokens.claim(newer.clone())?.is_none(), "another enrolment has it");
        tokens.put(&token)?;
        assert!(!claim.spend()?, "it was replaced meanwhile");
        tokens.put(&newer)?;
        drop(tokens.claim(newer.clone())?.context("it is free again")?);
        assert!(spend(&tokens, &newer)?);
        assert!(tokens.claim(newer)?.is_none(), "it is used up");
        assert_eq!(tokens.of(&device)?, None);
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

            strike(&tokens, fault)?;
            spend(&tokens, &newer).unwrap_err();
            let tokens = Tokens::open(dir.path())?;
            assert_eq!(tokens.of(&device)?.as_ref(), Some(&newer), "{fault:?}");
            assert!(spend(&tokens, &newer)? && !spend(&tokens, &newer)?);
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
