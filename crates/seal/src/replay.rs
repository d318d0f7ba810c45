//! What one local client has seen: a window for each sender's key, and the newest retained message and will of each
//! topic. Bounded, and whatever is dropped for room leaves a floor below which all is refused.

mod window;

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;

use crate::{
    content::QosClass,
    epoch::EpochId,
    header::{GroupNumber, LeafIndex},
};

pub use window::{ReplayWindow, Seen, WINDOW};

/// Windows kept for one client; the least used are dropped, leaving a floor.
pub const MAX_WINDOWS: usize = 16_384;
/// Senders (leaf, epoch and class of QoS) known to one client; messages of more are refused.
pub const MAX_SENDERS: usize = 131_072;
/// Topics whose newest retained message or will is remembered for one client; the oldest are dropped, leaving a floor.
pub const MAX_MARKS: usize = 65_536;
/// Boots of one sender that have a window at a time.
const MAX_BOOTS: usize = 4;

/// Changed rows that are kept track of between two savings.
const MAX_DIRTY: usize = 65_536;

/// Which entries changed since they were saved last.
#[derive(Debug)]
pub(crate) struct Dirty<K> {
    keys: BTreeSet<K>,
    too_many: bool,
}

impl<K> Default for Dirty<K> {
    fn default() -> Self {
        Self { keys: BTreeSet::new(), too_many: false }
    }
}

impl<K: Ord> Dirty<K> {
    fn add(&mut self, key: K) {
        if self.too_many {
            return;
        }
        self.keys.insert(key);
        if self.keys.len() > MAX_DIRTY {
            self.keys.clear();
            self.too_many = true;
        }
    }

    /// Everything counts as changed.
    pub(crate) fn add_all(&mut self) {
        self.keys.clear();
        self.too_many = true;
    }

    /// What changed since the last call; `None` if that is more than was kept track of.
    pub(crate) fn take(&mut self) -> Option<BTreeSet<K>> {
        let Self { keys, too_many } = std::mem::take(self);
        (!too_many).then_some(keys)
    }
}

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
#[derive(Debug, Default)]
pub(crate) struct SenderState {
    /// Boot and counter at and below which all is refused.
    pub(crate) floor: Option<(u16, u32)>,
    /// By boot, ascending; few, so a Vec is less to look through than a tree, and a tenth of its room.
    pub(crate) windows: Vec<BootWindow>,
    /// Whether [`Windows::dirty`] has it already.
    pub(crate) dirty: bool,
}

/// The window of one boot.
#[derive(Debug)]
pub(crate) struct BootWindow {
    pub(crate) boot: u16,
    /// [`Windows::clock`] when it was marked last.
    pub(crate) used: u64,
    pub(crate) window: ReplayWindow,
}

impl SenderState {
    /// The window of `boot`, a new one if there is none.
    pub(crate) fn window(&mut self, boot: u16) -> Option<&mut BootWindow> {
        let at = match self.windows.binary_search_by_key(&boot, |held| held.boot) {
            Ok(at) => at,
            Err(at) => {
                // One at a time: most senders never have a second boot.
                self.windows.reserve_exact(1);
                self.windows.insert(at, BootWindow { boot, used: 0, window: ReplayWindow::new() });
                at
            }
        };
        self.windows.get_mut(at)
    }

