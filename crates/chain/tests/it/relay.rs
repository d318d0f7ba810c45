use std::sync::Arc;

use sealcast_chain::{Closed, Relay, RelayLimits};
use sealcast_ledger::{Body, Refusal, Revoked, SignedEntry};
use sealcast_ledger_client::{Channel, ChannelError, NodeError, RemoteLedger, SubmitError};
use serde_json::{Value, json};

use crate::world::{Device, PATIENCE, World, commit};

/// A channel to a relay that several clients share.
#[derive(Clone)]
struct Shared(Arc<Relay>);

impl Channel for Shared {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        Ok(self.0.handle("", &request).await)
    }
}

fn remote(world: &World) -> (Shared, RemoteLedger<Shared>) {
    let shared = Shared(Arc::new(Relay::new(world.ledger.clone(), RelayLimits::default())));
    (shared.clone(), RemoteLedger::new(shared, world.id()))
}

async fn ask(relay: &Shared, method: &str, params: Value) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    serde_json::from_slice(&relay.0.handle("", request.as_bytes()).await).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_a_wallet_submits_and_reads() {
    let world = World::new().await;
    let device = world.register("1111").await;
    let group = world.group("g", &[&device]).await;
    let (_, remote) = remote(&world);
    assert_eq!(remote.nonce_of(device.number).await.unwrap(), 0);
    let entry = world.sign(commit(group, 0, 2000), &device.key, device.number).await;
    let record = remote.submit(&entry).await.unwrap();
    assert_eq!(record.entry, entry);
    assert_eq!(remote.nonce_of(device.number).await.unwrap(), 1);
    assert_eq!(remote.head().await.unwrap(), world.ledger.head().await.unwrap());
    assert_eq!(remote.records(0, 100).await.unwrap(), crate::world::all(&world.ledger).await);
    assert_eq!(remote.records(3, 1).await.unwrap(), std::slice::from_ref(&record));
    assert_eq!(remote.records(4, 10).await.unwrap(), []);
    // The answer was lost and the device asks again.
    assert_eq!(remote.submit(&entry).await.unwrap(), record);
    // Refusals keep their type on the way.
    let late = world.sign(commit(group, 0, 1), &device.key, device.number).await;
    let refused = remote.submit(&late).await;
    assert!(matches!(refused, Err(SubmitError::Refused(Refusal::WrongEpoch { expected_epoch: 1, .. }))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gate_stops_is_not_on_the_ledger() {
    let world = World::new().await;
    let device = world.register("1111").await;
    let group = world.group("g", &[&device]).await;
    let gate = |entry: &SignedEntry| match entry.body() {
        Body::Commit(commit) if commit.commit.len() > 2000 => Err(Closed::Rejected("too long".to_owned())),
        Body::Commit(commit) if commit.commit.len() > 1000 => Err(Closed::NotYet),
        _ => Ok(()),
    };
    let shared = Shared(Arc::new(Relay::with_gate(world.ledger.clone(), RelayLimits::default(), Box::new(gate))));
    let remote = RemoteLedger::new(shared, world.id());
    let before = remote.head().await.unwrap();
    let submit = async |bytes| {
        let entry = world.sign(commit(group, 0, bytes), &device.key, device.number).await;
        remote.submit(&entry).await
    };
    let refused = submit(2001).await;
    assert!(matches!(&refused, Err(SubmitError::Rejected { reason }) if reason == "too long"), "{refused:?}");
    let refused = submit(2000).await;
    assert!(matches!(&refused, Err(SubmitError::Busy { .. })), "{refused:?}");
    assert_eq!(remote.head().await.unwrap(), before);
    submit(1000).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_records_come_in_several_answers() {
    let world = World::new().await;
    let device = world.register("1111").await;
    let group = world.group("g", &[&device]).await;
    for epoch in 0..6 {
        world.submit(&device, commit(group, epoch, 90_000)).await.unwrap();
    }
    let (_, remote) = remote(&world);
    let mut records = Vec::new();
    let mut answers = 0;
    while records.len() < 9 {
        let page = remote.records(records.len() as u64, 256).await.unwrap();
        assert!(!page.is_empty());
        records.extend(page);
        answers += 1;
    }
    assert_eq!(records, crate::world::all(&world.ledger).await);
    assert!(answers > 2, "90 KB records must not come all at once, but came in {answers} answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_wait_together_share_blocks() {
    let world = World::new().await;
    let mut devices: Vec<Device> = Vec::new();
    for name in 0..32 {
        devices.push(world.register(&format!("d{name}")).await);
    }
    let group = world.group("g", &devices.iter().collect::<Vec<_>>()).await;
    let (_, remote) = remote(&world);
    let before = world.engine.progress().borrow().height;
    let mut tasks = Vec::new();
    for device in &devices {
        let body = Body::Anchor(sealcast_ledger::Anchor { group, root: [7; 32].into(), count: 1 });
        let entry = world.sign(body, &device.key, device.number).await;
        let remote = remote.clone();
        tasks.push(tokio::spawn(async move { remote.submit(&entry).await }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let blocks = world.engine.progress().borrow().height - before;
    println!("32 entries in {blocks} blocks");
    assert!(blocks < 32, "each of 32 concurrent entries had a block of its own");
    world.replica().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_entries_are_taken_together() {
    let world = World::new().await;
    let (relay, remote) = remote(&world);
    let (operator, id) = (world.id().operator(), world.id());
    let create = |name: &str| crate::world::group(name, &[&format!("{name}/#")]);
    let sign = |names: &[String], from: u64| -> Vec<SignedEntry> {
        let sign =
            |(name, nonce): (&String, u64)| create(name).sign(&world.keys.operator, operator, nonce, &id).unwrap();
        names.iter().zip(from..).map(sign).collect()
    };
    let names: Vec<String> = (0..40).map(|at| format!("g{at}")).collect();
    let before = world.engine.progress().borrow().height;
    // More than go into one request.
    let entries = sign(&names, 0);
    let (records, outcome) = remote.submit_all(&entries).await;
    outcome.unwrap();
    assert!(records.iter().map(|record| &record.entry).eq(&entries));
    let blocks = world.engine.progress().borrow().height - before;
    println!("40 entries in {blocks} blocks");
    assert!(blocks < 40, "each entry had a block of its own");

    // The third has a name that is taken: those before it stand, those behind it do not.
    let names = ["h0", "h1", "g7", "h3"].map(str::to_owned);
    let (records, outcome) = remote.submit_all(&sign(&names, 40)).await;
    assert_eq!(records.len(), 2);
    assert!(matches!(outcome, Err(SubmitError::Refused(Refusal::NameTaken { .. }))), "{outcome:?}");
    assert_eq!(remote.nonce_of(operator).await.unwrap(), 42);
    // Somebody else was faster.
    let (records, outcome) = remote.submit_all(&sign(&["h4".to_owned()], 41)).await;
    assert!(records.is_empty());
    assert!(matches!(outcome, Err(SubmitError::Refused(Refusal::BadNonce { expected: 42, got: 41 }))), "{outcome:?}");
    // Nobody else's are: they would take places in blocks without having been tried.
    let device = world.register("1111").await;
    let height = world.engine.progress().borrow().height;
    let hex = |entries: &[SignedEntry]| -> Value {
        entries.iter().map(|entry| format!("0x{}", hex::encode(entry.encode()))).collect()
    };
    let forged = create("h5").sign(&device.key, operator, 42, &id).unwrap();
    let own = create("h5").sign(&device.key, device.number, 0, &id).unwrap();
    let apart = [sign(&["h5".to_owned()], 42), sign(&["h6".to_owned()], 44)].concat();
    let many = sign(&(0..33).map(|at| format!("i{at}")).collect::<Vec<_>>(), 42);
    for (entries, reason) in [
        (hex(&[forged]), "the operator signed"),
        (hex(&[own]), "the operator signed"),
        (hex(&apart), "consecutive nonces"),
        (hex(&many), "1 to 32 entries"),
        (json!([]), "1 to 32 entries"),
        (json!(["0x00"]), "parameter 1"),
    ] {
        let answer = ask(&relay, "sealcast_submitEntries", json!([entries])).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(reason), "{answer}");
    }
    assert_eq!(world.engine.progress().borrow().height, height, "refusals cost no block");
    world.replica().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_device_fills_the_ledger() {
    let world = World::new().await;
    let (hostile, honest) = (world.register("1111").await, world.register("1112").await);
    let group = world.group("g", &[&hostile, &honest]).await;
    let (_, remote) = remote(&world);
    let anchor = |count| Body::Anchor(sealcast_ledger::Anchor { group, root: [7; 32].into(), count });
    let begun = std::time::Instant::now();
    let mut taken = 0;
    let refused = loop {
        let entry = anchor(1).sign(&hostile.key, hostile.number, taken, &world.id()).unwrap();
        match remote.submit(&entry).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(begun.elapsed() < PATIENCE, "{taken} entries taken, and none refused: this machine is too slow for it");
        let most = 64 + begun.elapsed().as_millis() as u64 / 500 + 1;
        assert!(taken <= most, "{taken} entries in {:?}", begun.elapsed());
    };
    let SubmitError::Busy { reason, wait_ms: Some(1..=500) } = refused else { panic!("{refused:?}") };
    assert!(reason.contains("writes too much to the ledger") && reason.contains("try again in"), "{reason}");
    assert!(taken >= 64, "{taken}");
    // The others go on, and so does who administers.
    for nonce in 0..3 {
        let entry = anchor(1).sign(&honest.key, honest.number, nonce, &world.id()).unwrap();
        remote.submit(&entry).await.unwrap();
        // Neither forgeries in its name nor its own old entries take anything from a device.
        let forged = anchor(2).sign(&hostile.key, honest.number, nonce + 1, &world.id()).unwrap();
        for _ in 0..30 {
            assert!(matches!(remote.submit(&forged).await, Err(SubmitError::Refused(Refusal::BadSignature))));
            remote.submit(&entry).await.unwrap();
        }
    }
    let operator = world.id().operator();
    for name in 0..70 {
        let entry = world
            .sign(crate::world::group(&format!("x{name}"), &[&format!("x{name}/#")]), &world.keys.operator, operator)
            .await;
        remote.submit(&entry).await.unwrap();
    }
    // In time the device may write again.
    let entry = anchor(1).sign(&hostile.key, hostile.number, taken, &world.id()).unwrap();
    let asked = std::time::Instant::now();
    while let Err(error) = remote.submit(&entry).await {
        assert!(matches!(error, SubmitError::Busy { .. }) && asked.elapsed() < PATIENCE, "{error:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_commits_grow_the_ledger_by_no_more_than_the_quota_and_the_others_still_commit() {
    let world = World::new().await;
    let (hostile, honest) = (world.register("1111").await, world.register("1112").await);
    let group = world.group("g", &[&hostile, &honest]).await;
    let (_, remote) = remote(&world);
    let begun = std::time::Instant::now();
    let mut bytes = 0;
    for epoch in 0.. {
        let entry = commit(group, epoch, 97_000).sign(&hostile.key, hostile.number, epoch, &world.id()).unwrap();
        match remote.submit(&entry).await {
            Ok(record) => bytes += record.entry.encode().len() as u64,
            Err(SubmitError::Busy { reason, wait_ms: Some(_) }) if reason.contains("device_bytes") => break,
            Err(error) => panic!("{error:?}"),
        }
        let quota = RelayLimits::default().device_bytes;
        let most = quota.burst + quota.per_hour * (begun.elapsed().as_secs() + 1) / 3_600;
        assert!(bytes <= most, "{bytes} bytes of garbage after {epoch} commits");
    }
    let epoch = world.replica().await.group(group).unwrap().epoch.0;
    for epoch in epoch..epoch + 20 {
        let entry = world.sign(commit(group, epoch, 2_000), &honest.key, honest.number).await;
        remote.submit(&entry).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_committers_one_wins() {
    let world = World::new().await;
    let (a, b) = (world.register("1111").await, world.register("1112").await);
    let group = world.group("g", &[&a, &b]).await;
    let (_, remote) = remote(&world);
    for epoch in 0..8 {
        let first = world.sign(commit(group, epoch, 500), &a.key, a.number).await;
        let second = world.sign(commit(group, epoch, 501), &b.key, b.number).await;
        let (first, second) = tokio::join!(world.ledger.submit(&first), remote.submit(&second));
        let loser = match (first, second) {
            (Ok(_), Err(error)) | (Err(error), Ok(_)) => error,
            other => panic!("one must win and one must lose: {other:?}"),
        };
        let SubmitError::Refused(Refusal::WrongEpoch { expected_epoch, got_epoch, .. }) = loser else {
            panic!("{loser:?}")
        };
        assert_eq!((expected_epoch, got_epoch), (epoch + 1, epoch));
    }
    world.replica().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_the_ledger_and_nothing_else() {
    let world = World::new().await;
    let (relay, _) = remote(&world);
    let ledger = format!("0x{}", hex::encode(world.id().address));
    let other = "0x0000000000000000000000000000000000000100";
    for method in ["eth_sendRawTransaction", "eth_newFilter", "eth_estimateGas", "eth_accounts", "admin_stop", ""] {
        assert_eq!(ask(&relay, method, json!([])).await["error"]["code"], -32601, "{method}");
    }
    let denied = [
        ("eth_call", json!([{ "to": other, "input": "0x" }, "latest"])),
        ("eth_call", json!([{ "input": "0x" }, "latest"])),
        ("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": "0x1" }])),
        ("eth_getLogs", json!([{ "address": [ledger, other] }])),
        ("eth_getLogs", json!([{ "address": ledger, "fromBlock": "0x0", "toBlock": "0xffffff" }])),
        ("sealcast_submitEntry", json!([])),
        ("sealcast_submitEntry", json!(["0x00"])),
        ("sealcast_submitEntry", json!([17])),
        ("sealcast_records", json!([-1, 1])),
        ("sealcast_records", json!({ "from": 1 })),
    ];
    for (method, params) in denied {
        let answer = ask(&relay, method, params.clone()).await;
        assert!(answer["error"]["code"].is_i64(), "{method} {params}: {answer}");
    }
    let given = [
        ("eth_chainId", json!([]), json!("0x1d66")),
        ("eth_getCode", json!([other, "latest"]), json!("0x")),
        ("eth_getLogs", json!([{ "address": ledger, "fromBlock": "0x0", "toBlock": "latest" }]), json!([])),
        ("sealcast_records", json!([0, 10]), json!({ "height": 0, "records": [] })),
        ("sealcast_records", json!([u64::MAX, u64::MAX]), json!({ "height": 0, "records": [] })),
        ("eth_getTransactionReceipt", json!([format!("0x{}", "11".repeat(32))]), json!(null)),
    ];
    for (method, params, expected) in given {
        assert_eq!(ask(&relay, method, params).await["result"], expected, "{method}");
    }
    let hostile: [&[u8]; 5] = [b"", b"[]", b"{", b"\xff\xfe", &[b'['; 100_000]];
    for request in hostile {
        let answer: Value = serde_json::from_slice(&relay.0.handle("", request).await).unwrap();
        assert!(answer["error"]["code"].is_i64(), "{answer}");
    }
    let long = vec![b' '; sealcast_chain::MAX_RELAY_REQUEST_BYTES + 1];
    let answer: Value = serde_json::from_slice(&relay.0.handle("", &long).await).unwrap();
    assert_eq!(answer["error"]["code"], -32600);
    // A notification is neither answered nor carried out.
    let device = world.register("1111").await;
    let reason = Revoked {
        group: sealcast_ledger::GroupNumber::new(1).unwrap(),
        device: device.number,
        reason: "x".parse().unwrap(),
    };
    let entry: SignedEntry = world.sign(Body::Revoked(reason), &world.keys.operator, world.id().operator()).await;
    let notification = json!({ "jsonrpc": "2.0", "method": "sealcast_submitEntry", "params": [format!("0x{}", hex::encode(entry.encode()))] });
    assert!(relay.0.handle("", notification.to_string().as_bytes()).await.is_empty());
}

/// A channel that never answers.
struct Dead;

impl Channel for Dead {
    async fn call(&self, _: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        Err(ChannelError::Timeout { waited_ms: 10 })
    }
}

/// A relay that lies.
struct Liar(&'static str);

impl Channel for Liar {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        let request: Value = serde_json::from_slice(&request).unwrap();
        Ok(self.0.replace("ID", &request["id"].to_string()).into_bytes())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_channel_is_an_error_and_not_a_panic() {
    let world = World::new().await;
    let dead = RemoteLedger::new(Dead, world.id());
    let error = dead.head().await.unwrap_err();
    assert!(matches!(error, NodeError::Transport { .. }), "{error:?}");
    let answers = [
        "",
        "null",
        "[]",
        "{}",
        r#"{"jsonrpc":"2.0","id":ID,"result":null}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"height":0,"records":["0x"]}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"height":0,"records":["0x00","0x01","0x02"]}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":"0x"}"#,
        r#"{"jsonrpc":"2.0","id":ID,"error":{"code":3,"message":"execution reverted","data":"0x00"}}"#,
    ];
    let entry = world.sign(crate::world::group("g", &["g/#"]), &world.keys.operator, world.id().operator()).await;
    for answer in answers {
        let liar = RemoteLedger::new(Liar(answer), world.id());
        assert!(liar.records(0, 2).await.is_err(), "{answer}");
        assert!(liar.head().await.is_err(), "{answer}");
        assert!(liar.nonce_of(world.id().ca()).await.is_err(), "{answer}");
        assert!(liar.submit(&entry).await.is_err(), "{answer}");
    }
}
