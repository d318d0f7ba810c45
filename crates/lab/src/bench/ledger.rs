//! `sealcast bench ledger`: how many entries a ledger takes, embedded and on anvil, how fast they are verified, and what a long
//! history costs at a start.

mod anvil;
mod figures;
mod history;

use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sealcast_chain::{Engine, EngineConfig, Ledger, Node, Wallet};
use sealcast_identity::{DeviceId, PublicKey, SigningKey};
use sealcast_ledger::{
    Authenticity, Body, DeviceRegistered, Genesis, GroupCreated, GroupNumber, Hash, Record, Replica, Serial,
};
use sealcast_ledger_client::{Endpoints, Finality};
use sealcast_node::{
    endpoint::{Endpoint, EndpointUrl},
    output, tls,
};
use sealcast_operator::progress::Bar;
use serde::Serialize;

use self::{
    anvil::Anvil,
    figures::{millis, per_second, round, turns},
};
use crate::policy::policy;

/// Entries that are submitted one after the other.
const SINGLE: usize = 200;
/// Most entries that a development node gets in batches: it runs each transaction many times to estimate its gas.
const NETWORK_ENTRIES: usize = 512;
/// The most that is offered there for a transaction, in Gwei per gas.
const MAX_FEE_GWEI: u64 = 500;
/// Entries in one call of `Ledger::submit_all`.
const TOGETHER: usize = 1024;

/// All of it. Times are in ms.
#[derive(Serialize)]
struct Report {
    embedded: Speed,
    /// `null` where there is no development node.
    anvil: Option<Speed>,
    verification: Verification,
    starts: Vec<history::Row>,
}

/// How fast one ledger takes entries of the operator: grants and revocations of one device, in turns.
#[derive(Serialize)]
struct Speed {
    /// From `submit` until the entry's block is durable, and its record is back; one after the other.
    single_ms: f64,
    single_p99_ms: f64,
    single_per_s: f64,
    /// In transactions of many, `submitMany`.
    batch_entries: usize,
    batch_per_s: f64,
}

/// How fast a replica verifies records, on one core.
#[derive(Serialize)]
struct Verification {
    records: usize,
    /// Decoded, verified and applied.
    per_s: f64,
    /// The floor: one P-256 verification.
    p256_us: f64,
    /// Decoded and applied, as at a start.
    unverified_per_s: f64,
    /// Of one record.
    record_bytes: f64,
    /// Of the replica's snapshot, for one record.
    snapshot_bytes: f64,
    snapshot_write_ms: f64,
    snapshot_read_ms: f64,
}

/// Measures, and prints the figures. `entries`: in batches. `sizes`: of the histories.
pub async fn run(entries: usize, sizes: &[usize], rpc: Option<&EndpointUrl>, json: bool) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("sealcast-bench-").tempdir().context("no temporary folder")?;
    let bar = Bar::waiting("measuring the embedded ledger");
    let (embedded, records, genesis) = embedded(dir.path(), entries).await.context("embedded")?;
    let verification = verification(&records, genesis)?;
    drop((records, bar));
    let bar = Bar::waiting("measuring a ledger on a network");
    let anvil = match rpc {
        Some(url) => Some(network(url, entries).await.with_context(|| format!("at {url}"))?),
        None => match Anvil::start().await? {
            Some(anvil) => Some(network(&anvil.url, entries).await.context("anvil")?),
            None => {
                output::complain("note: anvil is not on PATH, and --rpc is not given: no network is measured");
                None
            }
        },
    };
    drop(bar);
    let starts = history::measure(sizes).await?;
    let report = Report { embedded, anvil, verification, starts };
    if json { output::json(&report) } else { report.print() }
}

impl Report {
    fn print(&self) -> Result<()> {
        let speeds = [("embedded", Some(&self.embedded)), ("anvil", self.anvil.as_ref())];
        let cells: Vec<[String; 5]> = speeds
            .into_iter()
            .filter_map(|(name, speed)| Some((name, speed?)))
            .map(|(name, speed)| {
                [
                    name.to_owned(),
                    format!("{:.2}", speed.single_ms),
                    format!("{:.2}", speed.single_p99_ms),
                    format!("{:.0}", speed.single_per_s),
                    format!("{:.0}", speed.batch_per_s),
                ]
            })
            .collect();
        output::table(["LEDGER", "SINGLE ms", "P99 ms", "SINGLE/s", "BATCH/s"], &cells)?;
        let of = &self.verification;
        output::line(&format!(
            "\nverified: {:.0}/s (P-256 alone: {:.0}/s); applied at a start: {:.0}/s; {:.0} bytes a record, {:.1} bytes of \
             snapshot\nsnapshot of {}: written in {:.1} ms, read in {:.1} ms\n",
            of.per_s,
            1e6 / of.p256_us,
            of.unverified_per_s,
            of.record_bytes,
            of.snapshot_bytes,
            of.records,
            of.snapshot_write_ms,
            of.snapshot_read_ms
        ))?;
        history::print(&self.starts)
    }
}

/// The originators of a ledger.
struct Keys {
    root: SigningKey,
    ca: SigningKey,
    operator: SigningKey,
}

impl Keys {
    fn generate() -> Result<Self> {
        Ok(Self { root: SigningKey::generate()?, ca: SigningKey::generate()?, operator: SigningKey::generate()? })
    }

