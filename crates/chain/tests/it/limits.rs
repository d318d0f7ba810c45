//! Readings through the contract: what it takes, how it judges, and that a client computes the same.

use std::{fmt::Write as _, num::NonZeroU128};

use alloy::{
    primitives::{Address, B256},
    sol_types::{SolCall, SolEvent as _},
};
use sealcast_chain::{Engine, EngineConfig, Ledger, Node, Wallet};
use sealcast_identity::SigningKey;
use sealcast_ledger::{
    Anchor, Body, DeviceRevoked, Epoch, Event, FaultReported, Generation, Granted, GroupNumber, GroupReset, Hash,
    KeyRotated, KeysPublished, LedgerId, Limits, LimitsSet, Moved, Number, Reading, Record, Refusal, Replica,
    Reporters, Revoked, SequenceRule,
    testing::{Cast, MemoryLedger},
};
use sealcast_ledger_client::SubmitError;

use crate::world::{World, all, commit, group};

alloy::sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    SealcastLedger,
    "../../contracts/SealcastLedger.json"
);

pub fn hex_of(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

pub fn address(number: Number) -> Address {
    (*number.as_bytes()).into()
}

pub async fn request(engine: &Engine, method: &str, params: serde_json::Value) -> serde_json::Value {
    let request = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    serde_json::from_slice(&engine.handle(request.to_string().as_bytes()).await).unwrap()
}

/// A view of the contract, or why it reverts.
pub async fn view<C: SolCall>(engine: &Engine, ledger: LedgerId, call: C) -> Result<C::Return, Option<Refusal>> {
    let call = serde_json::json!({ "to": hex_of(&ledger.address), "input": hex_of(&call.abi_encode()) });
    let answer = request(engine, "eth_call", serde_json::json!([call, "latest"])).await;
    let bytes = |text: &serde_json::Value| hex::decode(text.as_str().unwrap().trim_start_matches("0x")).unwrap();
    match answer.get("result") {
        Some(result) => Ok(C::abi_decode_returns_validate(&bytes(result)).unwrap()),
        None => Err(Refusal::from_revert(&bytes(&answer["error"]["data"]))),
    }
}

/// The contract's verdicts, in order: index, device and code of each.
async fn judged(engine: &Engine, ledger: LedgerId) -> Vec<(u64, Address, u8)> {
    let topic = SealcastLedger::ReadingJudged::SIGNATURE_HASH;
    let filter = serde_json::json!({ "address": hex_of(&ledger.address), "fromBlock": "0x0", "topics": [topic] });
    let answer = request(engine, "eth_getLogs", serde_json::json!([filter])).await;
    let verdict = |log: &serde_json::Value| {
        let topics: Vec<B256> = serde_json::from_value(log["topics"].clone()).unwrap();
        let event = SealcastLedger::ReadingJudged::decode_raw_log_validate(topics, &[]).unwrap();
        (event.index, event.device, event.verdict)
    };
    answer["result"].as_array().unwrap_or_else(|| panic!("{answer}")).iter().map(verdict).collect()
}

/// Everything that the contract says of readings is what a replica makes of its records.
pub async fn same_verdicts(engine: &Engine, ledger: LedgerId, genesis: sealcast_ledger::Genesis, records: &[Record]) {
    let mut replica = Replica::new(genesis);
    let mut mine = Vec::new();
    for record in records {
        if let Event::Reading { verdict, .. } = replica.apply(record).unwrap() {
            mine.push((record.index, address(record.entry.originator()), verdict.code()));
        }
    }
    assert_eq!(judged(engine, ledger).await, mine);
    for device in replica.devices() {
        let member = address(device.number);
        let counts = view(engine, ledger, SealcastLedger::readingsOfCall { member }).await.unwrap();
        let expected = replica.reading_counts(device.number);
        assert_eq!((counts.accepted, counts.refused), (expected.accepted, expected.refused));
        for (number, topic, stream) in replica.streams(device.number) {
            let call = SealcastLedger::streamOfCall { number: number.get(), topic: topic.to_string(), member };
            let theirs = view(engine, ledger, call).await.unwrap();
            assert_eq!(
                (theirs.accepted, theirs.refused, theirs.sequence, theirs.version),
                (stream.accepted, stream.refused, stream.sequence, stream.version)
            );
            assert_eq!(theirs.measured.then_some(theirs.value), stream.value);
        }
        for group in replica.groups() {
            for (topic, limits) in &group.limits {
                let (number, topic) = (group.number.get(), topic.to_string());
                let call = SealcastLedger::mayReportCall { number, topic: topic.clone(), member };
                assert_eq!(view(engine, ledger, call).await, Ok(limits.lists(device.number)));
                let theirs = view(engine, ledger, SealcastLedger::limitsOfCall { number, topic }).await.unwrap();
                let mine = &limits.limits;
                assert_eq!((theirs.min, theirs.max, theirs.version), (mine.min, mine.max, limits.version));
                assert_eq!((theirs.decimals, theirs.unit.as_str()), (mine.decimals, mine.unit.as_str()));
            }
        }
    }
}

fn limits() -> Limits {
    Limits {
        min: -100,
        max: 1_000,
        max_step: NonZeroU128::new(50),
        decimals: 1,
        unit: "Cel".parse().unwrap(),
        sequence: SequenceRule::Increasing,
        reporters: Reporters::Granted,
    }
}

fn set(group: GroupNumber, topic: &str, limits: Limits) -> Body {
    Body::LimitsSet(LimitsSet { group, topic: topic.parse().unwrap(), limits })
}

fn reading(group: GroupNumber, topic: &str, sequence: u64, value: i128, decimals: u8) -> Body {
    Body::Reading(Reading { group, topic: topic.parse().unwrap(), time_ms: 7, sequence, value, decimals })
}

/// What is said of `g/temp`, under limits as they change, and the contract's verdict on it.
const SAID: [(u64, i128, u8, u8); 13] = [
    (5, 213, 1, 0),
    (5, 213, 1, 2),
    (6, 22, 0, 0),
    (7, 2225, 2, 4),
    (8, 2220, 2, 0),
    (9, -101, 1, 5),
    (10, i128::MIN, 0, 5),
    (11, 1001, 1, 6),
    (12, i128::MAX, 0, 6),
    (13, i128::MAX, 38, 4),
    (14, 273, 1, 7),
    (15, 171, 1, 7),
    (u64::MAX, 272, 1, 0),
];

fn refusal(result: Result<Record, SubmitError>) -> Refusal {
    match result {
        Err(SubmitError::Refused(refusal)) => refusal,
        other => panic!("must be refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_limit_is_kept_by_the_contract_and_what_breaks_it_is_written() {
    let world = World::new().await;
    let (a, b) = (world.register("1111").await, world.register("1112").await);
    let g = world.group("g", &[&a]).await;

    // What is no entry at all: it reverts, and leaves no trace.
    let without = |topic: &str| Refusal::NoLimits { group: g.get(), topic: topic.into() };
    assert_eq!(refusal(world.submit(&a, reading(g, "g/temp", 1, 0, 0)).await), without("g/temp"));
    let by_member = world.submit(&a, set(g, "g/temp", limits())).await;
    assert_eq!(refusal(by_member), Refusal::NotAuthorized { kind: 11, originator: a.number });
    for topic in ["h/temp", "gg", "sealcast/g"] {
        let outside = Refusal::TopicOutside { group: g.get(), topic: topic.into() };
        assert_eq!(refusal(world.by_operator(set(g, topic, limits())).await), outside);
    }
    let nobody = world.id().number_of(&"9999".parse().unwrap());
    let stranger = Limits { reporters: Reporters::Listed(vec![nobody]), ..limits() };
    assert_eq!(refusal(world.by_operator(set(g, "g/temp", stranger)).await), Refusal::UnknownDevice { device: nobody });
    let unknown = GroupNumber::new(99).unwrap();
    assert_eq!(refusal(world.by_operator(set(unknown, "g", limits())).await), Refusal::UnknownGroup { group: 99 });

    world.by_operator(set(g, "g/temp", limits())).await.unwrap();
    world.by_operator(set(g, "g", limits())).await.unwrap();
    let outsider = world.submit(&b, reading(g, "g/temp", 1, 0, 0)).await;
    assert_eq!(refusal(outsider), Refusal::NotGranted { group: g.get(), device: b.number });
    assert_eq!(refusal(world.submit(&a, reading(g, "g/other", 1, 0, 0)).await), without("g/other"));
    let operator = world.by_operator(reading(g, "g/temp", 1, 0, 0)).await;
    assert_eq!(refusal(operator), Refusal::NotAuthorized { kind: 8, originator: world.id().operator() });

    // What is an entry, and judged.
    let mut codes = Vec::new();
    for (sequence, value, decimals, code) in SAID {
        world.submit(&a, reading(g, "g/temp", sequence, value, decimals)).await.unwrap();
        codes.push(code);
    }
    // Set anew, the limits let the device begin again, here without gaps.
    let gapless = Limits { sequence: SequenceRule::Gapless, max_step: None, ..limits() };
    world.by_operator(set(g, "g/temp", gapless)).await.unwrap();
    for (sequence, code) in [(1, 0), (2, 0), (4, 3), (5, 0), (u64::MAX, 3), (u64::MAX, 2)] {
        world.submit(&a, reading(g, "g/temp", sequence, -100, 1)).await.unwrap();
        codes.push(code);
    }
    world.by_operator(Body::Granted(Granted { group: g, device: b.number })).await.unwrap();
    let only = Limits { reporters: Reporters::Listed(vec![b.number]), ..limits() };
    world.by_operator(set(g, "g/temp", only)).await.unwrap();
    for (device, code) in [(&a, 1), (&b, 0)] {
        world.submit(device, reading(g, "g/temp", 1, 0, 0)).await.unwrap();
        codes.push(code);
    }

    let theirs: Vec<u8> = judged(&world.engine, world.id()).await.into_iter().map(|(.., code)| code).collect();
    assert_eq!(theirs, codes);
    same_verdicts(&world.engine, world.id(), world.genesis(), &all(&world.ledger).await).await;

    // A revoked device says nothing more, and its counts stay.
    let reason = "lost".parse().unwrap();
    world.by_ca(Body::DeviceRevoked(DeviceRevoked { device: a.number, reason })).await.unwrap();
    let after = world.submit(&a, reading(g, "g/temp", 9, 0, 0)).await;
    assert_eq!(refusal(after), Refusal::NotActive { device: a.number });
    let counts = world.replica().await.reading_counts(a.number);
    assert_eq!((counts.accepted, counts.refused), (7, 13));
}

/// What no typed value says, straight at the contract: numbers exchanged, decimals and lists too long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_limits_are_refused_alike() {
    use alloy::sol_types::SolValue as _;
    let world = World::new().await;
    let id = world.id();
    let a = world.register("1111").await;
    let g = world.group("g", &[]).await;
    let params = |topic: &str, range: (i128, i128), decimals: u8, unit: &str, listed: bool, reporters: usize| {
        let reporters = vec![address(a.number); reporters];
        let decimals = alloy::primitives::U256::from(decimals);
        let (topic, unit) = (topic.to_owned(), unit.to_owned());
        (g.get(), topic, range.0, range.1, 0u128, decimals, unit, false, listed, reporters).abi_encode_params()
    };
    let length = |field: &'static str, length, max| Refusal::BadLength { field: field.into(), length, min: 0, max };
    let cases = [
        (params("g/#", (0, 1), 0, "", false, 0), Refusal::BadText { field: "topic".into(), position: 2 }),
        (params("g", (1, 0), 39, "", false, 0), Refusal::BadRange { min: 1, max: 0 }),
        (
            params("g", (0, 1), 39, "", false, 0),
            Refusal::BadValue { field: "decimals".into(), value: 39, min: 0, max: 38 },
        ),
        (params("g", (0, 1), 0, &"x".repeat(33), false, 0), length("unit", 33, 32)),
        (params("g", (0, 1), 0, "\u{7}", false, 0), Refusal::BadText { field: "unit".into(), position: 0 }),
        (params("g", (0, 1), 0, "", false, 1), length("reporters", 1, 0)),
        (params("g", (0, 1), 0, "", true, 65), length("reporters", 65, 64)),
    ];
    for (body, expected) in cases {
        let nonce = world.ledger.nonce_of(id.operator()).await.unwrap();
        let (kind, originator) = (11, id.operator());
        let preimage = [
            b"sealcast-entry-v1".as_slice(),
            &id.chain_id.to_be_bytes(),
            &id.address,
            &[kind],
            originator.as_bytes(),
            &nonce.to_be_bytes(),
            &body,
        ]
        .concat();
        let signature = world.keys.operator.sign(&preimage).unwrap();
        let call = SealcastLedger::submitCall {
            kind,
            originator: address(originator),
            nonce,
            body: body.clone().into(),
            signature: signature.to_vec().into(),
        };
        assert_eq!(view(&world.engine, id, call).await.err(), Some(Some(expected.clone())), "the contract");
        let mine = sealcast_ledger::SignedEntry::from_parts(kind, originator, nonce, &body, &signature);
        assert_eq!(mine.err(), Some(expected), "the client");
    }
}

/// The contract matches filters as the replica does: whether a topic can have limits says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_match_alike() {
    let world = World::new().await;
    let filters = ["#", "+", "+/+", "/+", "a/#", "a/+/c", "a/+/#", "a/b", "a/", "/", "+/", "a//#", "ü/+"];
    let topics =
        ["a", "/", "a/", "/a", "a/b", "a/b/c", "a//c", "a//", "//", "ab", "ab/c", "b", "ü/x", "$a", "sealcast/a"];
    for (i, filter) in filters.iter().enumerate() {
        world.by_operator(group(&format!("g{i}"), &[filter])).await.unwrap();
        let replica = world.replica().await;
        let number = replica.group_by_name(&format!("g{i}").parse().unwrap()).unwrap().number;
        for topic in topics {
            let body = set(number, topic, limits());
            let mine = replica.preview(world.id().operator(), &body).map(|_| ());
            let entry = world.sign(body, &world.keys.operator, world.id().operator()).await;
            let call = SealcastLedger::submitCall {
                kind: 11,
                originator: address(entry.originator()),
                nonce: entry.nonce(),
                body: entry.encoded_body().to_vec().into(),
                signature: entry.signature().to_vec().into(),
            };
            let theirs = view(&world.engine, world.id(), call).await.map(|_| ()).map_err(Option::unwrap);
            assert_eq!(theirs, mine, "{filter} {topic}");
        }
    }
}

/// Writes `crates/ledger/tests/contract.txt`, the vectors for those who read the ledger. To do so again, after a change of
/// the contract: `cargo test -p sealcast-chain --test it write_the_vectors -- --ignored`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a file of the sources"]
async fn write_the_vectors() {
    let directory = tempfile::tempdir().unwrap();
    let wallet = Wallet::generate();
    let address = Address::from(wallet.address()).create(0).into_array();
    let config = EngineConfig { chain_id: 5318, ..EngineConfig::default() };
    let engine = Engine::open(crate::world::file(directory.path()), &config).unwrap();
    let cast = Cast::new(LedgerId { chain_id: 5318, address }, 2).unwrap();
    let genesis = cast.genesis;
    let id = genesis.id;
    let keys = [&genesis.root, &genesis.ca, &genesis.operator];
    let ledger = Ledger::deploy(Node::embedded(&engine), wallet, keys).await.unwrap();
    assert_eq!(ledger.id(), id);

    let mut out = String::from(
        "# What the contract answered in an EVM (chain 5318, Osaka): its address and constructor's keys, head(),\n\
         # numberOf(name), the records of its events, the verdicts of its ReadingJudged events and readingsOf(device).\n\
         # Written by `cargo test -p sealcast-chain --test it write_the_vectors -- --ignored`.\n",
    );
    let key = |key: &sealcast_identity::PublicKey| hex::encode(key.xy());
    let head = ledger.head().await.unwrap().hash;
    writeln!(out, "genesis {id} {} {head}", keys.map(key).join(" ")).unwrap();
    for name in ["root", "ca", "operator", "1111", "1112"] {
        let number = view(&engine, id, SealcastLedger::numberOfCall { name: name.into() }).await.unwrap();
        writeln!(out, "number {name} {}", Number::from(number.into_array())).unwrap();
    }

    let (a, b) = (cast.number(0), cast.number(1));
    let (g, generation) = (GroupNumber::new(1).unwrap(), Generation(0));
    let certificate = Hash::of(b"certificate");
    let reason = || "décommissionné".parse().unwrap();
    let [next_ca, next_operator] = [SigningKey::generate().unwrap(), SigningKey::generate().unwrap()];
    let rotated = |key, whose| Body::KeyRotated(KeyRotated::to(key, whose, &id).unwrap());
    let listed = Limits { reporters: Reporters::Listed(vec![b]), sequence: SequenceRule::Gapless, ..limits() };
    let mut said = vec![
        (id.ca(), cast.registration(0, certificate)),
        (id.ca(), cast.registration(1, certificate)),
        (a, Body::KeysPublished(KeysPublished { key_package: Hash::of(b"keys"), certificate, rejoin: false })),
        (id.operator(), group("hsu0001", &["hsu0001/#", "g/+"])),
        (id.operator(), Body::Granted(Granted { group: g, device: a })),
        (id.operator(), Body::Granted(Granted { group: g, device: b })),
        (a, commit(g, 0, 40)),
        (b, Body::FaultReported(FaultReported { group: g, generation, epoch: Epoch(0), kept_out: false })),
        (b, Body::Anchor(Anchor { group: g, root: Hash::of(b"root"), count: 3 })),
        (id.operator(), set(g, "g/temp", limits())),
    ];
    said.extend(SAID.map(|(sequence, value, decimals, _)| (a, reading(g, "g/temp", sequence, value, decimals))));
    said.extend([
        (id.operator(), set(g, "g/temp", listed)),
        (a, reading(g, "g/temp", 1, 0, 0)),
        (b, reading(g, "g/temp", 1, 0, 0)),
        (b, reading(g, "g/temp", 3, 0, 0)),
        (id.operator(), Body::GroupReset(GroupReset { group: g, reason: reason() })),
        (id.operator(), Body::Revoked(Revoked { group: g, device: b, reason: reason() })),
        (id.operator(), Body::DeviceRevoked(DeviceRevoked { device: b, reason: reason() })),
        (id.root(), rotated(&next_ca, id.ca())),
        (id.operator(), rotated(&next_operator, id.operator())),
    ]);
    let mut memory = MemoryLedger::new(genesis);
    for (by, body) in said {
        let entry = cast.sign(memory.replica(), by, &body).unwrap();
        let record = ledger.submit(&entry).await.unwrap();
        assert_eq!(memory.submit(&entry, record.time_s).unwrap(), record);
        writeln!(out, "record {}", hex::encode(record.encode())).unwrap();
    }
    let moved = Body::Moved(Moved { to: LedgerId { chain_id: 1, address: [7; 20] } });
    let nonce = memory.replica().next_nonce(id.operator());
    let entry = moved.sign(&next_operator, id.operator(), nonce, &id).unwrap();
    let record = ledger.submit(&entry).await.unwrap();
    assert_eq!(memory.submit(&entry, record.time_s).unwrap(), record);
    writeln!(out, "record {}", hex::encode(record.encode())).unwrap();
    for (index, _, verdict) in judged(&engine, id).await {
        writeln!(out, "verdict {index} {verdict}").unwrap();
    }
    for device in [a, b] {
        let call = SealcastLedger::readingsOfCall { member: self::address(device) };
        let counts = view(&engine, id, call).await.unwrap();
        writeln!(out, "counts {device} {} {}", counts.accepted, counts.refused).unwrap();
    }
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/tests/contract.txt"), out).unwrap();
}
