//! Where this device gets the ledger's records.

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
