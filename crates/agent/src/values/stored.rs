//! What an agent has measured of its topics, read from its database beside the agent that runs on it: it writes there before
//! anything that it judged leaves, so this is never older than what its clients were told.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use sealcast_quality::{Checker, Cycle, Reporter, RuleSet, Saved};

use super::{alarm::Alarm, kind};
use crate::store::{Store, ValueRow};

/// One topic, and one name within its messages.
#[derive(Debug, Default)]
pub struct Measured {
    /// How often readings come, if enough came, in ms.
    pub period_ms: Option<u64>,
    /// How far from it the last ones came, in ms.
    pub jitter_ms: Option<u64>,
    /// When the last reading came, Unix ms.
    pub last_ms: Option<u64>,
    /// What report on change saved, where a rule asks for it.
    pub saved: Option<Saved>,
    /// The alarm of its topic, if one stands.
    pub alarm: Option<Alarm>,
}

impl Measured {
    fn cycle(&mut self, cycle: &Cycle) {
        (self.period_ms, self.jitter_ms, self.last_ms) = (cycle.period_ms(), cycle.jitter_ms(), cycle.last_ms());
    }
}

/// By topic and name, from an agent's folder.
pub fn measured(dir: &Path) -> Result<BTreeMap<(String, String), Measured>> {
    let rows = Store::read_values(dir)?;
    let of = |wanted: u8| rows.iter().filter(move |row| row.kind == wanted).filter_map(content);
    let nothing = Arc::new(RuleSet::default());
    let reporter = Reporter::restore(nothing.clone(), of(kind::REPORT)).context("reports on change")?;
    let checker = Checker::restore(nothing, of(kind::CHECK), 0).context("checks")?;

    let mut topics: BTreeMap<(String, String), Measured> = BTreeMap::new();
    for (topic, name, saved) in reporter.saved() {
        let measured = topics.entry((topic.to_owned(), name.to_owned())).or_default();
        measured.saved = Some(saved);
        if let Some(cycle) = reporter.cycle(topic, name) {
            measured.cycle(cycle);
        }
    }
    // The checks see what is blocked too: theirs is the device's cycle.
    for (topic, name, cycle) in checker.cycles() {
        topics.entry((topic.to_owned(), name.to_owned())).or_default().cycle(cycle);
    }
    for (topic, bytes) in of(kind::ALARM) {
        let alarm: Alarm = serde_json::from_slice(bytes).with_context(|| format!("the alarm of {topic}"))?;
        let mut found = false;
        for (_, measured) in
            topics.range_mut((topic.to_owned(), String::new())..).take_while(|((of, _), _)| of == topic)
        {
            measured.alarm = Some(alarm.clone());
            found = true;
        }
        if !found {
            topics.entry((topic.to_owned(), String::new())).or_default().alarm = Some(alarm);
        }
    }
    Ok(topics)
}

fn content(row: &ValueRow) -> Option<(&str, &[u8])> {
    Some((row.key.as_str(), row.value.as_deref()?))
}
