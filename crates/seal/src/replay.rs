//! What one local client has seen: a window for each sender's key, and the newest retained message and will of each
//! topic. Bounded, and whatever is dropped for room leaves a floor below which all is refused.

mod dirty;
mod marks;
mod order;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use self::dirty::Dirty;
pub use self::{
    marks::MAX_MARKS,
    window::{ReplayWindow, Seen, WINDOW},
};
pub(crate) use self::{
    marks::{Mark, MarkKey, MarkOf, Marks, SenderTag},
    order::Order,
};
use crate::{
    content::QosClass,
    epoch::EpochId,
    header::{GroupNumber, LeafIndex, Start},
};

/// Windows kept for one client; the least used are dropped, leaving a floor.
pub const MAX_WINDOWS: usize = 16_384;
/// Senders (leaf, epoch and class of QoS) known to one client; messages of more are refused.
pub const MAX_SENDERS: usize = 131_072;
/// Starts of one sender that have a window at a time.
const MAX_STARTS: usize = 8;

/// A sender within one epoch, and one of its two classes of messages. Both count on one counter and each counter is used
/// once, so a frame is only ever judged in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SenderKey {
    pub(crate) group: GroupNumber,
    pub(crate) epoch: EpochId,
    pub(crate) leaf: LeafIndex,
    pub(crate) class: QosClass,
}

/// What is known of one sender's counters.
///
/// Starts have no order, so what bounds their number is time: of a start whose window was dropped, all that was seen is as
/// old as the floor. Whatever has no window of before and is no newer is refused.
#[derive(Debug, Default)]
pub(crate) struct SenderState {
    /// Time of the newest message that was seen by a window that was dropped.
    pub(crate) floor_ms: Option<u64>,
    /// By start, ascending; few, so a Vec is less to look through than a tree, and a tenth of its room.
    pub(crate) windows: Vec<StartWindow>,
    /// Whether [`Windows::dirty`] has it already.
    pub(crate) dirty: bool,
}

/// The window of one start.
#[derive(Debug)]
pub(crate) struct StartWindow {
    pub(crate) start: Start,
    /// [`Windows::clock`] when it was marked last.
    pub(crate) used: u64,
    /// Time of the newest message that it has seen.
    pub(crate) newest_ms: u64,
    /// The sender's floor when the window was made: it may be the second one of its start.
    pub(crate) floor_ms: Option<u64>,
    pub(crate) window: ReplayWindow,
}

impl StartWindow {
    fn is_refused(&self, time_ms: u64) -> bool {
        self.floor_ms.is_some_and(|floor_ms| time_ms <= floor_ms)
    }
}

impl SenderState {
    fn check(&self, order: &Order) -> Seen {
        match self.windows.iter().find(|held| held.start == order.start) {
            Some(held) if held.is_refused(order.time_ms) => Seen::Done,
            Some(held) => held.window.check(order.counter),
            None if self.floor_ms.is_some_and(|floor_ms| order.time_ms <= floor_ms) => Seen::Done,
            None => Seen::New,
        }
    }

    /// The window of `start`, a new one if there is none.
    fn window(&mut self, start: Start) -> Option<&mut StartWindow> {
        let at = match self.windows.binary_search_by_key(&start, |held| held.start) {
            Ok(at) => at,
            Err(at) => {
                // One at a time: most senders never have a second start.
                self.windows.reserve_exact(1);
                let window = ReplayWindow::new();
                let new = StartWindow { start, used: 0, newest_ms: 0, floor_ms: self.floor_ms, window };
                self.windows.insert(at, new);
                at
            }
        };
        self.windows.get_mut(at)
    }

    /// Drops the windows that `keep` does not want. What they have seen stays refused.
    fn retain(&mut self, mut keep: impl FnMut(&StartWindow) -> bool) {
        let Self { floor_ms, windows, .. } = self;
        windows.retain(|held| {
            let keep = keep(held);
            if !keep {
                *floor_ms = (*floor_ms).max(held.floor_ms).max(Some(held.newest_ms));
            }
            keep
        });
    }
}

/// Senders whose place is remembered. A message then costs one comparison in place of two walks down the tree.
const RECENT: usize = 32;

/// Windows of all senders.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    states: Vec<(SenderKey, SenderState)>,
    /// Places in `states`, in the order of their keys.
    index: BTreeMap<SenderKey, usize>,
    /// Places found last, by [`recent_slot`]. A guess: `states` says whose place it is.
    recent: [usize; RECENT],
    pub(crate) count: usize,
    /// Counts uses; what a window's use is compared by.
    pub(crate) clock: u64,
    dirty: Dirty<SenderKey>,
}

/// No room for another sender.
pub(crate) struct Full;

