//! What is checked first of every role's folder: that it is there, its configuration file, and the passphrase of its keys.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Report;
use crate::KeyFiles;

impl Report {
    /// No check yet of the folder `dir` of this role.
    ///
    /// # Errors
    /// There is no such folder: the report says so, and `advice` says which one to give.
    pub fn of_folder(role: &'static str, dir: &Path, advice: &str) -> Result<Self, Self> {
        let mut report = Self::new(role, dir);
        if dir.is_dir() {
            return Ok(report);
        }
        report.fail("folder", format!("there is no folder {}", dir.display()), advice);
        Err(report)
    }

    /// The configuration that was read from the file at `path`, which need not exist unless it `is_given`.
    pub fn configuration<T>(&mut self, path: &Path, is_given: bool, read: Result<T>, advice: &str) -> Option<T> {
        let config = self.attempt("configuration", read, advice)?;
        let found = match is_given || path.exists() {
            true => format!("{} is in order", path.display()),
            false => format!("there is no {}: the defaults hold", path.display()),
        };
        self.ok("configuration", found);
        Some(config)
    }

    /// How private keys are read: with the passphrase in the file that is `configured`, else in the one that is `given`.
    pub fn key_files(&mut self, configured: Option<PathBuf>, given: Option<PathBuf>) -> Option<KeyFiles> {
        let key_files = match (&configured, &given) {
            // A pipe that somebody else may have put there is not waited for.
            (Some(file), given) if Some(file) != given.as_ref() => KeyFiles::configured(file),
            _ => KeyFiles::new(given.as_deref()),
        };
        self.attempt("passphrase", key_files, "name the file with the passphrase (--passphrase-file)")
    }
}
