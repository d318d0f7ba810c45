//! Replay, redelivery, retained messages, wills and age.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sealcast_seal::{
    Authenticity, Content, Delivery, DeliveryKind, Freshness, GroupKeys, HandOver, OpenError, Opened, Opener, Purpose,
    WINDOW,
};

use crate::world::*;

fn is_replay(opened: &Result<Opened, OpenError>) -> bool {
    matches!(opened, Err(OpenError::Replay { .. }))
}

/// What a store with keys holds after each of its client's changes.
#[derive(Default)]
struct Store(BTreeMap<Vec<u8>, Vec<u8>>);

impl Store {
    fn save(&mut self, opener: &mut Opener) {
        let changes = opener.changes();
        if changes.replace_all {
            self.0.clear();
        }
        for row in changes.rows {
            match row.value {
                Some(value) => self.0.insert(row.key, value),
                None => self.0.remove(&row.key),
            };
        }
    }

    fn load(&self) -> Result<Opener, Box<dyn std::error::Error>> {
        Ok(Opener::restore(self.0.iter().map(|(key, value)| (&key[..], &value[..])))?)
    }
}

#[test]
fn storing_what_changed_stores_everything() -> Outcome {
    let world = World::signed()?;
    let mut sender = world.device(0, 1)?;
    let mut keys = world.device(1, 1)?;
    let (mut opener, mut store) = (Opener::new(), Store::default());
    for epoch in 2..8 {
        for round in 0..6 {
            // A device does not start twice in one millisecond.
            let now_ms = NOW + 6 * epoch + round;
            let mut sealer = world.sealer(&mut sender, 0)?;
            let will = Content { purpose: Purpose::Will, ..content(b"3") };
            for content in [content(b"1"), qos1(b"1"), retained(b"2"), will] {
                let message = deliver(&mut opener, &keys, &sealer.seal(now_ms, TOPIC, &content)?, &QOS1)?;
                opener.mark_acknowledged(&message.receipt());
            }
            if round % 3 == 2 {
                // The store failed, and more came before it was tried again.
                opener.changes();
                opener.changes_were_not_stored();
                let message = deliver(&mut opener, &keys, &sealer.seal(now_ms, TOPIC, &qos1(b"4"))?, &QOS1)?;
                opener.mark_acknowledged(&message.receipt());
            }
            store.save(&mut opener);
            assert_eq!(store.load()?.export(), opener.export());
            assert_eq!(opener.changes().rows, []);
        }
        sender.insert_epoch(world.epoch(0, 0, epoch)?)?;
        keys.insert_epoch(world.epoch(1, 0, epoch)?)?;
        opener.retain_epochs(&keys);
        store.save(&mut opener);
        assert_eq!(store.load()?.export(), opener.export());
    }
    Ok(())
}

fn restart(opener: &Opener) -> Result<Opener, Box<dyn std::error::Error>> {
    Ok(Opener::import(&opener.export())?)
}

#[test]
fn qos_0_is_delivered_once_also_across_a_restart() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let frame = sealer.seal(NOW, TOPIC, &content(b"1"))?;
    let mut opener = Opener::new();
    deliver(&mut opener, &keys, &frame, &LIVE)?;
    let mut restarted = restart(&opener)?;
    for opener in [&mut opener, &mut restarted] {
        for delivery in [LIVE, QOS1, DUP, OFFLINE] {
            assert!(is_replay(&opener.open(&keys, TOPIC, &frame, &delivery, NOW)));
        }
    }
    // Another client has seen nothing.
    deliver(&mut Opener::new(), &keys, &frame, &LIVE)?;
    Ok(())
}

#[test]
fn a_redelivery_passes_until_it_is_acknowledged() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let frame = sealer.seal(NOW, TOPIC, &content(b"1"))?;
    let mut opener = Opener::new();
    let first = deliver(&mut opener, &keys, &frame, &QOS1)?;
    assert!(is_replay(&opener.open(&keys, TOPIC, &frame, &QOS1, NOW)), "a copy that is no redelivery");
    let mut opener = restart(&opener)?;
    let again = deliver(&mut opener, &keys, &frame, &DUP)?;
    assert_eq!(first.payload(), again.payload());
    opener.mark_acknowledged(&again.receipt());
    let mut opener = restart(&opener)?;
    assert!(is_replay(&opener.open(&keys, TOPIC, &frame, &DUP, NOW)));
    Ok(())
}

