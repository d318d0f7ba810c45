//! What a broker, a removed member and a member may try.

use sealcast_identity::DeviceId;
use sealcast_seal::{Authenticity, EpochId, GroupKeys, GroupNumber, OpenError, Opener};

use crate::world::*;

#[test]
fn every_single_bit_flip_is_refused() -> Outcome {
    for authenticity in [Authenticity::Signature, Authenticity::Group] {
        let (mut sealer, keys) = World::new(authenticity)?.pair()?;
        for _ in 0..9 {
            sealer.seal(NOW, TOPIC, &content(b"21.5"))?;
        }
        let frame = sealer.seal(NOW, TOPIC, &content(b"21.5"))?;
        message(Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW))?;
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened = Opener::new().open(&keys, TOPIC, &flipped, &LIVE, NOW);
            assert!(opened.is_err(), "bit {bit} flipped, and it opened");
        }
        for len in 0..frame.len() {
            assert!(Opener::new().open(&keys, TOPIC, &frame[..len], &LIVE, NOW).is_err(), "cut to {len}");
        }
    }
    Ok(())
}

#[test]
fn a_frame_opens_on_its_topic_alone() -> Outcome {
    let world = World::signed()?;
    let (mut sealer, keys) = world.pair()?;
    let frame = sealer.seal(NOW, TOPIC, &content(b"21.5"))?;
    let moved = Opener::new().open(&keys, "hsu/0001/setpoint", &frame, &LIVE, NOW);
    assert!(matches!(moved, Err(OpenError::Undecryptable { .. })));
    // Nor is it of another group, were even the keys the same.
    let mut other = GroupKeys::new(LEDGER, GroupNumber(2), "hsu0002", device(1)?, 0);
    other.insert_epoch(world.epoch(1, 0, 1)?)?;
    let moved = Opener::new().open(&other, TOPIC, &frame, &LIVE, NOW);
    assert!(matches!(moved, Err(OpenError::Undecryptable { .. })));
    Ok(())
}

#[test]
fn another_epochs_secret_does_not_open() -> Outcome {
    let world = World::signed()?;
    let (mut sealer, _) = world.pair()?;
    let frame = sealer.seal(NOW, TOPIC, &content(b"21.5"))?;
    // Same tag, another secret.
    let keys = world.device(1, 1025)?;
    assert!(matches!(Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW), Err(OpenError::Undecryptable { .. })));
    Ok(())
}

/// What the member on leaf 2 seals in the name of the one on leaf 0.
fn forged(world: &World, authenticity: Authenticity) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let world = World { keys: world.keys.clone(), authenticity, retention: 0 };
    Ok(world.impostor(0, 2)?.seal(NOW, TOPIC, &content(b"99.9"))?)
}

#[test]
fn a_member_cannot_write_in_anothers_name_where_messages_are_signed() -> Outcome {
    let world = World::signed()?;
    let keys = world.device(1, 1)?;
    let opened = Opener::new().open(&keys, TOPIC, &forged(&world, Authenticity::Signature)?, &LIVE, NOW);
    assert!(matches!(opened, Err(OpenError::BadSignature { sender, .. }) if sender == device(0)?));
    // Nor by leaving the signature away.
    let opened = Opener::new().open(&keys, TOPIC, &forged(&world, Authenticity::Group)?, &LIVE, NOW);
    assert!(matches!(opened, Err(OpenError::Unsigned { .. })));
    Ok(())
}

/// What `authenticity = "group"` gives up, so that nobody takes it for more.
#[test]
fn a_member_can_write_in_anothers_name_where_they_are_not() -> Outcome {
    let world = World::new(Authenticity::Group)?;
    let keys = world.device(1, 1)?;
    let opened = message(Opener::new().open(&keys, TOPIC, &forged(&world, Authenticity::Group)?, &LIVE, NOW))?;
    assert_eq!((opened.sender(), opened.is_signed()), (&device(0)?, false));
    Ok(())
}

