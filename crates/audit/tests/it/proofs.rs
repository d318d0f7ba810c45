//! What a proof shows, and that nothing of it can be changed.

use std::collections::BTreeSet;

use sealcast_audit::{
    Blinding, Claim, Commitment, Frontier, Message, Payload, Proof, ProveError, Sent, SentKind, Shown, Topic, Verified,
    prove, verify,
};
use sealcast_identity::{Root, SigningKey, TrustAnchor};
use sealcast_ledger::{Body, LedgerId};

use crate::world::{NOW_MS, World, device, digest_only};

/// 40 messages: an anchor after 10, 23 and 40.
fn world() -> World {
    let mut world = World::new();
    for count in [10, 13, 17] {
        world.send(count);
        world.anchor();
    }
    world
}

fn check(world: &World, proof: &Proof) -> Result<Verified, (Claim, String)> {
    verify(proof, &world.root, world.records()).map_err(|refuted| (refuted.claim, refuted.why))
}

fn claim(world: &World, proof: &Proof) -> Option<Claim> {
    check(world, proof).err().map(|(claim, _)| claim)
}

/// Shows the messages whose index in the series is one of these.
fn show(from: u64, count: usize, which: impl Fn(u64) -> Shown) -> Vec<Shown> {
    (from..).take(count).map(which).collect()
}

fn only(wanted: &'static [u64]) -> impl Fn(u64) -> Shown {
    move |index| if wanted.contains(&index) { Shown::All } else { Shown::Nothing }
}

#[test]
fn a_stranger_learns_who_sent_what_when_and_in_which_order_and_that_nothing_is_left_out() {
    let world = world();
    let series = world.series(Some(0), 2);
    let proof = prove(&series, &show(10, 30, |_| Shown::All)).unwrap();
    let verified = check(&world, &proof).unwrap();
    assert_eq!((verified.device, verified.from), (device(), 10));
    assert_eq!(verified.anchors.iter().map(|anchor| anchor.size).collect::<Vec<_>>(), [10, 23, 40]);
    assert_eq!(verified.group_name.unwrap().as_str(), "plant");
    assert_eq!(verified.messages.len(), 30);
    for (index, message) in (10..).zip(&verified.messages) {
        assert_eq!((message.leaf.index, message.leaf.time_ms), (index, NOW_MS + 1000 * index));
        let Topic::Shown { topic, .. } = &message.topic else { panic!("{message:?}") };
        assert_eq!(*topic, format!("plant/{}", ["a", "b", "c"][index as usize % 3]));
        let Payload::Shown { payload, .. } = &message.payload else { panic!("{message:?}") };
        assert_eq!(*payload, format!("payload {index}").into_bytes());
    }
    assert!(!verified.revoked);
}

/// Anchors before and after the ledger moved, which are signed for different contracts.
#[test]
fn what_was_anchored_holds_after_the_ledger_has_moved() {
    let mut world = World::new();
    world.send(4);
    world.anchor();
    let to = LedgerId { chain_id: 1, address: [9; 20] };
    world.move_to(to);
    world.send(4);
    world.anchor();
    let all = |last: usize| prove(&world.series(None, last), &show(0, 4 + 4 * last, |_| Shown::All)).unwrap();
    for last in [0, 1] {
        let verified = check(&world, &all(last)).unwrap();
        assert_eq!((verified.from, verified.messages.len()), (0, 4 + 4 * last));
        assert_ne!(verified.ledger, to, "it is called as at first");
    }
    // An entry that moves the ledger has to be the operator's.
    let mut records = world.records().to_vec();
    let moved = records.iter().position(|record| matches!(record.entry.body(), Body::Moved(_))).unwrap();
    let (entry, stranger) = (&records[moved].entry, SigningKey::generate().unwrap());
    let forged = entry.body().clone().sign(&stranger, entry.originator(), entry.nonce(), &all(1).ledger).unwrap();
    records[moved].entry = forged;
    assert_eq!(verify(&all(1), &world.root, &records).unwrap_err().claim, Claim::Ledger);
}

