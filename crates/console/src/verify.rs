//! Verification of the whole ledger from its first entry on, while somebody watches.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use sealcast_ledger::{Genesis, Record, Replica};

use crate::{
    feed::Feed,
    model::{FeedEvent, VerifyEvent, VerifyState},
};

/// Reads up to so many records of the ledger, from an index on: nothing at its end.
pub type Records = Box<dyn Fn(u64, usize) -> Pin<Box<dyn Future<Output = Result<Vec<Record>>> + Send>> + Send + Sync>;

const PAGE: usize = 128;
/// How often progress is told.
const TELL: Duration = Duration::from_millis(200);

/// One at a time.
#[derive(Default)]
pub struct Verification(AtomicBool);

/// Ends with what it is held by.
pub struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Verification {
    /// `None` while another one runs.
    pub fn begin(&self) -> Option<Turn<'_>> {
        (!self.0.swap(true, Ordering::AcqRel)).then_some(Turn(&self.0))
    }
}

impl Turn<'_> {
    /// Verifies the first `of` records, and tells `feed`.
    pub async fn run(self, genesis: Genesis, of: u64, records: &Records, feed: &Feed) {
        let tell = |state, done, text| feed.push(&FeedEvent::Verify(VerifyEvent { state, done, of, text }));
        let mut done = 0;
        let outcome = verify(genesis, of, records, |reached| {
            done = reached;
            tell(VerifyState::Running, reached, String::new());
        });
        match outcome.await {
            Ok(head) => {
                let text = format!("{of} entries verified: signatures, rules and hash chain; head {head}");
                tell(VerifyState::Done, of, text);
            }
            Err(error) => {
                tell(VerifyState::Failed, done, format!("{error:#}"));
            }
        }
    }
}

async fn verify(genesis: Genesis, of: u64, records: &Records, mut told: impl FnMut(u64)) -> Result<String> {
    let mut replica = Replica::new(genesis);
    told(0);
    let mut last = Instant::now();
    while replica.height() < of {
        let left = usize::try_from(of - replica.height()).unwrap_or(PAGE);
        let page = records(replica.height(), left.min(PAGE)).await.context("the ledger cannot be read")?;
        anyhow::ensure!(!page.is_empty(), "the ledger has {} entries, and had {of} before", replica.height());
        // Each has a signature to check: the other tasks must go on meanwhile.
        replica = tokio::task::spawn_blocking(move || {
            for record in page.iter().take(left) {
                replica.apply(record).with_context(|| format!("entry {} does not verify", record.index))?;
            }
            anyhow::Ok(replica)
        })
        .await??;
        if last.elapsed() >= TELL {
            told(replica.height());
            last = Instant::now();
        }
    }
    Ok(replica.head().to_string())
}

#[cfg(test)]
mod tests {
    use sealcast_ledger::{
        Hash, LedgerId,
        testing::{Cast, MemoryLedger},
    };

    use super::*;

    fn ledger(devices: usize) -> (Cast, MemoryLedger) {
        let cast = Cast::new(LedgerId { chain_id: 1, address: [1; 20] }, devices).unwrap();
        let mut ledger = MemoryLedger::new(cast.genesis);
        for device in 0..devices {
            let body = cast.registration(device, Hash::of(&device.to_be_bytes()));
            let entry = cast.sign(ledger.replica(), cast.genesis.id.ca(), &body).unwrap();
            ledger.submit(&entry, 5).unwrap();
        }
        (cast, ledger)
    }

    fn reader(records: Vec<Record>) -> Records {
        Box::new(move |from, max| {
            let page = records.iter().skip(from as usize).take(max).cloned().collect();
            Box::pin(async move { Ok(page) })
        })
    }

    #[tokio::test]
    async fn all_entries_are_verified_or_the_bad_one_is_named() {
        let (cast, ledger) = ledger(PAGE + 2);
        let mut records = ledger.records().to_vec();
        let of = records.len() as u64;
        let head = verify(cast.genesis, of, &reader(records.clone()), |_| ()).await.unwrap();
        assert_eq!(head, ledger.replica().head().to_string());
        records[PAGE].time_s += 1;
        let error = verify(cast.genesis, of, &reader(records.clone()), |_| ()).await.unwrap_err();
        assert!(format!("{error:#}").contains(&format!("entry {PAGE} does not verify")), "{error:#}");
        records.truncate(3);
        let error = verify(cast.genesis, of, &reader(records), |_| ()).await.unwrap_err();
        assert!(error.to_string().contains("has 3 entries"), "{error:#}");
    }

    #[test]
    fn one_runs_at_a_time() {
        let verification = Verification::default();
        let turn = verification.begin();
        assert!(turn.is_some() && verification.begin().is_none());
        drop(turn);
        assert!(verification.begin().is_some());
    }
}
