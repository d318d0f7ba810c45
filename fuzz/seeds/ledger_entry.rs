//! Seeds: the contract's own records whole, in parts and in order, and its reverts.

use alloy_primitives::keccak256;
use sealcast_ledger::Record;

use crate::body::CONTRACT;

type Failure = Box<dyn std::error::Error>;

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let lines = |first: &'static str| {
        CONTRACT.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(move |words| words[0] == first)
    };
    let records: Vec<Vec<u8>> = lines("record").map(|words| hex::decode(words[1])).collect::<Result<_, _>>()?;
    let mut seeds = Vec::new();
    let (mut history, mut unsigned) = (vec![6], vec![7, 0]);
    for (place, bytes) in records.iter().enumerate() {
        let entry = Record::decode(bytes)?.entry;
        seeds.push((format!("seed-record-{place}"), [&[1][..], bytes].concat()));
        seeds.push((format!("seed-entry-{place}"), [&[0][..], &entry.encode()].concat()));
        let kind = entry.kind().number();
        seeds.push((format!("seed-body-{place}"), [&[2, kind][..], entry.encoded_body()].concat()));
        seeds.push((format!("seed-words-{place}"), [&[3, kind][..], &gather(entry.encoded_body())].concat()));
        let length = u16::try_from(bytes.len())?.to_be_bytes();
        history.extend(length);
        history.extend(bytes);
        for originator in 0..2 {
            unsigned.extend([kind, originator, 1, 0, 1, u8::try_from(place)?]);
        }
    }
    seeds.push(("seed-history".to_owned(), history));
    seeds.push(("seed-unsigned".to_owned(), unsigned));
    for signature in ERRORS {
        let words = revert(signature);
        let selector = &keccak256(signature).0[..4];
        let name = signature.split('(').next().unwrap_or_default();
        seeds.push((format!("seed-revert-{name}"), [&[4], selector, &words].concat()));
        seeds.push((format!("seed-revert-words-{name}"), [&[5], selector, &gather(&words)].concat()));
    }
    Ok(seeds)
}

/// The contract's errors, one for each list of types.
const ERRORS: [&str; 12] = [
    "P256Unavailable()",
    "UnknownKind(uint8)",
    "ClockWentBack(uint64,uint256)",
    "BadLength(string,uint256,uint256,uint256)",
    "BadText(string,uint256)",
    "BadFilter(string,uint256)",
    "NotAuthorized(uint8,address)",
    "NumberTaken(address,string)",
    "WrongCertificate(bytes32,bytes32)",
    "KeyPackageTaken(bytes32,address)",
    "NameTaken(string,uint16)",
    "WrongEpoch(uint32,uint64,uint32,uint64)",
];

/// ABI: each argument is 1, or the text "ab".
fn revert(signature: &str) -> Vec<u8> {
    let word = |value: u8| [[0; 31].as_slice(), &[value]].concat();
    let list = signature.split_once('(').map_or("", |(_, list)| list.trim_end_matches(')'));
    let types: Vec<&str> = list.split(',').filter(|of| !of.is_empty()).collect();
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    for of in &types {
        if *of == "string" {
            head.extend(word((types.len() * 32 + tail.len()) as u8));
            tail.extend(word(2));
            tail.extend([b"ab".as_slice(), &[0; 30]].concat());
        } else {
            head.extend(word(1));
        }
    }
    [head, tail].concat()
}

/// Words as the target spreads them.
fn gather(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in bytes.chunks(32) {
        match word.split_last() {
            Some((last, zeros)) if *last != 0xFF && zeros.iter().all(|byte| *byte == 0) => out.push(*last),
            _ => {
                out.push(0xFF);
                out.extend_from_slice(word);
            }
        }
    }
    out
}
