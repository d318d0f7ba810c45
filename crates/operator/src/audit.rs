//! `sealcast audit`: prove what a device has sent, and verify such a proof without any group's key.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use sealcast_agent::audit;
use sealcast_audit::{Message, Payload, Proof, Topic, Verified, verify};
use sealcast_chain::{LedgerReader, Node, ProvenHead};
use sealcast_identity::TrustAnchor;
use sealcast_ledger::{LedgerId, Record};
use sealcast_ledger_client::{Endpoints, Finality};
use sealcast_node::{
    endpoint::{Endpoint, EndpointUrl},
    files,
    output::{self, Column},
    tls,
};
use serde::Serialize;

use crate::{progress::Bar, source::read_records};

/// Longest proof that is read, in bytes.
const MAX_FILE_BYTES: usize = 1 << 30;

/// `sealcast audit`.
#[derive(Subcommand)]
pub enum Command {
    /// Write a proof of what a device has sent, for somebody who has no keys.
    Prove(audit::Options),
    /// Verify a proof: who sent what, when and in which order. It needs no key and no network of Sealcast's.
    Verify(Options),
}

/// `sealcast audit verify`.
#[derive(clap::Args)]
pub struct Options {
    /// The proof.
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
    /// The root certificate of the network's CA, from a source that you trust: each device has it as root.pem.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Where the ledger is.
#[derive(clap::Args)]
struct Source {
    /// A copy of the ledger, as `sealcast ledger export` writes it, or an agent's folder.
    #[arg(long, value_name = "PATH", required_unless_present = "rpc", conflicts_with = "rpc")]
    ledger: Option<PathBuf>,
    /// An endpoint of the ledger's network: http://, https://, ws:// or wss://.
    #[arg(long, value_name = "URL")]
    rpc: Option<EndpointUrl>,
    /// The contract there that has the ledger, CHAIN:0xADDRESS, if it has moved [default: the one that it began with].
    #[arg(long, value_name = "CONTRACT", requires = "rpc")]
    contract: Option<LedgerId>,
}

impl Source {
    /// All records of the proof's ledger; from an endpoint, with its proof of the head.
    async fn read(&self, proof: &Proof) -> Result<(Vec<Record>, Option<ProvenHead>)> {
        match (&self.ledger, &self.rpc) {
            (Some(path), _) => Ok((read_records(path)?, None)),
            (None, Some(url)) => {
                let endpoint = Endpoint::new(url, tls::system_roots)?;
                // A reader sends no transactions.
                let node = Node::network(Endpoints::new([(url.to_string(), endpoint)], Finality::Latest), 0);
                let reader = LedgerReader::open(node, self.contract.unwrap_or(proof.ledger), proof.ledger)
                    .await
                    .context("the ledger cannot be read there. If it has moved, name its contract with --contract")?;
                // Before the records: they may be more by then, never fewer.
                let proven = reader.proven_head().await?;
                Ok((reader.records().await?, proven))
            }
            (None, None) => Ok((Vec::new(), None)),
        }
    }
}

/// Runs the command.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Prove(options) => {
            let bar = Bar::waiting("proving");
            audit::run(&options, || drop(bar))
        }
        Command::Verify(options) => options.verify().await,
    }
}

impl Options {
    async fn verify(&self) -> Result<()> {
        let began = Instant::now();
        let root = TrustAnchor::new(files::certificate(&self.root)?)
            .with_context(|| format!("{} cannot be used", self.root.display()))?;
        let bytes = files::read_bytes(&self.proof, MAX_FILE_BYTES)?;
        let proof =
            Proof::decode(&bytes).with_context(|| format!("{} is no proof, or was changed", self.proof.display()))?;
        let bar = Bar::waiting("reading the ledger, and verifying it and the proof");
        let (records, proven) = self.source.read(&proof).await?;
        let verified = verify(&proof, &root, &records)?;
        if let Some(proven) = &proven {
            check_head(proven, &proof, &records)?;
        }
        drop(bar);
        let report = Report::new(&verified, proven.as_ref(), began.elapsed().as_secs_f64() * 1000.0);
        if self.json { output::json(&report) } else { report.print() }
    }
}

/// The head of the block's state is one of the records', and no earlier one than that of the last anchor.
fn check_head(proven: &ProvenHead, proof: &Proof, records: &[Record]) -> Result<()> {
    let at = records.iter().rposition(|record| record.head == proven.head);
    let last = proof.anchors.last().map_or(0, |record| record.index);
    ensure!(
        at.is_some_and(|at| at as u64 >= last),
        "the claim \"anchor on the ledger\" does not hold: the state of block {} does not have the ledger that the endpoint \
         shows",
        proven.block
    );
    Ok(())
}

#[derive(Serialize)]
struct Report {
    verified: bool,
    device: String,
    group: String,
    ledger: String,
    entries: u64,
    head: String,
    revoked: bool,
    /// The header that the anchor was checked against.
    block: Option<Block>,
    anchors: Vec<AnchorRow>,
    /// The series has so many messages between the anchors.
    enclosed: u64,
    first: u64,
    other_anchors_before: usize,
    messages: Vec<Row>,
    ms: f64,
}

