//! What follows when the hub, or the endpoints that show the ledger, answer nothing any more: nobody knows who was revoked meanwhile, so after a while nothing is
//! sealed or opened.
//!
//! A connection to a broker says nothing of the hub: on somebody else's broker it may be away while messages flow.

use super::{Denied, Keyring};
use crate::{Cause, Why};

const DO: &str = "Is the hub running, and is it at the same broker as this agent (`[broker] url` in hub.toml)?";

const DO_ENDPOINTS: &str = "Do they answer (`[ledger] rpc` in agent.toml), and is the way to them open?";

/// The hub is not asked more often than this.
const MIN_REFRESH_MS: u64 = 250;

impl Keyring {
    /// Whoever shows the ledger, the hub or endpoints, has answered, and the answer was true as far as this device can tell.
    pub fn note_hub(&mut self, now_ms: u64) {
        self.hub_ms = Some(now_ms);
    }

    /// How often the hub must be asked so that one that is there is not taken to be silent.
    pub fn refresh_ms(&self) -> u64 {
        self.freshness.ledger_ms.map_or(u64::MAX, |limit_ms| (limit_ms / 3).max(MIN_REFRESH_MS))
    }

    /// Whether the hub has answered within `ledger.max_age_ms`.
    ///
    /// # Errors
    /// It has not, so nothing may be sealed or opened.
    pub(super) fn check_hub(&self, now_ms: u64) -> Result<(), Denied> {
        let Some((silent_ms, limit_ms)) = self.silence(now_ms) else { return Ok(()) };
        let (cause, who, instead) = match self.reads_network() {
            false => (Cause::HubSilent, "the hub has", DO),
            true => (Cause::EndpointsSilent, "the ledger's endpoints have", DO_ENDPOINTS),
        };
        Err(Denied::NotYet(Why::new(
            cause,
            format!(
                "{who} not answered for {} s, and after {} s (ledger.max_age_ms) nothing is sealed or opened: this agent does \
                 not know who was revoked meanwhile. {instead}",
                silent_ms / 1000,
                limit_ms / 1000
            ),
        )))
    }

    /// For how long the hub has not answered, and how long that may take, if it is too long. Before the first answer since
    /// the start nothing is sealed or opened anyhow.
    pub(super) fn silence(&self, now_ms: u64) -> Option<(u64, u64)> {
        let silent_ms = now_ms.saturating_sub(self.hub_ms?);
        self.freshness.ledger_ms.filter(|limit_ms| silent_ms > *limit_ms).map(|limit_ms| (silent_ms, limit_ms))
    }
}
