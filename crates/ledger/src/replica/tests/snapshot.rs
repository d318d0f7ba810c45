//! What a replica keeps is what it was, and bytes that are not a replica's are no replica.

use super::*;
use crate::replica::HEADS_KEPT;

fn check_same(replica: &Replica) -> Vec<u8> {
    let bytes = replica.snapshot();
    let restored = Replica::from_snapshot(*replica.genesis(), &bytes).unwrap();
    assert_eq!(format!("{restored:?}"), format!("{replica:?}"));
    assert_eq!(restored.snapshot(), bytes);
    bytes
}

/// With all kinds of entries, taken by a busy ledger.
fn busy(seed: u64, steps: u64) -> MemoryLedger {
    let mut workload = Workload::new(Cast::new(ID, 4).unwrap(), seed);
    let mut ledger = MemoryLedger::new(workload.cast.genesis);
    for step in 0..steps {
        let entry = workload.entry(ledger.replica()).unwrap();
        // Many break a rule.
        let _ = ledger.submit(&entry, step);
    }
    ledger
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// And it goes on as the one that it was made from.
    #[test]
    fn is_the_replica_that_it_was_made_from(seed: u64, at in 0_usize..100) {
        let ledger = busy(seed, 300);
        let mut replica = Replica::new(*ledger.replica().genesis());
        let (before, after) = ledger.records().split_at(at.min(ledger.records().len()));
        before.iter().for_each(|record| drop(replica.apply_without_signature_check(record).unwrap()));
        let bytes = check_same(&replica);
        let mut restored = Replica::from_snapshot(*replica.genesis(), &bytes).unwrap();
        after.iter().for_each(|record| drop(restored.apply(record).unwrap()));
        prop_assert_eq!(format!("{restored:?}"), format!("{:?}", ledger.replica()));
        check_same(&restored);
    }
}

/// The next entry is for where the ledger is, and not for where it began.
#[test]
fn knows_where_the_ledger_is() {
    let mut scene = Scene::with_group();
    let to = LedgerId { chain_id: 1, address: [9; 20] };
    scene.say(ID.operator(), &Body::Moved(Moved { to })).unwrap();
    let bytes = check_same(scene.ledger.replica());
    let restored = Replica::from_snapshot(scene.cast.genesis, &bytes).unwrap();
    assert_eq!(*restored.current_id(), to);
    let body = Body::GroupReset(GroupReset { group: group(1), reason: Reason::default() });
    let next = scene.cast.sign(&restored, ID.operator(), &body).unwrap();
    assert_eq!(scene.replica().check(&next), Ok(()));
}

/// Heads and summaries are bounded, and stay the newest.
#[test]
fn keeps_what_the_bounds_keep() {
    let mut scene = Scene::with_group();
    let by = scene.cast.number(0);
    for nonce in 0..HEADS_KEPT as u64 + 100 {
        let group = GroupNumber::new(1).unwrap();
        let body = match nonce % 3 {
            0 => Body::Anchor(Anchor { group, root: Hash::of(&nonce.to_be_bytes()), count: 1 }),
            _ => Body::GroupReset(GroupReset { group, reason: Reason::default() }),
        };
        let by = if nonce % 3 == 0 { by } else { ID.operator() };
        scene.say(by, &body).unwrap();
    }
    check_same(scene.ledger.replica());
}

/// A certificate that two devices had is of the one that was registered with it last.
#[test]
fn knows_whose_a_certificate_is() {
    for order in [[0, 1, 0], [1, 0, 1], [0, 0, 1]] {
        let mut scene = Scene::new();
        for device in order {
            scene.register(device, b"the same").unwrap();
        }
        check_same(scene.ledger.replica());
    }
}

#[test]
fn bytes_that_are_not_a_replicas_are_refused() {
    let ledger = busy(7, 120);
    let (replica, genesis) = (ledger.replica(), *ledger.replica().genesis());
    let bytes = check_same(replica);
    let read = |bytes: &[u8]| Replica::from_snapshot(genesis, bytes).map(drop);
    for at in (0..bytes.len()).step_by(7) {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(read(&other).is_err(), "bit at {at}");
        assert!(read(&bytes[..at]).is_err(), "cut at {at}");
    }
    let mut newer = bytes.clone();
    newer[0] += 1;
    assert_eq!(read(&newer), Err(SnapshotError::Version { got: newer[0] }));
    assert_eq!(read(&[]), Err(SnapshotError::Damaged));
    let elsewhere = Genesis { operator: *SigningKey::generate().unwrap().public(), ..genesis };
    assert_eq!(Replica::from_snapshot(elsewhere, &bytes).map(drop), Err(SnapshotError::OtherLedger));

    // With a digest that fits, as no disk makes them: an error or another replica, and never a panic.
    let content = &bytes[..bytes.len() - 32];
    let sealed = |content: &[u8]| [content, Hash::of(content).as_ref()].concat();
    let mut refused = 0;
    for at in (0..content.len()).step_by(3) {
        assert!(read(&sealed(&content[..at])).is_err(), "cut at {at}");
        for change in [0x01, 0x80, 0xff] {
            let mut other = content.to_vec();
            other[at] ^= change;
            refused += usize::from(read(&sealed(&other)).is_err());
        }
    }
    assert!(refused > 100, "{refused}");
    assert!(read(&sealed(&[content, &[0]].concat())).is_err());
}
