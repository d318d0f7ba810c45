//! What `agent.toml` says about values: rules, formats, and what applications get to see.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use sealcast_agent_core::ByFilter;
use sealcast_mqtt::TopicName;
use sealcast_node::config::TableAt;
use sealcast_quality::{RuleFilter, RuleSet, TopicSpec};
use sealcast_reading::{Decoder, Encoder, InputConfig, OutputConfig, PlainConfig};
use sealcast_topic::is_control;
use serde::Deserialize;

use crate::config::by_filter;

/// `[[publish]]`: what the device's clients publish, and what is sealed in its place.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with filter = \"TOPIC FILTER\"")]
pub struct PublishFile {
    filter: String,
    /// How the device writes its readings. Default `{ format = "number" }`.
    input: Option<InputConfig>,
    /// How they are published. Default: the device's bytes.
    output: Option<OutputConfig>,
}

/// `[[receive]]`: what applications get of what other members publish.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with filter = \"TOPIC FILTER\"")]
pub struct ReceiveFile {
    filter: String,
    /// How the sender writes its readings. Default `{ format = "number" }`.
    input: Option<InputConfig>,
    /// How they are handed on. Default: the sender's bytes.
    output: Option<OutputConfig>,
    /// Flagged values for MQTT 3.1.1 clients, which cannot see that they are. Default `deliver`.
    #[serde(default)]
    flagged: Flagged,
    /// The same for MQTT 5 clients. Default `deliver`.
    #[serde(default)]
    flagged_v5: Flagged,
    /// What stands before the topic of a diverted value. Default `flagged`.
    divert_to: Option<String>,
    /// Values that their sender's agent did not check are withheld. Default false.
    #[serde(default)]
    require_checked: bool,
}

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

impl ValueRules {
    /// Checks every value.
    pub fn new(
        quality: Vec<TopicSpec>,
        publish: Vec<PublishFile>,
        receive: Vec<ReceiveFile>,
        alarm_topic: Option<String>,
    ) -> Result<Self> {
        let own_topics: Vec<_> = quality.iter().map(|spec| (spec.filter.clone(), own_topics(spec))).collect();
        let quality = Arc::new(RuleSet::new(quality)?);
        let name = |key: &str, text: String| -> Result<String> {
            TopicName::new(&text).with_context(|| format!("{key}: {text:?} is not a topic"))?;
            ensure!(text.len() <= RuleFilter::MAX_BYTES, "{key}: must have at most {} bytes", RuleFilter::MAX_BYTES);
            ensure!(
                !text.starts_with('$') && !is_control(&text),
                "{key}: {text:?} is reserved: choose a topic that begins with neither $ nor sealcast/"
            );
            Ok(text)
        };
        for (at, (filter, topics)) in own_topics.into_iter().enumerate() {
            for (key, topic) in topics {
                name(key, topic).with_context(|| TableAt::new("quality", at, &filter))?;
            }
        }
        let publish = by_filter(
            "publish",
            publish,
            |table| &table.filter,
            |table| Format::new(table.input, table.output)?.context("neither input nor output is set: set one of them"),
        )?;
        let receive = by_filter(
            "receive",
            receive,
            |table| &table.filter,
            |table| {
                let receive = Receive {
                    format: Format::new(table.input, table.output)?,
                    flagged: table.flagged,
                    flagged_v5: table.flagged_v5,
                    divert_to: name("divert_to", table.divert_to.unwrap_or_else(|| "flagged".into()))?,
                    require_checked: table.require_checked,
                };
                Ok(receive)
            },
        )?;
        let alarm_topic = alarm_topic.map(|text| name("alarm_topic", text)).transpose()?;
        Ok(Self { quality, publish, receive, alarm_topic })
    }

    /// How the readings of a published topic are read and written.
    pub fn publish(&self, topic: &str) -> Option<&Format> {
        self.publish.find(topic)
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

/// The topics that a rule publishes on, with their keys.
fn own_topics(spec: &TopicSpec) -> Vec<(&'static str, String)> {
    let fail_safe = spec.fail_safe.as_ref();
    let topics = [
        ("fail_safe.on_silence.topic", fail_safe.and_then(|spec| spec.on_silence.as_ref()?.topic.clone())),
        ("fail_safe.on_blocked.topic", fail_safe.and_then(|spec| spec.on_blocked.as_ref()?.topic.clone())),
        ("archive.topic", spec.archive.as_ref().and_then(|spec| spec.topic.clone())),
    ];
    topics.into_iter().filter_map(|(key, topic)| Some((key, topic?))).collect()
}

impl Format {
    fn new(input: Option<InputConfig>, output: Option<OutputConfig>) -> Result<Option<Self>> {
        if input.is_none() && output.is_none() {
            return Ok(None);
        }
        let input = input.unwrap_or_else(|| InputConfig::Number(PlainConfig::default()));
        let decoder = Decoder::new(input).context("input")?;
        let encoder = output.map(|output| Encoder::new(output).context("output")).transpose()?;
        Ok(Some(Self { decoder, encoder }))
    }

    /// A number as text: what is read where no format is named.
    pub fn plain() -> Result<Self> {
        Ok(Self { decoder: Decoder::new(InputConfig::Number(PlainConfig::default()))?, encoder: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarms_topic_says_whose_it_is() -> Result<()> {
        let check = |prefix: Option<&str>, topic: &str, device: Option<&str>| {
            let rules = ValueRules::new(vec![], vec![], vec![], prefix.map(str::to_owned))?;
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
