//! The messages of the control plane that this device keeps at the broker: its keys, and Welcomes.
//!
//! They are published again when the connection comes back. One that the broker refuses is sent again until it is taken:
//! nobody waits here for what the broker says, so not being refused within [`TAKEN_MS`] counts.

use std::collections::{BTreeMap, BTreeSet};

use sealcast_ledger::GroupNumber;
use tracing::{debug, info, warn};

use crate::deadline::Deadline;

/// A message that the broker refused is sent again after so long: at first, and at most.
const AGAIN_MS: u64 = 5_000;
const MAX_AGAIN_MS: u64 = 60_000;
/// One that was sent again and not refused within this time was taken.
const TAKEN_MS: u64 = 5_000;

/// Messages by their topics.
#[derive(Default)]
pub(super) struct Outbox(BTreeMap<String, Message>);

struct Message {
    payload: Vec<u8>,
    /// The group of a Welcome.
    group: Option<GroupNumber>,
    refused: Option<Refused>,
}

/// What is known of a message since the broker refused it.
struct Refused {
    /// When it is sent again; or, if it was, when it counts as taken.
    at: Deadline,
    sent: bool,
    /// How long until the next time.
    wait_ms: u64,
}

impl Outbox {
    /// A message in the place of the topic's last one; `group` if it is a Welcome. If the broker refused that one, it is
    /// not taken to accept this one.
    pub fn put(&mut self, topic: String, payload: Vec<u8>, group: Option<GroupNumber>) {
        let refused = self.0.remove(&topic).and_then(|last| last.refused);
        self.0.insert(topic, Message { payload, group, refused });
    }

    /// Forgets a group's Welcomes.
    pub fn forget(&mut self, group: GroupNumber) {
        self.0.retain(|_, message| message.group != Some(group));
    }

    /// All messages, with their topics.
    pub fn messages(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(topic, message)| (topic.as_str(), message.payload.as_slice()))
    }

    /// Groups with a Welcome that the broker refuses.
    pub fn undelivered(&self) -> BTreeSet<GroupNumber> {
        self.0.values().filter(|message| message.refused.is_some()).filter_map(|message| message.group).collect()
    }

    /// The broker refused a message.
    pub fn handle_refused(&mut self, topic: &str, reason: &str, now_ms: u64) {
        let Some(message) = self.0.get_mut(topic) else {
            debug!(topic, reason, "the broker refused a message that is no longer needed");
            return;
        };
        let wait_ms = match &message.refused {
            Some(refused) => refused.wait_ms,
            None => {
                warn!(
                    topic,
                    reason,
                    "the broker refused a message of the control plane: the agent sends it again until the broker takes it"
                );
                AGAIN_MS
            }
        };
        message.refused = Some(Refused {
            at: Deadline::after(now_ms, wait_ms),
            sent: false,
            wait_ms: (wait_ms * 2).min(MAX_AGAIN_MS),
        });
    }

    /// When [`Outbox::due`] may have something.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.0.values().filter_map(|message| message.refused.as_ref()).map(|refused| refused.at.at_ms()).min()
    }

    /// What is to be sent again now; `up` if there is a connection. What was taken meanwhile is no longer refused.
    pub fn due(&mut self, now_ms: u64, up: bool) -> Vec<(String, Vec<u8>)> {
        let mut due = Vec::new();
        for (topic, message) in &mut self.0 {
            let Some(refused) = message.refused.as_mut().filter(|refused| refused.at.is_due(now_ms)) else { continue };
            if !up {
                refused.at = Deadline::after(now_ms, refused.wait_ms);
            } else if refused.sent {
                info!(topic, "the broker has taken a message that it had refused before");
                message.refused = None;
            } else {
                (refused.at, refused.sent) = (Deadline::after(now_ms, TAKEN_MS), true);
                due.push((topic.clone(), message.payload.clone()));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_767_225_600_000;

    #[test]
    fn a_refused_message_is_sent_again_until_it_is_taken() {
        let (mut outbox, group) = (Outbox::default(), GroupNumber::new(7).unwrap());
        outbox.put("a".into(), vec![1], Some(group));
        outbox.put("b".into(), vec![2], None);
        outbox.handle_refused("elsewhere", "quota", START_MS);
        assert_eq!((outbox.poll_timeout(), outbox.undelivered().len()), (None, 0));

        outbox.handle_refused("a", "quota", START_MS);
        assert_eq!(outbox.undelivered(), BTreeSet::from([group]));
        assert_eq!(outbox.due(START_MS, true), []);
        // Without a connection its turn comes later.
        let first = outbox.poll_timeout().unwrap();
        assert_eq!(first, START_MS + AGAIN_MS);
        assert_eq!(outbox.due(first, false), []);
        let second = outbox.poll_timeout().unwrap();
        assert!(second > first);
        assert_eq!(outbox.due(second, true), [("a".to_owned(), vec![1])]);
        // Refused again, it waits for longer.
        outbox.handle_refused("a", "quota", second);
        let third = outbox.poll_timeout().unwrap();
        assert!(third - second > AGAIN_MS);
        assert_eq!(outbox.due(third, true).len(), 1);
        assert_eq!(outbox.undelivered(), BTreeSet::from([group]));
        assert_eq!(outbox.due(third + TAKEN_MS, true), []);
        assert_eq!((outbox.poll_timeout(), outbox.undelivered().len()), (None, 0));
    }

    #[test]
    fn the_wait_between_two_tries_has_a_limit() {
        let mut outbox = Outbox::default();
        outbox.put("a".into(), vec![1], None);
        let mut now_ms = START_MS;
        let mut waits = Vec::new();
        for _ in 0..6 {
            outbox.handle_refused("a", "quota", now_ms);
            waits.push(outbox.poll_timeout().unwrap() - now_ms);
            now_ms = outbox.poll_timeout().unwrap();
            assert_eq!(outbox.due(now_ms, true).len(), 1);
        }
        assert_eq!(waits, [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
    }

    #[test]
    fn a_newer_welcome_is_refused_as_the_last_one_was_and_a_forgotten_one_is_not() {
        let (mut outbox, group) = (Outbox::default(), GroupNumber::new(7).unwrap());
        outbox.put("a".into(), vec![1], Some(group));
        outbox.handle_refused("a", "quota", START_MS);
        outbox.put("a".into(), vec![2], Some(group));
        assert_eq!(outbox.undelivered(), BTreeSet::from([group]));
        assert_eq!(outbox.due(START_MS + AGAIN_MS, true), [("a".to_owned(), vec![2])]);
        outbox.forget(group);
        assert_eq!((outbox.messages().count(), outbox.undelivered().len()), (0, 0));
    }
}
