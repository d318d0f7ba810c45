//! Readings of the ledger to its end.

/// One reading of the ledger to its end; they count up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SyncId(pub(super) u64);
