//! What the hub's ledger comes to, on disk: a start applies only the records that came since.
//!
//! `replica.snapshot` is `version u8 | length of the replica u64 | Replica::snapshot | PublicGroups::snapshot`, and SHA-256 of
//! all that. It is the hub's own, like its ledger: nobody signs it, and without it the start takes longer.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sealcast_chain::Ledger;
use sealcast_group::PublicGroups;
use sealcast_ledger::{Genesis, Hash, Replica};
use sealcast_node::files;
use tracing::warn;

/// Raised with each change of what is in it.
const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 32;
/// More than the state of any ledger that is in use.
const MAX_BYTES: usize = 1 << 30;

/// The file in a hub's folder.
pub struct Snapshots {
    path: PathBuf,
    /// The height of the last one; 0 if there is none.
    last: u64,
}

impl Snapshots {
    /// Reads the snapshot in `dir`. One that does not fit `ledger` is told in the log and not used.
    pub async fn open(dir: &Path, genesis: Genesis, ledger: &Ledger) -> (Self, Replica, PublicGroups) {
        let mut own = Self { path: dir.join("replica.snapshot"), last: 0 };
        if own.path.exists() {
            match own.read(genesis, ledger).await {
                Ok((replica, groups)) => {
                    own.last = replica.height();
                    return (own, replica, groups);
                }
                Err(error) => warn!(
                    "the stored state of the ledger is not used, and all entries are verified again, which takes longer once: \
                     {error:#}"
                ),
            }
        }
        (own, Replica::new(genesis), PublicGroups::default())
    }

    async fn read(&self, genesis: Genesis, ledger: &Ledger) -> Result<(Replica, PublicGroups)> {
        let bytes = files::read_bytes(&self.path, MAX_BYTES)?;
        let (replica, groups) = decode(genesis, &bytes).with_context(|| self.path.display().to_string())?;
        if let Some(last) = replica.height().checked_sub(1) {
            let records = ledger.records(last, 1).await.context("its last entry cannot be read")?;
            ensure!(
                records.first().is_some_and(|record| record.index == last && record.head == replica.head()),
                "entry {last} of the ledger is not the one that it ends with"
            );
        }
        Ok((replica, groups))
    }

    /// What to write now, if the ledger has grown enough.
    pub fn due(&mut self, replica: &Replica, groups: &PublicGroups) -> Option<Due> {
        if !Replica::is_snapshot_due(self.last, replica.height()) {
            return None;
        }
        self.last = replica.height();
        Some(Due { path: self.path.clone(), bytes: encode(replica, groups) })
    }
}

/// A snapshot that is not on disk yet.
pub struct Due {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Due {
    /// Writes it. A failure costs the next start time, and no more.
    pub async fn write(self) {
        let written = tokio::task::spawn_blocking(move || files::write(&self.path, &self.bytes, files::Mode::Secret));
        if let Ok(Err(error)) = written.await {
            warn!("the state of the ledger cannot be stored, and the next start takes longer: {error:#}");
        }
    }
}

pub(super) fn encode(replica: &Replica, groups: &PublicGroups) -> Vec<u8> {
    let replica = replica.snapshot();
    let mut out = vec![VERSION];
    out.extend_from_slice(&(replica.len() as u64).to_be_bytes());
    out.extend_from_slice(&replica);
    out.extend_from_slice(&groups.snapshot());
    let digest = Hash::of(&out);
    out.extend_from_slice(digest.as_bytes());
    out
}

fn decode(genesis: Genesis, bytes: &[u8]) -> Result<(Replica, PublicGroups)> {
    let version = bytes.first().context("it is empty")?;
    ensure!(*version == VERSION, "it has format version {version}, and this program reads version {VERSION}");
    let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().context("it is cut off")?;
    ensure!(Hash::of(content).as_bytes() == digest, "it is damaged");
    let parts = || {
        let (length, rest) = content.get(1..)?.split_first_chunk::<8>()?;
        rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)
    };
    let (replica, groups) = parts().context("it is cut off")?;
    let replica = Replica::from_snapshot(genesis, replica)?;
    Ok((replica, PublicGroups::from_snapshot(groups).context("its groups cannot be read")?))
}

#[cfg(test)]
mod tests {
    use sealcast_ledger::{
        LedgerId,
        testing::{Cast, MemoryLedger, Workload},
    };

    use super::*;

    /// A ledger of some entries, and what it comes to.
    fn seen(entries: u64) -> Result<(Replica, PublicGroups)> {
        let mut workload = Workload::new(Cast::new(LedgerId { chain_id: 7, address: [3; 20] }, 4)?, 1);
        let mut ledger = MemoryLedger::new(workload.cast.genesis);
        let (mut replica, mut groups) = (Replica::new(workload.cast.genesis), PublicGroups::default());
        for step in 0..entries {
            let entry = workload.entry(ledger.replica())?;
            // Many break a rule.
            let _ = ledger.submit(&entry, step);
        }
        for record in ledger.records() {
            replica.apply(record)?;
            groups.handle_record(&replica, record);
        }
        Ok((replica, groups))
    }

    #[test]
    fn is_what_it_was_made_from_and_nothing_else_is_taken() -> Result<()> {
        let (replica, groups) = seen(100)?;
        let (genesis, bytes) = (*replica.genesis(), encode(&replica, &groups));
        let (restored, restored_groups) = decode(genesis, &bytes)?;
        assert_eq!(format!("{restored:?} {restored_groups:?}"), format!("{replica:?} {groups:?}"));
        for cut in [0, 1, 8, 40, bytes.len() - 1] {
            assert!(decode(genesis, &bytes[..cut]).is_err(), "{cut}");
        }
        for at in (0..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(decode(genesis, &flipped).is_err(), "{at}");
        }
        Ok(())
    }

    #[test]
    fn one_is_due_as_the_ledger_grows() -> Result<()> {
        let (replica, groups) = seen(100)?;
        let mut snapshots = Snapshots { path: PathBuf::new(), last: 0 };
        assert!(snapshots.due(&replica, &groups).is_some());
        assert!(snapshots.due(&replica, &groups).is_none());
        Ok(())
    }
}
