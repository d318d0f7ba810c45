//! The rules one by one, against a model at random, and against records that were tampered with.

mod faults;
mod moved;
mod past;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sealcast_identity::{PublicKey, SigningKey};

use crate::{testing::*, *};

const ID: LedgerId = LedgerId { chain_id: 5318, address: [0x5a; 20] };

/// A ledger, its cast, and short names for what tests do with them.
struct Scene {
    ledger: MemoryLedger,
    cast: Cast,
}

impl Scene {
    /// Three devices, of which the first two are registered.
    fn new() -> Self {
        let cast = Cast::new(ID, 3).unwrap();
        let mut scene = Self { ledger: MemoryLedger::new(cast.genesis), cast };
        for device in 0..2 {
            scene.register(device, b"certificate").unwrap();
        }
        scene
    }

    /// With group 1 (`plant/#`) by the operator and device 0 granted.
    fn with_group() -> Self {
        let mut scene = Self::new();
        scene.create(ID.operator(), "plant", &["plant/#"]).unwrap();
        scene.grant(ID.operator(), 1, 0).unwrap();
        scene
    }

    fn say(&mut self, who: Number, body: &Body) -> Result<Event, Refusal> {
        let mut before = self.ledger.replica().clone();
        let entry = self.cast.sign(&before, who, body).map_err(|e| match e {
            SignError::Refused(refusal) => refusal,
            SignError::Key(e) => panic!("{e}"),
        })?;
        let record = self.ledger.submit(&entry, 1_700_000_000)?;
        Ok(before.apply(&record).unwrap())
    }

    fn register(&mut self, device: usize, certificate: &[u8]) -> Result<Event, Refusal> {
        let body = self.cast.registration(device, Hash::of(certificate));
        self.say(ID.ca(), &body)
    }

    fn revoke_device(&mut self, by: Number, device: usize) -> Result<Event, Refusal> {
        let device = self.cast.number(device);
        self.say(by, &Body::DeviceRevoked(DeviceRevoked { device, reason: "lost".parse().unwrap() }))
    }

    fn publish(&mut self, device: usize, keys: &[u8], certificate: &[u8]) -> Result<Event, Refusal> {
        self.publish_keys(device, keys, certificate, false)
    }

    fn publish_to_rejoin(&mut self, device: usize, keys: &[u8], certificate: &[u8]) -> Result<Event, Refusal> {
        self.publish_keys(device, keys, certificate, true)
    }

    fn publish_keys(&mut self, device: usize, keys: &[u8], cert: &[u8], rejoin: bool) -> Result<Event, Refusal> {
        let (key_package, certificate) = (Hash::of(keys), Hash::of(cert));
        let body = Body::KeysPublished(KeysPublished { key_package, certificate, rejoin });
        self.say(self.cast.number(device), &body)
    }

    fn create(&mut self, by: Number, name: &str, filters: &[&str]) -> Result<Event, Refusal> {
        let filters = filters.iter().map(|filter| filter.parse().unwrap()).collect();
        self.say(by, &Body::GroupCreated(GroupCreated { name: name.parse().unwrap(), filters, policy: policy() }))
    }

    fn grant(&mut self, by: Number, in_group: u16, device: usize) -> Result<Event, Refusal> {
        let device = self.cast.number(device);
        self.say(by, &Body::Granted(Granted { group: group(in_group), device }))
    }

    fn revoke(&mut self, by: Number, in_group: u16, device: usize) -> Result<Event, Refusal> {
        let device = self.cast.number(device);
        self.say(by, &Body::Revoked(Revoked { group: group(in_group), device, reason: Reason::default() }))
    }

    fn commit(&mut self, device: usize, in_group: u16, generation: u32, epoch: u64) -> Result<Event, Refusal> {
        let (generation, epoch) = (Generation(generation), Epoch(epoch));
        let body = Body::Commit(Commit { group: group(in_group), generation, epoch, commit: vec![1, 2, 3] });
        self.say(self.cast.number(device), &body)
    }

    fn reset(&mut self, by: Number, of: u16) -> Result<Event, Refusal> {
        self.say(by, &Body::GroupReset(GroupReset { group: group(of), reason: Reason::default() }))
    }

    fn anchor(&mut self, by: Number) -> Result<Event, Refusal> {
        self.say(by, &Body::Anchor(Anchor { group: group(1), root: Hash::of(b"root"), count: 1 }))
    }

    fn limit(&mut self, by: Number, topic: &str, limits: Limits) -> Result<Event, Refusal> {
        self.say(by, &Body::LimitsSet(LimitsSet { group: group(1), topic: topic.parse().unwrap(), limits }))
    }

    /// What the ledger says of a reading of `plant/temp`.
    fn read(&mut self, device: usize, sequence: u64, value: i128, decimals: u8) -> Result<LimitVerdict, Refusal> {
        self.read_topic(device, "plant/temp", sequence, value, decimals)
    }

    fn read_topic(
        &mut self,
        device: usize,
        topic: &str,
        sequence: u64,
        value: i128,
        decimals: u8,
    ) -> Result<LimitVerdict, Refusal> {
        let topic = topic.parse().unwrap();
        let body = Body::Reading(Reading { group: group(1), topic, time_ms: 1, sequence, value, decimals });
        match self.say(self.cast.number(device), &body)? {
            Event::Reading { verdict, .. } => Ok(verdict),
            other => panic!("{other:?}"),
        }
    }

