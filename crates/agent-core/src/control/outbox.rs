//! The messages of the control plane that this device keeps at the broker: its keys, and Welcomes.
//!
//! They are published again when the connection comes back. One that the broker refuses is sent again until the broker says
//! that it has taken it.

use std::collections::{BTreeMap, BTreeSet};

use sealcast_ledger::{GroupNumber, Hash};
use tracing::{debug, info, warn};

use crate::deadline::Deadline;

/// A message that the broker refused is sent again after so long: at first, and at most.
const AGAIN_MS: u64 = 5_000;
const MAX_AGAIN_MS: u64 = 60_000;

/// Messages by their topics.
#[derive(Default)]
pub(super) struct Outbox(BTreeMap<String, Message>);

struct Message {
    payload: Vec<u8>,
    /// The group of a Welcome.
    group: Option<GroupNumber>,
    refused: Option<Refused>,
}

/// A message that the broker refused and has not taken since.
struct Refused {
    /// When it is sent again, should the broker not have taken it.
    again: Deadline,
    /// How long it waits until the time after that.
    wait_ms: u64,
}

impl Outbox {
    /// A message in the place of the topic's last one; `group` if it is a Welcome. If the broker refused that one, it is
    /// not taken to accept this one.
    pub fn put(&mut self, topic: String, payload: Vec<u8>, group: Option<GroupNumber>) {
        let refused = self.0.remove(&topic).and_then(|last| last.refused);
        self.0.insert(topic, Message { payload, group, refused });
    }

    /// Forgets a message: what the broker has of it stays there.
    pub fn withdraw(&mut self, topic: &str) {
        self.0.remove(topic);
    }

    /// Forgets a group's Welcomes.
    pub fn forget(&mut self, group: GroupNumber) {
        self.0.retain(|_, message| message.group != Some(group));
    }

    /// The connection is there again. All messages, with their topics: each is to be sent now.
    pub fn handle_up(&mut self, now_ms: u64) -> Vec<(String, Vec<u8>)> {
        for refused in self.0.values_mut().filter_map(|message| message.refused.as_mut()) {
            refused.sent(now_ms);
        }
        self.0.iter().map(|(topic, message)| (topic.clone(), message.payload.clone())).collect()
    }

    /// What the broker and the hub should have: topics and SHA-256 of the messages.
    pub fn digests(&self) -> Vec<(String, Hash)> {
        self.0.iter().map(|(topic, message)| (topic.clone(), Hash::of(&message.payload))).collect()
    }

    /// The message of a topic.
    pub fn message(&self, topic: &str) -> Option<Vec<u8>> {
        self.0.get(topic).map(|message| message.payload.clone())
    }

    /// Groups with a Welcome that the broker refuses.
    pub fn undelivered(&self) -> BTreeSet<GroupNumber> {
        self.0.values().filter(|message| message.refused.is_some()).filter_map(|message| message.group).collect()
    }

    /// The broker has taken a message.
    pub fn handle_taken(&mut self, topic: &str) {
        if self.0.get_mut(topic).and_then(|message| message.refused.take()).is_some() {
            info!(topic, "the broker has taken a message that it had refused before");
        }
    }

    /// The broker refused a message.
    pub fn handle_refused(&mut self, topic: &str, reason: &str, now_ms: u64) {
        let Some(message) = self.0.get_mut(topic) else {
            debug!(topic, reason, "the broker refused a message that is no longer needed");
            return;
        };
        if message.refused.is_none() {
            warn!(
                topic,
                reason,
                "the broker refused a message of the control plane: the agent sends it again until the broker takes it"
            );
            message.refused = Some(Refused { again: Deadline::after(now_ms, AGAIN_MS), wait_ms: 2 * AGAIN_MS });
        }
    }

    /// When [`Outbox::due`] may have something.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.0.values().filter_map(|message| message.refused.as_ref()).map(|refused| refused.again.at_ms()).min()
    }

    /// What is to be sent again now.
    pub fn due(&mut self, now_ms: u64) -> Vec<(String, Vec<u8>)> {
        let mut due = Vec::new();
        for (topic, message) in &mut self.0 {
            let Some(refused) = message.refused.as_mut().filter(|refused| refused.again.is_due(now_ms)) else {
                continue;
            };
            refused.sent(now_ms);
            due.push((topic.clone(), message.payload.clone()));
        }
        due
    }
}

impl Refused {
    fn sent(&mut self, now_ms: u64) {
        self.again = Deadline::after(now_ms, self.wait_ms);
        self.wait_ms = (2 * self.wait_ms).min(MAX_AGAIN_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_767_225_600_000;

    #[test]
    fn a_refused_message_is_sent_again_until_the_broker_says_that_it_is_taken() {
        let (mut outbox, group) = (Outbox::default(), GroupNumber::new(7).unwrap());
        outbox.put("a".into(), vec![1], Some(group));
        outbox.put("b".into(), vec![2], None);
        outbox.handle_refused("elsewhere", "quota", START_MS);
        assert_eq!((outbox.poll_timeout(), outbox.undelivered().len()), (None, 0));

        outbox.handle_refused("a", "quota", START_MS);
        assert_eq!(outbox.undelivered(), BTreeSet::from([group]));
        assert_eq!(outbox.due(START_MS), []);
        let mut now_ms = START_MS;
        let mut waits = Vec::new();
        for answered in [true, false, true, false, false, true] {
            waits.push(outbox.poll_timeout().unwrap() - now_ms);
            now_ms = outbox.poll_timeout().unwrap();
            assert_eq!(outbox.due(now_ms), [("a".to_owned(), vec![1])]);
            assert_eq!(outbox.due(now_ms), []);
            if answered {
                outbox.handle_refused("a", "quota", now_ms + 20);
            }
            assert_eq!(outbox.undelivered(), BTreeSet::from([group]), "a broker that is slow has not taken it");
        }
        assert_eq!(waits, [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
        outbox.handle_taken("a");
        assert_eq!((outbox.poll_timeout(), outbox.undelivered().len()), (None, 0));
    }

    #[test]
    fn a_new_connection_is_sent_everything_once_and_takes_nothing_by_itself() {
        let (mut outbox, group) = (Outbox::default(), GroupNumber::new(7).unwrap());
        outbox.put("a".into(), vec![1], Some(group));
        outbox.put("b".into(), vec![2], None);
        outbox.handle_refused("a", "quota", START_MS);
        let due = outbox.poll_timeout().unwrap();
        assert_eq!(outbox.handle_up(due).len(), 2);
        assert_eq!(outbox.due(due), []);
        assert_eq!(outbox.undelivered(), BTreeSet::from([group]));
    }

    #[test]
    fn a_newer_welcome_is_refused_as_the_last_one_was_and_a_forgotten_one_is_not() {
        let (mut outbox, group) = (Outbox::default(), GroupNumber::new(7).unwrap());
        outbox.put("a".into(), vec![1], Some(group));
        outbox.handle_refused("a", "quota", START_MS);
        outbox.put("a".into(), vec![2], Some(group));
        assert_eq!(outbox.undelivered(), BTreeSet::from([group]));
        assert_eq!(outbox.due(START_MS + AGAIN_MS), [("a".to_owned(), vec![2])]);
        outbox.forget(group);
        assert_eq!((outbox.handle_up(START_MS).len(), outbox.undelivered().len()), (0, 0));
    }
}
