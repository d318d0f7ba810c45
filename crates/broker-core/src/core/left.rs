//! What ended sessions leave behind for other members of their shares.

use std::sync::Arc;

use super::queue::Delivery;

/// Deliveries that are handed over at once.
pub(super) const SLICE: usize = 512;

/// What an ended session was to get by a shared subscription.
pub(super) struct Left {
    pub delivery: Delivery,
    /// The device for which it counts; `None` if it was left before the broker started.
    pub device: Option<Arc<str>>,
}
