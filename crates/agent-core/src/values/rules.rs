//! What is said about values: rules, formats, and what applications get to see.

use std::sync::Arc;

use sealcast_quality::{RuleFilter, RuleSet, TopicRules};
use sealcast_reading::{ConfigError, Decoder, Encoder, InputConfig, OutputConfig, PlainConfig};
use sealcast_topic::overlap;
use serde::Deserialize;

use crate::ByFilter;

/// What becomes of a flagged value at the receiving side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flagged {
    /// Handed on; MQTT 5 clients see why it is flagged.
    #[default]
    Deliver,
    /// Withheld.
    Drop,
    /// Handed to those that subscribed to the topic with `divert_to` before it.
    Divert,
}

/// All that is said about values, checked.
#[derive(Debug, Clone, Default)]
pub struct ValueRules {
    /// The rules of crates/quality.
    pub quality: Arc<RuleSet>,
    publish: ByFilter<Format>,
    receive: ByFilter<Receive>,
    alarm_topic: Option<String>,
    shared: Vec<RuleFilter>,
}

/// From bytes to readings, and back if asked.
#[derive(Debug, Clone)]
pub struct Format {
    /// Reads.
    pub decoder: Decoder,
    /// Writes.
    pub encoder: Option<Encoder>,
}

/// The receiving side of a topic.
#[derive(Debug, Clone)]
pub struct Receive {
    /// If the bytes are read at all.
    pub format: Option<Format>,
    /// For MQTT 3.1.1 clients.
    pub flagged: Flagged,
    /// For MQTT 5 clients.
    pub flagged_v5: Flagged,
    /// Before the topic of a diverted value.
    pub divert_to: String,
    /// Whether the sender's agent must have checked it.
    pub require_checked: bool,
}

