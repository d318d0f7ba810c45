//! One device against everybody's disk: what it puts on the ledger is bounded, whatever it sends, and the others go on.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use sealcast_agent::read_replica;
use sealcast_ledger::{Body, Commit};
use sealcast_ledger_client::SubmitError;

use crate::harness::{Agent, Hub, Intruder, PATIENCE, until, until_joined};

/// Fewer bytes of a device than usual, the fewest that may be set, and more entries: so the bytes are what it comes up to.
const FEW_BYTES: &str = "[relay]\ndevice_entries = 10000\ndevice_bytes = 99328\ndevice_bytes_per_hour = 1\n";
const DEVICE_BYTES: u64 = 99_328;
/// Garbage commits, each as long as an entry can be.
const GARBAGE: u8 = 70;
const GARBAGE_BYTES: usize = 95 * 1024;
/// Entries that the flood ends with, if nothing bounds them.
const FLOOD: u32 = 2_000;
/// What the hub's file and an agent's may grow by while a device fills up [`DEVICE_BYTES`], with all that stands around its
/// entries there. SQLite's logs beside them have a bound of their own.
const HUB_GROWTH: u64 = 2 << 20;
const AGENT_GROWTH: u64 = 512 << 10;

fn hub_with(relay: &'static str) -> Hub {
    Hub::start_with(&[], move |dir| fs::write(dir.join("hub.toml"), relay).unwrap())
}

/// Commits to the group's present epoch that are no MLS commits, as long as they may be.
fn submit_garbage(intruder: &mut Intruder, member: &Agent) {
    for byte in 0..GARBAGE {
        let (_, replica) = read_replica(&member.dir).unwrap();
        let group = replica.group_by_name(&"home".parse().unwrap()).unwrap();
        let commit = Commit {
            group: group.number,
            generation: group.generation,
            epoch: group.epoch,
            commit: vec![byte; GARBAGE_BYTES],
        };
        let entry = intruder.sign(Body::Commit(commit));
        match intruder.submit(&entry) {
            Err(SubmitError::Rejected { reason }) if reason.starts_with("the commit would be void: ") => {}
            other => panic!("garbage commit {byte}: {other:?}"),
        }
    }
}

/// Hashes of key packages that do not exist, until the relay takes no more and `enough` is said. Gives the bytes that the
/// relay took and its words.
fn flood(intruder: &mut Intruder, enough: &AtomicBool) -> (u64, Option<String>) {
    let (mut taken, mut refused) = (0, None);
    for junk in 0..FLOOD {
        let entry = intruder.sign(intruder.junk_keys(junk));
        while !enough.load(Ordering::Relaxed) || refused.is_none() {
            match intruder.submit(&entry) {
                Ok(()) => {
                    taken += entry.encode().len() as u64;
                    break;
                }
                Err(SubmitError::Busy { reason, .. }) => refused = Some(reason),
                Err(other) => panic!("entry {junk}: {other}"),
            }
        }
    }
    (taken, refused)
}

#[test]
fn a_device_that_floods_the_ledger_fills_nobodys_disk_and_stops_nobody() {
    let hub = hub_with(FEW_BYTES);
    let [first, second, hostile] = hub.members("home", [""; 3]);
    let [first, second] = [first, second].map(|dir| Agent::start(&dir, &[]));
    until_joined(&first, &second, "home/probe");
    let late = Agent::start(&hub.enroll("1114"), &[]);
    let mut intruder = Intruder::start(&hostile);
    let number = intruder.number;
    let files = [(hub.path(), "ledger.sqlite"), (&first.dir, "agent.sqlite"), (&second.dir, "agent.sqlite")];
    let sizes = || files.map(|(dir, name)| fs::metadata(dir.join(name)).unwrap().len());
    let before = sizes();

    submit_garbage(&mut intruder, &first);
    let enough = Arc::new(AtomicBool::new(false));
    let told = enough.clone();
    let flood = thread::spawn(move || flood(&mut intruder, &told));
    // Meanwhile the group goes on.
    hub.operate(&["group", "grant", "home", "1114"]);
    until_joined(&first, &late, "home/probe");
    let mut reader = late.subscribe("home/t", &[]);
    second.publish("home/t", "21", &[]);
    assert_eq!(reader.message(PATIENCE).as_deref(), Some("home/t 21"));
    enough.store(true, Ordering::Relaxed);
    let (taken, refused) = flood.join().unwrap();

    let refused = refused.expect("the relay takes only so much of a device");
    let words =
        "writes too much to the ledger: 99328 bytes at once, then 1 an hour (device_bytes in [relay] of hub.toml)";
    assert!(refused.starts_with(&format!("device {number} {words}; try again in ")), "{refused}");
    assert!((DEVICE_BYTES / 2..=DEVICE_BYTES).contains(&taken), "{taken}");
    let height = read_replica(&late.dir).unwrap().1.height();
    for agent in [&first, &second, &late] {
        until("its copy of the ledger is whole", || read_replica(&agent.dir).unwrap().1.height() >= height);
        let records = read_replica(&agent.dir).unwrap().0;
        let of_intruder = records.iter().filter(|record| record.entry.originator() == number);
        assert_eq!(of_intruder.map(|record| record.entry.encode().len() as u64).sum::<u64>(), taken);
        assert!(agent.log.lines(&["revoke"]).is_empty(), "nobody is to be revoked for what another one does");
    }
    for ((before, after), growth) in before.into_iter().zip(sizes()).zip([HUB_GROWTH, AGENT_GROWTH, AGENT_GROWTH]) {
        assert!(after < before + growth, "{before} bytes, then {after}");
    }
}

/// The group's policy lets each member commit once a second. The first one does, so it soon has what one device may have.
#[test]
fn a_member_that_commits_all_the_time_leaves_the_others_room_to_commit() {
    let hub = hub_with("[relay]\ngroup_commits = 8\ngroup_commits_per_hour = 720\n");
    let devices = ["1111", "1112", "1113"];
    let agents = devices.map(|device| Agent::start(&hub.enroll(device), &[]));
    let [first, second, third] = &agents;
    hub.operate(&["group", "create", "home", "--filter", "home/#", "--epoch-max-age", "1"]);
    hub.operate(&["group", "grant", "home", "1111", "1112"]);
    until_joined(first, second, "home/probe");
    let words = [
        "this device's entries wait until the relay takes them",
        "writes too much to the ledger: 4 commits at once, then 360 an hour (half of group_commits in [relay] of hub.toml)",
    ];
    until("one of both has committed too often", || {
        agents.iter().any(|agent| !agent.log.lines(&[" INFO ", words[0], words[1]]).is_empty())
    });
    hub.operate(&["group", "grant", "home", "1113"]);
    until_joined(first, third, "home/probe");
    until_joined(third, second, "home/probe");
}
