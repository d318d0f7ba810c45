//! What of a device's readings goes to the ledger: by `record` of a quality rule, or by a `[[record]]` table.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use sealcast_agent_core::{RecordRules, RecordTable, values::ValueRules};
use sealcast_ledger::MAX_DECIMALS;
use sealcast_reading::{Decoder, InputConfig, PlainConfig};
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

/// Checks the tables; `values` may say `record` too.
pub fn record_rules(tables: Vec<RecordFile>, values: Arc<ValueRules>) -> Result<RecordRules> {
    let tables = by_filter("record", tables, |table| &table.filter, RecordFile::check)?;
    Ok(RecordRules::new(tables, values, plain(None)?))
}

impl RecordFile {
    fn check(self) -> Result<RecordTable> {
        ensure!(
            self.decimals.is_none_or(|decimals| decimals <= MAX_DECIMALS),
            "decimals: must be at most {MAX_DECIMALS}"
        );
        Ok(RecordTable { decimals: self.decimals, decoder: plain(self.input).context("input")? })
    }
}

/// What reads a payload: numbers as text, if nothing is said.
fn plain(input: Option<InputConfig>) -> Result<Decoder> {
    Ok(Decoder::new(input.unwrap_or_else(|| InputConfig::Number(PlainConfig::default())))?)
}