    fn replica(&self) -> &Replica {
        self.ledger.replica()
    }

    fn device(&self, at: usize) -> Number {
        self.cast.number(at)
    }
}

fn group(number: u16) -> GroupNumber {
    GroupNumber::new(number).unwrap()
}

fn policy() -> Policy {
    Policy {
        epoch_max_age_s: None,
        epoch_max_messages: None,
        retention: 3,
        authenticity: Authenticity::Signature,
        ledger_max_age_s: None,
    }
}

fn denied(kind: Kind, originator: Number) -> Result<Event, Refusal> {
    Err(Refusal::NotAuthorized { kind: kind.number(), originator })
}

#[test]
fn only_the_ca_registers_and_only_ca_and_operator_revoke() {
    let mut scene = Scene::new();
    let (device, other) = (scene.device(0), scene.device(1));
    let body = scene.cast.registration(2, Hash::of(b"c"));
    for by in [ID.operator(), device] {
        assert_eq!(scene.say(by, &body), denied(Kind::DeviceRegistered, by));
    }
    assert_eq!(scene.revoke_device(other, 0), denied(Kind::DeviceRevoked, other));
    assert_eq!(scene.revoke_device(ID.ca(), 2), Err(Refusal::UnknownDevice { device: scene.device(2) }));
    scene.revoke_device(ID.operator(), 0).unwrap();
    assert_eq!(scene.revoke_device(ID.ca(), 0), Err(Refusal::AlreadyRevoked { device }));
    assert_eq!(scene.publish(0, b"k", b"certificate"), Err(Refusal::NotActive { device }));
    assert_eq!(scene.replica().key_of(device), None);
    assert!(matches!(scene.register(0, b"new"), Ok(Event::DeviceRegistered { former: Former::SameKey, .. })));
    scene.publish(0, b"k", b"new").unwrap();
}

#[test]
fn a_renewal_keeps_the_grants_and_another_key_voids_them() {
    let mut scene = Scene::with_group();
    scene.create(ID.operator(), "mill", &["mill/#"]).unwrap();
    scene.grant(ID.operator(), 2, 0).unwrap();
    scene.grant(ID.operator(), 1, 1).unwrap();
    let device = scene.device(0);
    scene.publish(0, b"k", b"certificate").unwrap();
    scene.register(0, b"renewed").unwrap();
    assert!([1, 2].iter().all(|number| scene.replica().is_granted(group(*number), device)));
    // The CA puts a key of its own under the granted name, even for the same certificate.
    let old = scene.cast.keys.insert(device, SigningKey::generate().unwrap()).unwrap();
    scene.register(0, b"renewed").unwrap();
    assert!([1, 2].iter().all(|number| !scene.replica().is_granted(group(*number), device)));
    assert!(scene.replica().is_granted(group(1), scene.device(1)), "others keep theirs");
    assert_eq!(scene.commit(0, 1, 0, 0), Err(Refusal::NotGranted { group: 1, device }));
    assert_eq!(scene.replica().latest_keys(device), None);
    // Nor does the old key bring them back.
    scene.cast.keys.insert(device, old);
    scene.register(0, b"certificate").unwrap();
    assert!(!scene.replica().is_granted(group(1), device));
    scene.grant(ID.operator(), 1, 0).unwrap();
    scene.commit(0, 1, 0, 0).unwrap();
}

#[test]
fn a_renewed_key_is_the_only_one_that_signs() {
    let mut scene = Scene::with_group();
    let device = scene.device(0);
    let new = SigningKey::generate().unwrap();
    let old = scene.cast.keys.insert(device, new).unwrap();
    scene.register(0, b"renewed").unwrap();
    let body = Body::Anchor(Anchor { group: group(1), root: Hash::of(b""), count: 1 });
    let entry = body.sign(&old, device, scene.replica().next_nonce(device), &ID).unwrap();
    assert_eq!(scene.ledger.submit(&entry, 0), Err(Refusal::BadSignature));
    scene.grant(ID.operator(), 1, 0).unwrap();
    scene.say(device, &body).unwrap();
}

#[test]
fn nonces_count_per_originator_and_signatures_bind_the_ledger() {
    let mut scene = Scene::new();
    let operator = ID.operator();
    let body = Body::DeviceRevoked(DeviceRevoked { device: scene.device(0), reason: Reason::default() });
    let key = &scene.cast.keys[&operator];
    let early = body.sign(key, operator, 1, &ID).unwrap();
    let elsewhere = body.sign(key, operator, 0, &LedgerId { chain_id: 1, ..ID }).unwrap();
    let good = body.sign(key, operator, 0, &ID).unwrap();
    assert_eq!(scene.ledger.submit(&early, 0), Err(Refusal::BadNonce { expected: 0, got: 1 }));
    assert_eq!(scene.ledger.submit(&elsewhere, 0), Err(Refusal::BadSignature));
    scene.ledger.submit(&good, 0).unwrap();
    assert_eq!(scene.ledger.submit(&good, 0), Err(Refusal::BadNonce { expected: 1, got: 0 }));
    assert_eq!(scene.replica().next_nonce(ID.ca()), 2);
}

