//! Each way in which a block's commit can fail, and what the clients make of it.

use sealcast_identity::SigningKey;
use sealcast_ledger::{Body, GroupCreated, Policy, Record, SignedEntry};
use sealcast_ledger_client::SubmitError;

use crate::{Engine, EngineConfig, Ledger, Node, Wallet, engine::Fault};

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
        let (ca, operator) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let node = Node::embedded(&engine);
        let ledger = Ledger::deploy(node, Wallet::generate(), ca.public(), operator.public()).await.unwrap();
        Self { directory, engine, ledger, ca, operator }
    }

    fn entry(&self, nonce: u64) -> SignedEntry {
        let policy = Policy {
            epoch_max_age_s: None,
            epoch_max_messages: None,
            retention: 0,
            authenticity: sealcast_ledger::Authenticity::Group,
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
    let bench = Bench::new().await;
    let first = bench.ledger.submit(&bench.entry(0)).await.unwrap();
    bench.engine.inject(Fault::Lost);
    let failed = bench.ledger.submit(&bench.entry(1)).await;
    assert!(matches!(failed, Err(SubmitError::Dropped)), "{failed:?}");
    assert_eq!(bench.ledger.height().await.unwrap(), 1);
    // The same entry again, and the wallet's nonce has no gap.
    let second = bench.ledger.submit(&bench.entry(1)).await.unwrap();
    let third = bench.ledger.submit(&bench.entry(2)).await.unwrap();
    bench.verify(&[first, second, third]).await;
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
    for fault in [Fault::Lost, Fault::Persisted] {
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
