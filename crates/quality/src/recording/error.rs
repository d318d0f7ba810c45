//! Why a file is not a recording, where, and which option helps.

use std::fmt;

use super::{
    cell::{Delimiter, MAX_COLUMNS},
    encoding::TextEncoding,
    readings::MAX_READINGS,
    signs::DecimalSign,
};

/// A CSV that is not a recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// No readings.
    #[error("it has no readings")]
    Empty,
    /// More than [`MAX_READINGS`].
    #[error("it has more than {MAX_READINGS} readings: split it")]
    TooMany,
    /// More columns than a spreadsheet has.
    #[error(
        "line {line} has more than {MAX_COLUMNS} columns: name the character between the columns with --delimiter, or \
         export fewer columns"
    )]
    TooManyColumns {
        /// From 1.
        line: u64,
    },
    /// Another format.
    #[error("it is not a CSV but looks like {0}: give a text file with a time and a value in each row")]
    NotCsv(&'static str),
    /// Bytes that are not text in the encoding.
    #[error("it is not {encoding} text: name its encoding with --encoding, for example --encoding windows-1252")]
    Encoding {
        /// The encoding that was named or detected.
        encoding: TextEncoding,
    },
    /// Two characters divide each line.
    #[error(
        "either the comma or the semicolon could separate the columns: name the right one with --delimiter comma or \
         --delimiter semicolon"
    )]
    Delimiter,
    /// A row that is too short or too long.
    #[error(
        "line {line} has {}; {} expected (separator: {delimiter}): name the character between the columns with --delimiter, \
         and put fields that contain it in quotes",
        fields(*found),
        are(*wanted)
    )]
    Fields {
        /// From 1.
        line: u64,
        /// How many there are.
        found: usize,
        /// How many the header, or the first row, has.
        wanted: usize,
        /// What divides them.
        delimiter: Delimiter,
    },
    /// A quote that does not begin or end a field.
    #[error(
        "{place}: the field has a quote inside: put the whole field in quotes, and double each quote inside (RFC 4180)"
    )]
    Quote {
        /// Where.
        place: Place,
    },
    /// A quote that is never closed.
    #[error("line {line} opens a quote that is never closed")]
    Unclosed {
        /// From 1.
        line: u64,
    },
    /// Another header within the file.
    #[error("line {line} begins another table, with other columns: export one table, or split the file")]
    AnotherTable {
        /// From 1.
        line: u64,
    },
    /// A column that is not there.
    #[error("{option}: there is no column {column:?}; the file has: {columns}")]
    NoSuchColumn {
        /// The option.
        option: &'static str,
        /// What it names.
        column: String,
        /// Those that are there.
        columns: String,
    },
    /// The same column for time and value.
    #[error("--time-column and --value-column name the same column: give each its own")]
    SameColumn,
    /// No column of times, or several.
    #[error(
        "{what}: name the column of the times with --time-column, and their format with --time-format; the file has: \
         {columns}"
    )]
    TimeColumn {
        /// What is wrong.
        what: &'static str,
        /// Those that are there.
        columns: String,
    },
    /// No column of values, or several.
    #[error("{what}: name the column of the values with --value-column: {columns}")]
    ValueColumn {
        /// What is wrong.
        what: &'static str,
        /// Those that come into question.
        columns: String,
    },
    /// No row has what `--where` wants.
    #[error("--where {condition}: no row has that value; the column has: {values}")]
    NoRow {
        /// The condition.
        condition: String,
        /// What stands in that column.
        values: String,
    },
    /// Several series in one file.
    #[error("it holds several series: choose one with --where '{column}=…'; the column has: {values}")]
    Series {
        /// The column that tells them apart.
        column: String,
        /// What stands in it.
        values: String,
    },
    /// Several series in one file, by their stamps.
    #[error(
        "it seems to hold several series, one for each {column}: each has its own stamps, which repeat or go back when they \
         are read together; choose one with --where '{column}=…'; the column has: {values}; if it is one series all the \
         same, give --order file or --order time"
    )]
    Interleaved {
        /// The column that tells them apart, by its name or its number from 1.
        column: String,
        /// What stands in it.
        values: String,
    },
    /// The same sign for decimals and thousands.
    #[error("--decimal and --thousands name the same sign: give each its own")]
    SameSign,
    /// A field that cannot be read.
    #[error("{place}: {text:?} {fault}")]
    Cell {
        /// Where.
        place: Place,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        fault: CellFault,
    },
}

/// A field of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: usize,
    /// Its name in the header; empty without one.
    pub name: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " ({})", self.name) }
    }
}

fn fields(count: usize) -> String {
    format!("{count} field{}", if count == 1 { "" } else { "s" })
}

fn are(count: usize) -> String {
    format!("{count} {}", if count == 1 { "is" } else { "are" })
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CellFault {
    /// Not a time, or one that can be read in two ways.
    #[error(
        "is not a time: {0}; name the format with --time-format: dmy, mdy, s, ms, us, ns, or a pattern such as '%d/%m/%Y %H:%M'"
    )]
    Time(String),
    /// A count that no clock gives, in a column that does not begin near 0.
    #[error(
        "would be a time in 1970 if it counted seconds since 1970, and the column does not begin near 0: if it is such a \
         count, name its unit with --time-format: s, ms, us or ns; if it is a spreadsheet's count of days, export dates \
         and times as text"
    )]
    Early,
    /// Not a number.
    #[error("is not a number: expected one such as 21.5 or 21.5 °C, or a word such as unavailable where there is none")]
    Number,
    /// A number with more digits than a reading can have.
    #[error("cannot be kept exactly: {0}")]
    TooLong(sealcast_reading::DecimalError),
    /// 1,200 may be 1.2 or 1200.
    #[error(
        "can be read in two ways: name the decimal sign with --decimal, or the sign between thousands with --thousands"
    )]
    Ambiguous,
    /// A sign between the digits that is not the decimal sign.
    #[error(
        "has a sign other than the decimal sign, which is the {0}: if it separates thousands, name it with --thousands; \
         otherwise name the decimal sign with --decimal"
    )]
    Sign(DecimalSign),
    /// Both signs are in use for decimals.
    #[error("has another decimal sign than line {line}: export all values with one decimal sign")]
    Mixed {
        /// Where the other one is.
        line: u64,
    },
    /// The signs between thousands do not divide the digits by three.
    #[error("is not grouped in threes by the sign that --thousands names")]
    Groups,
    /// Another unit than before.
    #[error("is in {found}, but line {line} is in {first}: export the values in one unit")]
    Unit {
        /// Its unit.
        found: String,
        /// The unit before.
        first: String,
        /// Where that one is.
        line: u64,
    },
}
