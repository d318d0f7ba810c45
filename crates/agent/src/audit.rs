//! `sealcast audit prove`: makes a proof of what a device has sent, from its folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use sealcast_audit::{Frontier, Proof, Sent, Series, Shown, anchor_of, payload_digest, prove, verify};
use sealcast_identity::{Certificate, DeviceId};
use sealcast_ledger::{Body, GroupName, GroupNumber, Number, Record, Replica};
use sealcast_node::{
    files::{self, Mode},
    now_ms, output,
};
use sealcast_reading::{TimeFormat, Zone};
use sealcast_topic::{check_filter, matches};

use crate::{
    Folder, read_replica,
    store::{Store, StoredSeries},
};

/// `sealcast-agent audit`.
#[derive(Subcommand)]
pub enum Command {
    /// Write a proof of what this device has sent, for somebody who has no keys.
    Prove(Options),
}

/// `sealcast audit prove`.
#[derive(clap::Args)]
pub struct Options {
    /// Where the proof goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The device's folder. Its agent may be running.
    #[arg(long, env = "SEALCAST_DIR", value_name = "DIR")]
    dir: PathBuf,
    /// Only of this group. Needed if the device has anchors of several.
    #[arg(long)]
    group: Option<GroupName>,
    /// Only messages on topics that match.
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Only messages sealed at this time or later, for example 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_utc)]
    from: Option<u64>,
    /// Only messages sealed before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_utc)]
    to: Option<u64>,
    /// Only messages with the payload that is in this file. The proof shows it, though the agent may have kept its digest only.
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// Show the time and the topic of each other message between the first and the last one, so that it is seen that none of
    /// the selected topics is left out.
    #[arg(long)]
    complete: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A time as people write it, in UTC unless it says its offset.
fn parse_utc(text: &str) -> Result<u64, String> {
    let stamp = TimeFormat::Auto.read_text(text, &Zone::utc()).map_err(|fault| fault.to_string())?;
    Ok(stamp.nearest_to(now_ms()))
}

/// What is proven of.
struct Device {
    id: DeviceId,
    number: Number,
    folder: Folder,
    records: Vec<Record>,
    replica: Replica,
}

/// Runs the command. `done` is called when the proof is written, before that is told.
pub fn run(options: &Options, done: impl FnOnce()) -> Result<()> {
    if let Some(filter) = &options.topic {
        check_filter(filter)?;
    }
    let (records, replica) = read_replica(&options.dir)?;
    let folder = Folder::open(&options.dir)?;
    let id = folder.device.clone();
    let device = Device { number: folder.genesis().id.number_of(&id), id, folder, records, replica };
    let group = device.group(options.group.as_ref())?;
    let (proof, shown) = device.prove(options, group)?;
    // What cannot be verified here would not be there either.
    verify(&proof, &device.folder.anchor, &device.records).context("the proof does not hold")?;
    let bytes = proof.encode();
    files::write(&options.out, &bytes, Mode::Public)?;
    done();
    let proven = serde_json::json!({
        "proof": options.out.display().to_string(),
        "bytes": bytes.len(),
        "device": device.id.to_string(),
        "group": device.replica.group(group).map(|group| group.name.to_string()),
        "messages": shown,
        "anchors": proof.anchors.len(),
    });
    let words = format!(
        "{}: {} bytes; messages of {}: {shown}; anchors: {}. Whoever verifies it needs root.pem and the ledger:\n\
         sealcast audit verify {} --root root.pem --ledger ledger.bin (by `sealcast ledger export`; or --rpc URL)",
        options.out.display(),
        bytes.len(),
        device.id,
        proof.anchors.len(),
        options.out.display(),
    );
    output::outcome(options.json, &proven, &words)
}

impl Device {
    /// Of the device's anchors on the ledger, those of `group`, in their order.
    fn anchors(&self, group: GroupNumber) -> Vec<&Record> {
        let own = self.records.iter().filter(|record| record.entry.originator() == self.number);
        own.filter(|record| anchor_of(record).is_some_and(|anchor| anchor.group == group)).collect()
    }

    /// The group of this name, or the one that has anchors.
    fn group(&self, name: Option<&GroupName>) -> Result<GroupNumber> {
        if let Some(name) = name {
            let group = self.replica.group_by_name(name).with_context(|| format!("the ledger has no group {name}"))?;
            return Ok(group.number);
        }
        let mut with = self.replica.groups().filter(|group| !self.anchors(group.number).is_empty());
        let Some(group) = with.next() else {
            bail!(
                "the ledger has no anchors of {}: set [anchor] in its agent.toml. What is sent from then on can be proven \
                 when it is anchored",
                self.id
            )
        };
        if let Some(other) = with.next() {
            bail!("{} has anchors of {} and {}: say which group with --group", self.id, group.name, other.name);
        }
        Ok(group.number)
    }

    /// The proof, and how many messages it shows.
    fn prove(&self, options: &Options, group: GroupNumber) -> Result<(Proof, usize)> {
        let payload = options.payload.as_deref().map(std::fs::read).transpose().context("--payload")?;
        let digest = payload.as_deref().map(payload_digest);
        let wants = |sent: &Sent| {
            options.topic.as_ref().is_none_or(|filter| matches(filter, &sent.topic))
                && options.from.is_none_or(|from| sent.time_ms >= from)
                && options.to.is_none_or(|to| sent.time_ms < to)
                && digest.is_none_or(|digest| sent.digest == digest)
        };
        let all = Store::read_series(&options.dir, group)?;
        for stored in &all {
            let Some(part) = Part::select(&options.dir, stored, wants)? else { continue };
            let Part { base, first, last, sent } = part;
            let series = self.series(stored, first, last, base, with_payload(sent, payload.as_deref(), digest))?;
            let shown = shown(&series.sent, wants, options.complete);
            let count = shown.iter().filter(|shown| **shown == Shown::All).count();
            return Ok((prove(&series, &shown)?, count));
        }
        let newest =
            all.first().map_or(0, |series| series.size - series.anchors.last().map_or(0, |(_, tree)| tree.size()));
        bail!(
            "no message that is kept and anchored is what was asked for. {newest} messages of the group wait for the next \
             anchor ([anchor] in agent.toml says when it comes)"
        )
    }

