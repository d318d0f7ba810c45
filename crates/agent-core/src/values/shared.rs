//! Readings that the hub's console may show, because the configuration says so.

use std::{collections::VecDeque, mem};

use sealcast_quality::{Action, Limits, TopicRules, Verdict};
use sealcast_reading::NamedReading;

use super::findings::found_by;

/// Readings that wait to be told. Of more, the oldest are left out: a chart is for people to look at.
const MAX_WAITING: usize = 128;

/// A reading, as the agent judged it.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedReading {
    /// Where it was published.
    pub topic: String,
    /// Its name within the message; empty where the format holds one value.
    pub name: String,
    /// When it was judged, Unix ms.
    pub at_ms: u64,
    /// The value.
    pub value: f64,
    /// What it is in; empty if nothing says so.
    pub unit: String,
    /// What became of it.
    pub action: Action,
    /// Why, where it was flagged or blocked.
    pub reason: Option<String>,
    /// What the rules allow.
    pub limits: Limits,
}

/// See the module. The oldest first.
#[derive(Debug, Default)]
pub struct Shared(VecDeque<SharedReading>);

impl Shared {
    /// Takes the numbers of a message that was judged.
    pub fn put<'a>(
        &mut self,
        topic: &str,
        rules: Option<&TopicRules>,
        judged: impl Iterator<Item = (&'a NamedReading, &'a Verdict)>,
        now_ms: u64,
    ) {
        for (NamedReading { name, reading }, verdict) in judged {
            let Some(number) = reading.number() else { continue };
            if self.0.len() == MAX_WAITING {
                self.0.pop_front();
            }
            let action = verdict.action();
            self.0.push_back(SharedReading {
                topic: topic.to_owned(),
                name: name.clone(),
                at_ms: now_ms,
                value: number.to_f64(),
                unit: reading.unit.as_ref().map(ToString::to_string).unwrap_or_default(),
                action,
                reason: (action != Action::Pass).then(|| found_by(verdict, action)),
                limits: rules.map_or_else(Limits::default, TopicRules::limits),
            });
        }
    }

    /// All that wait.
    pub fn take(&mut self) -> Vec<SharedReading> {
        mem::take(&mut self.0).into()
    }
}
