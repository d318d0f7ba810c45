//! Why a file is no recording, where, and which option helps.

use std::fmt;

use super::{
    cell::{Delimiter, MAX_COLUMNS},
    encoding::TextEncoding,
    readings::MAX_READINGS,
    signs::DecimalSign,
};

/// A CSV that is no recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// No readings.
    #[error("there are no readings in it")]
    Empty,
    /// More than [`MAX_READINGS`].
    #[error("there are more than {MAX_READINGS} readings in it: split it")]
    TooMany,
    /// More columns than a spreadsheet has.
    #[error(
        "line {line}: there are more than {MAX_COLUMNS} columns: name what stands between the columns with --delimiter, or \
         export fewer"
    )]
    TooManyColumns {
        /// From 1.
        line: u64,
    },
    /// Bytes that are no text.
    #[error("it is no text in {encoding}: name its encoding with --encoding")]
    Encoding {
        /// The encoding that was named or detected.
        encoding: TextEncoding,
    },
    /// Two characters divide each line.
    #[error("commas and semicolons divide the lines alike: name what stands between the columns with --delimiter")]
    Delimiter,
    /// A row that is too short or too long.
    #[error(
        "line {line}: {found} fields where {wanted} are expected, with {delimiter} between: name what stands between the \
         columns with --delimiter, and put fields that contain it in quotes"
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
        "{place}: a quote stands within the field: put the whole field in quotes, and double those within (RFC 4180)"
    )]
    Quote {
        /// Where.
        place: Place,
    },
    /// A quote that is never closed.
    #[error("line {line}: a quote is opened and never closed")]
    Unclosed {
        /// From 1.
        line: u64,
    },
    /// Another header within the file.
    #[error("line {line}: another table with other columns begins here: export one table, or split the file")]
    AnotherTable {
        /// From 1.
        line: u64,
    },
    /// A column that is not there.
    #[error("{option}: there is no column {column:?}; there are: {columns}")]
    NoSuchColumn {
        /// The option.
        option: &'static str,
        /// What it names.
        column: String,
        /// Those that are there.
        columns: String,
    },
    /// The same column for time and value.
    #[error("--time-column and --value-column name the same column")]
    SameColumn,
    /// No column of times, or several.
    #[error(
        "{what}: name the column of the times with --time-column, and their format with --time-format; there are: {columns}"
    )]
    TimeColumn {
        /// What is wrong.
        what: &'static str,
        /// Those that are there.
        columns: String,
    },
    /// No column of values, or several.
    #[error("{what}: name the column of the values with --value-column; there are: {columns}")]
    ValueColumn {
        /// What is wrong.
        what: &'static str,
        /// Those that come into question.
        columns: String,
    },
    /// No row has what `--where` wants.
    #[error("--where {condition}: no row has that; there are: {values}")]
    NoRow {
        /// The condition.
        condition: String,
        /// What stands in that column.
        values: String,
    },
    /// Several series in one file.
    #[error("there are several series in it: choose one with --where '{column}=…'; there are: {values}")]
    Series {
        /// The column that tells them apart.
        column: String,
        /// What stands in it.
        values: String,
    },
    /// The same sign for decimals and thousands.
    #[error("--decimal and --thousands name the same sign")]
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

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CellFault {
    /// No time, or one that can be read in two ways.
    #[error(
        "is no time: {0}; name the format with --time-format: dmy, mdy, s, ms, us, ns, or a pattern such as '%d/%m/%Y %H:%M'"
    )]
    Time(String),
    /// A count that no clock gives, in a column that does not begin near 0.
    #[error(
        "as seconds since 1970 lies in 1970, and the column does not begin near 0: if it is a count all the same, name its \
         unit with --time-format: s, ms, us or ns; if it is a spreadsheet's count of days, export dates and times as text"
    )]
    Early,
    /// No number.
    #[error("is no number")]
    Number,
    /// A number with more digits than a reading can have.
    #[error("is no number that can be kept: {0}")]
    TooLong(sealcast_reading::DecimalError),
    /// 1,200 may be 1.2 or 1200.
    #[error(
        "can be read in two ways: name the decimal sign with --decimal, and the sign between thousands, if there is one, \
         with --thousands"
    )]
    Ambiguous,
    /// A sign between the digits that is not the decimal sign.
    #[error(
        "has a sign that is not the decimal sign, which is the {0}: if it stands between thousands, name it with --thousands; \
         else name the decimal sign with --decimal"
    )]
    Sign(DecimalSign),
    /// Both signs are in use for decimals.
    #[error("has another decimal sign than line {line}: a file with both cannot be read")]
    Mixed {
        /// Where the other one is.
        line: u64,
    },
    /// The signs between thousands do not divide the digits by three.
    #[error("is not divided by thousands, as --thousands says")]
    Groups,
    /// Another unit than before.
    #[error("is in {found}, line {line} in {first}: export the values in one unit")]
    Unit {
        /// Its unit.
        found: String,
        /// The unit before.
        first: String,
        /// Where that one is.
        line: u64,
    },
}
