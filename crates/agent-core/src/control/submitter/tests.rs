use std::{collections::BTreeMap, sync::LazyLock};

use proptest::prelude::*;
use sealcast_ledger::{Hash, KeysPublished, Record, testing::MemoryLedger};

use super::*;
use crate::testing::{START_MS, World};

/// One device in one group, which may report `plant/a` and `plant/b`.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let (mut world, group) = World::with_group(1);
    world.limit(group, "plant/a");
    world.limit(group, "plant/b");
    world
});

fn own() -> Own {
    WORLD.own(0)
}

fn keys(number: u8) -> Body {
    let body = KeysPublished { key_package: Hash::of(&[number]), certificate: own().certificate, rejoin: false };
    Body::KeysPublished(body)
}

fn reading(topic: &str, sequence: u64) -> QueuedReading {
    QueuedReading { topic: topic.parse().unwrap(), time_ms: START_MS, sequence, value: 12, decimals: 1 }
}

/// A submitter before a ledger, which its replica follows at once or later.
struct Agent {
    submitter: Submitter,
    ledger: MemoryLedger,
    replica: Replica,
    queue: Vec<QueuedReading>,
    now_ms: u64,
}

impl Agent {
    fn new() -> Self {
        let (ledger, replica) = (WORLD.ledger.clone(), WORLD.ledger.replica().clone());
        Self { submitter: Submitter::new(), ledger, replica, queue: Vec::new(), now_ms: START_MS }
    }

