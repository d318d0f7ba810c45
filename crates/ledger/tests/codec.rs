//! Bodies, entries and records survive their encodings, and no bytes make a decoder panic.

use std::num::{NonZeroU32, NonZeroU128};

use proptest::prelude::*;
use sealcast_identity::SigningKey;
use sealcast_ledger::{
    Anchor, Authenticity, Body, Commit, DeviceRegistered, DeviceRevoked, Epoch, FaultReported, Generation, Granted,
    GroupCreated, GroupNumber, GroupReset, Hash, KeyRotated, KeysPublished, Kind, LedgerId, Limits, LimitsSet, Moved,
    Number, Policy, Reading, Record, Reporters, Revoked, SequenceRule, Serial, SignedEntry,
};

const ID: LedgerId = LedgerId { chain_id: u64::MAX, address: [7; 20] };

fn group() -> impl Strategy<Value = GroupNumber> {
    any::<u16>().prop_filter_map("groups count from 1", GroupNumber::new)
}

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash::from)
}

fn number() -> impl Strategy<Value = Number> {
    any::<[u8; 20]>().prop_map(Number::from)
}

fn parsed<T: std::str::FromStr + std::fmt::Debug>(pattern: &'static str) -> impl Strategy<Value = T> {
    pattern.prop_filter_map("must parse", |text| text.parse().ok())
}

fn policy() -> impl Strategy<Value = Policy> {
    (any::<[u32; 3]>(), any::<u16>(), any::<bool>()).prop_map(|([age, messages, ledger_age], retention, signed)| {
        Policy {
            epoch_max_age_s: NonZeroU32::new(age),
            epoch_max_messages: NonZeroU32::new(messages),
            retention,
            authenticity: if signed { Authenticity::Signature } else { Authenticity::Group },
            ledger_max_age_s: NonZeroU32::new(ledger_age),
        }
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let reporters = proptest::option::of(proptest::collection::vec(number(), 0..=64));
    let unit = parsed("[^\\p{Cc}]{0,8}");
    (any::<[i128; 2]>(), any::<u128>(), 0..=38_u8, unit, any::<bool>(), reporters).prop_map(
        |([a, b], step, decimals, unit, gapless, reporters)| Limits {
            min: a.min(b),
            max: a.max(b),
            max_step: NonZeroU128::new(step),
            decimals,
            unit,
            sequence: if gapless { SequenceRule::Gapless } else { SequenceRule::Increasing },
            reporters: reporters.map_or(Reporters::Granted, Reporters::Listed),
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let device = parsed("[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}");
    let serial = proptest::collection::vec(any::<u8>(), 1..=32).prop_filter_map("length", |s| Serial::new(&s).ok());
    let key = Just(()).prop_filter_map("a key", |()| SigningKey::generate().ok().map(|key| *key.public()));
    let filters = proptest::collection::vec(parsed("(/|[a-z€]{1,5}|\\+/){1,9}#?"), 1..=16);
    let reason = || parsed("[^\\p{Cc}]{0,60}");
    prop_oneof![
        (device, key, hash(), serial, any::<u64>()).prop_map(
            |(device, public_key, certificate, serial, not_after_s)| {
                let registered = DeviceRegistered { device, public_key, certificate, serial, not_after_s };
                Body::DeviceRegistered(registered)
            }
        ),
        (number(), reason()).prop_map(|(device, reason)| Body::DeviceRevoked(DeviceRevoked { device, reason })),
        (hash(), hash(), any::<bool>()).prop_map(|(key_package, certificate, rejoin)| {
            Body::KeysPublished(KeysPublished { key_package, certificate, rejoin })
        }),
        (parsed("[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}"), filters, policy())
            .prop_map(|(name, filters, policy)| Body::GroupCreated(GroupCreated { name, filters, policy })),
        (group(), number()).prop_map(|(group, device)| Body::Granted(Granted { group, device })),
        (group(), number(), reason()).prop_map(|(group, device, reason)| Body::Revoked(Revoked {
            group,
            device,
            reason
        })),
        (group(), any::<u32>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 1..2000)).prop_map(
            |(group, generation, epoch, commit)| {
                let (generation, epoch) = (Generation(generation), Epoch(epoch));
                Body::Commit(Commit { group, generation, epoch, commit })
            }
        ),
        (group(), parsed("[a-z/ü€]{1,40}"), any::<u64>(), any::<u64>(), any::<i128>(), 0..=38_u8).prop_map(
            |(group, topic, time_ms, sequence, value, decimals)| {
                Body::Reading(Reading { group, topic, time_ms, sequence, value, decimals })
            }
        ),
        (group(), hash(), 1..=u32::MAX).prop_map(|(group, root, count)| Body::Anchor(Anchor { group, root, count })),
        (group(), any::<u32>(), any::<u64>(), any::<bool>()).prop_map(|(group, generation, epoch, kept_out)| {
            let (generation, epoch) = (Generation(generation), Epoch(epoch));
            Body::FaultReported(FaultReported { group, generation, epoch, kept_out })
        }),
        (group(), reason()).prop_map(|(group, reason)| Body::GroupReset(GroupReset { group, reason })),
        number().prop_filter_map("a key", |whose| {
            let key = SigningKey::generate().ok()?;
            KeyRotated::to(&key, whose, &ID).ok().map(Body::KeyRotated)
        }),
        (any::<u64>(), any::<[u8; 20]>())
            .prop_map(|(chain_id, address)| Body::Moved(Moved { to: LedgerId { chain_id, address } })),
        (group(), parsed("[a-z/ü€]{1,40}"), limits()).prop_map(|(group, topic, limits)| Body::LimitsSet(LimitsSet {
            group,
            topic,
            limits
        })),
    ]
}

proptest! {
    #[test]
    fn entries_and_records_round_trip(body in body(), originator in number(), nonce: u64, index: u64, time_s: u64) {
        let key = SigningKey::generate().map_err(|e| TestCaseError::fail(e.to_string()))?;
        let entry = body.sign(&key, originator, nonce, &ID).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(Body::decode(body.kind(), entry.encoded_body()), Ok(body));
        prop_assert!(entry.is_signed_by(key.public(), &ID));
        let head = Record::next_head(&Hash::of(b""), index, time_s, &entry, &ID);
        let record = Record { index, time_s, entry, head };
        prop_assert_eq!(Record::decode(&record.encode()), Ok(record.clone()));
        prop_assert_eq!(SignedEntry::decode(&record.entry.encode()), Ok(record.entry));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in 0..14_u8) {
        let _ = Record::decode(&bytes);
        let _ = SignedEntry::decode(&bytes);
        let _ = Record::decode(&[&[1][..], &bytes].concat());
        let _ = SignedEntry::decode(&[&[1, kind][..], &bytes].concat());
        if let Ok(kind) = Kind::try_from(kind) {
            // Offsets and lengths of ABI are whole words, mostly small.
            let words: Vec<u8> = bytes.iter().flat_map(|b| [[0; 31].as_slice(), &[*b]].concat()).collect();
            for bytes in [&bytes, &words] {
                if let Ok(body) = Body::decode(kind, bytes) {
                    prop_assert_eq!(body.encode(), Ok(bytes.clone()), "only the canonical form is read");
                }
            }
        }
    }
}
