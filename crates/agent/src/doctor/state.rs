//! What the agent keeps: its copy of the ledger, its groups, and what waits to be sent.

use std::path::Path;

use anyhow::Result;
use sealcast_group::{Groups, Me};
use sealcast_identity::SigningKey;
use sealcast_ledger::Hash;
use sealcast_node::{
    KeyFiles,
    doctor::{Known, Report, check_database},
    now_ms,
};

use super::identity::Identified;
use crate::{
    config,
    store::{Store, Waiting, beside, state_files},
};

const START_ANEW: &str = "move agent.sqlite away, and start the agent once with --new-state: its groups add the device \
                          again by themselves. What was not sent yet is lost with the file";

/// What was found.
pub struct State {
    /// The ledger, if the folder has one that can be read.
    pub ledger: Option<Known>,
    waiting: Option<Waiting>,
}

/// Checks the state in `dir`. `is_used`: the agent runs.
pub fn check(
    report: &mut Report,
    dir: &Path,
    is_used: bool,
    identified: Option<&Identified>,
    key_files: Option<&KeyFiles>,
) -> Option<State> {
    report.attempt("state", Store::require(dir), "see above what is lost with it")?;
    let [file, ..] = state_files(dir);
    let db = check_database(report, "state", &file, is_used, START_ANEW)?;
    report.attempt("state", beside::check_version(&db), "use the program that wrote it, or a newer one")?;
    let waiting = report.attempt("state", beside::waiting(&db), START_ANEW);
    let Some(Identified { folder, key }) = identified else { return Some(State { ledger: None, waiting }) };

    let genesis = folder.genesis();
    let ledger = report.attempt("ledger", Known::new(genesis, beside::stored(&db)), START_ANEW);
    let Some(known) = ledger else { return Some(State { ledger: None, waiting }) };
    known.check(report);
    let number = genesis.id.number_of(&folder.device);
    if let Some(leaf) = folder.chain.first() {
        known.check_device(report, number, Hash::from(leaf.fingerprint().0));
    }
    let held = || -> Result<Groups> {
        let rows = beside::state(&db, dir, key_files.and_then(KeyFiles::passphrase))?;
        let me = |key: &SigningKey| Me {
            device: folder.device.clone(),
            key: key.clone(),
            chain: folder.chain_der(),
            anchors: vec![folder.anchor.clone()],
        };
        let key = key.as_ref().ok_or_else(|| anyhow::anyhow!("they take the device's key"))?;
        Ok(Groups::new(me(key), &genesis, rows, now_ms())?)
    };
    let groups = report.attempt("groups", held(), START_ANEW);
    if let Some(groups) = &groups {
        if groups.next_entry() > known.replica.height() {
            let found = format!("they have read {} entries, more than the folder has", groups.next_entry());
            report.fail("groups", found, START_ANEW);
        }
        let has_keys = |group: &sealcast_ledger::Group| groups.epoch(group.number).is_some();
        known.check_groups(report, Some((number, &has_keys)), now_ms() / 1000);
    }
    Some(State { ledger: Some(known), waiting })
}

/// Whether what waits has room.
pub fn check_waiting(report: &mut Report, config: &config::Agent, state: &State) {
    let Some(Waiting { readings, archived }) = state.waiting else { return };
    let found = format!("{readings} readings wait for the ledger, {archived} points of archives for the broker");
    if readings >= config.record_queue {
        report.fail(
            "queue",
            format!("{found}: record_queue is full, and new readings are not recorded"),
            "the agent's log says why the ledger does not take them: a group that is not granted, or no limits for a topic \
             (sealcast group limits). Or raise record_queue",
        );
    } else if readings > config.record_queue / 2 {
        report.warn("queue", found, "the agent's log says why the ledger does not take them");
    } else {
        report.ok("queue", found);
    }
}

#[cfg(test)]
mod tests {
    use sealcast_node::doctor::CheckVerdict;

    use super::*;
    use crate::config::AgentFile;

    #[test]
    fn a_queue_is_told_when_it_is_half_full_and_fails_when_it_is_full() -> Result<()> {
        let config = AgentFile::default().validate()?;
        for (readings, expected) in [
            (50_000, CheckVerdict::Ok),
            (50_001, CheckVerdict::Warning),
            (99_999, CheckVerdict::Warning),
            (100_000, CheckVerdict::Failure),
        ] {
            let mut report = Report::new("agent", Path::new("."));
            let state = State { ledger: None, waiting: Some(Waiting { readings, archived: 0 }) };
            check_waiting(&mut report, &config, &state);
            let verdicts: Vec<_> = report.checks().iter().map(|check| check.verdict).collect();
            assert_eq!(verdicts, [expected], "{readings}");
        }
        Ok(())
    }
}
