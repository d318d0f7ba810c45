//! Resolution: base fields applied, times made absolute, records in the order of time (RFC 8428 §4.6).

use super::{Pack, PackRecord, VERSION, VERSION_SECONDARY_UNITS};
use crate::decimal::Decimal;
use crate::fault::{DecodeError, Fault, Position};
use crate::reading::{NamedReading, Reading, Value};
use crate::time::{ms_to_seconds, seconds_to_ms};
use crate::unit::Unit;

/// Why a pack does not resolve: a [`DecodeError`] that names the record.
pub type ResolveError = DecodeError;

/// Times from here on are seconds since 1970, below it they are relative to now (RFC 8428 §4.5.3).
const ABSOLUTE_FROM: Decimal = Decimal::new(1 << 28, 0);

/// A record that stands for itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedRecord {
    /// `n`: base name and name; of the characters that §4.5.1 allows.
    pub name: String,
    /// `u`, or the base unit.
    pub unit: Option<String>,
    /// The value; absent if there is only a sum.
    pub value: Option<Value>,
    /// `s`.
    pub sum: Option<Decimal>,
    /// Seconds since 1970, absolute. `None` if the pack says nothing or zero: roughly now.
    pub time: Option<Decimal>,
    /// `ut`, seconds.
    pub update_time: Option<Decimal>,
    /// The version, if it is not 10.
    pub version: Option<u64>,
    /// Which record of the pack it was, from 0.
    pub index: usize,
}

/// The base fields in force.
#[derive(Default)]
struct Base<'a> {
    name: Option<&'a str>,
    time: Option<Decimal>,
    unit: Option<&'a str>,
    value: Option<Decimal>,
    sum: Option<Decimal>,
}

impl Pack {
    /// Applies the base fields. Relative times are from `now_ms`, the receiver's Unix time in ms.
    ///
    /// A record of base fields alone sets them and resolves to nothing. The result is in the order of time, as §4.6 wants it;
    /// records of the same time keep theirs, and those without a time count as now.
    ///
    /// # Errors
    /// A name that is missing or has other characters, neither value nor sum, several or unsupported versions, sums of more
    /// than 38 digits; each with the index of the record.
    pub fn resolve(&self, now_ms: u64) -> Result<Vec<ResolvedRecord>, ResolveError> {
        let version = self.version()?;
        let now = ms_to_seconds(now_ms);
        let mut base = Base::default();
        let mut resolved = Vec::with_capacity(self.records.len());
        for (index, record) in self.records.iter().enumerate() {
            base.update(record);
            if record.is_base_only() {
                continue;
            }
            let mut one =
                base.apply(record, now).map_err(|fault| Position::default().with_record(index).error(fault))?;
            one.version = version;
            one.index = index;
            resolved.push(one);
        }
        resolved.sort_by_key(|record| record.time.unwrap_or(now));
        Ok(resolved)
    }

    /// The version all records have, `None` for 10 and for the 5 of RFC 8428's own example, which knew the same fields.
    fn version(&self) -> Result<Option<u64>, ResolveError> {
        let mut found = None;
        for (index, record) in self.records.iter().enumerate() {
            let Some(version) = record.base_version else { continue };
            let position = || Position::path("bver").with_record(index);
            if version > VERSION && version != VERSION_SECONDARY_UNITS {
                return Err(position().error(Fault::Version { version }));
            }
            if found.is_some_and(|other| other != version) {
                return Err(position().error(Fault::Senml("the pack has records of different versions")));
            }
            found = Some(version);
        }
        Ok(found.filter(|&version| version != VERSION))
    }
}

impl PackRecord {
    fn is_base_only(&self) -> bool {
        let Self { name, unit, time, update_time, value, sum, .. } = self;
        name.is_none() && unit.is_none() && time.is_none() && update_time.is_none() && value.is_none() && sum.is_none()
    }
}

impl<'a> Base<'a> {
    fn update(&mut self, record: &'a PackRecord) {
        self.name = record.base_name.as_deref().or(self.name);
        self.time = record.base_time.or(self.time);
        self.unit = record.base_unit.as_deref().or(self.unit);
        self.value = record.base_value.or(self.value);
        self.sum = record.base_sum.or(self.sum);
    }

