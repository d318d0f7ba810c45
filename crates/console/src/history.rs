//! What the ledger's records have said before the hub began: read beside its other work, since the hub starts from what it has
//! stored, and the replica does not tell what a former record was about.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use sealcast_group::PublicGroups;
use sealcast_ledger::{Record, Replica};

use crate::{
    console::{Console, lock},
    log::Log,
};

const PAGE: usize = 256;
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// All that the first records come to.
struct Past {
    replica: Replica,
    groups: PublicGroups,
    log: Log,
}

impl Past {
    /// The hub has verified them.
    fn take(mut self, records: &[Record]) -> Result<Self> {
        for record in records {
            let event = self.replica.apply_without_signature_check(record).context("the ledger has changed")?;
            self.groups.handle_record(&self.replica, record);
            self.log.observe(&self.replica, &self.groups, record, event);
        }
        Ok(self)
    }
}

impl Console {
    /// Reads the ledger from its first record on. Until that is done, the log has what came since the hub began.
    pub(crate) async fn read_history(self: Arc<Self>) {
        while let Err(error) = self.try_history().await {
            tracing::warn!("the console cannot read the ledger's former entries, and tries again: {error:#}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_history(&self) -> Result<()> {
        let genesis = *self.replica().genesis();
        let mut past = Past { replica: Replica::new(genesis), groups: PublicGroups::default(), log: Log::default() };
        loop {
            let (from, to) = (past.replica.height(), self.replica().height());
            let Some(left) = to.checked_sub(from).filter(|left| *left > 0) else {
                match self.install(past) {
                    Ok(()) => return Ok(()),
                    // There is another record since.
                    Err(unfinished) => past = *unfinished,
                }
                continue;
            };
            let page = (self.setup.records)(from, PAGE.min(usize::try_from(left).unwrap_or(PAGE))).await?;
            anyhow::ensure!(!page.is_empty(), "the ledger has {from} entries, and had {to} before");
            past = tokio::task::spawn_blocking(move || past.take(&page)).await??;
        }
    }

    /// Takes the whole log, if no record has come since it was read. None comes meanwhile: the replica is locked.
    fn install(&self, past: Past) -> Result<(), Box<Past>> {
        let replica = self.replica();
        if replica.height() != past.replica.height() {
            return Err(Box::new(past));
        }
        if replica.head() == past.replica.head() {
            *lock(&self.log) = past.log;
        } else {
            tracing::error!(
                "the ledger shows the console other former entries than the hub has verified: they are not shown"
            );
        }
        Ok(())
    }
}
