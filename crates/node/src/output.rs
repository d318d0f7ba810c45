//! What a person or a program sees: on standard output tables, or JSON with `--json`; on standard error the log.
//!
//! Standard error may be a file on a full disk, or nobody reads it any more. That must not harm a role, so what cannot be
//! written there is lost; nothing here or elsewhere uses `eprintln!`, which panics.

mod printable;
mod table;

use std::io::{IsTerminal, Write};

use anyhow::Result;
use serde::Serialize;

pub use self::{
    printable::printable,
    table::{Column, table, table_or},
};

/// Whether `stream` takes colour: a terminal, and `NO_COLOR` is not set (<https://no-color.org>).
pub fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Standard error, where writing never fails.
pub struct Complaints;

impl Write for Complaints {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A complaint on standard error. It may quote what others have sent.
pub fn complain(text: &str) {
    let safe = text.split('\n').map(printable).collect::<Vec<_>>().join("\n");
    let _ = writeln!(std::io::stderr().lock(), "{safe}");
}

/// One line on standard output. A reader that went away (`| head`) is not an error: it ends the process.
pub fn line(text: &str) -> Result<()> {
    match try_line(text)? {
        Reader::Listens => Ok(()),
        Reader::Closed => std::process::exit(0),
    }
}

/// Whether somebody reads standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// As far as is known.
    Listens,
    /// Not any more.
    Closed,
}

/// [`line()`] for whoever has something to end before the process does.
pub fn try_line(text: &str) -> Result<Reader> {
    write_line(&mut std::io::stdout().lock(), text)
}

fn write_line(to: &mut impl Write, text: &str) -> Result<Reader> {
    match writeln!(to, "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Closed),
        other => Ok(other.map(|()| Reader::Listens)?),
    }
}

/// `value` as indented JSON on standard output.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// What came of a command: as JSON for a program, or in words.
pub fn outcome(as_json: bool, value: &impl Serialize, words: &str) -> Result<()> {
    if as_json { json(value) } else { line(words) }
}

/// What a role tells of itself while it runs: as one line of JSON for a program, or in words.
pub fn event(json: bool, value: &impl Serialize, words: &str) -> Result<()> {
    if json { line(&serde_json::to_string(value)?) } else { line(words) }
}

/// A time in seconds since the Unix epoch as `2026-11-22 16:45:13Z`.
pub fn utc(time_s: u64) -> String {
    sealcast_reading::utc(time_s.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_told_apart_from_a_failure() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        assert_eq!(write_line(&mut writer, "one").unwrap(), Reader::Listens);
        drop(reader);
        assert_eq!(write_line(&mut writer, "two").unwrap(), Reader::Closed);
        assert!(write_line(&mut [0_u8; 2].as_mut_slice(), "three").is_err());
    }

    #[test]
    fn dates() {
        for (time_s, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_868_799, "2000-02-29 23:59:59Z"),
            (1_795_365_913, "2026-11-22 16:45:13Z"),
        ] {
            assert_eq!(utc(time_s), text);
        }
    }
}