#[test]
fn a_proof_shows_what_was_selected_and_nothing_of_its_neighbours() {
    let world = world();
    let proof = prove(&world.series(Some(0), 1), &show(10, 13, only(&[11, 15]))).unwrap();
    let verified = check(&world, &proof).unwrap();
    assert_eq!(verified.messages.iter().map(|message| message.leaf.index).collect::<Vec<_>>(), [11, 15]);
    let bytes = proof.encode();
    for index in [10, 12, 13, 14, 16] {
        let hidden = format!("payload {index}").into_bytes();
        assert!(!bytes.windows(hidden.len()).any(|part| part == hidden), "{index}");
    }
    // Times and topics of those between, without payloads.
    let between = show(10, 13, |index| match index {
        11 | 15 => Shown::All,
        12..15 => Shown::Topic,
        _ => Shown::Nothing,
    });
    let proof = prove(&world.series(Some(0), 1), &between).unwrap();
    let verified = check(&world, &proof).unwrap();
    let payloads = verified.messages.iter().map(|message| message.payload != Payload::Hidden);
    assert_eq!(payloads.collect::<Vec<_>>(), [true, false, false, false, true]);
}

#[test]
fn a_payload_that_was_not_kept_is_known_by_its_digest() {
    let world = world();
    let mut series = world.series(None, 0);
    series.sent = series.sent.iter().map(digest_only).collect();
    let proof = prove(&series, &show(0, 10, only(&[0]))).unwrap();
    let verified = check(&world, &proof).unwrap();
    let digest = sealcast_audit::payload_digest(b"payload 0");
    assert!(matches!(verified.messages[0].payload, Payload::Digest { digest: got, .. } if got == digest));
    assert_eq!((verified.from, verified.anchors.len()), (0, 1));
}

