//! What the API says, as JSON. Times are Unix ms, ids are strings.

mod feed_event;
mod live;
mod records;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::{
    feed_event::{
        EventError, FeedEvent, LinkCount, LinksEvent, RESET, TotalsEvent, ValueEvent, VerifyEvent, VerifyState,
        WireEvent,
    },
    live::{Bands, Demo, DemoState, Point, Series, Source, Step, Valve, ValveState, Verdict, Wire, WirePage},
    records::{Entry, EntryDetail, EntryPage, EntrySignature, Epoch},
};

/// All that an overview needs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct State {
    /// When this was so.
    pub at: u64,
    /// The feed continues behind this event: `/api/feed?after=`.
    pub event: String,
    /// The hub.
    pub hub: HubState,
    /// The ledger.
    pub ledger: LedgerState,
    /// Sums.
    pub totals: Totals,
    /// All devices on the ledger.
    pub nodes: Vec<Node>,
    /// All groups on the ledger.
    pub groups: Vec<Group>,
    /// What needs a person.
    pub alarms: Vec<Alarm>,
    /// How far the demo has come, if one runs.
    pub demo: Option<Demo>,
}

/// The hub.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HubState {
    /// Its first name.
    pub name: String,
    /// Sealcast's version.
    pub version: String,
    /// When this process began.
    pub started: u64,
    /// What devices are told of the broker.
    pub broker: String,
    /// Whether that is the hub's own: of another one it sees no messages.
    pub own_broker: bool,
    /// Whether a process with the operator's key carries out actions.
    pub operator: bool,
}

/// The ledger.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LedgerState {
    /// The EVM chain's id.
    pub chain_id: u64,
    /// The contract's address.
    pub contract: String,
    /// Number of entries.
    pub height: u64,
    /// The hash that names them all.
    pub head: String,
    /// Where it is.
    pub place: Place,
    /// The last entry's time.
    pub last: u64,
}

/// Where the ledger is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the hub's folder.
    Embedded,
    /// On an EVM network.
    Network,
}

/// Sums over all nodes. The last three are what the agents report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Application messages that the hub's broker took since the hub began.
    pub messages: u64,
    /// How many of them a second, now.
    pub per_second: f64,
    /// Messages sealed.
    pub sealed: u64,
    /// Messages opened.
    pub opened: u64,
    /// Messages refused, by reason code.
    pub refused: BTreeMap<String, u64>,
}

/// A device, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// Its number on the contract.
    pub number: String,
    /// What the ledger says of it.
    pub state: NodeState,
    /// Whether it is connected to the hub's broker; null: not known.
    pub online: Option<bool>,
    /// When something came from it last.
    pub seen: Option<u64>,
    /// The groups that it is granted.
    pub groups: Vec<String>,
    /// Those of them whose keys it does not have yet.
    pub pending: Vec<String>,
    /// Messages that it published at the broker.
    pub messages: u64,
    /// Messages that it sealed, as it reports.
    pub sealed: Option<u64>,
    /// Messages that it opened, as it reports.
    pub opened: Option<u64>,
    /// Messages that it refused, as it reports.
    pub refused: Option<u64>,
    /// Standing alarms about it.
    pub alarms: usize,
    /// When its certificate ends.
    pub certificate_ends: u64,
}

/// What the ledger says of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It may be a member of groups.
    Active,
    /// It may do nothing.
    Revoked,
    /// Its certificate has ended.
    Expired,
}

/// A group, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number on the contract.
    pub number: u16,
    /// Its topic filters.
    pub filters: Vec<String>,
    /// Its epoch on the ledger.
    pub epoch: u64,
    /// The devices that are granted it.
    pub members: Vec<String>,
    /// The devices with a leaf in its MLS tree.
    pub joined: Vec<String>,
    /// Who can be told apart: each sender, or the group's members from others only.
    pub authenticity: Authenticity,
    /// How it is.
    pub state: GroupState,
    /// Messages on its topics at the broker.
    pub messages: u64,
    /// How many a second, now.
    pub per_second: f64,
}

/// What a receiver knows of a message's sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Authenticity {
    /// Which device it is.
    Signed,
    /// That it is a member of the group.
    Group,
}

/// How a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupState {
    /// Whoever is granted it has its keys.
    Ok,
    /// A device that is granted it has no keys yet, or one that was revoked still has them.
    Waiting,
    /// Nobody has its keys.
    Stopped,
}

/// What needs a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alarm {
    /// Stays the same as long as the alarm stands.
    pub id: String,
    /// How bad it is.
    pub level: Level,
    /// Since when.
    pub since: u64,
    /// About which device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// About which group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What happened.
    pub text: String,
    /// What to do.
    pub advice: String,
    /// A reason code of docs/reasons.md, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// How bad an alarm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It does not do its work.
    Error,
    /// It will not do its work if nothing is done.
    Warn,
}

/// A device.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NodeDetail {
    /// In short.
    #[serde(flatten)]
    pub node: Node,
    /// Its certificate, as the ledger has it.
    pub certificate: CertificateInfo,
    /// Uncompressed point on P-256, hex.
    pub public_key: String,
    /// What the contract has of it, as text or numbers.
    #[schema(value_type = Object)]
    pub contract_record: serde_json::Value,
    /// What it refused, as it reports.
    pub refusals: Vec<Refusals>,
    /// How its topics are, as it reports.
    pub quality: Vec<Quality>,
    /// The ledger's newest entries by it or about it, newest first.
    pub entries: Vec<Entry>,
    /// When it reported last.
    pub reported: Option<u64>,
}

/// A certificate.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CertificateInfo {
    /// Of the DER, hex.
    pub sha256: String,
    /// Its subject.
    pub subject: String,
    /// Hex.
    pub serial: String,
    /// When the ledger got it.
    pub registered: Option<u64>,
    /// When it ends.
    pub not_after: u64,
}

/// What was refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refusals {
    /// A reason code of docs/reasons.md.
    pub code: String,
    /// How often.
    pub count: u64,
    /// What it means.
    pub text: String,
}

/// How a topic is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Quality {
    /// The topic.
    pub topic: String,
    /// How it is.
    pub state: QualityState,
    /// Why.
    pub text: String,
    /// Since when.
    pub since: u64,
}

/// How a topic's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QualityState {
    /// They keep to the rules.
    Good,
    /// The last one was kept back.
    Blocked,
    /// The last one was sent with a mark.
    Flagged,
    /// None comes.
    Silent,
}

/// A group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupDetail {
    /// In short.
    #[serde(flatten)]
    pub group: Group,
    /// Its policy, by name.
    #[schema(value_type = Object)]
    pub policy: serde_json::Value,
    /// Its newest epochs, newest first.
    pub epochs: Vec<Epoch>,
    /// What the ledger asks of readings, one a topic.
    #[schema(value_type = Vec<Object>)]
    pub limits: Vec<serde_json::Value>,
    /// The ledger's newest entries about it, newest first.
    pub entries: Vec<Entry>,
}
