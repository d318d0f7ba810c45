use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use alloy_primitives::{Address, Bytes};
use alloy_sol_types::{SolCall as _, SolEvent as _};
use sealcast_ledger::{
    Authenticity, Body, GroupCreated, Policy, Replica, SignedEntry,
    testing::{Cast, MemoryLedger},
};
use serde_json::{Value, json};

use super::*;
use crate::{Channel, ChannelError, Finality, entry_log::Entry};

const ID: LedgerId = LedgerId { chain_id: 7, address: [3; 20] };

/// An endpoint, each of whose blocks has one entry.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Shows>>);

#[derive(Clone, Default)]
struct Shows {
    records: Vec<Record>,
    /// So many entries it says that it has more than it shows.
    boasts: u64,
    away: bool,
    chain_id: u64,
    /// It says that each entry is in a block that there is not.
    false_blocks: bool,
}

impl Channel for Fake {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        let asked: Value = serde_json::from_slice(&request).unwrap();
        let shows = self.0.lock().unwrap();
        if shows.away {
            return Err(ChannelError::Down("away".to_owned()));
        }
        let result = shows.answer(asked["method"].as_str().unwrap(), &asked["params"]);
        Ok(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }).to_string().into_bytes())
    }
}

impl Shows {
    fn answer(&self, method: &str, params: &Value) -> Value {
        let height = self.records.len() as u64;
        let number = |text: &Value| u64::from_str_radix(&text.as_str().unwrap()[2..], 16).unwrap();
        match method {
            "eth_chainId" => json!(format!("{:#x}", self.chain_id)),
            "eth_getBlockByNumber" => json!({ "number": format!("{height:#x}") }),
            "eth_call" => {
                let is_height = params[0]["input"] == json!(Bytes::from(heightCall {}.abi_encode()));
                let value = if is_height { height + self.boasts } else { 1 };
                json!(format!("{value:#066x}"))
            }
            "eth_getLogs" => {
                let filter = &params[0];
                let indexes = filter["topics"][1].as_array().unwrap();
                let asked = |record: &&Record| indexes.contains(&json!(format!("{:#066x}", record.index)));
                let blocks = number(&filter["fromBlock"])..=number(&filter["toBlock"]);
                let within = |record: &&Record| blocks.contains(&(record.index + 1));
                let logs = self.records.iter().filter(asked).filter(within).map(log);
                let with_block = |mut log: Value| {
                    if self.false_blocks {
                        log["blockNumber"] = json!("0xffffffffffffffff");
                    }
                    log
                };
                logs.map(with_block).collect()
            }
            other => panic!("{other}"),
        }
    }
}

fn log(record: &Record) -> Value {
    let event = Entry {
        index: record.index,
        originator: Address::from(*record.entry.originator().as_bytes()),
        kind: record.entry.kind().number(),
        nonce: record.entry.nonce(),
        time: record.time_s,
        body: record.entry.encoded_body().to_vec().into(),
        signature: record.entry.signature().to_vec().into(),
        head: record.head.as_bytes().into(),
    };
    let data = event.encode_log_data();
    json!({ "topics": data.topics(), "data": data.data, "blockNumber": format!("{:#x}", record.index + 1) })
}

/// A ledger of so many groups, endpoints that show all of it, and their client.
struct World {
    cast: Cast,
    ledger: MemoryLedger,
    endpoints: Vec<Fake>,
    client: NetworkLedger,
}

impl World {
    fn new(entries: usize, endpoints: usize) -> Self {
        let cast = Cast::new(ID, 0).unwrap();
        let ledger = MemoryLedger::new(cast.genesis);
        let endpoints: Vec<Fake> = (0..endpoints).map(|_| Fake::default()).collect();
        let named = endpoints.iter().zip(["first", "second", "third"]).map(|(e, name)| (name.to_owned(), e.clone()));
        let client = NetworkLedger::new(Endpoints::new(named, Finality::Latest), ID);
        let mut world = Self { cast, ledger, endpoints, client };
        for _ in 0..entries {
            world.ledger = world.grown("g", 1_000);
        }
        (0..world.endpoints.len()).for_each(|at| world.show(at, &world.ledger.clone()));
        world
    }

