//! The newest retained message and will of each topic.

use std::collections::BTreeMap;

use aws_lc_rs::digest;

use super::{dirty::Dirty, order::Order, window::Seen};
use crate::header::GroupNumber;

/// Topics whose newest retained message or will is remembered for one client. Of the sender that has most of them the oldest
/// are dropped, leaving a floor.
pub const MAX_MARKS: usize = 65_536;
/// At least so many marks are dropped at a time, if their sender has as many: dropping looks at all of them.
const MIN_DROPPED: usize = 64;

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

/// A group's member in a mark: the hash of its name, so that it has one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SenderTag(pub(crate) [u8; 16]);

impl SenderTag {
    pub(crate) fn new(group: GroupNumber, name: &str) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&group.0.to_be_bytes());
        hash.update(name.as_bytes());
        Self(first_16(hash.finish().as_ref()))
    }

    /// All members of a group together: no member's name is empty.
    fn all_of(group: GroupNumber) -> Self {
        Self::new(group, "")
    }
}

/// The newest message that a client has seen of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) order: Order,
    pub(crate) sender: SenderTag,
    /// For retained messages: the group, whose members all publish to the topic.
    pub(crate) retained_in: Option<GroupNumber>,
    /// For wills: whether the client is done with it.
    pub(crate) done: bool,
}

/// The marks of all topics.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) marks: BTreeMap<MarkKey, Mark>,
    /// Times of the newest marks that were dropped for room: a topic without a mark takes only what is newer of that sender,
    /// and if it is retained, of that group.
    pub(crate) floors_ms: BTreeMap<SenderTag, u64>,
    pub(crate) dirty: Dirty<MarkKey>,
}

impl Marks {
    /// The time of the newest message if `mark` is older than that. Messages of one sender are in order; those of
    /// different senders are so only as far as their clocks agree.
    pub(crate) fn newer_than(&self, key: &MarkKey, mark: &Mark, clock_tolerance_ms: u64) -> Option<u64> {
        let Some(newest) = self.marks.get(key) else {
            return self.floor_over(mark).or_else(|| self.retained_floor_over(mark, clock_tolerance_ms));
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
            None if self.floor_over(mark).is_some() => Seen::Done,
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
            self.make_room();
        }
    }

    fn floor_over(&self, mark: &Mark) -> Option<u64> {
        self.floors_ms.get(&mark.sender).copied().filter(|floor_ms| mark.order.time_ms <= *floor_ms)
    }

    /// The topic's newest message may have been another member's.
    fn retained_floor_over(&self, mark: &Mark, clock_tolerance_ms: u64) -> Option<u64> {
        let floor_ms = *self.floors_ms.get(&SenderTag::all_of(mark.retained_in?))?;
        (mark.order.time_ms.saturating_add(clock_tolerance_ms) < floor_ms).then_some(floor_ms)
    }

    /// Drops the oldest marks of the sender that has most of them: no sender pushes out what is known of another.
    fn make_room(&mut self) {
        let mut times: BTreeMap<SenderTag, Vec<u64>> = BTreeMap::new();
        for mark in self.marks.values() {
            times.entry(mark.sender).or_default().push(mark.order.time_ms);
        }
        let Some((sender, mut times)) = times.into_iter().max_by_key(|(_, times)| times.len()) else { return };
        let last = (times.len() / 8).max(MIN_DROPPED).min(times.len() - 1);
        let (_, last_ms, _) = times.select_nth_unstable(last);
        let last_ms = *last_ms;
        let mut floors_ms = BTreeMap::from([(sender, last_ms)]);
        self.marks.retain(|key, mark| {
            let keep = mark.sender != sender || mark.order.time_ms > last_ms;
            if !keep {
                self.dirty.add(*key);
                floors_ms.extend(mark.retained_in.map(|group| (SenderTag::all_of(group), last_ms)));
            }
            keep
        });
        for (sender, last_ms) in floors_ms {
            let floor_ms = self.floors_ms.entry(sender).or_default();
            *floor_ms = last_ms.max(*floor_ms);
        }
    }
}
