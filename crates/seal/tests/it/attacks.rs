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
    let (mut sealer, keys) = World::signed()?.pair()?;
    let frame = sealer.seal(NOW, TOPIC, &content(b"21.5"))?;
    let moved = Opener::new().open(&keys, "hsu/0001/setpoint", &frame, &LIVE, NOW);
    assert!(matches!(moved, Err(OpenError::Undecryptable { .. })));
    let other = GroupKeys::new(GroupNumber(2), "hsu0002", device(1)?, 0);
    let moved = Opener::new().open(&other, "hsu/0002/a", &frame, &LIVE, NOW);
    assert!(matches!(moved, Err(OpenError::WrongGroup { found: GROUP, .. })));
    Ok(())
}

#[test]
fn another_epochs_secret_does_not_open() -> Outcome {
    let world = World::signed()?;
    let (mut sealer, _) = world.pair()?;
    let frame = sealer.seal(NOW, TOPIC, &content(b"21.5"))?;
    // Same tag, another secret.
    let keys = world.device(1, 4097)?;
    assert!(matches!(Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW), Err(OpenError::Undecryptable { .. })));
    Ok(())
}

/// What the member on leaf 2 seals in the name of the one on leaf 0: it knows the group's secret, not the other's key.
fn forged(world: &World, authenticity: Authenticity) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut epoch = world.epoch(0, 0, 1)?;
    epoch.authenticity = authenticity;
    let victim = epoch.roster.get_mut(&leaf_at(0)?).ok_or("a victim")?;
    victim.key = *world.keys[2].public();
    let mut keys = GroupKeys::new(GROUP, "hsu0001", device(0)?, 0);
    keys.insert_epoch(epoch)?;
    let boot = keys.next_boot(Some(5))?.stored();
    Ok(keys.sealer(boot, &world.keys[2])?.seal(NOW, TOPIC, &content(b"99.9"))?)
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
    let mut keys = GroupKeys::new(GROUP, "hsu0001", device(1)?, 0);
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
