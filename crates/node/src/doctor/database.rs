//! Databases of a role, read beside it.
//!
//! Whoever runs `doctor` may be root, and the folder another user's: a database is read as SQLite advises for one that comes from
//! an attacker (<https://sqlite.org/security.html>). It has tables and indexes that hold what they show and nothing that is
//! computed, and reading it ends after some time.

use std::{
    fmt::Write as _,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, limits::Limit};

use super::Report;
use crate::files::{self, Source, beside};

/// How long a writer may keep a reader waiting.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it may take to open a database, which reads a page or two.
const OPENING: Duration = Duration::from_secs(10);
/// How long a database may be read from its opening on, and again from the end of the check of its pages on.
const READING: Duration = Duration::from_secs(300);
/// Steps of SQLite's machine between two looks at the clock: some microseconds.
const STEPS: i32 = 1_000;
/// Largest value that a check reads: entries of the ledger and the state of groups are far smaller.
const MAX_VALUE_BYTES: i32 = 16 << 20;
/// Largest value that a database may hold: more than a packet of MQTT has.
const MAX_STORED_BYTES: i32 = 300 << 20;

/// Opens a database to read it, without making or changing any file. `is_used`: a process has it open.
///
/// # Errors
/// It cannot be opened, is none of a role, or takes too long.
pub fn open_database(path: &Path, is_used: bool) -> Result<Connection> {
    ensure!(path.exists(), "{} is missing", path.display());
    let opened = || -> Result<Connection> {
        check_files(path)?;
        // A file that was replaced by a pipe since that look keeps whoever opens it waiting.
        let (sender, receiver) = mpsc::sync_channel(1);
        let path = path.to_owned();
        thread::spawn(move || {
            // Whoever waits may have given up.
            let _ = sender.send(connect(&path, is_used));
        });
        let Ok(connection) = receiver.recv_timeout(OPENING) else {
            bail!("it could not be opened within {} s", OPENING.as_secs())
        };
        let connection = connection?;
        check_schema(&connection)?;
        Ok(connection)
    };
    opened().with_context(|| format!("cannot read {}", path.display()))
}

/// The files that SQLite opens by themselves. A link in place of one that SQLite makes is not followed.
fn check_files(path: &Path) -> Result<()> {
    files::open(path, Source::File)?;
    for end in ["-wal", "-shm", "-journal"] {
        let beside = beside(path, end);
        match fs::symlink_metadata(&beside) {
            Ok(found) => ensure!(found.is_file(), "{} is not a regular file", beside.display()),
            Err(_) => continue,
        }
    }
    Ok(())
}

fn connect(path: &Path, is_used: bool) -> rusqlite::Result<Connection> {
    let has_log = fs::metadata(beside(path, "-wal")).is_ok_and(|found| found.len() > 0);
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = match (is_used, has_log) {
        (true, _) => Connection::open_with_flags(path, read_only)?,
        // Beside nobody, the log's index is kept in memory: the file for it would need room on the disk.
        (false, true) => {
            let connection = Connection::open_with_flags_and_vfs(path, read_only, c"unix-none")?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection
        }
        // Without a log SQLite would make one to read.
        (false, false) => {
            let name = format!("file:{}?immutable=1", percent_encoded(path));
            Connection::open_with_flags(name, read_only | OpenFlags::SQLITE_OPEN_URI)?
        }
    };
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)?;
    // The conditions of a table are code of whoever made it.
    connection.pragma_update(None, "ignore_check_constraints", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    end_reading(&connection, READING)?;
    // Here the file is read first, and what lies beside it opened.
    connection.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
    Ok(connection)
}

/// From now on reading may take this long: then it is interrupted, whatever it is at.
fn end_reading(connection: &Connection, within: Duration) -> rusqlite::Result<()> {
    let end = Instant::now() + within;
    connection.progress_handler(STEPS, Some(move || Instant::now() >= end))
}

/// Each table holds the rows that it shows: SQLite computes those of a view, of a virtual table, and of generated columns.
fn check_schema(connection: &Connection) -> Result<()> {
    let mut query = connection.prepare("SELECT type, name, coalesce(rootpage, 0) FROM sqlite_schema")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(String, String, i64)> = rows.collect::<rusqlite::Result<_>>()?;
    for (kind, name, page) in rows {
        ensure!(
            page > 0 && (kind == "table" || kind == "index"),
            "it has the {kind} {name}, which is not stored: no role has made it"
        );
        if kind == "table" {
            let mut is_stored = true;
            // As a statement: a table of its own could stand in place of the function with this name.
            connection.pragma(None, "table_xinfo", &name, |column| {
                is_stored &= column.get::<_, i64>("hidden")? == 0;
                Ok(())
            })?;
            ensure!(is_stored, "the table {name} has a generated column: no role has made it");
        }
    }
    Ok(())
}

/// Whether the process that writes a database lets nobody else read it.
pub fn is_kept_to_itself(error: &anyhow::Error) -> bool {
    sqlite_error(error) == Some(ErrorCode::DatabaseBusy)
}

/// Whether reading took too long.
fn is_interrupted(error: &anyhow::Error) -> bool {
    sqlite_error(error) == Some(ErrorCode::OperationInterrupted)
}

