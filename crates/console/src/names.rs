//! Names for numbers.

use sealcast_ledger::{Number, Replica};

/// What an originator is called.
pub fn name(replica: &Replica, number: Number) -> String {
    replica.name_of(number).map_or_else(|| number.to_string(), str::to_owned)
}
