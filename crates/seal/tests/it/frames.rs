//! What goes in comes out, at what cost in bytes, and when a sealer stops.

use std::sync::Arc;

use proptest::prelude::*;
use sealcast_seal::{
    Authenticity, Content, EpochId, GroupKeys, Header, MARKER, MAX_OVERHEAD_SIGNED, MAX_OVERHEAD_UNSIGNED, OpenError,
    Opener, Purpose, QosClass, SealError, Start,
};

use crate::world::*;

fn round_trip(authenticity: Authenticity, topic: &str, props: &[u8], payload: &[u8], retain: bool) -> Outcome {
    let (mut sealer, keys) = World::new(authenticity)?.pair()?;
    let class = if payload.len().is_multiple_of(2) { QosClass::AtMostOnce } else { QosClass::Acknowledged };
    let content = Content { purpose: Purpose::Message, retain, class, props, payload };
    let frame = sealer.seal(NOW, topic, &content)?;
    let opened = message(Opener::new().open(&keys, topic, &frame, &LIVE, NOW + 5))?;
    assert_eq!((opened.props(), opened.payload()), (props, payload));
    assert_eq!((opened.sealed_ms(), opened.age_ms(), opened.is_retain()), (NOW, 5, retain));
    assert_eq!((opened.is_signed(), opened.class()), (authenticity == Authenticity::Signature, class));
    assert_eq!(*opened.sender(), device(0)?);
    assert_eq!(frame[0], MARKER);
    let header = Header::parse(&frame)?;
    assert_eq!((header.key_id.leaf(), header.counter, header.sealed_ms(NOW)), (leaf_at(0)?, 0, NOW));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_sealed_is_opened(topic in "[a-z0-9/äß]{1,40}", props in proptest::collection::vec(any::<u8>(), 0..300),
                                payload in proptest::collection::vec(any::<u8>(), 0..2000), signed: bool, retain: bool) {
        let authenticity = if signed { Authenticity::Signature } else { Authenticity::Group };
        round_trip(authenticity, &topic, &props, &payload, retain).map_err(|e| TestCaseError::fail(e.to_string()))?;
    }

    #[test]
    fn any_bytes_are_refused_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (_, keys) = World::signed().and_then(|world| world.pair()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        for (byte, expected) in bytes.iter_mut().zip([MARKER]) {
            *byte = expected;
        }
        prop_assert!(Opener::new().open(&keys, TOPIC, &bytes, &LIVE, NOW).is_err());
    }
}

#[test]
fn sizes_from_nothing_to_64_kib() -> Outcome {
    for size in [0, 1, 15, 16, 17, 100, 127, 128, 1024, 16_383, 16_384, 65_535, 65_536] {
        let bytes = vec![0xA5; size];
        round_trip(Authenticity::Signature, TOPIC, &bytes, &bytes, false)?;
        round_trip(Authenticity::Group, TOPIC, &[], &bytes, true)?;
    }
    Ok(())
}

/// Whatever the start, the counter and the ledger's height are. `seal/tests.rs` has the widest of each.
#[test]
fn adds_at_most_100_bytes_signed_and_36_unsigned() -> Outcome {
    assert_eq!((MAX_OVERHEAD_SIGNED, MAX_OVERHEAD_UNSIGNED), (100, 36));
    for (authenticity, limit) in [(Authenticity::Signature, 100), (Authenticity::Group, 36)] {
        let world = World::new(authenticity)?;
        let mut keys = world.device(0, 1023)?;
        for start in [0, 1, 0xFFFF, Start::MAX] {
            let mut sealer = keys.sealer_at(Start::new(start).ok_or("24 bits")?, &world.keys[0])?;
            for height in 0..300 {
                sealer.follow_ledger(BEGAN_AT + height * height * height, |_| Some([0xFF; 32]));
                let frame = sealer.seal(NOW, TOPIC, &content(&[0; 100]))?;
                assert!(frame.len() - 100 <= limit, "{}", frame.len() - 100);
            }
        }
    }
    Ok(())
}

#[test]
fn a_sealer_stops_when_the_epoch_turns_and_when_its_group_is_forgotten() -> Outcome {
    let world = World::signed()?;
    let mut keys = world.device(0, 1)?;
    let mut sealer = world.sealer(&mut keys, 0)?;
    sealer.seal(NOW, TOPIC, &content(b"1"))?;
    keys.insert_epoch(world.epoch(0, 0, 2)?)?;
    assert!(matches!(sealer.seal(NOW, TOPIC, &content(b"2")), Err(SealError::EpochEnded { .. })));
    let mut sealer = world.sealer(&mut keys, 0)?;
    sealer.seal(NOW, TOPIC, &content(b"3"))?;
    keys.forget();
    assert!(matches!(sealer.seal(NOW, TOPIC, &content(b"4")), Err(SealError::EpochEnded { .. })));
    assert!(matches!(keys.sealer(&world.keys[0]), Err(SealError::NotMember { .. })));
    Ok(())
}

