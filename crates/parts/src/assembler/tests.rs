use proptest::prelude::*;

use super::*;
use crate::{HEADER_BYTES, cut};

const LIMITS: Limits = Limits { message_bytes: 10_000, topic_bytes: 20_000, total_bytes: 50_000, age_ms: 1000 };

fn message(fill: u8, bytes: usize) -> Bytes {
    vec![fill; bytes].into()
}

fn parts(message: &Bytes) -> Vec<Bytes> {
    cut(message.clone(), 1000).unwrap()
}

#[test]
fn what_is_no_part_passes() {
    let mut assembler = Assembler::new(LIMITS);
    for payload in ["", "{}", "\u{1}x"] {
        assert_eq!(assembler.take("t", payload.into(), 0), Ok(Some(payload.into())));
    }
    assert_eq!(assembler.take("t", Bytes::from_static(b"\xFF"), 0), Err(PartError::Malformed));
    assert_eq!(assembler.bytes(), 0);
}

#[test]
fn a_message_that_begins_as_a_part_arrives() {
    let mut assembler = Assembler::new(LIMITS);
    let message = Bytes::from_static(b"\xFF\x01 not a part");
    let [part] = parts(&message).try_into().unwrap();
    assert_eq!(assembler.take("t", part, 0), Ok(Some(message)));
    assert_eq!(assembler.bytes(), 0);
}

#[test]
fn a_forged_part_spoils_its_message_once_only() {
    let mut assembler = Assembler::new(LIMITS);
    let message = message(7, 1500);
    let [first, second] = parts(&message).try_into().unwrap();
    let mut forged = second.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(assembler.take("t", forged.into(), 0), Ok(None));
    assert_eq!(assembler.take("t", first.clone(), 0), Err(PartError::Digest));
    assert_eq!(assembler.bytes(), 0);
    let mut misfit = first.to_vec();
    misfit[HEADER_BYTES - 1] = 3;
    assert_eq!(assembler.take("t", first, 0), Ok(None));
    assert_eq!(assembler.take("t", misfit.into(), 0), Err(PartError::Misfit));
    assert_eq!(assembler.take("t", second, 0), Ok(Some(message)));
}

#[test]
fn parts_of_two_topics_do_not_mix() {
    let mut assembler = Assembler::new(LIMITS);
    let [first, second] = parts(&message(7, 1500)).try_into().unwrap();
    assert_eq!(assembler.take("a", first, 0), Ok(None));
    assert_eq!(assembler.take("b", second, 0), Ok(None));
}

#[test]
fn a_message_that_is_too_long_is_dropped() {
    let mut assembler = Assembler::new(LIMITS);
    let outcomes: Vec<_> = parts(&message(7, 10_001)).into_iter().map(|part| assembler.take("t", part, 0)).collect();
    assert_eq!(outcomes.last(), Some(&Err(PartError::TooLong(10_000))));
    assert_eq!(assembler.bytes(), 0);
    let outcomes = parts(&message(7, 10_000)).into_iter().map(|part| assembler.take("t", part, 0));
    assert!(outcomes.last().unwrap().unwrap().is_some());
}

/// Whoever names topics must not have more kept than is counted.
#[test]
fn long_topics_take_room() {
    let mut assembler = Assembler::new(LIMITS);
    let [first, _] = parts(&message(7, 1500)).try_into().unwrap();
    for at in 0..100 {
        let topic = format!("{at}{}", "x".repeat(5000));
        assert_eq!(assembler.take(&topic, first.slice(..HEADER_BYTES + 1), 0), Ok(None));
        let topics: usize = assembler.topics.keys().map(|topic| topic.len()).sum();
        assert!(topics <= LIMITS.total_bytes, "{topics} bytes of topics after {at}");
    }
    assert!(!assembler.topics.is_empty());
    assembler.sweep(1001);
    assert_eq!(assembler.bytes(), 0);
}

