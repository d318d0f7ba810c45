//! From bytes to readings, by a declared format.

use base64::Engine as _;
use serde::Deserialize;

use crate::cbor;
use crate::config_error::ConfigError;
use crate::decimal::Decimal;
use crate::fault::{DecodeError, Fault, Position};
use crate::json;
use crate::packed::{Layout, PackedConfig};
use crate::path::{Document, Path};
use crate::reading::{NamedReading, Reading, Special, Value};
use crate::senml::{BASE64, BASE64_STANDARD, Pack};
use crate::time::{TimeFormat, Zone};
use crate::tree::{Kind, MAX_PAYLOAD_BYTES, Node};
use crate::unit::Unit;

/// What a payload is, as it stands in the configuration: `format` and that format's keys. Unknown keys are refused.
///
/// ```toml
/// format = "json"
/// value = "$.main.temp"
/// time = "$.ts"
/// unit = "degF"
/// convert_to = "Cel"
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum InputConfig {
    /// A number as text, or one of the words `nan`, `inf`, `-inf`. Spaces around it are dropped.
    Number(PlainConfig),
    /// A text, as it is.
    Text(PlainConfig),
    /// JSON (RFC 8259), members found by JSONPath (RFC 9535).
    Json(TreeConfig),
    /// CBOR (RFC 8949), members found by JSONPath too: an integer key is named by its digits, `$['1']`.
    Cbor(TreeConfig),
    /// SenML in JSON (RFC 8428 §5).
    SenmlJson(SenmlConfig),
    /// SenML in CBOR (RFC 8428 §6).
    SenmlCbor(SenmlConfig),
    /// Fields at fixed places.
    Packed(PackedConfig),
}

/// For `number` and `text`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainConfig {
    /// The device's unit.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// Numbers are converted to this unit.
    #[serde(default)]
    pub convert_to: Option<Unit>,
}

/// For `json` and `cbor`. Paths select one value; several are refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeConfig {
    /// Path of the value.
    pub value: String,
    /// Of what type the value is.
    #[serde(default, rename = "type")]
    pub kind: ValueType,
    /// Path of the time. Where the payload has none there, or null, the reading has none.
    #[serde(default)]
    pub time: Option<String>,
    /// How the time is written.
    #[serde(default)]
    pub time_format: TimeFormat,
    /// The zone of times that do not say theirs. Without it they are UTC.
    #[serde(default)]
    pub time_zone: Option<Zone>,
    /// Path of the sequence number. Where the payload has none there, or null, the reading has none.
    #[serde(default)]
    pub sequence: Option<String>,
    /// Path of the unit. Where the payload has none there, or null, `unit` counts.
    #[serde(default)]
    pub unit_path: Option<String>,
    /// The device's unit.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// Numbers are converted to this unit.
    #[serde(default)]
    pub convert_to: Option<Unit>,
}

/// For `senml_json` and `senml_cbor`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenmlConfig {
    /// Resolved name of the records to take; without it all are taken.
    #[serde(default)]
    pub select: Option<String>,
    /// The unit of records without one.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// Numbers are converted to this unit.
    #[serde(default)]
    pub convert_to: Option<Unit>,
}

/// Of what type a value is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// What the payload makes of it.
    #[default]
    Auto,
    /// A number, also in quotes.
    Number,
    /// A text; a number gives its digits.
    Text,
    /// A state: true or false, 1 or 0, "on" or "off", "true" or "false", "1" or "0".
    Bool,
    /// Bytes; in JSON as base64, either alphabet.
    Data,
}

/// A format, checked and compiled; shared by any number of topics.
#[derive(Debug, Clone)]
pub struct Decoder {
    format: Format,
}

#[derive(Debug, Clone)]
enum Format {
    Plain { kind: ValueType, config: PlainConfig },
    Json(Tree),
    Cbor(Tree),
    SenmlJson(SenmlConfig),
    SenmlCbor(SenmlConfig),
    Packed(Layout),
}

