//! From readings to bytes.

use base64::Engine as _;
use serde::Deserialize;

use crate::config_error::ConfigError;
use crate::json;
use crate::reading::{ConvertError, NamedReading, Reading, Special, Value};
use crate::senml::{BASE64, JsonStyle, Pack, PackRecord, VERSION_SECONDARY_UNITS, check_name};
use crate::time::{self, TimeFormat, ms_to_seconds};
use crate::unit::{Standing, Unit};

/// What is written, as it stands in the configuration. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum OutputConfig {
    /// The number as text; a state is 1 or 0.
    Number(NumberOutput),
    /// One JSON object; for several records an array of them.
    Json(JsonOutput),
    /// A SenML pack in JSON (RFC 8428 §5).
    SenmlJson(SenmlOutput),
    /// A SenML pack in CBOR (RFC 8428 §6).
    SenmlCbor(SenmlOutput),
}

/// For `number`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberOutput {
    /// Numbers are converted to this unit.
    #[serde(default)]
    pub convert_to: Option<Unit>,
    /// Numbers are rounded to at most so many decimals, half to even. By default all digits are kept.
    #[serde(default)]
    pub decimals: Option<u8>,
}

/// For `json`. A member whose name is empty is not written, nor is one that the reading does not have.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JsonOutput {
    /// Numbers are converted to this unit.
    pub convert_to: Option<Unit>,
    /// Numbers are rounded to at most so many decimals, half to even.
    pub decimals: Option<u8>,
    /// Member for the record's name.
    pub name: String,
    /// Member for the value. Data is base64 in the URL-safe alphabet.
    pub value: String,
    /// Member for the unit.
    pub unit: String,
    /// Member for the time.
    pub time: String,
    /// How the time is written; `auto` is Unix ms.
    pub time_format: TimeFormat,
    /// Member for the sequence number.
    pub sequence: String,
}

impl Default for JsonOutput {
    fn default() -> Self {
        Self {
            convert_to: None,
            decimals: None,
            name: "name".to_owned(),
            value: "value".to_owned(),
            unit: "unit".to_owned(),
            time: "time".to_owned(),
            time_format: TimeFormat::Auto,
            sequence: "sequence".to_owned(),
        }
    }
}

/// For `senml_json` and `senml_cbor`. SenML has no sequence number; it is not written. A unit that no registry has is written as
/// the device named it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenmlOutput {
    /// Put before each record's name; alone it names records without one. Globally unique, as `urn:dev:mac:0024befffe804ff1:`.
    #[serde(default)]
    pub name: String,
    /// Numbers are converted to this unit.
    #[serde(default)]
    pub convert_to: Option<Unit>,
    /// Numbers are rounded to at most so many decimals, half to even.
    #[serde(default)]
    pub decimals: Option<u8>,
    /// Keep secondary units (`kWh`, RFC 8798) and say so by version 26 (RFC 9100). By default they are converted to their
    /// primary unit (`J`), which every reader of RFC 8428 knows.
    #[serde(default)]
    pub secondary_units: bool,
}

/// Why readings cannot be written in a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// No record, or several for a format that holds one.
    #[error("the format holds one reading, there are {count}")]
    Count {
        /// How many.
        count: usize,
    },
    /// The value is of a type that the format does not hold.
    #[error("record {record}: {format} cannot carry {what}")]
    Type {
        /// Index of the record.
        record: usize,
        /// The format.
        format: &'static str,
        /// What the value is.
        what: String,
    },
    /// Units that do not convert.
    #[error("record {record}: {source}")]
    Convert {
        /// Index of the record.
        record: usize,
        /// Why.
        source: ConvertError,
    },
    /// No name, or one that SenML does not allow.
    #[error("record {record}: SenML name `{name}`: {what}; set `name` in the output's configuration")]
    Name {
        /// Index of the record.
        record: usize,
        /// The name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A time that SenML would take to be relative (before July 1978).
    #[error("record {record}: time {time_ms} ms is before 2^28 s, which SenML reads as relative to now")]
    Time {
        /// Index of the record.
        record: usize,
        /// The time.
        time_ms: u64,
    },
}

/// An output format, checked.
#[derive(Debug, Clone)]
pub struct Encoder {
    config: OutputConfig,
}

impl Encoder {
    /// Checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError::Name`].
    pub fn new(config: OutputConfig) -> Result<Self, ConfigError> {
        if let OutputConfig::SenmlJson(output) | OutputConfig::SenmlCbor(output) = &config
            && !output.name.is_empty()
        {
            let fail = |what: String| ConfigError::Name { key: "name", name: output.name.clone(), what };
            check_name(&output.name).map_err(|fault| fail(fault.to_string()))?;
        }
        if let OutputConfig::Json(output) = &config {
            let names = [&output.name, &output.value, &output.unit, &output.time, &output.sequence];
            let twice = names
                .iter()
                .enumerate()
                .find(|(index, name)| !name.is_empty() && names.iter().skip(index + 1).any(|other| other == *name));
            if let Some((_, name)) = twice {
                let what = "two members have this name".to_owned();
                return Err(ConfigError::Name { key: "json", name: (*name).clone(), what });
            }
        }
        Ok(Self { config })
    }

    /// Writes readings. Digits are kept, unless a conversion or `decimals` asks otherwise.
    ///
    /// # Errors
    /// [`EncodeError`]; nothing is written.
    pub fn encode(&self, records: &[NamedReading]) -> Result<Vec<u8>, EncodeError> {
        if records.is_empty() {
            return Err(EncodeError::Count { count: 0 });
        }
        match &self.config {
            OutputConfig::Number(output) => number(records, output),
            OutputConfig::Json(output) => plain_json(records, output),
            OutputConfig::SenmlJson(output) => {
                let json = pack(records, output)?.to_json(JsonStyle::default());
                json.map(String::into_bytes).map_err(special)
            }
            OutputConfig::SenmlCbor(output) => pack(records, output)?.to_cbor().map_err(special),
        }
    }

