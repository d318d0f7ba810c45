//! `sealcast doctor` for an operator's folder: whether its commands can do their work, and what to do where they cannot.

use std::path::Path;

use anyhow::{Context as _, Result};
use sealcast_agent::genesis;
use sealcast_identity::{Certificate, Network, OPERATOR_NAME, SigningKey, TrustAnchor};
use sealcast_node::{
    PassphraseArgs,
    doctor::{Known, Later, Probe, Report, check_certificate, check_clock, check_disk, check_secrets},
    files,
    https::Https,
    now_ms,
    tls::{self, Identity},
    upstream::Upstream,
};
use sealcast_topic::ControlTopic;

use crate::{
    duty::{ACTIONS, TOKEN},
    operator::{Operator, broker, network},
};

/// Of the lifetime of ten years: the last one.
const WARN_PART: u64 = 10;
/// A server and its operator may be so far apart, ms.
const TOLERANCE_MS: u64 = 2_000;
/// `sealcast operator` says every two minutes how far the ledger is.
const WORD_MS: u64 = 900_000;
const BACKUP: &str = "restore the operator's folder from a backup: docs/recovery.md";
const ROTATE: &str = "sealcast key rotate operator";
const HUB: &str = "see that `sealcast up` runs there and can be reached from here. If its address has changed, copy \
                   network.json from the hub's folder";
const BROKER: &str = "see that it runs and can be reached from here; operator.toml may name another login. All commands \
                      but `sealcast operator` and `sealcast ledger attest` do without it";

/// Who the operator is.
struct Identified {
    network: Network,
    anchor: TrustAnchor,
    chain: Vec<Vec<u8>>,
    key: SigningKey,
}

/// Checks the operator's folder `dir`. It may be in any state.
pub async fn examine(dir: &Path, passphrase: &PassphraseArgs) -> Report {
    let advice = "give the operator's folder, which the hub's first start makes (--operator)";
    let mut report = match Report::of_folder("operator", dir, advice) {
        Ok(report) => report,
        Err(report) => return report,
    };
    check_disk(&mut report, dir);
    let broker = report.attempt(
        "configuration",
        broker(dir),
        "correct operator.toml: docs/configuration.md has each key, and `sealcast init operator` writes them all into a \
         new file",
    );
    if broker.is_some() {
        report.ok("configuration", "operator.toml is in order, or there is none");
    }
    let token = dir.join(TOKEN);
    check_secrets(&mut report, &[dir.join("operator.key"), token.clone(), dir.join(ACTIONS)]);
    report.ok(
        "token",
        match token.exists() {
            true => format!("{TOKEN} is here: it signs operators in to the console"),
            false => format!("there is no {TOKEN} yet: sealcast operator makes it"),
        },
    );
    let Some(identified) = identify(&mut report, dir, passphrase) else { return report };
    let Identified { network, anchor, chain, key } = &identified;
    let https = tls::client(anchor.root().der(), Some(&Identity { chain, key }))
        .and_then(|client| Https::new(&network.hub, client));
    let hub_clock = hub(&mut report, network, https).await;
    let connected = async {
        let upstream = Upstream::open(
            &broker.context("see operator.toml")?,
            &network.broker,
            anchor.root().der(),
            &Identity { chain, key },
        )?;
        let upstream = upstream.with_wire(network.wire.clone());
        let probe = Probe::open(&upstream, OPERATOR_NAME, &[ControlTopic::Head.to_string()], None).await?;
        anyhow::Ok((upstream, probe))
    };
    let mut probe = report.attempt("broker", connected.await, BROKER).map(|(upstream, probe)| {
        report.ok("broker", format!("{upstream} takes the operator's connection"));
        probe
    });
    let known = match hub_clock {
        Some(_) => ledger(&mut report, dir, passphrase, &identified).await,
        None => None,
    };
    if let (Some(probe), Some(known)) = (&mut probe, &known) {
        known.check_word(&mut report, probe.retained().await.as_deref(), Some(WORD_MS), now_ms());
    }
    let mut others = vec![Later { what: "network.json", time_ms: network.written_ms, came_ms: None }];
    let written = known.as_ref().map(|known| known.replica.last_time_s() * 1000);
    others.extend(written.map(|time_ms| Later { what: "the ledger", time_ms, came_ms: None }));
    others.extend(hub_clock);
    check_clock(&mut report, now_ms(), TOLERANCE_MS, &others);
    report
}

fn identify(report: &mut Report, dir: &Path, passphrase: &PassphraseArgs) -> Option<Identified> {
    let chain = report.attempt("certificate", files::certificates(&dir.join("operator.pem")), BACKUP)?;
    let leaf = report.attempt("certificate", chain.first().context("operator.pem holds no certificate"), BACKUP)?;
    check_certificate(report, "certificate", leaf, now_ms(), WARN_PART, ROTATE);
    let (network, anchor) = report.attempt("network", network(dir), BACKUP)?;
    report.ok("network", format!("hub {}, broker {}", network.hub, network.broker));
    let ders: Vec<Vec<u8>> = chain.iter().map(|certificate| certificate.der().to_vec()).collect();
    let key = passphrase.key_files().and_then(|key_files| key_files.read(&dir.join("operator.key")));
    let key =
        report.attempt("key", key, "restore operator.key, or name the file with its passphrase (--passphrase-file)")?;
    let verified = anchor.verify_client(&ders, now_ms().max(leaf.not_before_s() * 1000)).map(drop);
    if leaf.is_valid_at(now_ms()) {
        report.attempt("certificate", verified.map_err(anyhow::Error::new), BACKUP)?;
    }
    if chain.first().map(Certificate::public_key) == Some(key.public()) {
        report.ok("key", "operator.key is that of the certificate");
    } else {
        report.fail(
            "key",
            "operator.key is not the key of operator.pem",
            "if `sealcast key rotate operator` was interrupted, run it again; else restore both files from one backup",
        );
    }
    Some(Identified { network, anchor, chain: ders, key })
}

/// What time it is there.
async fn hub(report: &mut Report, network: &Network, https: Result<Https>) -> Option<Later> {
    let date = async { https?.date_ms().await }.await;
    let time_ms = report.attempt("hub", date, HUB)?;
    let came_ms = Some(now_ms());
    report.ok("hub", format!("{} answers", network.hub));
    Some(Later { what: "the hub", time_ms, came_ms })
}

/// The ledger, read from the hub and verified.
async fn ledger(
    report: &mut Report,
    dir: &Path,
    passphrase: &PassphraseArgs,
    identified: &Identified,
) -> Option<Known> {
    let genesis = genesis(&identified.network, &identified.anchor);
    let read = async {
        let operator = Operator::connect(dir, &passphrase.key_files()?).await?;
        let records: Result<_> = Known::new(genesis, operator.records.into_iter().map(Ok));
        records
    };
    let known = report.attempt("ledger", read.await, HUB)?;
    known.check(report);
    if known.replica.key_of(genesis.id.operator()) != Some(identified.key.public()) {
        report.fail(
            "key",
            "the ledger's operator has another key by now, so that no command of this folder is taken",
            "use the folder in which `sealcast key rotate operator` was run; throw this one away",
        );
    }
    known.check_groups(report, None, now_ms() / 1000);
    Some(known)
}
