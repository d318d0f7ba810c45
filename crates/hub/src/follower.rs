//! The task that keeps the hub's replica at the ledger's head, and pushes each new record to the agents.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sealcast_chain::Ledger;
use sealcast_group::PublicGroups;
use sealcast_hub_core::{Barred, SharedReplica};
use sealcast_ledger::Record;
use sealcast_ledger_client::NodeError;
use sealcast_node::Tasks;
use sealcast_topic::ControlTopic;
use tokio::{sync::watch, time::Instant};
use tracing::{error, warn};

use crate::{carrier::Carrier, keeper::Keeper};

/// The hub ends when its ledger could not be read for so long.
const UNREAD: Duration = Duration::from_secs(30);

/// See the module.
pub struct Follower {
    /// What is followed.
    pub ledger: Ledger,
    /// By which the broker judges.
    pub replica: SharedReplica,
    /// By which the relay judges commits. They go in step with the replica.
    pub groups: Arc<Mutex<PublicGroups>>,
    /// The replica's height, for the relay.
    pub known: watch::Sender<u64>,
    /// Which keeps what the ledger names.
    pub keeper: Arc<Keeper>,
    /// Which carries the records.
    pub carrier: Carrier,
}

impl Follower {
    /// Runs until `tasks` end. Fails if a record does not verify, or cannot be read: a replica that stands still would let revoked
    /// devices in.
    pub async fn run(self, tasks: Tasks) -> Result<()> {
        let from = self.replica.read().unwrap_or_else(PoisonError::into_inner).height();
        let mut watch = self.ledger.watch(from);
        let mut unread_since: Option<Instant> = None;
        loop {
            let records = tokio::select! {
                () = tasks.stop().cancelled() => return Ok(()),
                records = watch.next() => records,
            };
            match records {
                Ok(records) => {
                    unread_since = None;
                    let barred = self.apply(&records)?;
                    self.keeper.handle_records();
                    for barred in barred {
                        self.carrier.bar(barred, &tasks).await;
                    }
                    self.push(records).await;
                }
                Err(error) => {
                    let since = *unread_since.get_or_insert_with(Instant::now);
                    let damaged = matches!(error, NodeError::Answer { .. });
                    let error = anyhow::Error::new(error).context("the hub's own ledger cannot be read");
                    if damaged || since.elapsed() >= UNREAD {
                        return Err(error);
                    }
                    error!("{error:#}; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Brings the replica forward; gives whose connections must end now.
    fn apply(&self, records: &[Record]) -> Result<Vec<Barred>> {
        let mut barred = Vec::new();
        let mut replica = self.replica.write().unwrap_or_else(PoisonError::into_inner);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let event = replica.apply(record).context("the hub's own ledger does not verify")?;
            groups.handle_record(&replica, record);
            barred.extend(Barred::by(&replica, &event));
        }
        self.known.send_replace(replica.height());
        Ok(barred)
    }

    async fn push(&self, records: Vec<Record>) {
        for record in records {
            if let Err(error) = self.carrier.publish(&ControlTopic::Ledger.to_string(), record.encode()).await {
                warn!("a ledger record could not be pushed, and the agents will ask for it: {error:#}");
            }
        }
    }
}