    fn series(
        &self,
        stored: &StoredSeries,
        first: usize,
        last: usize,
        base: Frontier,
        sent: Vec<Sent>,
    ) -> Result<Series> {
        let on_ledger = self.anchors(stored.group);
        let place = |at: usize| {
            let (root, tree) = stored.anchors.get(at)?;
            on_ledger.iter().position(|record| {
                anchor_of(record).is_some_and(|anchor| anchor.root == *root && u64::from(anchor.count) == tree.size())
            })
        };
        let range = place(first).zip(place(last)).and_then(|(first, last)| on_ledger.get(first..=last));
        let range = range.context("the folder's copy of the ledger has not the anchors that the folder remembers")?;
        let (chain, registration) = self.identity(range.last().map_or(0, |record| record.index))?;
        let genesis = self.folder.genesis();
        Ok(Series {
            ledger: genesis.id,
            first_ca: genesis.ca,
            first_operator: genesis.operator,
            chain,
            registration,
            anchors: range.iter().map(|record| (*record).clone()).collect(),
            secret: stored.secret.clone(),
            base,
            sent,
        })
    }

    /// The device's certificate with its issuer's, and the record that registers it. The key is the one that signed the anchor
    /// `at`; a renewed certificate has the same.
    fn identity(&self, at: u64) -> Result<([Certificate; 2], Record)> {
        let missing = "device.pem holds no certificate with that of the CA above it";
        let (leaf, above) = self.folder.chain.split_first().context(missing)?;
        let issuing = above.iter().find(|issuer| leaf.is_issued_by(issuer)).context(missing)?;
        let certificate = leaf.fingerprint().0.into();
        let is_this = |record: &&Record| matches!(record.entry.body(), Body::DeviceRegistered(of) if of.certificate == certificate);
        let registration = self.records.iter().find(is_this).with_context(|| {
            format!("the folder's copy of the ledger has not the certificate of {} yet: try again", self.id)
        })?;
        let contract = Record::contract_at(&self.records, self.folder.genesis().id, at);
        let anchor = self.records.get(usize::try_from(at)?);
        let signed = anchor.is_some_and(|record| record.entry.is_signed_by(leaf.public_key(), &contract));
        ensure!(
            signed,
            "the anchor of entry {at} was signed by an earlier key of {}, whose certificate is gone",
            self.id
        );
        Ok(([leaf.clone(), issuing.clone()], registration.clone()))
    }
}

/// The part of a series that a proof is about.
struct Part {
    /// The tree before.
    base: Frontier,
    /// The places of the first and the last of its anchors, among the series'.
    first: usize,
    last: usize,
    /// From `base` to the last anchor.
    sent: Vec<Sent>,
}

impl Part {
    /// From the last anchor that has none of the messages that are wanted, up to the first that has them all.
    fn select(dir: &Path, stored: &StoredSeries, wants: impl Fn(&Sent) -> bool) -> Result<Option<Self>> {
        let size = |at: usize| stored.anchors.get(at).map_or(0, |(_, tree)| tree.size());
        let Some(newest) = stored.anchors.len().checked_sub(1) else { return Ok(None) };
        let mut wanted = None;
        Store::read_sent(dir, stored.id, stored.first, size(newest), |index, sent| {
            if wants(&sent) {
                let (from, _) = wanted.unwrap_or((index, index));
                wanted = Some((from, index));
            }
        })?;
        let Some((from, to)) = wanted else { return Ok(None) };
        let before = stored.anchors.iter().rposition(|(_, tree)| tree.size() <= from);
        let Some(last) = stored.anchors.iter().position(|(_, tree)| tree.size() > to) else { return Ok(None) };
        let base =
            before.and_then(|at| stored.anchors.get(at)).map_or_else(Frontier::default, |(_, tree)| tree.clone());
        ensure!(
            base.size() >= stored.first,
            "messages before number {} of the series are forgotten (keep_days of [anchor]), and the proof needs those from \
             number {} on: ask for later ones",
            stored.first,
            base.size()
        );
        let mut sent = Vec::new();
        Store::read_sent(dir, stored.id, base.size(), size(last), |_, message| sent.push(message))?;
        // Without one before, the first anchor after the beginning is the first of the proof.
        Ok(Some(Self { base, first: before.unwrap_or(0), last, sent }))
    }
}

/// A payload that is in a file needs not be on disk.
fn with_payload(mut sent: Vec<Sent>, payload: Option<&[u8]>, digest: Option<[u8; 32]>) -> Vec<Sent> {
    for sent in sent.iter_mut().filter(|sent| Some(sent.digest) == digest) {
        sent.payload = payload.map(<[u8]>::to_vec);
    }
    sent
}

fn shown(sent: &[Sent], wants: impl Fn(&Sent) -> bool, complete: bool) -> Vec<Shown> {
    let (first, last) = (sent.iter().position(&wants), sent.iter().rposition(&wants));
    let between = first.zip(last).map_or(0..=0, |(first, last)| first..=last);
    let of = |(at, sent): (usize, &Sent)| match wants(sent) {
        true => Shown::All,
        false if complete && between.contains(&at) => Shown::Topic,
        false => Shown::Nothing,
    };
    sent.iter().enumerate().map(of).collect()
}
