//! Events of the feed. Both sides have them from here: the hub writes them, and whoever shows the hub reads them.

use serde::{Deserialize, Serialize};

use super::{Alarm, Demo, Entry, Group, HubState, LedgerState, Node, Point, Source, Totals, Wire};
use crate::actions::Outcome;

/// The name of what a reader gets whose place in the feed is gone: it has to load the state again. Its data is `{}`.
pub const RESET: &str = "reset";

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

/// The data of an event `links`: which lines of the map light up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinksEvent {
    /// When.
    pub at: u64,
    /// Since the event before.
    pub links: Vec<LinkCount>,
}

/// Messages that one sender published on one topic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkCount {
    /// The device that sent them.
    pub from: Option<String>,
    /// The group that the topic belongs to.
    pub group: Option<String>,
    /// The topic, or as much of it as is shown.
    pub topic: String,
    /// How many.
    pub count: u64,
}

/// The data of an event `value`: a reading on the ledger, or one that a node shares.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ValueEvent {
    /// Whose.
    pub node: String,
    /// Of which topic.
    pub topic: String,
    /// Which value of the topic's messages; empty where they hold one.
    pub name: String,
    /// For which group.
    pub group: String,
    /// Who says so.
    pub source: Source,
    /// The reading.
    pub point: Point,
}

/// The data of an event `verify`: how far a verification of the ledger has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyEvent {
    /// How it is.
    pub state: VerifyState,
    /// Entries that are verified.
    pub done: u64,
    /// Entries that it verifies.
    pub of: u64,
    /// What came of it.
    pub text: String,
}

/// How a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyState {
    /// It is under way.
    Running,
    /// All entries are good.
    Done,
    /// One is not, or the ledger could not be read.
    Failed,
}

/// Why an event cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// This version has no such event.
    #[error("the hub is of another version: its event {0:?} is not known here")]
    Unknown(String),
    /// Its data is not what this version expects.
    #[error("the hub is of another version: its event {name:?} cannot be read")]
    Data {
        /// The event's name.
        name: String,
        /// What is wrong with the data.
        source: serde_json::Error,
    },
}

/// One table of the events, so that both sides have the same names and the same data.
macro_rules! feed_events {
    ($($(#[$doc:meta])* $name:literal $variant:ident($data:ty),)*) => {
        /// An event of `/api/feed`.
        #[derive(Debug, Clone)]
        pub enum FeedEvent {
            $($(#[$doc])* $variant($data),)*
        }

        impl FeedEvent {
            #[cfg(test)]
            const NAMES: &[&str] = &[$($name),*];

            /// Its name in the feed.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// Its data in the feed, JSON.
            ///
            /// # Errors
            /// There is no JSON for it.
            pub fn data(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Self::$variant(data) => serde_json::to_string(data),)*
                }
            }

            /// The event of this name with this data.
            ///
            /// # Errors
            /// The name is not known, or its data is not what the name promises: whoever wrote it is of another version.
            pub fn parse(name: &str, data: &str) -> Result<Self, EventError> {
                let event = match name {
                    $($name => serde_json::from_str(data).map(Self::$variant),)*
                    _ => return Err(EventError::Unknown(name.to_owned())),
                };
                event.map_err(|source| EventError::Data { name: name.to_owned(), source })
            }
        }
    };
}

feed_events! {
    /// Sums.
    "totals" Totals(Box<TotalsEvent>),
    /// A device, new or changed.
    "node" Node(Box<Node>),
    /// A group, new or changed.
    "group" Group(Box<Group>),
    /// All alarms that stand.
    "alarms" Alarms(Vec<Alarm>),
    /// An entry of the ledger.
    "entry" Entry(Entry),
    /// Messages at the hub's broker.
    "wire" Wire(WireEvent),
    /// Lines of the map.
    "links" Links(LinksEvent),
    /// A reading on the ledger.
    "value" Value(ValueEvent),
    /// A verification's progress.
    "verify" Verify(VerifyEvent),
    /// What became of an action.
    "action" Action(Outcome),
    /// How far the demo has come.
    "demo" Demo(Demo),
}

#[cfg(test)]
mod tests;