/// The broker hands on what is published now with QoS 0 past the queue that it drains slowly.
#[test]
fn a_queue_drained_slowly_is_not_overtaken_by_live_messages_of_qos_0() -> Outcome {
    let (mut sealer, keys) = World::new(Authenticity::Group)?.pair()?;
    let mut queue = Vec::new();
    for _ in 0..3 * WINDOW {
        queue.push(sealer.seal(NOW, TOPIC, &qos1(b"queued"))?);
    }
    let mut opener = Opener::new();
    for (i, queued) in queue.iter().enumerate() {
        deliver(&mut opener, &keys, &sealer.seal(NOW, TOPIC, &content(b"live"))?, &LIVE)?;
        let message = deliver(&mut opener, &keys, queued, &OFFLINE)?;
        assert!(is_replay(&opener.open(&keys, TOPIC, queued, &OFFLINE, NOW)), "handed on twice: {i}");
        opener.mark_acknowledged(&message.receipt());
        if i % 1000 == 0 {
            opener = restart(&opener)?;
        }
    }
    // Nor the other way round: the sender's QoS 0 messages that come late, once the queue is empty.
    let late = sealer.seal(NOW, TOPIC, &content(b"late"))?;
    for _ in 0..2 * WINDOW {
        deliver(&mut opener, &keys, &sealer.seal(NOW, TOPIC, &qos1(b"1"))?, &QOS1)?;
    }
    deliver(&mut opener, &keys, &late, &LIVE)?;
    Ok(())
}

#[test]
fn a_broker_that_delivers_with_another_qos_gains_nothing() -> Outcome {
    let (mut sealer, keys) = World::new(Authenticity::Group)?.pair()?;
    for sealed in [content(b"1"), qos1(b"1")] {
        let frame = sealer.seal(NOW, TOPIC, &sealed)?;
        for first in [LIVE, QOS1, OFFLINE] {
            let mut opener = Opener::new();
            let message = deliver(&mut opener, &keys, &frame, &first)?;
            assert_eq!(message.class(), sealed.class);
            opener.mark_acknowledged(&message.receipt());
            let mut restarted = restart(&opener)?;
            for opener in [&mut opener, &mut restarted] {
                for again in [LIVE, QOS1, DUP, OFFLINE] {
                    assert!(is_replay(&opener.open(&keys, TOPIC, &frame, &again, NOW)));
                }
            }
        }
    }
    Ok(())
}

/// Within one class the bound stays: what is overtaken by [`WINDOW`] counters of its own class cannot be told from a
/// replay. So it is when two topics are published with QoS 1 and subscribed one with QoS 1, one with QoS 0: the broker
/// queues the first alone.
#[test]
fn within_one_class_a_message_may_be_overtaken_by_less_than_a_window() -> Outcome {
    for (behind, passes) in [(WINDOW - 1, true), (WINDOW, false)] {
        let (mut sealer, keys) = World::new(Authenticity::Group)?.pair()?;
        let queued = sealer.seal(NOW, TOPIC, &qos1(b"queued"))?;
        for _ in 1..behind {
            sealer.seal(NOW, TOPIC, &content(b"the other class counts too, seen or not"))?;
        }
        let mut opener = Opener::new();
        deliver(&mut opener, &keys, &sealer.seal(NOW, TOPIC, &qos1(b"overtakes it"))?, &LIVE)?;
        let opened = opener.open(&keys, TOPIC, &queued, &OFFLINE, NOW);
        assert_eq!(is_replay(&opened), !passes, "{behind} counters behind");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a broker delivers, with whatever QoS and in whatever order, and whenever the client restarts: a message
    /// passes once, or again as a redelivery until it is acknowledged.
    #[test]
    fn nothing_passes_after_it_is_done_with(
        classes in proptest::collection::vec(any::<bool>(), 1..24),
        steps in proptest::collection::vec((0..24usize, 0..4u8, any::<bool>(), any::<bool>()), 1..120),
    ) {
        let fail = |e: Box<dyn std::error::Error>| TestCaseError::fail(e.to_string());
        let (mut sealer, keys) = World::new(Authenticity::Group).and_then(|world| world.pair()).map_err(fail)?;
        let mut frames = Vec::new();
        for acknowledged in classes {
            // Some lie further apart than a window.
            for _ in 0..WINDOW / 3 {
                sealer.seal(NOW, TOPIC, &content(b"")).map_err(|e| fail(e.into()))?;
            }
            let sealed = if acknowledged { qos1(b"1") } else { content(b"0") };
            frames.push((sealer.seal(NOW, TOPIC, &sealed).map_err(|e| fail(e.into()))?, false, false));
        }
        let mut opener = Opener::new();
        for (at, delivery, acknowledge, restarts) in steps {
            let at = at % frames.len();
            let (frame, delivered, done) = &mut frames[at];
            let delivery = [LIVE, QOS1, DUP, OFFLINE][usize::from(delivery)];
            let dup = matches!(delivery.hand_over, HandOver::Acknowledged { dup: true });
            match opener.open(&keys, TOPIC, frame, &delivery, NOW) {
                Ok(Opened::Message(message)) => {
                    prop_assert!(!*done && (!*delivered || dup), "passed again");
                    opener.mark_delivered(&message.receipt());
                    *delivered = true;
                    *done = delivery.hand_over == HandOver::AtMostOnce;
                    if acknowledge {
                        opener.mark_acknowledged(&message.receipt());
                        *done = true;
                    }
                }
                refused => prop_assert!(is_replay(&refused), "{:?}", refused),
            }
            if restarts {
                opener = restart(&opener).map_err(fail)?;
            }
        }
    }
}

#[test]
fn opening_alone_marks_nothing() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let frame = sealer.seal(NOW, TOPIC, &content(b"1"))?;
    let mut opener = Opener::new();
    message(opener.open(&keys, TOPIC, &frame, &LIVE, NOW))?;
    message(opener.open(&keys, TOPIC, &frame, &LIVE, NOW))?;
    Ok(())
}