/// Whoever changes a byte is refused, whatever byte it is, and so is whoever cuts the file.
#[test]
fn no_byte_of_a_proof_can_be_changed() {
    let world = world();
    let shown = show(10, 30, |index| match index % 7 {
        0 => Shown::All,
        1 => Shown::Topic,
        _ => Shown::Nothing,
    });
    let mut series = world.series(Some(0), 2);
    series.sent[4] = digest_only(&series.sent[4]);
    let proof = prove(&series, &shown).unwrap();
    let bytes = proof.encode();
    assert_eq!(Proof::decode(&bytes).unwrap(), proof);
    check(&world, &proof).unwrap();
    let mut named = BTreeSet::new();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        if let Ok(proof) = Proof::decode(&changed) {
            let claim = claim(&world, &proof);
            assert!(claim.is_some(), "byte {at} of {}", bytes.len());
            named.extend(claim);
        }
        assert!(Proof::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert!(Proof::decode(&[&bytes[..], b"x"].concat()).is_err());
    let all = [Claim::Identity, Claim::Signature, Claim::Anchor, Claim::Completeness, Claim::Content, Claim::Inclusion];
    assert_eq!(named.into_iter().collect::<Vec<_>>(), all, "each is named for something");
}

#[test]
fn the_claim_that_fails_is_named() {
    let world = world();
    let proof = prove(&world.series(Some(0), 2), &show(10, 30, only(&[12, 30]))).unwrap();
    let with = |change: &dyn Fn(&mut Proof)| {
        let mut proof = proof.clone();
        change(&mut proof);
        claim(&world, &proof)
    };
    assert_eq!(with(&|_| {}), None);
    let content = |change: fn(&mut Message)| with(&move |proof| change(&mut proof.messages[0]));
    assert_eq!(
        content(|m| m.topic = Topic::Shown { blinding: Blinding([0; 32]), topic: "x".into() }),
        Some(Claim::Content)
    );
    assert_eq!(
        content(|m| if let Payload::Shown { payload, .. } = &mut m.payload {
            payload.push(0)
        }),
        Some(Claim::Content)
    );
    assert_eq!(content(|m| m.leaf.time_ms += 1), Some(Claim::Inclusion));
    assert_eq!(content(|m| m.leaf.index += 1), Some(Claim::Inclusion));
    assert_eq!(content(|m| m.leaf.kind = SentKind::Will), Some(Claim::Inclusion));
    // With another payload and a commitment that fits it.
    let swapped = content(|message| {
        let (blinding, payload) = (Blinding([1; 32]), b"other".to_vec());
        message.leaf.payload = Commitment::to_payload(&blinding, &sealcast_audit::payload_digest(&payload));
        message.payload = Payload::Shown { blinding, payload };
    });
    assert_eq!(swapped, Some(Claim::Inclusion));
    assert_eq!(with(&|proof| drop(proof.messages.remove(0))), Some(Claim::Inclusion));
    assert_eq!(with(&|proof| proof.messages.swap(0, 1)), Some(Claim::Inclusion));
    // An anchor in between is left out.
    let skipped = with(&|proof| {
        proof.anchors.remove(1);
        proof.paths.remove(1);
    });
    assert_eq!(skipped, Some(Claim::Completeness));
    assert_eq!(with(&|proof| proof.anchors.swap(0, 1)), Some(Claim::Completeness));
    assert_eq!(with(&|proof| drop(proof.paths.pop())), Some(Claim::Completeness));
    assert_eq!(with(&|proof| proof.registration = proof.anchors[0].clone()), Some(Claim::Identity));
    assert_eq!(with(&|proof| proof.device = proof.issuing.clone()), Some(Claim::Identity));
    assert_eq!(with(&|proof| proof.anchors[0] = proof.registration.clone()), Some(Claim::Anchor));
    // A ledger that ends before the last anchor, that has another beginning, or none.
    let shorter = &world.records()[..world.records().len() - 1];
    assert_eq!(verify(&proof, &world.root, shorter).unwrap_err().claim, Claim::Anchor);
    assert_eq!(verify(&proof, &world.root, &world.records()[1..]).unwrap_err().claim, Claim::Ledger);
    let other_ca = with(&|proof| proof.first_ca = proof.first_operator);
    assert_eq!(other_ca, Some(Claim::Ledger));
    // Another network's root.
    let other = Root::create("test", NOW_MS, std::time::Duration::from_secs(86_400)).unwrap();
    let other = TrustAnchor::new(other.certificate().clone()).unwrap();
    assert_eq!(verify(&proof, &other, world.records()).unwrap_err().claim, Claim::Identity);
}

/// A device that has anchored a message cannot show a series without it.
#[test]
fn a_device_that_rewrites_its_series_is_found_out() {
    let mut world = World::new();
    world.send(4);
    world.anchor();
    world.send(4);
    let mut forged = world.clone_of_series();
    forged.sent[2] = Sent::whole(NOW_MS, SentKind::Message, "plant/c".into(), b"forged".to_vec());
    let mut tree = Frontier::default();
    for (index, sent) in (0..).zip(&forged.sent) {
        let leaf = forged.secret.leaf(index, sent.time_ms, sent.kind, &sent.topic, &sent.digest);
        tree.append(leaf.hash());
    }
    let record = world.anchor_of(tree.root().unwrap(), 8);
    forged.anchors.push(record);
    let answer = prove(&forged, &show(0, 8, |_| Shown::All));
    assert!(matches!(answer, Err(ProveError::OtherRoot { .. })), "{answer:?}");
    // As if there had been no anchor before.
    forged.anchors.remove(0);
    let proof = prove(&forged, &show(0, 8, |_| Shown::All)).unwrap();
    let verified = check(&world, &proof).unwrap();
    assert_eq!((verified.from, verified.others_before), (0, 1), "the anchor of the other series is told");
}

#[test]
fn nothing_is_proven_of_nothing() {
    let world = world();
    let answer = |shown: &[Shown]| prove(&world.series(Some(0), 1), shown);
    assert_eq!(answer(&[Shown::Nothing; 13]), Err(ProveError::Nothing));
    let mut series = world.series(Some(0), 1);
    series.sent.pop();
    assert_eq!(prove(&series, &[Shown::All; 12]), Err(ProveError::Missing { from: 10, to: 23 }));
}
