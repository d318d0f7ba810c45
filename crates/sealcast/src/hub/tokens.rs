//! Enrolment tokens: made by the operator, used once. The hub keeps the SHA-256 of the secret, not the secret.

use std::{path::Path, sync::Mutex, sync::PoisonError, time::Duration};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OptionalExtension as _, params};
use sealcast_identity::{DeviceId, StoredToken};

use crate::files;

/// `hub.sqlite`. The command line writes it while a hub runs on it.
pub struct Tokens {
    connection: Mutex<Connection>,
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
        Ok(Self { connection: Mutex::new(connection) })
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

    /// Uses a token up. False if somebody was faster.
    pub fn spend(&self, token: &StoredToken) -> Result<bool> {
        let changed = self.with(|db| {
            db.execute(
                "DELETE FROM token WHERE device = ?1 AND secret_sha256 = ?2",
                params![token.device.as_str(), token.secret_sha256],
            )
        })?;
        Ok(changed == 1)
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        files::blocking(|| {
            let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection).context("the enrolment tokens in hub.sqlite cannot be used")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!tokens.spend(&token)?, "it was replaced");
        assert!(tokens.spend(&newer)?);
        assert!(!tokens.spend(&newer)?);
        assert_eq!(tokens.of(&device)?, None);
        Ok(())
    }
}
