//! What a proof says, step by step. Each step is a [`Claim`], and the first that does not hold is named.

use std::fmt;

use sealcast_identity::{DeviceId, TrustAnchor};
use sealcast_ledger::{
    Anchor, Body, DeviceRegistered, Genesis, GroupName, GroupNumber, Hash, LedgerId, Number, Record, Replica,
};
use sealcast_seal::merkle::Node;

use crate::{
    leaf::{Commitment, payload_digest},
    proof::{Message, Payload, Proof, Topic},
    tree::{is_consistent, root_of},
};

/// What a proof claims. In the order in which it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// The certificate leads to the root, and is that of the device which the record registers.
    Identity,
    /// The ledger's records follow from its beginning, which the root's key is part of.
    Ledger,
    /// The CA signed the registration, and the device each anchor.
    Signature,
    /// The registration and the anchors are on the ledger.
    Anchor,
    /// Each anchor's tree begins with the one before, and there is no other anchor between them: nothing of the series was
    /// left out, changed or put in another order.
    Completeness,
    /// What is shown of the topics and payloads is what the messages' leaves hide.
    Content,
    /// The messages are in the tree of the last anchor, at these places.
    Inclusion,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Ledger => "ledger",
            Self::Signature => "entry signature",
            Self::Anchor => "anchor on the ledger",
            Self::Completeness => "order and completeness",
            Self::Content => "content",
            Self::Inclusion => "inclusion",
        })
    }
}

/// A claim does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the claim {claim:?} does not hold: {why}", claim = claim.to_string())]
pub struct Refuted {
    /// Which.
    pub claim: Claim,
    /// Why not.
    pub why: String,
}

impl Claim {
    fn fails(self, why: impl fmt::Display) -> Refuted {
        Refuted { claim: self, why: why.to_string() }
    }

    fn require(self, holds: bool, why: impl FnOnce() -> String) -> Result<(), Refuted> {
        if holds { Ok(()) } else { Err(self.fails(why())) }
    }
}

/// An anchor that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorSeen {
    /// Its record's place on the ledger.
    pub entry: u64,
    /// The time of its record, seconds since 1970.
    pub time_s: u64,
    /// How many messages the series had.
    pub size: u64,
}

/// What a proof has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who sent it.
    pub device: DeviceId,
    /// For which group.
    pub group: GroupNumber,
    /// What the ledger calls the group.
    pub group_name: Option<GroupName>,
    /// On which ledger.
    pub ledger: LedgerId,
    /// How many records the ledger had.
    pub height: u64,
    /// Its head.
    pub head: Hash,
    /// Whether the ledger says by now that the device may do nothing any more.
    pub revoked: bool,
    /// The anchors, the first of them before all messages unless the series begins with this proof.
    pub anchors: Vec<AnchorSeen>,
    /// The place of the first message that the anchors enclose: those from here to the last anchor's size are all that the
    /// device has in its series between them.
    pub from: u64,
    /// How many anchors of the group the device has on the ledger before these. Where `from` is 0 and there are some, the
    /// device has begun its series anew: they are of another one.
    pub others_before: usize,
    /// The messages.
    pub messages: Vec<Message>,
}

/// Checks a proof against the root certificate and the records of the ledger, from its first one on.
///
/// Of the records each one's place, head and rules are checked, and the signatures of all that say which keys the CA and the
/// device have, and of the device's anchors. Whoever gives the records can withhold the newest ones, and nothing else.
///
/// # Errors
/// The first claim that does not hold.
pub fn verify(proof: &Proof, root: &TrustAnchor, records: &[Record]) -> Result<Verified, Refuted> {
    let registered = identity(proof, root)?;
    let device = proof.ledger.number_of(&registered.device);
    let anchors = anchors(proof)?;
    signatures(proof, device, registered, records)?;
    let replica = ledger(proof, root, device, records)?;
    on_ledger(proof, records)?;
    let group = group(&anchors)?;
    let (others_before, between) = others(device, group, proof, records);
    let missing = between.into_iter().find(|record| !proof.anchors.contains(record));
    Claim::Completeness.require(missing.is_none(), || {
        let index = missing.map_or(0, |record| record.index);
        format!("the device has another anchor of the group between these, entry {index}, which the proof leaves out")
    })?;
    order(&anchors, &proof.paths)?;
    proof.messages.iter().try_for_each(content)?;
    inclusion(proof, &anchors)?;
    let from = enclosed_from(&anchors, &proof.messages);
    Ok(Verified {
        device: registered.device.clone(),
        group,
        group_name: replica.group(group).map(|group| group.name.clone()),
        ledger: proof.ledger,
        height: replica.height(),
        head: replica.head(),
        revoked: replica.key_of(device).is_none(),
        anchors: anchors.iter().map(|(record, anchor)| seen(record, anchor)).collect(),
        from,
        others_before,
        messages: proof.messages.clone(),
    })
}

