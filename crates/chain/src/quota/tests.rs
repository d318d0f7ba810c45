use sealcast_identity::SigningKey;
use sealcast_ledger::{Anchor, Commit, Epoch, Generation, LedgerId};

use super::*;

const LEDGER: LedgerId = LedgerId { chain_id: 7, address: [7; 20] };

fn device(number: u32) -> Number {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Number::from(bytes)
}

fn sign(body: &Body, originator: u32) -> SignedEntry {
    body.sign(&SigningKey::generate().unwrap(), device(originator), 0, &LEDGER).unwrap()
}

fn anchor(originator: u32) -> SignedEntry {
    sign(&Body::Anchor(Anchor { group: GroupNumber::new(1).unwrap(), root: [7; 32].into(), count: 1 }), originator)
}

fn commit(originator: u32, group: u16, bytes: usize) -> SignedEntry {
    let group = GroupNumber::new(group).unwrap();
    sign(
        &Body::Commit(Commit { group, generation: Generation(0), epoch: Epoch(0), commit: vec![7; bytes] }),
        originator,
    )
}

/// Takes an entry as often as there is room for it, and gives how often that was, and when to come again.
fn exhaust(quotas: &Quotas, entry: &SignedEntry, now_ms: u64) -> (u64, OverQuota) {
    for taken in 0.. {
        let checked = quotas.check(entry, now_ms);
        let outcome = quotas.take(entry, now_ms);
        assert_eq!(checked, outcome, "to ask costs nothing, and tells the truth");
        if let Err(over) = outcome {
            return (taken, over);
        }
    }
    unreachable!()
}

const WIDE: Quota = Quota { burst: 1 << 30, per_hour: 1 << 30 };

#[test]
fn a_burst_of_entries_then_two_a_second_for_each_device() {
    let quotas = Quotas::new(RelayLimits { device_bytes: WIDE, ..RelayLimits::default() });
    let entry = anchor(1);
    let (taken, over) = exhaust(&quotas, &entry, 1_000);
    assert_eq!((taken, over.wait_ms, over.bucket), (64, 500, Bucket::DeviceEntries(device(1))));
    assert_eq!(quotas.check(&entry, 1_499).unwrap_err().wait_ms, 1);
    assert_eq!(quotas.check(&anchor(2), 1_000), Ok(()), "each has its own");
    let taken = (1_000..11_000).filter(|now_ms| quotas.take(&entry, *now_ms).is_ok()).count();
    assert_eq!(taken, 19, "in just under ten seconds");
    assert_eq!(exhaust(&quotas, &entry, 100_000).0, 64);
    quotas.give_back(&entry);
    assert_eq!(exhaust(&quotas, &entry, 100_000).0, 1);
}

#[test]
fn bytes_are_bounded_for_each_device_and_the_refusal_says_which_limit_and_when_to_come_again() {
    let quotas = Quotas::new(RelayLimits::default());
    let entry = commit(1, 1, 97_000);
    let (taken, over) = exhaust(&quotas, &entry, 0);
    assert_eq!(taken, (2 << 20) / entry.encode().len() as u64);
    assert_eq!(quotas.take(&entry, over.wait_ms - 1).unwrap_err().wait_ms, 1);
    let said = over.to_string();
    let device = device(1);
    let wait_ms = over.wait_ms;
    assert!(said.starts_with(&format!("device {device} writes too much")), "{said}");
    assert!(
        said.contains("2097152 bytes at once, then 2097152 an hour (device_bytes in [relay] of hub.toml)"),
        "{said}"
    );
    assert!(said.ends_with(&format!("try again in {wait_ms} ms")), "{said}");
    assert_eq!(quotas.take(&entry, wait_ms), Ok(()));
}

#[test]
fn one_device_empties_no_more_than_half_of_what_a_group_has() {
    let few = RelayLimits {
        device_entries: WIDE,
        device_bytes: WIDE,
        group_commits: Quota { burst: 8, per_hour: 3_600 },
        group_bytes: WIDE,
    };
    let small = Quota { burst: 8 * commit(1, 1, 1_000).encode().len() as u64, per_hour: 3_600 };
    for limits in [few, RelayLimits { group_commits: WIDE, group_bytes: small, ..few }] {
        let quotas = Quotas::new(limits);
        let (hostile, honest, third) = (commit(1, 1, 1_000), commit(2, 1, 1_000), commit(3, 1, 1_000));
        let (taken, over) = exhaust(&quotas, &hostile, 0);
        assert!(
            matches!(over.bucket, Bucket::ShareOfCommits(_, who) | Bucket::ShareOfBytes(_, who) if who == device(1))
        );
        assert_eq!((taken, exhaust(&quotas, &honest, 0).0), (4, 4));
        let (taken, over) = exhaust(&quotas, &third, 0);
        assert_eq!(taken, 0);
        assert!(matches!(over.bucket, Bucket::GroupCommits(_) | Bucket::GroupBytes(_)), "{over}");
        assert_eq!(quotas.take(&commit(3, 2, 1_000), 0), Ok(()), "another group has its own");
        assert_eq!(quotas.take(&anchor(1), 0), Ok(()), "what is no commit is not the group's");
    }
}

#[test]
fn only_so_many_are_counted() {
    let quotas = Quotas::new(RelayLimits::default());
    for number in 0..MAX_COUNTED as u64 + 1_000 {
        let mut full_at_us = quotas.full_at_us();
        let bucket = Bucket::DeviceEntries(device(u32::try_from(number).unwrap()));
        make_room_for(&bucket, &mut full_at_us, 0);
        full_at_us.insert(bucket, 1_000_000 + number);
    }
    let full_at_us = quotas.full_at_us();
    assert_eq!(full_at_us.len(), MAX_COUNTED);
    assert!(!full_at_us.contains_key(&Bucket::DeviceEntries(device(0))), "the first to be full is forgotten");
}
