//! Sealed frames: headers, opening, and the stored state of an opener.
//!
//! The keys are fixed, so the genuine frames in `fuzz/fixtures/frames.bin` open for ever. Whatever else opens is a
//! forgery, except in the last mode, where a member of the group says what it likes.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use sealcast_identity::SigningKey;
use sealcast_seal::{
    Authenticity, Delivery, DeliveryKind, Epoch, EpochId, EpochSecret, Freshness, GroupKeys, GroupNumber, HandOver,
    Header, LeafIndex, Member, OpenError, Opened, Opener,
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

/// The two groups' keys as leaf 1 holds them, and the genuine frames.
struct World {
    signed: GroupKeys,
    unsigned: GroupKeys,
    frames: Vec<Vec<u8>>,
}

thread_local! {
    static WORLD: World = World {
        signed: group_keys(SIGNED, 1),
        unsigned: group_keys(UNSIGNED, 1),
        frames: parts(FRAMES).map(<[u8]>::to_vec).collect(),
    };
    /// What an opener that has seen the genuine frames remembers.
    static SEEN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

pub fn run(data: &[u8]) {
    WORLD.with(|world| match data {
        [0, how, topic, frame @ ..] => raw(world, *how, *topic, frame),
        [1, how, which, changes @ ..] => changed(world, *how, *which, changes),
        [2, stored @ ..] => import(world, stored),
        [3, rows @ ..] => restore(world, rows),
        [4, how, boot, counter @ ..] if counter.len() > 2 => {
            let (counter, plaintext) = counter.split_at(2);
            insider(world, *how, *boot, [counter[0], counter[1]], plaintext);
        }
        _ => {}
    });
}

/// Any bytes as a frame.
fn raw(world: &World, how: u8, topic: u8, frame: &[u8]) {
    if let Ok(header) = Header::parse(frame) {
        assert!(header.header_bytes() <= frame.len());
        assert!(header.counter <= Header::MAX_COUNTER);
    }
    let topic = if topic == 0 { TOPIC } else { "hsu/0001/pressure" };
    for keys in [&world.signed, &world.unsigned] {
        let opened = open(&mut Opener::new(), keys, how, topic, frame);
        if opened.is_ok() {
            assert!(topic == TOPIC && world.frames.iter().any(|genuine| genuine == frame), "a forgery opened");
        }
    }
}

/// A genuine frame, changed: `position u16 | xor u8` again and again; `how` may cut it or add to it.
fn changed(world: &World, how: u8, which: u8, changes: &[u8]) {
    let Some(genuine) = world.frames.get(usize::from(which) % world.frames.len().max(1)) else { return };
    let mut frame = genuine.clone();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % frame.len();
        frame[at] ^= change[2];
    }
    match (how & 0xC0, changes.chunks_exact(3).remainder()) {
        (0x40, [cut, ..]) => frame.truncate(frame.len().saturating_sub((*cut).into())),
        (0x80, more) => frame.extend_from_slice(more),
        _ => {}
    }
    let same = frame == *genuine;
    for keys in [&world.signed, &world.unsigned] {
        let opened = open(&mut Opener::new(), keys, how & 0x3F, TOPIC, &frame);
        if Header::parse(genuine).is_ok_and(|header| header.group != keys.group()) || !same {
            assert!(opened.is_err() || world.frames.contains(&frame), "a changed frame opened");
        } else if how & 0x3F == 0 {
            assert!(opened.is_ok(), "a genuine frame did not open: {opened:?}");
        }
    }
}

/// Stored state in one piece.
fn import(world: &World, stored: &[u8]) {
    let Ok(mut opener) = Opener::import(stored) else { return };
    let again = opener.export();
    let back = Opener::import(&again).expect("what was exported is read");
    assert_eq!(back.export(), again, "state has one form");
    use_up(world, &mut opener);
}

/// Stored state in rows: `key length u8 | key | value length u8 | value`.
fn restore(world: &World, mut bytes: &[u8]) {
    let mut rows = Vec::new();
    let part = |bytes: &mut &[u8]| {
        let (length, rest) = bytes.split_first()?;
        let (part, rest) = rest.split_at_checked((*length).into())?;
        *bytes = rest;
        Some(part.to_vec())
    };
    while let (Some(key), Some(value)) = (part(&mut bytes), part(&mut bytes)) {
        rows.push((key, value));
    }
    let Ok(mut opener) = Opener::restore(rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))) else {
        return;
    };
    let back = Opener::import(&opener.export()).expect("what was exported is read");
    assert_eq!(back.export(), opener.export());
    let before = opener.changes();
    use_up(world, &mut opener);
    let _ = before;
}