#[test]
fn key_packages_are_published_once_and_for_the_registered_certificate() {
    let mut scene = Scene::new();
    let (expected, got) = (Hash::of(b"certificate"), Hash::of(b"other"));
    assert_eq!(scene.publish(0, b"k1", b"other"), Err(Refusal::WrongCertificate { expected, got }));
    let ca = ID.ca();
    let body = Body::KeysPublished(KeysPublished { key_package: got, certificate: got, rejoin: true });
    assert_eq!(scene.say(ca, &body), denied(Kind::KeysPublished, ca));

    scene.publish(0, b"k1", b"certificate").unwrap();
    let taken = Refusal::KeyPackageTaken { key_package: Hash::of(b"k1"), device: scene.device(0) };
    assert_eq!(scene.publish(0, b"k1", b"certificate"), Err(taken.clone()));
    assert_eq!(scene.publish(1, b"k1", b"certificate"), Err(taken));

    let state = |scene: &Scene, keys: &[u8]| scene.replica().key_package_state(&Hash::of(keys));
    assert_eq!(state(&scene, b"k1"), KeyPackageState::Current);
    assert_eq!(state(&scene, b"k2"), KeyPackageState::Unknown);
    scene.publish(0, b"k2", b"certificate").unwrap();
    assert_eq!(state(&scene, b"k1"), KeyPackageState::Superseded);
    assert_eq!(state(&scene, b"k2"), KeyPackageState::Current);
    assert_eq!(scene.replica().latest_keys(scene.device(0)).map(|keys| keys.at), Some(3));
    scene.register(0, b"renewed").unwrap();
    assert_eq!(state(&scene, b"k2"), KeyPackageState::Superseded, "it is for the certificate before");
    scene.revoke_device(ID.ca(), 0).unwrap();
    scene.register(0, b"certificate").unwrap();
    assert_eq!(state(&scene, b"k2"), KeyPackageState::Superseded, "it is from before the revocation");
    assert_eq!(scene.replica().latest_keys(scene.device(0)), None);
}

#[test]
fn groups_have_names_and_filters_of_their_own() {
    let mut scene = Scene::new();
    let (ca, device) = (ID.ca(), scene.device(0));
    assert_eq!(scene.create(ca, "g", &["a"]), denied(Kind::GroupCreated, ca));
    assert_eq!(scene.create(device, "g", &["a"]), denied(Kind::GroupCreated, device), "no device makes groups");
    scene.create(ID.operator(), "g", &["a", "b/#"]).unwrap();
    assert_eq!(scene.create(ID.operator(), "g", &["c"]), Err(Refusal::NameTaken { name: "g".into(), group: 1 }));
    let taken = |filter: &str, group| Err(Refusal::FilterTaken { filter: filter.into(), group });
    assert_eq!(scene.create(ID.operator(), "h", &["c", "b/#"]), taken("b/#", 1));
    assert_eq!(scene.create(ID.operator(), "h", &["c", "d", "c"]), taken("c", 2));
    let many: Vec<_> = (0..17).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for filters in [&[][..], &many] {
        let length = filters.len() as u64;
        let expected = Refusal::BadLength { field: "filters".into(), length, min: 1, max: 16 };
        assert_eq!(scene.create(ID.operator(), "h", filters), Err(expected));
    }
    scene.create(ID.operator(), "h", &many[..16]).unwrap();
    let second = scene.replica().group_by_name(&"h".parse().unwrap()).unwrap();
    assert_eq!((second.number, second.owner, second.epoch), (group(2), ID.operator(), Epoch(0)));
}

#[test]
fn the_operator_grants_and_revokes_and_nobody_else() {
    let mut scene = Scene::new();
    let (owner, member, other) = (ID.operator(), scene.device(0), scene.device(1));
    scene.create(owner, "g", &["g/#"]).unwrap();
    assert_eq!(scene.grant(owner, 2, 1), Err(Refusal::UnknownGroup { group: 2 }));
    scene.grant(owner, 1, 0).unwrap();
    for by in [member, other, ID.ca()] {
        assert_eq!(scene.grant(by, 1, 1), denied(Kind::Granted, by));
        assert_eq!(scene.revoke(by, 1, 1), denied(Kind::Revoked, by));
        assert_eq!(scene.reset(by, 1), denied(Kind::GroupReset, by));
        assert!(!scene.replica().may_administer(group(1), by));
    }
    assert!(scene.replica().may_administer(group(1), owner));
    assert_eq!(scene.grant(owner, 1, 2), Err(Refusal::UnknownDevice { device: scene.device(2) }));
    scene.grant(owner, 1, 1).unwrap();
    assert_eq!(scene.grant(ID.operator(), 1, 1), Err(Refusal::AlreadyGranted { group: 1, device: other }));
    scene.revoke(ID.operator(), 1, 1).unwrap();
    assert_eq!(scene.revoke(owner, 1, 1), Err(Refusal::NotGranted { group: 1, device: other }));
    scene.grant(ID.operator(), 1, 1).unwrap();
    scene.revoke_device(ID.ca(), 1).unwrap();
    assert_eq!(scene.grant(owner, 1, 1), Err(Refusal::NotActive { device: other }));
    assert_eq!(scene.revoke(owner, 1, 1), Err(Refusal::NotGranted { group: 1, device: other }));
    scene.register(1, b"again").unwrap();
    assert!(!scene.replica().is_granted(group(1), other), "registration gives no grant back");
    scene.grant(owner, 1, 1).unwrap();
    let granted: BTreeSet<_> = scene.replica().granted_devices(group(1)).map(|d| d.number).collect();
    assert_eq!(granted, BTreeSet::from([member, other]));
}

