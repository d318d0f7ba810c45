//! Which messages of the archive were handed to the agent's connection, and what the broker says of them.
//!
//! A message that cannot be sent pauses its topic: those behind it are passed over, and looked at again, from the first one
//! on, when the pause is over. If the first one still cannot be sent, the rest need not be read from the disk again.

use std::collections::{BTreeMap, BTreeSet};

use crate::deadline::Deadline;

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
    /// The last message that was looked at.
    last: i64,
    /// The greatest message that was ever looked at: behind it nothing has been passed over.
    seen: i64,
    /// What is looked for between the two.
    search: Search,
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

/// Why messages that were looked at before are looked at again.
#[derive(Default)]
struct Search {
    /// Some of them may be of any topic.
    any: bool,
    /// Topics whose pause is over.
    topics: BTreeSet<String>,
}

struct Waiting {
    topic: String,
    bytes: usize,
}

struct Paused {
    /// `None` once that is over: its messages are handed over, and the broker has taken none of them yet.
    until: Option<Deadline>,
    /// No message before this one was passed over.
    first: i64,
    /// Whether it was told that they are refused.
    refused: bool,
}

/// See [`Handed::again`].
#[derive(Clone, Copy)]
struct Again {
    at: Deadline,
    first: i64,
}

impl Handed {
    /// The broker has taken a message.
    pub fn taken(&mut self, id: i64) {
        let Some(topic) = self.answered(id) else { return };
        self.taken.insert(id);
        if let Some(Paused { until: Some(until), first, .. }) = self.paused.remove(&topic) {
            self.again(until, first);
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
            self.again(Deadline::after(now_ms, 0), id);
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
        if let Some(again) = self.again.take_if(|again| again.at.is_due(now_ms)) {
            self.last = self.last.min(again.first - 1);
            self.search.any = true;
        }
        for (topic, paused) in &mut self.paused {
            if paused.until.take_if(|until| until.is_due(now_ms)).is_some() {
                self.last = self.last.min(paused.first - 1);
                self.search.topics.insert(topic.clone());
            }
        }
        let has_room = self.waiting.len() + self.taken.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES;
        has_room.then_some(self.last)
    }

    /// Whether the next message is to be handed over now. If not, it is passed over until its time comes.
    pub fn wants(&mut self, id: i64, topic: &str) -> bool {
        // It was read together with one that ended the search.
        if id <= self.last {
            return false;
        }
        let is_known = self.waiting.contains_key(&id) || self.taken.contains(&id);
        let paused = self.paused.get_mut(topic).filter(|paused| !is_known && paused.until.is_some());
        let passed_over = paused.map(|paused| paused.first = paused.first.min(id)).is_some();
        if is_known || passed_over {
            self.look_behind(id);
        }
        !is_known && !passed_over
    }

    /// A message was handed over, with so many bytes of payload.
    pub fn put(&mut self, id: i64, topic: String, bytes: usize) {
        self.look_behind(id);
        self.waiting_bytes += bytes;
        self.waiting.insert(id, Waiting { topic, bytes });
    }

    /// A message was refused. Whether that is news of its topic.
    pub fn refused(&mut self, id: i64, topic: &str, now_ms: u64) -> bool {
        let until = Deadline::after(now_ms, REFUSED_MS);
        let Some(paused) = self.pause(id, topic, until) else { return true };
        !std::mem::replace(&mut paused.refused, true)
    }

    /// There is no key for a message yet. Its topic waits, and no other.
    pub fn no_key_yet(&mut self, id: i64, topic: &str, now_ms: u64) {
        self.pause(id, topic, Deadline::after(now_ms, NO_KEY_MS));
    }

    /// `None` if too many topics are paused: then this one is tried again with its next message.
    fn pause(&mut self, id: i64, topic: &str, until: Deadline) -> Option<&mut Paused> {
        self.look_behind(id);
        if self.paused.len() >= MAX_PAUSED && !self.paused.contains_key(topic) {
            self.again(until, id);
            return None;
        }
        self.search.topics.remove(topic);
        if self.search.topics.is_empty() && !self.search.any {
            self.last = self.seen;
        }
        let new = || Paused { until: None, first: id, refused: false };
        let paused = self.paused.entry(topic.to_owned()).or_insert_with(new);
        (paused.until, paused.first) = (Some(until), paused.first.min(id));
        Some(paused)
    }

    /// When messages are handed over again, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        let pauses = self.paused.values().filter_map(|paused| paused.until);
        pauses.chain(self.again.map(|again| again.at)).map(Deadline::at_ms).min()
    }

