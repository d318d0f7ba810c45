//! A ledger on a network: endpoints that are away, behind, or lie, and transactions that get lost.
//!
//! The network is the embedded engine, and what stands before it makes it as bad as networks are.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use sealcast_chain::{AttachError, Engine, EngineConfig, Ledger, LedgerReader, Node, Wallet};
use sealcast_ledger::SignedEntry;
use sealcast_ledger_client::{Channel, ChannelError, Endpoints, Finality, NodeError, SubmitError};
use serde_json::{Value, json};

use crate::world::{PATIENCE, World, all, group, registration};

/// What may be offered, in Gwei per gas.
const MAX_FEE_GWEI: u64 = 500;

/// What an endpoint does to the engine's answers.
#[derive(Default)]
struct Faults {
    /// It does not answer.
    away: AtomicBool,
    /// It is from before EIP-1559.
    old: AtomicBool,
    /// It shows another entry in the place of each.
    lies: AtomicBool,
    /// It shows a contract with other code.
    other_code: AtomicBool,
    /// It answers what it has answered before.
    stale: AtomicBool,
    answers: Mutex<HashMap<String, Vec<u8>>>,
    /// What it makes of an answer.
    twist: Mutex<Option<Twist>>,
    /// So many transactions are taken and forgotten.
    forgets: AtomicU32,
    /// Transactions that it was given.
    sent: AtomicU32,
}

/// Changes the answer to a request.
type Twist = fn(asked: &Value, answer: &mut Value);

#[derive(Clone)]
struct Endpoint {
    engine: Engine,
    faults: Arc<Faults>,
}

impl Endpoint {
    fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone(), faults: Arc::default() }
    }

    fn named(&self, name: &str) -> (String, Self) {
        (name.to_owned(), self.clone())
    }

    fn twist(&self, twist: Option<Twist>) {
        *self.faults.twist.lock().unwrap() = twist;
    }
}

impl Channel for Endpoint {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        let Faults { away, old, lies, other_code, stale, answers, twist, forgets, sent } = &*self.faults;
        if away.load(Ordering::Relaxed) {
            return Err(ChannelError::Down("away".to_owned()));
        }
        let asked: Value = serde_json::from_slice(&request).unwrap();
        let method = asked["method"].as_str().unwrap().to_owned();
        if method == "eth_sendRawTransaction" {
            sent.fetch_add(1, Ordering::Relaxed);
            if forgets.load(Ordering::Relaxed) > 0 {
                forgets.fetch_sub(1, Ordering::Relaxed);
                let hash = format!("0x{}", "ab".repeat(32));
                return Ok(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": hash }).to_string().into_bytes());
            }
        }
        if method == "eth_feeHistory" && old.load(Ordering::Relaxed) {
            let error = json!({ "code": -32601, "message": "the method eth_feeHistory does not exist" });
            return Ok(json!({ "jsonrpc": "2.0", "id": asked["id"], "error": error }).to_string().into_bytes());
        }
        let question = format!("{method} {}", asked["params"]);
        if stale.load(Ordering::Relaxed)
            && let Some(answer) = answers.lock().unwrap().get(&question)
        {
            let mut answer: Value = serde_json::from_slice(answer).unwrap();
            answer["id"] = asked["id"].clone();
            return Ok(answer.to_string().into_bytes());
        }
        let mut answer: Value = serde_json::from_slice(&self.engine.handle(&request).await).unwrap();
        if method == "eth_getLogs" && lies.load(Ordering::Relaxed) {
            answer["result"].as_array_mut().unwrap().iter_mut().for_each(alter);
        }
        let twist = *twist.lock().unwrap();
        if let Some(twist) = twist {
            twist(&asked, &mut answer);
        }
        if method == "eth_getCode" && other_code.load(Ordering::Relaxed) {
            answer["result"] = json!(format!("{}00", answer["result"].as_str().unwrap()));
        }
        let answer = answer.to_string().into_bytes();
        answers.lock().unwrap().insert(question, answer.clone());
        Ok(answer)
    }
}