#[test]
fn the_first_commit_of_an_epoch_wins() {
    let mut scene = Scene::with_group();
    let wrong = |expected: (u32, u64), got: (u32, u64)| {
        Err(Refusal::WrongEpoch {
            expected_generation: expected.0,
            expected_epoch: expected.1,
            got_generation: got.0,
            got_epoch: got.1,
        })
    };
    assert_eq!(scene.commit(1, 1, 0, 0), Err(Refusal::NotGranted { group: 1, device: scene.device(1) }));
    assert_eq!(scene.anchor(ID.operator()), denied(Kind::Anchor, ID.operator()));
    scene.grant(ID.operator(), 1, 1).unwrap();
    scene.commit(0, 1, 0, 0).unwrap();
    assert_eq!(scene.commit(1, 1, 0, 0), wrong((0, 1), (0, 0)));
    assert_eq!(scene.commit(1, 1, 0, 2), wrong((0, 1), (0, 2)));
    scene.commit(1, 1, 0, 1).unwrap();
    let first = scene.replica().height() - 2;
    let commits = |scene: &Scene, from| scene.replica().commits_from(group(1), Epoch(from)).collect::<Vec<_>>();
    assert_eq!(commits(&scene, 0), [(Epoch(0), first), (Epoch(1), first + 1)]);
    assert_eq!(commits(&scene, 1), [(Epoch(1), first + 1)]);
    assert_eq!(commits(&scene, u64::MAX), []);
    scene.reset(ID.operator(), 1).unwrap();
    assert_eq!(commits(&scene, 0), []);
    assert_eq!(scene.commit(0, 1, 0, 2), wrong((1, 0), (0, 2)));
    scene.commit(0, 1, 1, 0).unwrap();
}

/// -10.0 to 100.0 Cel in steps of 5.0.
fn limits() -> Limits {
    Limits {
        min: -100,
        max: 1_000,
        max_step: std::num::NonZeroU128::new(50),
        decimals: 1,
        unit: "Cel".parse().unwrap(),
        sequence: SequenceRule::Increasing,
        reporters: Reporters::Granted,
    }
}

fn refused(breach: Breach) -> Result<LimitVerdict, Refusal> {
    Ok(LimitVerdict::Refused(breach))
}

#[test]
fn the_operator_sets_limits_for_the_groups_topics() {
    let mut scene = Scene::with_group();
    let operator = ID.operator();
    for by in [ID.ca(), scene.device(0)] {
        assert_eq!(scene.limit(by, "plant/temp", limits()), denied(Kind::LimitsSet, by));
    }
    for outside in ["mill/temp", "plants", "sealcast/x", "$SYS/x"] {
        let expected = Err(Refusal::TopicOutside { group: 1, topic: outside.into() });
        assert_eq!(scene.limit(operator, outside, limits()), expected);
    }
    let exchanged = Limits { min: 1, max: 0, ..limits() };
    assert_eq!(scene.limit(operator, "plant/temp", exchanged), Err(Refusal::BadRange { min: 1, max: 0 }));
    let unknown = scene.device(2);
    let stranger = Limits { reporters: Reporters::Listed(vec![unknown]), ..limits() };
    assert_eq!(scene.limit(operator, "plant/temp", stranger), Err(Refusal::UnknownDevice { device: unknown }));
    let many = Limits { reporters: Reporters::Listed(vec![unknown; 65]), ..limits() };
    assert!(matches!(scene.limit(operator, "plant/temp", many), Err(Refusal::BadLength { length: 65, .. })));
    let fine = Limits { decimals: 39, ..limits() };
    assert!(matches!(scene.limit(operator, "plant/temp", fine), Err(Refusal::BadValue { value: 39, .. })));

    let without = Refusal::NoLimits { group: 1, topic: "plant/temp".into() };
    assert_eq!(scene.read(0, 1, 0, 0), Err(without), "not written unverified");
    assert!(matches!(scene.limit(operator, "plant/temp", limits()), Ok(Event::LimitsSet { version: 1, .. })));
    assert!(matches!(scene.limit(operator, "plant", limits()), Ok(Event::LimitsSet { version: 1, .. })));
    assert_eq!(scene.read(0, 1, 0, 0), Ok(LimitVerdict::Accepted));
    let outsider = scene.device(1);
    assert_eq!(scene.read(1, 1, 0, 0), Err(Refusal::NotGranted { group: 1, device: outsider }));
    assert_eq!(scene.replica().reading_counts(outsider), ReadingCounts::default());
}

