//! What an agent has measured of its topics, from the rows of its database: it writes there before anything that it judged
//! leaves, so this is never older than what its clients were told.

use std::{collections::BTreeMap, sync::Arc};

use sealcast_quality::{Checker, Cycle, Reporter, RuleSet, Saved, StateError};

use super::{
    alarm::Alarm,
    writes::{ValueRow, kind, of},
};

/// Which rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MeasuredError {
    /// Those of report on change.
    #[error("reports on change")]
    Reports(#[source] StateError),
    /// Those of the checks.
    #[error("checks")]
    Checks(#[source] StateError),
    /// An alarm's.
    #[error("the alarm of {topic}")]
    Alarm {
        /// The topic that it is about.
        topic: String,
        /// Why.
        #[source]
        error: serde_json::Error,
    },
}

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

/// By topic and name within its messages.
///
/// # Errors
/// [`MeasuredError`].
pub fn measured(rows: &[ValueRow]) -> Result<BTreeMap<(String, String), Measured>, MeasuredError> {
    let nothing = Arc::new(RuleSet::default());
    let reporter = Reporter::restore(nothing.clone(), of(rows, kind::REPORT)).map_err(MeasuredError::Reports)?;
    let checker = Checker::restore(nothing, of(rows, kind::CHECK), 0).map_err(MeasuredError::Checks)?;

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
    for (topic, bytes) in of(rows, kind::ALARM) {
        let alarm: Alarm =
            serde_json::from_slice(bytes).map_err(|error| MeasuredError::Alarm { topic: topic.to_owned(), error })?;
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