    /// What lies on disk from `first` on is looked at again then, or before.
    fn again(&mut self, at: Deadline, first: i64) {
        let again = self.again.get_or_insert(Again { at, first });
        if at.at_ms() < again.at.at_ms() {
            again.at = at;
        }
        again.first = again.first.min(first);
    }

    /// This message was looked at, and those before it.
    fn look_behind(&mut self, id: i64) {
        self.last = self.last.max(id);
        self.seen = self.seen.max(self.last);
        if self.last == self.seen {
            self.search = Search::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hands over what is wanted of `ids`, as the archive does.
    fn hand_over(handed: &mut Handed, ids: &[i64], now_ms: u64) -> Vec<i64> {
        let Some(last) = handed.next_after(now_ms) else { return Vec::new() };
        let mut over = Vec::new();
        for id in ids.iter().filter(|id| **id > last) {
            if handed.wants(*id, "t") {
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
        assert!(!handed.wants(2, "other"), "not before the first one");
        assert_eq!(hand_over(&mut handed, &[3], 0), [3]);
        assert_eq!(handed.poll_timeout(), Some(NO_KEY_MS));
        assert_eq!(handed.next_after(NO_KEY_MS - 1), Some(3));
        assert_eq!(handed.next_after(NO_KEY_MS), Some(0), "from the first one on");
        assert!(handed.wants(1, "other"));
        assert!(handed.refused(1, "other", NO_KEY_MS), "it is news");
    }

    #[test]
    fn a_pause_is_over_when_the_clock_is_set_back() {
        let mut handed = Handed::default();
        hand_over(&mut handed, &[1], 1_000_000);
        handed.answered_refused(1, 1_000_000);
        assert_eq!(hand_over(&mut handed, &[1], 7), [1]);
    }

    /// Messages on a disk, which are read from it in batches, and what can be done with those of each topic.
    #[derive(Default)]
    struct Disk {
        messages: BTreeMap<i64, &'static str>,
        keyless: BTreeSet<&'static str>,
        refused: BTreeSet<&'static str>,
        read: usize,
        over: Vec<i64>,
    }

    impl Disk {
        const BATCH: usize = 4;

        fn new(topics: &[&'static str]) -> Self {
            Self { messages: (1..).zip(topics.iter().copied()).collect(), ..Self::default() }
        }

        /// As the agent does it.
        fn hand_over(&mut self, handed: &mut Handed, now_ms: u64) {
            (self.read, self.over) = (0, Vec::new());
            while let Some(last) = handed.next_after(now_ms) {
                let batch: Vec<_> = self.messages.range(last + 1..).take(Self::BATCH).collect();
                self.read += batch.len();
                for &(&id, &topic) in &batch {
                    if !handed.wants(id, topic) {
                        continue;
                    }
                    if self.keyless.contains(topic) {
                        handed.no_key_yet(id, topic, now_ms);
                    } else if self.refused.contains(topic) {
                        handed.refused(id, topic, now_ms);
                    } else {
                        assert!(!handed.waiting.contains_key(&id) && !handed.taken.contains(&id), "{id} twice");
                        handed.put(id, topic.to_owned(), 1);
                        self.over.push(id);
                    }
                }
                if batch.len() < Self::BATCH {
                    return;
                }
            }
        }

        fn take_off(&mut self, handed: &mut Handed) {
            let ids = handed.on_disk_still();
            self.messages.retain(|id, _| !ids.contains(id));
            handed.forgotten(&ids);
        }
    }

    #[test]
    fn what_waits_behind_a_message_without_a_key_is_read_again_when_there_is_one() {
        let (mut handed, mut disk) = (Handed::default(), Disk::new(&[["a", "b"]; 500].concat()));
        disk.keyless = ["a", "b"].into();
        disk.hand_over(&mut handed, 0);
        assert_eq!((disk.read, disk.over.len()), (1000, 0));
        disk.hand_over(&mut handed, NO_KEY_MS);
        assert!(disk.read <= 2 * Disk::BATCH, "the first one of each says it: {} were read", disk.read);
        disk.keyless.remove("b");
        disk.hand_over(&mut handed, 2 * NO_KEY_MS);
        let of_b: Vec<i64> = (1..=500).map(|n| 2 * n).collect();
        assert_eq!(disk.over, of_b);
    }

    /// A step of what may happen to the messages of an archive.
    #[derive(Debug, Clone)]
    enum Happens {
        Added(&'static str),
        Time(u64),
        Keys(BTreeSet<&'static str>),
        Refusals(BTreeSet<&'static str>),
        /// Of the waiting one at this place: taken, refused, or cut.
        Answer(usize, u8),
        Looked,
        TakenOff,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        let topic = || prop::sample::select(vec!["a", "b", "c"]);
        let topics = move || prop::collection::btree_set(topic(), 0..3);
        prop_oneof![
            topic().prop_map(Happens::Added),
            prop::sample::select(vec![1, NO_KEY_MS, REFUSED_MS]).prop_map(Happens::Time),
            topics().prop_map(Happens::Keys),
            topics().prop_map(Happens::Refusals),
            (any::<usize>(), 0..3_u8).prop_map(|(place, answer)| Happens::Answer(place, answer)),
            Just(Happens::Looked),
            Just(Happens::TakenOff),
        ]
    }

    fn answer(handed: &mut Handed, place: usize, answer: u8, now_ms: u64) {
        let Some(place) = place.checked_rem(handed.waiting.len()) else { return };
        let id = *handed.waiting.keys().nth(place).unwrap();
        match answer {
            0 => handed.taken(id),
            1 => drop(handed.answered_refused(id, now_ms)),
            _ => handed.cut(id, now_ms),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        #[test]
        fn no_message_is_forgotten_and_none_is_handed_over_twice(steps in prop::collection::vec(happens(), 1..60)) {
            let (mut handed, mut disk, mut now_ms, mut last) = (Handed::default(), Disk::default(), 0, 0);
            for step in steps {
                match step {
                    Happens::Added(topic) => {
                        last += 1;
                        disk.messages.insert(last, topic);
                    }
                    Happens::Time(ms) => now_ms += ms,
                    Happens::Keys(keyless) => disk.keyless = keyless,
                    Happens::Refusals(refused) => disk.refused = refused,
                    Happens::Answer(place, kind) => answer(&mut handed, place, kind, now_ms),
                    Happens::Looked => disk.hand_over(&mut handed, now_ms),
                    Happens::TakenOff => disk.take_off(&mut handed),
                }
            }
            disk.keyless.clear();
            disk.refused.clear();
            while !disk.messages.is_empty() {
                let before = now_ms;
                disk.hand_over(&mut handed, now_ms);
                while !handed.waiting.is_empty() {
                    answer(&mut handed, 0, 0, now_ms);
                }
                disk.take_off(&mut handed);
                now_ms = handed.poll_timeout().unwrap_or(now_ms).max(now_ms);
                prop_assert!(disk.messages.is_empty() || now_ms > before, "{:?} are forgotten", disk.messages);
            }
        }
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