/// Makes another entry of that in a log: its signature is another one.
fn alter(log: &mut Value) {
    let data = log["data"].as_str().unwrap();
    let at = data.len() - 10;
    let digit = if data.as_bytes()[at] == b'0' { "1" } else { "0" };
    log["data"] = json!(format!("{}{digit}{}", &data[..at], &data[at + 1..]));
}

/// A word of 32 bytes.
fn word(value: u64) -> Value {
    json!(format!("0x{value:064x}"))
}

/// Whether a request calls this view, which takes nothing.
fn is_call(asked: &Value, view: &str) -> bool {
    let selector = &alloy::primitives::keccak256(view)[..4];
    asked["method"] == "eth_call" && asked["params"][0]["input"] == alloy::hex::encode_prefixed(selector)
}

/// A world whose ledger is also reached by such endpoints.
async fn world(count: usize) -> (World, Vec<Endpoint>, Ledger) {
    let world = World::new().await;
    let endpoints: Vec<Endpoint> = (0..count).map(|_| Endpoint::new(&world.engine)).collect();
    let ledger = attach(&world, &endpoints).await.unwrap();
    (world, endpoints, ledger)
}

async fn attach(world: &World, endpoints: &[Endpoint]) -> Result<Ledger, AttachError> {
    let named = endpoints.iter().zip(["first", "second", "third"]).map(|(endpoint, name)| endpoint.named(name));
    let node = Node::network(Endpoints::new(named, Finality::Latest), MAX_FEE_GWEI);
    Ledger::attach(node, Wallet::generate(), world.id().address).await
}

