//! Ledger entries: the binary codec, each kind's body, reverts, and a replica that is given them.
//!
//! The ledger is the one of `crates/ledger/tests/contract.txt`, so that the contract's own records are taken.

use std::sync::OnceLock;

use sealcast_identity::PublicKey;
use sealcast_ledger::{
    AttestedHead, Body, Checkpoint, Genesis, Kind, Number, Record, Refusal, Replica, ReplicaError, SignedEntry,
};

/// What the contract itself wrote.
pub const CONTRACT: &str = include_str!("../../crates/ledger/tests/contract.txt");

/// Most records of one input: the rest adds nothing.
const MAX_RECORDS: usize = 64;

/// The contract's ledger.
struct World {
    genesis: Genesis,
    /// After all of the contract's records.
    full: Replica,
    records: Vec<Vec<u8>>,
    /// Originators that an input can name by one byte.
    originators: Vec<Number>,
}

pub fn run(data: &[u8]) {
    match data {
        [0, entry @ ..] => signed_entry(entry),
        [1, record @ ..] => one_record(record),
        [2, kind, body @ ..] => one_body(*kind, body),
        [3, kind, words @ ..] => one_body(*kind, &spread(words)),
        [4, data @ ..] => revert(data),
        [5, selector0, selector1, selector2, selector3, words @ ..] => {
            revert(&[&[*selector0, *selector1, *selector2, *selector3][..], &spread(words)].concat());
        }
        [6, records @ ..] => history(records),
        [7, from, entries @ ..] => unsigned(*from, entries),
        [8, statement @ ..] => attested(statement),
        [9, statement @ ..] => checkpoint(statement),
        _ => {}
    }
}

