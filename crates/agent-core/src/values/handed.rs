//! Which messages of the archive were handed to the agent's connection, and what the broker says of them.

use std::collections::{BTreeMap, BTreeSet};

/// Messages that wait for the broker's answer, or to be taken off the disk, at a time.
const MAX_WAITING: usize = 1024;
/// Bytes of the payloads that wait for the broker's answer; the last messages that are read from disk may exceed it.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// Topics that are remembered as paused.
const MAX_PAUSED: usize = 1024;
/// What is refused is tried again after so long.
const REFUSED_MS: u64 = 15_000;
/// What has no key yet is tried again after so long.
const NO_KEY_MS: u64 = 3_000;

/// See the module. Messages have the ids by which they lie on disk.
#[derive(Default)]
pub(super) struct Handed {
    /// The last one.
    last: i64,
    /// The broker has not answered them.
    waiting: BTreeMap<i64, Waiting>,
    /// Bytes of their payloads.
    waiting_bytes: usize,
    /// The broker has them, and so has the disk.
    taken: BTreeSet<i64>,
    again: Option<Again>,
    /// Topics to which nothing is sent for now.
    paused: BTreeMap<String, Paused>,
}

struct Waiting {
    topic: String,
    bytes: usize,
}

#[derive(Default)]
struct Paused {
    until_ms: u64,
    /// Whether it was told that they are refused.
    refused: bool,
}

/// See [`Handed::again`].
#[derive(Clone, Copy)]
struct Again {
    at_ms: u64,
    first: i64,
}

impl Handed {
    /// The broker has taken a message.
    pub fn taken(&mut self, id: i64) {
        if let Some(topic) = self.answered(id) {
            self.paused.remove(&topic);
            self.taken.insert(id);
        }
    }

    /// The broker has refused a message. Its topic, if that is news of it.
    pub fn answered_refused(&mut self, id: i64, now_ms: u64) -> Option<String> {
        let topic = self.answered(id)?;
        self.refused(id, &topic, now_ms).then_some(topic)
    }

    /// The connection was cut before the broker said anything of a message.
    pub fn cut(&mut self, id: i64, now_ms: u64) {
        if self.answered(id).is_some() {
            self.again(now_ms, id);
        }
    }

    /// A message no longer waits for the broker. Its topic.
    fn answered(&mut self, id: i64) -> Option<String> {
        let Waiting { topic, bytes } = self.waiting.remove(&id)?;
        self.waiting_bytes -= bytes;
        Some(topic)
    }

    /// Those that the broker has, and that can be taken off the disk.
    pub fn on_disk_still(&self) -> Vec<i64> {
        self.taken.iter().copied().collect()
    }

    /// They are no longer on the disk.
    pub fn forgotten(&mut self, ids: &[i64]) {
        for id in ids {
            self.taken.remove(id);
        }
    }

    /// The messages behind this one are looked at next. `None` if no more may be handed over now.
    pub fn next_after(&mut self, now_ms: u64) -> Option<i64> {
        if let Some(again) = self.again.take_if(|again| again.at_ms <= now_ms) {
            self.last = self.last.min(again.first - 1);
        }
        let has_room = self.waiting.len() + self.taken.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES;
        has_room.then_some(self.last)
    }

    /// Whether the next message is to be handed over now. If not, it is passed over until its time comes.
    pub fn wants(&mut self, id: i64, topic: &str, now_ms: u64) -> bool {
        if self.waiting.contains_key(&id) || self.taken.contains(&id) {
            self.last = id;
            return false;
        }
        match self.paused.get(topic) {
            Some(&Paused { until_ms, .. }) if until_ms > now_ms => {
                self.again(until_ms, id);
                self.last = id;
                false
            }
            _ => true,
        }
    }

    /// A message was handed over, with so many bytes of payload.
    pub fn put(&mut self, id: i64, topic: String, bytes: usize) {
        self.last = id;
        self.waiting_bytes += bytes;
        self.waiting.insert(id, Waiting { topic, bytes });
    }

    /// A message was refused. Whether that is news of its topic.
    pub fn refused(&mut self, id: i64, topic: &str, now_ms: u64) -> bool {
        let until_ms = now_ms.saturating_add(REFUSED_MS);
        let Some(paused) = self.pause(id, topic, until_ms) else { return true };
        !std::mem::replace(&mut paused.refused, true)
    }

    /// There is no key for a message yet. Its topic waits, and no other.
    pub fn no_key_yet(&mut self, id: i64, topic: &str, now_ms: u64) {
        self.pause(id, topic, now_ms.saturating_add(NO_KEY_MS));
    }

    /// `None` if too many topics are paused: then this one is tried again with its next message.
    fn pause(&mut self, id: i64, topic: &str, until_ms: u64) -> Option<&mut Paused> {
        self.last = self.last.max(id);
        self.again(until_ms, id);
        if self.paused.len() >= MAX_PAUSED && !self.paused.contains_key(topic) {
            return None;
        }
        let paused = self.paused.entry(topic.to_owned()).or_default();
        paused.until_ms = until_ms;
        Some(paused)
    }