#[derive(Debug, Clone)]
struct Tree {
    value: Path,
    kind: ValueType,
    time: Option<Path>,
    time_format: TimeFormat,
    time_zone: Zone,
    sequence: Option<Path>,
    unit_path: Option<Path>,
    unit: Option<Unit>,
    convert_to: Option<Unit>,
}

impl Decoder {
    /// Checks a configuration and compiles its paths.
    ///
    /// # Errors
    /// [`ConfigError`]; also where `unit` never converts to `convert_to`.
    pub fn new(config: InputConfig) -> Result<Self, ConfigError> {
        let format = match config {
            InputConfig::Number(config) => Format::Plain { kind: ValueType::Number, config },
            InputConfig::Text(config) => Format::Plain { kind: ValueType::Text, config },
            InputConfig::Json(config) => Format::Json(Tree::new(config)?),
            InputConfig::Cbor(config) => Format::Cbor(Tree::new(config)?),
            InputConfig::SenmlJson(config) => Format::SenmlJson(config),
            InputConfig::SenmlCbor(config) => Format::SenmlCbor(config),
            InputConfig::Packed(config) => {
                for field in &config.fields {
                    check_units(field.unit.as_ref(), field.convert_to.as_ref())?;
                }
                Format::Packed(Layout::new(config)?)
            }
        };
        let (unit, convert_to) = match &format {
            Format::Plain { config, .. } => (&config.unit, &config.convert_to),
            Format::Json(tree) | Format::Cbor(tree) => (&tree.unit, &tree.convert_to),
            Format::SenmlJson(config) | Format::SenmlCbor(config) => (&config.unit, &config.convert_to),
            Format::Packed(_) => (&None, &None),
        };
        check_units(unit.as_ref(), convert_to.as_ref())?;
        Ok(Self { format })
    }

    /// Reads a payload: at least one record, in the payload's order (SenML: in the order of time). A document that is whole
    /// and does not have the value gives a record with [`Special::Absent`]; SenML also where no record has the name.
    ///
    /// `now_ms` is the receiver's Unix time in ms; SenML's relative times need it, and so does a local time that a clock which
    /// was put back shows twice: the nearer one counts.
    ///
    /// # Errors
    /// [`DecodeError`]: nothing of the payload is handed on.
    pub fn decode(&self, payload: &[u8], now_ms: u64) -> Result<Vec<NamedReading>, DecodeError> {
        match &self.format {
            Format::Plain { kind, config } => plain(payload, *kind, config).map(|reading| vec![unnamed(reading)]),
            Format::Json(tree) => tree.read(json::parse(payload)?, now_ms).map(|reading| vec![unnamed(reading)]),
            Format::Cbor(tree) => tree.read(cbor::parse(payload)?, now_ms).map(|reading| vec![unnamed(reading)]),
            Format::SenmlJson(config) => senml(&Pack::from_json(payload)?, config, now_ms),
            Format::SenmlCbor(config) => senml(&Pack::from_cbor(payload)?, config, now_ms),
            Format::Packed(layout) => layout.decode(payload),
        }
    }

    /// Which members the configuration names beside the value: [`Decoder::decode`] gives a reading without them where the
    /// payload does not have them.
    pub fn expects(&self) -> Expected {
        match &self.format {
            Format::Json(tree) | Format::Cbor(tree) => {
                Expected { time: tree.time.is_some(), sequence: tree.sequence.is_some() }
            }
            // Packed fields are there, or the payload is too short; SenML's readings need no time.
            _ => Expected::default(),
        }
    }
}

/// What a format's configuration says that each payload has beside the value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// The time.
    pub time: bool,
    /// The sequence number.
    pub sequence: bool,
}

/// A record of a pack that has no such value.
fn absent(name: &str) -> NamedReading {
    NamedReading { name: name.to_owned(), reading: Reading::new(Value::Special(Special::Absent)) }
}

fn check_units(unit: Option<&Unit>, convert_to: Option<&Unit>) -> Result<(), ConfigError> {
    if let (Some(unit), Some(to)) = (unit, convert_to) {
        unit.convert(Decimal::ZERO, to)?;
    }
    Ok(())
}

