//! What a person or a program sees: on standard output tables, or JSON with `--json`; on standard error the log.
//!
//! Standard error may be a file on a full disk, or nobody reads it any more. That must not harm a role, so what cannot be
//! written there is lost; nothing here or elsewhere uses `eprintln!`, which panics.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use serde::Serialize;

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

/// One line on standard error.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// One line on standard output. A reader that went away (`| head`) is not an error.
pub fn line(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// `value` as indented JSON on standard output.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// That a role is ready: as one line of JSON for a program, or in words.
pub fn ready(json: bool, value: &impl Serialize, words: &str) -> Result<()> {
    if json { line(&serde_json::to_string(value)?) } else { line(words) }
}

/// A table with a header, columns as wide as their widest cell.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Result<()> {
    lay_out(header, rows).iter().try_for_each(|row| line(row))
}

fn lay_out<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let rows = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell)));
    let rows: Vec<[String; N]> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let pad = |row: &[String; N]| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(pad).collect()
}

/// Topics and client ids come from brokers and clients, and MQTT lets them have control characters, which a terminal would
/// obey.
pub(crate) fn printable(cell: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    cell.chars().map(escape).collect()
}

/// A time in seconds since the Unix epoch as `2026-11-22 16:45:13Z`.
pub fn utc(time_s: u64) -> String {
    sealcast_reading::utc(time_s.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::{lay_out, utc};

    #[test]
    fn a_cell_makes_no_line_and_moves_no_cursor() {
        let cells = |topic: &str| [topic.to_owned(), "why".to_owned()];
        let rows = [cells("a\u{1b}[2J"), cells("b\nc"), cells("\u{9b}2Kd")];
        assert_eq!(
            lay_out(["TOPIC", "WHY"], &rows),
            ["TOPIC       WHY", "a\\u{1b}[2J  why", "b\\nc        why", "\\u{9b}2Kd   why"]
        );
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
