//! Packed binary: registers and radio payloads, by a declared layout.
//!
//! ```toml
//! format = "packed"
//! endian = "big"
//! size = 5
//! fields = [
//!     { name = "temp", at = 0, type = "i16", scale = 0.1, offset = -40, unit = "Cel" },
//!     { name = "open", at = 2, type = "bit", bit = 3 },
//!     { name = "count", at = 3, type = "u16", role = "sequence" },
//! ]
//! ```

use serde::Deserialize;

use crate::config_error::ConfigError;
use crate::decimal::Decimal;
use crate::fault::{DecodeError, Fault, Position};
use crate::reading::{NamedReading, Reading, Special, Value};
use crate::time::TimeFormat;
use crate::tree::MAX_PAYLOAD_BYTES;
use crate::unit::Unit;

/// How many fields a layout may have.
pub const MAX_FIELDS: usize = 256;
/// The longest name of a field, in bytes.
pub const MAX_FIELD_NAME_BYTES: usize = 128;
/// The largest layout, in bytes.
pub const MAX_LAYOUT_BYTES: usize = 65_535;

/// A layout as it stands in the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedConfig {
    /// Byte order of the fields that name none; big by default.
    #[serde(default)]
    pub endian: Endian,
    /// The payload's exact size in bytes. Without it the payload may be longer than the layout needs.
    #[serde(default)]
    pub size: Option<usize>,
    /// The fields, at least one of them a value.
    pub fields: Vec<FieldConfig>,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// The record's name. May be empty if there is one value alone.
    #[serde(default)]
    pub name: String,
    /// Offset of its first byte, from 0.
    pub at: usize,
    /// What stands there.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// For `type = "bit"`: which bit of the byte, 0 is the least significant.
    #[serde(default)]
    pub bit: Option<u8>,
    /// Byte order, if not the layout's.
    #[serde(default)]
    pub endian: Option<Endian>,
    /// The number is multiplied by this first,
    #[serde(default)]
    pub scale: Option<Decimal>,
    /// then this is added. Both are exact.
    #[serde(default)]
    pub offset: Option<Decimal>,
    /// The unit of the result.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// What it is converted to.
    #[serde(default)]
    pub convert_to: Option<Unit>,
    /// What it says: a value by default.
    #[serde(default)]
    pub role: Role,
}

/// The types of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum FieldType {
    U8,
    I8,
    U16,
    I16,
    U24,
    I24,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    /// One bit, a state.
    Bit,
}

/// The order of bytes. The swapped ones have their 16-bit words the other way round, as many Modbus devices do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endian {
    /// `ABCD`.
    #[default]
    Big,
    /// `DCBA`.
    Little,
    /// `CDAB`.
    BigSwapped,
    /// `BADC`.
    LittleSwapped,
}

/// What a field says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A record's value.
    #[default]
    Value,
    /// Unix seconds, for all records of the payload.
    TimeS,
    /// Unix ms, for all records of the payload.
    TimeMs,
    /// The sequence number of all records of the payload.
    Sequence,
}

impl FieldType {
    /// Its size.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bit => 1,
            Self::U16 | Self::I16 => 2,
            Self::U24 | Self::I24 => 3,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// A layout that was checked.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    config: PackedConfig,
    bytes: usize,
}

impl Layout {
    pub fn new(config: PackedConfig) -> Result<Self, ConfigError> {
        let fail = |name: &str, what: &'static str| ConfigError::Layout { field: name.to_owned(), what };
        if config.fields.is_empty() || config.fields.len() > MAX_FIELDS {
            return Err(fail("", "a layout has 1 to 256 fields"));
        }
        let mut bytes = 0;
        let mut values = 0usize;
        let (mut times, mut sequences) = (0usize, 0usize);
        for (index, field) in config.fields.iter().enumerate() {
            let name = field.name.as_str();
            if name.len() > MAX_FIELD_NAME_BYTES {
                return Err(fail("", "a field's name has at most 128 bytes"));
            }
            let end = field.at.checked_add(field.kind.bytes()).filter(|&end| end <= MAX_LAYOUT_BYTES);
            bytes = bytes.max(end.ok_or_else(|| fail(name, "the field lies beyond 65535 bytes"))?);
            let bit = field.kind == FieldType::Bit;
            if bit != field.bit.is_some() || field.bit.is_some_and(|bit| bit > 7) {
                return Err(fail(name, "`type = \"bit\"` and `bit` from 0 to 7 belong together"));
            }
            if bit && (field.scale.is_some() || field.offset.is_some() || field.unit.is_some()) {
                return Err(fail(name, "a bit has no scale, offset or unit"));
            }
            if field.convert_to.is_some() && field.unit.is_none() {
                return Err(fail(name, "`convert_to` needs `unit`"));
            }
            let swapped = matches!(field.endian.unwrap_or(config.endian), Endian::BigSwapped | Endian::LittleSwapped);
            if swapped && field.kind.bytes() == 3 {
                return Err(fail(name, "three bytes have no words to swap"));
            }
            match field.role {
                Role::Value => values += 1,
                Role::TimeS | Role::TimeMs => times += 1,
                Role::Sequence => sequences += 1,
            }
            if field.role != Role::Value && (bit || field.unit.is_some() || field.convert_to.is_some()) {
                return Err(fail(name, "a time or sequence is a number without a unit"));
            }
            let earlier = config.fields.get(..index).unwrap_or_default();
            let twice = |other: &FieldConfig| other.role == Role::Value && other.name == field.name;
            if field.role == Role::Value && earlier.iter().any(twice) {
                return Err(fail(name, "two values have this name"));
            }
        }
        if values == 0 || times > 1 || sequences > 1 {
            return Err(fail("", "a layout has at least one value, and at most one time and one sequence"));
        }
        if let Some(size) = config.size
            && (size < bytes || size > MAX_LAYOUT_BYTES)
        {
            return Err(fail("", "`size` is less than the fields need, or above 65535"));
        }
        Ok(Self { config, bytes })
    }

