//! A device that is forgotten as soon as it has proven something, and seeds made of its proof.

use std::fs;

use sealcast_audit::{Shown, prove};
use sealcast_ledger::Record;

use crate::{
    world::{World, digest_only},
    write::fuzz_path,
};

type Failure = Box<dyn std::error::Error>;

/// Writes `fuzz/fixtures/proof.bin`. All is made anew, so the corpus has to be made anew after it.
pub fn write_fixture() -> Result<(), Failure> {
    let mut world = World::new();
    for count in [3, 4] {
        world.send(count);
        world.anchor();
    }
    let mut series = world.series(Some(0), 1);
    series.sent[3] = digest_only(&series.sent[3]);
    let proof = prove(&series, &[Shown::All, Shown::Nothing, Shown::Topic, Shown::All])?;
    let parts = [world.root.root().der().to_vec(), Record::encode_all(world.records()), proof.encode()];
    let mut out = Vec::new();
    for part in parts {
        out.extend(u32::try_from(part.len())?.to_be_bytes());
        out.extend(part);
    }
    Ok(fs::write(fuzz_path("fixtures/proof.bin"), out)?)
}

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let fixture = fs::read(fuzz_path("fixtures/proof.bin"))?;
    let mut rest = fixture.as_slice();
    let mut next = || {
        let (length, tail) = rest.split_first_chunk().ok_or("a length")?;
        let (part, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or("a part")?;
        rest = tail;
        Ok::<_, Failure>(part)
    };
    let (_root, ledger, proof) = (next()?, next()?, next()?);
    let mut seeds = vec![
        ("seed-proof".to_owned(), [&[0], proof].concat()),
        ("seed-ledger".to_owned(), [&[2], ledger].concat()),
        ("seed-genuine".to_owned(), vec![1]),
        ("seed-genuine-ledger".to_owned(), vec![3]),
    ];
    for at in (0..proof.len()).step_by(proof.len() / 40) {
        let place = u16::try_from(at)?.to_be_bytes();
        seeds.push((format!("seed-changed-{at}"), [&[1], &place[..], &[1]].concat()));
    }
    for length in [0, 8, 9, 40, 200] {
        seeds.push((format!("seed-cut-{length}"), [&[0], &proof[..length]].concat()));
        seeds.push((format!("seed-cut-ledger-{length}"), [&[2], &ledger[..length]].concat()));
    }
    Ok(seeds)
}
