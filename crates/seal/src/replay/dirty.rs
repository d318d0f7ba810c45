//! What has to be saved.

use std::collections::BTreeSet;

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
    pub(super) fn add(&mut self, key: K) {
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