    fn is_below_floor(&self, boot: u16, counter: u32) -> bool {
        self.floor.is_some_and(|floor| (boot, counter) <= floor)
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
    pub(crate) fn check(&self, sender: &SenderKey, boot: u16, counter: u32) -> Result<Seen, Full> {
        let Some(state) = self.get(sender) else {
            return if self.states.len() < MAX_SENDERS { Ok(Seen::New) } else { Err(Full) };
        };
        if state.is_below_floor(boot, counter) {
            return Ok(Seen::Done);
        }
        let held = state.windows.iter().find(|held| held.boot == boot);
        Ok(held.map_or(Seen::New, |held| held.window.check(counter)))
    }

    /// Marks `counter` delivered, or `done` with.
    pub(crate) fn mark(&mut self, sender: SenderKey, boot: u16, counter: u32, done: bool) {
        let place = match self.place(&sender) {
            Some(place) => place,
            None if self.states.len() >= MAX_SENDERS => return,
            None => self.add(sender, SenderState::default()),
        };
        self.recent[recent_slot(&sender)] = place;
        let Some((_, state)) = self.states.get_mut(place) else { return };
        if state.is_below_floor(boot, counter) {
            return;
        }
        self.clock += 1;
        if !state.dirty {
            state.dirty = true;
            self.dirty.add(sender);
        }
        let before = state.windows.len();
        if let Some(held) = state.window(boot) {
            held.used = self.clock;
            if done {
                held.window.mark_acknowledged(counter);
            } else {
                held.window.mark_delivered(counter);
            }
        }
        // Boots only grow, so the lowest is the one that will be missed least.
        while state.windows.len() > MAX_BOOTS {
            let dropped = state.windows.remove(0);
            state.floor = state.floor.max(Some((dropped.boot, u32::MAX)));
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
            let SenderState { floor, windows, dirty } = state;
            let before = windows.len();
            windows.retain(|held| {
                let keep = held.used > last;
                if !keep {
                    *floor = (*floor).max(held.window.top().map(|top| (held.boot, top)));
                }
                keep
            });
            // A floor refuses all earlier boots, so their windows are of no more use.
            if let Some((boot, _)) = *floor {
                windows.retain(|held| held.boot >= boot);
            }
            if windows.len() < before {
                *dirty = true;
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

/// What a mark is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkOf {
    /// The newest message of a topic that was published with RETAIN, whoever sent it.
    Retained,
    /// The newest will of one sender on a topic.
    Will,
}

/// Names a mark: a hash, so that topics of any length take the same room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MarkKey(pub(crate) [u8; 16]);

impl MarkKey {
    pub(crate) fn new(of: MarkOf, group: GroupNumber, sender: &str, topic: &str) -> Self {
        let (kind, sender) = match of {
            MarkOf::Retained => (0, ""),
            MarkOf::Will => (1, sender),
        };
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&[kind]);
        hash.update(&group.0.to_be_bytes());
        hash.update(sender.as_bytes());
        hash.update(&[0]);
        hash.update(topic.as_bytes());
        Self(first_16(hash.finish().as_ref()))
    }
}

fn first_16(hash: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(hash) {
        *to = *from;
    }
    out
}

/// One message's place in its sender's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(crate) time_ms: u64,
    pub(crate) epoch: EpochId,
    pub(crate) boot: u16,
    pub(crate) counter: u32,
}

/// A sender's name in a mark: its hash, so that it has one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameTag(pub(crate) [u8; 16]);

impl NameTag {
    pub(crate) fn of(name: &str) -> Self {
        Self(first_16(digest::digest(&digest::SHA256, name.as_bytes()).as_ref()))
    }
}

/// The newest message that a client has seen of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) order: Order,
    pub(crate) sender: NameTag,
    /// For wills: whether the client is done with it.
    pub(crate) done: bool,
}

/// The marks of all topics.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) marks: BTreeMap<MarkKey, Mark>,
    /// Time of the newest mark that was dropped for room: a topic without a mark takes only what is newer.
    pub(crate) floor_ms: Option<u64>,
    pub(crate) dirty: Dirty<MarkKey>,
}

impl Marks {
    /// The time of the newest message if `mark` is older than that. Messages of one sender are in order; those of
    /// different senders are so only as far as their clocks agree.
    pub(crate) fn newer_than(&self, key: &MarkKey, mark: &Mark, clock_tolerance_ms: u64) -> Option<u64> {
        let Some(newest) = self.marks.get(key) else {
            return self.floor_ms.filter(|floor_ms| mark.order.time_ms <= *floor_ms);
        };
        let older = if newest.sender == mark.sender {
            mark.order < newest.order
        } else {
            mark.order.time_ms.saturating_add(clock_tolerance_ms) < newest.order.time_ms
        };
        older.then_some(newest.order.time_ms)
    }

    /// What is known of a will.
    pub(crate) fn check_will(&self, key: &MarkKey, mark: &Mark) -> Seen {
        match self.marks.get(key) {
            None if self.floor_ms.is_some_and(|floor_ms| mark.order.time_ms <= floor_ms) => Seen::Done,
            None => Seen::New,
            Some(newest) if mark.order > newest.order => Seen::New,
            Some(newest) if mark.order == newest.order && !newest.done => Seen::Delivered,
            Some(_) => Seen::Done,
        }
    }