/// The anchor of a record, if it is one.
#[must_use]
pub fn anchor_of(record: &Record) -> Option<&Anchor> {
    match record.entry.body() {
        Body::Anchor(anchor) => Some(anchor),
        _ => None,
    }
}

fn seen(record: &Record, anchor: &Anchor) -> AnchorSeen {
    AnchorSeen { entry: record.index, time_s: record.time_s, size: anchor.count.into() }
}

/// The certificate is the CA's, and the registration is of it.
fn identity<'p>(proof: &'p Proof, root: &TrustAnchor) -> Result<&'p DeviceRegistered, Refuted> {
    let claim = Claim::Identity;
    let Body::DeviceRegistered(registered) = proof.registration.entry.body() else {
        let kind = proof.registration.entry.kind();
        return Err(claim.fails(format!("the record that should register the device is of the kind {kind:?}")));
    };
    // The CA wrote the entry when it issued the certificate, by another clock perhaps.
    let time_ms = proof.registration.time_s.max(proof.device.not_before_s()).saturating_mul(1000);
    let chain = [proof.device.der(), proof.issuing.der()];
    let verified = root.verify_device(&chain, time_ms).map_err(|error| claim.fails(error))?;
    claim.require(verified.id == registered.device, || {
        format!("the certificate is for {}, the record registers {}", verified.id, registered.device)
    })?;
    claim.require(Hash::from(proof.device.fingerprint().0) == registered.certificate, || {
        format!("the record registers another certificate for {}", registered.device)
    })?;
    claim.require(verified.public_key == registered.public_key, || {
        format!("the record registers another key for {} than its certificate has", registered.device)
    })?;
    Ok(registered)
}

fn anchors<'p>(proof: &'p Proof) -> Result<Vec<(&'p Record, &'p Anchor)>, Refuted> {
    let of = |record: &'p Record| {
        let why = || Claim::Anchor.fails(format!("the record {} is no anchor", record.index));
        anchor_of(record).map(|anchor| (record, anchor)).ok_or_else(why)
    };
    proof.anchors.iter().map(of).collect()
}

/// The last anchor is by the key of the certificate. What the CA and earlier keys signed is checked with the ledger.
fn signatures(proof: &Proof, device: Number, registered: &DeviceRegistered, records: &[Record]) -> Result<(), Refuted> {
    let claim = Claim::Signature;
    for record in &proof.anchors {
        claim.require(record.entry.originator() == device, || {
            format!(
                "the anchor of entry {} is by {}, not by {}",
                record.index,
                record.entry.originator(),
                registered.device
            )
        })?;
    }
    let Some(last) = proof.anchors.last() else { return Err(Claim::Anchor.fails("there is none")) };
    let contract = Record::contract_at(records, proof.ledger, last.index);
    claim.require(last.entry.is_signed_by(&registered.public_key, &contract), || {
        format!("the key of the certificate did not sign the anchor of entry {}", last.index)
    })
}

/// The records are those of the ledger that the root's key and the keys of the proof begin.
fn ledger(proof: &Proof, root: &TrustAnchor, device: Number, records: &[Record]) -> Result<Replica, Refuted> {
    let genesis = Genesis {
        id: proof.ledger,
        root: *root.root().public_key(),
        ca: proof.first_ca,
        operator: proof.first_operator,
    };
    let mut replica = Replica::new(genesis);
    for record in records {
        let matters = match record.entry.body() {
            Body::DeviceRegistered(registered) => proof.ledger.number_of(&registered.device) == device,
            Body::KeyRotated(_) | Body::Moved(_) => true,
            _ => record.entry.originator() == device,
        };
        let applied = if matters { replica.apply(record) } else { replica.apply_without_signature_check(record) };
        applied.map_err(|error| {
            let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            Claim::Ledger.fails(format!(
                "{error}{source}. Are the root certificate and the ledger those of the proof, which is for {}?",
                proof.ledger
            ))
        })?;
    }
    Ok(replica)
}