    /// The next entry, after whatever was asked about readings.
    fn next(&mut self) -> Option<SignedEntry> {
        loop {
            match self.submitter.poll(&own(), &self.replica, self.now_ms)? {
                Effect::Submit(entry) => return Some(*entry),
                Effect::ListReadings => {
                    let mut oldest: BTreeMap<_, QueuedReading> = BTreeMap::new();
                    for reading in &self.queue {
                        oldest.entry(reading.topic.clone()).or_insert_with(|| reading.clone());
                    }
                    self.submitter.handle_readings(oldest.into_values().collect());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn body(&mut self) -> Option<Body> {
        self.next().map(|entry| entry.body().clone())
    }

    /// As the relay does it: an entry that the ledger has is not submitted twice.
    fn submit(&mut self, entry: &SignedEntry) -> Result<Record, Refusal> {
        let digest = entry.digest(&WORLD.genesis.id);
        let known = self.ledger.records().iter().find(|known| known.entry.digest(&WORLD.genesis.id) == digest);
        match known {
            Some(known) => Ok(known.clone()),
            None => self.ledger.submit(entry, START_MS / 1000),
        }
    }

    /// The replica reads the ledger up to this height.
    fn follow(&mut self, height: usize) {
        let known = usize::try_from(self.replica.height()).unwrap();
        for record in self.ledger.records()[..height].iter().skip(known) {
            self.replica.apply(record).unwrap();
            let body = record.entry.body();
            if record.entry.originator() == own().number {
                self.submitter.handle_own(body);
                if let Body::Reading(on_ledger) = body {
                    self.queue
                        .retain(|queued| queued.sequence != on_ledger.sequence || queued.topic != on_ledger.topic);
                }
            }
            self.submitter.look_again();
        }
    }

    fn follow_all(&mut self) {
        self.follow(self.ledger.records().len());
    }

    /// The call for an entry comes to its end.
    fn settle(&mut self, entry: &SignedEntry) -> Option<Body> {
        match self.submit(entry) {
            Ok(record) => {
                self.submitter.handle_taken(record.index, self.now_ms);
                None
            }
            Err(refusal) => self.submitter.handle_refused(&refusal, self.now_ms),
        }
    }
}

#[test]
fn one_entry_at_a_time_nonce_after_nonce_and_bodies_before_readings() {
    let mut agent = Agent::new();
    agent.queue = vec![reading("plant/a", 1)];
    agent.submitter.put(keys(1));
    agent.submitter.put(keys(2));
    let first = agent.next().unwrap();
    assert_eq!((first.body(), first.nonce()), (&keys(1), 0));
    assert!(agent.next().is_none(), "one is on its way");
    assert!(agent.settle(&first).is_none());
    assert!(agent.next().is_none(), "the replica does not know the next nonce yet");
    agent.follow_all();
    let second = agent.next().unwrap();
    assert_eq!((second.body(), second.nonce()), (&keys(2), 1));
    agent.settle(&second);
    agent.follow_all();
    let third = agent.next().unwrap();
    assert!(matches!(third.body(), Body::Reading(_)), "{third:?}");
    assert_eq!(third.nonce(), 2);
    agent.settle(&third);
    agent.follow_all();
    assert!(agent.queue.is_empty() && agent.next().is_none());
}

#[test]
fn a_body_does_not_wait_twice() {
    let mut agent = Agent::new();
    for _ in 0..2 {
        agent.submitter.put(keys(1));
        agent.submitter.put(keys(2));
    }
    let first = agent.next().unwrap();
    agent.submitter.put(keys(1));
    agent.settle(&first);
    agent.follow_all();
    let second = agent.next().unwrap();
    assert_eq!(second.body(), &keys(2));
    agent.submitter.put(keys(2));
    let refusal = Refusal::NotActive { device: own().number };
    assert_eq!(agent.submitter.handle_refused(&refusal, agent.now_ms), Some(keys(2)));
    assert!(agent.next().is_none(), "it waited once, and was refused");
    agent.submitter.put(keys(2));
    assert_eq!(agent.body(), Some(keys(2)), "now it is wanted again");
}

#[test]
fn a_replica_that_is_behind_signs_anew() {
    let mut agent = Agent::new();
    // Somebody else with this device's key, or this device before it lost its disk.
    let other = keys(9).sign(&own().key, own().number, 0, &WORLD.genesis.id).unwrap();
    agent.submit(&other).unwrap();
    agent.submitter.put(keys(1));
    let stale = agent.next().unwrap();
    assert!(agent.settle(&stale).is_none());
    agent.follow_all();
    assert!(agent.next().is_none(), "a moment later");
    agent.now_ms = agent.submitter.poll_timeout().unwrap();
    let fresh = agent.next().unwrap();
    assert_eq!((fresh.body(), fresh.nonce()), (&keys(1), 1));
}

#[test]
fn a_body_that_is_refused_goes_back_to_the_groups_and_the_next_one_goes_on() {
    let mut agent = Agent::new();
    let taken = keys(1).sign(&own().key, own().number, 0, &WORLD.genesis.id).unwrap();
    agent.submit(&taken).unwrap();
    agent.follow_all();
    agent.submitter.put(keys(1));
    agent.submitter.put(keys(2));
    let twice = agent.next().unwrap();
    assert_eq!(agent.settle(&twice), Some(keys(1)));
    assert_eq!(agent.body(), Some(keys(2)));
}

#[test]
fn a_call_that_failed_is_made_again_at_once_if_the_connection_comes_back() {
    let mut agent = Agent::new();
    agent.submitter.put(keys(1));
    for reconnects in [false, true] {
        assert_eq!(agent.body(), Some(keys(1)));
        agent.submitter.handle_failure("no answer", agent.now_ms);
        assert!(agent.next().is_none());
        match reconnects {
            true => agent.submitter.handle_up(),
            false => agent.now_ms += RETRY_MS,
        }
    }
    assert_eq!(agent.body(), Some(keys(1)));
}

#[test]
fn an_entry_that_the_relay_has_no_room_for_comes_again_when_the_relay_says_and_within_a_minute() {
    for (wait_ms, expected_ms) in
        [(None, RETRY_MS), (Some(1), RETRY_MS), (Some(7_000), 7_000), (Some(u64::MAX), MAX_LATER_MS)]
    {
        for of_groups in [true, false] {
            let mut agent = Agent::new();
            match of_groups {
                true => agent.submitter.put(keys(1)),
                false => agent.queue = vec![reading("plant/a", 1)],
            }
            let entry = agent.next().unwrap();
            agent.submitter.handle_later("too much", wait_ms, agent.now_ms);
            assert_eq!(agent.submitter.poll_timeout(), Some(agent.now_ms + expected_ms));
            agent.now_ms += expected_ms - 1;
            assert!(agent.next().is_none(), "{wait_ms:?}");
            agent.now_ms += 1;
            assert_eq!(agent.next().unwrap().body(), entry.body());
        }
    }
}

#[test]
fn what_the_replica_has_is_not_submitted_again_although_its_call_failed() {
    for (late, of_groups) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut agent = Agent::new();
        match of_groups {
            true => agent.submitter.put(keys(1)),
            false => agent.queue = vec![reading("plant/a", 1)],
        }
        let entry = agent.next().unwrap();
        agent.submit(&entry).unwrap();
        if late {
            agent.submitter.handle_failure("no answer", agent.now_ms);
            agent.follow_all();
        } else {
            agent.follow_all();
            agent.submitter.handle_failure("no answer", agent.now_ms);
        }
        agent.now_ms += RETRY_MS;
        assert!(agent.next().is_none(), "late: {late}, of the groups: {of_groups}");
    }
}

#[test]
fn a_hub_that_lies_about_a_record_holds_nothing_up() {
    let mut agent = Agent::new();
    agent.queue = vec![reading("plant/a", 1)];
    let entry = agent.next().unwrap();
    agent.submitter.handle_taken(agent.replica.height() + 7, agent.now_ms);
    assert!(agent.next().is_none());
    agent.now_ms = agent.submitter.poll_timeout().unwrap();
    assert_eq!(agent.body().as_ref(), Some(entry.body()), "the reading still waits on disk");
}

#[test]
fn readings_that_the_ledger_would_refuse_are_held_with_the_later_ones_of_their_topic() {
    let (mut world, group) = World::with_group(1);
    world.limit(group, "plant/b");
    let (mut submitter, own) = (Submitter::new(), world.own(0));
    let poll = |submitter: &mut Submitter, world: &World| submitter.poll(&own, world.ledger.replica(), START_MS);
    assert_eq!(poll(&mut submitter, &world), Some(Effect::ListReadings));
    assert_eq!(poll(&mut submitter, &world), None, "it was asked already");
    submitter.handle_readings(vec![reading("plant/a", 1), reading("elsewhere", 1), reading("plant/b", 1)]);
    let Some(Effect::Submit(entry)) = poll(&mut submitter, &world) else { panic!("plant/b has limits") };
    assert!(matches!(entry.body(), Body::Reading(reading) if reading.topic.as_str() == "plant/b"));
    let held: Vec<&str> = submitter.held.iter().map(ReadingTopic::as_str).collect();
    assert_eq!(held, ["elsewhere", "plant/a"]);

    submitter.handle_refused(&Refusal::NotGranted { group: group.get(), device: own.number }, START_MS);
    submitter.handle_up();
    submitter.handle_readings(vec![reading("plant/a", 1)]);
    assert_eq!((poll(&mut submitter, &world), poll(&mut submitter, &world)), (None, None));
    world.limit(group, "plant/a");
    assert_eq!(poll(&mut submitter, &world), None, "nobody said that there is news");
    submitter.look_again();
    assert!(matches!(poll(&mut submitter, &world), Some(Effect::Submit(_))));
    assert_eq!(submitter.held.iter().map(ReadingTopic::as_str).collect::<Vec<_>>(), ["elsewhere"]);
}

#[test]
fn a_reading_that_is_refused_stays_in_its_queue() {
    let mut agent = Agent::new();
    agent.queue = vec![reading("plant/a", 1)];
    let entry = agent.next().unwrap();
    let refusal = Refusal::NotGranted { group: 1, device: own().number };
    assert_eq!(agent.submitter.handle_refused(&refusal, agent.now_ms), None);
    assert!(agent.next().is_none());
    agent.now_ms += RETRY_MS;
    assert_eq!(agent.body().as_ref(), Some(entry.body()));
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8),
    Queue(bool),
    /// The call succeeds, or is refused by the ledger.
    Settle,
    /// The call fails, before or after the ledger took the entry.
    Fail(bool),
    /// The replica gets so many records.
    Follow(usize),
    Reconnect,
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..6_u8).prop_map(Op::Put),
        3 => any::<bool>().prop_map(Op::Queue),
        4 => Just(Op::Settle),
        2 => any::<bool>().prop_map(Op::Fail),
        4 => (1..3_usize).prop_map(Op::Follow),
        1 => Just(Op::Reconnect),
        2 => (0..800_u64).prop_map(Op::Pass),
    ]
}

