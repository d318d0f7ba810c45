//! What of a device's messages goes to the ledger, and as what numbers.

use std::sync::Arc;

use sealcast_ledger::{MAX_DECIMALS, ReadingTopic};
use sealcast_reading::{Decimal, Decoder, Reading};

use crate::{ByFilter, values::ValueRules};

/// How messages of a topic are recorded: a `[[record]]` table of agent.toml.
#[derive(Debug, Clone)]
pub struct RecordTable {
    /// Digits after the point, to which numbers are rounded; `None`: those that the payload has.
    pub decimals: Option<u8>,
    /// What the payload is.
    pub decoder: Decoder,
}

/// Why a message cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not what its format says.
    #[error(transparent)]
    Unreadable(#[from] sealcast_reading::DecodeError),
    /// It has a value that is no number.
    #[error("it is not a number")]
    NotNumber,
    /// The ledger has no room for its digits.
    #[error(
        "it has more digits than the ledger accepts: set `record_decimals` beside `record = \"chain\"`, or `decimals` of \
         its [[record]]"
    )]
    Digits,
    /// The ledger does not take its topic.
    #[error(transparent)]
    Topic(#[from] sealcast_ledger::Refusal),
}

/// Readings for the ledger: of which topic, and each number with its time, Unix ms.
pub type Recorded = (ReadingTopic, Vec<(Decimal, u64)>);

/// See the module.
#[derive(Debug, Clone)]
pub struct RecordRules {
    tables: ByFilter<RecordTable>,
    /// Whose quality rules may say `record` too.
    values: Arc<ValueRules>,
    in_quality: bool,
    /// A number as text.
    plain: Decoder,
}

impl RecordRules {
    /// `tables` count before what the rules for values say.
    pub fn new(tables: ByFilter<RecordTable>, values: Arc<ValueRules>, plain: Decoder) -> Self {
        let in_quality = values.quality.iter().any(|rules| rules.record().is_some());
        Self { tables, in_quality, values, plain }
    }

    /// The readings of a message, if its topic is recorded and it has any.
    ///
    /// # Errors
    /// It is to be recorded and cannot be.
    pub fn read(&self, topic: &str, payload: &[u8], now_ms: u64) -> Result<Option<Recorded>, RecordError> {
        let Some((decoder, decimals)) = self.form(topic) else { return Ok(None) };
        let records = decoder.decode(payload, now_ms)?;
        let values = records
            .iter()
            .filter(|record| !record.reading.is_empty())
            .map(|record| Ok((ledger_form(&record.reading, decimals)?, record.reading.time_ms.unwrap_or(now_ms))))
            .collect::<Result<Vec<_>, RecordError>>()?;
        Ok(if values.is_empty() { None } else { Some((topic.parse()?, values)) })
    }

    /// By the topic's table, else by its quality rule and in the format of its `[[publish]]`.
    fn form(&self, topic: &str) -> Option<(&Decoder, Option<u8>)> {
        if let Some(table) = self.tables.find(topic) {
            return Some((&table.decoder, table.decimals));
        }
        if !self.in_quality {
            return None;
        }
        let decimals = self.values.quality.find(topic)?.record()?.decimals;
        Some((self.values.publish(topic).map_or(&self.plain, |format| &format.decoder), decimals))
    }
}

/// A number as the ledger has it: rounded to `decimals` if that many are asked for, else with the digits that it has.
fn ledger_form(reading: &Reading, decimals: Option<u8>) -> Result<Decimal, RecordError> {
    let number = reading.number().ok_or(RecordError::NotNumber)?;
    let number = match decimals {
        Some(decimals) => number.round(decimals).rescale(decimals),
        None if number.decimals() > MAX_DECIMALS => Some(number.normalize()).filter(|n| n.decimals() <= MAX_DECIMALS),
        None => Some(number),
    };
    number.ok_or(RecordError::Digits)
}

#[cfg(test)]
mod tests {
    use sealcast_reading::Value;

    use super::*;

    #[test]
    fn numbers_keep_their_digits_unless_told() {
        let read = |text: &str, decimals| {
            let number = ledger_form(&Reading::new(Value::Number(Decimal::parse(text).unwrap())), decimals).ok()?;
            Some((number.mantissa(), number.decimals()))
        };
        assert_eq!(read("21.50", None), Some((2150, 2)));
        assert_eq!(read("21.50", Some(1)), Some((215, 1)));
        assert_eq!(read("-0.06", Some(1)), Some((-1, 1)));
        assert_eq!(read("7", Some(3)), Some((7000, 3)));
        assert_eq!(read("1e-39", None), None);
        assert_eq!(read("170141183460469231731687303715884105727", Some(1)), None);
    }
}