    pub fn decode(&self, payload: &[u8]) -> Result<Vec<NamedReading>, DecodeError> {
        let wrong = match self.config.size {
            Some(size) => payload.len() != size,
            None => payload.len() < self.bytes || payload.len() > MAX_PAYLOAD_BYTES,
        };
        if wrong {
            let wanted = self.config.size.unwrap_or(self.bytes);
            return Err(Position::byte(payload.len().min(wanted)).error(Fault::Size { bytes: payload.len(), wanted }));
        }
        let mut records = Vec::new();
        let (mut time_ms, mut sequence) = (None, None);
        for field in &self.config.fields {
            let fail = |fault: Fault| Position::path(field.name.as_str()).with_byte(field.at).error(fault);
            let value = self.value(field, payload).map_err(fail)?;
            match (field.role, &value) {
                (Role::Value, _) => {
                    let mut reading = Reading::new(value);
                    reading.unit = field.unit.clone();
                    if let Some(to) = &field.convert_to {
                        reading.convert(to).map_err(|error| fail(error.into()))?;
                    }
                    records.push(NamedReading { name: field.name.clone(), reading });
                }
                (Role::Sequence, Value::Number(number)) => {
                    let whole = number.to_integer().and_then(|whole| u64::try_from(whole).ok());
                    sequence = Some(whole.ok_or_else(|| fail(Fault::Sequence))?);
                }
                (Role::TimeS, Value::Number(number)) => {
                    time_ms = Some(TimeFormat::S.read_number(*number).map_err(fail)?);
                }
                (Role::TimeMs, Value::Number(number)) => {
                    time_ms = Some(TimeFormat::Ms.read_number(*number).map_err(fail)?);
                }
                _ => return Err(fail(Fault::Type { wanted: "a number", found: "a number that is not finite" })),
            }
        }
        for record in &mut records {
            record.reading.time_ms = time_ms;
            record.reading.sequence = sequence;
        }
        Ok(records)
    }

    fn value(&self, field: &FieldConfig, payload: &[u8]) -> Result<Value, Fault> {
        let length = field.kind.bytes();
        let slice = field.at.checked_add(length).and_then(|end| payload.get(field.at..end));
        let slice = slice.ok_or(Fault::Size { bytes: payload.len(), wanted: self.bytes })?;
        let mut bytes = [0u8; 8];
        bytes.iter_mut().zip(slice).for_each(|(to, from)| *to = *from);
        let used = bytes.get_mut(..length).unwrap_or_default();
        let endian = field.endian.unwrap_or(self.config.endian);
        if matches!(endian, Endian::Little | Endian::BigSwapped) {
            used.reverse();
        }
        // Reversed bytes of swapped words are words in order with their bytes swapped: one more exchange in each.
        if matches!(endian, Endian::BigSwapped | Endian::LittleSwapped) {
            used.chunks_exact_mut(2).for_each(<[u8]>::reverse);
        }
        let raw = used.iter().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        let number = match field.kind {
            FieldType::Bit => return Ok(Value::Bool(raw >> field.bit.unwrap_or_default() & 1 == 1)),
            FieldType::F32 => {
                let float = f32::from_bits(u32::try_from(raw).unwrap_or_default());
                if let Some(special) = Special::from_f64(f64::from(float)) {
                    return Ok(Value::Special(special));
                }
                Decimal::from_f32(float)?
            }
            FieldType::F64 => {
                let float = f64::from_bits(raw);
                if let Some(special) = Special::from_f64(float) {
                    return Ok(Value::Special(special));
                }
                Decimal::from_f64(float)?
            }
            FieldType::I8 | FieldType::I16 | FieldType::I24 | FieldType::I32 | FieldType::I64 => {
                let unused = 64 - 8 * u32::try_from(length).unwrap_or_default();
                Decimal::from((raw << unused).cast_signed() >> unused)
            }
            FieldType::U8 | FieldType::U16 | FieldType::U24 | FieldType::U32 | FieldType::U64 => Decimal::from(raw),
        };
        let scaled = match field.scale {
            Some(scale) => number.checked_mul(scale),
            None => Some(number),
        };
        let moved = match field.offset {
            Some(offset) => scaled.and_then(|scaled| scaled.checked_add(offset)),
            None => scaled,
        };
        moved.map(Value::Number).ok_or(Fault::Number(crate::decimal::DecimalError::TooLarge))
    }
}
