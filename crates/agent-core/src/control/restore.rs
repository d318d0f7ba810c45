//! What an agent's disk holds of the ledger and of its groups, at a start.
//!
//! The disk has all records, and now and then a snapshot of the replica: a start applies only the records after that. The
//! snapshot is the agent's own, like the records, which are not verified again either. It is written in one transaction with
//! the records that it stands for, so whatever shows that the folder is an old copy shows it as before.

use sealcast_group::{Groups, OutOfOrder};
use sealcast_ledger::{CodecError, Genesis, Record, Replica, ReplicaError};
use tracing::warn;

/// Why what is on disk cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The disk does not give the records.
    #[error("the stored records cannot be read")]
    Disk(#[source] Box<dyn std::error::Error + Send + Sync>),
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

/// What a start found on disk.
#[derive(Debug)]
pub struct Restored {
    /// The replica after all stored records.
    pub replica: Replica,
    /// How many of them were in the snapshot: [`Control::with_snapshot_at`](super::Control::with_snapshot_at). 0 if there was
    /// none that could be used.
    pub snapshot_at: u64,
}

/// Takes up the stored snapshot, and applies the stored records after it. `page` gives some of the records from an index on, in
/// order, and none after the last. A snapshot that cannot be used is told in the log, and all records are applied.
///
/// The replica and the groups then fit exactly: a record and what the groups made of it are written in one transaction
/// ([`Control::poll`](super::Control::poll)), and none of both is there without the other. A folder that an older version
/// wrote may have records that its groups have not seen. They are given these here, once: what they make of them, and that
/// they have seen them, is in the first step of the control plane.
///
/// Each record was verified before it was stored. That those after the snapshot continue it is checked again.
///
/// # Errors
/// The disk holds what no agent writes, or cannot be read.
pub fn restore<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    genesis: Genesis,
    groups: &mut Groups,
    snapshot: Option<&[u8]>,
    mut page: impl FnMut(u64) -> Result<Vec<Vec<u8>>, E>,
    now_ms: u64,
) -> Result<Restored, RestoreError> {
    let mut page = |from| page(from).map_err(|error| RestoreError::Disk(error.into()));
    let usable = snapshot.map(|snapshot| take_up(genesis, groups, snapshot, &mut page));
    let mut replica = match usable {
        Some(Ok(replica)) => replica,
        Some(Err(reason)) => {
            warn!(
                "the stored state of the ledger is not used: {reason}. All stored entries are applied again, which takes longer \
                 once, and the state is stored anew"
            );
            Replica::new(genesis)
        }
        None => Replica::new(genesis),
    };
    let snapshot_at = replica.height();
    loop {
        let records = page(replica.height())?;
        if records.is_empty() {
            break;
        }
        for bytes in records {
            let index = replica.height();
            let record = Record::decode(&bytes).map_err(|source| RestoreError::Unreadable { index, source })?;
            replica.apply_without_signature_check(&record)?;
            groups.handle_record(&replica, &record, now_ms)?;
        }
    }
    let (height, next) = (replica.height(), groups.next_entry());
    if next == height { Ok(Restored { replica, snapshot_at }) } else { Err(RestoreError::GroupsLead { height, next }) }
}

/// The replica of a snapshot that fits the groups and the stored records, or why it does not.
fn take_up(
    genesis: Genesis,
    groups: &Groups,
    snapshot: &[u8],
    page: &mut impl FnMut(u64) -> Result<Vec<Vec<u8>>, RestoreError>,
) -> Result<Replica, String> {
    let replica = Replica::from_snapshot(genesis, snapshot).map_err(|error| error.to_string())?;
    let (height, next) = (replica.height(), groups.next_entry());
    if height > next {
        return Err(format!("it is of entry {height}, and the groups have read up to {next}"));
    }
    if let Some(last) = height.checked_sub(1) {
        let records = page(last).map_err(|error| error.to_string())?;
        let record = records.first().and_then(|bytes| Record::decode(bytes).ok());
        if record.is_none_or(|record| (record.index, record.head) != (last, replica.head())) {
            return Err(format!("entry {last} is not the one that it ends with"));
        }
    }
    Ok(replica)
}
