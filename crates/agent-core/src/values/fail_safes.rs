//! The fail-safes of all topics.

use std::{collections::BTreeMap, sync::Arc};

use sealcast_mqtt::TopicName;
use sealcast_quality::{FailSafeOutput, Fallback, MAX_SERIES, RuleSet};

use super::{
    guard::{Guard, Said},
    output::Local,
};

/// See the module.
pub(super) struct FailSafes {
    quality: Arc<RuleSet>,
    guards: BTreeMap<String, Guard>,
    /// Nothing is due before, Unix ms.
    wake_ms: Option<u64>,
}

impl FailSafes {
    /// Those of rules for one topic wait from now on; those of rules with wildcards from their topic's first message on.
    pub fn new(quality: Arc<RuleSet>, now_ms: u64) -> Self {
        let guards: BTreeMap<_, _> = quality
            .iter()
            .filter(|rules| !rules.filter().as_str().contains(['+', '#']))
            .filter_map(|rules| Some((rules.filter().to_string(), Guard::new(rules.fail_safe()?.clone(), now_ms))))
            .collect();
        let wake_ms = guards.values().filter_map(Guard::poll_timeout).min();
        Self { quality, guards, wake_ms }
    }

    /// A good value that was sealed `age_ms` ago.
    pub fn good(
        &mut self,
        topic: &str,
        said: Said<'_>,
        age_ms: u64,
        stale: bool,
        now_ms: u64,
    ) -> Option<FailSafeOutput> {
        let rules = self.quality.find(topic)?.fail_safe()?;
        let silence_ms = rules.on_silence.as_ref().map(|silence| silence.after_ms);
        // What the broker kept, as retained or for an absent client, is good only while a silence of that length would be.
        let counts = !stale && silence_ms.is_none_or(|after_ms| age_ms <= after_ms);
        self.with(topic, now_ms, |guard| if counts { guard.handle_good(said, age_ms, now_ms) } else { None })
    }

    /// A value that the application does not get.
    pub fn bad(&mut self, topic: &str, said: Said<'_>, now_ms: u64) -> Option<FailSafeOutput> {
        self.with(topic, now_ms, |guard| guard.handle_blocked(said, now_ms))
    }

    /// The messages that stand in place of good values.
    pub fn standing(&self) -> Vec<Local> {
        self.guards.iter().filter_map(|(topic, guard)| message(topic, guard.active()?)).collect()
    }

    /// When one may be due, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.wake_ms
    }

    /// Those whose time has come, with their topics.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Vec<(String, FailSafeOutput)> {
        if self.wake_ms.is_none_or(|wake_ms| now_ms < wake_ms) {
            return Vec::new();
        }
        let due = |(topic, guard): (&String, &mut Guard)| Some((topic.clone(), guard.handle_timeout(now_ms)?));
        let fired = self.guards.iter_mut().filter_map(due).collect();
        self.wake_ms = self.guards.values().filter_map(Guard::poll_timeout).min();
        fired
    }

    fn with<T>(&mut self, topic: &str, now_ms: u64, work: impl FnOnce(&mut Guard) -> Option<T>) -> Option<T> {
        if !self.guards.contains_key(topic) {
            let rules = self.quality.find(topic)?.fail_safe()?.clone();
            if self.guards.len() >= MAX_SERIES {
                return None;
            }
            self.guards.insert(topic.to_owned(), Guard::new(rules, now_ms));
        }
        let guard = self.guards.get_mut(topic)?;
        let output = work(guard);
        self.wake_ms = [self.wake_ms, guard.poll_timeout()].into_iter().flatten().min();
        output
    }
}

/// What the local clients get in place of a good value.
pub(super) fn message(topic: &str, fallback: &Fallback) -> Option<Local> {
    let topic = TopicName::new(fallback.topic.as_deref().unwrap_or(topic)).ok()?;
    let payload = bytes::Bytes::copy_from_slice(fallback.publish.as_bytes());
    Some(Local { topic, payload, properties: vec![("sealcast-fail-safe", "1".to_owned())] })
}
