//! Packs to JSON and CBOR.

use base64::Engine as _;

use super::labels::{BASE64, Label};
use super::{Pack, PackRecord};
use crate::decimal::Decimal;
use crate::reading::{Special, Value};
use crate::{cbor, json};

/// How JSON is written where RFC 8428 leaves a choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JsonStyle {
    /// Times of seconds since 1970 as `1.320067464e+09`, as RFC 8428's examples have them, and not `1320067464`.
    pub scientific_times: bool,
}

/// Why a pack cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// SenML has no NaN, no infinity and no null (RFC 8428 §4.3).
    #[error("record {record}: SenML cannot carry {special}")]
    Special {
        /// Index of the record.
        record: usize,
        /// What it holds.
        special: Special,
    },
}

/// A field's value on its way out.
enum Field<'a> {
    Text(&'a str),
    Number(Decimal),
    Time(Decimal),
    Integer(u64),
    Bool(bool),
    Data(&'a [u8]),
}

impl Pack {
    /// Writes JSON without insignificant space, fields in the order of RFC 8428's examples.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn to_json(&self, style: JsonStyle) -> Result<String, WriteError> {
        let mut out = String::from("[");
        for (index, record) in self.records.iter().enumerate() {
            out.push_str(if index == 0 { "{" } else { ",{" });
            for (place, (label, field)) in record.fields(index)?.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                json::write_string(&mut out, label.text());
                out.push(':');
                write_json(&mut out, &field, style);
            }
            out.push('}');
        }
        out.push(']');
        Ok(out)
    }

    /// Writes CBOR with definite lengths and integer labels (§6), each number in the shortest form that keeps its digits.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn to_cbor(&self) -> Result<Vec<u8>, WriteError> {
        let mut out = Vec::new();
        cbor::write_array(&mut out, self.records.len());
        for (index, record) in self.records.iter().enumerate() {
            let fields = record.fields(index)?;
            cbor::write_map(&mut out, fields.len());
            for (label, field) in fields {
                cbor::write_integer(&mut out, label.number());
                match field {
                    Field::Text(text) => cbor::write_text(&mut out, text),
                    Field::Number(number) | Field::Time(number) => cbor::write_number(&mut out, number),
                    Field::Integer(number) => cbor::write_integer(&mut out, number.into()),
                    Field::Bool(state) => cbor::write_bool(&mut out, state),
                    Field::Data(data) => cbor::write_bytes(&mut out, data),
                }
            }
        }
        Ok(out)
    }
}

impl PackRecord {
    fn fields(&self, index: usize) -> Result<Vec<(Label, Field<'_>)>, WriteError> {
        let value = match &self.value {
            None => None,
            Some(Value::Number(number)) => Some((Label::Value, Field::Number(*number))),
            Some(Value::Text(text)) => Some((Label::StringValue, Field::Text(text))),
            Some(Value::Bool(state)) => Some((Label::BooleanValue, Field::Bool(*state))),
            Some(Value::Data(data)) => Some((Label::DataValue, Field::Data(data))),
            Some(Value::Special(special)) => return Err(WriteError::Special { record: index, special: *special }),
        };
        let fields = [
            text(Label::BaseName, &self.base_name),
            self.base_time.map(|it| (Label::BaseTime, Field::Time(it))),
            text(Label::BaseUnit, &self.base_unit),
            self.base_version.map(|it| (Label::BaseVersion, Field::Integer(it))),
            self.base_value.map(|it| (Label::BaseValue, Field::Number(it))),
            self.base_sum.map(|it| (Label::BaseSum, Field::Number(it))),
            text(Label::Name, &self.name),
            text(Label::Unit, &self.unit),
            self.time.map(|it| (Label::Time, Field::Time(it))),
            value,
            self.sum.map(|it| (Label::Sum, Field::Number(it))),
            self.update_time.map(|it| (Label::UpdateTime, Field::Number(it))),
        ];
        Ok(fields.into_iter().flatten().collect())
    }
}

fn text(label: Label, field: &Option<String>) -> Option<(Label, Field<'_>)> {
    field.as_deref().map(|field| (label, Field::Text(field)))
}

fn write_json(out: &mut String, field: &Field<'_>, style: JsonStyle) {
    match field {
        Field::Text(text) => json::write_string(out, text),
        Field::Time(time) if style.scientific_times => out.push_str(&scientific(*time)),
        Field::Number(number) | Field::Time(number) => out.push_str(&number.to_string()),
        Field::Integer(number) => out.push_str(&number.to_string()),
        Field::Bool(state) => out.push_str(if *state { "true" } else { "false" }),
        Field::Data(data) => json::write_string(out, &BASE64.encode(data)),
    }
}

/// `1.320067464e+09`; small numbers stay plain.
fn scientific(time: Decimal) -> String {
    let digits = time.mantissa().unsigned_abs().to_string();
    let exponent = digits.len().saturating_sub(1).saturating_sub(usize::from(time.decimals()));
    if exponent < 8 {
        return time.to_string();
    }
    let (first, rest) = digits.split_at(1);
    let rest = rest.trim_end_matches('0');
    let sign = if time.is_negative() { "-" } else { "" };
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}e+{exponent:02}")
}
