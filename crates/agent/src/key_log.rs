//! `--keylog`: the groups' keys in a file, so that Wireshark can open what the agent's groups send
//! (`packaging/wireshark/sealcast.lua`). Whoever has the file reads all messages of these epochs.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use sealcast_group::EpochKeys;
use tracing::warn;
use zeroize::Zeroizing;

/// See the module.
pub struct KeyLog {
    path: PathBuf,
    file: Mutex<File>,
}

impl KeyLog {
    /// Appends to the file at `path`. A new one only its owner may read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("cannot write the key log {} (--keylog)", path.display()))?;
        warn!(
            file = %path.display(),
            "--keylog: THE KEYS OF ALL GROUPS ARE WRITTEN IN THE CLEAR. Whoever gets this file can read all messages of the \
             groups, and write such as are not signed. Delete it when you are done, and never run an agent so for long"
        );
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    /// Writes an epoch's base key (RFC 9605, 5.2).
    pub fn put(&self, epoch: &EpochKeys) {
        let key = Zeroizing::new(hex::encode(epoch.secret.as_slice()));
        let (group, generation, number) = (epoch.group, epoch.generation.0, epoch.epoch.0);
        let line = Zeroizing::new(format!("SEALCAST_BASE_KEY {group} {generation} {number} {}\n", *key));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            warn!(file = %self.path.display(), %error, "a key is missing in the key log");
        }
    }
}
