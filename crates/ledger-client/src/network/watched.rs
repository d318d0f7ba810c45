//! What the endpoints of a network have shown: which of them is behind, and which lies.

use sealcast_ledger::LedgerId;
use tracing::{error, info, warn};

use crate::NodeError;

/// An endpoint that does not show what another one has shown is named after so long, ms.
pub const MAX_LATE_MS: u64 = 60_000;
/// One that says it has more than it shows is passed over after so long.
const MAX_UNSHOWN_MS: u64 = 10_000;

/// What is known of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// What people call it.
    pub name: String,
    /// Whether it gave a right answer when it was asked last.
    pub answers: bool,
    /// How many final entries it said that it has, the last time that it did.
    pub height: Option<u64>,
    /// Whether others have shown more for a minute.
    pub is_behind: bool,
    /// How often it showed what is not so.
    pub lies: u64,
}

#[derive(Debug)]
pub(super) struct Watched {
    all: Vec<Seen>,
    /// From where on the last records were given out. Whoever asks for the same again may have found them false.
    pub(super) given_from: Option<u64>,
    /// Where the ledger has gone, if that was told.
    pub(super) left: Option<LedgerId>,
    /// See [`super::NetworkLedger::parted`].
    pub(super) parted: Option<u64>,
}

#[derive(Debug)]
struct Seen {
    state: EndpointState,
    /// Another one had so many entries at that time.
    late: Option<(u64, u64)>,
    /// It has said that it has more than it shows since then.
    unshown_ms: Option<u64>,
    /// Which entry was false, the last time.
    false_at: Option<Option<u64>>,
}

impl Watched {
    pub(super) fn new(names: impl Iterator<Item = String>) -> Self {
        let seen = |name| Seen {
            state: EndpointState { name, answers: true, height: None, is_behind: false, lies: 0 },
            late: None,
            unshown_ms: None,
            false_at: None,
        };
        Self { all: names.map(seen).collect(), given_from: None, left: None, parted: None }
    }

    pub(super) fn states(&self) -> Vec<EndpointState> {
        self.all.iter().map(|seen| seen.state.clone()).collect()
    }

    /// What each said of its height, or why it did not.
    pub(super) fn note_heights(&mut self, heights: &[Result<u64, NodeError>], now_ms: u64) {
        let most = heights.iter().flatten().copied().max().unwrap_or_default();
        for (seen, height) in self.all.iter_mut().zip(heights) {
            match height {
                Ok(height) => seen.note_height(*height, most, now_ms),
                Err(error) => seen.note_failure(error),
            }
        }
    }

    /// Those first that have never lied.
    pub(super) fn trusted_first(&self, endpoints: &mut [(usize, u64)]) {
        endpoints.sort_by_key(|(at, _)| self.all.get(*at).map_or(0, |seen| seen.state.lies));
    }

    /// The endpoint has shown records.
    pub(super) fn note_shown(&mut self, at: usize) {
        if let Some(seen) = self.all.get_mut(at) {
            seen.unshown_ms = None;
        }
    }

    /// The endpoint says that it has `height` entries, and does not show them. `true` if it has said so for too long to be
    /// believed.
    pub(super) fn note_unshown(&mut self, at: usize, height: u64, now_ms: u64) -> bool {
        let Some(seen) = self.all.get_mut(at) else { return false };
        let since_ms = *seen.unshown_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) < MAX_UNSHOWN_MS {
            return false;
        }
        if seen.state.lies == 0 {
            error!(endpoint = %seen.state.name, height, "an endpoint of the ledger's network says that it has so many entries, \
                and does not show them: it is not believed");
        }
        seen.state.lies += 1;
        true
    }

    /// What this one showed was not so, the entry `index` for one. `false` if that is known.
    pub(super) fn note_false(&mut self, name: &str, index: Option<u64>) -> bool {
        let mut is_new = false;
        for seen in self.all.iter_mut().filter(|seen| seen.state.name == name) {
            seen.state.lies += 1;
            is_new |= seen.false_at.replace(index) != Some(index);
        }
        is_new
    }
}

impl Seen {
    fn note_height(&mut self, height: u64, most: u64, now_ms: u64) {
        if !std::mem::replace(&mut self.state.answers, true) {
            info!(endpoint = %self.state.name, "an endpoint of the ledger's network answers again");
        }
        self.state.height = Some(height);
        if height == most {
            (self.late, self.state.is_behind) = (None, false);
            return;
        }
        match self.late {
            // It comes after the others.
            Some((expected, _)) if height < expected => {}
            _ => (self.late, self.state.is_behind) = (Some((most, now_ms)), false),
        }
        let is_late = self.late.is_some_and(|(_, since_ms)| now_ms.saturating_sub(since_ms) >= MAX_LATE_MS);
        if is_late && !std::mem::replace(&mut self.state.is_behind, true) {
            warn!(endpoint = %self.state.name, shows = height, others = most, "an endpoint of the ledger's network does not show \
                what another one has shown for a minute: it is behind, or hides entries");
        }
    }

    fn note_failure(&mut self, error: &NodeError) {
        if std::mem::replace(&mut self.state.answers, false) {
            let error = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
            let why = error.map(ToString::to_string).collect::<Vec<_>>().join(": ");
            warn!(endpoint = %self.state.name, "an endpoint of the ledger's network gives no answer that can be used: {why}");
        }
    }
}
