use std::sync::LazyLock;

use proptest::prelude::*;
use sealcast_ledger::{Hash, Replica};

use super::*;
use crate::{Keyring, LedgerSource, testing::World};

/// A ledger of 40 records with one device, which is registered by the second.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let (mut world, group) = World::with_group(1);
    for place in 1..20 {
        world.device(&(2000 + place).to_string());
        world.grant(group, place);
    }
    world
});

fn records() -> &'static [Record] {
    WORLD.ledger.records()
}

fn forged(index: usize) -> Record {
    Record { head: Hash::of(b"another history"), ..records()[index].clone() }
}

/// A follower with its keyring, at a time.
struct Agent {
    follower: Follower,
    keyring: Keyring,
    now_ms: u64,
}

impl Agent {
    fn new() -> Self {
        let keyring = WORLD.keyring(0, Replica::new(WORLD.genesis));
        Self { follower: Follower::new(), keyring, now_ms: WORLD.now_ms }
    }

    fn up() -> Self {
        let mut agent = Self::new();
        agent.follower.handle_up(agent.now_ms);
        agent
    }

    /// One that has read the first so many records, and has found that there are no more.
    fn at(records: usize) -> Self {
        let mut agent = Self::up();
        let asked = agent.ask().unwrap();
        assert!(!agent.answer(asked, &self::records()[..records]));
        let asked = agent.ask().unwrap();
        assert!(agent.answer(asked, &[]));
        agent
    }

    fn height(&self) -> usize {
        usize::try_from(self.keyring.replica().height()).unwrap()
    }

    fn ask(&mut self) -> Option<(SyncId, u64)> {
        match self.follower.poll(&mut self.keyring, self.now_ms)? {
            Effect::Ask { sync, from, most: PAGE } => Some((sync, from)),
            other => panic!("{other:?}"),
        }
    }

    fn push(&mut self, record: &Record) -> bool {
        self.push_from(Source::Hub, record)
    }

    fn push_from(&mut self, source: Source, record: &Record) -> bool {
        self.follower.take(&mut self.keyring, record, source, self.now_ms)
    }

    /// As the control plane does it. `true` if the replica has all.
    fn answer(&mut self, (sync, _): (SyncId, u64), records: &[Record]) -> bool {
        if !self.follower.is_asking(sync) {
            return false;
        }
        for record in records {
            self.push(record);
        }
        self.follower.handle_answer(&mut self.keyring, records.is_empty(), self.now_ms)
    }

    /// How long it waits before it asks.
    fn pause_ms(&self) -> Option<u64> {
        self.follower.poll_timeout().map(|at_ms| at_ms - self.now_ms)
    }
}

#[test]
fn it_asks_page_by_page_until_there_is_no_more_and_then_from_time_to_time() {
    let mut agent = Agent::new();
    assert_eq!((agent.ask(), agent.pause_ms()), (None, None), "there is no connection");
    agent.follower.handle_up(agent.now_ms);
    let first = agent.ask().unwrap();
    assert_eq!((first.1, agent.ask(), agent.pause_ms()), (0, None, None), "not twice at once");
    assert!(!agent.answer(first, &records()[..25]));
    let second = agent.ask().unwrap();
    assert_eq!(second.1, 25);
    assert!(!agent.answer(second, &records()[25..]));
    let third = agent.ask().unwrap();
    assert!(agent.answer(third, &[]));
    assert_eq!((agent.height(), agent.ask(), agent.pause_ms()), (records().len(), None, Some(REFRESH_MS)));
    assert!(agent.keyring.is_caught_up_after(second.0) && !agent.keyring.is_caught_up_after(third.0));
    agent.now_ms += REFRESH_MS;
    assert!(agent.ask().is_some());
}

#[test]
fn what_is_pushed_in_order_is_taken_at_once_and_what_is_missing_is_asked_for() {
    let mut agent = Agent::at(10);
    assert!(agent.push(&records()[10]));
    assert!(!agent.push(&records()[10]), "it came again");
    assert!(!agent.push(&records()[3]));
    assert_eq!((agent.height(), agent.ask()), (11, None));
    assert!(!agent.push(&records()[12]), "the one before it is missing");
    assert_eq!(agent.ask().map(|asked| asked.1), Some(11));
}

