//! In which order a sender has sealed.

use crate::{epoch::EpochId, header::Start};

/// One message's place in its sender's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(crate) time_ms: u64,
    pub(crate) epoch: EpochId,
    /// Of no meaning but to tell messages of one millisecond apart.
    pub(crate) start: Start,
    pub(crate) counter: u32,
}
