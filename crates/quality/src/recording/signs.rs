//! The signs in a number: before its decimals and between its thousands.

use std::{fmt, str::FromStr};

use super::cell::CsvOptionError;

/// The sign before the decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalSign {
    /// `21.5`
    Point,
    /// `21,5`
    Comma,
}

/// The sign between thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thousands {
    /// `1,200.5`
    Comma,
    /// `1.200,5`
    Point,
    /// `1 200,5`, also with a no-break space.
    Space,
    /// `1'200.5`
    Apostrophe,
}

impl FromStr for DecimalSign {
    type Err = CsvOptionError;

    fn from_str(text: &str) -> Result<Self, CsvOptionError> {
        match text {
            "." | "point" => Ok(Self::Point),
            "," | "comma" => Ok(Self::Comma),
            _ => Err(CsvOptionError("give point or comma")),
        }
    }
}

impl fmt::Display for DecimalSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Point => "point",
            Self::Comma => "comma",
        })
    }
}

impl FromStr for Thousands {
    type Err = CsvOptionError;

    fn from_str(text: &str) -> Result<Self, CsvOptionError> {
        match text {
            "," | "comma" => Ok(Self::Comma),
            "." | "point" => Ok(Self::Point),
            " " | "space" => Ok(Self::Space),
            "'" | "apostrophe" => Ok(Self::Apostrophe),
            _ => Err(CsvOptionError("give comma, point, space or apostrophe")),
        }
    }
}

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comma => "comma",
            Self::Point => "point",
            Self::Space => "space",
            Self::Apostrophe => "apostrophe",
        })
    }
}

impl Thousands {
    /// Whether it is this sign.
    pub(super) fn holds(self, c: char) -> bool {
        match self {
            Self::Comma => c == ',',
            Self::Point => c == '.',
            Self::Space => is_space(c),
            Self::Apostrophe => matches!(c, '\'' | '\u{2019}'),
        }
    }

    /// The decimal sign that is left.
    pub(super) fn decimal(self) -> Option<DecimalSign> {
        match self {
            Self::Comma => Some(DecimalSign::Point),
            Self::Point => Some(DecimalSign::Comma),
            Self::Space | Self::Apostrophe => None,
        }
    }
}

/// The spaces that stand between thousands.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}')
}
