//! What of a device's readings goes to the ledger: by `record` of a quality rule, or by a `[[record]]` table.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use sealcast_agent_core::{ByFilter, values::ValueRules};
use sealcast_ledger::MAX_DECIMALS;
use sealcast_reading::{Decimal, Decoder, InputConfig, PlainConfig, Reading};
use serde::Deserialize;

use super::by_filter::by_filter;

/// `[[record]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with filter = \"TOPIC FILTER\"")]
pub struct RecordFile {
    filter: String,
    /// Digits after the point, to which numbers are rounded. Default: those that the payload has.
    decimals: Option<u8>,
    /// What the payload is. Default: a number as text.
    input: Option<InputConfig>,
}

/// What of a device's messages goes to the ledger.
#[derive(Debug, Clone)]
pub struct RecordRules {
    /// Most readings that wait on disk.
    pub queue: u64,
    tables: ByFilter<RecordTable>,
    /// Whose quality rules may say `record` too.
    values: Arc<ValueRules>,
    in_quality: bool,
    plain: Decoder,
}

/// A `[[record]]` table.
#[derive(Debug, Clone)]
struct RecordTable {
    decimals: Option<u8>,
    decoder: Decoder,
}

/// How messages of a topic become readings on the ledger.
#[derive(Debug, Clone, Copy)]
pub struct RecordForm<'a> {
    decoder: &'a Decoder,
    decimals: Option<u8>,
}

impl RecordRules {
    /// Checks every value.
    pub fn new(queue: u64, tables: Vec<RecordFile>, values: Arc<ValueRules>) -> Result<Self> {
        let in_quality = values.quality.iter().any(|rules| rules.record().is_some());
        Ok(Self {
            queue,
            tables: by_filter("record", tables, |table| &table.filter, RecordTable::new)?,
            in_quality,
            values,
            plain: Decoder::new(InputConfig::Number(PlainConfig::default()))?,
        })
    }

    /// For a topic that is recorded: by its table, else by its quality rule and in the format of its
    /// `[[publish]]`.
    pub fn of(&self, topic: &str) -> Option<RecordForm<'_>> {
        if let Some(table) = self.tables.find(topic) {
            return Some(RecordForm { decoder: &table.decoder, decimals: table.decimals });
        }
        if !self.in_quality {
            return None;
        }
        let decimals = self.values.quality.find(topic)?.record()?.decimals;
        let decoder = self.values.publish(topic).map_or(&self.plain, |format| &format.decoder);
        Some(RecordForm { decoder, decimals })
    }
}

impl RecordTable {
    fn new(file: RecordFile) -> Result<Self> {
        ensure!(
            file.decimals.is_none_or(|decimals| decimals <= MAX_DECIMALS),
            "decimals: must be at most {MAX_DECIMALS}"
        );
        let input = file.input.unwrap_or_else(|| InputConfig::Number(PlainConfig::default()));
        Ok(Self { decimals: file.decimals, decoder: Decoder::new(input).context("input")? })
    }
}

impl RecordForm<'_> {
    /// The numbers of a payload as the ledger takes them, each with its time in Unix ms; none where the payload has no value.
    pub fn read(&self, payload: &[u8], now_ms: u64) -> Result<Vec<(Decimal, u64)>> {
        let records = self.decoder.decode(payload, now_ms)?;
        records
            .iter()
            .filter(|record| !record.reading.is_empty())
            .map(|record| {
                let number = ledger_form(&record.reading, self.decimals)?;
                Ok((number, record.reading.time_ms.unwrap_or(now_ms)))
            })
            .collect()
    }
}

/// A number as the ledger has it: rounded to `decimals` if that many are asked for, else with the digits that it has.
fn ledger_form(reading: &Reading, decimals: Option<u8>) -> Result<Decimal> {
    let number = reading.number().context("it is not a number")?;
    let number = match decimals {
        Some(decimals) => number.round(decimals).rescale(decimals),
        None if number.decimals() > MAX_DECIMALS => Some(number.normalize()).filter(|n| n.decimals() <= MAX_DECIMALS),
        None => Some(number),
    };
    number.context(
        "it has more digits than the ledger accepts: set `record_decimals` beside `record = \"chain\"`, or `decimals` \
         of its [[record]]",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits_unless_told() -> Result<()> {
        let read = |text: &str, decimals| -> Result<(i128, u8)> {
            let reading = Reading::new(sealcast_reading::Value::Number(Decimal::parse(text)?));
            let number = ledger_form(&reading, decimals)?;
            Ok((number.mantissa(), number.decimals()))
        };
        assert_eq!(read("21.50", None)?, (2150, 2));
        assert_eq!(read("21.50", Some(1))?, (215, 1));
        assert_eq!(read("-0.06", Some(1))?, (-1, 1));
        assert_eq!(read("7", Some(3))?, (7000, 3));
        assert_eq!(read("1e-39", None).ok(), None);
        assert_eq!(read("170141183460469231731687303715884105727", Some(1)).ok(), None);
        Ok(())
    }
}