async fn operators(world: &World, name: &str) -> SignedEntry {
    world.sign(group(name, &[&format!("{name}/#")]), &world.keys.operator, world.id().operator()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_away_is_passed_over_and_taken_again() {
    let (world, endpoints, ledger) = world(2).await;
    for (at, name) in [(0, "a"), (1, "b"), (0, "c")] {
        endpoints[at].faults.away.store(true, Ordering::Relaxed);
        ledger.submit(&operators(&world, name).await).await.unwrap();
        endpoints[at].faults.away.store(false, Ordering::Relaxed);
    }
    assert_eq!(all(&ledger).await, all(&world.ledger).await);
    assert!(endpoints.iter().all(|endpoint| endpoint.faults.sent.load(Ordering::Relaxed) > 0));
    for endpoint in &endpoints {
        endpoint.faults.away.store(true, Ordering::Relaxed);
    }
    let failed = ledger.submit(&operators(&world, "d").await).await;
    assert!(matches!(failed, Err(SubmitError::Node(NodeError::Transport { .. }))), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contract_with_other_code_is_no_ledger() {
    let (world, endpoints, _) = world(1).await;
    endpoints[0].faults.other_code.store(true, Ordering::Relaxed);
    let refused = attach(&world, &endpoints).await.map(drop);
    assert!(matches!(refused, Err(AttachError::OtherCode { .. })), "{refused:?}");
}

/// Whoever reads without an account is told so, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_keeps_entries_back_is_not_asked_for_ever() {
    let (world, endpoints, ledger) = world(1).await;
    world.by_operator(group("a", &["a/#"])).await.unwrap();
    let node = Node::network(Endpoints::new([endpoints[0].named("only")], Finality::Latest), MAX_FEE_GWEI);
    let reader = LedgerReader::open(node, world.id(), world.id()).await.unwrap();
    assert_eq!(reader.records().await.unwrap(), all(&world.ledger).await);
    endpoints[0].twist(Some(|asked, answer| {
        if asked["method"] == "eth_getLogs" {
            answer["result"] = json!([]);
        }
    }));
    let read = tokio::time::timeout(PATIENCE, reader.records()).await.unwrap();
    for said in [read, ledger.records(0, 10).await] {
        assert!(said.unwrap_err().to_string().contains("records from 0 on are missing"));
    }
}

/// Wherever it stands among the three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_endpoints_that_lies_is_not_believed() {
    let (world, endpoints, ledger) = world(3).await;
    for name in ["a", "b", "c"] {
        world.by_operator(group(name, &[&format!("{name}/#")])).await.unwrap();
    }
    for liar in &endpoints {
        liar.faults.lies.store(true, Ordering::Relaxed);
        let read = attach(&world, &endpoints).await.unwrap();
        assert_eq!(all(&read).await, all(&world.ledger).await);
        assert_eq!(all(&ledger).await, all(&world.ledger).await);
        liar.faults.lies.store(false, Ordering::Relaxed);
    }
    // Of two nobody knows which one.
    for endpoint in &endpoints[..2] {
        endpoint.faults.lies.store(true, Ordering::Relaxed);
        let said = attach(&world, &endpoints[..2]).await.unwrap().records(0, 10).await;
        assert!(said.unwrap_err().to_string().contains("endpoints disagree about entry 0: 1 for it, 1 against"));
        endpoint.faults.lies.store(false, Ordering::Relaxed);
    }
}

/// Nor if it says that its entry is in a block where the others have none, lies about one of several entries, or says where
/// none can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_endpoints_that_lies_more_cleverly_is_not_believed() {
    let twists: [(&str, Twist); 4] = [
        ("in another block", |asked, answer| {
            if asked["method"] == "eth_getLogs" {
                for log in answer["result"].as_array_mut().unwrap() {
                    alter(log);
                    log["blockNumber"] = json!("0x0");
                }
            }
        }),
        ("in a block to come", |asked, answer| {
            if asked["method"] == "eth_getLogs" {
                for log in answer["result"].as_array_mut().unwrap() {
                    alter(log);
                    log["blockNumber"] = json!("0xffffffffff");
                }
            }
        }),
        ("the first of several", |asked, answer| {
            if asked["method"] == "eth_getLogs"
                && let [log, _, ..] = &mut answer["result"].as_array_mut().unwrap()[..]
            {
                alter(log);
            }
        }),
        ("where none can be", |asked, answer| {
            if is_call(asked, "deployedAt()") {
                answer["result"] = word(1 << 40);
            }
        }),
    ];
    let (world, endpoints, _) = world(3).await;
    for name in ["a", "b", "c"] {
        world.by_operator(group(name, &[&format!("{name}/#")])).await.unwrap();
    }
    let truth = all(&world.ledger).await;
    let mut believed = Vec::new();
    for (what, twist) in twists {
        endpoints[0].twist(Some(twist));
        let read = attach(&world, &endpoints).await.unwrap().records(0, 10).await;
        if read.as_ref().ok() != Some(&truth) {
            believed.push(what);
        }
        endpoints[0].twist(None);
    }
    assert_eq!(believed, [""; 0]);
}

/// What only one of three has, the others may come to have in another order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_only_one_of_three_endpoints_has_is_not_believed_yet() {
    let (world, endpoints, ledger) = world(3).await;
    assert!(ledger.records(0, 10).await.unwrap().is_empty());
    world.by_operator(group("a", &["a/#"])).await.unwrap();
    let behind: Twist = |asked, answer| {
        if is_call(asked, "height()") {
            answer["result"] = word(0);
        } else if asked["method"] == "eth_getLogs" {
            answer["result"] = json!([]);
        }
    };
    endpoints[1].twist(Some(behind));
    endpoints[2].twist(Some(behind));
    let said = ledger.records(0, 10).await;
    assert!(said.is_err() || said.is_ok_and(|records| records.is_empty()), "one endpoint was believed");
    endpoints[2].twist(None);
    assert_eq!(all(&attach(&world, &endpoints).await.unwrap()).await, all(&world.ledger).await, "two have it");
}

/// The record in a receipt is that of the entry which was submitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_of_another_entry_is_not_believed() {
    let (world, endpoints, ledger) = world(1).await;
    endpoints[0].twist(Some(|asked, answer| {
        if asked["method"] == "eth_getTransactionReceipt" && !answer["result"].is_null() {
            answer["result"]["logs"].as_array_mut().unwrap().iter_mut().for_each(alter);
        }
    }));
    let said = ledger.submit(&operators(&world, "a").await).await;
    assert!(matches!(said, Err(SubmitError::Node(NodeError::Answer { .. }))), "{said:?}");
    let (first, then) = (operators(&world, "b").await, operators(&world, "c").await);
    let said = ledger.submit_all(&[first, then]).await;
    assert!(said.iter().all(Result::is_err), "{said:?}");
}