#[test]
fn a_push_before_the_connection_is_taken_and_what_is_missing_waits_for_it() {
    let mut agent = Agent::new();
    assert!(agent.push(&records()[0]));
    assert!(!agent.push(&records()[2]));
    assert_eq!((agent.height(), agent.ask()), (1, None));
    agent.follower.handle_up(agent.now_ms);
    assert_eq!(agent.ask().map(|asked| asked.1), Some(1));
}

#[test]
fn news_during_a_question_is_asked_for_again_at_once() {
    let mut agent = Agent::at(10);
    agent.follower.want(agent.now_ms);
    let asked = agent.ask().unwrap();
    agent.follower.want(agent.now_ms);
    assert_eq!(agent.ask(), None);
    assert!(!agent.answer(asked, &[]), "it was answered before the news, perhaps");
    let again = agent.ask().unwrap();
    assert!(agent.answer(again, &[]));
}

#[test]
fn records_that_were_pushed_during_a_question_do_not_slow_it() {
    let mut agent = Agent::at(10);
    agent.follower.want(agent.now_ms);
    let asked = agent.ask().unwrap();
    assert!(agent.push(&records()[10]));
    assert!(!agent.answer(asked, &records()[10..11]));
    assert_eq!(agent.ask().map(|asked| asked.1), Some(11));
}

#[test]
fn no_answer_and_an_answer_that_cannot_be_true_are_asked_for_again_later() {
    let mut agent = Agent::up();
    let asked = agent.ask().unwrap();
    agent.follower.handle_failure("no answer", agent.now_ms);
    assert!(!agent.follower.is_asking(asked.0));
    assert_eq!((agent.ask(), agent.pause_ms()), (None, Some(RETRY_MS)));
    agent.follower.want(agent.now_ms);
    assert_eq!(agent.ask(), None, "whoever wants news waits with it");
    agent.now_ms += RETRY_MS;
    let asked = agent.ask().unwrap();
    // Not even this device's own registration is there.
    assert!(!agent.answer(asked, &[]));
    assert_eq!((agent.ask(), agent.pause_ms()), (None, Some(RETRY_MS)));
    agent.now_ms += RETRY_MS;
    let asked = agent.ask().unwrap();
    assert!(!agent.answer(asked, &[forged(0), records()[1].clone()]));
    assert_eq!((agent.height(), agent.ask(), agent.pause_ms()), (0, None, Some(RETRY_MS)));
    // What is good of an answer counts.
    agent.now_ms += RETRY_MS;
    let asked = agent.ask().unwrap();
    assert!(!agent.answer(asked, &[records()[0].clone(), records()[1].clone(), forged(2)]));
    assert_eq!(agent.ask().map(|asked| asked.1), Some(2));
}

#[test]
fn a_pushed_record_that_does_not_verify_is_asked_for_but_not_each_time() {
    let mut agent = Agent::at(10);
    assert!(!agent.push(&forged(10)));
    assert_eq!((agent.height(), agent.ask(), agent.pause_ms()), (10, None, Some(RETRY_MS)));
    assert!(!agent.push(&forged(10)));
    agent.now_ms += RETRY_MS;
    let asked = agent.ask().unwrap();
    assert!(!agent.push(&forged(10)));
    assert!(!agent.answer(asked, &records()[10..]));
    assert_eq!(agent.height(), records().len());
}

#[test]
fn what_does_not_verify_is_reported_once_a_minute_and_noted() {
    let mut agent = Agent::at(10);
    let mut reported = Vec::new();
    for second in 0..150 {
        assert!(!agent.push(&forged(10)));
        if let [why] = &*agent.keyring.take_alarms() {
            assert_eq!(why.cause, Cause::LedgerParted);
            reported.push(second);
        }
        agent.now_ms += 1_000;
    }
    assert_eq!(reported, [0, 60, 120]);
}