proptest! {
    /// Whatever becomes of calls, and however late the replica is: one entry is on its way at a time; each body ends on the
    /// ledger or is given back as refused, and each reading ends on the ledger, once.
    #[test]
    fn everything_is_submitted_until_it_is_taken_or_refused(ops in prop::collection::vec(op(), 0..60)) {
        let mut agent = Agent::new();
        let (mut put, mut refused) = (Vec::new(), Vec::new());
        let (mut queued, mut on_its_way) = ([0_u64; 2], None::<SignedEntry>);
        // At the end everything goes well.
        let honest = (0..60).flat_map(|_| [Op::Settle, Op::Follow(2), Op::Pass(600)]);
        for op in ops.into_iter().chain(honest) {
            match op {
                Op::Put(number) => {
                    agent.submitter.put(keys(number));
                    put.push(keys(number));
                }
                Op::Queue(second) => {
                    let count = &mut queued[usize::from(second)];
                    *count += 1;
                    agent.queue.push(reading(if second { "plant/b" } else { "plant/a" }, *count));
                    agent.submitter.handle_queue_changed();
                }
                Op::Settle => if let Some(entry) = on_its_way.take() {
                    refused.extend(agent.settle(&entry));
                },
                Op::Fail(taken) => if let Some(entry) = on_its_way.take() {
                    if taken {
                        let _ = agent.submit(&entry);
                    }
                    agent.submitter.handle_failure("lost", agent.now_ms);
                },
                Op::Follow(most) => {
                    let height = usize::try_from(agent.replica.height()).unwrap() + most;
                    agent.follow(height.min(agent.ledger.records().len()));
                }
                Op::Reconnect => agent.submitter.handle_up(),
                Op::Pass(ms) => agent.now_ms += ms,
            }
            if let Some(entry) = agent.next() {
                prop_assert!(on_its_way.is_none(), "{entry:?} beside {on_its_way:?}");
                on_its_way = Some(entry);
            }
        }
        prop_assert!(on_its_way.is_none() && agent.queue.is_empty());
        let own = own().number;
        let taken: Vec<&Body> = agent.ledger.records().iter().map(|record| &record.entry)
            .filter(|entry| entry.originator() == own).map(SignedEntry::body).collect();
        for body in &put {
            prop_assert!(taken.contains(&body) || refused.contains(body), "{body:?} is lost");
        }
        for (topic, count) in [("plant/a", queued[0]), ("plant/b", queued[1])] {
            let sequences: Vec<u64> = taken.iter().filter_map(|body| match body {
                Body::Reading(reading) if reading.topic.as_str() == topic => Some(reading.sequence),
                _ => None,
            }).collect();
            prop_assert_eq!(sequences, (1..=count).collect::<Vec<_>>());
        }
    }
}
