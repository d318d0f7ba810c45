//! `[[modbus]]` of `agent.toml`, checked.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealcast_ledger::TopicFilter;
use sealcast_mqtt::TopicName;
use sealcast_node::{config::TableAt, tls::HostPort};
use sealcast_reading::{
    Decimal, Decoder, Encoder, InputConfig, JsonOutput, NumberOutput, OutputConfig, PackedConfig, SenmlOutput, Unit,
    packed::{Endian, FieldConfig, FieldType, Role},
};
use serde::Deserialize;

const MAX_DEVICES: usize = 64;
const MAX_POINTS: usize = 256;

/// `[[modbus]]`: one unit of a device or gateway. Tables that name the same device share its connection.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with device = \"HOST:PORT\"")]
pub struct ModbusFile {
    device: String,
    #[serde(default = "default_unit")]
    unit: u8,
    #[serde(default = "default_period")]
    period_ms: u64,
    #[serde(default = "default_timeout")]
    timeout_ms: u64,
    #[serde(default)]
    read: Vec<ReadFile>,
    #[serde(default)]
    write: Vec<WriteFile>,
}

fn default_unit() -> u8 {
    1
}

fn default_period() -> u64 {
    1_000
}

fn default_timeout() -> u64 {
    2_000
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadFile {
    topic: String,
    table: Table,
    address: u16,
    #[serde(rename = "type")]
    kind: Option<FieldType>,
    #[serde(default)]
    endian: Endian,
    scale: Option<Decimal>,
    offset: Option<Decimal>,
    unit: Option<Unit>,
    convert_to: Option<Unit>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    retain: bool,
    period_ms: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteFile {
    topic: String,
    table: Table,
    address: u16,
    #[serde(rename = "type")]
    kind: Option<FieldType>,
    #[serde(default)]
    endian: Endian,
    scale: Option<Decimal>,
    offset: Option<Decimal>,
    min: Option<Decimal>,
    max: Option<Decimal>,
}

/// The four tables of a Modbus device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Bits, read and written.
    Coil,
    /// Bits, read only.
    Discrete,
    /// 16-bit registers, read only.
    Input,
    /// 16-bit registers, read and written.
    Holding,
}

impl Table {
    /// Whether it holds bits.
    pub fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }
}

/// How a value is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// The number as text.
    #[default]
    Number,
    /// `{"name": …, "value": …, "unit": …, "time": …}`.
    Json,
    /// A SenML pack in JSON.
    SenmlJson,
}

/// A Modbus device, or a gateway to several, checked.
#[derive(Debug, Clone)]
pub struct Modbus {
    /// Where it listens.
    pub device: HostPort,
    /// What answers there: at least one, each with another identifier.
    pub units: Vec<ModbusUnit>,
}

/// One unit of a Modbus device or gateway.
#[derive(Debug, Clone)]
pub struct ModbusUnit {
    /// Its unit identifier.
    pub unit: u8,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// What is polled.
    pub reads: Vec<Read>,
    /// What is written.
    pub writes: Vec<Write>,
}

/// A value that is polled.
#[derive(Debug, Clone)]
pub struct Read {
    /// Where it is published.
    pub topic: TopicName,
    /// Where it stands in the device.
    pub table: Table,
    /// Its first address, from 0.
    pub address: u16,
    /// How many bits or registers.
    pub count: u16,
    /// Bytes to value.
    pub decoder: Decoder,
    /// Value to payload.
    pub encoder: Encoder,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// How often.
    pub period: Duration,
}

/// A value that is written.
#[derive(Debug, Clone)]
pub struct Write {
    /// What commands it.
    pub topic: TopicFilter,
    /// Where it stands in the device.
    pub table: Table,
    /// Its first address, from 0.
    pub address: u16,
    /// What stands there; not for a coil.
    pub kind: FieldType,
    /// The order of its bytes.
    pub endian: Endian,
    /// A register times this
    pub scale: Decimal,
    /// plus this is the value.
    pub offset: Decimal,
    /// Least value that is written.
    pub min: Option<Decimal>,
    /// Greatest value that is written.
    pub max: Option<Decimal>,
    /// Finds the value in a JSON object.
    pub json: Decoder,
}

/// Checks all tables and puts those of one device together.
pub fn devices(tables: Vec<ModbusFile>) -> Result<Vec<Modbus>> {
    ensure!(tables.len() <= MAX_DEVICES, "modbus: at most {MAX_DEVICES} tables are allowed");
    let mut devices: Vec<Modbus> = Vec::new();
    for (at, table) in tables.into_iter().enumerate() {
        let which = format!("device = {:?}, unit = {}", table.device, table.unit);
        let named = || TableAt { key: "modbus", number: at + 1, which: which.clone() };
        let (device, unit) = table.validate().with_context(named)?;
        let Some(known) = devices.iter_mut().find(|known| known.device == device) else {
            devices.push(Modbus { device, units: vec![unit] });
            continue;
        };
        match known.units.iter_mut().find(|other| other.unit == unit.unit) {
            None => known.units.push(unit),
            Some(other) => {
                other.timeout = other.timeout.max(unit.timeout);
                other.reads.extend(unit.reads);
                other.writes.extend(unit.writes);
                one_topic_for_each_write(&other.writes).with_context(named)?;
            }
        }
    }
    Ok(devices)
}

