//! What names a column, a delimiter or rows, as options say it.

use std::{fmt, str::FromStr};

/// Most columns: as many as spreadsheets have.
pub(super) const MAX_COLUMNS: usize = 16_384;

/// An option's text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CsvOptionError(pub(super) &'static str);

/// What stands between two fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiter(u8);

impl Delimiter {
    /// Those that are looked for.
    pub(super) const KNOWN: [Self; 4] = [Self(b','), Self(b';'), Self(b'\t'), Self(b'|')];
    pub(super) const COMMA: Self = Self(b',');
    pub(super) const SEMICOLON: Self = Self(b';');

    pub(super) const fn byte(self) -> u8 {
        self.0
    }
}

impl FromStr for Delimiter {
    type Err = CsvOptionError;

    fn from_str(text: &str) -> Result<Self, CsvOptionError> {
        match text {
            "comma" => Ok(Self(b',')),
            "semicolon" => Ok(Self(b';')),
            "tab" | "\\t" => Ok(Self(b'\t')),
            "pipe" => Ok(Self(b'|')),
            "space" => Ok(Self(b' ')),
            other => match other.as_bytes() {
                [byte @ (b'\t' | b' ' | b'!'..=b'~')] if !byte.is_ascii_alphanumeric() && !b"\"+-.".contains(byte) => {
                    Ok(Self(*byte))
                }
                _ => Err(CsvOptionError(
                    "give one character such as , ; | or a word: comma, semicolon, tab, pipe, space",
                )),
            },
        }
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b',' => f.write_str("comma"),
            b';' => f.write_str("semicolon"),
            b'\t' => f.write_str("tab"),
            b'|' => f.write_str("pipe"),
            b' ' => f.write_str("space"),
            other => write!(f, "{}", char::from(other)),
        }
    }
}

/// A column by its name in the header, or by its number from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column(String);

impl Column {
    /// Its place from 0: a name goes before a number, since a header may have numbers for names.
    pub(super) fn find(&self, names: &[String]) -> Option<usize> {
        let exact = names.iter().position(|name| *name == self.0);
        exact.or_else(|| names.iter().position(|name| name.eq_ignore_ascii_case(&self.0)))
    }

    pub(super) fn number(&self, width: usize) -> Option<usize> {
        self.0.parse::<usize>().ok()?.checked_sub(1).filter(|at| *at < width)
    }
}

impl FromStr for Column {
    type Err = CsvOptionError;

    fn from_str(text: &str) -> Result<Self, CsvOptionError> {
        let name = text.trim();
        if name.is_empty() {
            Err(CsvOptionError("give the name of a column, or its number from 1"))
        } else {
            Ok(Self(name.into()))
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Only rows with this value in this column count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column.
    pub column: Column,
    /// What stands in it.
    pub value: String,
}

impl FromStr for Condition {
    type Err = CsvOptionError;

    fn from_str(text: &str) -> Result<Self, CsvOptionError> {
        let (column, value) =
            text.split_once('=').ok_or(CsvOptionError("give COLUMN=VALUE, for example sensor=kitchen"))?;
        Ok(Self { column: column.parse()?, value: value.trim().to_owned() })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.column, self.value)
    }
}
