//! The hub's ledger, in its folder or on a network.

use std::path::Path;

use anyhow::{Context as _, Result};
use rusqlite::OptionalExtension as _;
use sealcast_chain::{Ledger, stored_records};
use sealcast_ledger::{Genesis, LedgerId};
use sealcast_node::{
    doctor::{Known, Report, is_kept_to_itself, open_database},
    now_ms,
};
use sealcast_topic::ControlTopic;

use super::keys::{BACKUP, Found};
use crate::{config, folder, ledger};

const PAGE: usize = 256;
/// With enough for fewer entries than these it is time to send more.
const FEW: u64 = 1_000;
const ENDPOINTS: &str = "see rpc in [ledger] of hub.toml, and whether the endpoints are up: docs/network.md";
const PAY: &str = "send the account something: docs/network.md";

/// Reads it, and says what it comes to. `is_used`: the hub runs.
pub async fn check(
    report: &mut Report,
    dir: &Path,
    config: &config::Hub,
    found: &Found,
    is_used: bool,
) -> Option<Known> {
    let (anchor, network) = (found.anchor.as_ref()?, found.network.as_ref()?);
    let genesis = Genesis {
        id: LedgerId { chain_id: network.chain_id, address: network.ledger },
        root: *anchor.root().public_key(),
        ca: network.first_ca,
        operator: network.first_operator,
    };
    let at = report.attempt("ledger", ledger::address(dir), BACKUP)??;
    let known = match &config.ledger {
        None => {
            let read = || -> Result<Known> {
                let records = stored_records(&open_database(&dir.join("ledger.sqlite"), is_used)?, at.address)?;
                Known::new(genesis, records.into_iter().map(Ok))
            };
            report.attempt("ledger", read(), BACKUP)?
        }
        Some(network) => {
            let attached = async {
                let key = folder::relay_key(dir, config)?;
                ledger::network::attach(network, at, &key).await
            };
            let ledger = report.attempt("ledger", attached.await, ENDPOINTS)?;
            account(report, &ledger).await;
            report.attempt("ledger", read(genesis, &ledger).await, ENDPOINTS)?
        }
    };
    known.check(report);
    if let Some(issuing) = &found.issuing
        && known.replica.key_of(genesis.id.ca()) != Some(issuing.public_key())
    {
        report.fail(
            "ledger",
            "it knows another key of the issuing CA than issuing.pem has",
            "if `sealcast key rotate ca` was interrupted, run it again; else restore all files from one backup",
        );
    }
    known.check_groups(report, None, now_ms() / 1000);
    if config.broker.is_none() {
        check_word(report, &known, word(dir, is_used), is_used);
    }
    Some(known)
}

/// All entries that the endpoints show, each verified before the next ones are asked for.
async fn read(genesis: Genesis, ledger: &Ledger) -> Result<Known> {
    let mut known = Known::begun(genesis);
    loop {
        let page = ledger.records(known.replica.height(), PAGE).await?;
        if page.is_empty() {
            return Ok(known);
        }
        page.iter().try_for_each(|record| known.apply(record))?;
    }
}

/// What the account that pays for entries still has.
async fn account(report: &mut Report, ledger: &Ledger) {
    let account = ledger.account();
    let affordable = ledger.affordable().await.context("what the account has is not known");
    match report.attempt("account", affordable, ENDPOINTS) {
        None => {}
        Some(Some(0)) => report.fail("account", format!("{account}, which pays for entries, is empty"), PAY),
        Some(Some(entries @ ..FEW)) => {
            report.warn("account", format!("{account} can pay for {entries} more entries"), PAY);
        }
        Some(Some(entries)) => report.ok("account", format!("{account} can pay for {entries} more entries")),
        Some(None) => report.ok("account", format!("{account}: entries cost nothing here")),
    }
}

fn check_word(report: &mut Report, known: &Known, word: Result<Option<Vec<u8>>>, is_used: bool) {
    match word {
        Ok(word) => known.check_word(report, word.as_deref(), None, now_ms()),
        // The hub's broker has its database to itself.
        Err(error) if is_used && is_kept_to_itself(&error) => {}
        Err(error) => report.fail("operator", format!("{error:#}"), BACKUP),
    }
}

/// What the hub's own broker keeps as the operator's word.
fn word(dir: &Path, is_used: bool) -> Result<Option<Vec<u8>>> {
    let db = open_database(&dir.join("broker.db"), is_used)?;
    let topic = ControlTopic::Head.to_string();
    let kept = db.query_row("SELECT payload FROM retained WHERE topic = ?1", [topic], |row| row.get(0)).optional();
    kept.context("broker.db cannot be read")
}
