//! Alarms: one for each topic whose values are blocked or do not come, retained in the group until it is over.

use std::collections::{BTreeMap, BTreeSet};

use sealcast_identity::DeviceId;
use sealcast_quality::Verdict;
use serde::{Deserialize, Serialize};

use crate::deadline::Deadline;

/// Most alarms that stand at a time; further topics raise none.
const MAX_ALARMS: usize = 1024;
/// What changes of an alarm (its count, its reason) is told at most this often.
const TELL_EVERY_MS: u64 = 1_000;

/// Why there is an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Values are blocked by a rule.
    Blocked,
    /// Values cannot be read or written.
    Unreadable,
    /// No value comes.
    Silent,
}

/// One alarm, as its message says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The device.
    pub device: String,
    /// The topic it is about.
    pub topic: String,
    /// Why.
    pub kind: Kind,
    /// In words, with the numbers.
    pub reason: String,
    /// Each check that found something.
    pub checks: Vec<Finding>,
    /// When it began, Unix ms.
    pub since_ms: u64,
    /// When it was last raised, Unix ms.
    pub last_ms: u64,
    /// How many values.
    pub count: u64,
    /// When it ended, Unix ms. Such a message is not retained: after it the topic is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_ms: Option<u64>,
}

/// One check's part of an alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its name, as in the rules.
    pub check: String,
    /// `flag` or `block`.
    pub action: String,
    /// In words, with the numbers.
    pub reason: String,
}

impl Finding {
    /// All of a verdict.
    pub fn of(verdict: &Verdict) -> Vec<Self> {
        let text = |finding: &sealcast_quality::Finding| Self {
            check: finding.check.as_str().into(),
            action: finding.action.as_str().into(),
            reason: finding.reason.to_string(),
        };
        verdict.findings().iter().map(text).collect()
    }
}

/// Those that stand, and those whose end is to be told.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    standing: BTreeMap<String, Standing>,
    ended: BTreeMap<String, Alarm>,
    /// Ends that were told: told again when the connection comes back, which may have swallowed them.
    told_ended: BTreeMap<String, Alarm>,
    dirty: BTreeSet<String>,
}

#[derive(Debug)]
struct Standing {
    alarm: Alarm,
    /// When a change of it may be told; `None` if it was not told yet, or has to be told again.
    again: Option<Deadline>,
    changed: bool,
}

impl Standing {
    /// An alarm that was not told yet.
    fn new(alarm: Alarm) -> Self {
        Self { alarm, again: None, changed: true }
    }
}

impl Alarms {
    /// Those that stand.
    pub fn standing(&self) -> impl Iterator<Item = &Alarm> {
        self.standing.values().map(|standing| &standing.alarm)
    }

    /// An alarm that stood when the agent last ran.
    pub fn restore(&mut self, alarm: Alarm) {
        self.standing.insert(alarm.topic.clone(), Standing::new(alarm));
    }

    /// Raises it, or raises it again.
    pub fn raise(
        &mut self,
        device: &DeviceId,
        topic: &str,
        kind: Kind,
        reason: String,
        checks: Vec<Finding>,
        now_ms: u64,
    ) {
        if let Some(standing) = self.standing.get_mut(topic) {
            let alarm = &mut standing.alarm;
            (alarm.kind, alarm.reason, alarm.checks, alarm.last_ms) = (kind, reason, checks, now_ms);
            alarm.count += 1;
            standing.changed = true;
        } else if self.standing.len() < MAX_ALARMS {
            let (device, topic) = (device.to_string(), topic.to_owned());
            self.ended.remove(&topic);
            self.told_ended.remove(&topic);
            let alarm = Alarm {
                device,
                topic: topic.clone(),
                kind,
                reason,
                checks,
                since_ms: now_ms,
                last_ms: now_ms,
                count: 1,
                over_ms: None,
            };
            self.standing.insert(topic, Standing::new(alarm));
        } else {
            return;
        }
        self.dirty.insert(topic.to_owned());
    }

