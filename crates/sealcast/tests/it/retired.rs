//! What a group's keys were before the current epoch is in no file of an agent's folder, nor is what opened its Welcome.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use sealcast_agent::{Store, read_replica};

use crate::harness::{Agent, Hub, until, until_joined};

/// So many bytes in a row are no coincidence: the length of a secret of MLS in Sealcast's cipher suite.
const SECRET: usize = 32;

#[test]
fn secrets_of_retired_epochs_are_in_no_file_of_the_agent() {
    let hub = Hub::start();
    let dirs = ["1111", "1112", "1113"].map(|device| hub.enroll(device));
    hub.operate(&["group", "create", "hsu0001", "--filter", "hsu0001/#", "--retention", "0"]);
    hub.operate(&["group", "grant", "hsu0001", "1111", "1112"]);
    let mut agents = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&agents[0], &agents[1], "hsu0001/probe");

    let mut retired = Vec::new();
    for change in ["grant", "revoke", "grant"] {
        let before = state(&dirs[0]);
        hub.operate(&["group", change, "hsu0001", "1113"]);
        let mut after = BTreeMap::new();
        until("the next epoch", || {
            after = state(&dirs[0]);
            epoch(&after) != epoch(&before)
        });
        retired.extend(secrets_of_one(&before, &after));
        check(&dirs[0], &retired);
    }
    for agent in &mut agents {
        agent.kill();
    }
    check(&dirs[0], &retired);
}

/// Whoever has recorded the Welcome must not be able to open it with what is there later.
#[test]
fn the_private_part_of_a_used_key_package_is_in_no_file_of_the_agent() {
    let hub = Hub::start();
    let dirs = ["1111", "1112"].map(|device| hub.enroll(device));
    hub.operate(&["group", "create", "hsu0001", "--filter", "hsu0001/#"]);
    hub.operate(&["group", "grant", "hsu0001", "1111"]);
    let mut agents = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    let (mut used, mut after) = (BTreeMap::new(), BTreeMap::new());
    until("a group, and a key package of whoever joins it", || {
        used = key_packages(&state(&dirs[1]));
        !used.is_empty() && epoch(&state(&dirs[0])).is_some()
    });
    hub.operate(&["group", "grant", "hsu0001", "1112"]);
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    until("the used one is forgotten", || {
        after = state(&dirs[1]);
        key_packages(&after).keys().all(|name| !used.contains_key(name))
    });
    let kept: HashSet<_> = after.values().flat_map(|value| pieces(value)).collect();
    let gone: Vec<_> = used.values().flat_map(|value| pieces(value)).filter(|piece| !kept.contains(piece)).collect();
    check(&dirs[1], &gone);
    agents[1].kill();
    check(&dirs[1], &gone);
}

/// This device's own, with their private parts.
fn key_packages(state: &State) -> State {
    state.clone().into_iter().filter(|(name, _)| name.starts_with("own/")).collect()
}

fn pieces(bytes: &[u8]) -> HashSet<Vec<u8>> {
    bytes.windows(SECRET).map(<[u8]>::to_vec).collect()
}

/// Such pieces of what everybody may know: the ledger.
fn public(dir: &Path) -> HashSet<Vec<u8>> {
    let (records, _) = read_replica(dir).unwrap();
    records.iter().flat_map(|record| pieces(&record.encode())).collect()
}

type State = BTreeMap<String, Vec<u8>>;

/// What the agent in `dir` has stored of its groups, as it reads it itself.
fn state(dir: &Path) -> State {
    let rows = Store::read_state(dir, None).unwrap();
    rows.into_iter().map(|(key, value)| (key, value.to_vec())).collect()
}

/// The name of the one epoch that is kept.
fn epoch(state: &State) -> Option<&str> {
    state.keys().map(String::as_str).rfind(|key| key.starts_with("epoch/"))
}

/// The exporter secret of the epoch in `before`, and each piece of its MLS state that is not in `after`.
fn secrets_of_one(before: &State, after: &State) -> Vec<Vec<u8>> {
    // Generation, epoch and leaf come first.
    let exporter = before[epoch(before).unwrap()][16..][..SECRET].to_vec();
    let mls = |state: &State| pieces(&state["mls/1"]);
    let mut found: Vec<_> = mls(before).difference(&mls(after)).cloned().collect();
    found.push(exporter);
    found
}

/// No file has any of `secrets`.
fn check(dir: &Path, secrets: &[Vec<u8>]) {
    let public = public(dir);
    let secrets: HashSet<&[u8]> = secrets.iter().filter(|piece| !public.contains(*piece)).map(Vec::as_slice).collect();
    assert!(secrets.len() > 100, "{} pieces of secrets", secrets.len());
    for file in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(SECRET).filter(|window| secrets.contains(window)).count();
        assert_eq!(found, 0, "{} has {found} pieces of retired secrets", file.display());
    }
}
