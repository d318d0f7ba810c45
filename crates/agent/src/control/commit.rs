//! A step of the control plane is written before anything of it leaves the agent, however long the disk takes.

use std::time::Duration;

use anyhow::Result;
use sealcast_agent_core::{
    Step, Uncommitted,
    control::{Effect, Write},
};
use tokio_util::sync::CancellationToken;

use crate::store::{CommitError, Store};

/// A write that the agent cannot go on without is tried again after so long.
const RETRY: Duration = Duration::from_millis(500);

/// What a step came to.
pub struct Committed {
    /// What follows.
    pub effects: Vec<Effect>,
    /// The disk did not take it at first.
    pub waited: bool,
}

/// Commits a step. If the disk fails it is tried again until it succeeds or the agent ends: `stall` is called first, as the
/// ledger cannot be followed meanwhile.
///
/// # Errors
/// No room on the disk would mend it, or the agent ends.
pub async fn commit(
    store: &Store,
    stop: &CancellationToken,
    mut step: Step<Write, Effect>,
    stall: impl Fn(),
) -> Result<Committed> {
    let mut waited = false;
    loop {
        let Uncommitted { error, step: again } = match step.commit(|writes| store.commit(writes)) {
            Ok(effects) => return Ok(Committed { effects, waited }),
            Err(uncommitted) => uncommitted,
        };
        if stop.is_cancelled() || matches!(error, CommitError::Fault(_)) {
            return Err(error.into());
        }
        stall();
        waited = true;
        step = again;
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, path::Path};

    use sealcast_agent_core::{
        SyncId,
        values::{ArchiveMessage, ValueWrite},
    };
    use sealcast_faults::Fault;

    use super::*;

    const FULL_PAGES: u32 = 32;

    fn step(index: u64, bytes: &[u8]) -> Step<Write, Effect> {
        let ask = Effect::Ask { sync: SyncId::default(), from: index, most: 1 };
        Step::new(vec![Write::Record { index, bytes: bytes.to_vec() }], vec![ask])
    }

    /// A store whose disk is full, once so many pages are used.
    fn full(dir: &Path) -> Result<Store> {
        let store = Store::create(dir)?;
        store.limit_pages(FULL_PAGES)?;
        Ok(store)
    }

    #[tokio::test]
    async fn a_step_waits_for_the_disk_with_the_keyring_stalled() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (store, stop) = (full(dir.path())?, CancellationToken::new());
        let stalled = Cell::new(0);
        let stall = || {
            stalled.set(stalled.get() + 1);
            assert!(store.is_failing());
            // Somebody makes room.
            store.limit_pages(100_000).unwrap_or_else(|error| panic!("{error:#}"));
        };
        let first = commit(&store, &stop, step(0, b"small"), || panic!("there is room")).await?;
        assert_eq!((first.effects.len(), first.waited), (1, false));
        let second = commit(&store, &stop, step(1, &vec![7; 1 << 20]), stall).await?;
        assert_eq!((second.effects.len(), second.waited, stalled.get()), (1, true, 1));
        assert_eq!(store.records(0, 9)?.len(), 2);
        Ok(())
    }

    /// What no room on the disk would mend is an error at once, and ends the task, whatever another write came to meanwhile.
    #[tokio::test]
    async fn a_step_waits_for_the_disk_alone() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (store, stop) = (full(dir.path())?, CancellationToken::new());
        commit(&store, &stop, step(0, b"first"), || panic!("there is room")).await?;
        assert!(store.write_values(&[archived(1 << 20)]).is_err());
        assert!(store.is_failing());
        let outcome = commit(&store, &stop, step(0, b"another"), || panic!("it waits")).await;
        let error = outcome.map_or_else(|error| format!("{error:#}"), |_| String::new());
        assert!(error.contains("cannot be written") && error.contains("record 0"), "{error}");
        Ok(())
    }

    /// However it fails, and whether it is on disk or not: it is there once, and its effects come once.
    #[tokio::test]
    async fn a_step_that_failed_is_committed_once() -> Result<()> {
        for fault in Fault::ALL {
            let dir = tempfile::tempdir()?;
            let (store, stop) = (Store::create(dir.path())?, CancellationToken::new());
            commit(&store, &stop, step(0, b"first"), || panic!("nothing fails")).await?;
            store.read(|db| fault.strike(db))?;
            let tries = Cell::new(0);
            let stall = || {
                tries.set(tries.get() + 1);
                if tries.get() == 2 {
                    store.read(sealcast_faults::mend).unwrap_or_else(|error| panic!("{error:#}"));
                }
            };
            let committed = commit(&store, &stop, step(1, b"second"), stall).await?;
            // Of what is there already, the second try has nothing to write that could fail.
            let expected = if fault.is_persisted() { 1 } else { 2 };
            assert_eq!((committed.effects.len(), committed.waited, tries.get()), (1, true, expected), "{fault:?}");
            assert!(!store.is_failing());
            drop(store);
            assert_eq!(
                Store::open(dir.path(), None)?.records(0, 9)?,
                [b"first".to_vec(), b"second".to_vec()],
                "{fault:?}"
            );
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_step_that_waits_ends_with_the_agent() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (store, stop) = (full(dir.path())?, CancellationToken::new());
        let outcome = commit(&store, &stop, step(0, &vec![7; 1 << 20]), || stop.cancel()).await;
        let error = outcome.map_or_else(|error| format!("{error:#}"), |_| String::new());
        assert!(error.contains("cannot be written"), "{error}");
        assert!(store.records(0, 9)?.is_empty());
        Ok(())
    }

    fn archived(bytes: usize) -> ValueWrite {
        ValueWrite::Archive(ArchiveMessage {
            id: 1,
            topic: "a".into(),
            props: bytes::Bytes::new(),
            payload: vec![7; bytes],
        })
    }
}
