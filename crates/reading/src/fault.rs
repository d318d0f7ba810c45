//! What is wrong with a payload, and where.

use std::fmt;

use crate::decimal::DecimalError;
use crate::reading::ConvertError;
use crate::unit::UnitError;

/// A payload that was not read. Nothing of it was handed on.
///
/// Shown as `at byte 17 ($.temp): expected a number, found a text`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{position}{fault}")]
pub struct DecodeError {
    /// Where.
    pub position: Position,
    /// What.
    pub fault: Fault,
}

/// Where in a payload a fault is; as much of it as is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// Offset in bytes from the start of the payload.
    pub byte: Option<usize>,
    /// Index of the SenML record, from 0.
    pub record: Option<usize>,
    /// The JSONPath, the SenML label or the packed field.
    pub path: Option<String>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Larger than [`crate::MAX_PAYLOAD_BYTES`].
    #[error("payload has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// Nested deeper than [`crate::MAX_DEPTH`].
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The bound.
        limit: usize,
    },
    /// More values than [`crate::MAX_NODES`], or records than [`crate::MAX_RECORDS`].
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// Not well-formed.
    #[error("{0}")]
    Syntax(&'static str),
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// The same member twice: which of them counts would be a guess.
    #[error("member `{key}` stands twice in the same object")]
    Duplicate {
        /// The member's name.
        key: String,
    },
    /// The path selects several values.
    #[error("the path selects {count} values, it must select one: narrow it, for example with an index or a filter")]
    Ambiguous {
        /// How many.
        count: usize,
    },
    /// Not of the type that is wanted.
    #[error("expected {wanted}, found {found}")]
    Type {
        /// What was wanted.
        wanted: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A number that cannot be kept.
    #[error(transparent)]
    Number(#[from] DecimalError),
    /// A time that cannot be read, or lies before 1970 or after the year 10000.
    #[error("not a time: {0}")]
    Time(&'static str),
    /// A sequence number that is not an integer from 0 to 2^64 - 1.
    #[error("sequence number must be an integer from 0 to 18446744073709551615")]
    Sequence,
    /// A unit that cannot be kept.
    #[error(transparent)]
    Unit(Box<UnitError>),
    /// A unit that cannot be converted.
    #[error(transparent)]
    Convert(Box<ConvertError>),
    /// A SenML rule is broken (RFC 8428 §4).
    #[error("{0}")]
    Senml(&'static str),
    /// A SenML label that ends in `_` must be understood, and is not (RFC 8428 §4.4).
    #[error("label `{label}` must be understood, and is not (RFC 8428 §4.4)")]
    MustUnderstand {
        /// The label.
        label: String,
    },
    /// A SenML version or feature that is not supported (RFC 9100).
    #[error("SenML version {version} is not supported (RFC 8428 is 10, with secondary units 26)")]
    Version {
        /// `bver`.
        version: u64,
    },
    /// A packed payload of the wrong size.
    #[error("payload has {bytes} bytes, the layout needs {wanted}")]
    Size {
        /// The payload's.
        bytes: usize,
        /// The layout's.
        wanted: usize,
    },
}

impl From<UnitError> for Fault {
    fn from(error: UnitError) -> Self {
        Self::Unit(Box::new(error))
    }
}

impl From<ConvertError> for Fault {
    fn from(error: ConvertError) -> Self {
        Self::Convert(Box::new(error))
    }
}

impl Position {
    /// At that byte.
    pub(crate) fn byte(at: usize) -> Self {
        Self { byte: Some(at), ..Self::default() }
    }

    pub(crate) fn path(path: impl Into<String>) -> Self {
        Self { path: Some(path.into()), ..Self::default() }
    }

    pub(crate) fn with_byte(mut self, at: usize) -> Self {
        self.byte = Some(at);
        self
    }

    pub(crate) fn with_record(mut self, index: usize) -> Self {
        self.record = Some(index);
        self
    }

    pub(crate) fn error(self, fault: impl Into<Fault>) -> DecodeError {
        DecodeError { position: self, fault: fault.into() }
    }
}

impl fmt::Display for Position {
    /// Ends with `: ` unless nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        if let Some(record) = self.record {
            write!(f, "in record {record}")?;
            between = " ";
        }
        if let Some(byte) = self.byte {
            write!(f, "{between}at byte {byte}")?;
            between = " ";
        }
        match &self.path {
            Some(path) if between.is_empty() => write!(f, "{path}: "),
            Some(path) => write!(f, " ({path}): "),
            None if between.is_empty() => Ok(()),
            None => f.write_str(": "),
        }
    }
}
