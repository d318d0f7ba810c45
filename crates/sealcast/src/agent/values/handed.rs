//! Which messages of the archive were handed to the agent's connection, and what the broker says of them.

use std::collections::BTreeMap;

use tokio::sync::oneshot::error::TryRecvError;

use crate::link::Answer;

/// Messages that wait for the broker's answer at a time.
const MAX_WAITING: usize = 1024;
/// Topics that are remembered as refused.
const MAX_REFUSED: usize = 1024;
/// Answers are looked for so often.
const LOOK_MS: u64 = 1_000;
/// What is refused is tried again after so long.
const REFUSED_MS: u64 = 15_000;

/// See the module. Messages have the ids by which they lie on disk.
#[derive(Default)]
pub(super) struct Handed {
    /// The last one.
    last: i64,
    /// With their topics.
    waiting: BTreeMap<i64, (String, Answer)>,
    /// When answers are looked for.
    look_ms: u64,
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
    /// Messages that the broker has taken, and topics of which it is news that they are refused, with the reason.
    pub(super) fn take_answers(&mut self, now_ms: u64) -> (Vec<i64>, Vec<(String, String)>) {
        let (mut taken, mut refusals) = (Vec::new(), Vec::new());
        for (id, (topic, mut answer)) in std::mem::take(&mut self.waiting) {
            match answer.try_recv() {
                Ok(Ok(())) => {
                    self.refused.remove(&topic);
                    taken.push(id);
                }
                Ok(Err(reason)) => {
                    if self.refused(id, &topic, now_ms) {
                        refusals.push((topic, reason));
                    }
                }
                Err(TryRecvError::Empty) => {
                    self.waiting.insert(id, (topic, answer));
                }
                // The connection was cut.
                Err(TryRecvError::Closed) => self.again(now_ms, id),
            }
        }
        self.look_ms = now_ms.saturating_add(LOOK_MS);
        if let Some(again) = self.again.take_if(|again| again.at_ms <= now_ms) {
            self.last = self.last.min(again.first - 1);
        }
        (taken, refusals)
    }

    /// Whether more may be handed over.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// Up to which message they have been looked at.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    /// Whether the next message is to be handed over now. If not, it is passed over until its time comes.
    pub(super) fn wants(&mut self, id: i64, topic: &str, now_ms: u64) -> bool {
        if self.waiting.contains_key(&id) {
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
    pub(super) fn put(&mut self, id: i64, topic: String, answer: Answer) {
        self.last = id;
        self.waiting.insert(id, (topic, answer));
    }

    /// A message was refused. Whether that is news of its topic.
    pub(super) fn refused(&mut self, id: i64, topic: &str, now_ms: u64) -> bool {
        self.last = self.last.max(id);
        let until_ms = now_ms.saturating_add(REFUSED_MS);
        self.again(until_ms, id);
        if self.refused.len() >= MAX_REFUSED && !self.refused.contains_key(topic) {
            return true;
        }
        self.refused.insert(topic.to_owned(), until_ms).is_none()
    }

    /// When [`Handed::take_answers`] may have something.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let look = (!self.waiting.is_empty()).then_some(self.look_ms);
        look.into_iter().chain(self.again.map(|again| again.at_ms)).min()
    }

    /// What lies on disk from `first` on is handed over again at `at_ms`, or before.
    pub(super) fn again(&mut self, at_ms: u64, first: i64) {
        let again = self.again.get_or_insert(Again { at_ms, first });
        again.at_ms = again.at_ms.min(at_ms);
        again.first = again.first.min(first);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    type Broker = oneshot::Sender<Result<(), String>>;

    /// Hands over what is wanted of `ids`, as the archive does.
    fn hand_over(handed: &mut Handed, ids: &[i64], now_ms: u64) -> Vec<(i64, Broker)> {
        let mut brokers = Vec::new();
        for id in ids {
            if *id > handed.last() && handed.wants(*id, "t", now_ms) {
                let (sender, answer) = oneshot::channel();
                handed.put(*id, "t".into(), answer);
                brokers.push((*id, sender));
            }
        }
        brokers
    }

    #[test]
    fn what_the_broker_has_taken_is_over_whatever_the_order() {
        let mut handed = Handed::default();
        let mut brokers = hand_over(&mut handed, &[1, 2, 3], 0);
        assert_eq!(handed.take_answers(0), (vec![], vec![]));
        assert_eq!(handed.poll_timeout(), Some(LOOK_MS));
        let (_, third) = brokers.pop().unwrap();
        third.send(Ok(())).unwrap();
        assert_eq!(handed.take_answers(5), (vec![3], vec![]));
        for (_, broker) in brokers {
            broker.send(Ok(())).unwrap();
        }
        assert_eq!(handed.take_answers(6), (vec![1, 2], vec![]));
        assert_eq!((handed.poll_timeout(), handed.last()), (None, 3));
    }

    #[test]
    fn what_a_cut_swallowed_is_handed_over_again_and_what_waits_is_not() {
        let mut handed = Handed::default();
        let mut brokers = hand_over(&mut handed, &[1, 2, 3], 0);
        drop(brokers.remove(1));
        assert_eq!(handed.take_answers(5), (vec![], vec![]));
        let again = hand_over(&mut handed, &[1, 2, 3], 5);
        assert_eq!(again.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_is_refused_waits_and_is_handed_over_again_until_it_is_taken() {
        let mut handed = Handed::default();
        let mut brokers = hand_over(&mut handed, &[1, 2], 0).into_iter();
        brokers.next().unwrap().1.send(Err("quota".into())).unwrap();
        brokers.next().unwrap().1.send(Err("quota".into())).unwrap();
        assert_eq!(handed.take_answers(10), (vec![], vec![("t".into(), "quota".into())]), "told once");
        let due = 10 + REFUSED_MS;
        assert_eq!(handed.poll_timeout(), Some(due));
        // A newer one of the topic waits too.
        assert!(hand_over(&mut handed, &[3], 20).is_empty());
        assert_eq!(handed.take_answers(due), (vec![], vec![]));
        let brokers = hand_over(&mut handed, &[1, 2, 3], due);
        assert_eq!(brokers.len(), 3);
        for (_, broker) in brokers {
            broker.send(Ok(())).unwrap();
        }
        assert_eq!(handed.take_answers(due + 1), (vec![1, 2, 3], vec![]));
        assert_eq!(handed.poll_timeout(), None);
    }

    #[test]
    fn so_many_wait_for_an_answer_and_no_more() {
        let mut handed = Handed::default();
        let ids: Vec<i64> = (1..=MAX_WAITING as i64).collect();
        let brokers = hand_over(&mut handed, &ids, 0);
        assert!(!handed.has_room());
        drop(brokers);
        handed.take_answers(0);
        assert!(handed.has_room());
    }
}