    /// When messages are handed over again, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.again.map(|again| again.at_ms)
    }

    /// What lies on disk from `first` on is handed over again at `at_ms`, or before.
    fn again(&mut self, at_ms: u64, first: i64) {
        let again = self.again.get_or_insert(Again { at_ms, first });
        again.at_ms = again.at_ms.min(at_ms);
        again.first = again.first.min(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands over what is wanted of `ids`, as the archive does.
    fn hand_over(handed: &mut Handed, ids: &[i64], now_ms: u64) -> Vec<i64> {
        let Some(last) = handed.next_after(now_ms) else { return Vec::new() };
        let mut over = Vec::new();
        for id in ids.iter().filter(|id| **id > last) {
            if handed.wants(*id, "t", now_ms) {
                handed.put(*id, "t".into(), 1);
                over.push(*id);
            }
        }
        over
    }

    #[test]
    fn what_the_broker_has_taken_is_over_whatever_the_order() {
        let mut handed = Handed::default();
        assert_eq!(hand_over(&mut handed, &[1, 2, 3], 0), [1, 2, 3]);
        handed.taken(3);
        assert_eq!(handed.on_disk_still(), [3]);
        // The disk did not let go of it: it is not sent again, whatever else is.
        handed.cut(1, 5);
        assert_eq!(hand_over(&mut handed, &[1, 2, 3], 5), [1]);
        handed.taken(1);
        handed.taken(2);
        handed.taken(2);
        assert_eq!(handed.on_disk_still(), [1, 2, 3]);
        handed.forgotten(&[1, 2, 3]);
        assert!(handed.on_disk_still().is_empty());
        assert_eq!((handed.poll_timeout(), handed.next_after(6)), (None, Some(3)));
    }

    #[test]
    fn what_a_cut_swallowed_is_handed_over_again_and_what_waits_is_not() {
        let mut handed = Handed::default();
        hand_over(&mut handed, &[1, 2, 3], 0);
        handed.cut(2, 5);
        assert_eq!(hand_over(&mut handed, &[1, 2, 3], 5), [2]);
    }

    #[test]
    fn what_is_refused_waits_and_is_handed_over_again_until_it_is_taken() {
        let mut handed = Handed::default();
        hand_over(&mut handed, &[1, 2], 0);
        assert_eq!(handed.answered_refused(1, 10), Some("t".into()));
        assert_eq!(handed.answered_refused(2, 10), None, "told once");
        let due = 10 + REFUSED_MS;
        assert_eq!(handed.poll_timeout(), Some(due));
        // A newer one of the topic waits too.
        assert!(hand_over(&mut handed, &[3], 20).is_empty());
        assert_eq!(hand_over(&mut handed, &[1, 2, 3], due), [1, 2, 3]);
        [1, 2, 3].into_iter().for_each(|id| handed.taken(id));
        assert_eq!(handed.on_disk_still(), [1, 2, 3]);
        assert_eq!(handed.poll_timeout(), None);
    }

    #[test]
    fn a_topic_without_a_key_waits_by_itself_and_keeps_its_order() {
        let mut handed = Handed::default();
        handed.no_key_yet(1, "other", 0);
        assert!(!handed.wants(2, "other", 0), "not before the first one");
        assert_eq!(hand_over(&mut handed, &[3], 0), [3]);
        assert_eq!(handed.poll_timeout(), Some(NO_KEY_MS));
        assert_eq!(handed.next_after(NO_KEY_MS - 1), Some(3));
        assert_eq!(handed.next_after(NO_KEY_MS), Some(0), "from the first one on");
        assert!(handed.wants(1, "other", NO_KEY_MS));
        assert!(handed.refused(1, "other", NO_KEY_MS), "it is news");
    }

    #[test]
    fn large_messages_wait_by_their_bytes_until_they_are_answered() {
        let mut handed = Handed::default();
        let answers: [fn(&mut Handed); 3] =
            [|handed| handed.taken(1), |handed| drop(handed.answered_refused(1, 0)), |handed| handed.cut(1, 0)];
        for answer in answers {
            handed.put(1, "t".into(), MAX_WAITING_BYTES);
            assert_eq!(handed.next_after(0), None);
            answer(&mut handed);
            assert!(handed.next_after(0).is_some());
        }
    }

    #[test]
    fn so_many_wait_for_an_answer_and_no_more() {
        let mut handed = Handed::default();
        let ids: Vec<i64> = (1..=MAX_WAITING as i64).collect();
        assert_eq!(hand_over(&mut handed, &ids, 0), ids);
        assert_eq!(handed.next_after(0), None);
        handed.taken(1);
        assert_eq!(handed.next_after(0), None, "it is still on the disk");
        handed.forgotten(&[1]);
        assert!(handed.next_after(0).is_some());
    }
}
