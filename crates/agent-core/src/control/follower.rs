//! Keeps the replica up with the ledger.
//!
//! The hub pushes records, and may lose some, repeat some, or change their order. So what is missing is asked for: at once
//! when a record shows that there are others before it, and from time to time, since the last push of all may be the one
//! that was lost. What the hub says is checked by the replica; the rest of this file only decides when to ask.

use std::cmp::Ordering;

use sealcast_ledger::{Record, ReplicaError};
use tracing::{debug, error, warn};

use super::{output::Effect, strangers::Strangers};
use crate::{Cause, Keyring, SharedKeyring, SyncId, Why, deadline::Deadline};

/// Records asked for at a time.
const PAGE: usize = 256;
/// A question that was not answered, or answered with what cannot be true, is asked again after so long.
const RETRY_MS: u64 = 500;
/// The ledger is asked for news at least this often, should a push have been lost.
const REFRESH_MS: u64 = 15_000;
/// Between two questions to a network whose answers show nothing new, though somebody says that there is something.
const NETWORK_PAUSE_MS: u64 = 1_000;
/// So long a network is asked again and again for a record that somebody says it has.
const HINT_MS: u64 = 60_000;
/// While what the hub keeps has not come, the network is asked for records so often.
const HELD_MS: u64 = 5_000;
/// A record that does not verify is not reported sooner again.
const QUIET_MS: u64 = 60_000;

/// See the module.
pub(super) struct Follower {
    state: State,
    /// The last answer was empty, and was not final because of news that came during its question.
    repeated: bool,
    /// Until then nothing is reported.
    quiet: Option<Deadline>,
    strangers: Strangers,
    /// Until when the network is asked again and again, and for which record.
    hint: Option<(u64, Deadline)>,
    /// The network is not asked again before.
    not_before: Deadline,
}

/// Whose word a record is, before it is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The hub's: in an answer of its, or through its own broker.
    Hub,
    /// That of endpoints of the ledger's network.
    Network,
    /// That of whoever may publish at somebody else's broker.
    Anybody,
}

enum State {
    /// There is no connection.
    Away,
    /// The ledger was read to its end, and is asked for news then.
    Idle { refresh: Deadline },
    /// The ledger is asked for records from an index on.
    Asking {
        sync: SyncId,
        from: u64,
        /// It has news that the answer may not have.
        again: bool,
    },
    /// It is asked then.
    Waiting { until: Deadline },
    /// It has no more records, and is asked once more when what the hub keeps is known; a network also at this time.
    Held { again: Option<Deadline> },
}

impl Follower {
    pub fn new() -> Self {
        Self {
            state: State::Away,
            repeated: false,
            quiet: None,
            strangers: Strangers::default(),
            hint: None,
            not_before: Deadline::after(0, 0),
        }
    }

    pub fn is_up(&self) -> bool {
        !matches!(self.state, State::Away)
    }

    pub fn handle_up(&mut self, now_ms: u64) {
        self.wait(now_ms, 0);
    }

    /// What was asked has no answer any more.
    pub fn handle_down(&mut self) {
        self.state = State::Away;
    }

    /// The ledger may have news. It is not asked twice at a time, and not at once if it has just not answered.
    pub fn want(&mut self, now_ms: u64) {
        match &mut self.state {
            State::Idle { .. } => self.wait(now_ms, self.not_before.at_ms().saturating_sub(now_ms)),
            State::Asking { again, .. } => *again = true,
            State::Away | State::Waiting { .. } | State::Held { .. } => {}
        }
    }

    /// The ledger was read to its end, and whoever may seal for that has to wait: the next question is not asked until
    /// [`Self::release`].
    ///
    /// A network is asked for records meanwhile, so that no hub decides which revocations this device learns of.
    pub fn hold(&mut self, keyring: &impl SharedKeyring, now_ms: u64) {
        if let State::Asking { .. } = self.state {
            let again = keyring.read(Keyring::reads_network).then(|| Deadline::after(now_ms, HELD_MS));
            self.state = State::Held { again };
        }
    }

    /// What was waited for is there.
    pub fn release(&mut self, now_ms: u64) {
        if let State::Held { .. } = self.state {
            self.wait(now_ms, 0);
        }
    }

    /// Somebody says that the ledger has this record, which only its network can show.
    pub fn handle_hint(&mut self, keyring: &impl SharedKeyring, index: u64, now_ms: u64) {
        if index >= height(keyring) && self.hint.is_none_or(|(known, _)| index > known) {
            self.hint = Some((index, Deadline::after(now_ms, HINT_MS)));
            self.want(now_ms);
        }
    }

    /// Gives the replica a record, if it is the next one. `true` if the replica has it now and had not before.
    pub fn take(&mut self, keyring: &mut impl SharedKeyring, record: &Record, source: Source, now_ms: u64) -> bool {
        match record.index.cmp(&height(keyring)) {
            Ordering::Less => {
                self.compare(keyring, record, source, now_ms);
                false
            }
            Ordering::Equal => match keyring.change(|keyring| keyring.replica_mut().apply(record)) {
                Ok(_) => true,
                Err(error) => {
                    self.report(keyring, &error, source, now_ms);
                    // A hub that goes on like this is not asked each time.
                    if let State::Idle { .. } = self.state {
                        self.wait(now_ms, RETRY_MS);
                    }
                    false
                }
            },
            Ordering::Greater => {
                self.want(now_ms);
                false
            }
        }
    }

