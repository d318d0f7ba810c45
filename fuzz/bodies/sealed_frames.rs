//! The genuine frames and the keys that they are sealed with, and SFrame by hand. The keys are fixed, so the frames in
//! `fuzz/fixtures/frames.bin` open for ever, each alone and in batches.
#![allow(dead_code, reason = "each target needs a part of it")]

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use sealcast_identity::SigningKey;
use sealcast_seal::{
    Authenticity, Delivery, DeliveryKind, Epoch, EpochId, EpochSecret, Freshness, GroupKeys, GroupNumber, HandOver,
    Header, LeafIndex, Ledger, Member, OpenError, Opened, Opener, Start,
};

pub const NOW: u64 = 1_795_366_800_000;
pub const TOPIC: &str = "hsu/0001/temperature";
/// A signature per message.
pub const SIGNED: GroupNumber = GroupNumber(1);
/// No signatures.
pub const UNSIGNED: GroupNumber = GroupNumber(2);

/// `length u16 | frame`, sealed by leaf 0 for [`TOPIC`] at [`NOW`] in both groups.
const FRAMES: &[u8] = include_bytes!("../fixtures/frames.bin");

const UNLIMITED: Freshness = Freshness {
    live_max_age_ms: None,
    retained_max_age_ms: None,
    offline_max_age_ms: None,
    clock_tolerance_ms: u64::MAX,
    epoch_grace_ms: None,
};
const LIMITED: Freshness = Freshness {
    live_max_age_ms: Some(60_000),
    retained_max_age_ms: Some(86_400_000),
    offline_max_age_ms: Some(3_600_000),
    clock_tolerance_ms: 2_000,
    epoch_grace_ms: Some(30_000),
};

pub fn open(opener: &mut Opener, keys: &GroupKeys, how: u8, topic: &str, frame: &[u8]) -> Result<Opened, OpenError> {
    let kind = match how & 3 {
        1 => DeliveryKind::Retained,
        2 => DeliveryKind::Offline,
        _ => DeliveryKind::Live,
    };
    let hand_over = match (how >> 2) & 3 {
        1 => HandOver::Acknowledged { dup: false },
        2 => HandOver::Acknowledged { dup: true },
        _ => HandOver::AtMostOnce,
    };
    let freshness = if how & 16 == 0 { &UNLIMITED } else { &LIMITED };
    let now_ms = if how & 32 == 0 { NOW } else { u64::MAX };
    let opened = opener.open(keys, topic, frame, &Delivery { kind, hand_over, freshness }, now_ms);
    if let Err(error) = &opened {
        assert!(!error.to_string().is_empty());
    }
    opened
}

/// The group's keys as the device on `leaf` holds them: epoch 1, members 1111 and 1112.
pub fn group_keys(group: GroupNumber, leaf: u32) -> GroupKeys {
    let leaf_at = |leaf| LeafIndex::new(leaf).expect("small");
    let device = |leaf: u32| (1111 + leaf).to_string().parse().expect("a device id");
    let roster: BTreeMap<_, _> =
        (0..2).map(|leaf| (leaf_at(leaf), Member { name: device(leaf), key: *signing_key(leaf).public() })).collect();
    let ledger = Ledger { chain_id: 5318, contract: [7; 20] };
    let mut keys = GroupKeys::new(ledger, group, "hsu", device(leaf), 2);
    let epoch = Epoch {
        id: EpochId { generation: 0, epoch: 1 },
        secret: EpochSecret::new(secret(group)),
        own_leaf: leaf_at(leaf),
        roster,
        authenticity: if group == SIGNED { Authenticity::Signature } else { Authenticity::Group },
        since_ms: NOW,
        began_at: Some(40),
    };
    keys.insert_epoch(epoch).expect("the first epoch");
    keys
}

fn secret(group: GroupNumber) -> [u8; 32] {
    [group.0 as u8; 32]
}

/// A key that is no secret: its scalar is a small number.
pub fn signing_key(number: u32) -> Arc<SigningKey> {
    let mut scalar = [0; 32];
    scalar[28..].copy_from_slice(&(number + 2).to_be_bytes());
    let pkcs8 = [PKCS8_P256, &scalar].concat();
    Arc::new(SigningKey::from_pkcs8_der(&pkcs8).expect("a P-256 key"))
}

/// PKCS#8 of a P-256 key up to the scalar (RFC 5958, RFC 5915 without the public key).
const PKCS8_P256: &[u8] = &[
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A,
    0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20,
];

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// SFrame (RFC 9605 4.4) by hand, so that plaintexts can be encrypted that no sealer makes. Sender: leaf 0 of epoch 1, at
/// [`NOW`].
pub fn encrypt(group: GroupNumber, start: u8, counter: u16, topic: &str, plaintext: &[u8]) -> Vec<u8> {
    let key_id = u64::from(start) << 24 | 1;
    let ctr = (NOW % (1 << 40)) << 24 | u64::from(counter);
    let mut header = Vec::new();
    let field = |value: u64, out: &mut Vec<u8>| {
        if value < 8 {
            return value as u8;
        }
        let bytes: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.extend_from_slice(&bytes);
        8 | (bytes.len() - 1) as u8
    };
    let config = field(key_id, &mut header) << 4;
    let config = config | field(ctr, &mut header);
    header.insert(0, config);

    let (key, nonce) = key_and_nonce(group, key_id, ctr);
    let aad = [&header, [0xFD].as_slice(), &group.0.to_be_bytes(), topic.as_bytes()].concat();
    let mut data = plaintext.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut data).expect("small");
    [&[0xFD][..], &header, &data].concat()
}

/// What is in a genuine frame.
pub fn decrypt(group: GroupNumber, frame: &[u8]) -> (Header, Vec<u8>) {
    let header = Header::parse(frame).expect("genuine");
    let (outside, inside) = frame.split_at(header.header_bytes());
    let (key, nonce) = key_and_nonce(group, header.key_id.bits(), header.ctr());
    let aad = [&outside[1..], &[0xFD], &group.0.to_be_bytes(), TOPIC.as_bytes()].concat();
    let mut data = inside.to_vec();
    let plaintext = key.open_in_place(nonce, Aad::from(aad), &mut data).expect("genuine");
    (header, plaintext.to_vec())
}

fn key_and_nonce(group: GroupNumber, key_id: u64, ctr: u64) -> (LessSafeKey, Nonce) {
    let prk = Salt::new(HKDF_SHA256, &[]).extract(&secret(group));
    let expand = |label: &[u8], length| {
        let info = [label, &key_id.to_be_bytes(), &[0, 4]].concat();
        let mut out = vec![0; length];
        prk.expand(&[&info], Length(length)).and_then(|okm| okm.fill(&mut out)).expect("short enough");
        out
    };
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &expand(b"SFrame 1.0 Secret key ", 16)).expect("16"));
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&expand(b"SFrame 1.0 Secret salt ", 12));
    for (byte, count) in nonce[4..].iter_mut().zip(ctr.to_be_bytes()) {
        *byte ^= count;
    }
    (key, Nonce::assume_unique_for_key(nonce))
}

/// The start under which the genuine frames are sealed: one that [`encrypt`] can name.
pub fn start() -> Start {
    Start::new(5).expect("24 bits")
}

/// The genuine frames: those of [`SIGNED`], then as many of [`UNSIGNED`].
pub fn genuine_frames() -> Vec<Vec<u8>> {
    parts(FRAMES).map(<[u8]>::to_vec).collect()
}

/// The parts of `bytes`, each behind its length as u16.
pub fn parts(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        bytes = rest;
        Some(part)
    })
}
