//! Which messages of the archive were handed to the agent's connection, and what the broker says of them.

use std::collections::{BTreeMap, BTreeSet};

/// Messages that wait for the broker's answer, or to be taken off the disk, at a time.
const MAX_WAITING: usize = 1024;
/// Topics that are remembered as refused.
const MAX_REFUSED: usize = 1024;
/// What is refused is tried again after so long.
const REFUSED_MS: u64 = 15_000;

/// See the module. Messages have the ids by which they lie on disk.
#[derive(Default)]
pub(super) struct Handed {
    /// The last one.
    last: i64,
    /// With their topics.
    waiting: BTreeMap<i64, String>,
    /// The broker has them, and so has the disk.
    taken: BTreeSet<i64>,
    again: Option<Again>,
    /// Topics, and until when nothing is sent to them.
    refused: BTreeMap<String, u64>,
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
        if let Some(topic) = self.waiting.remove(&id) {
            self.refused.remove(&topic);
            self.taken.insert(id);
        }
    }

    /// The broker has refused a message. Its topic, if that is news of it.
    pub fn answered_refused(&mut self, id: i64, now_ms: u64) -> Option<String> {
        let topic = self.waiting.remove(&id)?;
        self.refused(id, &topic, now_ms).then_some(topic)
    }

    /// The connection was cut before the broker said anything of a message.
    pub fn cut(&mut self, id: i64, now_ms: u64) {
        if self.waiting.remove(&id).is_some() {
            self.again(now_ms, id);
        }
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
        (self.waiting.len() + self.taken.len() < MAX_WAITING).then_some(self.last)
    }

    /// Whether the next message is to be handed over now. If not, it is passed over until its time comes.
    pub fn wants(&mut self, id: i64, topic: &str, now_ms: u64) -> bool {
        if self.waiting.contains_key(&id) || self.taken.contains(&id) {
            self.last = id;
            return false;
        }
        match self.refused.get(topic) {
            Some(&until_ms) if until_ms > now_ms => {
                self.again(until_ms, id);
                self.last = id;
                false
            }
            _ => true,
        }
    }

    /// A message was handed over.
    pub fn put(&mut self, id: i64, topic: String) {
        self.last = id;
        self.waiting.insert(id, topic);
    }

    /// A message was refused. Whether that is news of its topic.
    pub fn refused(&mut self, id: i64, topic: &str, now_ms: u64) -> bool {
        self.last = self.last.max(id);
        let until_ms = now_ms.saturating_add(REFUSED_MS);
        self.again(until_ms, id);
        if self.refused.len() >= MAX_REFUSED && !self.refused.contains_key(topic) {
            return true;
        }
        self.refused.insert(topic.to_owned(), until_ms).is_none()
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
                handed.put(*id, "t".into());
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