    /// Moves the mark up to `mark`; never back.
    pub(crate) fn mark(&mut self, key: MarkKey, mark: Mark) {
        self.dirty.add(key);
        let newest = self.marks.entry(key).or_insert(mark);
        if mark.order > newest.order {
            *newest = mark;
        } else if mark.order == newest.order {
            newest.done |= mark.done;
        }
        if self.marks.len() > MAX_MARKS {
            let mut times: Vec<u64> = self.marks.values().map(|mark| mark.order.time_ms).collect();
            let (_, last, _) = times.select_nth_unstable(MAX_MARKS / 8);
            let last = *last;
            self.marks.retain(|key, mark| {
                let keep = mark.order.time_ms > last;
                if !keep {
                    self.dirty.add(*key);
                }
                keep
            });
            self.floor_ms = self.floor_ms.max(Some(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(leaf: u32, epoch: u64) -> SenderKey {
        let leaf = LeafIndex::new(leaf).expect("14 bits");
        SenderKey { group: GroupNumber(1), epoch: EpochId { generation: 0, epoch }, leaf, class: QosClass::AtMostOnce }
    }

    fn is(windows: &Windows, sender: &SenderKey, boot: u16, counter: u32, seen: Seen) -> bool {
        windows.check(sender, boot, counter).is_ok_and(|found| found == seen)
    }

    #[test]
    fn a_window_dropped_for_room_leaves_a_floor() {
        let mut windows = Windows::default();
        let total = MAX_WINDOWS as u32 + 1;
        for i in 0..total {
            windows.mark(sender(i % 16_384, u64::from(i / 16_384)), 1, 50, true);
        }
        assert!(windows.count <= MAX_WINDOWS);
        let first = sender(0, 0);
        assert!(windows.get(&first).is_some_and(|state| state.windows.is_empty()), "the least used went");
        for (boot, counter, seen) in [(0, 9, Seen::Done), (1, 50, Seen::Done), (1, 49, Seen::Done), (1, 51, Seen::New)]
        {
            assert!(is(&windows, &first, boot, counter, seen), "boot {boot} counter {counter}");
        }
        // What is marked late, for a window that went, does not lower the floor.
        windows.mark(first, 1, 3, true);
        assert!(is(&windows, &first, 1, 4, Seen::Done));
        windows.mark(first, 1, 60, false);
        assert!(is(&windows, &first, 1, 60, Seen::Delivered));
        assert!(is(&windows, &first, 1, 50, Seen::Done));
    }

    #[test]
    fn a_sender_too_many_is_refused() {
        let mut windows = Windows::default();
        for i in 0..MAX_SENDERS as u32 {
            assert!(windows.restore(sender(i % 16_384, u64::from(i / 16_384)), SenderState::default()));
        }
        let one_more = sender(0, 99);
        assert!(windows.check(&one_more, 0, 0).is_err());
        windows.mark(one_more, 0, 0, true);
        assert_eq!(windows.states.len(), MAX_SENDERS);
        assert!(is(&windows, &sender(0, 0), 0, 0, Seen::New));
        windows.retain(|sender| sender.epoch.epoch > 0);
        assert!(is(&windows, &one_more, 0, 0, Seen::New));
    }

    #[test]
    fn a_mark_dropped_for_room_leaves_a_floor() {
        let mut marks = Marks::default();
        let key = |i: usize| MarkKey::new(MarkOf::Retained, GroupNumber(1), "1111", &i.to_string());
        let epoch = EpochId { generation: 0, epoch: 1 };
        let mark = |time_ms: u64| Mark {
            order: Order { time_ms, epoch, boot: 0, counter: time_ms as u32 },
            sender: NameTag::of("1111"),
            done: false,
        };
        for i in 0..=MAX_MARKS {
            marks.mark(key(i), mark(1000 + i as u64));
        }
        assert!(marks.marks.len() < MAX_MARKS);
        assert!(marks.newer_than(&key(0), &mark(1000), 0).is_some(), "cannot be told from a rollback");
        assert!(marks.newer_than(&key(0), &mark(1000 + MAX_MARKS as u64), 0).is_none());
        assert_eq!(marks.check_will(&key(0), &mark(1000)), Seen::Done);
    }
}
