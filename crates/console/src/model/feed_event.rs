//! Events of the feed.

use serde::{Deserialize, Serialize};

use super::{Alarm, Entry, Group, HubState, LedgerState, Node, Totals, Wire};

/// The data of an event `totals`, which comes once a second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TotalsEvent {
    /// When this was so.
    pub at: u64,
    /// Sums.
    pub totals: Totals,
    /// The ledger.
    pub ledger: LedgerState,
    /// The hub.
    pub hub: HubState,
}

/// The data of an event `wire`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WireEvent {
    /// The newest of what came, oldest first.
    pub messages: Vec<Wire>,
}

/// An event, as whoever shows the state keeps it up to date.
#[derive(Debug, Clone)]
pub enum FeedEvent {
    /// Sums.
    Totals(Box<TotalsEvent>),
    /// A device, new or changed.
    Node(Box<Node>),
    /// A group, new or changed.
    Group(Box<Group>),
    /// All alarms that stand.
    Alarms(Vec<Alarm>),
    /// An entry of the ledger.
    Entry(Entry),
    /// Messages at the hub's broker.
    Wire(WireEvent),
    /// Events are missing: load the state again.
    Reset,
    /// Nothing of the state: links of the map, values, the outcome of an action, progress.
    Other,
}

impl FeedEvent {
    /// The event of this name.
    ///
    /// # Errors
    /// Its data is not what the name promises.
    pub fn parse(name: &str, data: &str) -> Result<Self, serde_json::Error> {
        Ok(match name {
            "totals" => Self::Totals(serde_json::from_str(data)?),
            "node" => Self::Node(serde_json::from_str(data)?),
            "group" => Self::Group(serde_json::from_str(data)?),
            "alarms" => Self::Alarms(serde_json::from_str(data)?),
            "entry" => Self::Entry(serde_json::from_str(data)?),
            "wire" => Self::Wire(serde_json::from_str(data)?),
            "reset" => Self::Reset,
            _ => Self::Other,
        })
    }
}
