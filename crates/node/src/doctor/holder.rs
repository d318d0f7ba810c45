//! Which process runs a role on a folder, as Linux tells it: nothing of the folder is taken to find out.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use procfs::{
    LockType,
    process::{FDTarget, Process},
};

use super::Report;
use crate::files::LOCK;

/// The process that has taken a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// `None` where the system does not tell its number, as for one outside of a container.
    pid: Option<i32>,
}

impl Holder {
    /// The one that has taken `dir`, if any has.
    pub fn of(dir: &Path) -> Option<Self> {
        let path = fs::canonicalize(dir.join(LOCK)).ok()?;
        let inode = fs::metadata(&path).ok()?.ino();
        let locks = procfs::locks().ok()?;
        let mut held =
            locks.into_iter().filter(|lock| matches!(lock.lock_type, LockType::FLock) && lock.inode == inode);
        held.find_map(|lock| match lock.pid.filter(|pid| *pid > 0) {
            // Files of several file systems may have one number.
            Some(pid) => has_open(pid, &path).unwrap_or(true).then_some(Self { pid: Some(pid) }),
            None => Some(Self { pid: None }),
        })
    }

    /// The inodes of its sockets; `None` if the system does not show them, as those of another user.
    pub fn sockets(self) -> Option<BTreeSet<u64>> {
        let files = Process::new(self.pid?).ok()?.fd().ok()?;
        let inode = |target| match target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        };
        Some(files.flatten().filter_map(|file| inode(file.target)).collect())
    }
}

fn has_open(pid: i32, path: &Path) -> Option<bool> {
    let mut files = Process::new(pid).ok()?.fd().ok()?;
    Some(files.any(|file| file.is_ok_and(|file| matches!(file.target, FDTarget::Path(open) if open == path))))
}

/// Says whether `role` runs on `dir`.
pub fn check_holder(report: &mut Report, dir: &Path, role: &str) -> Option<Holder> {
    let holder = Holder::of(dir);
    report.ok(
        "process",
        match holder {
            Some(Holder { pid: Some(pid) }) => format!("{role} runs on this folder, as process {pid}"),
            Some(Holder { pid: None }) => format!("{role} runs on this folder"),
            None => format!("{role} does not run on this folder"),
        },
    );
    holder
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    #[test]
    fn whoever_has_a_folder_is_found_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Holder::of(dir.path()), None);
        assert!(!dir.path().join(LOCK).exists());
        let lock = files::lock(dir.path()).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(Holder::of(dir.path()), Some(Holder { pid: Some(pid) }));
        drop(lock);
        assert_eq!(Holder::of(dir.path()), None);
        assert!(dir.path().join(LOCK).exists());
    }
}
