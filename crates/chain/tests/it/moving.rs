//! A ledger moves to another network: the contract there has the same entries and heads, and goes on.

use sealcast_chain::{AttachError, Engine, EngineConfig, Ledger, LedgerReader, Node, Wallet};
use sealcast_identity::SigningKey;
use sealcast_ledger::{
    Body, Hash, LedgerId, Moved, Record, Refusal, Replica, SignedEntry,
    testing::{Cast, MemoryLedger, Workload},
};
use sealcast_ledger_client::SubmitError;

use crate::world::{World, all, commit, group};

/// An empty network, and a wallet there.
struct Elsewhere {
    _directory: tempfile::TempDir,
    engine: Engine,
    chain_id: u64,
}

impl Elsewhere {
    fn new(chain_id: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = EngineConfig { chain_id, funded: vec![wallet(chain_id).address()] };
        let engine = Engine::open(crate::world::file(directory.path()), &config).unwrap();
        Self { _directory: directory, engine, chain_id }
    }

    fn wallet(&self) -> Wallet {
        wallet(self.chain_id)
    }

    async fn successor_of(&self, ledger: &Ledger) -> Ledger {
        let genesis = ledger.genesis().await.unwrap();
        Ledger::deploy_successor(Node::embedded(&self.engine), self.wallet(), &genesis).await.unwrap()
    }
}

/// One for each network.
fn wallet(chain_id: u64) -> Wallet {
    Wallet::from_secret(&[u8::try_from(chain_id % 200).unwrap() + 1; 32]).unwrap()
}

async fn replay(into: &Ledger, records: &[Record]) {
    let mut done = usize::try_from(into.height().await.unwrap()).unwrap();
    while done < records.len() {
        done += into.replay(&records[done..]).await.unwrap();
    }
}

fn moved(to: &Ledger) -> Body {
    Body::Moved(Moved { to: to.id() })
}

fn refusal(result: Result<Record, SubmitError>) -> Refusal {
    match result {
        Err(SubmitError::Refused(refusal)) => refusal,
        other => panic!("must be refused: {other:?}"),
    }
}

