//! Brings this device's entries onto the ledger: one at a time, since each has the nonce after the last.
//!
//! What the groups need goes first. Then come the readings, which wait on disk: this file knows of the oldest of each topic,
//! and asks for them anew when one has left its queue or was added.

use std::collections::{BTreeSet, VecDeque};

use sealcast_ledger::{Body, Reading, ReadingTopic, Refusal, Replica, SignError, SignedEntry};
use tracing::{debug, error, info, warn};

use super::{input::QueuedReading, output::Effect};
use crate::{Own, deadline::Deadline};

/// An entry that did not go through for a passing reason is submitted again after so long.
const RETRY_MS: u64 = 500;
/// The longest wait that the relay can ask for. What it has no room for then, it refuses again.
const MAX_LATER_MS: u64 = 60_000;

/// See the module.
pub(super) struct Submitter {
    state: State,
    /// What the groups want on the ledger, without what is being submitted.
    bodies: VecDeque<Body>,
    readings: Readings,
    /// Topics whose readings the ledger would not take now: the log says why, once.
    held: BTreeSet<ReadingTopic>,
    /// The log has said that the relay takes entries later; once until it takes one.
    is_later_told: bool,
}

enum State {
    Idle,
    /// Until it is known what became of it.
    Submitting(Submission),
    /// The ledger has taken an entry. The next nonce is known when the replica has the record of this index, too.
    Taken {
        index: u64,
        until: Deadline,
    },
    /// The ledger, or this device's replica, may be further then.
    Retry {
        at: Deadline,
    },
}

enum Submission {
    Body(Body),
    /// It stays in its queue until the replica has its record.
    Reading {
        topic: ReadingTopic,
        sequence: u64,
    },
    /// The replica has its record, whatever the call for it will come to.
    OnLedger,
}

/// What waits on disk.
enum Readings {
    Unknown,
    Asked,
    Known {
        /// Of each topic, oldest first.
        oldest: Vec<QueuedReading>,
        /// The ledger may take one of them, as far as is known.
        look: bool,
    },
}

impl Submitter {
    pub fn new() -> Self {
        Self {
            state: State::Idle,
            bodies: VecDeque::new(),
            readings: Readings::Unknown,
            held: BTreeSet::new(),
            is_later_told: false,
        }
    }

    /// Something for the groups. They ask again after a while; a body that still waits does not wait twice.
    pub fn put(&mut self, body: Body) {
        let submitting = matches!(&self.state, State::Submitting(Submission::Body(other)) if *other == body);
        if !submitting && !self.bodies.contains(&body) {
            self.bodies.push_back(body);
        }
    }

    /// What the groups wanted before is not theirs any more.
    pub fn forget_bodies(&mut self) {
        self.bodies.clear();
    }

    /// The connection is there again.
    pub fn handle_up(&mut self) {
        if let State::Retry { .. } = self.state {
            self.state = State::Idle;
        }
    }

    /// A reading was queued, or has left its queue.
    pub fn handle_queue_changed(&mut self) {
        self.readings = Readings::Unknown;
    }

    /// The oldest waiting reading of each topic, oldest first.
    pub fn handle_readings(&mut self, oldest: Vec<QueuedReading>) {
        self.readings = Readings::Known { oldest, look: true };
    }

    /// The ledger may take now what it would not take before.
    pub fn look_again(&mut self) {
        if let Readings::Known { look, .. } = &mut self.readings {
            *look = true;
        }
    }

    /// The replica has an entry of this device, which may have been submitted by a call that failed.
    pub fn handle_own(&mut self, body: &Body) {
        self.bodies.retain(|waiting| waiting != body);
        let reading = match body {
            Body::Reading(reading) => Some((&reading.topic, reading.sequence)),
            _ => None,
        };
        let this = match &self.state {
            State::Submitting(Submission::Body(submitted)) => submitted == body,
            State::Submitting(Submission::Reading { topic, sequence }) => reading == Some((topic, *sequence)),
            _ => false,
        };
        if this {
            self.state = State::Submitting(Submission::OnLedger);
        }
        if reading.is_some() {
            self.handle_queue_changed();
        }
    }

    /// The ledger took the entry, and its record has this index.
    pub fn handle_taken(&mut self, index: u64, now_ms: u64) {
        // If the hub says so and it is not true: the entry can be submitted again, and a body is asked for again.
        self.state = State::Taken { index, until: Deadline::after(now_ms, RETRY_MS) };
        self.is_later_told = false;
    }

    /// The ledger does not take the entry. Gives what the groups must be told of: it is not submitted again.
    pub fn handle_refused(&mut self, refusal: &Refusal, now_ms: u64) -> Option<Body> {
        // It was signed for a place that is no longer the next: for a nonce, or for a contract that the ledger has left.
        let is_stale = matches!(refusal, Refusal::BadNonce { .. } | Refusal::NotHere { .. });
        match self.take_submission()? {
            Submission::OnLedger => None,
            // The replica is behind: it is signed anew.
            Submission::Body(body) if is_stale => {
                self.submit_again(body, now_ms);
                None
            }
            Submission::Body(body) => {
                info!(kind = %body.kind(), reason = %refusal, "the ledger took another entry first");
                Some(body)
            }
            // Once the replica knows why, the reading waits until that has changed.
            Submission::Reading { .. } => {
                if !is_stale {
                    debug!(reason = %refusal, "a reading was refused");
                }
                self.retry_after(RETRY_MS, now_ms);
                None
            }
        }
    }