fn signed_entry(bytes: &[u8]) {
    match SignedEntry::decode(bytes) {
        Ok(entry) => {
            assert_eq!(entry.encode(), bytes, "an entry has one form");
            assert_eq!(entry.body().encode().as_deref(), Ok(entry.encoded_body()));
            let world = world();
            let digest = entry.digest(&world.genesis.id);
            assert_eq!(digest, entry.digest(&world.genesis.id));
            let _ = world.full.check(&entry);
            let _ = Replica::new(world.genesis).check(&entry);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Nobody has the operator's key, so nothing is taken for its word.
fn attested(bytes: &[u8]) {
    let genesis = &world().genesis;
    let error = AttestedHead::verify(bytes, &genesis.operator, &genesis.id).expect_err("nobody has signed it");
    assert!(!error.to_string().is_empty());
}

/// Nor a device's.
fn checkpoint(bytes: &[u8]) {
    let genesis = &world().genesis;
    let error = Checkpoint::verify(bytes, genesis.id.ca(), &genesis.ca, &genesis.id).expect_err("nobody has signed it");
    assert!(!error.to_string().is_empty());
}

fn one_record(bytes: &[u8]) {
    let Ok(record) = Record::decode(bytes) else { return };
    assert_eq!(record.encode(), bytes, "a record has one form");
    let world = world();
    let mut replica = Replica::new(world.genesis);
    if replica.apply(&record).is_ok() {
        assert!(world.records.first().is_some_and(|first| first == bytes), "a record was taken that nobody signed");
    }
    unchanged_by_a_refusal(&mut world.full.clone(), &record);
}

fn unchanged_by_a_refusal(replica: &mut Replica, record: &Record) {
    let before = (replica.height(), replica.head(), replica.last_time_s(), replica.groups().count());
    match replica.apply(record) {
        Ok(_) => panic!("a record was taken that nobody signed"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert_eq!((replica.height(), replica.head(), replica.last_time_s(), replica.groups().count()), before);
}

fn one_body(kind: u8, bytes: &[u8]) {
    let Ok(kind) = Kind::try_from(kind) else { return };
    match Body::decode(kind, bytes) {
        Ok(body) => {
            assert_eq!(body.kind(), kind);
            assert_eq!(body.encode().as_deref(), Ok(bytes), "only the canonical form is read");
            let entry = SignedEntry::from_parts(kind.number(), Number::from([7; 20]), 3, bytes, &[9; 64]);
            let entry = entry.expect("a body that is read makes an entry");
            assert_eq!(SignedEntry::decode(&entry.encode()).as_ref(), Ok(&entry));
            let _ = world().full.check(&entry);
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}

fn revert(data: &[u8]) {
    if let Some(refusal) = Refusal::from_revert(data) {
        assert!(!refusal.to_string().is_empty());
    }
}

/// Records one after another, `length u16 | record`.
fn history(bytes: &[u8]) {
    let world = world();
    let mut replica = Replica::new(world.genesis);
    for bytes in parts(bytes).take(MAX_RECORDS) {
        let Ok(record) = Record::decode(bytes) else { continue };
        let height = replica.height();
        match replica.apply(&record) {
            Ok(_) => {
                assert_eq!(replica.height(), height + 1);
                let at = usize::try_from(height).expect("small");
                assert!(world.records.get(at).is_some_and(|known| known == bytes), "nobody signed that");
            }
            Err(error) => {
                assert_eq!(replica.height(), height);
                assert!(!error.to_string().is_empty());
            }
        }
    }
    ask(&replica);
}

/// Entries as if signed, in their places with heads that fit: only the rules are left to stop them.
/// `kind u8 | originator u8 | time u8 | length u16 | body`; a body of one byte stands for that of the contract's record.
fn unsigned(from: u8, mut bytes: &[u8]) {
    let world = world();
    let mut replica = if from & 1 == 0 { Replica::new(world.genesis) } else { world.full.clone() };
    let spread_words = from & 2 != 0;
    for _ in 0..MAX_RECORDS {
        let Some(([kind, originator, later, high, low], rest)) = bytes.split_first_chunk::<5>() else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (body, rest) = rest.split_at(rest.len().min(length));
        bytes = rest;
        let Some(originator) = world.originators.get(usize::from(*originator) % world.originators.len()) else { break };
        let known = match body {
            [which] => world.records.get(usize::from(*which)).and_then(|record| Record::decode(record).ok()),
            _ => None,
        };
        let (kind, body) = match &known {
            Some(record) => (record.entry.kind().number(), record.entry.encoded_body().to_vec()),
            None if spread_words => (*kind, spread(body)),
            None => (*kind, body.to_vec()),
        };
        let nonce = replica.next_nonce(*originator);
        let Ok(entry) = SignedEntry::from_parts(kind, *originator, nonce, &body, &[9; 64]) else { continue };
        let (index, time_s) = (replica.height(), replica.last_time_s().saturating_add((*later).into()));
        let head = Record::next_head(&replica.head(), index, time_s, &entry, replica.current_id());
        let record = Record { index, time_s, entry, head };
        match replica.apply_without_signature_check(&record) {
            Ok(_) => assert_eq!((replica.height(), replica.head()), (index + 1, head)),
            Err(ReplicaError::Refused { .. }) => assert_eq!(replica.height(), index),
            Err(other) => panic!("{other}"),
        }
    }
    ask(&replica);
}

/// All that can be asked of a replica, for what it holds.
fn ask(replica: &Replica) {
    for topic in ["hsu/0001/temperature", "", "/", "$SYS/x", "sealcast/v1/keys/1111", "a/b/c"] {
        if let Some(group) = replica.group_for_topic(topic) {
            assert!(replica.group(group).is_some());
        }
    }
    for group in replica.groups() {
        let _ = (replica.about_group(group.number).len(), replica.granted_devices(group.number).count());
        assert_eq!(replica.group_by_name(&group.name).map(|found| found.number), Some(group.number));
        assert!(replica.commits_from(group.number, group.epoch).next().is_none());
    }
    for device in replica.devices() {
        let number = replica.genesis().id.number_of(&device.id);
        assert_eq!(replica.name_of(number), Some(device.id.as_str()));
        let _ = (replica.latest_keys(number), replica.about_originator(number).len());
    }
    assert_eq!(replica.head_at(replica.height()), Some(replica.head()));
}

/// ABI is made of whole words, mostly small: each byte becomes one, unless 0xFF and 32 bytes say it in full.
fn spread(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((byte, rest)) = bytes.split_first() {
        bytes = rest;
        match bytes.split_first_chunk::<32>() {
            Some((word, rest)) if *byte == 0xFF => {
                out.extend_from_slice(word);
                bytes = rest;
            }
            _ => {
                out.extend_from_slice(&[0; 31]);
                out.push(*byte);
            }
        }
    }
    out
}

/// The parts of `bytes`, each behind its length as u16.
fn parts(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        bytes = rest;
        Some(part)
    })
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let line = |first: &'static str| {
            CONTRACT.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(move |words| words[0] == first)
        };
        let words = line("genesis").next().expect("a genesis");
        let key = |text: &str| {
            let mut xy = [0; 64];
            hex::decode_to_slice(text, &mut xy).expect("hex");
            PublicKey::from_xy(xy).expect("a key")
        };
        let [root, ca, operator] = [2, 3, 4].map(|at| key(words[at]));
        let genesis = Genesis { id: words[1].parse().expect("an id"), root, ca, operator };
        let records: Vec<_> = line("record").map(|words| hex::decode(words[1]).expect("hex")).collect();
        let mut full = Replica::new(genesis);
        let mut originators = vec![genesis.id.ca(), genesis.id.operator(), Number::from([0; 20])];
        for record in &records {
            let record = Record::decode(record).expect("a record");
            full.apply(&record).expect("the contract's own");
            if !originators.contains(&record.entry.originator()) {
                originators.push(record.entry.originator());
            }
        }
        World { genesis, full, records, originators }
    })
}