    /// A record that the replica has, or another one in its place.
    fn compare(&mut self, keyring: &mut impl SharedKeyring, record: &Record, source: Source, now_ms: u64) {
        let (index, got) = (record.index, record.head);
        let known = keyring.read(|keyring| keyring.replica().head_at(index.saturating_add(1)));
        if let Some(expected) = known.filter(|known| *known != got) {
            self.report(keyring, &ReplicaError::Head { index, expected, got }, source, now_ms);
        }
    }

    /// Whether this question waits for its answer.
    pub fn is_asking(&self, asked: SyncId) -> bool {
        matches!(self.state, State::Asking { sync, .. } if sync == asked)
    }

    /// The question was answered, and the records of the answer were [taken](Self::take); `empty` if there were none.
    /// `true` if the replica has all that the ledger had when it was asked.
    pub fn handle_answer(&mut self, keyring: &mut impl SharedKeyring, empty: bool, now_ms: u64) -> bool {
        let State::Asking { sync, from, again } = self.state else { return false };
        // The hub can push what nobody has signed during each question. So news put off the end once only.
        let repeat = empty && again && !self.repeated;
        self.repeated = repeat;
        if repeat || !empty && height(keyring) > from {
            self.wait(now_ms, 0);
        } else if empty && keyring.change(|keyring| keyring.set_caught_up(sync)) {
            self.hint = self.hint.filter(|(index, until)| *index >= from && !until.is_due(now_ms));
            let pause_ms = match keyring.read(Keyring::reads_network) {
                true if again || self.hint.is_some() => NETWORK_PAUSE_MS,
                false if again => 0,
                _ => REFRESH_MS.min(keyring.read(Keyring::refresh_ms)),
            };
            self.state = State::Idle { refresh: Deadline::after(now_ms, pause_ms) };
            return true;
        } else {
            // Nothing that can be true came: do not ask in a circle.
            self.wait(now_ms, RETRY_MS);
        }
        false
    }

    /// There will be no answer to the question.
    pub fn handle_failure(&mut self, reason: &str, now_ms: u64) {
        debug!(reason, "the ledger did not answer");
        self.wait(now_ms, RETRY_MS.max(self.not_before.at_ms().saturating_sub(now_ms)));
    }

    /// The question to be asked now.
    pub fn poll(&mut self, keyring: &mut impl SharedKeyring, now_ms: u64) -> Option<Effect> {
        if !self.due().is_some_and(|due| due.is_due(now_ms)) {
            return None;
        }
        if keyring.read(Keyring::reads_network) {
            self.not_before = Deadline::after(now_ms, NETWORK_PAUSE_MS);
        }
        let (sync, from) = keyring.change(|keyring| (keyring.begin_sync(), keyring.replica().height()));
        self.state = State::Asking { sync, from, again: false };
        Some(Effect::Ask { sync, from, most: PAGE })
    }

    /// When [`Self::poll`] may have something.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.due().map(Deadline::at_ms)
    }

    fn due(&self) -> Option<Deadline> {
        match self.state {
            State::Idle { refresh: due } | State::Waiting { until: due } | State::Held { again: Some(due) } => {
                Some(due)
            }
            State::Away | State::Asking { .. } | State::Held { again: None } => None,
        }
    }

    fn wait(&mut self, now_ms: u64, wait_ms: u64) {
        self.state = State::Waiting { until: Deadline::after(now_ms, wait_ms) };
    }

    /// A record was pushed that cannot be read.
    pub fn handle_unreadable(&mut self, error: &str, source: Source, now_ms: u64) {
        match source {
            Source::Hub | Source::Network => {
                warn!(error, "the hub pushed a ledger record that cannot be read: it is ignored")
            }
            Source::Anybody => {
                self.strangers.note(error, now_ms);
            }
        }
    }

    fn report(&mut self, keyring: &mut impl SharedKeyring, error: &ReplicaError, source: Source, now_ms: u64) {
        if source == Source::Anybody {
            self.strangers.note(&with_causes(error), now_ms);
        } else if self.quiet.is_none_or(|quiet| quiet.is_due(now_ms)) {
            self.quiet = Some(Deadline::after(now_ms, QUIET_MS));
            let (who, because) = match source {
                Source::Network => ("an endpoint of the ledger", "it is wrong, or lies"),
                _ => (
                    "the hub",
                    "its ledger is another one than this agent has read, as after its folder was put back from an older copy \
                     (docs/recovery.md), or somebody has changed the record",
                ),
            };
            let why = Why::new(
                Cause::LedgerParted,
                format!(
                    "{who} sent a ledger record that does not verify: {because}. This agent ignores it and asks again: {}",
                    with_causes(error)
                ),
            );
            error!(code = %why.cause, "{why}");
            keyring.change(|keyring| keyring.note_alarm(why));
        }
    }
}

fn height(keyring: &impl SharedKeyring) -> u64 {
    keyring.read(|keyring| keyring.replica().height())
}

/// An error and what caused it, as one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

#[cfg(test)]
mod tests;