fn unnamed(reading: Reading) -> NamedReading {
    NamedReading { name: String::new(), reading }
}

fn plain(payload: &[u8], kind: ValueType, config: &PlainConfig) -> Result<Reading, DecodeError> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(Position::default().error(Fault::TooLarge { bytes: payload.len(), limit: MAX_PAYLOAD_BYTES }));
    }
    let text =
        std::str::from_utf8(payload).map_err(|error| Position::byte(error.valid_up_to()).error(Fault::NotUtf8))?;
    let value = if kind == ValueType::Number {
        let number = text.trim();
        let start = text.len() - text.trim_start().len();
        if number.is_empty() {
            return Err(Position::byte(0).error(Fault::Syntax("payload is empty, expected a number")));
        }
        number_from_text(number).map_err(|error| {
            let within = if let crate::decimal::DecimalError::Syntax { at } = error { at } else { 0 };
            Position::byte(start + within).error(error)
        })?
    } else {
        Value::Text(text.to_owned())
    };
    let mut reading = Reading::new(value);
    reading.unit = config.unit.clone();
    convert(&mut reading, config.convert_to.as_ref()).map_err(|fault| Position::default().error(fault))?;
    Ok(reading)
}

fn number_from_text(text: &str) -> Result<Value, crate::decimal::DecimalError> {
    match Decimal::parse(text) {
        Ok(number) => Ok(Value::Number(number)),
        Err(error) => Special::from_word(text).map(Value::Special).ok_or(error),
    }
}

fn convert(reading: &mut Reading, to: Option<&Unit>) -> Result<(), Fault> {
    match to {
        Some(to) => Ok(reading.convert(to)?),
        None => Ok(()),
    }
}

fn senml(pack: &Pack, config: &SenmlConfig, now_ms: u64) -> Result<Vec<NamedReading>, DecodeError> {
    let resolved = pack.resolve(now_ms)?;
    let wanted = |name: &str| config.select.as_ref().is_none_or(|select| select == name);
    let mut records = Vec::with_capacity(resolved.len());
    for one in resolved.iter().filter(|one| wanted(&one.name)) {
        let mut record = match one.value {
            Some(_) => one.to_record()?,
            // A sum alone.
            None => absent(&one.name),
        };
        if record.reading.unit.is_none() {
            record.reading.unit.clone_from(&config.unit);
        }
        let fail = |fault| Position::path("u").with_record(one.index).error(fault);
        convert(&mut record.reading, config.convert_to.as_ref()).map_err(fail)?;
        records.push(record);
    }
    if records.is_empty() {
        let Some(name) = &config.select else {
            return Err(Position::default().error(Fault::Senml("the pack has base fields and no records")));
        };
        records.push(absent(name));
    }
    Ok(records)
}