fn on_ledger(proof: &Proof, records: &[Record]) -> Result<(), Refuted> {
    for record in std::iter::once(&proof.registration).chain(&proof.anchors) {
        let there = usize::try_from(record.index).ok().and_then(|index| records.get(index));
        Claim::Anchor.require(there.is_some(), || {
            format!("the ledger has {} entries, and the proof names entry {}", records.len(), record.index)
        })?;
        Claim::Anchor.require(there == Some(record), || {
            format!("entry {} of the ledger is another one than the proof says", record.index)
        })?;
    }
    Ok(())
}

fn group(anchors: &[(&Record, &Anchor)]) -> Result<GroupNumber, Refuted> {
    let none = || Claim::Anchor.fails("there is none");
    let (_, first) = anchors.first().ok_or_else(none)?;
    let other = anchors.iter().find(|(_, anchor)| anchor.group != first.group);
    Claim::Anchor.require(other.is_none(), || "the anchors are of different groups".to_owned())?;
    Ok(first.group)
}

/// How many anchors of the group the device has before those of the proof, and all from the first to the last of these.
fn others<'r>(device: Number, group: GroupNumber, proof: &Proof, records: &'r [Record]) -> (usize, Vec<&'r Record>) {
    let [first, last] = [proof.anchors.first(), proof.anchors.last()].map(|record| record.map_or(0, |r| r.index));
    let of_group = |record: &&Record| anchor_of(record).is_some_and(|anchor| anchor.group == group);
    let own = records.iter().filter(|record| record.entry.originator() == device).filter(of_group);
    let before = own.clone().filter(|record| record.index < first).count();
    (before, own.filter(|record| (first..=last).contains(&record.index)).collect())
}

fn order(anchors: &[(&Record, &Anchor)], paths: &[Vec<Node>]) -> Result<(), Refuted> {
    let claim = Claim::Completeness;
    claim.require(paths.len() + 1 == anchors.len(), || "a path between two anchors is missing".to_owned())?;
    for (pair, path) in anchors.windows(2).zip(paths) {
        let [(before, first), (after, second)] = pair else { continue };
        claim.require(before.index < after.index, || "the anchors are not in the order of the ledger".to_owned())?;
        let [one, other] = [first, second].map(|anchor| (u64::from(anchor.count), anchor.root.as_bytes()));
        claim.require(is_consistent(one, other, path), || {
            format!(
                "the series of the anchor of entry {} ({} messages) does not begin with that of entry {} ({} messages)",
                after.index, second.count, before.index, first.count
            )
        })?;
    }
    Ok(())
}

/// What is shown of a message is what its leaf hides.
fn content(message: &Message) -> Result<(), Refuted> {
    let Message { leaf, topic, payload } = message;
    let holds = match topic {
        Topic::Hidden => true,
        Topic::Shown { blinding, topic } => Commitment::to_topic(blinding, topic) == leaf.topic,
    };
    Claim::Content.require(holds, || format!("the topic of message {} is another one", leaf.index))?;
    let holds = match payload {
        Payload::Hidden => true,
        Payload::Digest { blinding, digest } => Commitment::to_payload(blinding, digest) == leaf.payload,
        Payload::Shown { blinding, payload } => {
            Commitment::to_payload(blinding, &payload_digest(payload)) == leaf.payload
        }
    };
    Claim::Content.require(holds, || format!("the payload of message {} is another one", leaf.index))
}

fn inclusion(proof: &Proof, anchors: &[(&Record, &Anchor)]) -> Result<(), Refuted> {
    let Some((record, anchor)) = anchors.last() else { return Err(Claim::Anchor.fails("there is none")) };
    let leaves: Vec<(u64, Node)> =
        proof.messages.iter().map(|message| (message.leaf.index, message.leaf.hash())).collect();
    let root = root_of(anchor.count.into(), &leaves, &proof.cover);
    Claim::Inclusion.require(root.as_ref() == Some(anchor.root.as_bytes()), || {
        format!("the messages do not lead to the root in the anchor of entry {}", record.index)
    })
}

/// From which place on the device's messages are enclosed: where the first anchor ends, if it is before all messages.
fn enclosed_from(anchors: &[(&Record, &Anchor)], messages: &[Message]) -> u64 {
    let size = anchors.first().map_or(0, |(_, anchor)| u64::from(anchor.count));
    let first = messages.first().map_or(0, |message| message.leaf.index);
    if anchors.len() > 1 && size <= first { size } else { 0 }
}
