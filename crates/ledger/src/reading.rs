//! A value that a device puts on the ledger.

use crate::{GroupNumber, ReadingTopic};

/// Most decimal digits after a reading's point.
pub const MAX_DECIMALS: u8 = 38;

/// Kind 8, by a granted device: one value, `value / 10^decimals`, of a topic that has limits. The ledger judges it by
/// them; a reading that breaks one is an entry too, and counted as refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The group.
    pub group: GroupNumber,
    /// What it is a reading of.
    pub topic: ReadingTopic,
    /// When it was taken, milliseconds since 1970, by the device's clock.
    pub time_ms: u64,
    /// The device's own count of its readings.
    pub sequence: u64,
    /// The digits.
    pub value: i128,
    /// How many of them stand after the point, at most 38.
    pub decimals: u8,
}
