//! What happens to values without a client: silence, kept reports, alarms, fail-safes, archives. One task, woken by time and
//! by the clients.

use std::{sync::Arc, time::Duration};

use sealcast_agent_core::values::Own;
use sealcast_node::now_ms;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Values, archive::Answers, outlet::Outlet};

/// The longest sleep.
const TICK_MS: u64 = 60_000;
/// What was saved is logged so often, and what is remembered of epochs that are gone forgotten.
const TIDY_EVERY_MS: u64 = 600_000;

impl Values {
    /// Runs until `stop`.
    pub async fn run(self: Arc<Self>, out: Outlet, stop: CancellationToken) {
        let mut tidied_ms = now_ms();
        let mut answers = Answers::default();
        loop {
            let now = now_ms();
            self.state().sleeps_until_ms = 0;
            self.with(|values| values.handle_timeout(&out.data.keyring(), now));
            self.send_due(&out, now);
            self.send_archives(&mut answers, &out, now);
            if now.saturating_sub(tidied_ms) >= TIDY_EVERY_MS {
                tidied_ms = now;
                self.with(|values| {
                    values.log_savings();
                    values.forget_old_epochs(&out.data.keyring());
                });
            }
            let pause = self.pause(answers.poll_timeout());
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.with(|values| values.log_savings());
    }

    /// How long the task may sleep; whoever makes something due before that wakes it.
    pub(super) fn pause(&self, answers_ms: Option<u64>) -> Duration {
        let mut state = self.state();
        let now = now_ms();
        let due = [state.values.poll_timeout(), answers_ms, Some(now.saturating_add(TICK_MS))];
        state.sleeps_until_ms = due.into_iter().flatten().min().unwrap_or(now);
        Duration::from_millis(state.sleeps_until_ms.saturating_sub(now))
    }

    /// Publishes kept reports, alarms and their ends.
    fn send_due(&self, out: &Outlet, now: u64) {
        let due = self.commit(|values| values.take_due(now)).unwrap_or_else(|error| {
            if !self.store.is_failing() {
                error!("{error:#}");
            }
            Vec::new()
        });
        for mut due in due {
            let mut sent = self.send(out, &due.topic, &mut due.message);
            if sent.is_ok() && due.is_end() {
                sent = self.send(out, &due.topic, &mut Own::empty());
            }
            if let Err(unsent) = &sent {
                out.note_unsent(&due.topic, unsent);
            }
            self.with(|values| match sent {
                Ok(()) => values.sent(due, now),
                Err(error) => values.not_sent_own(due, &error, now),
            });
        }
    }
}