#[test]
fn who_is_not_on_the_roster_is_refused() -> Outcome {
    let world = World::signed()?;
    let (mut sealer, _) = world.pair()?;
    let frame = sealer.seal(NOW, TOPIC, &content(b"21.5"))?;
    let mut epoch = world.epoch(1, 0, 1)?;
    epoch.roster.remove(&leaf_at(0)?);
    let mut keys = GroupKeys::new(LEDGER, GROUP, "hsu0001", device(1)?, 0);
    keys.insert_epoch(epoch)?;
    let opened = Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW);
    assert!(matches!(opened, Err(OpenError::UnknownSender { leaf, .. }) if leaf == leaf_at(0)?));
    Ok(())
}

#[test]
fn a_removed_member_is_refused_under_the_old_epochs_too() -> Outcome {
    let world = World::signed()?;
    let (mut sealer, mut keys) = world.pair()?;
    let before = sealer.seal(NOW, TOPIC, &content(b"1"))?;
    let removed: DeviceId = device(0)?;
    deliver(&mut Opener::new(), &keys, &before, &LIVE)?;
    keys.forget_member(&removed, EpochId { generation: 0, epoch: 1 });
    keys.insert_epoch(world.epoch(1, 0, 2)?)?;
    let after = sealer.seal(NOW, TOPIC, &content(b"2"))?;
    for frame in [before, after] {
        let opened = Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW);
        assert!(matches!(opened, Err(OpenError::Removed { sender, .. }) if sender == removed));
    }
    // Granted again, it is taken again from the next epoch on.
    let mut back = world.device(0, 2)?;
    let frame = world.sealer(&mut back, 0)?.seal(NOW, TOPIC, &content(b"3"))?;
    deliver(&mut Opener::new(), &keys, &frame, &LIVE)?;
    Ok(())
}

#[test]
fn an_old_epoch_is_closed_to_new_messages_after_its_grace() -> Outcome {
    let (world, grace_ms) = (World::signed()?, 32_000);
    let (mut sealer, mut keys) = world.pair()?;
    keys.insert_epoch(world.epoch(1, 0, 2)?)?;
    for (late_ms, opens) in [(0, true), (grace_ms, true), (grace_ms + 1, false)] {
        let frame = sealer.seal(NOW + late_ms, TOPIC, &content(b"1"))?;
        let opened = Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW + late_ms);
        assert_eq!(opened.is_ok(), opens, "{late_ms} ms late: {opened:?}");
    }
    Ok(())
}

/// Whoever knows the group's key may send as many starts as it likes, in its own name or, where nothing is signed, in
/// another's: nothing grows by it, and nothing passes twice.
#[test]
fn invented_starts_fill_nothing_and_let_nothing_pass_twice() -> Outcome {
    for authenticity in [Authenticity::Signature, Authenticity::Group] {
        let world = World::new(authenticity)?;
        let (mut sealer, keys) = world.pair()?;
        let mut opener = Opener::new();
        let first = sealer.seal(NOW, TOPIC, &content(b"1"))?;
        deliver(&mut opener, &keys, &first, &LIVE)?;
        let (mut sizes, mut invented) = (Vec::new(), world.device(0, 1)?);
        for i in 0..100 {
            let frame = world.sealer(&mut invented, 0)?.seal(NOW + i, TOPIC, &content(b"x"))?;
            let message = message(opener.open(&keys, TOPIC, &frame, &LIVE, NOW + i))?;
            opener.mark_delivered(&message.receipt());
            assert!(opener.open(&keys, TOPIC, &frame, &LIVE, NOW + i).is_err(), "twice");
            sizes.push(opener.export().len());
        }
        assert_eq!(sizes[20..].iter().min(), sizes[20..].iter().max());
        assert!(matches!(opener.open(&keys, TOPIC, &first, &LIVE, NOW), Err(OpenError::Replay { .. })));
        deliver(&mut opener, &keys, &sealer.seal(NOW + 200, TOPIC, &content(b"2"))?, &LIVE)?;
    }
    Ok(())
}
