//! The policy of the groups that the demo and the benchmarks create.

use sealcast_ledger::{Authenticity, Policy};

/// Epochs without end, of which four old ones can still be read.
pub fn policy(authenticity: Authenticity) -> Policy {
    Policy { epoch_max_age_s: None, epoch_max_messages: None, retention: 4, authenticity, ledger_max_age_s: None }
}
