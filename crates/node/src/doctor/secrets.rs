//! Who may read what only the owner of a folder may.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::Report;

/// The files of `paths` that are there: none of them may be used by others than its owner, and nobody else may put another
/// file in its place.
pub fn check_secrets(report: &mut Report, paths: &[PathBuf]) {
    check_folders(report, paths);
    let mut open = Vec::new();
    let mut count = 0;
    for path in paths {
        // What is missing, or cannot be looked at, is told by the check that needs it.
        let Ok(found) = fs::metadata(path) else { continue };
        count += 1;
        let mode = found.mode() & 0o777;
        if mode & 0o077 != 0 {
            open.push((path.display().to_string(), mode));
        }
    }
    if open.is_empty() {
        return report.ok("permissions", format!("files that only their owner may use: {count}"));
    }
    let names: Vec<String> = open.iter().map(|(name, mode)| format!("{name} (mode {mode:03o})")).collect();
    let paths: Vec<&str> = open.iter().map(|(name, _)| name.as_str()).collect();
    report.fail(
        "permissions",
        format!("others than the owner may use {}", names.join(", ")),
        format!("chmod 600 {}. If others have read a key, replace it: docs/certificates.md", paths.join(" ")),
    );
}

fn check_folders(report: &mut Report, paths: &[PathBuf]) {
    let folders: BTreeSet<&Path> = paths.iter().filter(|path| path.exists()).filter_map(|path| path.parent()).collect();
    for folder in folders {
        let Ok(found) = fs::metadata(folder) else { continue };
        let mode = found.mode() & 0o777;
        // In a folder such as /tmp only a file's owner can replace it.
        let is_sticky = found.mode() & 0o1000 != 0;
        if mode & 0o022 != 0 && !is_sticky {
            let folder = folder.display();
            report.fail(
                "permissions",
                format!("others than its owner may replace the files in {folder} (mode {mode:03o})"),
                format!(
                    "chmod 700 {folder}, and replace the keys in it if others use this machine: docs/certificates.md"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::doctor::CheckVerdict;

    #[test]
    fn a_key_that_others_may_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        let check = |mode| {
            fs::write(&path, "key").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let mut report = Report::new("agent", dir.path());
            check_secrets(&mut report, &[path.clone(), dir.path().join("missing")]);
            report.checks()[0].clone()
        };
        assert_eq!(check(0o600).verdict, CheckVerdict::Ok);
        for mode in [0o640, 0o604, 0o620] {
            let found = check(mode);
            assert_eq!(found.verdict, CheckVerdict::Failure);
            assert!(found.advice.unwrap().contains(&format!("chmod 600 {}", path.display())));
        }
    }

    #[test]
    fn a_folder_in_which_others_may_replace_a_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        fs::write(&path, "key").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for (mode, verdict) in [(0o770, CheckVerdict::Failure), (0o1777, CheckVerdict::Ok), (0o755, CheckVerdict::Ok)] {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let mut report = Report::new("agent", dir.path());
            check_secrets(&mut report, std::slice::from_ref(&path));
            assert_eq!(report.checks()[0].verdict, verdict, "{mode:o}");
        }
    }
}
