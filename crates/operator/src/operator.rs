//! The operator's side of the commands: connects to a running hub with the operator's key, reads the ledger, verifies it,
//! and adds signed entries.

use std::{path::Path, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_agent::genesis;
use sealcast_identity::{Certificate, DeviceId, Network, OPERATOR_NAME, SigningKey, TrustAnchor};
use sealcast_ledger::{AttestedHead, Body, Device, Group, GroupName, Record, Refusal, Replica};
use sealcast_ledger_client::{AnswerVerifier, RemoteLedger, SubmitError};
use sealcast_node::{
    HubChannel, KeyFiles, Link, LinkEvent, PassphraseArgs, Tasks,
    config::{folder_of, load},
    files,
    https::{self, Https},
    now_ms, output,
    tls::{self, Identity},
    upstream::{Upstream, UpstreamConfig, UpstreamFile},
};
use sealcast_topic::{ControlTopic, Wire};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::DropGuard;

use crate::progress::Bar;

/// How long the hub may take to answer: it may be a small or a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PAGE: usize = 256;
/// How often an entry is signed anew because somebody else with the operator's key was faster.
const TRIES: usize = 5;

/// As which operator.
#[derive(clap::Args, Debug, Clone)]
pub struct OperatorArgs {
    /// The operator's folder, which the hub's first start made: operator.key, operator.pem, root.pem, network.json.
    #[arg(long = "operator", env = "SEALCAST_OPERATOR", value_name = "DIR", default_value = "hub-operator")]
    pub dir: PathBuf,
    /// How its key is read.
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

impl OperatorArgs {
    /// Whether the folder is on this machine.
    pub fn is_here(&self) -> bool {
        self.dir.join("network.json").exists()
    }

    /// Connects as this operator, and reads the whole ledger.
    pub async fn connect(&self) -> Result<Operator> {
        Operator::connect(&self.dir, &self.passphrase.key_files()?).await
    }
}

/// The file as `init` writes it: every key stands in it, and none is set.
pub const TEMPLATE: &str = include_str!("operator.toml");

/// `operator.toml` in the operator's folder.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OperatorFile {
    /// How the broker is reached, and the login that it wants. Default: as the hub said, with the operator's certificate.
    broker: UpstreamFile,
}

/// A connection to the hub, over the broker or HTTPS, and a replica of its ledger that was verified from the first entry on.
pub struct Operator {
    /// Every record, in order.
    pub records: Vec<Record>,
    /// What they amount to.
    pub replica: Replica,
    /// How Sealcast's own topics are written at the broker.
    pub wire: Wire,
    link: Link,
    https: Https,
    ledger: RemoteLedger<HubChannel>,
    key: SigningKey,
    _end: DropGuard,
}

/// The network that the operator's folder is for.
pub fn network(dir: &Path) -> Result<(Network, TrustAnchor)> {
    let path = |name: &str| dir.join(name);
    let json = files::read(&path("network.json")).with_context(|| {
        format!(
            "{} is not an operator's folder: run this where that folder is, or give it with --operator. The first start of \
             `sealcast up` makes it beside the hub's folder",
            dir.display()
        )
    })?;
    let anchor = TrustAnchor::new(files::certificate(&path("root.pem"))?).context("root.pem")?;
    let network = Network::verify(json.as_bytes(), &anchor, now_ms())
        .with_context(|| format!("{} cannot be used", path("network.json").display()))?;
    Ok((network, anchor))
}

/// How the broker is reached, by `operator.toml` in the operator's folder.
pub fn broker(dir: &Path) -> Result<UpstreamConfig> {
    let config = dir.join("operator.toml");
    load::<OperatorFile>(None, &config)?
        .check(&[], |file| file.broker.with_files(folder_of(&config)).validate("broker"))
}

impl Operator {
    /// Connects and reads the whole ledger.
    pub async fn connect(dir: &Path, key_files: &KeyFiles) -> Result<Self> {
        let path = |name: &str| dir.join(name);
        let (network, anchor) = network(dir)?;
        let chain = files::certificates(&path("operator.pem"))?;
        let key = key_files.read(&path("operator.key"))?;
        ensure!(
            chain.first().map(Certificate::public_key) == Some(key.public()),
            "operator.key in {0} is not the key of operator.pem. If `sealcast key rotate operator` was interrupted, run it \
             again; else restore both files from one backup",
            dir.display()
        );
        let chain: Vec<Vec<u8>> = chain.iter().map(|certificate| certificate.der().to_vec()).collect();

        let identity = Identity { chain: &chain, key: &key };
        let upstream = Upstream::open(&broker(dir)?, &network.broker, anchor.root().der(), &identity)?;
        let upstream = upstream.with_wire(network.wire.clone());
        let tasks = Tasks::default();
        let stop = tasks.stop().clone();
        let genesis = genesis(&network, &anchor);
        let client = tls::client(anchor.root().der(), Some(&identity))?;
        let https = Https::new(&network.hub, client.clone())?;
        let (_, tls) = watch::channel(client);
        let answers = AnswerVerifier::new(genesis.id, OPERATOR_NAME, anchor);
        let (link, mut events) = Link::open(&upstream, OPERATOR_NAME, &[], Some(answers), &tasks)?;
        let fault = fault_of(&mut events).await;
        tokio::spawn(async move { while events.recv().await.is_some() {} });

        let mut operator = Self {
            records: Vec::new(),
            replica: Replica::new(genesis),
            wire: network.wire,
            ledger: RemoteLedger::new(HubChannel::new(link.clone(), &network.hub, tls).while_down(), genesis.id),
            link,
            https,
            key,
            _end: stop.drop_guard(),
        };
        let read = operator.catch_up().await;
        let Some(fault) = fault else {
            read?;
            return Ok(operator);
        };
        let broker = &network.broker;
        // What the hub could not be asked over names the fault.
        read.with_context(|| {
            format!("cannot connect to the broker at {broker}: is it running, or `sealcast up` if it is the hub's?")
        })?;
        output::complain(&format!(
            "note: no connection to the broker at {broker} ({fault}): the hub is asked over HTTPS"
        ));
        Ok(operator)
    }

    /// Signs `body` as the operator and waits until the ledger has it. Gives the ledger's record of it.
    pub async fn submit(&mut self, body: Body) -> Result<Record> {
        let id = self.replica.genesis().id;
        for _ in 0..TRIES {
            let nonce = self.replica.next_nonce(id.operator());
            let entry = body.sign(&self.key, id.operator(), nonce, self.replica.current_id())?;
            let outcome = self.ledger.submit(&entry).await;
            self.catch_up().await?;
            // One of two hubs may have submitted it, and the other one, which saw it there, have answered with a refusal.
            if let Some(record) = self.records.iter().rev().find(|record| record.entry == entry) {
                return Ok(record.clone());
            }
            match outcome {
                Ok(record) => return Ok(record),
                Err(SubmitError::Refused(Refusal::BadNonce { .. })) => {}
                Err(error) => return Err(self.refused(error)),
            }
        }
        bail!(
            "the ledger did not take the entry, because another process with the operator's key was faster each time: try again"
        )
    }

    /// Signs several as the operator and submits them together, so that they share blocks, and what follows from them
    /// can be done at once. In order: `taken` is called with the place of each that the ledger has, and its record, and
    /// behind one that it refuses no other is taken.
    pub async fn submit_all(
        &mut self,
        bodies: &[Body],
        mut taken: impl FnMut(usize, &Record) -> Result<()>,
    ) -> Result<()> {
        let id = self.replica.genesis().id;
        let mut done = 0;
        let mut tries = 0;
        let bar = Bar::of("writing to the ledger", bodies.len() as u64);
        while let Some(rest) = bodies.get(done..).filter(|rest| !rest.is_empty()) {
            let nonce = self.replica.next_nonce(id.operator());
            let here = self.replica.current_id();
            let entries =
                rest.iter().zip(nonce..).map(|(body, nonce)| body.clone().sign(&self.key, id.operator(), nonce, here));
            let entries = entries.collect::<Result<Vec<_>, _>>()?;
            let (records, outcome) = self.ledger.submit_all(&entries).await;
            self.read_on(|_, _| {}).await?;
            bar.suspend(|| (done..).zip(&records).try_for_each(|(place, record)| taken(place, record)))?;
            done += records.len();
            bar.set(done as u64);
            match outcome {
                Ok(()) => {}
                Err(SubmitError::Refused(Refusal::BadNonce { .. })) if tries < TRIES => tries += 1,
                Err(error) => return Err(self.refused(error)),
            }
        }
        Ok(())
    }

    fn refused(&self, error: SubmitError) -> anyhow::Error {
        let error = match error {
            SubmitError::Refused(refusal) => anyhow::Error::msg(self.replica.explain(&refusal)),
            error => error.into(),
        };
        error.context("the ledger did not take the entry")
    }

    /// Signs how far the ledger is now, and has the broker keep that for the agents. [`Self::records`] are given up.
    pub async fn attest(&mut self) -> Result<AttestedHead> {
        self.catch_up().await?;
        self.records = Vec::new();
        let id = self.replica.genesis().id;
        ensure!(
            self.replica.key_of(id.operator()) == Some(self.key.public()),
            "the ledger's operator has another key by now: start this again with the folder that has it"
        );
        let said = AttestedHead { time_ms: now_ms(), height: self.replica.height(), head: self.replica.head() };
        let answer = self.link.publish_told(&ControlTopic::Head.to_string(), true, said.sign(&self.key, &id)?)?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(Ok(()))) => Ok(said),
            Ok(Ok(Err(reason))) => bail!("the hub's broker refused it: {reason}"),
            _ => bail!("the hub's broker did not acknowledge it"),
        }
    }

    /// Asks the hub over HTTPS, with the operator's certificate.
    pub async fn post(&self, path: &str, json: Vec<u8>) -> Result<Vec<u8>> {
        let body = https::Body { authorization: None, content_type: "application/json", bytes: json };
        self.https.request(path, Some(body)).await
    }

    /// Reads and verifies what the ledger has beyond the replica.
    pub async fn catch_up(&mut self) -> Result<()> {
        let mut bar = None;
        self.read_on(|done, all| {
            bar.get_or_insert_with(|| Bar::of("reading and verifying the ledger", all)).set(done);
        })
        .await
    }

    /// The same; `told` hears how many entries are verified, and of how many.
    async fn read_on(&mut self, mut told: impl FnMut(u64, u64)) -> Result<()> {
        let mut all = None;
        loop {
            let page = self
                .ledger
                .records(self.replica.height(), PAGE)
                .await
                .context("cannot read the ledger from the hub")?;
            if page.is_empty() {
                return Ok(());
            }
            // Most are told all that there is at once.
            if all.is_none() && page.len() == PAGE {
                all = Some(self.ledger.head().await.map_or(0, |head| head.height));
            }
            for record in page {
                self.replica.apply(&record).context("the hub's ledger does not verify")?;
                self.records.push(record);
            }
            all.iter().for_each(|all| told(self.replica.height(), *all));
        }
    }

    /// The device of that name.
    pub fn device(&self, id: &DeviceId) -> Result<&Device> {
        self.replica.device_by_id(id).with_context(|| {
            format!("no device {id} is registered: see `sealcast device list`. Enrolling registers a device")
        })
    }

    /// The group of that name.
    pub fn group(&self, name: &GroupName) -> Result<&Group> {
        self.replica.group_by_name(name).with_context(|| {
            format!("there is no group {name}: see `sealcast group list`; `sealcast group create` makes one")
        })
    }
}

/// Why the broker has not taken this connection; `None` if it has.
async fn fault_of(events: &mut mpsc::Receiver<LinkEvent>) -> Option<String> {
    let told = async {
        loop {
            match events.recv().await {
                Some(LinkEvent::Up) => return None,
                Some(LinkEvent::Down(reason)) => return Some(reason),
                Some(LinkEvent::Message { .. } | LinkEvent::Taken { .. } | LinkEvent::Refused { .. }) => {}
                None => return Some("interrupted".into()),
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| Some("no answer".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_init_writes_has_every_key_with_its_default() {
        let docs = include_str!("../../../docs/configuration.md");
        let faults = sealcast_node::config::faults::<OperatorFile>(TEMPLATE, docs);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
