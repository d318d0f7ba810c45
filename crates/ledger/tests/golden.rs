//! Records that the contract made in an EVM are what the replica expects, to the byte.

use std::collections::BTreeSet;

use sealcast_identity::PublicKey;
use sealcast_ledger::{Event, Genesis, Hash, Kind, LedgerId, Number, Record, Replica};

type Failure = Box<dyn std::error::Error>;

/// Written by the contract, see its first lines.
const CONTRACT: &str = include_str!("contract.txt");

fn lines(first: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    CONTRACT.lines().map(|line| line.split(' ').collect()).filter(move |words: &Vec<_>| words.first() == Some(&first))
}

fn genesis() -> Result<(Genesis, Hash), Failure> {
    let words = lines("genesis").next().ok_or("no genesis")?;
    let [_, id, root, ca, operator, head] = words[..] else { return Err("genesis".into()) };
    let key = |text: &str| -> Result<PublicKey, Failure> {
        let mut xy = [0; 64];
        hex::decode_to_slice(text, &mut xy)?;
        Ok(PublicKey::from_xy(xy)?)
    };
    Ok((Genesis { id: id.parse()?, root: key(root)?, ca: key(ca)?, operator: key(operator)? }, head.parse()?))
}

#[test]
fn numbers_and_heads_are_the_contracts() -> Result<(), Failure> {
    let (genesis, head) = genesis()?;
    assert_eq!(genesis.head(), head);
    assert_eq!(genesis.id.to_string().parse::<LedgerId>()?, genesis.id);
    for words in lines("number") {
        let [_, name, number] = words[..] else { return Err("number".into()) };
        let number: Number = number.parse()?;
        let ours = match name {
            "root" => genesis.id.root(),
            "ca" => genesis.id.ca(),
            "operator" => genesis.id.operator(),
            device => genesis.id.number_of(&device.parse()?),
        };
        assert_eq!(ours, number, "{name}");
    }
    Ok(())
}

#[test]
fn records_of_every_kind_are_taken() -> Result<(), Failure> {
    let mut replica = Replica::new(genesis()?.0);
    let mut kinds = BTreeSet::new();
    for words in lines("record") {
        let bytes = hex::decode(words.get(1).ok_or("no record")?)?;
        let record = Record::decode(&bytes)?;
        assert_eq!(record.encode(), bytes);
        assert_eq!(record.entry.body().encode()?, record.entry.encoded_body());
        replica.apply(&record)?;
        kinds.insert(record.entry.kind());
    }
    assert_eq!(kinds.len(), Kind::ALL.len());
    Ok(())
}

#[test]
fn readings_are_judged_and_counted_as_by_the_contract() -> Result<(), Failure> {
    let mut replica = Replica::new(genesis()?.0);
    let mut verdicts = lines("verdict");
    let mut codes = BTreeSet::new();
    for words in lines("record") {
        let record = Record::decode(&hex::decode(words.get(1).ok_or("no record")?)?)?;
        if let Event::Reading { verdict, .. } = replica.apply(&record)? {
            let expected = verdicts.next().ok_or("a verdict is missing")?;
            let code = verdict.code().to_string();
            assert_eq!(expected, ["verdict", &record.index.to_string(), &code], "{verdict}");
            codes.insert(verdict.code());
        }
    }
    assert_eq!(verdicts.next(), None);
    assert_eq!(codes.len(), 8, "each verdict is among them: {codes:?}");
    let mut devices = 0;
    for words in lines("counts") {
        let [_, device, accepted, refused] = words[..] else { return Err("counts".into()) };
        let counts = replica.reading_counts(device.parse()?);
        assert_eq!((counts.accepted, counts.refused), (accepted.parse()?, refused.parse()?), "{device}");
        devices += 1;
    }
    assert!(devices > 0);
    Ok(())
}

/// No change of a bit, no cut and no addition is read without being noticed, or panics.
#[test]
fn every_flipped_bit_is_noticed() -> Result<(), Failure> {
    let mut replica = Replica::new(genesis()?.0);
    let mut kinds = BTreeSet::new();
    for words in lines("record") {
        let bytes = hex::decode(words.get(1).ok_or("no record")?)?;
        let record = Record::decode(&bytes)?;
        if kinds.insert(record.entry.kind()) {
            for length in 0..bytes.len() {
                assert!(Record::decode(&bytes[..length]).is_err());
            }
            assert!(Record::decode(&[&bytes[..], &[0]].concat()).is_err());
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let Ok(changed) = Record::decode(&changed) else { continue };
                assert!(replica.clone().apply(&changed).is_err(), "bit {bit} of record {}", record.index);
            }
        }
        replica.apply(&record)?;
    }
    Ok(())
}
