//! What a kill leaves behind, and who may open the file.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use sealcast_chain::{Engine, EngineConfig, Ledger, Node, OpenError, Wallet};
use sealcast_identity::SigningKey;
use sealcast_ledger::{Body, Genesis, Hash, KeysPublished, LedgerId};

use crate::world::{PATIENCE, World, all, commit, file, registration};

const DIRECTORY: &str = "SEALCAST_TEST_LEDGER";

/// Not a test by itself: what [`acknowledged_entries_survive_kills`] kills. Prints the index of each entry that was
/// acknowledged.
#[test]
#[ignore = "the child process of another test"]
fn writer() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (genesis, operator) = identity(directory);
        let engine = Engine::open(file(directory), &EngineConfig::default()).unwrap();
        let wallet = Wallet::from_secret(&read(directory, "wallet").try_into().unwrap()).unwrap();
        let ledger = Ledger::attach(Node::embedded(&engine), wallet, genesis.id.address).await.unwrap();
        // Several lanes at once, so that blocks have several entries and some are always under way.
        let lanes = (0..4).map(|lane| {
            let (ledger, directory) = (ledger.clone(), directory.to_path_buf());
            let key = SigningKey::from_pkcs8_der(&read(&directory, &format!("lane{lane}"))).unwrap();
            let number = genesis.id.number_of(&format!("lane{lane}").parse().unwrap());
            tokio::spawn(async move {
                let mut nonce = ledger.nonce_of(number).await.unwrap();
                while nonce < u64::MAX {
                    let key_package = Hash::of(format!("{lane}-{nonce}").as_bytes());
                    let certificate = Hash::of(key.public().xy());
                    let body = Body::KeysPublished(KeysPublished { key_package, certificate, rejoin: false });
                    let entry = body.sign(&key, number, nonce, &ledger.id()).unwrap();
                    let record = ledger.submit(&entry).await.unwrap();
                    // Not through the test harness, which may hold it back.
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged {} {}", record.index, record.head).unwrap();
                    out.flush().unwrap();
                    nonce += 1;
                }
            })
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await.unwrap();
        }
        drop(operator);
    });
}

fn read(directory: &Path, name: &str) -> Vec<u8> {
    std::fs::read(directory.join(name)).unwrap()
}

fn identity(directory: &Path) -> (Genesis, SigningKey) {
    let [root, ca, operator] =
        ["root", "ca", "operator"].map(|name| SigningKey::from_pkcs8_der(&read(directory, name)).unwrap());
    let id: LedgerId = String::from_utf8(read(directory, "id")).unwrap().parse().unwrap();
    (Genesis { id, root: *root.public(), ca: *ca.public(), operator: *operator.public() }, operator)
}

/// The process that is killed, at the latest when the test fails. What it said as errors is printed then.
struct Writer {
    child: Child,
    errors: File,
}