fn sqlite_error(error: &anyhow::Error) -> Option<ErrorCode> {
    error.chain().find_map(|source| source.downcast_ref::<rusqlite::Error>())?.sqlite_error_code()
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
        let faults = faults(&connection).with_context(|| format!("cannot read {}", path.display()))?;
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
    if whole.as_ref().is_err_and(is_interrupted) {
        report.warn(
            check,
            format!("{name} was not read to its end: that takes longer than {} s", READING.as_secs()),
            "if it is so large, or the disk so slow, have SQLite check it while the role is stopped: PRAGMA quick_check",
        );
        return None;
    }
    let connection = report.attempt(check, whole, advice)?;
    report.ok(check, format!("{name} is whole"));
    Some(connection)
}

/// What SQLite's check of all pages finds: `ok`, or what is damaged.
fn faults(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_STORED_BYTES)?;
    let mut query = connection.prepare("PRAGMA quick_check(3)")?;
    let faults = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)?;
    end_reading(connection, READING)?;
    Ok(faults)
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
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};

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
        // What a writer leaves that was killed.
        let left = dir.path().join("left");
        let copied = |end: &str| (beside(&path, end), beside(&left, end));
        for (from, to) in ["", "-wal"].map(copied) {
            fs::copy(from, to).unwrap();
        }
        let content = || ["", "-wal"].map(|end| fs::read(beside(&left, end)).unwrap());
        let before = content();
        assert!(!before[1].is_empty());
        let connection = open_database(&left, false).unwrap();
        assert_eq!(connection.query_row("SELECT n FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 7);
        drop(connection);
        assert!(content() == before && !beside(&left, "-shm").exists());
        for end in ["", "-wal"] {
            fs::remove_file(beside(&left, end)).unwrap();
        }
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

    /// What a database can hold in place of a table that would keep its reader for ever, or long enough.
    #[test]
    fn a_database_that_computes_what_it_shows_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n)";
        for (number, (schema, part)) in [
            (format!("CREATE VIEW record AS {endless} SELECT i AS idx, x'' AS bytes FROM n"), "the view record"),
            (format!("CREATE VIEW \"a'b\" AS {endless} SELECT count(*) AS c FROM n"), "the view a'b"),
            ("CREATE TABLE record (idx, bytes AS (zeroblob(900000000)))".to_owned(), "generated column"),
            ("CREATE TABLE t (n NOT NULL AS (idx GLOB '*a*a*a*') STORED, idx)".to_owned(), "generated column"),
            (
                "CREATE TABLE pragma_table_xinfo (hidden, arg HIDDEN); CREATE TABLE t (a, b AS (a))".to_owned(),
                "generated",
            ),
            ("CREATE TABLE t (n); CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END".to_owned(), "the trigger x"),
        ]
        .into_iter()
        .enumerate()
        {
            let path = dir.path().join(number.to_string());
            Connection::open(&path).unwrap().execute_batch(&schema).unwrap();
            let refused = format!("{:#}", open_database(&path, false).unwrap_err());
            assert!(refused.contains(part), "{schema}: {refused}");
            let mut report = Report::new("agent", dir.path());
            assert!(check_database(&mut report, "database", &path, false, "restore it").is_none());
            assert_eq!(report.checks()[0].verdict, Failure);
        }
        // The condition of a table is not asked.
        let path = dir.path().join("check");
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "ignore_check_constraints", true).unwrap();
        writer.execute_batch("CREATE TABLE t (n CHECK (n <> 7)); INSERT INTO t VALUES (7)").unwrap();
        drop(writer);
        let mut report = Report::new("agent", dir.path());
        assert!(check_database(&mut report, "database", &path, false, "restore it").is_some());
    }

    #[test]
    fn what_is_no_file_is_not_opened_as_a_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let refused = |is_used| format!("{:#}", open_database(&path, is_used).unwrap_err());
        mkfifoat(CWD, &path, Mode::RUSR).unwrap();
        assert!(refused(false).contains("it is not a regular file"));
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(refused(true).contains("it is not a regular file"));
        fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
        for end in ["-wal", "-shm", "-journal"] {
            let beside = beside(&path, end);
            mkfifoat(CWD, &beside, Mode::RUSR).unwrap();
            assert!(refused(true).contains(&format!("{end} is not a regular file")));
            fs::remove_file(&beside).unwrap();
            symlink("/etc/passwd", &beside).unwrap();
            assert!(refused(false).contains(&format!("{end} is not a regular file")));
            fs::remove_file(&beside).unwrap();
        }
        open_database(&path, false).unwrap();
    }

    #[test]
    fn reading_ends_after_its_time_and_a_large_value_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let large = format!("CREATE TABLE t (b); INSERT INTO t VALUES (zeroblob({}))", MAX_VALUE_BYTES + 1);
        Connection::open(&path).unwrap().execute_batch(&large).unwrap();
        let mut report = Report::new("agent", dir.path());
        let connection = check_database(&mut report, "database", &path, false, "restore it").unwrap();
        let read = connection.query_row("SELECT b FROM t", [], |row| row.get::<_, Vec<u8>>(0));
        assert_eq!(read.unwrap_err().sqlite_error_code(), Some(ErrorCode::TooBig));
        end_reading(&connection, Duration::from_millis(20)).unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let read = connection.query_row(endless, [], |row| row.get::<_, i64>(0));
        assert!(is_interrupted(&read.unwrap_err().into()));
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