#[test]
fn no_epoch_and_no_start_is_used_twice() -> Outcome {
    let world = World::signed()?;
    let mut keys = world.device(0, 1)?;
    let start = Start::new(7).ok_or("small")?;
    let _sealer = keys.sealer_at(start, &world.keys[0])?;
    let again = keys.sealer_at(start, &world.keys[0]);
    assert!(matches!(again, Err(SealError::StartUsed { start: used, .. }) if used == start));

    keys.insert_epoch(world.epoch(0, 0, 2)?)?;
    keys.sealer_at(start, &world.keys[0])?;
    for old in [1, 2] {
        assert!(keys.insert_epoch(world.epoch(0, 0, old)?).is_err());
    }
    keys.forget();
    assert!(keys.insert_epoch(world.epoch(0, 0, 2)?).is_err(), "what was used stays known");
    keys.insert_epoch(world.epoch(0, 1, 0)?)?;
    assert!(matches!(keys.sealer(&world.keys[1]), Err(SealError::Key { .. })));
    Ok(())
}

/// Two agents that run from one folder, or one that was restored: they hold the same keys, and draw different starts.
#[test]
fn copies_of_a_device_seal_under_different_keys() -> Outcome {
    let world = World::signed()?;
    let mut starts = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let mut copy = world.device(0, 1)?;
        for _ in 0..8 {
            let sealer = world.sealer(&mut copy, 0)?;
            starts.insert(sealer.key_id().start());
        }
    }
    // Two of 64 are the same once in 8,000 runs; three pairs never.
    assert!(starts.len() > 61, "{starts:?}");
    Ok(())
}

#[test]
fn tells_apart_why_there_is_no_key() -> Outcome {
    let world = World::signed()?;
    let at = |epoch: u64| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let mut keys = world.device(0, epoch)?;
        Ok(world.sealer(&mut keys, 0)?.seal(NOW, TOPIC, &content(b"21.5"))?)
    };
    let mut keys = world.device(1, 10)?;
    for epoch in 11..=14 {
        keys.insert_epoch(world.epoch(1, 0, epoch)?)?;
    }
    let open = |keys: &GroupKeys, frame: &[u8]| Opener::new().open(keys, TOPIC, frame, &LIVE, NOW);
    for epoch in 12..=14 {
        message(open(&keys, &at(epoch)?))?;
    }
    let ahead = open(&keys, &at(15)?).err().ok_or("opened")?;
    assert!(ahead.is_worth_waiting());
    assert!(matches!(ahead, OpenError::EpochAhead { held: 14, frame: 15, .. }));
    assert!(matches!(open(&keys, &at(11)?), Err(OpenError::EpochRetired { frame: 11, oldest: 12, .. })));
    keys.retire(EpochId { generation: 0, epoch: 13 });
    assert!(matches!(open(&keys, &at(13)?), Err(OpenError::EpochRetired { frame: 13, oldest: 14, .. })));
    keys.forget();
    let not_member = open(&keys, &at(14)?).err().ok_or("opened")?;
    assert!(matches!(not_member, OpenError::NotMember { .. }));
    assert_eq!(
        not_member.to_string(),
        "no key: 1112 is not a member of hsu0001; grant it, or wait until it has joined"
    );
    Ok(())
}

#[test]
fn epochs_of_two_generations_with_one_tag_are_told_apart() -> Outcome {
    let world = World::signed()?;
    let mut sender = world.device(0, 3)?;
    let mut before = world.sealer(&mut sender, 0)?;
    let old = before.seal(NOW, TOPIC, &content(b"old"))?;
    sender.insert_epoch(world.epoch(0, 1, 3)?)?;
    let new = world.sealer(&mut sender, 0)?.seal(NOW, TOPIC, &content(b"new"))?;
    let mut keys = world.device(1, 3)?;
    keys.insert_epoch(world.epoch(1, 1, 3)?)?;
    let mut opener = Opener::new();
    assert_eq!(deliver(&mut opener, &keys, &old, &LIVE)?.payload(), b"old");
    assert_eq!(deliver(&mut opener, &keys, &new, &LIVE)?.payload(), b"new");
    Ok(())
}

#[test]
fn prints_no_secret() -> Outcome {
    let world = World::signed()?;
    let mut keys = world.device(0, 1)?;
    let sealer = world.sealer(&mut keys, 0)?;
    let printed = format!("{keys:?} {sealer:?} {:?}", Arc::new(world.epoch(0, 0, 9)?.secret));
    assert!(!printed.contains("[0, 0"), "{printed}");
    assert!(printed.contains("EpochSecret(..)"), "{printed}");
    Ok(())
}

#[test]
fn may_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<GroupKeys>();
    shared::<sealcast_seal::Sealer>();
    shared::<Opener>();
}
