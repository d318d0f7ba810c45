//! What `agent.toml` says about values.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use sealcast_agent_core::values::{Flagged, Format, Receive, ValueRules};
use sealcast_mqtt::TopicName;
use sealcast_node::config::TableAt;
use sealcast_quality::{RuleFilter, RuleSet, TopicSpec};
use sealcast_reading::{InputConfig, OutputConfig};
use sealcast_topic::is_control;
use serde::Deserialize;

use super::by_filter::by_filter;

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

/// Checks every value.
pub fn value_rules(
    quality: Vec<TopicSpec>,
    publish: Vec<PublishFile>,
    receive: Vec<ReceiveFile>,
    alarm_topic: Option<String>,
) -> Result<ValueRules> {
    let own_topics: Vec<_> = quality.iter().map(|spec| (spec.filter.clone(), own_topics(spec))).collect();
    let quality = Arc::new(RuleSet::new(quality)?);
    for (at, (filter, topics)) in own_topics.into_iter().enumerate() {
        for (key, topic) in topics {
            own_topic(key, topic).with_context(|| TableAt::new("quality", at, &filter))?;
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
                divert_to: own_topic("divert_to", table.divert_to.unwrap_or_else(|| "flagged".into()))?,
                require_checked: table.require_checked,
            };
            Ok(receive)
        },
    )?;
    let alarm_topic = alarm_topic.map(|text| own_topic("alarm_topic", text)).transpose()?;
    Ok(ValueRules::new(quality, publish, receive, alarm_topic))
}

/// A topic that the agent itself publishes on.
fn own_topic(key: &str, text: String) -> Result<String> {
    TopicName::new(&text).with_context(|| format!("{key}: {text:?} is not a topic"))?;
    ensure!(text.len() <= RuleFilter::MAX_BYTES, "{key}: must have at most {} bytes", RuleFilter::MAX_BYTES);
    ensure!(
        !text.starts_with('$') && !is_control(&text),
        "{key}: {text:?} is reserved: choose a topic that begins with neither $ nor sealcast/"
    );
    Ok(text)
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