#[test]
fn another_record_in_the_place_of_one_that_was_read_is_reported() {
    let mut agent = Agent::at(10);
    assert!(!agent.push(&records()[9]) && !agent.push_from(Source::Anybody, &forged(9)));
    assert!(agent.keyring.take_alarms().is_empty());
    assert!(!agent.push(&forged(9)));
    assert!(matches!(&*agent.keyring.take_alarms(), [why] if why.cause == Cause::LedgerParted));
    assert_eq!(agent.keyring.replica().head(), records()[9].head);
}

#[test]
fn what_strangers_publish_is_not_the_hubs_word_and_does_not_hide_it() {
    let mut agent = Agent::at(10);
    assert!(!agent.push_from(Source::Anybody, &forged(10)));
    agent.follower.handle_unreadable("no record", Source::Anybody, agent.now_ms);
    assert_eq!(agent.follower.quiet, None);
    assert_eq!(agent.follower.strangers.note("no record", agent.now_ms + 60_000), Some(1));
    assert!(!agent.push_from(Source::Hub, &forged(10)));
    assert!(agent.follower.quiet.is_some());
    assert!(agent.push_from(Source::Anybody, &records()[10]));
}

#[test]
fn an_answer_from_before_the_connection_was_lost_means_nothing() {
    let mut agent = Agent::at(10);
    agent.follower.want(agent.now_ms);
    let lost = agent.ask().unwrap();
    agent.follower.handle_down();
    assert_eq!((agent.ask(), agent.pause_ms()), (None, None));
    agent.follower.handle_up(agent.now_ms);
    let asked = agent.ask().unwrap();
    assert!(!agent.answer(lost, &[]));
    assert!(agent.follower.is_asking(asked.0));
    assert!(agent.answer(asked, &[]));
}

#[derive(Debug, Clone)]
enum Op {
    Push(usize),
    Forge(usize),
    /// The question on its way is answered with at most so many records of the ledger as it was when it was asked.
    Answer(usize),
    /// An answer of some other records, or to a question of long ago.
    Lie(usize, usize),
    Lose,
    Want,
    Down,
    Up,
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let index = 0..WORLD.ledger.records().len();
    prop_oneof![
        4 => index.clone().prop_map(Op::Push),
        1 => index.clone().prop_map(Op::Forge),
        4 => (0..8_usize).prop_map(Op::Answer),
        1 => (index, 0..4_usize).prop_map(|(from, most)| Op::Lie(from, most)),
        1 => Just(Op::Lose),
        1 => Just(Op::Want),
        1 => Just(Op::Down),
        2 => Just(Op::Up),
        3 => (0..2_000_u64).prop_map(Op::Pass),
    ]
}

fn some(from: usize, most: usize) -> &'static [Record] {
    let from = from.min(records().len());
    &records()[from..records().len().min(from + most)]
}