fn one_topic_for_each_write(writes: &[Write]) -> Result<()> {
    let mut targets = BTreeSet::new();
    for write in writes {
        ensure!(
            targets.insert((write.table, write.address)),
            "write: address {} is named twice: let one topic command it",
            write.address
        );
    }
    Ok(())
}

impl ModbusFile {
    fn validate(self) -> Result<(HostPort, ModbusUnit)> {
        let device = self.device.parse().context("device")?;
        let period = |key: &str, ms: u64| {
            ensure!((10..=86_400_000).contains(&ms), "{key}: must be from 10 to 86400000");
            Ok(Duration::from_millis(ms))
        };
        let default = period("period_ms", self.period_ms)?;
        ensure!((10..=60_000).contains(&self.timeout_ms), "timeout_ms: must be from 10 to 60000");
        ensure!(
            self.read.len() + self.write.len() > 0,
            "there is neither a [[modbus.read]] nor a [[modbus.write]] table: add one"
        );
        ensure!(
            self.read.len() <= MAX_POINTS && self.write.len() <= MAX_POINTS,
            "at most {MAX_POINTS} reads and as many writes are allowed"
        );
        let reads = self
            .read
            .into_iter()
            .map(|read| {
                let topic = read.topic.clone();
                let own = read.period_ms.map_or(Ok(default), |ms| period("period_ms", ms));
                own.and_then(|period| read.validate(period))
                    .with_context(|| format!("[[modbus.read]] (topic = {topic:?})"))
            })
            .collect::<Result<Vec<_>>>()?;
        let writes = self
            .write
            .into_iter()
            .map(|write| {
                let topic = write.topic.clone();
                write.validate().with_context(|| format!("[[modbus.write]] (topic = {topic:?})"))
            })
            .collect::<Result<Vec<_>>>()?;
        one_topic_for_each_write(&writes)?;
        let timeout = Duration::from_millis(self.timeout_ms);
        Ok((device, ModbusUnit { unit: self.unit, timeout, reads, writes }))
    }
}

/// How many registers a type takes.
fn registers(kind: FieldType) -> Result<u16> {
    match kind {
        FieldType::U16 | FieldType::I16 => Ok(1),
        FieldType::U32 | FieldType::I32 | FieldType::F32 => Ok(2),
        FieldType::U64 | FieldType::I64 | FieldType::F64 => Ok(4),
        _ => anyhow::bail!("type: must be u16, i16, u32, i32, u64, i64, f32 or f64 for registers"),
    }
}

impl ReadFile {
    fn validate(self, period: Duration) -> Result<Read> {
        let topic = TopicName::new(&self.topic).context("topic")?;
        let bits = self.table.is_bits();
        let (kind, count) = match (bits, self.kind) {
            (true, None | Some(FieldType::Bit)) => (FieldType::Bit, 1),
            (true, Some(_)) => anyhow::bail!("type: must be bit, or left out, for coils and discrete inputs"),
            (false, kind) => {
                let kind = kind.unwrap_or(FieldType::U16);
                (kind, registers(kind)?)
            }
        };
        ensure!(
            self.format != Format::SenmlJson || !self.name.is_empty(),
            "name: must be set, because SenML needs a name"
        );
        ensure!(
            u32::from(self.address) + u32::from(count) <= 65_536,
            "address: must leave room for the value, which ends beyond 65535"
        );
        let field = FieldConfig {
            name: self.name,
            at: 0,
            kind,
            bit: bits.then_some(0),
            endian: Some(self.endian),
            scale: self.scale,
            offset: self.offset,
            unit: self.unit,
            convert_to: self.convert_to,
            role: Role::Value,
        };
        let packed = PackedConfig { endian: Endian::Big, size: None, fields: vec![field] };
        let output = match self.format {
            Format::Number => OutputConfig::Number(NumberOutput::default()),
            Format::Json => OutputConfig::Json(JsonOutput::default()),
            Format::SenmlJson => OutputConfig::SenmlJson(SenmlOutput::default()),
        };
        Ok(Read {
            topic,
            table: self.table,
            address: self.address,
            count,
            decoder: Decoder::new(InputConfig::Packed(packed))?,
            encoder: Encoder::new(output)?,
            retain: self.retain,
            period,
        })
    }
}

impl WriteFile {
    fn validate(self) -> Result<Write> {
        let topic: TopicFilter = self.topic.parse().context("topic")?;
        ensure!(
            matches!(self.table, Table::Coil | Table::Holding),
            "table: must be coil or holding, because nothing else can be written"
        );
        let bits = self.table.is_bits();
        let kind = self.kind.unwrap_or(if bits { FieldType::Bit } else { FieldType::U16 });
        let fits = match kind {
            FieldType::Bit => bits,
            FieldType::U16 | FieldType::I16 | FieldType::U32 | FieldType::I32 => !bits,
            _ => false,
        };
        ensure!(fits, "type: must be bit, or left out, for a coil, and u16, i16, u32 or i32 for a register");
        ensure!(!bits || (self.scale.is_none() && self.offset.is_none()), "scale, offset: must be left out for a coil");
        let scale = self.scale.unwrap_or_else(|| Decimal::from(1u64));
        ensure!(!scale.is_zero(), "scale: must not be 0");
        Ok(Write {
            topic,
            table: self.table,
            address: self.address,
            kind,
            endian: self.endian,
            scale,
            offset: self.offset.unwrap_or(Decimal::ZERO),
            min: self.min,
            max: self.max,
            json: Decoder::new(toml::from_str("format = 'json'\nvalue = '$.value'")?)?,
        })
    }
}