    /// As the contract's constructor takes them.
    fn public(&self) -> [&PublicKey; 3] {
        [self.root.public(), self.ca.public(), self.operator.public()]
    }
}

async fn embedded(dir: &Path, entries: usize) -> Result<(Speed, Vec<Record>, Genesis)> {
    let (wallet, keys) = (Wallet::generate(), Keys::generate()?);
    let config = EngineConfig { funded: vec![wallet.address()], ..EngineConfig::default() };
    let engine = Engine::open(dir.join("ledger.sqlite"), &config)?;
    let ledger = Ledger::deploy(Node::embedded(&engine), wallet, keys.public()).await?;
    let speed = measure(&ledger, &keys, entries).await?;
    let mut records = Vec::new();
    loop {
        let page = ledger.records(records.len() as u64, 256).await?;
        if page.is_empty() {
            return Ok((speed, records, ledger.genesis().await?));
        }
        records.extend(page);
    }
}

async fn network(url: &EndpointUrl, entries: usize) -> Result<Speed> {
    let (wallet, keys) = (Wallet::from_secret(&anvil::ACCOUNT)?, Keys::generate()?);
    let endpoint = Endpoint::new(url, tls::system_roots)?;
    let node = Node::network(Endpoints::new([(url.to_string(), endpoint)], Finality::Latest), MAX_FEE_GWEI);
    let ledger = Ledger::deploy(node, wallet, keys.public()).await?;
    measure(&ledger, &keys, entries.min(NETWORK_ENTRIES)).await
}

async fn measure(ledger: &Ledger, keys: &Keys, entries: usize) -> Result<Speed> {
    let id = ledger.id();
    let device: DeviceId = "1111".parse()?;
    let registered = DeviceRegistered {
        device: device.clone(),
        public_key: *SigningKey::generate()?.public(),
        certificate: Hash::of(b"certificate"),
        serial: Serial::new(&[1])?,
        not_after_s: 4_000_000_000,
    };
    ledger.submit(&Body::DeviceRegistered(registered).sign(&keys.ca, id.ca(), 0, &id)?).await?;
    let policy = policy(Authenticity::Signature);
    let created = GroupCreated { name: "bench".parse()?, filters: vec!["bench/#".parse()?], policy };
    ledger.submit(&Body::GroupCreated(created).sign(&keys.operator, id.operator(), 0, &id)?).await?;

    let group = GroupNumber::new(1).context("group 1")?;
    let bodies = turns(group, id.number_of(&device));
    // What is measured is the ledger, not the operator's signatures.
    let signed: Vec<_> = bodies
        .zip(1..)
        .take(SINGLE + entries)
        .map(|(body, nonce)| body.sign(&keys.operator, id.operator(), nonce, &id))
        .collect::<Result<_, _>>()?;
    let (single, batch) = signed.split_at(SINGLE);
    let mut times = Vec::with_capacity(SINGLE);
    for entry in single {
        let start = Instant::now();
        ledger.submit(entry).await?;
        times.push(start.elapsed());
    }
    let start = Instant::now();
    for together in batch.chunks(TOGETHER) {
        for outcome in ledger.submit_all(together).await {
            outcome?;
        }
    }
    let took = start.elapsed();
    ensure!(ledger.height().await? == 2 + signed.len() as u64, "an entry was lost");
    let total: Duration = times.iter().sum();
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    Ok(Speed {
        single_ms: millis(at(50)),
        single_p99_ms: millis(at(99)),
        single_per_s: per_second(SINGLE, total),
        batch_entries: batch.len(),
        batch_per_s: per_second(batch.len(), took),
    })
}

fn verification(records: &[Record], genesis: Genesis) -> Result<Verification> {
    let encoded: Vec<Vec<u8>> = records.iter().map(Record::encode).collect();
    let mut replica = Replica::new(genesis);
    let start = Instant::now();
    for bytes in &encoded {
        replica.apply(&Record::decode(bytes)?)?;
    }
    let verified = start.elapsed();
    let mut unverified = Replica::new(genesis);
    let start = Instant::now();
    for bytes in &encoded {
        unverified.apply_without_signature_check(&Record::decode(bytes)?)?;
    }
    let applied = start.elapsed();
    let start = Instant::now();
    let mut good = 0;
    let checked = records.get(..records.len().min(5_000)).unwrap_or_default();
    for record in checked {
        good += usize::from(black_box(record.entry.is_signed_by(&genesis.operator, &genesis.id)));
    }
    let p256 = start.elapsed();
    ensure!(good + 1 == checked.len(), "all but the CA's entry are the operator's");
    let start = Instant::now();
    let snapshot = replica.snapshot();
    let written = start.elapsed();
    let start = Instant::now();
    let restored = Replica::from_snapshot(genesis, &snapshot)?;
    let read = start.elapsed();
    ensure!(restored.head() == replica.head(), "the snapshot has another head");
    let count = records.len() as f64;
    Ok(Verification {
        records: records.len(),
        per_s: per_second(records.len(), verified),
        p256_us: round(p256.as_secs_f64() * 1e6 / checked.len() as f64),
        unverified_per_s: per_second(records.len(), applied),
        record_bytes: round(encoded.iter().map(Vec::len).sum::<usize>() as f64 / count),
        snapshot_bytes: round(snapshot.len() as f64 / count),
        snapshot_write_ms: millis(written),
        snapshot_read_ms: millis(read),
    })
}