#[test]
fn what_takes_too_long_is_dropped() {
    let mut assembler = Assembler::new(LIMITS);
    let [first, second] = parts(&message(7, 1500)).try_into().unwrap();
    assert_eq!(assembler.take("t", first.clone(), 0), Ok(None));
    assert_eq!(assembler.take("t", first, 1001), Ok(None));
    assert!(assembler.topics["t"].unfinished.values().all(|unfinished| unfinished.begun_ms == 1001));
    assert!(assembler.take("t", second, 2001).unwrap().is_some());
}

#[test]
fn a_flooded_topic_does_not_hold_up_another() {
    let mut assembler = Assembler::new(LIMITS);
    let [first, second] = parts(&message(7, 1500)).try_into().unwrap();
    assert_eq!(assembler.take("honest", first, 0), Ok(None));
    let most = LIMITS.total_bytes;
    for at in 0..2000_u64 {
        let unfinished = parts(&[&at.to_be_bytes()[..], &[0; 1000]].concat().into()).swap_remove(0);
        let topic = format!("flood{}", at % 10);
        assert_eq!(assembler.take(&topic, unfinished, 0), Ok(None));
        assert!(assembler.bytes() <= most);
        assert!(assembler.topics.values().all(|of| of.bytes <= LIMITS.topic_bytes));
        assert_counted(&assembler);
    }
    assert!(assembler.take("honest", second, 0).unwrap().is_some());
}

/// What is counted, and looked up, is what is there.
fn assert_counted(assembler: &Assembler) {
    let by_bytes = assembler.topics.iter().map(|(topic, of)| (of.bytes, topic.clone())).collect();
    assert_eq!(assembler.by_bytes, by_bytes);
    assert_eq!(assembler.bytes, assembler.topics.values().map(|of| of.bytes).sum::<usize>());
    for of in assembler.topics.values() {
        assert!(!of.unfinished.is_empty());
        assert_eq!(of.bytes, of.unfinished.values().map(|unfinished| unfinished.bytes).sum::<usize>());
        let order = of.unfinished.values().map(|unfinished| (unfinished.number, unfinished.message)).collect();
        assert_eq!(of.order, order);
    }
}

proptest! {
    /// Parts of many messages on few topics, more than there is room for, while time goes by.
    #[test]
    fn the_oldest_of_the_topic_that_has_most_give_way(
        parts in proptest::collection::vec((0..4_u8, 0..30_u8, 1..3000_usize, 0..100_u64), 1..200),
    ) {
        let mut assembler = Assembler::new(LIMITS);
        let mut now_ms = 0;
        for (topic, name, bytes, passed_ms) in parts {
            now_ms += passed_ms;
            let payload = [&[0xFF, 1][..], &[name; 16], &[0, 0, 0, 2], &vec![0; bytes]].concat();
            prop_assert_eq!(assembler.take(&topic.to_string(), payload.into(), now_ms), Ok(None));
            assert_counted(&assembler);
            prop_assert!(assembler.bytes <= LIMITS.total_bytes);
            prop_assert!(assembler.topics.values().all(|of| of.bytes <= LIMITS.topic_bytes));
            let is_kept = assembler.topics.get(&*topic.to_string()).is_some_and(|of| of.unfinished.contains_key(&[name; 16]));
            prop_assert!(is_kept || assembler.topics.len() == 4, "the newest of a topic went before the others");
        }
    }

    #[test]
    fn any_order_with_repeats_gives_the_message(
        message in proptest::collection::vec(any::<u8>(), 0..5000),
        max in HEADER_BYTES + 200..3000,
        order in proptest::collection::vec(any::<usize>(), 0..400),
    ) {
        let message = Bytes::from(message);
        let parts = cut(message.clone(), max).unwrap();
        prop_assert!(parts.iter().all(|part| part.len() <= max));
        let mut assembler = Assembler::new(LIMITS);
        let repeated = order.iter().map(|at| parts[at % parts.len()].clone());
        let mut complete = None;
        for part in repeated.chain(parts.iter().rev().cloned()) {
            complete = complete.or(assembler.take("t", part, 0).unwrap());
        }
        prop_assert_eq!(complete, Some(message));
    }
}
