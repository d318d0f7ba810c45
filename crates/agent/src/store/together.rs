//! What several sessions write at a time is one transaction: the disk is waited for once.

use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use anyhow::{Context as _, Result, anyhow};
use sealcast_agent_core::session::Write;
use sealcast_node::files::blocking;

use super::{
    Store,
    session::{NotQueued, write_step},
};

type Outcome = Result<Vec<NotQueued>, String>;

/// Steps of sessions that wait to be made durable.
#[derive(Default)]
pub(super) struct Together {
    waiting: Mutex<Vec<Waiting>>,
    /// Held by whoever writes.
    turn: Mutex<()>,
}

struct Waiting {
    writes: Vec<Write>,
    most: u64,
    answer: mpsc::Sender<Outcome>,
}

impl Together {
    fn add(&self, writes: &[Write], most: u64) -> mpsc::Receiver<Outcome> {
        let (answer, receiver) = mpsc::channel();
        self.waiting().push(Waiting { writes: writes.to_vec(), most, answer });
        receiver
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Makes the writes of a step durable, all or none; what is remembered of values is not among them. They may be there
    /// already, from a try that seemed to fail. At most `most` readings wait for the ledger: those beyond are not kept, and
    /// told.
    pub fn commit_session(&self, writes: &[Write], most: u64) -> Result<Vec<NotQueued>> {
        let answer = self.together.add(writes, most);
        blocking(|| {
            let _turn = self.together.turn.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever had the turn before has taken these along, or they are among those that wait now.
            answer.try_recv().or_else(|_| {
                self.commit_waiting();
                answer.try_recv()
            })
        })
        .context("a write was lost")?
        .map_err(|error| anyhow!("{error}"))
    }

    /// Writes what all sessions wait for, and tells each what became of it.
    fn commit_waiting(&self) {
        let waiting = std::mem::take(&mut *self.together.waiting());
        let outcome = self.write(|db| {
            waiting.iter().map(|step| write_step(db, &step.writes, step.most)).collect::<rusqlite::Result<Vec<_>>>()
        });
        for step in &waiting {
            self.settle_retained(&step.writes, outcome.is_ok());
        }
        // Nobody is told who has given up.
        match outcome {
            Ok(all) => waiting.into_iter().zip(all).for_each(|(step, refused)| drop(step.answer.send(Ok(refused)))),
            Err(error) => waiting.into_iter().for_each(|step| drop(step.answer.send(Err(format!("{error:#}"))))),
        }
    }
}

#[cfg(test)]
mod tests {
    use sealcast_seal::{Changes, Row};

    use super::*;

    fn window(client: &str, bytes: usize) -> Write {
        let row = Row { key: b"k".to_vec(), value: Some(vec![7; bytes]) };
        Write::Client { id: client.into(), changes: Changes { replace_all: false, rows: vec![row] }, seen_ms: 1 }
    }

    #[test]
    fn steps_that_wait_are_written_at_once_and_fail_at_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let store = Store::create(dir.path())?;
        let clients = ["pump", "valve", "door"];
        let answers = clients.map(|client| store.together.add(&[window(client, 9)], 0));
        assert!(answers.iter().all(|answer| answer.try_recv().is_err()), "nobody had the turn yet");
        assert!(store.commit_session(&[window("fan", 9)], 0)?.is_empty(), "and this one takes them along");
        assert!(answers.iter().all(|answer| matches!(answer.try_recv(), Ok(Ok(refused)) if refused.is_empty())));
        for client in clients {
            assert!(store.client(client)?.is_some_and(|client| client.windows.len() == 1), "{client}");
        }

        store.limit_pages(1)?;
        let answers = clients.map(|client| store.together.add(&[window(client, 100_000)], 0));
        assert!(store.commit_session(&[window("fan", 9)], 0).is_err());
        assert!(answers.iter().all(|answer| matches!(answer.try_recv(), Ok(Err(_)))));
        assert!(store.is_failing());
        Ok(())
    }
}
