//! Whether the disk of a folder has room, and takes writes.

use std::{fs, io, path::Path};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::Report;

/// Below this a database cannot be sure of one more transaction and its log.
const LEAST_BYTES: u64 = 16 << 20;
/// What grows should find this much more.
const ROOM_BYTES: u64 = 128 << 20;
const MAKE_ROOM: &str = "make room on this disk, or move the folder to a larger one. Nothing is acknowledged, sealed or \
                         opened while what it depends on cannot be written";

/// What a disk says of itself.
#[derive(Debug, Clone, Copy)]
struct Disk {
    free_bytes: u64,
    is_read_only: bool,
    /// Files that can still be made; `None` where the file system has no such bound.
    free_files: Option<u64>,
}

/// Free space against what lies in `dir` and has to be written anew now and then.
pub fn check_disk(report: &mut Report, dir: &Path) {
    let disk = match statvfs(dir) {
        Ok(found) => Disk {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            is_read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
            free_files: (found.f_files > 0).then_some(found.f_favail),
        },
        Err(error) => {
            let found = format!("{}: {}", dir.display(), io::Error::from(error));
            return report.fail("disk", found, "give the role's folder, which must be readable for whoever runs this");
        }
    };
    judge(report, disk, used(dir));
}

fn judge(report: &mut Report, disk: Disk, used_bytes: u64) {
    let found = format!("{} are free, {} lie in the folder", size(disk.free_bytes), size(used_bytes));
    if disk.is_read_only {
        report.fail(
            "disk",
            "it is mounted read-only",
            "mount it so that it can be written; the kernel's log says why it is not",
        );
    } else if disk.free_files == Some(0) {
        report.fail("disk", "no more files can be made on it", "remove files that nobody needs from this disk");
    } else if disk.free_bytes < LEAST_BYTES {
        report.fail("disk", found, MAKE_ROOM);
    } else if disk.free_bytes < ROOM_BYTES.max(used_bytes / 10) {
        report.warn("disk", found, MAKE_ROOM);
    } else {
        report.ok("disk", found);
    }
}

/// Bytes of the files in `dir` itself: a role makes no folders in it.
fn used(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|found| found.len()).sum()
}

/// In the unit that a person would use, with one digit after the point.
fn size(bytes: u64) -> String {
    let mut whole = bytes;
    let mut tenths = 0;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (whole, tenths, unit) = (whole / 1024, whole % 1024 * 10 / 1024, next);
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{tenths} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckVerdict::{self, Failure, Ok as Fine, Warning};

    fn verdict(disk: Disk, used_bytes: u64) -> CheckVerdict {
        let mut report = Report::new("agent", Path::new("."));
        judge(&mut report, disk, used_bytes);
        report.checks()[0].verdict
    }

    #[test]
    fn room_is_measured_against_what_lies_there() {
        let disk = |free_bytes| Disk { free_bytes, is_read_only: false, free_files: Some(9) };
        assert_eq!(verdict(disk(15 << 20), 0), Failure);
        assert_eq!(verdict(disk(17 << 20), 0), Warning);
        assert_eq!(verdict(disk(200 << 20), 0), Fine);
        assert_eq!(verdict(disk(200 << 20), 3 << 30), Warning);
        assert_eq!(verdict(Disk { free_files: Some(0), ..disk(1 << 40) }, 0), Failure);
        assert_eq!(verdict(Disk { free_files: None, ..disk(1 << 40) }, 0), Fine);
        assert_eq!(verdict(Disk { is_read_only: true, ..disk(1 << 40) }, 0), Failure);
    }

    #[test]
    fn a_folder_is_measured_and_a_missing_one_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), [0; 2048]).unwrap();
        assert_eq!(used(dir.path()), 2048);
        let mut report = Report::new("agent", dir.path());
        check_disk(&mut report, &dir.path().join("missing"));
        assert_eq!(report.checks()[0].verdict, Failure);
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