/// Whoever counts how long the ledger could not be read must hear that it can be, though nothing is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_watches_hears_that_the_ledger_can_be_read_again() {
    let (_world, endpoints, ledger) = world(1).await;
    let mut watch = ledger.watch(0);
    endpoints[0].faults.away.store(true, Ordering::Relaxed);
    watch.next().await.unwrap_err();
    endpoints[0].faults.away.store(false, Ordering::Relaxed);
    let again = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert!(again.is_empty());
}

/// An endpoint that asks too much is left, and nobody pays it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_says_what_to_pay_only_within_bounds() {
    let dear: Twist = |asked, answer| {
        if asked["method"] == "eth_feeHistory" {
            for fee in answer["result"]["baseFeePerGas"].as_array_mut().unwrap() {
                *fee = json!("0x16bcc41e90001");
            }
        }
    };
    let (world, endpoints, ledger) = world(2).await;
    endpoints[0].twist(Some(dear));
    ledger.submit(&operators(&world, "a").await).await.unwrap();
    let sent = || endpoints.iter().map(|endpoint| endpoint.faults.sent.load(Ordering::Relaxed)).collect::<Vec<_>>();
    assert_eq!(sent(), [0, 1], "the other one is asked");
    endpoints[1].twist(Some(dear));
    let said = ledger.submit(&operators(&world, "b").await).await.unwrap_err();
    assert!(format!("{said:?}").contains("max_fee_gwei"), "{said:?}");
    assert_eq!(sent(), [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_shows_nothing_new_is_left() {
    let (world, endpoints, ledger) = world(2).await;
    let mut watch = ledger.watch(0);
    world.by_operator(group("a", &["a/#"])).await.unwrap();
    assert_eq!(watch.next().await.unwrap().len(), 1);
    endpoints[0].faults.stale.store(true, Ordering::Relaxed);
    world.by_operator(group("b", &["b/#"])).await.unwrap();
    let found = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert_eq!(found.first().map(|record| record.index), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_got_lost_is_sent_again() {
    let (world, endpoints, ledger) = world(1).await;
    endpoints[0].faults.forgets.store(1, Ordering::Relaxed);
    let entry = operators(&world, "a").await;
    let record = tokio::time::timeout(PATIENCE, ledger.submit(&entry)).await.unwrap().unwrap();
    assert_eq!(all(&world.ledger).await, [record]);
    assert!(endpoints[0].faults.sent.load(Ordering::Relaxed) >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_without_base_fees_gets_transactions_of_the_old_type() {
    let (world, endpoints, ledger) = world(1).await;
    endpoints[0].faults.old.store(true, Ordering::Relaxed);
    ledger.submit(&operators(&world, "a").await).await.unwrap();
    let block = world
        .engine
        .handle(br#"{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest",true]}"#)
        .await;
    let block: Value = serde_json::from_slice(&block).unwrap();
    assert_eq!(block["result"]["transactions"][0]["type"], "0x0", "{block:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_is_deployed_on_a_network() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path().join("ledger.sqlite"), &EngineConfig::default()).unwrap();
    let keys = crate::world::Keys::generate();
    let endpoints = || Endpoints::new([Endpoint::new(&engine).named("only")], Finality::Latest);
    let node = || Node::network(endpoints(), MAX_FEE_GWEI);
    let ledger = Ledger::deploy(node(), Wallet::generate(), keys.public()).await.unwrap();
    let key = sealcast_identity::SigningKey::generate().unwrap();
    let entry = registration("1111", &key).sign(&keys.ca, ledger.id().ca(), 0, &ledger.id()).unwrap();
    let record = ledger.submit(&entry).await.unwrap();
    let other_hub = Ledger::attach(node(), Wallet::generate(), ledger.id().address).await.unwrap();
    assert_eq!(other_hub.submit(&entry).await.unwrap(), record, "two hubs may submit the same");
    assert_eq!(other_hub.affordable().await.unwrap(), None, "nothing costs anything here");
}
