//! Sealed frames: headers, opening, and the stored state of an opener.
//!
//! Whatever opens besides the genuine frames is a forgery, except in the last mode, where a member of the group says what it
//! likes.

#[path = "sealed_frames.rs"]
pub mod frames;

use std::{cell::RefCell, collections::BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use sealcast_seal::{GroupKeys, GroupNumber, Header, OpenError, Opened, Opener};

use self::frames::{SIGNED, TOPIC, UNSIGNED, encrypt, genuine_frames, group_keys, open};

/// The two groups' keys as leaf 1 holds them, and the genuine frames: as many of the one as of the other.
struct World {
    signed: GroupKeys,
    unsigned: GroupKeys,
    frames: Vec<Vec<u8>>,
    /// SHA-256 of these.
    digests: BTreeSet<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let frames = genuine_frames();
        let digests = frames.iter().map(|frame| sha256(frame)).collect();
        Self { signed: group_keys(SIGNED, 1), unsigned: group_keys(UNSIGNED, 1), frames, digests }
    }

    /// Whether a member's frame is genuine. libFuzzer learns what is compared, and would give the frame to the other modes,
    /// where nobody has the key.
    fn has(&self, frame: &[u8]) -> bool {
        self.digests.contains(&sha256(frame))
    }

    fn group_of(&self, which: usize) -> GroupNumber {
        if which < self.frames.len() / 2 { SIGNED } else { UNSIGNED }
    }
}

thread_local! {
    static WORLD: World = World::new();
    /// What an opener that has seen the genuine frames remembers.
    static SEEN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

pub fn run(data: &[u8]) {
    WORLD.with(|world| match data {
        [0, how, topic, frame @ ..] => raw(world, *how, *topic, frame),
        [1, how, which, changes @ ..] => changed(world, *how, *which, changes),
        [2, stored @ ..] => import(world, stored),
        [3, rows @ ..] => restore(world, rows),
        [4, how, start, counter @ ..] if counter.len() > 2 => {
            let (counter, plaintext) = counter.split_at(2);
            insider(world, *how, *start, [counter[0], counter[1]], plaintext);
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
    let which = usize::from(which) % world.frames.len();
    let genuine = &world.frames[which];
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
        if !same || keys.group() != world.group_of(which) {
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
            let Ok(Opened::Message(message) | Opened::Tombstone(message)) = open(opener, keys, 0, TOPIC, frame) else {
                continue;
            };
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
fn insider(world: &World, how: u8, start: u8, counter: [u8; 2], plaintext: &[u8]) {
    const SHORTEST_BYTES: usize = 4;
    let counter = u16::from_be_bytes(counter);
    for keys in [&world.signed, &world.unsigned] {
        let frame = encrypt(keys.group(), start, counter, TOPIC, plaintext);
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
        let genuine = world.has(&frame);
        assert!(keys.group() == UNSIGNED || genuine, "a member wrote in another's name");
        if let Opened::Message(message) | Opened::Tombstone(message) = opened {
            assert!(message.props().len() + message.payload().len() <= plaintext.len());
            opener.mark_delivered(&message.receipt());
            opener.mark_acknowledged(&message.receipt());
            Opener::import(&opener.export()).expect("what was exported is read");
        }
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}