#[test]
fn windows_go_with_their_epochs() -> Outcome {
    let world = World::signed()?;
    let (mut sealer, mut keys) = world.pair()?;
    let frame = sealer.seal(NOW, TOPIC, &content(b"1"))?;
    let mut opener = Opener::new();
    let empty = opener.export().len();
    deliver(&mut opener, &keys, &frame, &LIVE)?;
    for epoch in 2..=4 {
        assert!(opener.export().len() > empty);
        keys.insert_epoch(world.epoch(1, 0, epoch)?)?;
        opener.retain_epochs(&keys);
    }
    assert_eq!(opener.export().len(), empty);
    assert!(matches!(opener.open(&keys, TOPIC, &frame, &LIVE, NOW), Err(OpenError::EpochRetired { .. })));
    Ok(())
}

#[test]
fn an_old_start_stays_refused_when_its_window_is_dropped() -> Outcome {
    let world = World::signed()?;
    let mut sender = world.device(0, 1)?;
    let keys = world.device(1, 1)?;
    let mut opener = Opener::new();
    let mut frames = Vec::new();
    for now_ms in NOW..NOW + 20 {
        let mut sealer = world.sealer(&mut sender, 0)?;
        for _ in 0..2 {
            let frame = sealer.seal(now_ms, TOPIC, &content(b"1"))?;
            let message = message(opener.open(&keys, TOPIC, &frame, &LIVE, now_ms))?;
            opener.mark_delivered(&message.receipt());
            frames.push(frame);
        }
        assert!(opener.export().len() < 2500, "bounded by the last few starts");
    }
    let mut restarted = restart(&opener)?;
    for opener in [&mut opener, &mut restarted] {
        for frame in &frames {
            assert!(is_replay(&opener.open(&keys, TOPIC, frame, &LIVE, NOW + 20)));
        }
    }
    Ok(())
}

#[test]
fn a_deleted_message_does_not_come_back() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let kept = sealer.seal(NOW - 10, TOPIC, &retained(b"1"))?;
    let tombstone = sealer.seal(NOW, TOPIC, &Content { purpose: Purpose::Tombstone, ..content(b"") })?;
    let mut opener = Opener::new();
    deliver(&mut opener, &keys, &kept, &RETAINED)?;
    let Opened::Tombstone(message) = opener.open(&keys, TOPIC, &tombstone, &LIVE, NOW)? else {
        return Err("no tombstone".into());
    };
    assert_eq!(*message.sender(), device(0)?);
    opener.mark_delivered(&message.receipt());
    let mut opener = restart(&opener)?;
    assert!(is_replay(&opener.open(&keys, TOPIC, &tombstone, &LIVE, NOW)));
    let back = opener.open(&keys, TOPIC, &kept, &RETAINED, NOW);
    assert!(matches!(back, Err(OpenError::RetainedOlder { .. })));
    // Nor is the tombstone itself kept: that is for those who are there.
    let as_kept = opener.open(&keys, TOPIC, &tombstone, &RETAINED, NOW);
    assert!(matches!(as_kept, Err(OpenError::NotRetained { .. })));
    deliver(&mut opener, &keys, &sealer.seal(NOW + 1, TOPIC, &retained(b"2"))?, &RETAINED)?;
    Ok(())
}

