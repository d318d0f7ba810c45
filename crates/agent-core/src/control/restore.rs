//! What an agent's disk holds of the ledger and of its groups, at a start.

use sealcast_group::{Groups, OutOfOrder};
use sealcast_ledger::{CodecError, Record, Replica, ReplicaError};

/// Why what is on disk cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A record is not one.
    #[error("record {index} cannot be read")]
    Unreadable {
        /// Its place.
        index: u64,
        /// Why.
        source: CodecError,
    },
    /// A record does not continue the ledger.
    #[error(transparent)]
    Damaged(#[from] ReplicaError),
    /// The groups do not take a record.
    #[error(transparent)]
    Groups(#[from] OutOfOrder),
    /// The groups know of records that are not there.
    #[error("it ends at entry {height}, but the groups have read up to {next}")]
    GroupsLead {
        /// Where the records end.
        height: u64,
        /// The record that the groups need next.
        next: u64,
    },
}

/// Applies the stored records to a new replica.
///
/// The replica and the groups then fit exactly: a record and what the groups made of it are written in one transaction
/// ([`Control::poll`](super::Control::poll)), and none of both is there without the other. A folder that an older version
/// wrote may have records that its groups have not seen. They are given these here, once: what they make of them, and that
/// they have seen them, is in the first step of the control plane.
///
/// Each record was verified before it was stored. That they continue each other is checked again.
///
/// # Errors
/// The disk holds what no agent writes.
pub fn restore(
    mut replica: Replica,
    groups: &mut Groups,
    records: impl IntoIterator<Item = Vec<u8>>,
    now_ms: u64,
) -> Result<Replica, RestoreError> {
    for bytes in records {
        let index = replica.height();
        let record = Record::decode(&bytes).map_err(|source| RestoreError::Unreadable { index, source })?;
        replica.apply_without_signature_check(&record)?;
        groups.handle_record(&replica, &record, now_ms)?;
    }
    let (height, next) = (replica.height(), groups.next_entry());
    if next == height { Ok(replica) } else { Err(RestoreError::GroupsLead { height, next }) }
}