#[test]
fn each_limit_refuses_and_a_refused_reading_is_counted() {
    let mut scene = Scene::with_group();
    let operator = ID.operator();
    scene.limit(operator, "plant/temp", limits()).unwrap();
    let step = |last| refused(Breach::StepTooLarge { last, max_step: limits().max_step.unwrap(), decimals: 1 });
    for (sequence, value, decimals, expected) in [
        (5, 213, 1, Ok(LimitVerdict::Accepted)),
        (5, 213, 1, refused(Breach::SequenceNotGreater { last: 5 })),
        (4, 213, 1, refused(Breach::SequenceNotGreater { last: 5 })),
        (7, 22, 0, Ok(LimitVerdict::Accepted)),
        (8, 2225, 2, refused(Breach::TooPrecise { decimals: 1 })),
        (9, 2220, 2, Ok(LimitVerdict::Accepted)),
        (10, -101, 1, refused(Breach::BelowMin { min: -100, decimals: 1 })),
        (11, i128::MIN, 0, refused(Breach::BelowMin { min: -100, decimals: 1 })),
        (12, 1001, 1, refused(Breach::AboveMax { max: 1000, decimals: 1 })),
        (13, i128::MAX, 0, refused(Breach::AboveMax { max: 1000, decimals: 1 })),
        (14, 273, 1, step(222)),
        (15, 272, 1, Ok(LimitVerdict::Accepted)),
        (16, 221, 1, step(272)),
        (16, 272, 1, refused(Breach::SequenceNotGreater { last: 16 })),
        (17, 222, 1, Ok(LimitVerdict::Accepted)),
    ] {
        assert_eq!(scene.read(0, sequence, value, decimals), expected, "{sequence}: {value}/10^{decimals}");
    }
    let device = scene.device(0);
    let counts = ReadingCounts { accepted: 5, refused: 10 };
    assert_eq!(scene.replica().reading_counts(device), counts);
    let topic = "plant/temp".parse().unwrap();
    let stream = Stream { accepted: 5, refused: 10, sequence: 17, value: Some(222), version: 1 };
    assert_eq!(scene.replica().streams(device).collect::<Vec<_>>(), [(group(1), &topic, &stream)]);
    assert_eq!(scene.replica().last_sequence(device, group(1), &topic), Some(17));

    // New limits let a device begin anew: it is not shut out for ever by a step that was real.
    scene.limit(operator, "plant/temp", limits()).unwrap();
    assert_eq!(scene.replica().last_sequence(device, group(1), &topic), None);
    assert_eq!(scene.read(0, 1, 900, 1), Ok(LimitVerdict::Accepted));
    let told = scene.replica().about_originator(device);
    let told: Vec<_> = told.iter().map(|summary| scene.replica().describe(summary)).collect();
    assert_eq!(told.last().map(String::as_str), Some("1111 wrote 90.0 Cel for plant/temp in plant"));
    assert!(
        told.contains(
            &"1111's 27.3 Cel for plant/temp in plant is refused: more than 5.0 from the last accepted value, 22.2"
                .to_owned()
        ),
        "{told:#?}"
    );
}

#[test]
fn gaps_and_reporters_are_limits_too() {
    let mut scene = Scene::with_group();
    let operator = ID.operator();
    scene.grant(operator, 1, 1).unwrap();
    let gapless = Limits { sequence: SequenceRule::Gapless, max_step: None, ..limits() };
    scene.limit(operator, "plant/temp", gapless).unwrap();
    for (sequence, expected) in [
        (3, Ok(LimitVerdict::Accepted)),
        (4, Ok(LimitVerdict::Accepted)),
        (7, refused(Breach::SequenceGap { expected: 5 })),
        (8, Ok(LimitVerdict::Accepted)),
        (u64::MAX, refused(Breach::SequenceGap { expected: 9 })),
        (u64::MAX, refused(Breach::SequenceNotGreater { last: u64::MAX })),
    ] {
        assert_eq!(scene.read(0, sequence, 0, 0), expected, "{sequence}");
    }
    assert_eq!(scene.read(1, 1, 0, 0), Ok(LimitVerdict::Accepted), "each device counts for itself");

    let only = Limits { reporters: Reporters::Listed(vec![scene.device(1)]), ..limits() };
    scene.limit(operator, "plant/temp", only).unwrap();
    assert_eq!(scene.read(0, 1, 0, 0), refused(Breach::NotAReporter));
    assert_eq!(scene.read(1, 1, 0, 0), Ok(LimitVerdict::Accepted));
    let closed = Limits { reporters: Reporters::Listed(vec![]), ..limits() };
    scene.limit(operator, "plant/temp", closed).unwrap();
    assert_eq!(scene.read(1, 2, 0, 0), refused(Breach::NotAReporter));
    scene.limit(operator, "plant/other", limits()).unwrap();
    assert_eq!(
        scene.read_topic(1, "plant/other", 0, 0, 38),
        Ok(LimitVerdict::Accepted),
        "other topics are as they were"
    );
}