/// A format that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// What is read.
    #[error("input")]
    Input(#[source] ConfigError),
    /// What is written.
    #[error("output")]
    Output(#[source] ConfigError),
}

impl ValueRules {
    /// `alarm_topic` stands before the device and the topic of an alarm. It and what the rules name are topics of a client's.
    pub fn new(
        quality: Arc<RuleSet>,
        publish: ByFilter<Format>,
        receive: ByFilter<Receive>,
        alarm_topic: Option<String>,
    ) -> Self {
        Self { quality, publish, receive, alarm_topic, shared: Vec::new() }
    }

    /// Readings of these topics may be shown in the hub's console.
    #[must_use]
    pub fn with_shared(self, shared: Vec<RuleFilter>) -> Self {
        Self { shared, ..self }
    }

    /// Whether readings of a topic may be shown in the hub's console.
    pub fn is_shared(&self, topic: &str) -> bool {
        self.shared.iter().any(|filter| filter.matches(topic))
    }

    /// How the readings of a published topic are read and written.
    pub fn publish(&self, topic: &str) -> Option<&Format> {
        self.publish.find(topic)
    }

    /// The rules that something published to a topic is judged by.
    pub fn judging(&self, topic: &str) -> Option<&TopicRules> {
        let judges = |rules: &&TopicRules| rules.has_checks() || rules.report().is_some() || rules.archive().is_some();
        self.quality.find(topic).filter(judges)
    }

    /// Whether something published to a topic is judged or converted at all.
    pub fn apply_to(&self, topic: &str) -> bool {
        self.judging(topic).is_some() || self.publish(topic).is_some()
    }

    /// What applications get of a topic.
    pub fn receive(&self, topic: &str) -> Option<&Receive> {
        self.receive.find(topic)
    }

    /// Whether nothing is said at all.
    pub fn is_empty(&self) -> bool {
        self.quality.iter().next().is_none() && self.publish.is_empty() && self.receive.is_empty()
    }

    /// The alarm's own topic: the configured one, or `<first level>/alarm`, then the device, then the topic it is about.
    pub fn alarm_topic(&self, device: &str, topic: &str) -> String {
        match &self.alarm_topic {
            Some(prefix) => format!("{prefix}/{device}/{topic}"),
            None => format!("{}/alarm/{device}/{topic}", topic.split('/').next().unwrap_or_default()),
        }
    }

    /// Whose alarms a topic is for; `None` if it is not for alarms.
    pub fn alarm_device<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let rest = match &self.alarm_topic {
            Some(prefix) => topic.strip_prefix(prefix.as_str())?.strip_prefix('/')?,
            None => topic.split_once('/')?.1.strip_prefix("alarm/")?,
        };
        rest.split('/').next()
    }

    /// Where the archive of a topic goes: the rule's topic, or `<first level>/archive/<topic>`.
    pub fn archive_topic(&self, topic: &str) -> String {
        match self.quality.find(topic).and_then(|rules| rules.archive_topic()) {
            Some(own) => own.to_owned(),
            None => format!("{}/archive/{topic}", topic.split('/').next().unwrap_or_default()),
        }
    }

    /// Whether clients that subscribe to `filter` may be given messages of the agent's own: fail-safe values, and flagged values
    /// that go to another topic.
    pub fn speak_on(&self, filter: &str) -> bool {
        let fail_safe = self.quality.iter().any(|rules| {
            let fallbacks = rules.fail_safe().map(|rules| [&rules.on_silence, &rules.on_blocked]);
            let mut topics = fallbacks.into_iter().flatten().flatten().map(|fallback| fallback.topic.as_deref());
            topics.any(|topic| overlap(topic.unwrap_or(rules.filter().as_str()), filter))
        });
        let diverts = |receive: &Receive| [receive.flagged, receive.flagged_v5].contains(&Flagged::Divert);
        let mut diverted = self.receive.iter().filter(|receive| diverts(receive));
        fail_safe || diverted.any(|receive| overlap(&format!("{}/#", receive.divert_to), filter))
    }

    /// What the agent itself subscribes to so that it can tell when a fail-safe value is due: the values, and the alarms of
    /// their senders.
    pub fn watched(&self) -> Vec<String> {
        let mut filters = Vec::new();
        for rules in self.quality.iter() {
            let Some(fail_safe) = rules.fail_safe() else { continue };
            let filter = rules.filter().as_str();
            filters.push(filter.to_owned());
            if fail_safe.on_blocked.is_some() {
                filters.push(match &self.alarm_topic {
                    Some(prefix) => format!("{prefix}/#"),
                    // `#` alone has no first level to put before the alarms'.
                    None => match filter.split('/').next() {
                        Some("#") | None => "+/alarm/#".to_owned(),
                        Some(first) => format!("{first}/alarm/#"),
                    },
                });
            }
        }
        filters.sort();
        filters.dedup();
        filters
    }
}

impl Format {
    /// `None` if neither is given. Without `input`, a number as text is read.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn new(input: Option<InputConfig>, output: Option<OutputConfig>) -> Result<Option<Self>, FormatError> {
        if input.is_none() && output.is_none() {
            return Ok(None);
        }
        let decoder = input.map_or_else(plain, Decoder::new).map_err(FormatError::Input)?;
        let encoder = output.map(Encoder::new).transpose().map_err(FormatError::Output)?;
        Ok(Some(Self { decoder, encoder }))
    }

    /// A number as text: what is read where no format is named.
    pub(super) fn plain() -> Result<Self, ConfigError> {
        Ok(Self { decoder: plain()?, encoder: None })
    }
}

fn plain() -> Result<Decoder, ConfigError> {
    Decoder::new(InputConfig::Number(PlainConfig::default()))
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;

    #[test]
    fn an_alarms_topic_says_whose_it_is() -> Result<()> {
        let check = |prefix: Option<&str>, topic: &str, device: Option<&str>| {
            let rules = ValueRules { alarm_topic: prefix.map(str::to_owned), ..ValueRules::default() };
            assert_eq!(rules.alarm_device(topic), device, "{prefix:?} {topic}");
            if device.is_some() {
                assert_eq!(rules.alarm_topic("1111", "plant/t"), topic);
            }
            Ok::<_, anyhow::Error>(())
        };
        check(None, "plant/alarm/1111/plant/t", Some("1111"))?;
        check(None, "plant/t", None)?;
        check(None, "alarm/1111/t", None)?;
        check(Some("all/alarms"), "all/alarms/1111/plant/t", Some("1111"))?;
        check(Some("all/alarms"), "plant/alarm/1111/plant/t", None)
    }
}