    /// The MQTT content type or HTTP media type of what is written.
    pub fn media_type(&self) -> &'static str {
        match self.config {
            OutputConfig::Number(_) => "text/plain",
            OutputConfig::Json(_) => "application/json",
            OutputConfig::SenmlJson(_) => "application/senml+json",
            OutputConfig::SenmlCbor(_) => "application/senml+cbor",
        }
    }
}

fn special(error: crate::senml::WriteError) -> EncodeError {
    let crate::senml::WriteError::Special { record, special } = error;
    EncodeError::Type { record, format: "SenML", what: special.to_string() }
}

/// The reading as it is to be written: converted, then rounded.
fn prepared(record: usize, reading: &Reading, to: Option<&Unit>, decimals: Option<u8>) -> Result<Reading, EncodeError> {
    let mut reading = reading.clone();
    if let Some(to) = to {
        reading.convert(to).map_err(|source| EncodeError::Convert { record, source })?;
    }
    if let (Value::Number(number), Some(decimals)) = (&reading.value, decimals) {
        reading.value = Value::Number(number.round(decimals));
    }
    Ok(reading)
}

fn number(records: &[NamedReading], output: &NumberOutput) -> Result<Vec<u8>, EncodeError> {
    let [record] = records else { return Err(EncodeError::Count { count: records.len() }) };
    let reading = prepared(0, &record.reading, output.convert_to.as_ref(), output.decimals)?;
    match reading.value {
        Value::Number(number) => Ok(number.to_string().into_bytes()),
        Value::Bool(state) => Ok(vec![b'0' + u8::from(state)]),
        other => Err(EncodeError::Type { record: 0, format: "a plain number", what: other.to_string() }),
    }
}

fn plain_json(records: &[NamedReading], output: &JsonOutput) -> Result<Vec<u8>, EncodeError> {
    let mut out = String::new();
    let several = records.len() > 1;
    if several {
        out.push('[');
    }
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let reading = prepared(index, &record.reading, output.convert_to.as_ref(), output.decimals)?;
        write_object(&mut out, index, &record.name, &reading, output)?;
    }
    if several {
        out.push(']');
    }
    Ok(out.into_bytes())
}

fn write_object(
    out: &mut String,
    index: usize,
    name: &str,
    reading: &Reading,
    output: &JsonOutput,
) -> Result<(), EncodeError> {
    let quoted = |text: &str| {
        let mut out = String::with_capacity(text.len() + 2);
        json::write_string(&mut out, text);
        out
    };
    let value = match &reading.value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => quoted(text),
        Value::Bool(state) => state.to_string(),
        Value::Data(data) => quoted(&BASE64.encode(data)),
        Value::Special(Special::Null) => "null".to_owned(),
        Value::Special(other) => {
            return Err(EncodeError::Type { record: index, format: "JSON", what: other.to_string() });
        }
    };
    let time = reading.time_ms.map(|time_ms| match output.time_format {
        TimeFormat::Rfc3339 => quoted(&time::write_rfc3339(time_ms)),
        format => time::write_number(format, time_ms).to_string(),
    });
    let members = [
        (&output.name, (!name.is_empty()).then(|| quoted(name))),
        (&output.value, Some(value)),
        (&output.unit, reading.unit.as_ref().map(|unit| quoted(unit.as_str()))),
        (&output.time, time),
        (&output.sequence, reading.sequence.map(|sequence| sequence.to_string())),
    ];
    out.push('{');
    let present = members.iter().filter(|(member, _)| !member.is_empty());
    let present = present.filter_map(|(member, text)| text.as_ref().map(|text| (member, text)));
    for (place, (member, text)) in present.enumerate() {
        if place > 0 {
            out.push(',');
        }
        json::write_string(out, member);
        out.push(':');
        out.push_str(text);
    }
    out.push('}');
    Ok(())
}

fn pack(records: &[NamedReading], output: &SenmlOutput) -> Result<Pack, EncodeError> {
    let mut secondary = false;
    let mut written = Vec::with_capacity(records.len());
    for (index, record) in records.iter().enumerate() {
        let mut reading = prepared(index, &record.reading, output.convert_to.as_ref(), None)?;
        if let Some(unit) = &reading.unit {
            let carried = match unit.standing() {
                Some(Standing::Secondary) if output.secondary_units => {
                    secondary = true;
                    None
                }
                Some(Standing::Secondary | Standing::Other) => unit.to_primary(),
                _ => None,
            };
            if let Some(carried) = carried {
                reading.convert(&carried).map_err(|source| EncodeError::Convert { record: index, source })?;
            }
        }
        let reading = prepared(index, &reading, None, output.decimals)?;
        let name = format!("{}{}", output.name, record.name);
        if let Err(fault) = check_name(&name) {
            return Err(EncodeError::Name { record: index, name, what: fault.to_string() });
        }
        if let Some(time_ms) = reading.time_ms.filter(|&time_ms| time_ms < (1 << 28) * 1000) {
            return Err(EncodeError::Time { record: index, time_ms });
        }
        written.push(PackRecord {
            name: Some(name),
            unit: reading.unit.map(|unit| unit.as_str().to_owned()),
            time: reading.time_ms.map(ms_to_seconds),
            value: Some(reading.value),
            ..PackRecord::default()
        });
    }
    if secondary && let Some(first) = written.first_mut() {
        first.base_version = Some(VERSION_SECONDARY_UNITS);
    }
    Ok(Pack { records: written })
}