#[test]
fn the_most_specific_filter_has_the_topic() {
    let mut scene = Scene::new();
    let operator = ID.operator();
    scene.create(operator, "g1", &["plant/#"]).unwrap();
    scene.create(operator, "g2", &["plant/valve", "#"]).unwrap();
    scene.create(operator, "g3", &["plant/+/temp", "plant/+"]).unwrap();
    let of = |scene: &Scene, topic: &str| scene.replica().group_for_topic(topic).map(GroupNumber::get);
    assert_eq!(of(&scene, "plant/valve"), Some(2));
    assert_eq!(of(&scene, "plant/pump"), Some(3));
    assert_eq!(of(&scene, "plant/1/temp"), Some(3));
    assert_eq!(of(&scene, "plant/1/pressure"), Some(1));
    assert_eq!(of(&scene, "elsewhere"), Some(2));
    for reserved in ["$SYS/broker", "sealcast", "sealcast/v1/keys/1111", ""] {
        assert_eq!(of(&scene, reserved), None);
    }
    scene.create(operator, "g4", &["plant/valve/#"]).unwrap();
    scene.create(operator, "g5", &["+/valve"]).unwrap();
    assert_eq!(of(&scene, "plant/valve"), Some(2));
    assert_eq!(of(&scene, "plant/valve/1"), Some(4));
    assert_eq!(of(&scene, "mill/valve"), Some(5));
    scene.create(operator, "g6", &["plant/1/#"]).unwrap();
    scene.create(operator, "g7", &["plant/1/+"]).unwrap();
    assert_eq!(of(&scene, "plant/1/temp"), Some(7), "level by level, from the left");
    // A device that names a narrower topic gets nothing.
    let device = scene.device(0);
    assert_eq!(scene.create(device, "mine", &["mill/valve"]), denied(Kind::GroupCreated, device));
    assert_eq!(of(&scene, "mill/valve"), Some(5));
}

#[test]
fn histories_are_told_by_name_and_bounded() {
    let mut scene = Scene::with_group();
    for _ in 0..20 {
        scene.anchor(scene.device(0)).unwrap();
    }
    let replica = scene.replica();
    let told = |summaries: Vec<&Summary>| summaries.into_iter().map(|s| replica.describe(s)).collect::<Vec<_>>();
    let about = told(replica.about_originator(scene.device(0)));
    assert_eq!(about[..2], ["ca registered 1111", "operator granted plant to 1111"]);
    assert_eq!(about.len(), 2 + 16);
    assert_eq!(told(replica.about_group(group(1)))[0], "operator created group plant (1)");
    assert_eq!(told(replica.about_originator(scene.device(1))), ["ca registered 1112"]);
}

#[test]
fn past_heads_are_known() {
    let scene = Scene::with_group();
    let (replica, records) = (scene.replica(), scene.ledger.records());
    assert_eq!(replica.head_at(0), Some(replica.genesis().head()));
    for record in records {
        assert_eq!(replica.head_at(record.index + 1), Some(record.head));
    }
    assert_eq!(replica.head_at(replica.height() + 1), None);
}

