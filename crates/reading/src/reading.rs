//! The one form of data: a value, its unit, and when it was measured.

use std::fmt;

use crate::decimal::Decimal;
use crate::unit::{Unit, UnitError};

/// What was measured. It has no name: the topic, the register or the SenML name stands beside it in [`NamedReading`].
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The value.
    pub value: Value,
    /// Its unit, if the payload or the configuration names one.
    pub unit: Option<Unit>,
    /// When it was measured by the device's clock, Unix ms. `None` if the payload does not say: roughly now.
    pub time_ms: Option<u64>,
    /// The device's own count of its readings, if it keeps one.
    pub sequence: Option<u64>,
}

/// A reading and its name within the payload: SenML's resolved name, a packed field's name, or empty.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedReading {
    /// The name; empty for the formats that hold one value.
    pub name: String,
    /// The reading.
    pub reading: Reading,
}

/// A value of any of SenML's types (RFC 8428 §4.2), or a sign that there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, digits kept.
    Number(Decimal),
    /// A text.
    Text(String),
    /// A state.
    Bool(bool),
    /// Bytes.
    Data(Vec<u8>),
    /// Not a value. It can be read, so that a rule may judge it, and no output format writes it except JSON's null.
    Special(Special),
}

/// What devices send in place of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Not a number.
    Nan,
    /// Infinity.
    PositiveInfinity,
    /// Infinity below zero.
    NegativeInfinity,
    /// JSON's or CBOR's null, CBOR's undefined.
    Null,
    /// Nothing: the message is whole, and the member or record that would hold the value is not in it.
    Absent,
}

impl Reading {
    /// A reading of that value with nothing else known.
    pub fn new(value: Value) -> Self {
        Self { value, unit: None, time_ms: None, sequence: None }
    }

    /// The number, if the value is one.
    pub fn number(&self) -> Option<Decimal> {
        match self.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Whether the message has no value: null stands in its place, or nothing. NaN and the infinities are values, though no
    /// numbers.
    pub fn is_empty(&self) -> bool {
        matches!(self.value, Value::Special(Special::Null | Special::Absent))
    }

    /// Converts a number to another unit; values of other types stay as they are. A number without a unit is refused: nobody
    /// knows what to convert from.
    ///
    /// # Errors
    /// [`ConvertError`].
    pub fn convert(&mut self, to: &Unit) -> Result<(), ConvertError> {
        if let Value::Number(number) = self.value {
            let from = self.unit.as_ref().ok_or_else(|| ConvertError::NoUnit { to: to.clone() })?;
            self.value = Value::Number(from.convert(number, to)?);
            self.unit = Some(to.clone());
        }
        Ok(())
    }
}

/// Why a reading was not converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The reading has no unit.
    #[error("the reading has no unit to convert to `{to}` from: set `unit` for its format")]
    NoUnit {
        /// What was asked for.
        to: Unit,
    },
    /// The units do not convert.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

impl Special {
    /// Reads the words that devices use: `nan`, `inf`, `-inf`, `infinity`, in any case.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        let is = |other: &str| word.eq_ignore_ascii_case(other);
        if is("nan") || is("-nan") || is("+nan") {
            Some(Self::Nan)
        } else if is("inf") || is("+inf") || is("infinity") || is("+infinity") {
            Some(Self::PositiveInfinity)
        } else if is("-inf") || is("-infinity") {
            Some(Self::NegativeInfinity)
        } else {
            None
        }
    }

    pub(crate) fn from_f64(value: f64) -> Option<Self> {
        if value.is_nan() {
            Some(Self::Nan)
        } else if value == f64::INFINITY {
            Some(Self::PositiveInfinity)
        } else if value == f64::NEG_INFINITY {
            Some(Self::NegativeInfinity)
        } else {
            None
        }
    }
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nan => "NaN",
            Self::PositiveInfinity => "inf",
            Self::NegativeInfinity => "-inf",
            Self::Null => "null",
            Self::Absent => "nothing",
        })
    }
}

impl fmt::Display for Value {
    /// For people: data shows its length alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bool(state) => write!(f, "{state}"),
            Self::Data(data) => write!(f, "{} bytes", data.len()),
            Self::Special(special) => write!(f, "{special}"),
        }
    }
}