#[test]
fn what_is_held_back_past_the_limit_is_refused_with_numbers() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let frame = sealer.seal(NOW, TOPIC, &retained(b"1"))?;
    for (delivery, limit_ms) in [(LIVE, 60_000), (OFFLINE, 3_600_000), (RETAINED, 86_400_000)] {
        let last = NOW + limit_ms + FRESHNESS.clock_tolerance_ms;
        message(Opener::new().open(&keys, TOPIC, &frame, &delivery, last))?;
        let late = Opener::new().open(&keys, TOPIC, &frame, &delivery, last + 1);
        let expected = limit_ms + FRESHNESS.clock_tolerance_ms + 1;
        match late {
            Err(OpenError::TooOld { age_ms, limit_ms: limit, .. }) => assert_eq!((age_ms, limit), (expected, limit_ms)),
            other => return Err(format!("{other:?}").into()),
        }
    }
    let unlimited = Freshness::unlimited(0);
    let delivery = Delivery { freshness: &unlimited, ..LIVE };
    message(Opener::new().open(&keys, TOPIC, &frame, &delivery, u64::MAX))?;
    Ok(())
}

#[test]
fn a_message_from_the_future_is_refused_beyond_the_tolerance() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let frame = sealer.seal(NOW + 2_000, TOPIC, &content(b"1"))?;
    assert_eq!(message(Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW))?.age_ms(), 0);
    let early = Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW - 1);
    assert!(matches!(early, Err(OpenError::Future { ahead_ms: 2_001, tolerance_ms: 2_000, .. })));
    Ok(())
}

#[test]
fn a_retained_message_comes_again_and_never_goes_back() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let first = sealer.seal(NOW - 10, TOPIC, &retained(b"1"))?;
    let second = sealer.seal(NOW - 10, TOPIC, &retained(b"2"))?;
    let live_only = sealer.seal(NOW, TOPIC, &content(b"3"))?;
    let mut opener = Opener::new();
    deliver(&mut opener, &keys, &first, &RETAINED)?;
    deliver(&mut opener, &keys, &first, &RETAINED)?;
    deliver(&mut opener, &keys, &second, &LIVE)?;
    deliver(&mut opener, &keys, &live_only, &LIVE)?;
    let mut opener = restart(&opener)?;
    deliver(&mut opener, &keys, &second, &RETAINED)?;
    let back = opener.open(&keys, TOPIC, &first, &RETAINED, NOW);
    assert!(matches!(back, Err(OpenError::RetainedOlder { .. })));
    // What was held back live does not pass under the retained limit.
    let smuggled = opener.open(&keys, TOPIC, &live_only, &RETAINED, NOW);
    assert!(matches!(smuggled, Err(OpenError::NotRetained { .. })));
    Ok(())
}

#[test]
fn two_publishers_of_one_retained_topic_may_differ_by_the_tolerance() -> Outcome {
    let world = World::signed()?;
    let (mut ahead, keys) = world.pair()?;
    let mut other = world.device(2, 1)?;
    let mut behind = world.sealer(&mut other, 2)?;
    let mut opener = Opener::new();
    deliver(&mut opener, &keys, &ahead.seal(NOW, TOPIC, &retained(b"1"))?, &RETAINED)?;
    deliver(&mut opener, &keys, &behind.seal(NOW - 2_000, TOPIC, &retained(b"2"))?, &RETAINED)?;
    let older = behind.seal(NOW - 2_001, TOPIC, &retained(b"3"))?;
    assert!(matches!(opener.open(&keys, TOPIC, &older, &RETAINED, NOW), Err(OpenError::RetainedOlder { .. })));
    Ok(())
}