/// What may be changed in a record: each must be noticed.
#[test]
fn tampered_records_are_refused() {
    let mut scene = Scene::with_group();
    scene.commit(0, 1, 0, 0).unwrap();
    let records = scene.ledger.records().to_vec();
    let genesis = scene.cast.genesis;
    let (last, before) = records.split_last().unwrap();
    let replica = verify(genesis, before.to_vec()).unwrap();
    let entry = &last.entry;
    let rebuilt = |kind: u8, originator: Number, nonce: u64, body: &[u8], signature: &[u8]| {
        let entry = SignedEntry::from_parts(kind, originator, nonce, body, signature).unwrap();
        // Someone who forges also makes the head fit.
        let head = Record::next_head(&replica.head(), last.index, last.time_s, &entry, &ID);
        Record { entry, head, ..last.clone() }
    };
    let (kind, by, nonce) = (entry.kind().number(), entry.originator(), entry.nonce());
    let Body::Commit(commit) = entry.body().clone() else { panic!("{entry:?}") };
    let other = Body::Commit(Commit { commit: vec![9], ..commit }).encode().unwrap();
    let mut signature = *entry.signature();
    signature[40] ^= 1;
    let refused = |record: &Record| match replica.clone().apply(record) {
        Err(ReplicaError::Refused { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&rebuilt(kind, by, nonce, &other, entry.signature())), Refusal::BadSignature);
    assert_eq!(refused(&rebuilt(kind, by, nonce, entry.encoded_body(), &signature)), Refusal::BadSignature);
    assert_eq!(
        refused(&rebuilt(kind, ID.operator(), 2, entry.encoded_body(), entry.signature())),
        Refusal::BadSignature
    );
    assert!(matches!(
        refused(&rebuilt(kind, by, nonce + 1, entry.encoded_body(), entry.signature())),
        Refusal::BadNonce { .. }
    ));
    assert!(matches!(refused(&Record { time_s: 1, ..last.clone() }), Refusal::ClockWentBack { .. }));

    let head = |record: Record| matches!(replica.clone().apply(&record), Err(ReplicaError::Head { .. }));
    assert!(head(Record { time_s: last.time_s + 1, ..last.clone() }));
    assert!(head(Record { head: Hash::of(b""), ..last.clone() }));
    for index in [0, last.index - 1, last.index + 1, u64::MAX] {
        let result = replica.clone().apply(&Record { index, ..last.clone() });
        assert_eq!(result, Err(ReplicaError::Index { expected: last.index, got: index }));
    }

    // A record left out, two exchanged, another genesis.
    for at in 0..records.len() - 1 {
        let mut without = records.clone();
        without.remove(at);
        assert!(matches!(verify(genesis, without), Err(ReplicaError::Index { .. })));
        let mut swapped = records.clone();
        swapped.swap(at, at + 1);
        assert!(verify(genesis, swapped).is_err());
    }
    let mut elsewhere = genesis;
    elsewhere.operator = *SigningKey::generate().unwrap().public();
    assert!(matches!(verify(elsewhere, records.clone()), Err(ReplicaError::Head { index: 0, .. })));
    elsewhere = Genesis { id: LedgerId { address: [1; 20], ..ID }, ..genesis };
    assert!(verify(elsewhere, records.clone()).is_err());
    verify(genesis, records).unwrap();
}

/// A body that no typed value has, but that is well signed, is refused where it is read.
#[test]
fn reserved_names_and_other_keys_cannot_be_registered() {
    let good = {
        let cast = Cast::new(ID, 1).unwrap();
        cast.registration(0, Hash::of(b"c")).encode().unwrap()
    };
    let read = |body: &[u8]| SignedEntry::from_parts(1, ID.ca(), 0, body, &[1; 64]).map(|_| ());
    assert_eq!(read(&good), Ok(()));
    let name_at = good.windows(4).position(|w| w == b"1111").unwrap();
    let mut bad = good.clone();
    bad[name_at + 1] = b'/';
    assert_eq!(read(&bad), Err(Refusal::BadText { field: "device".into(), position: 1 }));
    let mut bad = good.clone();
    bad[name_at - 1] = 2;
    bad[name_at..name_at + 4].copy_from_slice(b"ca\0\0");
    assert_eq!(read(&bad), Err(Refusal::ReservedName { name: "ca".into() }));
    let mut bad = good.clone();
    bad[name_at + 20] = 1;
    assert_eq!(read(&bad), Err(Refusal::BadBody { kind: 1 }), "padding is part of what is signed");
    assert_eq!(read(&[&good[..], &[0; 32]].concat()), Err(Refusal::BadBody { kind: 1 }));
    assert_eq!(read(&good[..good.len() - 1]), Err(Refusal::BadBody { kind: 1 }));
    assert!(matches!(SignedEntry::from_parts(99, ID.ca(), 0, &good, &[1; 64]), Err(Refusal::UnknownKind { kind: 99 })));
    assert!(matches!(SignedEntry::from_parts(1, ID.ca(), 0, &good, &[1; 63]), Err(Refusal::BadLength { .. })));
}

/// The rules again, as simply as they can be written.
#[derive(Default)]
struct Model {
    built_in: BTreeMap<Number, PublicKey>,
    active: BTreeMap<Number, bool>,
    certificates: BTreeMap<Number, Hash>,
    keys: BTreeMap<Number, PublicKey>,
    published: BTreeSet<Hash>,
    names: BTreeSet<String>,
    filters: BTreeSet<String>,
    at: Vec<(u32, u64)>,
    /// Who made the commits of each group's generation, and whom each device blames there, or only could not get in by.
    authors: Vec<Vec<Number>>,
    reports: Vec<BTreeMap<Number, (Number, bool)>>,
    grants: BTreeSet<(u16, Number)>,
    group_filters: Vec<Vec<TopicFilter>>,
    limited: BTreeSet<(u16, String)>,
    readings: BTreeMap<Number, u64>,
}

impl Model {
    fn begin_anew(&mut self, place: usize) {
        self.at[place] = (self.at[place].0 + 1, 0);
        self.authors[place].clear();
        self.reports[place].clear();
    }

    fn count_reports(&mut self, group: u16, author: Number) {
        let place = usize::from(group) - 1;
        let members: Vec<Number> =
            self.grants.iter().filter(|(of, _)| *of == group).map(|(_, device)| *device).collect();
        let said = |kept_out| {
            let report = (author, kept_out);
            members.iter().filter(|member| self.reports[place].get(member) == Some(&report)).count()
        };
        let (blame, kept_out) = (said(false), said(true));
        if 2 * blame > members.len() {
            self.grants.remove(&(group, author));
        }
        if 2 * (blame + kept_out) > members.len() {
            self.begin_anew(place);
        }
    }

    /// Does what a body says if `by` may say it; else answers false.
    fn say(&mut self, by: Number, body: &Body) -> bool {
        let is_device = self.active.get(&by) == Some(&true);
        if !is_device && !self.built_in.contains_key(&by) {
            return false;
        }
        let exists = usize::from(match body {
            Body::Granted(b) => b.group.get(),
            Body::Revoked(b) => b.group.get(),
            Body::GroupReset(b) => b.group.get(),
            Body::LimitsSet(b) => b.group.get(),
            _ => 0,
        }) <= self.at.len();
        let administers = by == ID.operator() && exists;
        match body {
            Body::DeviceRegistered(b) => {
                let number = ID.number_of(&b.device);
                by == ID.ca() && {
                    self.active.insert(number, true);
                    if self.keys.insert(number, b.public_key).is_some_and(|before| before != b.public_key) {
                        self.grants.retain(|(_, device)| *device != number);
                    }
                    self.certificates.insert(number, b.certificate);
                    true
                }
            }
            Body::DeviceRevoked(b) => {
                (by == ID.ca() || by == ID.operator()) && self.active.get(&b.device) == Some(&true) && {
                    self.active.insert(b.device, false);
                    self.grants.retain(|(_, device)| *device != b.device);
                    true
                }
            }
            Body::KeysPublished(b) => {
                is_device && self.certificates.get(&by) == Some(&b.certificate) && self.published.insert(b.key_package)
            }
            Body::GroupCreated(b) => {
                let own: BTreeSet<_> = b.filters.iter().map(|filter| filter.to_string()).collect();
                let allowed = by == ID.operator()
                    && !self.names.contains(b.name.as_str())
                    && own.len() == b.filters.len()
                    && self.filters.is_disjoint(&own);
                if allowed {
                    self.names.insert(b.name.to_string());
                    self.filters.extend(own);
                    self.group_filters.push(b.filters.clone());
                    self.at.push((0, 0));
                    self.authors.push(Vec::new());
                    self.reports.push(BTreeMap::new());
                }
                allowed
            }
            Body::Granted(b) => {
                administers
                    && self.active.get(&b.device) == Some(&true)
                    && self.grants.insert((b.group.get(), b.device))
            }
            Body::Revoked(b) => administers && self.grants.remove(&(b.group.get(), b.device)),
            Body::Commit(b) => {
                let in_it = self.grants.contains(&(b.group.get(), by));
                match self.at.get_mut(usize::from(b.group.get()) - 1) {
                    Some(at) if in_it && *at == (b.generation.0, b.epoch.0) => {
                        at.1 += 1;
                        self.authors[usize::from(b.group.get()) - 1].push(by);
                        true
                    }
                    _ => false,
                }
            }
            Body::Reading(b) => {
                let taken = self.grants.contains(&(b.group.get(), by))
                    && self.limited.contains(&(b.group.get(), b.topic.to_string()));
                *self.readings.entry(by).or_default() += u64::from(taken);
                taken
            }
            Body::LimitsSet(b) => {
                let topic = b.topic.as_str();
                let covered = |filters: &Vec<TopicFilter>| filters.iter().any(|filter| filter.matches(topic));
                let allowed = administers
                    && !topic.starts_with("sealcast")
                    && self.group_filters.get(usize::from(b.group.get()) - 1).is_some_and(covered)
                    && b.limits.listed().iter().all(|device| self.active.contains_key(device));
                allowed && {
                    self.limited.insert((b.group.get(), topic.to_owned()));
                    true
                }
            }
            Body::Anchor(b) => self.grants.contains(&(b.group.get(), by)),
            Body::Moved(_) => by == ID.operator(),
            Body::KeyRotated(b) => {
                let by_whom = BTreeMap::from([(ID.ca(), ID.root()), (ID.operator(), ID.operator())]);
                let unused = self.built_in.values().all(|key| *key != b.public_key);
                by_whom.get(&b.whose) == Some(&by) && unused && b.is_proven(&ID) && {
                    self.built_in.insert(b.whose, b.public_key);
                    true
                }
            }
            Body::GroupReset(b) => {
                administers && {
                    self.begin_anew(usize::from(b.group.get()) - 1);
                    true
                }
            }
            Body::FaultReported(b) => {
                let place = usize::from(b.group.get()) - 1;
                let author =
                    self.authors.get(place).and_then(|made| made.get(usize::try_from(b.epoch.0).ok()?)).copied();
                match author {
                    Some(author)
                        if self.grants.contains(&(b.group.get(), by)) && self.at[place].0 == b.generation.0 =>
                    {
                        self.reports[place].insert(by, (author, b.kept_out));
                        self.count_reports(b.group.get(), author);
                        true
                    }
                    _ => false,
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn follows_a_simple_model(seed: u64) {
        let mut workload = Workload::new(Cast::new(ID, 4).unwrap(), seed);
        let genesis = workload.cast.genesis;
        let built_in = [(ID.root(), genesis.root), (ID.ca(), genesis.ca), (ID.operator(), genesis.operator)];
        let mut model = Model { built_in: built_in.into(), ..Model::default() };
        let mut ledger = MemoryLedger::new(genesis);
        for step in 0..150 {
            let entry = workload.entry(ledger.replica()).unwrap();
            match ledger.submit(&entry, step) {
                // Who signed and with which nonce is no part of the model.
                Err(Refusal::BadNonce { .. } | Refusal::BadSignature) => {}
                taken => {
                    let known = model.say(entry.originator(), entry.body());
                    prop_assert_eq!(taken.is_ok(), known, "seed {} step {}: {:?} {:?}", seed, step, entry, taken);
                }
            }
        }
        let replica = ledger.replica();
        for (originator, key) in &model.built_in {
            prop_assert_eq!(replica.key_of(*originator), Some(key));
        }
        for (i, at) in model.at.iter().enumerate() {
            let number = group(i as u16 + 1);
            let found = replica.group(number).unwrap();
            prop_assert_eq!((found.generation.0, found.epoch.0), *at);
            let granted: BTreeSet<_> = replica.granted_devices(number).map(|d| (number.get(), d.number)).collect();
            let expected = model.grants.iter().filter(|(g, _)| *g == number.get()).copied().collect();
            prop_assert_eq!(granted, expected);
            prop_assert_eq!(replica.commits_from(number, Epoch(0)).count() as u64, at.1);
        }
        for (device, readings) in &model.readings {
            let counts = replica.reading_counts(*device);
            prop_assert_eq!(counts.accepted + counts.refused, *readings);
        }
        let followed = verify(genesis, ledger.records().to_vec()).unwrap();
        prop_assert_eq!(followed.head(), replica.head());
        let mut restored = Replica::new(genesis);
        for record in ledger.records() {
            let bytes = record.encode();
            prop_assert_eq!(&Record::decode(&bytes).unwrap(), record);
            restored.apply_without_signature_check(record).unwrap();
        }
        prop_assert_eq!(format!("{restored:?}"), format!("{followed:?}"));
    }
}