    /// A good value came. `true` if there was an alarm.
    pub fn clear(&mut self, topic: &str, now_ms: u64) -> bool {
        let Some(mut standing) = self.standing.remove(topic) else { return false };
        standing.alarm.over_ms = Some(now_ms);
        self.ended.insert(topic.to_owned(), standing.alarm);
        self.dirty.insert(topic.to_owned());
        true
    }

    /// The connection to the broker is new: all is told again.
    pub fn tell_again(&mut self) {
        for standing in self.standing.values_mut() {
            (standing.again, standing.changed) = (None, true);
        }
        self.ended.append(&mut self.told_ended);
    }

    /// When something is to be told.
    pub fn poll_timeout(&self) -> Option<u64> {
        let due = |standing: &Standing| standing.again.map_or(0, Deadline::at_ms);
        let standing = self.standing.values().filter(|standing| standing.changed).map(due).min();
        if self.ended.is_empty() { standing } else { Some(0) }
    }

    /// What is to be told now.
    pub fn due(&self, now_ms: u64) -> Vec<Alarm> {
        let ended = self.ended.values();
        let is_due = |standing: &&Standing| standing.changed && standing.again.is_none_or(|again| again.is_due(now_ms));
        let standing = self.standing.values().filter(is_due);
        ended.chain(standing.map(|standing| &standing.alarm)).cloned().collect()
    }

    /// That was told.
    pub fn told(&mut self, told: &Alarm, now_ms: u64) {
        if told.over_ms.is_some() {
            if let Some(alarm) = self.ended.remove(&told.topic)
                && self.told_ended.len() < MAX_ALARMS
            {
                self.told_ended.insert(alarm.topic.clone(), alarm);
            }
        } else if let Some(standing) = self.standing.get_mut(&told.topic) {
            standing.again = Some(Deadline::after(now_ms, TELL_EVERY_MS));
            standing.changed = standing.alarm != *told;
        }
    }

    /// Rows to store: the topic, and the alarm or `None`.
    pub fn changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let row = |topic: String| {
            let value = self.standing.get(&topic).and_then(|standing| serde_json::to_vec(&standing.alarm).ok());
            (topic, value)
        };
        dirty.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_until_cleared_and_is_told_at_most_every_second() -> anyhow::Result<()> {
        let device: DeviceId = "1111".parse()?;
        let mut alarms = Alarms::default();
        let raise = |alarms: &mut Alarms, now| alarms.raise(&device, "t", Kind::Blocked, "too hot".into(), vec![], now);
        raise(&mut alarms, 5_000);
        let told = alarms.due(5_000);
        assert_eq!(told.len(), 1);
        alarms.told(&told[0], 5_000);
        raise(&mut alarms, 5_100);
        assert!(alarms.due(5_100).is_empty());
        assert_eq!(alarms.poll_timeout(), Some(6_000));
        assert_eq!(alarms.due(4_000).len(), 1, "the clock is set back");
        let told = alarms.due(6_000);
        let alarm = &told[0];
        assert_eq!((alarm.count, alarm.since_ms, alarm.last_ms), (2, 5_000, 5_100));
        alarms.told(alarm, 6_000);
        assert_eq!(alarms.poll_timeout(), None);
        assert_eq!(alarms.changes().len(), 1);

        alarms.tell_again();
        assert_eq!(alarms.due(6_001).len(), 1, "the connection may have lost it");
        assert!(alarms.clear("t", 6_001) && !alarms.clear("t", 6_001));
        let told = alarms.due(6_001);
        assert_eq!((told.len(), told[0].over_ms), (1, Some(6_001)));
        assert_eq!(alarms.changes(), [("t".to_owned(), None)]);
        alarms.told(&told[0], 6_001);
        assert!(alarms.due(6_002).is_empty());
        alarms.tell_again();
        assert_eq!(alarms.due(6_002), told);
        Ok(())
    }
}
