//! Welcomes on their way, from whoever writes into an inbox. `fuzz/fixtures/welcomes.bin` holds genuine ones, whose keys are
//! gone.

#[path = "genuine.rs"]
mod genuine;

use std::sync::OnceLock;

use sealcast_identity::PublicKey;
use sealcast_ledger::{DatedWelcome, GroupNumber, LedgerId, Number, WELCOME_HEAD_BYTES, WelcomeRoute};

use self::genuine::{changed, parts};

pub const LEDGERS: [LedgerId; 2] =
    [LedgerId { chain_id: 5318, address: [7; 20] }, LedgerId { chain_id: 5318, address: [8; 20] }];

/// Parts, each behind its length as u32: the public keys of both members; then, for each [`GENUINE`] way, the signed Welcome.
const FIXTURE: &[u8] = include_bytes!("../fixtures/welcomes.bin");

/// A way, which of both keys signs, on which ledger, and the Welcome with its height.
pub struct Genuine {
    pub route: (u16, u8, u8),
    pub key: usize,
    pub ledger: usize,
    pub dated: DatedWelcome<'static>,
}

const fn way(route: (u16, u8, u8), key: usize, ledger: usize, height: u64, welcome: &'static [u8]) -> Genuine {
    Genuine { route, key, ledger, dated: DatedWelcome { height, welcome } }
}

pub const GENUINE: [Genuine; 8] = [
    way((1, 11, 12), 0, 0, 5, b"welcome"),
    way((1, 11, 12), 0, 0, 6, b"another welcome"),
    way((1, 11, 12), 0, 0, u64::MAX, b""),
    way((2, 11, 12), 0, 0, 5, b"of another group"),
    way((1, 13, 12), 0, 0, 5, b"for another device"),
    way((1, 11, 14), 0, 0, 5, b"as another member"),
    way((1, 11, 12), 1, 0, 5, b"by another key"),
    way((1, 11, 12), 0, 1, 5, b"on another ledger"),
];

struct World {
    keys: [PublicKey; 2],
    signed: [&'static [u8]; GENUINE.len()],
}

/// `way u8 | what u8 | bytes`.
pub fn run(data: &[u8]) {
    let Some(([way, what], part)) = data.split_first_chunk::<2>() else { return };
    let world = world();
    let [first, second] = [what >> 2, what >> 5].map(|which| world.signed[usize::from(which & 7)]);
    let bytes = match what & 3 {
        0 => part.to_vec(),
        1 => changed(first, part),
        2 => [&first[..WELCOME_HEAD_BYTES], part].concat(),
        _ => [&first[..WELCOME_HEAD_BYTES], &second[WELCOME_HEAD_BYTES..]].concat(),
    };
    check(world, *way, &bytes);
}

/// Nobody has the keys: what is taken was signed for this very way.
fn check(world: &World, way: u8, bytes: &[u8]) {
    let bit = |place: u8| usize::from(way >> place & 1);
    let taken = ([1, 2][bit(0)], [11, 13][bit(1)], [12, 14][bit(2)]);
    let (key, ledger) = (bit(3), bit(4));
    match route(taken).verify(bytes, &world.keys[key], &LEDGERS[ledger]) {
        Ok(dated) => {
            let is_it = |genuine: &Genuine| {
                (genuine.route, genuine.key, genuine.ledger, genuine.dated) == (taken, key, ledger, dated)
            };
            assert!(GENUINE.iter().any(is_it), "a Welcome that nobody has signed for this way: {dated:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

pub fn route((group, addressee, committer): (u16, u8, u8)) -> WelcomeRoute {
    let number = |byte| Number::from([byte; 20]);
    let group = GroupNumber::new(group).expect("not 0");
    WelcomeRoute { group, addressee: number(addressee), committer: number(committer) }
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut parts = parts(FIXTURE);
        let mut next = || parts.next().expect("a part");
        let mut key = || PublicKey::from_uncompressed(next()).expect("a key");
        let world = World { keys: [key(), key()], signed: std::array::from_fn(|_| next()) };
        for (genuine, signed) in GENUINE.iter().zip(world.signed) {
            let taken = route(genuine.route).verify(signed, &world.keys[genuine.key], &LEDGERS[genuine.ledger]);
            assert_eq!(taken, Ok(genuine.dated), "the genuine Welcome is taken");
        }
        world
    })
}
