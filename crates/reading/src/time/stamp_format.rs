//! How the times of a whole file are written.

use std::str::FromStr;

use super::TimeFormat;
use super::stamp::{Stamp, by_pattern, leaves_half_open, parse, year_last};
use super::zone::Zone;
use crate::fault::Fault;

/// Longest pattern of a [`StampFormat`].
pub const MAX_PATTERN_BYTES: usize = 256;

/// How the stamps of a file are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StampFormat {
    /// As a device's stamp.
    Plain(TimeFormat),
    /// `31/03/2024 12:00`, with `/`, `.` or `-`: the day before the month.
    DayFirst,
    /// `03/31/2024 12:00`: the month before the day.
    MonthFirst,
    /// By a pattern of `strptime`: `%d/%m/%y %I:%M %p`.
    Pattern(String),
}

/// A text that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StampFormatError {
    /// Neither a format's name nor a pattern.
    #[error(
        "{0:?} is not a time format: give dmy, mdy, s, ms, us, ns, rfc3339, or a pattern of at most {MAX_PATTERN_BYTES} bytes \
         such as '%d/%m/%Y %H:%M:%S'"
    )]
    Unknown(String),
    /// Half of the day would be a guess.
    #[error(
        "{0:?} has the hours of a 12-hour clock (%I) without AM or PM (%p): add %p, or give %H for hours from 0 to 23"
    )]
    HalfDay(String),
}

impl Default for StampFormat {
    fn default() -> Self {
        Self::Plain(TimeFormat::Auto)
    }
}

impl FromStr for StampFormat {
    type Err = StampFormatError;

    fn from_str(text: &str) -> Result<Self, StampFormatError> {
        Ok(match text {
            "auto" => Self::Plain(TimeFormat::Auto),
            "s" => Self::Plain(TimeFormat::S),
            "ms" => Self::Plain(TimeFormat::Ms),
            "us" => Self::Plain(TimeFormat::Us),
            "ns" => Self::Plain(TimeFormat::Ns),
            "rfc3339" => Self::Plain(TimeFormat::Rfc3339),
            "dmy" => Self::DayFirst,
            "mdy" => Self::MonthFirst,
            pattern if pattern.contains('%') && pattern.len() <= MAX_PATTERN_BYTES => {
                if leaves_half_open(pattern) {
                    return Err(StampFormatError::HalfDay(pattern.to_owned()));
                }
                Self::Pattern(pattern.to_owned())
            }
            other => return Err(StampFormatError::Unknown(other.chars().take(40).collect())),
        })
    }
}

impl StampFormat {
    /// A time from a text; one without an offset is read in `zone`.
    ///
    /// # Errors
    /// [`Fault::Time`], or [`Fault::Number`] where only a number will do.
    pub fn read(&self, text: &str, zone: &Zone) -> Result<Stamp, Fault> {
        let text = text.trim();
        match self {
            Self::Plain(format) => format.read_text(text, zone),
            Self::DayFirst | Self::MonthFirst => {
                let ordered = year_last(text, *self == Self::DayFirst);
                parse(&ordered.ok_or(Fault::Time("expected two digits, two digits, and a year of four"))?, zone)
            }
            Self::Pattern(pattern) => by_pattern(pattern, text, zone),
        }
    }
}
