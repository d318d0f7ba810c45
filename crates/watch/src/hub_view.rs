//! What is known of a hub: its state as it was loaded, kept up to date by the feed.

use std::collections::{BTreeMap, VecDeque};

use sealcast_console::{Alarm, Entry, EventError, FeedEvent, Group, HubState, LedgerState, Node, Totals, Wire};

use crate::follow::{Loaded, Update};

/// Devices, entries, messages and seconds of traffic that are kept.
const MAX_NODES: usize = 20_000;
const MAX_ENTRIES: usize = 1000;
const MAX_WIRE: usize = 500;
const MAX_RATES: usize = 600;

/// See the module.
#[derive(Debug, Clone)]
pub struct HubView {
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
    pub rate_history: VecDeque<u64>,
}

impl HubView {
    /// Takes an update into `known`, which is `None` at first.
    ///
    /// # Errors
    /// It is an event that this version cannot read. What is known stays as it was.
    pub fn apply(known: &mut Option<Self>, update: Update) -> Result<(), EventError> {
        match (update, known) {
            (Update::Loaded(loaded), known) => {
                *known = Some(Self::loaded(known.take(), *loaded));
            }
            (Update::Event(event), Some(known)) => known.apply_event(FeedEvent::parse(&event.name, &event.data)?),
            _ => {}
        }
        Ok(())
    }

    /// What was loaded, in the place of what was `known`.
    pub fn loaded(known: Option<Self>, loaded: Loaded) -> Self {
        let Loaded { state, entries, wire } = loaded;
        let mut new = Self {
            at: state.at,
            hub: state.hub,
            ledger: state.ledger,
            totals: state.totals,
            nodes: state.nodes.into_iter().take(MAX_NODES).map(|node| (node.id.clone(), node)).collect(),
            groups: state.groups.into_iter().map(|group| (group.number, group)).collect(),
            alarms: state.alarms,
            entries: entries.into(),
            wire: wire.into(),
            // The traffic so far stays in the picture when the state is loaded again.
            rate_history: known.map(|known| known.rate_history).unwrap_or_default(),
        };
        new.add_rate();
        new
    }

    /// Takes an event.
    pub fn apply_event(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Totals(event) => {
                (self.at, self.totals, self.ledger, self.hub) = (event.at, event.totals, event.ledger, event.hub);
                self.add_rate();
            }
            FeedEvent::Node(node) => {
                if self.nodes.len() < MAX_NODES || self.nodes.contains_key(&node.id) {
                    self.nodes.insert(node.id.clone(), *node);
                }
            }
            FeedEvent::Group(group) => drop(self.groups.insert(group.number, *group)),
            FeedEvent::Alarms(alarms) => self.alarms = alarms,
            // One that was loaded with the state may be told once more.
            FeedEvent::Entry(entry) => {
                if self.entries.front().is_none_or(|newest| newest.index < entry.index) {
                    self.entries.push_front(entry);
                    self.entries.truncate(MAX_ENTRIES);
                }
            }
            FeedEvent::Wire(event) => {
                for wire in event.messages {
                    // The demo tells a message again when it knows how each node reads it.
                    if let Some(known) = self.wire.iter_mut().find(|known| known.id == wire.id) {
                        *known = wire;
                    } else if self.wire.front().is_none_or(|newest| newest.id < wire.id) {
                        self.wire.push_front(wire);
                    }
                }
                self.wire.truncate(MAX_WIRE);
            }
            // No view shows them.
            FeedEvent::Links(_)
            | FeedEvent::Value(_)
            | FeedEvent::Verify(_)
            | FeedEvent::Action(_)
            | FeedEvent::Demo(_) => {}
        }
    }

    fn add_rate(&mut self) {
        self.rate_history.push_back((self.totals.per_second * 10.0).round() as u64);
        if self.rate_history.len() > MAX_RATES {
            self.rate_history.pop_front();
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