#[test]
fn sealed_again_it_comes_as_retained_alone_and_no_fresher() -> Outcome {
    let world = World::signed()?;
    let mut sender = world.device(0, 1)?;
    let mut keys = world.device(1, 1)?;
    let first = world.sealer(&mut sender, 0)?.seal(NOW - 5_000, TOPIC, &retained(b"1"))?;
    let mut opener = Opener::new();
    deliver(&mut opener, &keys, &first, &LIVE)?;
    sender.insert_epoch(world.epoch(0, 0, 2)?)?;
    keys.insert_epoch(world.epoch(1, 0, 2)?)?;
    let again = Content { purpose: Purpose::Reseal { sealed_ms: NOW - 5_000 }, ..content(b"1") };
    let again = world.sealer(&mut sender, 0)?.seal(NOW, TOPIC, &again)?;
    for delivery in [LIVE, QOS1, OFFLINE] {
        let live = opener.open(&keys, TOPIC, &again, &delivery, NOW)?;
        assert!(matches!(live, Opened::SealedAgain { sender } if sender == device(0)?));
    }
    // Live it is a repetition, whatever its age; as retained its age is that of the first sealing.
    let strict = Freshness { live_max_age_ms: Some(0), offline_max_age_ms: Some(0), ..FRESHNESS };
    for delivery in [LIVE, QOS1, OFFLINE] {
        let delivery = Delivery { freshness: &strict, ..delivery };
        assert!(matches!(opener.open(&keys, TOPIC, &again, &delivery, NOW)?, Opened::SealedAgain { .. }));
    }
    assert_eq!(deliver(&mut opener, &keys, &again, &RETAINED)?.age_ms(), 5_000);
    // The frame of the epoch before is now the older one.
    assert!(matches!(opener.open(&keys, TOPIC, &first, &RETAINED, NOW), Err(OpenError::RetainedOlder { .. })));
    Ok(())
}

#[test]
fn a_will_comes_late_once_and_does_not_come_back() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let will = |payload| Content { purpose: Purpose::Will, ..content(payload) };
    let first = sealer.seal(NOW - 86_400_000, TOPIC, &will(b"gone"))?;
    let second = sealer.seal(NOW - 40_000_000, TOPIC, &will(b"gone again"))?;
    let mut opener = Opener::new();
    for _ in 0..1100 {
        let frame = sealer.seal(NOW, TOPIC, &content(b"1"))?;
        let passed: &GroupKeys = &keys;
        deliver(&mut opener, passed, &frame, &LIVE)?;
    }
    let message = deliver(&mut opener, &keys, &first, &QOS1)?;
    assert!(message.is_will());
    deliver(&mut opener, &keys, &first, &DUP)?;
    opener.mark_acknowledged(&message.receipt());
    let mut opener = restart(&opener)?;
    assert!(is_replay(&opener.open(&keys, TOPIC, &first, &DUP, NOW)));
    deliver(&mut opener, &keys, &second, &LIVE)?;
    for frame in [&first, &second] {
        assert!(is_replay(&opener.open(&keys, TOPIC, frame, &LIVE, NOW)));
    }
    assert_eq!(LIVE.kind, DeliveryKind::Live);
    Ok(())
}

#[test]
fn what_was_stored_is_read_or_refused() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let mut opener = Opener::new();
    deliver(&mut opener, &keys, &sealer.seal(NOW, TOPIC, &retained(b"1"))?, &LIVE)?;
    let stored = opener.export();
    assert_eq!(Opener::import(&stored)?.export(), stored);
    for len in 0..stored.len() {
        assert!(Opener::import(&stored[..len]).is_err(), "cut to {len}");
    }
    assert!(Opener::import(&[&stored[..], &[0]].concat()).is_err());
    Ok(())
}

#[test]
fn a_copy_is_opened_although_it_was_seen_and_is_held_to_everything_else() -> Outcome {
    let world = World::signed()?;
    let (mut sender, keys) = (world.device(0, 1)?, world.device(1, 1)?);
    let mut sealer = world.sealer(&mut sender, 0)?;
    let mut opener = Opener::new();
    let frame = sealer.seal(NOW, TOPIC, &content(b"21"))?;
    deliver(&mut opener, &keys, &frame, &LIVE)?;
    assert!(is_replay(&opener.open(&keys, TOPIC, &frame, &LIVE, NOW)));
    let Opened::Message(copy) = opener.open_copy(&keys, TOPIC, &frame, &QOS1, NOW)? else {
        return Err("no message".into());
    };
    opener.mark_delivered(&copy.receipt());
    assert!(is_replay(&opener.open(&keys, TOPIC, &frame, &LIVE, NOW)), "nothing is forgotten");

    assert!(opener.open_copy(&keys, "plant/other", &frame, &LIVE, NOW).is_err());
    let late = opener.open_copy(&keys, TOPIC, &frame, &LIVE, NOW + 1_000_000_000);
    assert!(matches!(late, Err(OpenError::TooOld { .. })), "{late:?}");
    let not_retained = opener.open_copy(&keys, TOPIC, &frame, &RETAINED, NOW);
    assert!(matches!(not_retained, Err(OpenError::NotRetained { .. })), "{not_retained:?}");
    Ok(())
}
