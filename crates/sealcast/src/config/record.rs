//! What of a device's readings goes to the ledger: by `record` of a quality rule, or by a `[[record]]` table.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use sealcast_ledger::TopicFilter;
use sealcast_reading::{Decimal, Decoder, InputConfig, PlainConfig};
use serde::Deserialize;

use crate::agent::values::ValueRules;

/// `[[record]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
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
    tables: Vec<RecordTable>,
    /// Whose quality rules may say `record` too.
    values: Arc<ValueRules>,
    in_quality: bool,
    plain: Decoder,
}

/// A `[[record]]` table.
#[derive(Debug, Clone)]
struct RecordTable {
    filter: TopicFilter,
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
    pub fn new(queue: u64, tables: &[RecordFile], values: Arc<ValueRules>) -> Result<Self> {
        let in_quality = values.quality.iter().any(|rules| rules.record().is_some());
        Ok(Self {
            queue,
            tables: tables.iter().map(RecordTable::new).collect::<Result<_>>()?,
            in_quality,
            values,
            plain: Decoder::new(InputConfig::Number(PlainConfig::default()))?,
        })
    }

    /// For a topic that is recorded: by the first table that matches, else by its quality rule and in the format of its
    /// `[[publish]]`.
    pub fn of(&self, topic: &str) -> Option<RecordForm<'_>> {
        if let Some(table) = self.tables.iter().find(|table| table.filter.matches(topic)) {
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
    fn new(file: &RecordFile) -> Result<Self> {
        let filter = &file.filter;
        ensure!(
            file.decimals.is_none_or(|decimals| decimals <= sealcast_ledger::MAX_DECIMALS),
            "record.decimals: at most {}",
            sealcast_ledger::MAX_DECIMALS
        );
        let input = file.input.clone().unwrap_or_else(|| InputConfig::Number(PlainConfig::default()));
        Ok(Self {
            filter: filter.parse().with_context(|| format!("record.filter: {filter:?} is not a topic filter"))?,
            decimals: file.decimals,
            decoder: Decoder::new(input).with_context(|| format!("record.input of {filter:?}"))?,
        })
    }
}

impl RecordForm<'_> {
    /// The numbers of a payload as the ledger takes them, each with its time in Unix ms.
    pub fn read(&self, payload: &[u8], now_ms: u64) -> Result<Vec<(Decimal, u64)>> {
        let records = self.decoder.decode(payload, now_ms)?;
        records
            .iter()
            .map(|record| {
                let number = crate::agent::readings::ledger_form(&record.reading, self.decimals)?;
                Ok((number, record.reading.time_ms.unwrap_or(now_ms)))
            })
            .collect()
    }
}