impl Windows {
    #[inline]
    pub(crate) fn check(&self, sender: &SenderKey, order: &Order) -> Result<Seen, Full> {
        match self.get(sender) {
            Some(state) => Ok(state.check(order)),
            None if self.states.len() < MAX_SENDERS => Ok(Seen::New),
            None => Err(Full),
        }
    }

    /// Marks a message delivered, or `done` with.
    pub(crate) fn mark(&mut self, sender: SenderKey, order: &Order, done: bool) {
        let place = match self.place(&sender) {
            Some(place) => place,
            None if self.states.len() >= MAX_SENDERS => return,
            None => self.add(sender, SenderState::default()),
        };
        self.recent[recent_slot(&sender)] = place;
        let Some((_, state)) = self.states.get_mut(place) else { return };
        // It may have been checked before its window was dropped.
        if state.check(order) == Seen::Done {
            return;
        }
        self.clock += 1;
        if !state.dirty {
            state.dirty = true;
            self.dirty.add(sender);
        }
        let before = state.windows.len();
        if let Some(held) = state.window(order.start) {
            held.used = self.clock;
            held.newest_ms = held.newest_ms.max(order.time_ms);
            if done {
                held.window.mark_acknowledged(order.counter);
            } else {
                held.window.mark_delivered(order.counter);
            }
        }
        if state.windows.len() > MAX_STARTS {
            let least = state.windows.iter().map(|held| held.used).min();
            state.retain(|held| Some(held.used) != least);
        }
        self.count = self.count + state.windows.len() - before;
        if self.count > MAX_WINDOWS {
            self.make_room();
        }
    }

    /// What is known of `sender`.
    #[inline]
    pub(crate) fn get(&self, sender: &SenderKey) -> Option<&SenderState> {
        self.states.get(self.place(sender)?).map(|(_, state)| state)
    }

    /// All senders, in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SenderKey, &SenderState)> {
        self.index.iter().filter_map(|(sender, place)| Some((sender, &self.states.get(*place)?.1)))
    }

    /// Takes in a stored state; `false` if there was one already, or it is too many.
    pub(crate) fn restore(&mut self, sender: SenderKey, state: SenderState) -> bool {
        self.count += state.windows.len();
        if self.index.contains_key(&sender) || self.count > MAX_WINDOWS || self.states.len() >= MAX_SENDERS {
            return false;
        }
        self.add(sender, state);
        true
    }

    /// Which senders changed since the last call; `None` if that is more than was kept track of.
    pub(crate) fn make_all_dirty(&mut self) {
        self.dirty.add_all();
    }

    pub(crate) fn take_dirty(&mut self) -> Option<BTreeSet<SenderKey>> {
        let taken = self.dirty.take();
        match &taken {
            Some(senders) => {
                for sender in senders {
                    if let Some((_, state)) = self.place(sender).and_then(|place| self.states.get_mut(place)) {
                        state.dirty = false;
                    }
                }
            }
            None => self.states.iter_mut().for_each(|(_, state)| state.dirty = false),
        }
        taken
    }

    #[inline]
    fn place(&self, sender: &SenderKey) -> Option<usize> {
        let guess = self.recent[recent_slot(sender)];
        if self.states.get(guess).is_some_and(|(held, _)| held == sender) {
            return Some(guess);
        }
        self.index.get(sender).copied()
    }

    fn add(&mut self, sender: SenderKey, state: SenderState) -> usize {
        let place = self.states.len();
        self.states.push((sender, state));
        self.index.insert(sender, place);
        place
    }

    /// Drops the least used eighth, in one go so that a client at the limit does not pay for it each time.
    fn make_room(&mut self) {
        let mut uses: Vec<u64> =
            self.states.iter().flat_map(|(_, state)| state.windows.iter().map(|held| held.used)).collect();
        let (_, last, _) = uses.select_nth_unstable(MAX_WINDOWS / 8);
        let last = *last;
        for (sender, state) in &mut self.states {
            let before = state.windows.len();
            state.retain(|held| held.used > last);
            if state.windows.len() < before {
                state.dirty = true;
                self.dirty.add(*sender);
            }
        }
        self.recount();
    }

    /// Keeps what `keep` says; only for epochs whose keys are gone, or frames could pass again.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&SenderKey) -> bool) {
        self.states.retain(|(sender, _)| {
            let keep = keep(sender);
            if !keep {
                self.dirty.add(*sender);
            }
            keep
        });
        // Places have moved.
        self.index = self.states.iter().enumerate().map(|(place, (sender, _))| (*sender, place)).collect();
        self.recount();
    }

    fn recount(&mut self) {
        self.count = self.states.iter().map(|(_, state)| state.windows.len()).sum();
    }
}

/// Below [`RECENT`]. Senders of one group differ in their leaves, which are dense.
fn recent_slot(sender: &SenderKey) -> usize {
    (usize::from(sender.leaf.number()) * 2 + usize::from(sender.class == QosClass::Acknowledged)) % RECENT
}