/// As the contract at `ledger` wants it next, which the former one has the numbers of.
fn sign(body: &Body, key: &SigningKey, replica: &Replica, by: sealcast_ledger::Number) -> SignedEntry {
    body.sign(key, by, replica.next_nonce(by), replica.current_id()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_goes_on_at_another_contract() {
    let world = World::new().await;
    let device = world.register("1111").await;
    let g = world.group("g", &[&device]).await;
    world.submit(&device, commit(g, 0, 10)).await.unwrap();
    let there = Elsewhere::new(77);
    let successor = there.successor_of(&world.ledger).await;
    assert_eq!((successor.id().chain_id, successor.first_id()), (77, world.id()));
    assert_eq!(successor.genesis().await.unwrap(), world.genesis());
    assert_eq!(successor.current_id().await.unwrap(), world.id());
    assert_eq!(successor.replayer().await.unwrap(), Some(successor.account()));
    assert_eq!(successor.head().await.unwrap().hash, world.genesis().head());

    // Before the ledger moves, the entries that it has come over; then the last one.
    replay(&successor, &all(&world.ledger).await).await;
    assert_eq!(successor.head().await.unwrap(), world.ledger.head().await.unwrap());
    let early = sign(&commit(g, 1, 10), &device.key, &world.replica().await, device.number);
    let before = Refusal::NotHere { ledger: world.id() };
    assert_eq!(refusal(successor.submit(&early).await), before);
    world.by_operator(moved(&successor)).await.unwrap();
    let after = Refusal::NotHere { ledger: successor.id() };
    assert_eq!(refusal(world.ledger.submit(&early).await), after);
    assert_eq!(world.ledger.current_id().await.unwrap(), successor.id());
    replay(&successor, &all(&world.ledger).await).await;
    assert_eq!(successor.head().await.unwrap(), world.ledger.head().await.unwrap());
    assert_eq!(all(&successor).await, all(&world.ledger).await);
    assert_eq!((successor.replayer().await.unwrap(), successor.current_id().await.unwrap()), (None, successor.id()));

    // What was signed for the former contract is worth nothing here, and by the replica's rules too.
    let mut replica = world.replica().await;
    assert_eq!(replica.current_id(), &successor.id());
    assert_eq!(replica.genesis().id, world.id());
    assert_eq!(refusal(successor.submit(&early).await), Refusal::BadSignature);
    assert_eq!(replica.check(&early), Err(Refusal::BadSignature));
    let next = sign(&commit(g, 1, 10), &device.key, &replica, device.number);
    let record = successor.submit(&next).await.unwrap();
    replica.apply(&record).unwrap();
    let by = replica.genesis().id.operator();
    let record = successor.submit(&sign(&group("h", &["h/#"]), &world.keys.operator, &replica, by)).await.unwrap();
    replica.apply(&record).unwrap();
    assert_eq!(replica.head(), successor.head().await.unwrap().hash);
    // Whoever comes later verifies all of it, from the first entry.
    let all = all(&successor).await;
    assert_eq!(sealcast_ledger::verify(world.genesis(), all.iter().cloned()).unwrap().head(), replica.head());

    // So does somebody who only reads, and knows what the ledger is called.
    let reader = async |name| LedgerReader::open(Node::embedded(&there.engine), successor.id(), name).await;
    assert_eq!(reader(world.id()).await.unwrap().records().await.unwrap(), all);
    let other = reader(successor.id()).await.map(drop);
    assert!(matches!(other, Err(AttachError::OtherLedger { first, .. }) if first == world.id()), "{other:?}");

    // Opened anew, it is the same ledger.
    let again = Ledger::attach(Node::embedded(&there.engine), there.wallet(), successor.id().address).await;
    assert_eq!(again.unwrap().first_id(), world.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replayed_is_the_deployers_in_order_and_signed() {
    let world = World::new().await;
    world.register("1111").await;
    world.register("1112").await;
    let there = Elsewhere::new(77);
    let successor = there.successor_of(&world.ledger).await;
    let records = all(&world.ledger).await;
    let replayed = async |into: &Ledger, records: &[Record]| match into.replay(records).await {
        Err(SubmitError::Refused(refusal)) => refusal,
        other => panic!("must be refused: {other:?}"),
    };
    let stranger = Ledger::attach(Node::embedded(&there.engine), Wallet::generate(), successor.id().address).await;
    let Refusal::MayNotReplay { replayer } = replayed(&stranger.unwrap(), &records).await else {
        panic!("a stranger replays")
    };
    assert_eq!(*replayer.as_bytes(), there.wallet().address());
    assert!(matches!(replayed(&world.ledger, &records).await, Refusal::MayNotReplay { .. }));
    assert_eq!(replayed(&successor, &records[1..]).await, Refusal::BadNonce { expected: 0, got: 1 });
    let mut late = records.clone();
    late[0].time_s += 1_000_000;
    assert!(matches!(replayed(&successor, &late).await, Refusal::ClockWentBack { .. }));
    let foreign = Replica::new(world.genesis());
    let forged = sign(records[0].entry.body(), &world.keys.operator, &foreign, records[0].entry.originator());
    let forged = Record { entry: forged, ..records[0].clone() };
    assert_eq!(replayed(&successor, &[forged]).await, Refusal::BadSignature);
    assert_eq!(successor.height().await.unwrap(), 0);
    replay(&successor, &records).await;
    assert_eq!(successor.head().await.unwrap().hash, records.last().unwrap().head);
}

/// Twice: the second successor gets the entries of both contracts before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_all_kinds_move_and_move_again() {
    let first = Elsewhere::new(5318);
    let address = alloy::primitives::Address::from(first.wallet().address()).create(0).into_array();
    let mut workload = Workload::new(Cast::new(LedgerId { chain_id: 5318, address }, 4).unwrap(), 11);
    let genesis = workload.cast.genesis;
    let keys = [&genesis.root, &genesis.ca, &genesis.operator];
    let mut ledger = Ledger::deploy(Node::embedded(&first.engine), first.wallet(), keys).await.unwrap();
    let mut memory = MemoryLedger::new(genesis);
    let mut places = vec![first];
    for chain_id in [77, 78] {
        for _ in 0..120 {
            let entry = workload.entry(memory.replica()).unwrap();
            match ledger.submit(&entry).await {
                Ok(record) => assert_eq!(memory.submit(&entry, record.time_s).unwrap(), record),
                Err(SubmitError::Refused(refusal)) => assert_eq!(memory.replica().check(&entry), Err(refusal)),
                Err(error) => panic!("{error}"),
            }
        }
        let there = Elsewhere::new(chain_id);
        let successor = there.successor_of(&ledger).await;
        let by = genesis.id.operator();
        let body = moved(&successor);
        let key = workload.key(memory.replica(), by);
        let entry = body.sign(key, by, memory.replica().next_nonce(by), memory.replica().current_id()).unwrap();
        let record = ledger.submit(&entry).await.unwrap();
        assert_eq!(memory.submit(&entry, record.time_s).unwrap(), record);
        replay(&successor, memory.records()).await;
        ledger = successor;
        places.push(there);
    }
    assert_eq!(all(&ledger).await, memory.records());
    let replica = sealcast_ledger::verify(genesis, memory.records().iter().cloned()).unwrap();
    assert_eq!(replica.head(), memory.replica().head());
    assert_ne!(replica.head(), Hash::from([0; 32]));
    assert_eq!(*replica.current_id(), ledger.id());
}
