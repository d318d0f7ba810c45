//! The fixed cycle for one application: its topics' last messages, given to it again until the next ones come.

use std::collections::BTreeMap;

use bytes::Bytes;
use sealcast_mqtt::TopicName;
use sealcast_quality::{Repeat, Restorer};
use sealcast_reading::NamedReading;

use super::{arrive::Deliver, output::Local, rules::ValueRules};

/// Most bytes that are repeated at a time. What a message brings is a matter of its sender's stamps: a clock that jumps must
/// not have a large message repeated for all the time between.
const MAX_BURST_BYTES: usize = 4 << 20;
/// What a message has beside its payload, about.
const MESSAGE_BYTES: usize = 128;
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
    records: Vec<NamedReading>,
    extra: Vec<(&'static str, String)>,
}

impl Restored {
    /// `None` if no rule restores a cycle.
    pub fn new(rules: &ValueRules) -> Option<Self> {
        let quality = &rules.quality;
        quality
            .iter()
            .any(|rules| rules.restore().is_some())
            .then(|| Self { restorer: Restorer::new(quality.clone()), last: BTreeMap::new() })
    }

    /// Repeats for the times before that of a message which is about to be handed on.
    pub fn before(&mut self, rules: &ValueRules, topic: &TopicName, deliver: &Deliver) -> Vec<Local> {
        if !deliver.fresh || deliver.empty {
            return Vec::new();
        }
        let mut missed = Vec::new();
        let mut room = MAX_BURST_BYTES;
        while let Some(repeat) = self.restorer.poll_missed(topic.as_str(), deliver.time_ms) {
            let Some(message) = self.repeat(rules, &repeat) else { break };
            let Some(left) = room.checked_sub(message.payload.len() + MESSAGE_BYTES) else { break };
            room = left;
            missed.push(message);
        }
        missed
    }

    /// A message was handed on.
    pub fn handed_on(&mut self, rules: &ValueRules, topic: &TopicName, deliver: &Deliver, now_ms: u64) {
        let name = topic.as_str();
        if deliver.empty {
            return;
        }
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

    /// Those that are due, or the first of them.
    pub fn due(&mut self, rules: &ValueRules, now_ms: u64, most_bytes: usize) -> Vec<Local> {
        let mut due = Vec::new();
        let mut bytes = 0;
        while bytes < most_bytes
            && let Some(repeat) = self.restorer.poll_repeat(now_ms)
        {
            let Some(message) = self.repeat(rules, &repeat) else { continue };
            bytes += message.payload.len() + MESSAGE_BYTES;
            due.push(message);
        }
        due
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

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::{super::tests::rules, *};

    #[test]
    fn a_clock_that_jumps_does_not_repeat_a_large_message_without_bound() -> Result<()> {
        let text = "[[quality]]\nfilter = 't'\nrestore = { cycle_ms = 100, heartbeat_ms = 86_400_000 }";
        let rules = rules(text)?;
        let mut restored = Restored::new(&rules).ok_or_else(|| anyhow::anyhow!("a rule restores"))?;
        let topic = TopicName::new("t")?;
        let message = |time_ms, bytes| {
            let payload = Bytes::from(vec![b'1'; bytes]);
            let (props, extra, records) = (Bytes::new(), vec![], vec![]);
            Deliver { payload, props, extra, time_ms, fresh: true, records, empty: false }
        };
        let jump = |restored: &mut Restored, bytes, now_ms| {
            restored.handed_on(&rules, &topic, &message(0, bytes), now_ms);
            restored.before(&rules, &topic, &message(80_000_000, 1)).len()
        };
        assert_eq!(jump(&mut restored, 1 << 20, 0), 3);
        assert!(jump(&mut restored, 2, 0) > 10_000, "small ones have every time that they can have");
        restored.handed_on(&rules, &topic, &message(0, 1 << 10), 0);
        assert_eq!(restored.due(&rules, 1_000_000, 10_000).len(), 9, "the rest when there is room");
        assert_eq!(restored.due(&rules, 1_000_000, 0).len(), 0);
        Ok(())
    }
}
