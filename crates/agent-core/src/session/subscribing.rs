//! Subscriptions by which nothing comes: told, because a client sees no difference to a topic where nobody publishes.

use super::{Refused, Session, Shared};

/// Filters of a client that wait for the ledger to be read; of those beyond, nothing is told.
const MAX_WAITING: usize = 256;

impl Session {
    /// The broker has granted these.
    pub(super) fn note_subscribed(&mut self, filters: Vec<Box<str>>) {
        let room = MAX_WAITING.saturating_sub(self.subscribed.len());
        self.subscribed.extend(filters.into_iter().take(room));
    }

    /// Tells which of them bring nothing, once it is known which groups there are.
    pub(super) fn tell_uncovered(&mut self, shared: &Shared<'_>) {
        if !shared.keyring.knows_groups() {
            return;
        }
        for filter in std::mem::take(&mut self.subscribed) {
            if let Some(why) = shared.keyring.uncovered(&filter).filter(|_| !shared.values.rules().speak_on(&filter)) {
                self.tell(Refused::Uncovered, &filter, why);
            }
        }
    }
}
