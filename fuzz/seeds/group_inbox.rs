//! A device just before its Welcome comes, and seeds for what it may be sent.

use std::fs;

use sealcast_identity::SigningKey;

use crate::{
    body::{LEDGER, NOW_MS},
    world::{START_MS, World},
    write::fuzz_path,
};

type Failure = Box<dyn std::error::Error>;

/// Writes `fuzz/fixtures/group.bin`. All is made anew, so the corpus has to be made anew after it.
pub fn write_fixture() -> Result<(), Failure> {
    assert_eq!(START_MS, NOW_MS);
    let mut world = World::new();
    assert_eq!(world.genesis.id, LEDGER);
    let devices: Vec<usize> = ["1111", "1112", "1113"].into_iter().map(|name| world.device(name)).collect();
    let group = world.group("hsu", 0);
    world.group("other", 0);
    world.grant(group, devices[0]);
    world.settle();
    world.nodes[devices[1]].online = false;
    world.grant(group, devices[1]);
    world.run(1);

    let node = &world.nodes[devices[1]];
    let key = SigningKey::from_pkcs8_der(&node.pkcs8)?;
    let (_, inbox) = world.welcome(devices[1], group);
    let keys = |place: usize| world.keys.get(&world.nodes[devices[place]].id).ok_or("no keys");
    let records = world.ledger.records();
    let mut parts: Vec<Vec<u8>> = vec![
        key.to_pkcs8_der()?.to_vec(),
        node.chain[0].clone(),
        node.chain[1].clone(),
        world.ca.root.certificate().der().to_vec(),
        world.operator.public().to_uncompressed().to_vec(),
        inbox,
        keys(0)?.clone(),
        keys(2)?.clone(),
        u32::try_from(records.len())?.to_be_bytes().to_vec(),
    ];
    parts.extend(records.iter().map(|record| record.encode()));
    parts.extend(node.store.iter().flat_map(|(key, value)| [key.clone().into_bytes(), value.to_vec()]));
    let mut out = Vec::new();
    for part in parts {
        out.extend(u32::try_from(part.len())?.to_be_bytes());
        out.extend(part);
    }
    Ok(fs::write(fuzz_path("fixtures/group.bin"), out)?)
}

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let fixture = fs::read(fuzz_path("fixtures/group.bin"))?;
    let mut rest = fixture.as_slice();
    let mut parts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length))?;
        let (part, after) = after.split_at_checked(length).ok_or("cut off")?;
        parts.push(part);
        rest = after;
    }
    let [_, _, _, _, _, inbox, first, third, ..] = parts[..] else { return Err("too few parts".into()) };
    let say = |what: u8, bytes: &[u8]| -> Result<Vec<u8>, Failure> {
        Ok([&[what][..], &u16::try_from(bytes.len())?.to_be_bytes(), bytes].concat())
    };
    let mut seeds = vec![
        ("seed-inbox".to_owned(), say(0, inbox)?),
        ("seed-inbox-other-group".to_owned(), say(0x80, inbox)?),
        ("seed-inbox-other-committer".to_owned(), [say(0x40, inbox)?, say(0, inbox)?].concat()),
        ("seed-keys-first".to_owned(), say(1, first)?),
        ("seed-keys-third-as-first".to_owned(), say(1, third)?),
        ("seed-genuine".to_owned(), [say(2, b"")?, say(3, b"")?, say(0x84, b"")?, say(6, b"")?, say(5, b"")?].concat()),
        ("seed-keys-first-as-third".to_owned(), say(4, b"")?),
    ];
    for at in (0..inbox.len()).step_by(97) {
        let change = [&u16::try_from(at)?.to_be_bytes()[..], &[1]].concat();
        seeds.push((format!("seed-inbox-changed-{at}"), [say(2, &change)?, say(2, b"")?].concat()));
        seeds.push((format!("seed-keys-changed-{at}"), [say(3, &change)?, say(0x84, &change)?].concat()));
    }
    Ok(seeds)
}