    /// The relay does not submit the entry, whatever the ledger would say. Gives what the groups must be told of.
    pub fn handle_rejected(&mut self, reason: &str, now_ms: u64) -> Option<Body> {
        match self.take_submission()? {
            Submission::OnLedger => None,
            Submission::Body(body) => {
                info!(kind = %body.kind(), reason, "the relay refused an entry");
                Some(body)
            }
            Submission::Reading { .. } => {
                self.retry_after(RETRY_MS, now_ms);
                None
            }
        }
    }

    /// The entry may be on the ledger or not. To submit it again is safe.
    pub fn handle_failure(&mut self, reason: &str, now_ms: u64) {
        if self.wait(RETRY_MS, now_ms) {
            warn!("an entry did not reach the ledger, and is sent again: {reason}");
        }
    }

    /// The relay has no room for the entry now, which is no fault of anybody's.
    pub fn handle_later(&mut self, reason: &str, wait_ms: Option<u64>, now_ms: u64) {
        let wait_ms = wait_ms.unwrap_or(RETRY_MS).clamp(RETRY_MS, MAX_LATER_MS);
        if self.wait(wait_ms, now_ms) && !std::mem::replace(&mut self.is_later_told, true) {
            info!("this device's entries wait until the relay takes them: {reason}");
        }
    }

    /// What to do next, with a connection.
    pub fn poll(&mut self, own: &Own, replica: &Replica, now_ms: u64) -> Option<Effect> {
        match &self.state {
            State::Submitting(_) => return None,
            State::Taken { index, until } if replica.height() <= *index && !until.is_due(now_ms) => return None,
            State::Retry { at } if !at.is_due(now_ms) => return None,
            State::Idle | State::Taken { .. } | State::Retry { .. } => self.state = State::Idle,
        }
        while let Some(body) = self.bodies.pop_front() {
            match sign(own, replica, &body) {
                Ok(entry) => {
                    self.state = State::Submitting(Submission::Body(body));
                    return Some(Effect::Submit(Box::new(entry)));
                }
                Err(error) => error!(kind = %body.kind(), %error, "an entry cannot be signed"),
            }
        }
        match &mut self.readings {
            Readings::Unknown => {
                self.readings = Readings::Asked;
                Some(Effect::ListReadings)
            }
            Readings::Known { oldest, look: look @ true } => {
                let submitted = oldest.iter().find_map(|reading| submittable(reading, own, replica, &mut self.held));
                *look = submitted.is_some();
                let (submission, entry) = submitted?;
                self.state = State::Submitting(submission);
                Some(Effect::Submit(Box::new(entry)))
            }
            Readings::Asked | Readings::Known { .. } => None,
        }
    }

    /// When [`Self::poll`] may have something, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<u64> {
        match &self.state {
            State::Taken { until: due, .. } | State::Retry { at: due } => Some(due.at_ms()),
            State::Idle | State::Submitting(_) => None,
        }
    }

    fn take_submission(&mut self) -> Option<Submission> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Submitting(submission) => Some(submission),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn submit_again(&mut self, body: Body, now_ms: u64) {
        self.bodies.push_front(body);
        self.retry_after(RETRY_MS, now_ms);
    }

    /// Submits what is being submitted once more, after a while; false if that is not needed.
    fn wait(&mut self, wait_ms: u64, now_ms: u64) -> bool {
        match self.take_submission() {
            None | Some(Submission::OnLedger) => return false,
            Some(Submission::Body(body)) => self.bodies.push_front(body),
            Some(Submission::Reading { .. }) => {}
        }
        self.retry_after(wait_ms, now_ms);
        true
    }

    fn retry_after(&mut self, wait_ms: u64, now_ms: u64) {
        self.look_again();
        self.state = State::Retry { at: Deadline::after(now_ms, wait_ms) };
    }
}

/// A reading that the ledger would take now, signed. One that it would not, for want of limits or of a grant, is held, and
/// with it the later ones of its topic.
fn submittable(
    queued: &QueuedReading,
    own: &Own,
    replica: &Replica,
    held: &mut BTreeSet<ReadingTopic>,
) -> Option<(Submission, SignedEntry)> {
    let topic = &queued.topic;
    let entry =
        wanted(queued, own, replica).and_then(|body| sign(own, replica, &body).map_err(|error| error.to_string()));
    match entry {
        Ok(entry) => {
            held.remove(topic);
            Some((Submission::Reading { topic: topic.clone(), sequence: queued.sequence }, entry))
        }
        Err(reason) => {
            if held.insert(topic.clone()) {
                warn!(%topic, reason, "readings wait on disk, because the ledger would refuse them");
            }
            None
        }
    }
}

/// The body of a reading's entry, or why the ledger would refuse it.
fn wanted(queued: &QueuedReading, own: &Own, replica: &Replica) -> Result<Body, String> {
    let QueuedReading { topic, time_ms, sequence, value, decimals } = queued.clone();
    let group =
        replica.group_for_topic(topic.as_str()).ok_or_else(|| format!("no group of the ledger covers {topic}"))?;
    let body = Body::Reading(Reading { group, topic, time_ms, sequence, value, decimals });
    replica.preview(own.number, &body).map(|_| body).map_err(|refusal| refusal.to_string())
}

fn sign(own: &Own, replica: &Replica, body: &Body) -> Result<SignedEntry, SignError> {
    body.sign(&own.key, own.number, replica.next_nonce(own.number), replica.current_id())
}

#[cfg(test)]
mod tests;
