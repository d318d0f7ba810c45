//! What messages say of their senders' ledgers, and what their signatures say of theirs.

use std::collections::BTreeMap;

use sealcast_seal::{Authenticity, EpochId, GroupKeys, Ledger, Message, OpenError, Opener, Sealer};

use crate::world::*;

/// The heads of a ledger with so many entries.
fn heads(of: u8, entries: u64) -> BTreeMap<u64, [u8; 32]> {
    (0..=entries)
        .map(|height| (height, std::array::from_fn(|i| of ^ (height as u8).wrapping_mul(i as u8 + 1))))
        .collect()
}

fn sent(sealer: &mut Sealer, keys: &GroupKeys) -> Result<Message, Box<dyn std::error::Error>> {
    let frame = sealer.seal(NOW, TOPIC, &content(b"21.5"))?;
    message(Opener::new().open(keys, TOPIC, &frame, &LIVE, NOW))
}

#[test]
fn a_message_says_how_far_its_sender_has_read_the_ledger() -> Outcome {
    for authenticity in [Authenticity::Signature, Authenticity::Group] {
        let (mut sealer, keys) = World::new(authenticity)?.pair()?;
        assert_eq!(sent(&mut sealer, &keys)?.ledger(), None, "nothing was said yet");
        let heads = heads(1, BEGAN_AT + 300);
        for height in [BEGAN_AT, BEGAN_AT + 1, BEGAN_AT + 300] {
            sealer.follow_ledger(height, |at| heads.get(&at).copied());
            let report = sent(&mut sealer, &keys)?.ledger().ok_or("a report")?;
            assert_eq!(report.height(), height);
            assert!(report.agrees_with(&heads[&height]));
        }
    }
    Ok(())
}

#[test]
fn another_ledger_shows_within_a_few_messages_wherever_it_differs() -> Outcome {
    let (mut sealer, keys) = World::new(Authenticity::Group)?.pair()?;
    let head = [0x5A; 32];
    sealer.follow_ledger(BEGAN_AT + 7, |_| Some(head));
    let mut found = [false; 252];
    for _ in 0..21 {
        let report = sent(&mut sealer, &keys)?.ledger().ok_or("a report")?;
        for (bit, found) in found.iter_mut().enumerate() {
            let mut other = head;
            other[bit / 8] ^= 0x80 >> (bit % 8);
            *found |= !report.agrees_with(&other);
        }
    }
    assert_eq!(found, [true; 252]);
    Ok(())
}

#[test]
fn nothing_is_reported_that_is_not_known() -> Outcome {
    let (mut sealer, keys) = World::signed()?.pair()?;
    sealer.follow_ledger(BEGAN_AT - 1, |_| Some([1; 32]));
    assert_eq!(sent(&mut sealer, &keys)?.ledger(), None, "behind its own epoch");
    sealer.follow_ledger(BEGAN_AT + 1, |_| None);
    assert_eq!(sent(&mut sealer, &keys)?.ledger(), None, "the head is too long ago");
    // Far from the commit the height is rounded down, and it is the head at that height that counts.
    sealer.follow_ledger(BEGAN_AT + 1_000_003, |at| (at == BEGAN_AT + 999_424).then_some([2; 32]));
    let report = sent(&mut sealer, &keys)?.ledger().ok_or("a report")?;
    assert_eq!(report.height(), BEGAN_AT + 999_424);
    assert!(report.agrees_with(&[2; 32]) && !report.agrees_with(&[3; 32]));

    let world = World::signed()?;
    let (mut sealer, _) = world.pair()?;
    sealer.follow_ledger(BEGAN_AT, |_| Some([1; 32]));
    let mut epoch = world.epoch(1, 0, 1)?;
    epoch.began_at = None;
    let mut keys = GroupKeys::new(LEDGER, GROUP, "hsu0001", device(1)?, 0);
    keys.insert_epoch(epoch)?;
    assert_eq!(sent(&mut sealer, &keys)?.ledger(), None, "whoever does not know where the epoch began reads none");
    Ok(())
}

/// The same keys, group number and epoch on another chain or under another contract.
#[test]
fn a_signature_of_one_ledger_proves_nothing_on_another() -> Outcome {
    let world = World::signed()?;
    for ledger in [Ledger { chain_id: 1, ..LEDGER }, Ledger { contract: [8; 20], ..LEDGER }] {
        let mut keys = GroupKeys::new(ledger, GROUP, "hsu0001", device(0)?, 0);
        keys.insert_epoch(world.epoch(0, 0, 1)?)?;
        let mut sealer = keys.sealer(&world.keys[0])?;
        let alone = sealer.seal(NOW, TOPIC, &content(b"1"))?;
        let batch = sealer.seal_batch(NOW, &[(TOPIC, content(b"2")), (TOPIC, content(b"3"))]);
        let here = world.device(1, 1)?;
        for frame in [Ok(alone)].into_iter().chain(batch) {
            let opened = Opener::new().open(&here, TOPIC, &frame?, &LIVE, NOW);
            assert!(matches!(opened, Err(OpenError::BadSignature { .. })), "{opened:?}");
        }
        assert_eq!(keys.current(), Some(EpochId { generation: 0, epoch: 1 }));
    }
    Ok(())
}
