//! Members that are forgotten as soon as they have signed, and seeds made of their Welcomes.

use std::fs;

use sealcast_identity::SigningKey;
use sealcast_ledger::WELCOME_HEAD_BYTES;

use crate::{
    body::{GENUINE, LEDGERS, route},
    write::fuzz_path,
};

type Failure = Box<dyn std::error::Error>;

/// Writes `fuzz/fixtures/welcomes.bin`. All is made anew, so the corpus has to be made anew after it.
pub fn write_fixture() -> Result<(), Failure> {
    let keys = [SigningKey::generate()?, SigningKey::generate()?];
    let mut parts: Vec<Vec<u8>> = keys.iter().map(|key| key.public().to_uncompressed().to_vec()).collect();
    for genuine in &GENUINE {
        parts.push(route(genuine.route).sign(genuine.dated, &keys[genuine.key], &LEDGERS[genuine.ledger])?);
    }
    let mut out = Vec::new();
    for part in parts {
        out.extend(u32::try_from(part.len())?.to_be_bytes());
        out.extend(part);
    }
    Ok(fs::write(fuzz_path("fixtures/welcomes.bin"), out)?)
}

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut seeds = Vec::new();
    for (place, genuine) in (0_u8..).zip(&GENUINE) {
        let (group, addressee, committer) = genuine.route;
        let bits = [group == 2, addressee == 13, committer == 14, genuine.key == 1, genuine.ledger == 1];
        let way = (0..).zip(bits).fold(0, |way, (bit, set)| way | u8::from(set) << bit);
        seeds.push((format!("seed-{place}-genuine"), vec![way, 1 | place << 2]));
        for bit in 0..bits.len() {
            seeds.push((format!("seed-{place}-way-{bit}"), vec![way ^ 1 << bit, 1 | place << 2]));
        }
        for at in [0, 1, 8, 9, 40, 72, 73, 78] {
            seeds.push((format!("seed-{place}-changed-{at}"), vec![way, 1 | place << 2, 0, at, 1]));
        }
        seeds.push((format!("seed-{place}-cut"), vec![way, 1 | place << 2, 1]));
        seeds.push((format!("seed-{place}-other"), [&[way, 2 | place << 2][..], GENUINE[1].dated.welcome].concat()));
        seeds.push((format!("seed-{place}-moved"), vec![way, 3 | place << 2 | 1 << 5]));
        seeds.push((
            format!("seed-{place}-any"),
            [&[way, 0][..], &[1; WELCOME_HEAD_BYTES], genuine.dated.welcome].concat(),
        ));
    }
    Ok(seeds)
}