impl Tree {
    fn new(config: TreeConfig) -> Result<Self, ConfigError> {
        let path = |key: &'static str, text: &str| {
            Path::parse(text).map_err(|what| ConfigError::Path { key, path: text.to_owned(), what })
        };
        if config.time_zone.is_some() && config.time.is_none() {
            return Err(ConfigError::Zone("it needs a `time`: give that path too"));
        }
        if config.time_zone.is_some() && !config.time_format.wants_zone() {
            return Err(ConfigError::Zone(
                "times in this `time_format` name their own zone: leave one of the two keys out",
            ));
        }
        let optional = |key, text: &Option<String>| text.as_deref().map(|text| path(key, text)).transpose();
        Ok(Self {
            value: path("value", &config.value)?,
            kind: config.kind,
            time: optional("time", &config.time)?,
            time_format: config.time_format,
            time_zone: config.time_zone.unwrap_or_default(),
            sequence: optional("sequence", &config.sequence)?,
            unit_path: optional("unit_path", &config.unit_path)?,
            unit: config.unit,
            convert_to: config.convert_to,
        })
    }

    fn read(&self, root: Node<'_>, now_ms: u64) -> Result<Reading, DecodeError> {
        let document = Document::new(root);
        let value = self.value.select(&document)?;
        let mut reading = Reading::new(match value {
            Some(node) => self.kind.read(node).map_err(|fault| at(&self.value, node, fault))?,
            None => Value::Special(Special::Absent),
        });
        if let Some(path) = &self.time
            && let Some(node) = path.select_some(&document)?
        {
            let time_ms = self.time_format.read(node, &self.time_zone, now_ms);
            reading.time_ms = Some(time_ms.map_err(|fault| at(path, node, fault))?);
        }
        if let Some(path) = &self.sequence
            && let Some(node) = path.select_some(&document)?
        {
            let number = node.number().map_err(|fault| at(path, node, fault))?;
            let whole = number.to_integer().and_then(|whole| u64::try_from(whole).ok());
            reading.sequence = Some(whole.ok_or_else(|| at(path, node, Fault::Sequence))?);
        }
        reading.unit = self.unit.clone();
        if let Some(path) = &self.unit_path
            && let Some(node) = path.select_some(&document)?
        {
            let unit = node.text().and_then(|text| Ok(Unit::new(text)?));
            reading.unit = Some(unit.map_err(|fault| at(path, node, fault))?);
        }
        let Some(node) = value else { return Ok(reading) };
        convert(&mut reading, self.convert_to.as_ref()).map_err(|fault| at(&self.value, node, fault))?;
        Ok(reading)
    }
}

fn at(path: &Path, node: &Node<'_>, fault: Fault) -> DecodeError {
    Position::path(path.as_str()).with_byte(node.at).error(fault)
}

impl ValueType {
    fn read(self, node: &Node<'_>) -> Result<Value, Fault> {
        Ok(match (self, &node.kind) {
            (Self::Auto | Self::Number, Kind::Special(special)) => Value::Special(*special),
            // No value is no value, whatever its type would be.
            (_, Kind::Special(Special::Null)) => Value::Special(Special::Null),
            (Self::Auto | Self::Number, Kind::Literal(_) | Kind::Number(_)) => Value::Number(node.number()?),
            (Self::Number, Kind::Text(text)) => number_from_text(text.trim())?,
            (Self::Number, _) => return Err(node.mismatch("a number")),
            (Self::Auto | Self::Text, Kind::Text(text)) => Value::Text(text.to_string()),
            (Self::Text, Kind::Literal(text)) => Value::Text((*text).to_owned()),
            (Self::Text, Kind::Number(_)) => Value::Text(node.number()?.to_string()),
            (Self::Text, _) => return Err(node.mismatch("a text")),
            (Self::Auto | Self::Bool, Kind::Bool(state)) => Value::Bool(*state),
            (Self::Bool, _) => Value::Bool(state(node)?),
            (Self::Auto | Self::Data, Kind::Bytes(bytes)) => Value::Data(bytes.to_vec()),
            (Self::Data, Kind::Text(text)) => {
                let decoded = BASE64.decode(text.as_bytes()).or_else(|_| BASE64_STANDARD.decode(text.as_bytes()));
                Value::Data(decoded.map_err(|_| Fault::Type { wanted: "base64", found: "another text" })?)
            }
            (Self::Data, _) => return Err(node.mismatch("bytes")),
            (Self::Auto, Kind::Array(_) | Kind::Map(_)) => return Err(node.mismatch("a single value")),
        })
    }
}

fn state(node: &Node<'_>) -> Result<bool, Fault> {
    let wanted = "true or false, 1 or 0, on or off";
    match &node.kind {
        Kind::Text(text) => {
            let is = |words: [&str; 3]| words.iter().any(|word| text.trim().eq_ignore_ascii_case(word));
            if is(["true", "on", "1"]) {
                Ok(true)
            } else if is(["false", "off", "0"]) {
                Ok(false)
            } else {
                Err(Fault::Type { wanted, found: "another text" })
            }
        }
        Kind::Literal(_) | Kind::Number(_) => match node.number()?.to_integer() {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => Err(Fault::Type { wanted, found: "another number" }),
        },
        _ => Err(node.mismatch(wanted)),
    }
}
