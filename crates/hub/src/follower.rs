//! The task that keeps the hub's replica at the ledger's head, and pushes each new record to the agents.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sealcast_chain::Ledger;
use sealcast_console::Console;
use sealcast_group::PublicGroups;
use sealcast_hub_core::{Barred, SharedReplica};
use sealcast_ledger::{Record, Summary};
use sealcast_ledger_client::NodeError;
use sealcast_node::Tasks;
use sealcast_topic::ControlTopic;
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

use crate::{
    carrier::Carrier,
    keeper::Keeper,
    ledger::{Due, Snapshots},
};

/// The hub ends when its ledger could not be read for so long: in its own folder, and on a network, which may be away.
const UNREAD: Duration = Duration::from_secs(30);
const UNREAD_NETWORK: Duration = Duration::from_secs(10 * 60);

/// How often the log says that the ledger still cannot be read.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// How long the hub's replica may be behind its ledger.
const BEHIND: Duration = Duration::from_secs(10);

/// The height of the hub's replica. Whoever learns of a record may act on it at once, and the broker's rules are the replica's.
#[derive(Clone)]
pub struct Known(watch::Receiver<u64>);

impl Known {
    /// What `height` tells.
    pub fn new(height: watch::Receiver<u64>) -> Self {
        Self(height)
    }

    /// Waits until the replica has so many records, though not for ever.
    pub async fn reach(&self, height: u64) {
        if tokio::time::timeout(BEHIND, self.0.clone().wait_for(|known| *known >= height)).await.is_err() {
            warn!(
                "the hub's replica is behind its ledger: a device may learn of a record before the broker's rules know it"
            );
        }
    }
}

/// See the module.
pub struct Follower {
    /// What is followed.
    pub ledger: Ledger,
    /// By which the broker judges.
    pub replica: SharedReplica,
    /// By which the relay judges commits. They go in step with the replica.
    pub groups: Arc<Mutex<PublicGroups>>,
    /// The replica's height.
    pub known: watch::Sender<u64>,
    /// Where replica and groups are kept.
    pub snapshots: Snapshots,
    /// Which keeps what the ledger names.
    pub keeper: Arc<Keeper>,
    /// Which carries the records.
    pub carrier: Carrier,
    /// Which shows the records.
    pub console: Option<Arc<Console>>,
}

impl Follower {
    /// Runs until `tasks` end. Fails if a record does not verify, or cannot be read: a replica that stands still would let revoked
    /// devices in.
    pub async fn run(mut self, tasks: Tasks) -> Result<()> {
        let from = self.replica.read().unwrap_or_else(PoisonError::into_inner).height();
        let mut watch = self.ledger.watch(from);
        let mut unread_since: Option<Instant> = None;
        let mut told: Option<(Instant, String)> = None;
        let is_embedded = self.ledger.is_embedded();
        let unread = if is_embedded { UNREAD } else { UNREAD_NETWORK };
        loop {
            let records = tokio::select! {
                () = tasks.stop().cancelled() => return Ok(()),
                records = watch.next() => records,
            };
            match records {
                Ok(records) => {
                    unread_since = None;
                    if told.take().is_some() {
                        info!("the hub's ledger can be read again");
                    }
                    let (barred, snapshot) = self.apply(&records)?;
                    self.keeper.handle_records();
                    for barred in barred {
                        self.carrier.bar(barred, &tasks).await;
                    }
                    self.push(records).await;
                    if let Some(snapshot) = snapshot {
                        snapshot.write().await;
                    }
                }
                Err(error) => {
                    let since = *unread_since.get_or_insert_with(Instant::now);
                    // Endpoints of a network may be wrong for a while, the hub's own file is so for good.
                    let damaged = is_embedded && matches!(error, NodeError::Answer { .. });
                    let error = anyhow::Error::new(error).context("the hub's ledger cannot be read");
                    if damaged || since.elapsed() >= unread {
                        return Err(error);
                    }
                    let what = format!("{error:#}");
                    if told.as_ref().is_none_or(|(at, said)| *said != what || at.elapsed() >= TELL_AGAIN) {
                        error!("{what}; trying again each second");
                        told = Some((Instant::now(), what));
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Brings the replica forward; gives whose connections must end now, and what to write to disk after that.
    fn apply(&mut self, records: &[Record]) -> Result<(Vec<Barred>, Option<Due>)> {
        let mut barred = Vec::new();
        let mut replica = self.replica.write().unwrap_or_else(PoisonError::into_inner);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let event = replica.apply(record).context("the hub's ledger does not verify")?;
            groups.handle_record(&replica, record);
            barred.extend(Barred::by(&replica, &event));
            let originator = record.entry.originator();
            if originator == replica.genesis().id.operator() {
                let summary = Summary { index: record.index, time_s: record.time_s, originator, event: event.clone() };
                info!(entry = summary.index, "{}", replica.describe(&summary));
            }
            if let Some(console) = &self.console {
                console.observe(&replica, &groups, record, event);
            }
        }
        self.known.send_replace(replica.height());
        Ok((barred, self.snapshots.due(&replica, &groups)))
    }

    async fn push(&self, records: Vec<Record>) {
        for record in records {
            if let Err(error) = self.carrier.publish(&ControlTopic::Ledger.to_string(), record.encode()).await {
                warn!("a ledger record could not be pushed, and the agents will ask for it: {error:#}");
            }
        }
    }
}
