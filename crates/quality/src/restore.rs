//! Restoring the fixed cycle on the receiving side: an application that expects a reading every so often gets the last one
//! again, marked as repeated, but never for longer than the sender's heartbeat allows.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    rules::{Restore, RuleSet},
    series::MAX_SERIES,
};

/// A value to hand to the application once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// Topic of the message to repeat: the last one of it, marked as repeated.
    pub topic: String,
    /// The time that the repeated reading stands for, Unix ms by the device's clock (the sender's if it has none).
    pub time_ms: u64,
    /// How old the value is at that time.
    pub age_ms: u64,
}

/// Says when the last message of a topic is to be repeated. The driver keeps that message.
///
/// Call [`Restorer::poll_repeat`] until `None` before each [`Restorer::handle_message`] and at [`Restorer::poll_timeout`].
/// Nothing is stored: after a restart the first message begins the cycle anew.
#[derive(Debug)]
pub struct Restorer {
    rules: Arc<RuleSet>,
    topics: BTreeMap<Box<str>, Held>,
    wake_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    rule: Restore,
    time_ms: u64,
    arrival_ms: u64,
    /// How many repeats there were.
    repeats: u64,
}

impl Held {
    /// When the next repeat is due by this agent's clock, and its age; `None` when the heartbeat is over.
    fn next(&self) -> Option<(u64, u64)> {
        let age_ms = self.rule.cycle_ms.saturating_mul(self.repeats.saturating_add(1));
        (age_ms <= self.rule.heartbeat_ms)
            .then(|| (self.arrival_ms.saturating_add(age_ms).saturating_add(self.rule.grace_ms), age_ms))
    }
}

impl Restorer {
    /// Without messages.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self { rules, topics: BTreeMap::new(), wake_ms: None }
    }

    /// A real message came and is handed on at once. `time_ms` is its reading's time by the device's clock, or the
    /// sender's. `fresh` is false for a retained or late message, which is not repeated.
    pub fn handle_message(&mut self, topic: &str, time_ms: u64, fresh: bool, now_ms: u64) {
        let Some(rule) = self.rules.find(topic).and_then(|rule| rule.restore) else { return };
        if !fresh {
            self.topics.remove(topic);
            return;
        }
        let held = Held { rule, time_ms, arrival_ms: now_ms, repeats: 0 };
        if let Some((due, _)) = held.next() {
            self.wake_ms = Some(self.wake_ms.map_or(due, |wake| wake.min(due)));
        }
        if let Some(known) = self.topics.get_mut(topic) {
            *known = held;
            return;
        }
        if self.topics.len() >= MAX_SERIES {
            let oldest = self.topics.iter().min_by_key(|(_, held)| held.arrival_ms).map(|(topic, _)| topic.clone());
            if let Some(oldest) = oldest {
                self.topics.remove(&oldest);
            }
        }
        self.topics.insert(topic.into(), held);
    }

    /// The next repeat of `topic` that stands for a time before `time_ms`, that of a real message which is about to be handled:
    /// call until `None`, then [`Restorer::handle_message`]. So that no time is left out when readings come sooner than their
    /// stamps say: after the link was down, or from a recording.
    pub fn poll_missed(&mut self, topic: &str, time_ms: u64) -> Option<Repeat> {
        let held = self.topics.get_mut(topic)?;
        let (_, age_ms) = held.next()?;
        let at_ms = held.time_ms.saturating_add(age_ms);
        // What is nearer to the message than half a cycle is the message's own time.
        if at_ms.saturating_add(held.rule.cycle_ms / 2) >= time_ms {
            return None;
        }
        held.repeats += 1;
        Some(Repeat { topic: topic.to_owned(), time_ms: at_ms, age_ms })
    }

    /// The topic is no longer to be repeated: its value was blocked, cleared, or a fail-safe value stands in its place.
    pub fn stop(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// When the next repeat is due, Unix ms. May be earlier than needed.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.wake_ms
    }

    /// The next repeat that is due. Call until `None`. After a pause of this process all missed ones come.
    pub fn poll_repeat(&mut self, now_ms: u64) -> Option<Repeat> {
        if self.wake_ms.is_none_or(|wake| now_ms < wake) {
            return None;
        }
        let next = self.topics.iter().filter_map(|(topic, held)| Some((held.next()?, topic))).min();
        let ((due, age_ms), topic) = match next {
            Some(((due, age_ms), topic)) => ((due, age_ms), topic.clone()),
            None => {
                self.wake_ms = None;
                return None;
            }
        };
        self.wake_ms = Some(due);
        if due > now_ms {
            return None;
        }
        let held = self.topics.get_mut(&topic)?;
        held.repeats += 1;
        Some(Repeat { topic: topic.into(), time_ms: held.time_ms.saturating_add(age_ms), age_ms })
    }
}
