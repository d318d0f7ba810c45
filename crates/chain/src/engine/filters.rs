//! The filters that clients poll, and how far each has seen the chain (`eth_newFilter`, `eth_newBlockFilter`).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use alloy::{primitives::U64, rpc::types::Filter};

/// The one that nobody has asked for the longest makes room for one more.
const MAX_FILTERS: usize = 256;
/// A filter that nobody has asked for so long is forgotten.
const FILTER_IDLE: Duration = Duration::from_secs(300);

/// What a polled filter looks for.
#[derive(Clone, Debug)]
pub(crate) enum Watched {
    Blocks,
    Logs(Box<Filter>),
}

struct Poll {
    watched: Watched,
    /// The newest block that was reported.
    seen: u64,
    used: Instant,
}

/// The filters that clients poll: in memory only, as Ethereum nodes have them.
#[derive(Default)]
pub(crate) struct Filters {
    next: u64,
    polls: BTreeMap<u64, Poll>,
}

impl Filters {
    pub(crate) fn install(&mut self, watched: Watched, height: u64) -> U64 {
        let now = Instant::now();
        self.polls.retain(|_, poll| now.duration_since(poll.used) < FILTER_IDLE);
        if self.polls.len() >= MAX_FILTERS {
            let oldest = self.polls.iter().min_by_key(|(_, poll)| poll.used).map(|(id, _)| *id);
            oldest.and_then(|id| self.polls.remove(&id));
        }
        self.next += 1;
        self.polls.insert(self.next, Poll { watched, seen: height, used: now });
        U64::from(self.next)
    }

    pub(crate) fn remove(&mut self, id: U64) -> bool {
        self.polls.remove(&id.to()).is_some()
    }

    pub(crate) fn find(&mut self, id: U64) -> Option<(Watched, u64)> {
        let poll = self.polls.get_mut(&id.to())?;
        poll.used = Instant::now();
        Some((poll.watched.clone(), poll.seen))
    }

    pub(crate) fn advance(&mut self, id: U64, seen: u64) {
        if let Some(poll) = self.polls.get_mut(&id.to()) {
            poll.seen = poll.seen.max(seen);
        }
    }
}