proptest! {
    /// Pushes and answers in any order, lost, repeated and made up: it never has two questions on their way, and is caught
    /// up with the ledger a while after the hub has become honest.
    #[test]
    fn it_ends_caught_up_and_never_asks_twice_at_once(ops in prop::collection::vec(op(), 0..80)) {
        let mut agent = Agent::new();
        let mut on_its_way = None;
        let mut up = false;
        for op in ops {
            match op {
                Op::Push(index) => drop(agent.push(&records()[index])),
                Op::Forge(index) => prop_assert!(!agent.push(&forged(index))),
                Op::Answer(most) => if let Some(asked) = on_its_way.take() {
                    agent.answer(asked, some(usize::try_from(asked.1).unwrap(), most));
                },
                Op::Lie(from, most) => if let Some(asked) = on_its_way.take() {
                    agent.answer(asked, some(from, most));
                },
                Op::Lose => if on_its_way.take().is_some() {
                    agent.follower.handle_failure("lost", agent.now_ms);
                },
                Op::Want => agent.follower.want(agent.now_ms),
                Op::Down => {
                    (up, on_its_way) = (false, None);
                    agent.follower.handle_down();
                }
                Op::Up => if !up {
                    up = true;
                    agent.follower.handle_up(agent.now_ms);
                },
                Op::Pass(ms) => agent.now_ms += ms,
            }
            if let Some(asked) = agent.ask() {
                prop_assert!(up && on_its_way.is_none(), "{asked:?} beside {on_its_way:?}");
                prop_assert_eq!(asked.1, agent.keyring.replica().height());
                on_its_way = Some(asked);
            }
        }
        if !up {
            agent.follower.handle_up(agent.now_ms);
        }
        let goal = agent.keyring.last_sync();
        for _ in 0..100 {
            if let Some(asked) = on_its_way.take().or_else(|| agent.ask()) {
                agent.answer(asked, some(usize::try_from(asked.1).unwrap(), 16));
            } else {
                agent.now_ms = agent.follower.poll_timeout().unwrap();
            }
            if agent.keyring.is_caught_up_after(goal) {
                break;
            }
        }
        prop_assert_eq!(agent.keyring.replica().head(), WORLD.ledger.replica().head());
        prop_assert!(agent.keyring.is_caught_up_after(goal));
    }
}

/// A hub that pushes a record of long after, and shows none before it, is not asked for ever without a result.
#[test]
fn a_hub_that_withholds_and_pushes_while_it_is_asked_is_read_to_its_end() {
    let mut agent = Agent::at(10);
    agent.follower.want(agent.now_ms);
    let mut ended = false;
    for _ in 0..1_000 {
        let asked = agent.ask().unwrap();
        assert!(!agent.push(&forged(30)), "whose signature nobody has looked at");
        ended |= agent.answer(asked, &[]);
    }
    assert!(ended, "what others say of the ledger is never judged");
}

impl Agent {
    /// One that reads the ledger's network, up to its end of so many records.
    fn on_network(records: usize) -> Self {
        let mut agent = Self::up();
        agent.keyring = agent.keyring.with_source(LedgerSource::Network { final_after_ms: 0 });
        let asked = agent.ask().unwrap();
        assert!(!agent.answer(asked, &self::records()[..records]));
        let asked = agent.ask().unwrap();
        assert!(agent.answer(asked, &[]));
        agent
    }

    fn hint(&mut self, index: u64) {
        self.follower.handle_hint(&self.keyring, index, self.now_ms);
    }
}

#[test]
fn a_network_is_asked_for_what_the_hub_says_there_is_until_it_shows_it() {
    let mut agent = Agent::on_network(10);
    agent.hint(9);
    assert_eq!(agent.ask(), None, "that one is there");
    agent.now_ms += NETWORK_PAUSE_MS;
    agent.hint(10);
    for _ in 0..5 {
        let asked = agent.ask().expect("it is asked at once, and again");
        assert!(agent.answer(asked, &[]));
        assert_eq!(agent.ask(), None, "not in a circle");
        agent.now_ms += NETWORK_PAUSE_MS;
    }
    let asked = agent.ask().unwrap();
    assert!(!agent.answer(asked, &records()[10..11]));
    let asked = agent.ask().unwrap();
    assert!(agent.answer(asked, &[]));
    agent.now_ms += NETWORK_PAUSE_MS;
    assert_eq!(agent.ask(), None, "it has come");
}

#[test]
fn what_a_network_never_shows_is_given_up() {
    let mut agent = Agent::on_network(10);
    agent.now_ms += NETWORK_PAUSE_MS;
    agent.hint(30);
    let asked = agent.ask().unwrap();
    assert!(agent.answer(asked, &[]));
    agent.now_ms += HINT_MS;
    let asked = agent.ask().unwrap();
    assert!(agent.answer(asked, &[]));
    agent.now_ms += NETWORK_PAUSE_MS;
    assert_eq!(agent.ask(), None);
    agent.now_ms += REFRESH_MS;
    assert!(agent.ask().is_some(), "as often as without");
}
