//! Batches: what a member that knows the group's key makes of the genuine ones.
//!
//! It takes them apart and puts them together as it likes, and encrypts them properly. Nothing opens but what the sender
//! sealed, and that whether or not the receiver has verified the batch before.

#[path = "sealed_frames.rs"]
pub mod frames;

use sealcast_seal::{GroupKeys, Opener};

use self::frames::{SIGNED, TOPIC, decrypt, encrypt, genuine_frames, group_keys, open, start};

const SIGNATURE_BYTES: usize = 64;

/// The plaintext of a genuine frame, and its number.
struct Genuine {
    counter: u16,
    plaintext: Vec<u8>,
}

struct World {
    frames: Vec<Vec<u8>>,
    genuine: Vec<Genuine>,
    /// Of a receiver that has verified every batch.
    warm: GroupKeys,
}

impl World {
    fn new() -> Self {
        let mut frames = genuine_frames();
        frames.truncate(frames.len() / 2);
        let genuine = frames.iter().map(|frame| {
            let (header, plaintext) = decrypt(SIGNED, frame);
            Genuine { counter: header.counter as u16, plaintext }
        });
        let (genuine, warm) = (genuine.collect(), group_keys(SIGNED, 1));
        for frame in &frames {
            assert!(open(&mut Opener::new(), &warm, 0, TOPIC, frame).is_ok(), "a genuine frame did not open");
        }
        Self { frames, genuine, warm }
    }

    fn genuine(&self, which: u8) -> &Genuine {
        &self.genuine[usize::from(which) % self.genuine.len()]
    }
}

thread_local! {
    static WORLD: World = World::new();
}

pub fn run(data: &[u8]) {
    WORLD.with(|world| {
        let [which, number, changes @ ..] = data else { return };
        let mut plaintext = world.genuine(*which).plaintext.clone();
        changes
            .chunks_exact(4)
            .for_each(|change| alter(world, &mut plaintext, [change[0], change[1], change[2], change[3]]));
        let frame = encrypt(SIGNED, start().bits() as u8, world.genuine(*number).counter, TOPIC, &plaintext);
        let is_genuine = world.frames.contains(&frame);
        for keys in [&world.warm, &group_keys(SIGNED, 1)] {
            let opened = open(&mut Opener::new(), keys, 0, TOPIC, &frame);
            assert_eq!(opened.is_ok(), is_genuine, "{opened:?}");
        }
    });
}

/// One change: of a byte, or of a part, which is taken from another message.
fn alter(world: &World, plaintext: &mut Vec<u8>, [what, a, b, c]: [u8; 4]) {
    let at = usize::from(u16::from_be_bytes([a, b]));
    let end = plaintext.len().saturating_sub(SIGNATURE_BYTES);
    match what {
        0 => {
            if let Some(byte) = plaintext.get_mut(at) {
                *byte ^= c;
            }
        }
        // Counted from the end, where the proof is.
        1 => {
            if let Some(byte) = plaintext.iter_mut().rev().nth(at) {
                *byte ^= c;
            }
        }
        2 => {
            let other = &world.genuine(c).plaintext;
            plaintext.truncate(end);
            plaintext.extend_from_slice(&other[other.len() - SIGNATURE_BYTES..]);
        }
        // The end of another message in the place of this one's.
        3 => {
            let other = &world.genuine(c).plaintext;
            plaintext.truncate(plaintext.len().saturating_sub(at));
            plaintext.extend_from_slice(&other[other.len().saturating_sub(at)..]);
        }
        4 => {
            if let [.., index, last] = &mut plaintext[..end] {
                (*index, *last) = (a, b);
            }
        }
        5 => {
            let at = at.min(plaintext.len());
            plaintext.splice(at..at, [c; 32]);
        }
        6 => drop(plaintext.drain(at.min(plaintext.len())..(at + usize::from(c)).min(plaintext.len()))),
        _ => {}
    }
}