#[derive(Serialize)]
struct Block {
    number: u64,
    hash: String,
}

#[derive(Serialize)]
struct AnchorRow {
    entry: u64,
    time_s: u64,
    messages: u64,
}

#[derive(Serialize)]
struct Row {
    place: u64,
    time_ms: u64,
    /// When the ledger had it.
    anchored_s: u64,
    kind: String,
    topic: Option<String>,
    /// As text, if it is UTF-8.
    payload: Option<String>,
    payload_hex: Option<String>,
    sha256: Option<String>,
}

impl Report {
    fn new(verified: &Verified, proven: Option<&ProvenHead>, ms: f64) -> Self {
        let anchors = verified.anchors.iter();
        let anchors: Vec<_> = anchors
            .map(|anchor| AnchorRow { entry: anchor.entry, time_s: anchor.time_s, messages: anchor.size })
            .collect();
        let size = anchors.last().map_or(0, |anchor| anchor.messages);
        Self {
            verified: true,
            device: verified.device.to_string(),
            group: verified.group_name.as_ref().map_or_else(|| verified.group.to_string(), ToString::to_string),
            ledger: verified.ledger.to_string(),
            entries: verified.height,
            head: verified.head.to_string(),
            revoked: verified.revoked,
            block: proven
                .map(|proven| Block { number: proven.block, hash: format!("0x{}", hex::encode(proven.block_hash)) }),
            enclosed: size - verified.from,
            first: verified.from,
            other_anchors_before: verified.others_before,
            messages: verified.messages.iter().map(|message| Row::new(message, &anchors)).collect(),
            anchors,
            ms,
        }
    }

    fn print(&self) -> Result<()> {
        let cells: Vec<[String; 6]> = self.messages.iter().map(Row::cells).collect();
        let header = [
            "PLACE".into(),
            "SEALED".into(),
            "ON LEDGER BY".into(),
            "WHAT".into(),
            Column::cut("TOPIC"),
            Column::cut("PAYLOAD"),
        ];
        output::table(header, &cells)?;
        let Self { device, group, ledger, enclosed, first, entries, ms, .. } = self;
        let (shown, count) = (self.messages.len(), self.anchors.len());
        output::line(&format!(
            "\nverified: {device} sent {shown} of these {enclosed} messages of {group}, numbers {first} to {}, and no others \
             between its {count} anchors",
            first + enclosed - 1
        ))?;
        if *first == 0 && self.other_anchors_before > 0 {
            output::line(&format!(
                "note: {device} has begun its series anew here: the ledger has {} earlier anchors of another one",
                self.other_anchors_before
            ))?;
        }
        if self.revoked {
            output::line(&format!("note: {device} was revoked since"))?;
        }
        output::line(&format!("ledger {ledger}: {entries} entries, head {}", self.head))?;
        match &self.block {
            Some(Block { number, hash }) => {
                output::line(&format!("the head is in the state of block {number}, {hash}: compare it elsewhere"))?;
            }
            None => output::line(
                "the ledger is what the file or the endpoint shows: no network vouches for it by a block's header",
            )?,
        }
        output::line(&format!("verified within {ms:.1} ms"))
    }
}

impl Row {
    fn new(Message { leaf, topic, payload }: &Message, anchors: &[AnchorRow]) -> Self {
        let topic = match topic {
            Topic::Hidden => None,
            Topic::Shown { topic, .. } => Some(topic.clone()),
        };
        let (bytes, digest) = match payload {
            Payload::Hidden => (None, None),
            Payload::Digest { digest, .. } => (None, Some(*digest)),
            Payload::Shown { payload, .. } => (Some(payload), Some(sealcast_audit::payload_digest(payload))),
        };
        let anchored = anchors.iter().find(|anchor| anchor.messages > leaf.index);
        Self {
            place: leaf.index,
            time_ms: leaf.time_ms,
            anchored_s: anchored.map_or(0, |anchor| anchor.time_s),
            kind: leaf.kind.to_string(),
            topic,
            payload: bytes.and_then(|bytes| String::from_utf8(bytes.clone()).ok()),
            payload_hex: bytes.map(hex::encode),
            sha256: digest.map(hex::encode),
        }
    }

    fn cells(&self) -> [String; 6] {
        let hidden = || "(not shown)".to_owned();
        let payload = match (&self.payload, &self.payload_hex, &self.sha256) {
            (Some(text), ..) => text.clone(),
            (None, Some(hex), _) => format!("0x{hex}"),
            (None, None, Some(digest)) => format!("SHA-256 {digest}"),
            (None, None, None) => hidden(),
        };
        [
            self.place.to_string(),
            sealcast_reading::utc(self.time_ms),
            output::utc(self.anchored_s),
            self.kind.clone(),
            self.topic.clone().unwrap_or_else(hidden),
            payload,
        ]
    }
}