    fn apply(&self, record: &PackRecord, now: Decimal) -> Result<ResolvedRecord, Fault> {
        let name = format!("{}{}", self.name.unwrap_or_default(), record.name.as_deref().unwrap_or_default());
        check_name(&name)?;
        let value = match (&record.value, self.value) {
            (Some(Value::Number(number)), base) => Some(Value::Number(add(*number, base)?)),
            (Some(other), _) => Some(other.clone()),
            // A missing value counts as zero beside a base value (§4.5.4).
            (None, Some(base)) if record.sum.is_none() && self.sum.is_none() => Some(Value::Number(base)),
            (None, _) => None,
        };
        let sum = match (record.sum, self.sum) {
            (Some(sum), base) => Some(add(sum, base)?),
            (None, base) => base,
        };
        if value.is_none() && sum.is_none() {
            return Err(Fault::Senml("the record has neither a value nor a sum"));
        }
        let time = add(record.time.unwrap_or(Decimal::ZERO), self.time)?;
        Ok(ResolvedRecord {
            name,
            unit: record.unit.as_deref().or(self.unit).map(str::to_owned),
            value,
            sum,
            time: absolute(time, now)?,
            update_time: record.update_time,
            version: None,
            index: 0,
        })
    }
}

fn absolute(time: Decimal, now: Decimal) -> Result<Option<Decimal>, Fault> {
    if time.is_zero() {
        return Ok(None);
    }
    if time >= ABSOLUTE_FROM {
        return Ok(Some(time));
    }
    Ok(Some(add(time, Some(now))?))
}

fn add(number: Decimal, base: Option<Decimal>) -> Result<Decimal, Fault> {
    match base {
        Some(base) => {
            number.checked_add(base).ok_or(Fault::Senml("a value and its base have more than 38 digits together"))
        }
        None => Ok(number),
    }
}

/// RFC 8428 §4.5.1.
pub(crate) fn check_name(name: &str) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::Senml("the record has no name: neither n nor bn"));
    }
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err(Fault::Senml("a name must begin with a letter or a digit (RFC 8428 §4.5.1)"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-:./_".contains(&byte)) {
        return Err(Fault::Senml("a name may have letters, digits and - : . / _ alone (RFC 8428 §4.5.1)"));
    }
    Ok(())
}

impl ResolvedRecord {
    /// The record as a reading, its time rounded to ms. The sum and the update time have no place in one.
    ///
    /// # Errors
    /// No value (a sum alone), a time before 1970, a unit that cannot be kept.
    pub fn to_record(&self) -> Result<NamedReading, ResolveError> {
        let fail = |path: &str, fault: Fault| Position::path(path).with_record(self.index).error(fault);
        let value = self.value.clone().ok_or_else(|| fail("v", Fault::Senml("the record has a sum and no value")))?;
        let unit = self.unit.as_deref().map(Unit::new).transpose().map_err(|error| fail("u", error.into()))?;
        let time_ms = self.time.map(seconds_to_ms).transpose().map_err(|fault| fail("t", fault))?;
        Ok(NamedReading { name: self.name.clone(), reading: Reading { value, unit, time_ms, sequence: None } })
    }

    /// The record as one of a pack, for writing.
    pub fn to_pack_record(&self) -> PackRecord {
        PackRecord {
            base_version: self.version,
            name: Some(self.name.clone()),
            unit: self.unit.clone(),
            time: self.time,
            update_time: self.update_time,
            value: self.value.clone(),
            sum: self.sum,
            ..PackRecord::default()
        }
    }
}

impl FromIterator<ResolvedRecord> for Pack {
    /// A pack of records that stand for themselves (§4.6, §5.1.4).
    fn from_iter<I: IntoIterator<Item = ResolvedRecord>>(records: I) -> Self {
        Self { records: records.into_iter().map(|record| record.to_pack_record()).collect() }
    }
}