impl Writer {
    fn start(directory: &Path) -> Self {
        let errors = tempfile::tempfile().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::writer", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().unwrap())
            .spawn()
            .unwrap();
        Self { child, errors }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let mut text = String::new();
            let _ = self.errors.rewind().and_then(|()| self.errors.read_to_string(&mut text));
            eprintln!("======== the writer said:\n{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_entries_survive_kills() {
    // Everything on disk first: keys, wallet, the contract, four devices.
    let world = World::new().await;
    let directory = world.directory.path().to_path_buf();
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).unwrap();
    write("root", world.keys.root.to_pkcs8_der().unwrap());
    write("ca", world.keys.ca.to_pkcs8_der().unwrap());
    write("operator", world.keys.operator.to_pkcs8_der().unwrap());
    write("id", world.id().to_string().as_bytes());
    write("wallet", &*Wallet::generate().secret());
    for lane in 0..4 {
        let device = world.register(&format!("lane{lane}")).await;
        write(&format!("lane{lane}"), device.key.to_pkcs8_der().unwrap());
    }
    let genesis = world.genesis();
    let World { directory: _keep, engine, ledger, .. } = world;
    drop((engine, ledger));

    let mut acknowledged = std::collections::BTreeMap::new();
    for round in 0..6u64 {
        let mut writer = Writer::start(&directory);
        let lines = BufReader::new(writer.child.stdout.take().unwrap()).lines();
        // Killed after another number of entries each time, with others under way.
        let enough = acknowledged.len() + 15 + 7 * usize::try_from(round).unwrap();
        let mut killed = false;
        for line in lines {
            // The harness's own line may stand before ours.
            let line = line.unwrap();
            let Some((_, report)) = line.split_once("acknowledged ") else { continue };
            let (index, head) = report.split_once(' ').unwrap();
            acknowledged.insert(index.parse::<u64>().unwrap(), head.to_owned());
            if acknowledged.len() >= enough && !killed {
                // SIGKILL, to this process only. What it printed before is still read.
                writer.child.kill().unwrap();
                killed = true;
            }
        }
        writer.child.wait().unwrap();
        assert!(killed, "the writer ended by itself in round {round}");

        let engine = Engine::open(file(&directory), &EngineConfig::default()).unwrap();
        let ledger = Ledger::attach(Node::embedded(&engine), Wallet::generate(), genesis.id.address).await.unwrap();
        let records = all(&ledger).await;
        for (index, head) in &acknowledged {
            let record = records.get(usize::try_from(*index).unwrap());
            assert_eq!(
                record.map(|record| record.head.to_string()).as_ref(),
                Some(head),
                "entry {index} after round {round}"
            );
        }
        let replica = sealcast_ledger::verify(genesis, records).unwrap();
        let head = ledger.head().await.unwrap();
        assert_eq!((head.height, head.hash), (replica.height(), replica.head()));
        println!("round {round}: {} acknowledged, {} on the ledger", acknowledged.len(), head.height);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_writer_only() {
    let world = World::new().await;
    let path = file(world.directory.path());
    let second = Engine::open(&path, &EngineConfig::default()).unwrap_err();
    assert!(matches!(second, OpenError::InUse { .. }), "{second:?}");
    assert!(second.to_string().contains("in use by another process"), "{second}");
    let World { directory: _keep, engine, ledger, .. } = world;
    drop(engine);
    // The ledger's client still has it.
    assert!(matches!(Engine::open(&path, &EngineConfig::default()), Err(OpenError::InUse { .. })));
    drop(ledger);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Engine::open(&path, &EngineConfig { chain_id: 1, ..EngineConfig::default() }) {
            Err(OpenError::ChainId { found: 7526, wanted: 1, .. }) => break,
            Err(OpenError::InUse { .. }) if Instant::now() < deadline => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
    Engine::open(&path, &EngineConfig::default()).unwrap();
}

#[test]
fn other_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    std::fs::write(&text, "not a database, but long enough to be looked at as one".repeat(40)).unwrap();
    assert!(matches!(Engine::open(&text, &EngineConfig::default()), Err(OpenError::Database(_))));
    let missing = directory.path().join("no/such/directory");
    assert!(matches!(Engine::open(&missing, &EngineConfig::default()), Err(OpenError::Lock { .. })));
}

/// Not a check but a measurement: `cargo test -p sealcast-chain --release --test it -- --ignored speed --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed() {
    let world = World::new().await;
    let device = world.register("1111").await;
    let number = world.group("g", &[&device]).await;
    let id = world.id();
    let entries: Vec<_> = (0..1000u64)
        .map(|nonce| commit(number, nonce, 1500).sign(&device.key, device.number, nonce, &id).unwrap())
        .collect();
    let blocks = || world.engine.progress().borrow().height;
    let (begun, before) = (Instant::now(), blocks());
    for entry in &entries[..100] {
        world.ledger.submit(entry).await.unwrap();
    }
    println!(
        "one after the other: {:.0} entries/s, {} blocks",
        100.0 / begun.elapsed().as_secs_f64(),
        blocks() - before
    );
    let (begun, before) = (Instant::now(), blocks());
    for result in world.ledger.submit_all(&entries[100..]).await {
        result.unwrap();
    }
    println!("all at once: {:.0} entries/s, {} blocks", 900.0 / begun.elapsed().as_secs_f64(), blocks() - before);
    let key = SigningKey::generate().unwrap();
    let first = world.ledger.nonce_of(id.ca()).await.unwrap();
    let entries: Vec<_> = (first..first + 600)
        .map(|nonce| registration(&format!("d{nonce}"), &key).sign(&world.keys.ca, id.ca(), nonce, &id).unwrap())
        .collect();
    let (begun, before) = (Instant::now(), blocks());
    for result in world.ledger.submit_all(&entries).await {
        result.unwrap();
    }
    println!("devices at once: {:.0} entries/s, {} blocks", 600.0 / begun.elapsed().as_secs_f64(), blocks() - before);
    let begun = Instant::now();
    let records = all(&world.ledger).await;
    println!("read: {:.0} records/s", records.len() as f64 / begun.elapsed().as_secs_f64());
}
