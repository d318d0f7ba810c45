//! Databases of a role, read beside it.

use std::{fmt::Write as _, fs, os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::Report;

/// How long a writer may keep a reader waiting.
const PATIENCE: Duration = Duration::from_millis(500);

/// Opens a database to read it, without making or changing any file. `is_used`: a process has it open.
pub fn open_database(path: &Path, is_used: bool) -> Result<Connection> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = fs::metadata(&log).is_ok_and(|found| found.len() > 0);
    // Without a log there is nothing to share with a writer, and SQLite would make one to read.
    let (name, flags) = match is_used || has_log {
        true => (path.as_os_str().to_owned(), OpenFlags::SQLITE_OPEN_READ_ONLY),
        false => {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            (format!("file:{}?immutable=1", percent_encoded(path)).into(), flags)
        }
    };
    ensure!(path.exists(), "{} is missing", path.display());
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(name, flags)?;
        connection.busy_timeout(PATIENCE)?;
        Ok(connection)
    };
    open().with_context(|| format!("cannot read {}", path.display()))
}

/// Whether the process that writes a database lets nobody else read it.
pub fn is_kept_to_itself(error: &anyhow::Error) -> bool {
    let of = error.chain().find_map(|source| source.downcast_ref::<rusqlite::Error>());
    of.and_then(rusqlite::Error::sqlite_error_code) == Some(ErrorCode::DatabaseBusy)
}

/// Whether a database is whole, by SQLite's own check of all its pages. Gives it for further reading.
pub fn check_database(
    report: &mut Report,
    check: &'static str,
    path: &Path,
    is_used: bool,
    advice: &str,
) -> Option<Connection> {
    let whole = || -> Result<Connection> {
        let connection = open_database(path, is_used)?;
        let faults = connection
            .prepare("PRAGMA quick_check(3)")
            .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>())
            .with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(faults == ["ok"], "{} is damaged: {}", path.display(), faults.join("; "));
        Ok(connection)
    };
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let whole = whole();
    if let (true, Err(error)) = (is_used, &whole)
        && is_kept_to_itself(error)
    {
        report.ok(check, format!("{name} is used by the process that runs, which lets nobody else read it"));
        return None;
    }
    let connection = report.attempt(check, whole, advice)?;
    report.ok(check, format!("{name} is whole"));
    Some(connection)
}

/// As a URI has a path.
fn percent_encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckVerdict::{Failure, Ok as Fine};

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// With a name that a URI would read otherwise.
    #[test]
    fn a_database_is_read_without_a_trace_beside_its_writer_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b%41?c#d.sqlite");
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (7)").unwrap();
        let read = |is_used| -> i64 {
            let connection = open_database(&path, is_used).unwrap();
            connection.query_row("SELECT n FROM t", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(read(true), 7);
        drop(writer);
        let before = names(dir.path());
        assert_eq!(read(false), 7);
        assert_eq!(before, ["a b%41?c#d.sqlite"]);
        assert_eq!(names(dir.path()), before);
    }

    #[test]
    fn a_database_that_its_writer_keeps_to_itself_is_no_failure_while_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "locking_mode", "EXCLUSIVE").unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
        let check = |is_used| {
            let mut report = Report::new("hub", dir.path());
            check_database(&mut report, "database", &path, is_used, "restore it");
            report.checks()[0].clone()
        };
        let found = check(true);
        assert_eq!(found.verdict, Fine, "{found:?}");
        assert!(found.found.contains("lets nobody else read it"), "{found:?}");
        drop(writer);
        assert!(check(false).found.contains("is whole"));
    }

    #[test]
    fn a_damaged_database_and_a_missing_one_are_failures() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let check = || {
            let mut report = Report::new("agent", dir.path());
            check_database(&mut report, "database", &path, false, "restore it");
            report.checks()[0].clone()
        };
        assert_eq!(check().verdict, Failure);
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("CREATE TABLE t (b BLOB); INSERT INTO t VALUES (zeroblob(9000)), (zeroblob(9000))")
            .unwrap();
        drop(writer);
        assert_eq!(check().verdict, Fine);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes.get_mut(4096..middle).unwrap().fill(0xAA);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(check().verdict, Failure, "{:?}", check());
        fs::write(&path, "garbage, and more of it than a header has").unwrap();
        assert_eq!(check().verdict, Failure, "{:?}", check());
    }
}
