//! The contract and the replica must agree on every entry: what is taken, why the rest is not, and every head.

use std::num::NonZeroU32;

use alloy::{
    primitives::{B256, Bytes, U256},
    sol_types::{SolCall as _, SolValue as _},
};
use proptest::prelude::{ProptestConfig, any, proptest};
use sealcast_chain::{Engine, EngineConfig, Ledger, Node, Wallet};
use sealcast_identity::SigningKey;
use sealcast_ledger::{
    Anchor, Body, Commit, DeviceRevoked, Epoch, Generation, Granted, GroupNumber, GroupReset, Hash, KeysPublished,
    LedgerId, Policy, Refusal, Revoked, SignedEntry,
    testing::{Cast, MemoryLedger, Workload},
};
use sealcast_ledger_client::SubmitError;

use crate::limits::{same_verdicts, view};
use crate::world::{World, commit, file, group, registration};

/// A contract for this cast, whose ledger id must be foreseen: it is in the cast's numbers.
async fn deploy(devices: usize) -> (tempfile::TempDir, Engine, Ledger, Cast) {
    let directory = tempfile::tempdir().unwrap();
    let wallet = Wallet::generate();
    let address = alloy::primitives::Address::from(wallet.address()).create(0).into_array();
    let engine = Engine::open(file(directory.path()), &EngineConfig::default()).unwrap();
    let cast = Cast::new(LedgerId { chain_id: engine.chain_id(), address }, devices).unwrap();
    let keys = [&cast.genesis.root, &cast.genesis.ca, &cast.genesis.operator];
    let ledger = Ledger::deploy(Node::embedded(&engine), wallet, keys).await.unwrap();
    assert_eq!(ledger.id(), cast.genesis.id);
    (directory, engine, ledger, cast)
}

async fn agree(seed: u64, entries: usize) {
    let (_directory, engine, ledger, cast) = deploy(6).await;
    let mut memory = MemoryLedger::new(cast.genesis);
    let mut workload = Workload::new(cast, seed);
    let (mut taken, mut refused) = (0, 0);
    for step in 0..entries {
        let entry = match workload.entry(memory.replica()) {
            Ok(entry) => entry,
            // Nobody could even sign that.
            Err(_) => continue,
        };
        let expected = memory.replica().check(&entry);
        match (ledger.submit(&entry).await, expected) {
            (Ok(record), Ok(())) => {
                let mine = memory.submit(&entry, record.time_s).unwrap();
                assert_eq!(record, mine, "seed {seed}, step {step}: records differ");
                taken += 1;
            }
            (Err(SubmitError::Refused(theirs)), Err(mine)) => {
                assert_eq!(theirs, mine, "seed {seed}, step {step}: refused for another reason: {entry:?}");
                refused += 1;
            }
            // The very entry is on the ledger already, and its record was given again.
            (Ok(record), Err(Refusal::BadNonce { .. })) => {
                assert_eq!(record.entry.digest(&ledger.id()), entry.digest(&ledger.id()));
            }
            (theirs, mine) => panic!("seed {seed}, step {step}: {entry:?}: contract {theirs:?}, replica {mine:?}"),
        }
    }
    let head = ledger.head().await.unwrap();
    assert_eq!((head.height, head.hash), (memory.replica().height(), memory.replica().head()));
    for number in workload.cast.keys.keys() {
        assert_eq!(ledger.nonce_of(*number).await.unwrap(), memory.replica().next_nonce(*number));
    }
    for group in memory.replica().groups() {
        let call = SealcastLedger::groupCall { number: group.number.get() };
        let theirs = view(&engine, ledger.id(), call).await.unwrap();
        let number = |limit: Option<NonZeroU32>| limit.map_or(0, NonZeroU32::get);
        let Policy { epoch_max_age_s, epoch_max_messages, retention, authenticity, ledger_max_age_s } = group.policy;
        assert_eq!(
            (theirs.epochMaxAge, theirs.epochMaxMessages, theirs.ledgerMaxAge),
            (number(epoch_max_age_s), number(epoch_max_messages), number(ledger_max_age_s))
        );
        assert_eq!((theirs.retention, theirs.authenticity), (retention, authenticity as u8));
    }
    same_verdicts(&engine, ledger.id(), *memory.replica().genesis(), memory.records()).await;
    println!("seed {seed}: {taken} taken, {refused} refused");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_sequences_end_alike(seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(agree(seed, 150));
    }
}

