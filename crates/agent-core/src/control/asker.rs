//! Asks the hub for the messages that this device may have missed: other devices' keys, Welcomes, its own checkpoint, the
//! operator's word on the ledger.
//!
//! A broker delivers to whoever is connected, and keeps messages for others or not. So the hub is asked on each connection,
//! once the ledger was read, and from time to time, since any message may be lost. The question also says what this device
//! has published: the hub tells what it does not have, and that is published again.

use sealcast_ledger::Hash;
use tracing::debug;

use super::{input::Question, output::Effect};
use crate::deadline::Deadline;

/// A question that was not answered is asked again after so long.
const RETRY_MS: u64 = 500;
/// The hub is asked at least this often.
const REFRESH_MS: u64 = 15_000;

/// See the module.
#[derive(Default)]
pub(super) struct Asker {
    state: State,
    /// All that was kept when this connection began has come.
    has_read: bool,
    /// Where the last answer ended.
    after: Option<String>,
    questions: u64,
}

#[derive(Default)]
enum State {
    /// There is no connection, or the ledger was not read yet.
    #[default]
    Away,
    /// The hub is asked then.
    Waiting { until: Deadline },
    /// It is asked.
    Asking,
}

impl Asker {
    /// A new connection. What came on the last one may have come before this device could use it, so all is asked for.
    pub fn handle_up(&mut self) {
        *self = Self { questions: self.questions, ..Self::default() };
    }

    /// What was asked has no answer any more.
    pub fn handle_down(&mut self) {
        self.handle_up();
    }

    /// Whether all has come that was kept when this connection began.
    pub fn has_read(&self) -> bool {
        self.has_read
    }

    /// The hub is to be asked now, if it is not already.
    pub fn want(&mut self, now_ms: u64) {
        if !matches!(self.state, State::Asking) {
            self.wait(now_ms, 0);
        }
    }

    /// Whether this question waits for its answer.
    pub fn is_asking(&self, question: Question) -> bool {
        matches!(self.state, State::Asking) && question.0 == self.questions
    }

    /// The question was answered, and the messages were taken. `true` if there are no more.
    pub fn handle_answer(&mut self, next: String, more: bool, now_ms: u64) -> bool {
        // A hub that gives the same page for ever is not asked in a circle.
        let goes_on = more && self.after.as_ref() != Some(&next);
        self.after = Some(next);
        self.wait(now_ms, if goes_on { 0 } else { REFRESH_MS });
        self.has_read |= !goes_on;
        !goes_on
    }

    /// There will be no answer to the question.
    pub fn handle_failure(&mut self, reason: &str, now_ms: u64) {
        debug!(reason, "the hub did not say what it keeps for this device");
        self.wait(now_ms, RETRY_MS);
    }

    /// The question to be asked now; `have` tells what this device has published.
    pub fn poll(&mut self, have: impl FnOnce() -> Vec<(String, Hash)>, now_ms: u64) -> Option<Effect> {
        let State::Waiting { until } = self.state else { return None };
        if !until.is_due(now_ms) {
            return None;
        }
        self.questions += 1;
        self.state = State::Asking;
        Some(Effect::AskKept { question: Question(self.questions), after: self.after.clone(), have: have() })
    }

    /// When [`Self::poll`] may have something.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Waiting { until } => Some(until.at_ms()),
            State::Away | State::Asking => None,
        }
    }

    fn wait(&mut self, now_ms: u64, wait_ms: u64) {
        self.state = State::Waiting { until: Deadline::after(now_ms, wait_ms) };
    }
}
