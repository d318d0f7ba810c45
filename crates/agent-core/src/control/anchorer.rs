//! Has the roots of this device's series drawn when they are due, and brings them onto the ledger.
//!
//! A root is drawn first, which writes down the tree as it is then: what is sent meanwhile belongs to the next one. Drawn
//! roots go to the ledger when they can. If one is late, a later one stands for it, too.

use std::collections::BTreeSet;

use sealcast_ledger::{Anchor, Body, GroupNumber, Hash, Replica};
use tracing::warn;

use super::output::{Effect, Write};
use crate::{AnchorRules, Own, SeriesState, deadline::Deadline};

/// After a refusal it is tried again after so long, or when somebody's rights have changed.
const RETRY_MS: u64 = 60_000;

/// See the module.
pub(super) struct Anchorer {
    rules: Option<AnchorRules>,
    state: State,
    retry: Option<Deadline>,
    /// Groups whose anchors the ledger would not take now: the log says why, once.
    held: BTreeSet<GroupNumber>,
}

/// What is known of the series on disk.
enum State {
    Unknown,
    Asked,
    Known {
        series: Vec<SeriesState>,
        /// The ledger may take what is drawn, as far as is known.
        look: bool,
    },
}

impl Anchorer {
    pub fn new(rules: Option<AnchorRules>) -> Self {
        Self { rules, state: State::Unknown, retry: None, held: BTreeSet::new() }
    }

    /// There is something new in a series, or on the ledger.
    pub fn handle_changed(&mut self) {
        self.state = State::Unknown;
    }

    pub fn handle_series(&mut self, series: Vec<SeriesState>) {
        self.state = State::Known { series, look: true };
    }

    /// The ledger may take now what it would not take before.
    pub fn look_again(&mut self) {
        if let State::Known { look, .. } = &mut self.state {
            *look = true;
        }
    }

    /// The ledger did not take an anchor.
    pub fn handle_refused(&mut self, now_ms: u64) {
        self.retry = Some(Deadline::after(now_ms, RETRY_MS));
    }

    /// The ledger has this anchor of the device.
    pub fn handle_own(&mut self, anchor: &Anchor) -> Option<Write> {
        self.rules?;
        self.state = State::Unknown;
        let Anchor { group, root, count } = *anchor;
        Some(Write::Anchored { group, root, count })
    }

    /// What to write and to do now. Roots that may go to the ledger are given to `submit`.
    pub fn poll(
        &mut self,
        own: &Own,
        replica: &Replica,
        now_ms: u64,
        mut submit: impl FnMut(Body),
    ) -> (Vec<Write>, Option<Effect>) {
        let Some(rules) = self.rules else { return (Vec::new(), None) };
        if self.retry.is_some_and(|at| at.is_due(now_ms)) {
            self.retry = None;
            self.look_again();
        }
        let State::Known { series, look } = &mut self.state else {
            let unknown = matches!(std::mem::replace(&mut self.state, State::Asked), State::Unknown);
            return (Vec::new(), unknown.then_some(Effect::ListSeries));
        };
        if std::mem::take(look) {
            let drawn = series.iter().filter_map(|series| Some((series.group, series.drawn?)));
            for (group, (root, count)) in drawn {
                match wanted(own, replica, group, root, count) {
                    Ok(body) => {
                        self.held.remove(&group);
                        submit(body);
                    }
                    Err(reason) if self.held.insert(group) => {
                        warn!(%group, reason, "what was sent is not anchored for now, because the ledger would refuse it");
                    }
                    Err(_) => {}
                }
            }
        }
        let due = series.iter().filter(|series| rules.due_ms(series).is_some_and(|due_ms| due_ms <= now_ms));
        let keep_ms = now_ms.saturating_sub(rules.keep_ms);
        let writes: Vec<_> =
            due.map(|series| Write::DrawAnchor { group: series.group, forget_before_ms: keep_ms }).collect();
        if writes.is_empty() {
            return (writes, None);
        }
        self.state = State::Asked;
        (writes, Some(Effect::ListSeries))
    }

    /// When [`Self::poll`] may have something, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<u64> {
        let rules = self.rules?;
        let State::Known { series, .. } = &self.state else { return None };
        let due = series.iter().filter_map(|series| rules.due_ms(series));
        due.chain(self.retry.map(|at| at.at_ms())).min()
    }
}

/// The body of the anchor's entry, or why the ledger would refuse it.
fn wanted(own: &Own, replica: &Replica, group: GroupNumber, root: Hash, count: u32) -> Result<Body, String> {
    let body = Body::Anchor(Anchor { group, root, count });
    replica.preview(own.number, &body).map(|_| body).map_err(|refusal| refusal.to_string())
}

#[cfg(test)]
mod tests;
