//! What the connections have in common.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sealcast_broker_core::{Cause, Limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::event::ServerEvent;
use super::strangers::{MaxStrangers, Strangers};

/// Bytes of packets from all connections that wait for the core.
const EVENT_BYTES: usize = 64 * 1024 * 1024;

/// What connections share.
pub(crate) struct Shared {
    pub events: mpsc::Sender<ServerEvent>,
    pub limits: Limits,
    memory: Arc<Semaphore>,
    pub strangers: Arc<Strangers>,
    pub next_conn: AtomicU64,
}

impl Shared {
    pub(super) fn new(events: mpsc::Sender<ServerEvent>, limits: Limits) -> Self {
        let max = MaxStrangers { host: limits.max_unauthenticated, loopback: limits.max_unauthenticated_loopback };
        let refusal = "connection refused: as many connections from this address as may have not sent CONNECT yet";
        Self {
            events,
            memory: Arc::new(Semaphore::new(EVENT_BYTES)),
            strangers: Strangers::new(max, refusal),
            next_conn: AtomicU64::new(1),
            limits,
        }
    }

    /// Counts a client that was refused before it had said who it is. Nobody waits for the core: one that has no room for this
    /// has no room for those who may come in either.
    pub(crate) fn note_refused(&self, cause: Cause) {
        let _ = self.events.try_send(ServerEvent::Refused { cause });
    }

    /// Room for a packet of this size on its way to the core.
    pub(crate) async fn memory(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes.min(EVENT_BYTES)).unwrap_or(u32::MAX);
        self.memory.clone().acquire_many_owned(permits).await.ok()
    }
}
