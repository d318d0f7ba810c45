//! Each way in which a block's commit can fail, and what the clients make of it.

use sealcast_faults::Fault;
use sealcast_identity::SigningKey;
use sealcast_ledger::{Body, GroupCreated, Policy, Record, SignedEntry};
use sealcast_ledger_client::SubmitError;

use crate::{AttachError, Engine, EngineConfig, Ledger, Node, Wallet};

struct Bench {
    directory: tempfile::TempDir,
    engine: Engine,
    ledger: Ledger,
    ca: SigningKey,
    operator: SigningKey,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path().join("ledger"), &EngineConfig::default()).unwrap();
        let [root, ca, operator] = std::array::from_fn(|_| SigningKey::generate().unwrap());
        let node = Node::embedded(&engine);
        let keys = [&root, &ca, &operator].map(SigningKey::public);
        let ledger = Ledger::deploy(node, Wallet::generate(), keys).await.unwrap();
        Self { directory, engine, ledger, ca, operator }
    }

    fn entry(&self, nonce: u64) -> SignedEntry {
        let policy = Policy {
            epoch_max_age_s: None,
            epoch_max_messages: None,
            retention: 0,
            authenticity: sealcast_ledger::Authenticity::Group,
            ledger_max_age_s: None,
        };
        let group = GroupCreated {
            name: format!("g{nonce}").parse().unwrap(),
            filters: vec![format!("g{nonce}/#").parse().unwrap()],
            policy,
        };
        let id = self.ledger.id();
        Body::GroupCreated(group).sign(&self.operator, id.operator(), nonce, &id).unwrap()
    }

    /// Everything is verified again, by this engine and by one that opens the file anew.
    async fn verify(self, expected: &[Record]) {
        let genesis = self.ledger.genesis().await.unwrap();
        assert_eq!(genesis.ca, *self.ca.public());
        assert_eq!(self.ledger.records(0, 100).await.unwrap(), expected);
        let path = self.directory.path().join("ledger");
        drop((self.engine, self.ledger));
        let engine = Engine::open(path, &EngineConfig::default()).unwrap();
        let ledger = Ledger::attach(Node::embedded(&engine), Wallet::generate(), genesis.id.address).await.unwrap();
        let records = ledger.records(0, 100).await.unwrap();
        assert_eq!(records, expected);
        sealcast_ledger::verify(genesis, records).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_leaves_nothing() {
    for fault in [Fault::Refused, Fault::Lost] {
        let bench = Bench::new().await;
        let first = bench.ledger.submit(&bench.entry(0)).await.unwrap();
        bench.engine.inject(fault);
        let failed = bench.ledger.submit(&bench.entry(1)).await;
        assert!(matches!(failed, Err(SubmitError::Dropped)), "{failed:?}");
        assert_eq!(bench.ledger.height().await.unwrap(), 1);
        // The same entry again, and the wallet's nonce has no gap.
        let second = bench.ledger.submit(&bench.entry(1)).await.unwrap();
        let third = bench.ledger.submit(&bench.entry(2)).await.unwrap();
        bench.verify(&[first, second, third]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_fails_is_found_or_done_again_at_the_same_address() {
    for fault in Fault::ALL {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let [root, ca, operator] = std::array::from_fn(|_| SigningKey::generate().unwrap());
        let keys = [&root, &ca, &operator].map(SigningKey::public);
        let wallet = Wallet::generate();
        let engine = Engine::open(&path, &EngineConfig::default()).unwrap();
        engine.inject(fault);
        let same = Wallet::from_secret(&wallet.secret()).unwrap();
        let deployed = Ledger::deploy(Node::embedded(&engine), same, keys).await;
        assert_eq!(deployed.is_ok(), fault.is_persisted(), "{fault:?}");
        drop((engine, deployed));

        let engine = Engine::open(&path, &EngineConfig::default()).unwrap();
        assert_eq!(engine.height(), u64::from(fault.is_persisted()), "{fault:?}");
        let address = wallet.first_contract();
        let same = || Wallet::from_secret(&wallet.secret()).unwrap();
        let found = Ledger::attach(Node::embedded(&engine), same(), address).await;
        let ledger = match found {
            Ok(ledger) => ledger,
            Err(error) => {
                assert!(matches!(error, AttachError::NoContract { .. }) && !fault.is_persisted(), "{error:?}");
                Ledger::deploy(Node::embedded(&engine), same(), keys).await.unwrap()
            }
        };
        assert_eq!((ledger.id().address, engine.height()), (address, 1), "{fault:?}");
        let genesis = ledger.genesis().await.unwrap();
        assert_eq!([&genesis.root, &genesis.ca, &genesis.operator], keys);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_but_persists_is_found() {
    let bench = Bench::new().await;
    let first = bench.ledger.submit(&bench.entry(0)).await.unwrap();
    bench.engine.inject(Fault::Persisted);
    // The block is there, whatever the commit said: the receipt is found after the failure.
    let second = bench.ledger.submit(&bench.entry(1)).await.unwrap();
    assert_eq!(second.index, 1);
    assert_eq!(bench.ledger.submit(&bench.entry(1)).await.unwrap(), second);
    let third = bench.ledger.submit(&bench.entry(2)).await.unwrap();
    bench.verify(&[first, second, third]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_in_flight_are_dropped_together_and_go_through_again() {
    for fault in Fault::ALL {
        let bench = Bench::new().await;
        let entries: Vec<_> = (0..20).map(|nonce| bench.entry(nonce)).collect();
        bench.engine.inject(fault);
        let results = bench.ledger.submit_all(&entries).await;
        let failed = results.iter().filter(|result| result.is_err()).count();
        assert!(fault == Fault::Persisted || failed > 0, "the fault did not strike");
        let mut records = Vec::new();
        for entry in &entries {
            records.push(bench.ledger.submit(entry).await.unwrap());
        }
        bench.verify(&records).await;
    }
}