    /// The ledger with another group, made at this time.
    fn grown(&self, name: &str, time_s: u64) -> MemoryLedger {
        let mut ledger = self.ledger.clone();
        let name = format!("{name}{}", ledger.replica().height());
        let body = Body::GroupCreated(GroupCreated {
            name: name.parse().unwrap(),
            filters: vec![format!("{name}/#").parse().unwrap()],
            policy: Policy {
                epoch_max_age_s: None,
                epoch_max_messages: None,
                retention: 4,
                authenticity: Authenticity::Signature,
                ledger_max_age_s: None,
            },
        });
        let entry = self.cast.sign(ledger.replica(), ID.operator(), &body).unwrap();
        ledger.submit(&entry, time_s).unwrap();
        ledger
    }

    fn show(&self, endpoint: usize, ledger: &MemoryLedger) {
        self.with(endpoint, |shows| shows.records = ledger.records().to_vec());
    }

    fn with(&self, endpoint: usize, change: impl FnOnce(&mut Shows)) {
        let mut shows = self.endpoints[endpoint].0.lock().unwrap();
        shows.chain_id = ID.chain_id;
        change(&mut shows);
    }

    /// What the client gives a node that has the ledger up to `from`.
    fn read(&self, from: usize, now_ms: u64) -> Result<Vec<Record>, NodeError> {
        let verified = |records: &[Record]| {
            let mut replica = Replica::new(self.cast.genesis);
            self.ledger.records()[..from].iter().for_each(|record| drop(replica.apply(record).unwrap()));
            records.iter().take_while(|record| replica.apply(record).is_ok()).count()
        };
        ready(self.client.records(from as u64, 256, now_ms, verified))
    }

    fn lies(&self) -> Vec<u64> {
        self.client.states().iter().map(|state| state.lies).collect()
    }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    let Poll::Ready(value) = pin!(future).poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
    value
}

/// The same entries, from `from` on with another nonce than was signed, and with heads that fit.
fn forged(ledger: &MemoryLedger, from: usize) -> Vec<Record> {
    let mut records = ledger.records().to_vec();
    for at in from..records.len() {
        let Record { index, time_s, entry, .. } = records[at].clone();
        let (kind, body) = (entry.kind().number(), entry.encoded_body());
        let entry =
            SignedEntry::from_parts(kind, entry.originator(), entry.nonce() + 1, body, entry.signature()).unwrap();
        let head = Record::next_head(&records[at - 1].head, index, time_s, &entry, &ID);
        records[at] = Record { index, time_s, entry, head };
    }
    records
}

#[test]
fn the_ledger_is_read_to_its_end() {
    let world = World::new(100, 2);
    let first = world.read(0, 0).unwrap();
    assert_eq!(first, world.ledger.records()[..PAGE]);
    assert_eq!(world.read(PAGE, 0).unwrap(), world.ledger.records()[PAGE..]);
    assert_eq!(world.read(100, 0).unwrap(), []);
    assert!(world.client.states().iter().all(|state| state.answers && state.height == Some(100) && state.lies == 0));
}

#[test]
fn an_endpoint_that_is_away_or_of_another_chain_keeps_nobody_from_reading() {
    let world = World::new(3, 2);
    world.with(0, |shows| shows.away = true);
    assert_eq!(world.read(0, 0).unwrap().len(), 3);
    world.with(0, |shows| (shows.away, shows.chain_id) = (false, 8));
    assert_eq!(world.read(1, 0).unwrap().len(), 2);
    assert_eq!(world.client.states().iter().map(|state| state.answers).collect::<Vec<_>>(), [false, true]);
    world.with(1, |shows| shows.away = true);
    let said = world.read(3, 0).unwrap_err().to_string();
    assert!(said.contains("did not answer") || said.contains("of chain 8"), "{said}");
}

