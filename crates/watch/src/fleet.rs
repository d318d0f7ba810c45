//! What is known of a hub: its state as it was loaded, kept up to date by the feed.

use std::collections::{BTreeMap, VecDeque};

use sealcast_console::{Alarm, Entry, FeedEvent, Group, HubState, LedgerState, Node, Totals, Wire};

use crate::{
    follow::{Loaded, News},
    sse::Event,
};

/// Entries, messages and seconds of traffic that are kept.
const MAX_ENTRIES: usize = 1000;
const MAX_WIRE: usize = 500;
const MAX_PACE: usize = 600;

/// See the module.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The hub's time, Unix ms. Ages are counted from it, so that the clock of this machine does not matter.
    pub at: u64,
    /// The hub.
    pub hub: HubState,
    /// The ledger.
    pub ledger: LedgerState,
    /// Sums.
    pub totals: Totals,
    /// By id.
    pub nodes: BTreeMap<String, Node>,
    /// By number.
    pub groups: BTreeMap<u16, Group>,
    /// The worst first.
    pub alarms: Vec<Alarm>,
    /// Newest first.
    pub entries: VecDeque<Entry>,
    /// Newest first.
    pub wire: VecDeque<Wire>,
    /// Tenths of messages a second, one figure for each second, the newest last: whole ones would make a slow fleet a flat
    /// line.
    pub pace: VecDeque<u64>,
}

/// How many rows have come on top of the lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Grown {
    /// Of the entries.
    pub entries: usize,
    /// Of the messages.
    pub wire: usize,
}

impl Fleet {
    /// Takes news into `known`, which is `None` at first. An event whose data this version cannot read is passed over.
    pub fn hear(known: &mut Option<Self>, news: &News) -> Grown {
        match (news, known) {
            (News::Loaded(loaded), known) => {
                // The traffic so far stays in the picture when the state is loaded again.
                let pace = known.take().map(|known| known.pace).unwrap_or_default();
                let mut new = Self { pace, ..Self::new(loaded) };
                new.add_pace();
                *known = Some(new);
                Grown::default()
            }
            (News::Event(Event { name, data, .. }), Some(known)) => {
                FeedEvent::parse(name, data).map(|event| known.apply(event)).unwrap_or_default()
            }
            _ => Grown::default(),
        }
    }

    fn new(loaded: &Loaded) -> Self {
        let Loaded { state, entries, wire } = loaded;
        Self {
            at: state.at,
            hub: state.hub.clone(),
            ledger: state.ledger.clone(),
            totals: state.totals.clone(),
            nodes: state.nodes.iter().map(|node| (node.id.clone(), node.clone())).collect(),
            groups: state.groups.iter().map(|group| (group.number, group.clone())).collect(),
            alarms: state.alarms.clone(),
            entries: entries.iter().cloned().collect(),
            wire: wire.iter().cloned().collect(),
            pace: VecDeque::new(),
        }
    }

    /// Takes an event.
    pub fn apply(&mut self, event: FeedEvent) -> Grown {
        let mut grown = Grown::default();
        match event {
            FeedEvent::Totals(event) => {
                (self.at, self.totals, self.ledger, self.hub) = (event.at, event.totals, event.ledger, event.hub);
                self.add_pace();
            }
            FeedEvent::Node(node) => drop(self.nodes.insert(node.id.clone(), *node)),
            FeedEvent::Group(group) => drop(self.groups.insert(group.number, *group)),
            FeedEvent::Alarms(alarms) => self.alarms = alarms,
            // One that was loaded with the state may be told once more.
            FeedEvent::Entry(entry) => {
                if self.entries.front().is_none_or(|newest| newest.index < entry.index) {
                    self.entries.push_front(entry);
                    self.entries.truncate(MAX_ENTRIES);
                    grown.entries = 1;
                }
            }
            FeedEvent::Wire(event) => {
                for wire in event.messages {
                    // The demo tells a message again when it knows how each node reads it.
                    if let Some(known) = self.wire.iter_mut().find(|known| known.id == wire.id) {
                        *known = wire;
                    } else if self.wire.front().is_none_or(|newest| newest.id < wire.id) {
                        self.wire.push_front(wire);
                        grown.wire += 1;
                    }
                }
                self.wire.truncate(MAX_WIRE);
            }
            FeedEvent::Reset | FeedEvent::Other => {}
        }
        grown
    }

    fn add_pace(&mut self) {
        self.pace.push_back((self.totals.per_second * 10.0).round() as u64);
        if self.pace.len() > MAX_PACE {
            self.pace.pop_front();
        }
    }

    /// Messages that the agents have refused.
    pub fn refused(&self) -> u64 {
        self.totals.refused.values().sum()
    }

    /// Devices that are connected to the hub's broker; `None` if it is not the hub's.
    pub fn online(&self) -> Option<usize> {
        let known: Vec<bool> = self.nodes.values().filter_map(|node| node.online).collect();
        (self.hub.own_broker || !known.is_empty()).then(|| known.iter().filter(|online| **online).count())
    }
}
