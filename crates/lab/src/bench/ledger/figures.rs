//! What the parts of this benchmark share: the entries, and how figures are rounded.

use std::time::Duration;

use sealcast_ledger::{Body, Granted, GroupNumber, Number, Reason, Revoked};

/// A grant and its revocation, in turns, for ever.
pub fn turns(group: GroupNumber, device: Number) -> impl Iterator<Item = Body> {
    (0_u64..).map(move |at| match at % 2 {
        0 => Body::Granted(Granted { group, device }),
        _ => Body::Revoked(Revoked { group, device, reason: Reason::default() }),
    })
}

/// Of a time, to hundredths.
pub fn millis(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1e3)
}

/// So many in this time, whole ones.
pub fn per_second(count: usize, time: Duration) -> f64 {
    (count as f64 / time.as_secs_f64()).round()
}

/// To hundredths.
pub fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
