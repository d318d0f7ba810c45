//! `--keylog`: the groups' keys in a file, so that Wireshark can open what the agent's groups send
//! (`packaging/wireshark/sealcast.lua`). Whoever has the file reads all messages of these epochs.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use sealcast_group::EpochKeys;
use tracing::warn;
use zeroize::Zeroizing;

/// See the module.
pub struct KeyLog {
    path: PathBuf,
    file: Mutex<File>,
}

impl KeyLog {
    /// Appends to the file at `path`. A new one only its owner may read; one that is there and that others may read is refused.
    pub fn open(path: &Path) -> Result<Self> {
        let attempt = || -> Result<File> {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
            let mode = file.metadata()?.mode() & 0o777;
            ensure!(
                mode & 0o077 == 0,
                "others than its owner may use it (mode {mode:03o}): chmod 600 {0}, or delete it",
                path.display()
            );
            Ok(file)
        };
        let file = attempt().with_context(|| format!("cannot write the key log {} (--keylog)", path.display()))?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };

    use super::KeyLog;

    #[test]
    fn a_file_that_others_may_read_gets_no_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.txt");
        KeyLog::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        for mode in [0o644, 0o660, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let said = KeyLog::open(&path).map(drop).unwrap_err();
            assert!(format!("{said:#}").contains("chmod 600"), "{mode:o}: {said:#}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        KeyLog::open(&path).unwrap();
    }
}