/// An opener with any state opens each genuine frame at most once.
fn use_up(world: &World, opener: &mut Opener) {
    for frame in &world.frames {
        for keys in [&world.signed, &world.unsigned] {
            let Ok(Opened::Message(message)) = open(opener, keys, 0, TOPIC, frame) else { continue };
            opener.mark_delivered(&message.receipt());
            opener.mark_acknowledged(&message.receipt());
            if !message.is_retain() {
                assert!(open(opener, keys, 0, TOPIC, frame).is_err(), "a frame opened twice");
            }
        }
    }
    for keys in [&world.signed, &world.unsigned] {
        opener.retain_epochs(keys);
    }
    let rows = opener.changes().rows;
    let rows = rows.iter().filter_map(|row| Some((row.key.as_slice(), row.value.as_deref()?)));
    Opener::restore(rows).expect("what was to be stored is read");
}

/// A plaintext of a member's own making, properly encrypted: it has the epoch's secret, and no other member's key.
fn insider(world: &World, how: u8, boot: u8, counter: [u8; 2], plaintext: &[u8]) {
    const SHORTEST_BYTES: usize = 7;
    let counter = u16::from_be_bytes(counter);
    for keys in [&world.signed, &world.unsigned] {
        let frame = encrypt(keys.group(), boot, counter, TOPIC, plaintext);
        let mut opener = SEEN.with_borrow_mut(|seen| {
            let seen = seen.get_or_insert_with(|| {
                let mut opener = Opener::new();
                use_up(world, &mut opener);
                opener.export()
            });
            Opener::import(seen).expect("our own")
        });
        let opened = open(&mut opener, keys, how, TOPIC, &frame);
        let read = !matches!(opened, Err(OpenError::Header(_)));
        assert_eq!(read, plaintext.len() >= SHORTEST_BYTES, "{opened:?}");
        let Ok(opened) = opened else { continue };
        let genuine = world.frames.contains(&frame);
        assert!(keys.group() == UNSIGNED || genuine, "a member wrote in another's name");
        if let Opened::Message(message) = opened {
            assert!(message.props().len() + message.payload().len() <= plaintext.len());
            opener.mark_delivered(&message.receipt());
            opener.mark_acknowledged(&message.receipt());
            Opener::import(&opener.export()).expect("what was exported is read");
        }
    }
}

fn open(opener: &mut Opener, keys: &GroupKeys, how: u8, topic: &str, frame: &[u8]) -> Result<Opened, OpenError> {
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
    let mut keys = GroupKeys::new(group, "hsu", device(leaf), 2);
    let epoch = Epoch {
        id: EpochId { generation: 0, epoch: 1 },
        secret: EpochSecret::new(secret(group)),
        own_leaf: leaf_at(leaf),
        roster,
        authenticity: if group == SIGNED { Authenticity::Signature } else { Authenticity::Group },
        since_ms: NOW,
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

/// SFrame (RFC 9605 4.4) by hand, so that plaintexts can be encrypted that no sealer makes. Sender: leaf 0 of epoch 1.
fn encrypt(group: GroupNumber, boot: u8, counter: u16, topic: &str, plaintext: &[u8]) -> Vec<u8> {
    let key_id = u64::from(boot) << 26 | 1;
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
    let config = config | field(counter.into(), &mut header);
    header.insert(0, config);
    let prefix = [0xFE, 1, (group.0 >> 8) as u8, group.0 as u8];

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
    for (byte, count) in nonce[10..].iter_mut().zip(counter.to_be_bytes()) {
        *byte ^= count;
    }
    let aad = [&header, prefix.as_slice(), topic.as_bytes()].concat();
    let mut data = plaintext.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut data).expect("small");
    [&prefix[..], &header, &data].concat()
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
