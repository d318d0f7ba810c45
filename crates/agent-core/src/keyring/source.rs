//! Where this device gets the ledger's records.

use super::Keyring;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LedgerSource {
    /// From the hub, which pushes them and answers questions.
    #[default]
    Hub,
    /// From endpoints of the ledger's network. What the hub says of new records only makes this device ask there.
    Network {
        /// After what somebody else could read, a record may take so long to be final there.
        final_after_ms: u64,
    },
}

impl Keyring {
    /// Where the ledger's records come from, if not from the hub.
    #[must_use]
    pub fn with_source(mut self, source: LedgerSource) -> Self {
        self.news.source = source;
        self
    }

    /// Whether the ledger's records come from its network, and none from the hub.
    pub fn reads_network(&self) -> bool {
        matches!(self.news.source, LedgerSource::Network { .. })
    }
}
