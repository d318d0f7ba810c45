//! Several messages under one signature: each proves its sender by itself, and no more than that.

use proptest::prelude::*;
use sealcast_seal::{Authenticity, Content, Header, MAX_BATCH, MAX_OVERHEAD_BATCH, OpenError, Opened, Opener, Sealer};

use crate::world::*;

type Frames = Vec<(String, Vec<u8>, Vec<u8>)>;

/// Seals so many messages together, each on a topic of its own. Gives topic, payload and frame.
fn batch(sealer: &mut Sealer, count: usize) -> Result<Frames, Box<dyn std::error::Error>> {
    let messages: Vec<_> = (0..count).map(|i| (format!("{TOPIC}/{i}"), format!("{i} degrees"))).collect();
    let contents: Vec<_> =
        messages.iter().map(|(topic, payload)| (topic.as_str(), content(payload.as_bytes()))).collect();
    let frames = sealer.seal_batch(NOW, &contents).into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(messages.into_iter().zip(frames).map(|((topic, payload), frame)| (topic, payload.into_bytes(), frame)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// In any order, with any of the others lost.
    #[test]
    fn each_message_opens_by_itself(count in 1..140usize, order in proptest::collection::vec(any::<prop::sample::Index>(), 1..40)) {
        let fail = |e: Box<dyn std::error::Error>| TestCaseError::fail(e.to_string());
        let (mut sealer, keys) = World::signed().and_then(|world| world.pair()).map_err(fail)?;
        let frames = batch(&mut sealer, count).map_err(fail)?;
        prop_assert_eq!(frames.len(), count);
        let mut opener = Opener::new();
        for index in order {
            let (topic, payload, frame) = &frames[index.index(count)];
            let opened = message(opener.open(&keys, topic, frame, &LIVE, NOW)).map_err(fail)?;
            prop_assert_eq!(opened.payload(), payload.as_slice());
            prop_assert!(opened.is_signed() && *opened.sender() == device(0).map_err(fail)?);
        }
    }
}

/// One whose KID has its full length: that of a start with leading zeros is shorter.
fn sealer_of_long_headers(authenticity: Authenticity) -> Result<Sealer, Box<dyn std::error::Error>> {
    loop {
        let (mut sealer, _) = World::new(authenticity)?.pair()?;
        let frame = sealer.seal(NOW, TOPIC, &content(&[]))?;
        if Header::parse(&frame)?.key_id.bits() >> 40 != 0 {
            return Ok(sealer);
        }
    }
}

#[test]
fn one_that_is_alone_costs_no_more_than_without_a_batch() -> Outcome {
    let mut sealer = sealer_of_long_headers(Authenticity::Signature)?;
    let alone = sealer.seal(NOW, TOPIC, &content(&[0; 100]))?.len();
    let batch_of = |sealer: &mut Sealer, count: usize| -> Result<Vec<usize>, Box<dyn std::error::Error>> {
        let frames = sealer.seal_batch(NOW, &vec![(TOPIC, content(&[0; 100])); count]);
        Ok(frames.into_iter().map(|frame| frame.map(|frame| frame.len())).collect::<Result<_, _>>()?)
    };
    assert_eq!(batch_of(&mut sealer, 1)?, [alone]);
    assert_eq!(batch_of(&mut sealer, 2)?, [alone + 34; 2]);
    let full = batch_of(&mut sealer, MAX_BATCH)?;
    assert_eq!((full[0], full[0] - 100), (alone + 7 * 32 + 2, MAX_OVERHEAD_BATCH));
    // The 65th has a signature of its own.
    assert_eq!(batch_of(&mut sealer, MAX_BATCH + 1)?.last(), Some(&alone));
    assert!(batch_of(&mut sealer, 0)?.is_empty());
    // Nor is there anything to share where nothing is signed.
    let mut sealer = sealer_of_long_headers(Authenticity::Group)?;
    assert_eq!(batch_of(&mut sealer, 3)?, [alone - 64; 3]);
    Ok(())
}

#[test]
fn a_message_that_cannot_be_sealed_does_not_hold_up_the_others() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    for topics in [["", TOPIC, TOPIC], ["", TOPIC, ""]] {
        let messages = topics.map(|topic| (topic, content(b"1")));
        let frames = sealer.seal_batch(NOW, &messages);
        for (topic, frame) in topics.iter().zip(frames) {
            match frame {
                Ok(frame) => drop(message(Opener::new().open(&keys, topic, &frame, &LIVE, NOW))?),
                Err(error) => assert!(topic.is_empty(), "{error}"),
            }
        }
    }
    Ok(())
}

#[test]
fn a_replayed_or_moved_message_of_a_batch_is_refused() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let frames = batch(&mut sealer, 5)?;
    let mut opener = Opener::new();
    for (topic, _, frame) in &frames {
        let moved = opener.open(&keys, &frames[(frames.len() - 1) / 2].0, frame, &LIVE, NOW);
        if *topic != frames[2].0 {
            assert!(matches!(moved, Err(OpenError::Undecryptable { .. })));
        }
        let message = message(opener.open(&keys, topic, frame, &LIVE, NOW))?;
        opener.mark_delivered(&message.receipt());
        assert!(matches!(opener.open(&keys, topic, frame, &LIVE, NOW), Err(OpenError::Replay { .. })));
    }
    Ok(())
}

#[test]
fn every_single_bit_flip_of_a_batched_frame_is_refused() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let frames = batch(&mut sealer, 3)?;
    for (topic, _, frame) in &frames[1..] {
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Opener::new().open(&keys, topic, &flipped, &LIVE, NOW).is_err(), "bit {bit}");
        }
    }
    Ok(())
}

/// A group's key does not let a member put a message of its own into another's batch.
#[test]
fn a_member_cannot_add_to_anothers_batch() -> Outcome {
    let world = World::signed()?;
    let keys = world.device(1, 1)?;
    let mut thief = world.impostor(0, 2)?;
    let forged = batch(&mut thief, 4)?;
    for (topic, _, frame) in &forged {
        let opened = Opener::new().open(&keys, topic, frame, &LIVE, NOW);
        assert!(matches!(opened, Err(OpenError::BadSignature { sender, .. }) if sender == device(0)?));
    }
    Ok(())
}

#[test]
fn a_tombstone_comes_in_a_batch_too() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    let tombstone = Content { purpose: sealcast_seal::Purpose::Tombstone, ..qos1(b"") };
    let frames = sealer.seal_batch(NOW, &[(TOPIC, qos1(b"1")), (TOPIC, tombstone)]);
    let frame = frames.into_iter().last().ok_or("two frames")??;
    let Opened::Tombstone(message) = Opener::new().open(&keys, TOPIC, &frame, &QOS1, NOW)? else {
        return Err("no tombstone".into());
    };
    assert_eq!((message.sender(), message.payload()), (&device(0)?, &[][..]));
    Ok(())
}
