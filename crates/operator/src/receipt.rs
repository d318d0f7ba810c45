//! Where the ledger has what a command has written, for people and programs.

use anyhow::Result;
use sealcast_ledger::{Body, GroupName, Record};
use sealcast_node::output;
use serde::Serialize;

use crate::operator::Operator;

/// The place of an entry on the ledger.
#[derive(Serialize)]
pub struct Receipt {
    /// Its index.
    pub entry: u64,
    /// When, by the block's clock, in Unix seconds.
    pub time_s: u64,
    /// The ledger's head behind it, SHA-256, hex.
    pub head: String,
}

impl From<&Record> for Receipt {
    fn from(record: &Record) -> Self {
        Self { entry: record.index, time_s: record.time_s, head: record.head.to_string() }
    }
}

/// An entry about one group.
#[derive(Serialize)]
pub struct AboutGroup {
    /// The group's name.
    pub group: String,
    /// Its number on the ledger.
    pub number: u16,
    /// Where the entry is.
    #[serde(flatten)]
    pub receipt: Receipt,
}

/// Entries that one command writes for a group, one for each of several devices or topics.
pub struct BatchEntries<'a> {
    /// The group's name.
    pub group: &'a GroupName,
    /// What is named: `device` or `topic`.
    pub kind: &'static str,
    /// The names, and the entry for each.
    pub entries: Vec<(String, Body)>,
}

impl BatchEntries<'_> {
    /// Submits them together. What the ledger has is told also if it refuses one of them: in `words`, or as one JSON object.
    pub async fn submit(self, operator: &mut Operator, json: bool, words: impl Fn(&str) -> String) -> Result<()> {
        let Self { group, kind, entries } = self;
        let (names, bodies): (Vec<String>, Vec<Body>) = entries.into_iter().unzip();
        let mut written = Vec::new();
        let taken = |place: usize, record: &Record| {
            let Some(name) = names.get(place) else { return Ok(()) };
            if !json {
                return output::line(&words(name));
            }
            let Receipt { entry, time_s, head } = record.into();
            written.push(serde_json::json!({ kind: name, "entry": entry, "time_s": time_s, "head": head }));
            Ok(())
        };
        let outcome = operator.submit_all(&bodies, taken).await;
        if json {
            output::json(&serde_json::json!({ "group": group.to_string(), "written": written }))?;
        }
        outcome
    }
}
