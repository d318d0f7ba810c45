//! What passes by: messages, values, and the demo.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A message at the hub's broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wire {
    /// Grows.
    pub id: u64,
    /// When it came.
    pub at: u64,
    /// The device that sent it.
    pub from: Option<String>,
    /// Its topic, or as much of it as is shown.
    pub topic: String,
    /// The payload's length.
    pub bytes: usize,
    /// The payload's first 256 bytes.
    pub hex: String,
    /// Whether it has the form of a sealed message.
    pub sealed: bool,
    /// The group that its topic belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether the broker keeps it.
    pub retained: bool,
    /// In the demo, what each node's application got; null: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<BTreeMap<String, Option<String>>>,
}

/// Messages at the hub's broker.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WirePage {
    /// Newest first.
    pub messages: Vec<Wire>,
}

/// Values of one topic from one node.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Series {
    /// Whose.
    pub node: String,
    /// Which topic.
    pub topic: String,
    /// Which value of the topic's messages; empty where they hold one.
    pub name: String,
    /// For which group.
    pub group: String,
    /// Who says so.
    pub source: Source,
    /// What they are in.
    pub unit: String,
    /// Oldest first.
    pub points: Vec<Point>,
    /// By which rules they are judged.
    pub bands: Bands,
}

/// Who vouches for values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The ledger, whose contract has judged them.
    Ledger,
    /// The node, whose agent has judged them.
    Node,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Point {
    /// When it was taken, by its node's clock.
    pub at: u64,
    /// The value.
    pub value: f64,
    /// Whether it keeps to the rules.
    pub verdict: Verdict,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a value keeps to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does.
    Good,
    /// It was handed on with a mark.
    Flagged,
    /// It was refused.
    Blocked,
}

/// The rules for a topic's values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Bands {
    /// The least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The greatest distance to the value before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
}

/// The demo, as far as it has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Demo {
    /// In order.
    pub steps: Vec<Step>,
    /// The machine with the valve, once it runs.
    pub valve: Option<Valve>,
    /// Whether all is over.
    pub done: bool,
    /// How many steps there will be.
    pub total: usize,
}

/// A step of the demo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Its number.
    pub n: usize,
    /// In a few words.
    pub title: String,
    /// What happens.
    pub text: String,
    /// How it is.
    pub state: DemoState,
    /// What should be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// Which part of the paper's experiment it belongs to.
    pub chapter: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

/// How a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DemoState {
    /// It comes later.
    Waiting,
    /// It is at work.
    Running,
    /// What was expected was seen.
    Held,
    /// It was not.
    Failed,
}

/// The machine whose valve must open when it is hot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Valve {
    /// As it is.
    pub temperature: f64,
    /// As the controller believes.
    pub shown: f64,
    /// The valve.
    pub valve: ValveState,
    /// Whether it was too hot for too long.
    pub damaged: bool,
    /// `[time, temperature, shown]`, oldest first.
    pub history: Vec<(u64, f64, f64)>,
}

/// The valve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValveState {
    /// It cools.
    Open,
    /// It does not.
    Shut,
}