fn refusal(result: Result<sealcast_ledger::Record, SubmitError>) -> Refusal {
    match result {
        Err(SubmitError::Refused(refusal)) => refusal,
        other => panic!("must be refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_has_its_name() {
    let world = World::new().await;
    let (a, b) = (world.register("1111").await, world.register("1112").await);
    let stranger = SigningKey::generate().unwrap();
    let nobody = world.id().number_of(&"9999".parse().unwrap());
    let id = world.id();
    let g = world.group("g", &[&a]).await;
    let none = GroupNumber::new(99).unwrap();
    let reason = || "because".parse().unwrap();
    let publish = |key_package: u8, certificate: Hash| {
        Body::KeysPublished(KeysPublished { key_package: [key_package; 32].into(), certificate, rejoin: false })
    };
    let certificate = Hash::of(a.key.public().xy());

    // Who.
    let unknown = commit(g, 0, 10).sign(&stranger, nobody, 0, &id).unwrap();
    assert_eq!(refusal(world.ledger.submit(&unknown).await), Refusal::UnknownDevice { device: nobody });
    let forged = commit(g, 0, 10).sign(&stranger, a.number, 0, &id).unwrap();
    assert_eq!(refusal(world.ledger.submit(&forged).await), Refusal::BadSignature);
    let elsewhere = LedgerId { chain_id: id.chain_id + 1, ..id };
    let foreign = commit(g, 0, 10).sign(&a.key, a.number, 0, &elsewhere).unwrap();
    assert_eq!(refusal(world.ledger.submit(&foreign).await), Refusal::BadSignature);
    let early = commit(g, 0, 10).sign(&a.key, a.number, 5, &id).unwrap();
    assert_eq!(refusal(world.ledger.submit(&early).await), Refusal::BadNonce { expected: 0, got: 5 });
    let usurped = world.by_operator(registration("1113", &stranger)).await;
    assert_eq!(refusal(usurped), Refusal::NotAuthorized { kind: 1, originator: id.operator() });
    let reset = world.submit(&b, Body::GroupReset(GroupReset { group: g, reason: reason() })).await;
    assert_eq!(refusal(reset), Refusal::NotAuthorized { kind: 10, originator: b.number });

    // Keys.
    let wrong = world.submit(&a, publish(1, [9; 32].into())).await;
    assert_eq!(refusal(wrong), Refusal::WrongCertificate { expected: certificate, got: [9; 32].into() });
    world.submit(&a, publish(1, certificate)).await.unwrap();
    let again = world.submit(&a, publish(1, certificate)).await;
    assert_eq!(refusal(again), Refusal::KeyPackageTaken { key_package: [1; 32].into(), device: a.number });

    // Groups.
    let made = world.submit(&a, group("mine", &["g/valve"])).await;
    assert_eq!(refusal(made), Refusal::NotAuthorized { kind: 4, originator: a.number });
    let granted = world.submit(&a, Body::Granted(Granted { group: g, device: b.number })).await;
    assert_eq!(refusal(granted), Refusal::NotAuthorized { kind: 5, originator: a.number });
    let named = world.by_operator(group("g", &["other/#"])).await;
    assert_eq!(refusal(named), Refusal::NameTaken { name: "g".into(), group: g.get() });
    let filtered = world.by_operator(group("h", &["g/#"])).await;
    assert_eq!(refusal(filtered), Refusal::FilterTaken { filter: "g/#".into(), group: g.get() });
    let grant = |group, device| Body::Granted(Granted { group, device });
    assert_eq!(refusal(world.by_operator(grant(none, a.number)).await), Refusal::UnknownGroup { group: 99 });
    assert_eq!(refusal(world.by_operator(grant(g, nobody)).await), Refusal::UnknownDevice { device: nobody });
    let twice = world.by_operator(grant(g, a.number)).await;
    assert_eq!(refusal(twice), Refusal::AlreadyGranted { group: g.get(), device: a.number });
    let revoke = Body::Revoked(Revoked { group: g, device: b.number, reason: reason() });
    assert_eq!(refusal(world.by_operator(revoke).await), Refusal::NotGranted { group: g.get(), device: b.number });
    let outside = world.submit(&b, commit(g, 0, 10)).await;
    assert_eq!(refusal(outside), Refusal::NotGranted { group: g.get(), device: b.number });

    // Epochs.
    let ahead = world.submit(&a, commit(g, 1, 10)).await;
    let (expected_generation, got_generation) = (0, 0);
    let wrong = |expected_epoch, got_epoch| Refusal::WrongEpoch {
        expected_generation,
        expected_epoch,
        got_generation,
        got_epoch,
    };
    assert_eq!(refusal(ahead), wrong(0, 1));
    world.submit(&a, commit(g, 0, 10)).await.unwrap();
    assert_eq!(refusal(world.submit(&a, commit(g, 0, 10)).await), wrong(1, 0));
    world.by_operator(Body::GroupReset(GroupReset { group: g, reason: reason() })).await.unwrap();
    let old = world.submit(&a, commit(g, 1, 10)).await;
    assert_eq!(
        refusal(old),
        Refusal::WrongEpoch { expected_generation: 1, expected_epoch: 0, got_generation: 0, got_epoch: 1 }
    );
    let restart = Commit { group: g, generation: Generation(1), epoch: Epoch(0), commit: vec![1] };
    world.submit(&a, Body::Commit(restart)).await.unwrap();

    // Another key under a granted name.
    let c = world.register("1114").await;
    world.by_operator(grant(g, c.number)).await.unwrap();
    world.by_ca(registration("1114", &c.key)).await.unwrap();
    let body = Body::Anchor(Anchor { group: g, root: [0; 32].into(), count: 1 });
    world.submit(&c, body.clone()).await.unwrap();
    let usurper = crate::world::Device { number: c.number, key: SigningKey::generate().unwrap() };
    world.by_ca(registration("1114", &usurper.key)).await.unwrap();
    assert_eq!(refusal(world.submit(&usurper, body).await), Refusal::NotGranted { group: g.get(), device: c.number });

    // Revocation.
    let out = || Body::DeviceRevoked(DeviceRevoked { device: a.number, reason: reason() });
    world.by_ca(out()).await.unwrap();
    assert_eq!(refusal(world.by_operator(out()).await), Refusal::AlreadyRevoked { device: a.number });
    let anchor = Body::Anchor(Anchor { group: g, root: [0; 32].into(), count: 1 });
    assert_eq!(refusal(world.submit(&a, anchor).await), Refusal::NotActive { device: a.number });

    let replica = world.replica().await;
    assert_eq!(replica.height(), world.ledger.height().await.unwrap());
}

alloy::sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    SealcastLedger,
    "../../contracts/SealcastLedger.json"
);

/// What the types here do not let through at all, signed by hand and straight at the contract. The client's decoder
/// must refuse it for the same reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_bodies_are_refused_alike() {
    let world = World::new().await;
    let id = world.id();
    let good = {
        let entry = world.sign(group("g", &["g/#"]), &world.keys.operator, id.operator()).await;
        entry.encoded_body().to_vec()
    };
    let params = |filter: &str, authenticity: u8| {
        let filters = vec![filter.to_owned()];
        ("g".to_owned(), filters, 0u32, 0u32, 0u16, U256::from(authenticity), 0u32).abi_encode_params()
    };
    let device = |name: &str, key: &[u8]| {
        let (key, serial) = (key.to_vec(), vec![1u8]);
        (name.to_owned(), Bytes::from(key), B256::ZERO, Bytes::from(serial), 1u64).abi_encode_params()
    };
    let point = *world.keys.ca.public().xy();
    let mut trailing = good.clone();
    trailing.push(0);
    let mut dirty = good.clone();
    if let Some(last) = dirty.last_mut() {
        *last = 1;
    }
    let rotated = |key: &[u8], proof: usize| {
        let (whose, key, proof) = (alloy::primitives::Address::ZERO, key.to_vec(), vec![1; proof]);
        (whose, Bytes::from(key), Bytes::from(proof)).abi_encode_params()
    };
    let cases: [(u8, Vec<u8>, Option<Refusal>); 19] = [
        (0, vec![], Some(Refusal::UnknownKind { kind: 0 })),
        (99, good.clone(), Some(Refusal::UnknownKind { kind: 99 })),
        (12, (1u16, 0u32, 0u64, U256::from(2)).abi_encode_params(), None),
        (4, trailing, Some(Refusal::BadBody { kind: 4 })),
        (4, dirty, Some(Refusal::BadBody { kind: 4 })),
        // No ABI at all: the contract reverts without data.
        (4, vec![0xff; 64], None),
        (4, vec![], None),
        (4, params("a/#/b", 0), Some(Refusal::BadFilter { filter: "a/#/b".into(), position: 2 })),
        (4, params("$SYS/#", 0), Some(Refusal::ReservedFilter { filter: "$SYS/#".into() })),
        (4, params("sealcast/v1/#", 0), Some(Refusal::ReservedFilter { filter: "sealcast/v1/#".into() })),
        (4, params("a\u{1}", 0), Some(Refusal::BadText { field: "filter".into(), position: 1 })),
        (4, params("", 0), Some(Refusal::BadLength { field: "filter".into(), length: 0, min: 1, max: 256 })),
        (4, params("a", 2), Some(Refusal::BadValue { field: "authenticity".into(), value: 2, min: 0, max: 1 })),
        (1, device("hub", &point), Some(Refusal::ReservedName { name: "hub".into() })),
        (1, device("1111", &[7; 64]), Some(Refusal::BadPublicKey)),
        (1, device(".1", &point), Some(Refusal::BadText { field: "device".into(), position: 0 })),
        (1, device("root", &point), Some(Refusal::ReservedName { name: "root".into() })),
        (13, rotated(&[7; 64], 64), Some(Refusal::BadPublicKey)),
        (13, rotated(&point, 65), Some(Refusal::BadLength { field: "proof".into(), length: 65, min: 64, max: 64 })),
    ];
    for (kind, body, expected) in cases {
        let (originator, key) =
            if kind == 1 { (id.ca(), &world.keys.ca) } else { (id.operator(), &world.keys.operator) };
        let nonce = world.ledger.nonce_of(originator).await.unwrap();
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
        let signature = key.sign(&preimage).unwrap();
        let call = SealcastLedger::submitCall {
            kind,
            originator: (*originator.as_bytes()).into(),
            nonce,
            body: body.clone().into(),
            signature: signature.to_vec().into(),
        };
        let request = serde_json::json!({
            "jsonrpc": "2.0", "id": 1, "method": "eth_call",
            "params": [{ "to": hex_of(&id.address), "input": hex_of(&call.abi_encode()) }, "latest"],
        });
        let answer: serde_json::Value =
            serde_json::from_slice(&world.engine.handle(request.to_string().as_bytes()).await).unwrap();
        assert_eq!(answer["error"]["code"], 3, "kind {kind}: {answer}");
        let data = hex::decode(answer["error"]["data"].as_str().unwrap().trim_start_matches("0x")).unwrap();
        let theirs = Refusal::from_revert(&data);
        assert_eq!(theirs, expected, "kind {kind}: the contract");
        let mine = SignedEntry::from_parts(kind, originator, nonce, &body, &signature).unwrap_err();
        assert_eq!(mine, expected.unwrap_or(Refusal::BadBody { kind }), "kind {kind}: the client");
    }
}

fn hex_of(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_a_bad_signature() {
    let world = World::new().await;
    let entry = world.sign(group("g", &["g/#"]), &world.keys.operator, world.id().operator()).await;
    for at in [0, 31, 32, 63] {
        let mut signature = *entry.signature();
        signature[at] ^= 1;
        let forged =
            SignedEntry::from_parts(entry.kind().number(), entry.originator(), 0, entry.encoded_body(), &signature);
        assert_eq!(refusal(world.ledger.submit(&forged.unwrap()).await), Refusal::BadSignature);
    }
    world.ledger.submit(&entry).await.unwrap();
}
