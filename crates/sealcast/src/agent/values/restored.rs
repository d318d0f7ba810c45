//! The fixed cycle for one application: its topics' last messages, given to it again until the next ones come.

use std::collections::BTreeMap;

use bytes::Bytes;
use sealcast_mqtt::TopicName;
use sealcast_quality::{Repeat, Restorer};
use sealcast_reading::Record;

use super::{Local, ValueRules, Values, arrive::Deliver};

/// Most topics of one client whose cycle is restored.
const MAX_TOPICS: usize = 1024;

/// One client's restored cycles.
pub struct Restored {
    restorer: Restorer,
    last: BTreeMap<String, Last>,
}

struct Last {
    topic: TopicName,
    payload: Bytes,
    records: Vec<Record>,
    extra: Vec<(&'static str, String)>,
}

impl Restored {
    /// `None` if no rule restores a cycle.
    pub fn new(values: &Values) -> Option<Self> {
        let quality = &values.rules().quality;
        quality
            .iter()
            .any(|rules| rules.restore().is_some())
            .then(|| Self { restorer: Restorer::new(quality.clone()), last: BTreeMap::new() })
    }

    /// Repeats for the times before that of a message which is about to be handed on.
    pub fn before(&mut self, rules: &ValueRules, topic: &TopicName, deliver: &Deliver) -> Vec<Local> {
        if !deliver.fresh {
            return Vec::new();
        }
        let missed = std::iter::from_fn(|| self.restorer.poll_missed(topic.as_str(), deliver.time_ms));
        let missed: Vec<Repeat> = missed.collect();
        missed.iter().filter_map(|repeat| self.repeat(rules, repeat)).collect()
    }

    /// A message was handed on.
    pub fn handed_on(&mut self, rules: &ValueRules, topic: &TopicName, deliver: &Deliver, now_ms: u64) {
        let name = topic.as_str();
        if rules.quality.find(name).is_none_or(|rules| rules.restore().is_none()) {
            return;
        }
        if self.last.len() >= MAX_TOPICS && !self.last.contains_key(name) {
            return;
        }
        self.restorer.handle_message(name, deliver.time_ms, deliver.fresh, now_ms);
        if deliver.fresh {
            let (payload, records, extra) = (deliver.payload.clone(), deliver.records.clone(), deliver.extra.clone());
            self.last.insert(name.to_owned(), Last { topic: topic.clone(), payload, records, extra });
        } else {
            self.last.remove(name);
        }
    }

    /// A value of the topic was withheld: its last good one is not repeated as if nothing were.
    pub fn withheld(&mut self, topic: &TopicName) {
        self.restorer.stop(topic.as_str());
        self.last.remove(topic.as_str());
    }

    /// When the next repeat is due, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.restorer.poll_timeout()
    }

    /// Those that are due.
    pub fn due(&mut self, rules: &ValueRules, now_ms: u64) -> Vec<Local> {
        let due: Vec<Repeat> = std::iter::from_fn(|| self.restorer.poll_repeat(now_ms)).collect();
        due.iter().filter_map(|repeat| self.repeat(rules, repeat)).collect()
    }

    fn repeat(&self, rules: &ValueRules, repeat: &Repeat) -> Option<Local> {
        let last = self.last.get(&repeat.topic)?;
        let mut properties = last.extra.clone();
        properties.push(("sealcast-repeated", "1".to_owned()));
        properties.push(("sealcast-time-ms", repeat.time_ms.to_string()));
        let encoder = rules.receive(&repeat.topic).and_then(|rule| rule.format.as_ref()?.encoder.as_ref());
        // Where the agent writes the message itself, it can say the repeat's own time in it.
        let written = encoder.and_then(|encoder| {
            let mut records = last.records.clone();
            for record in &mut records {
                record.reading.time_ms = record.reading.time_ms.map(|_| repeat.time_ms);
            }
            encoder.encode(&records).ok()
        });
        let payload = written.map_or_else(|| last.payload.clone(), Bytes::from);
        Some(Local { topic: last.topic.clone(), payload, properties })
    }
}