#[test]
fn of_two_endpoints_the_one_whose_entries_do_not_verify_is_named_and_not_believed() {
    for liar in [0, 1] {
        let world = World::new(5, 2);
        world.with(liar, |shows| shows.records = forged(&world.ledger, 2));
        assert_eq!(world.read(0, 0).unwrap(), world.ledger.records());
        assert_eq!((world.lies()[liar], world.lies()[1 - liar], world.client.parted()), (1, 0, None));
    }
}

#[test]
fn what_does_not_verify_is_given_out_once_at_most_if_nobody_contradicts() {
    let world = World::new(5, 2);
    world.with(0, |shows| shows.records = forged(&world.ledger, 2));
    world.with(1, |shows| shows.records.clear());
    assert_eq!(world.read(0, 0).unwrap().len(), 5, "the replica finds it out");
    assert!(world.read(0, 0).is_err());
    assert_eq!(world.lies(), [1, 0]);
}

/// The operator has signed two entries with one nonce, so both ledgers verify.
#[test]
fn two_ledgers_that_verify_stop_two_endpoints_and_three_go_with_the_most() {
    let mut world = World::new(3, 3);
    let (one, other) = (world.grown("one", 2_000), world.grown("other", 2_000));
    world.ledger = one.clone();
    for (at, ledger) in [&one, &other].into_iter().enumerate() {
        world.show(at, ledger);
    }
    world.with(2, |shows| shows.away = true);
    assert!(world.read(2, 0).unwrap_err().to_string().contains("as many endpoints show one ledger as another"));
    assert_eq!(world.client.parted(), Some(3), "the exact entry");
    world.show(2, &one);
    world.with(2, |shows| shows.away = false);
    assert_eq!(world.read(2, 0).unwrap(), one.records()[2..]);
    assert_eq!((world.lies(), world.client.parted()), (vec![0, 1, 0], None));
}

#[test]
fn an_endpoint_that_lies_about_blocks_keeps_nobody_from_reading_what_the_others_show() {
    let mut world = World::new(3, 2);
    world.with(0, |shows| shows.false_blocks = true);
    let read = |world: &World, from, now_ms| world.read(from, now_ms).map(|records| records.len()).ok();
    // It is passed over once it has not shown for a while what it says that it has.
    assert!(read(&world, 0, 0) == Some(3) || read(&world, 0, 10_000) == Some(3));
    world.ledger = world.grown("more", 2_000);
    (0..2).for_each(|at| world.show(at, &world.ledger.clone()));
    assert!(read(&world, 3, 20_000) == Some(1) || read(&world, 3, 40_000) == Some(1));
}

#[test]
fn an_endpoint_that_hides_the_newest_entries_is_named_after_a_minute() {
    let mut world = World::new(3, 2);
    world.ledger = world.grown("more", 2_000);
    world.show(1, &world.ledger.clone());
    assert_eq!(world.read(3, 0).unwrap().len(), 1, "what one shows is read");
    let is_behind = |world: &World| world.client.states()[0].is_behind;
    for now_ms in [0, MAX_LATE_MS - 1] {
        assert_eq!(world.read(4, now_ms).unwrap(), []);
        assert!(!is_behind(&world));
    }
    assert_eq!(world.read(4, MAX_LATE_MS).unwrap(), []);
    assert!(is_behind(&world));
    world.show(0, &world.ledger.clone());
    assert_eq!(world.read(4, MAX_LATE_MS + 1).unwrap(), []);
    assert!(!is_behind(&world));
}

#[test]
fn an_endpoint_that_says_it_has_more_than_it_shows_is_believed_for_a_moment_only() {
    let world = World::new(3, 2);
    world.with(0, |shows| shows.boasts = 5);
    assert!(world.read(3, 0).is_err(), "it may come");
    assert_eq!(world.read(3, 10_000).unwrap(), []);
    assert_eq!(world.lies(), [1, 0]);
    let alone = World::new(3, 1);
    alone.with(0, |shows| shows.boasts = 5);
    assert!(alone.read(3, 0).is_err() && alone.read(3, 10_000).is_err(), "nobody else has shown the end");
}
