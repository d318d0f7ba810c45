//! What several sessions write at a time is one transaction: the disk is waited for once.

use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use sealcast_agent_core::session::Write;
use sealcast_ledger::ReadingTopic;

/// A reading that is not recorded on the ledger: its topic, and why.
pub type NotQueued = (ReadingTopic, String);

type Outcome = Result<Vec<NotQueued>, String>;

/// Steps of sessions that wait to be made durable.
#[derive(Default)]
pub(super) struct Together {
    waiting: Mutex<Vec<Waiting>>,
    /// Held by whoever writes.
    pub(super) turn: Mutex<()>,
}

/// One step.
pub(super) struct Waiting {
    pub(super) writes: Vec<Write>,
    /// Most readings that wait for the ledger.
    pub(super) most: u64,
    pub(super) answer: mpsc::Sender<Outcome>,
}

impl Together {
    /// Adds a step; what becomes of it comes by the receiver.
    pub(super) fn add(&self, writes: &[Write], most: u64) -> mpsc::Receiver<Outcome> {
        let (answer, receiver) = mpsc::channel();
        self.waiting().push(Waiting { writes: writes.to_vec(), most, answer });
        receiver
    }

    /// All that wait.
    pub(super) fn take(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.waiting())
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
