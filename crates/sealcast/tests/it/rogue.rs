//! Devices that do not keep to the rules of a group: what they send counts for nothing, and nobody is blamed for it.

use std::path::Path;

use sealcast_agent::{Folder, Store, read_replica};
use sealcast_group::{GroupNumber, Groups, Me, Output};
use sealcast_ledger::{Body, Record, Replica};
use sealcast_ledger_client::SubmitError;
use sealcast_node::{KeyFiles, now_ms};

use crate::harness::{Agent, Hub, Intruder, until, until_joined};

/// More than an agent, a broker or a hub might remember of one device.
const JUNK: u32 = 40;

/// The groups of the device whose folder this is, as it has them with these records.
fn groups(dir: &Path, records: &[Record]) -> (Groups, Replica) {
    let folder = Folder::open(dir).unwrap();
    let me = Me {
        device: folder.device.clone(),
        key: folder.key(&KeyFiles::default()).unwrap(),
        chain: folder.chain_der(),
        anchors: vec![folder.anchor.clone()],
    };
    let (genesis, state) = (folder.genesis(), Store::read_state(dir, None).unwrap());
    let (mut groups, mut replica) = (Groups::new(me, &genesis, state, now_ms()).unwrap(), Replica::new(genesis));
    for record in records {
        replica.apply(record).unwrap();
        groups.handle_record(&replica, record, now_ms()).unwrap();
    }
    groups.set_live(&replica, true, now_ms());
    (groups, replica)
}

/// The entry that the groups want on the ledger.
fn wanted(outputs: &[Output], is_it: impl Fn(&Body) -> bool) -> Body {
    let mut bodies = outputs.iter().filter_map(|output| match output {
        Output::Submit(body) => Some(body),
        _ => None,
    });
    bodies.find(|body| is_it(body)).unwrap().clone()
}

fn assert_nobody_is_blamed(agents: &[&Agent]) {
    for agent in agents {
        for words in ["is void", "revoke", "cannot follow"] {
            let said = agent.log.lines(&[words]);
            assert!(said.is_empty(), "{said:?}");
        }
    }
}

/// A device names its real key package on the ledger, and then many that do not exist. It shows the real one last.
#[test]
fn hashes_of_key_packages_that_do_not_exist_keep_nobody_out_and_bring_blame_on_nobody() {
    let hub = Hub::start();
    let [first, second, hostile] = hub.members("home", [""; 3]);
    let [first, second] = [first, second].map(|dir| Agent::start(&dir, &[]));
    until_joined(&first, &second, "home/probe");
    let late = Agent::start(&hub.enroll("1114"), &[]);

    let (mut groups, _) = groups(&hostile, &read_replica(&first.dir).unwrap().0);
    let outputs: Vec<_> = std::iter::from_fn(|| groups.poll_output()).collect();
    let broadcast = outputs.iter().find_map(|output| match output {
        Output::PublishKeys { bytes } => Some(bytes),
        _ => None,
    });
    let mut intruder = Intruder::start(&hostile);
    let real = wanted(&outputs, |body| matches!(body, Body::KeysPublished(_)));
    for body in [real].into_iter().chain((0..JUNK).map(|junk| intruder.junk_keys(junk))).collect::<Vec<_>>() {
        intruder.submit(&intruder.sign(body)).unwrap();
    }
    intruder.publish("sealcast/v1/keys/1113", broadcast.unwrap()).unwrap();
    for agent in [&first, &second] {
        agent.log.until(&["keys agreed", "members=3"]);
    }
    hub.operate(&["group", "grant", "home", "1114"]);
    until_joined(&first, &late, "home/probe");
    assert_nobody_is_blamed(&[&first, &second, &late]);
}

/// A member whose clock says that the epoch has lasted long enough.
#[test]
fn a_member_ends_no_epoch_before_its_time() {
    let hub = Hub::start();
    let dirs = hub.members("home", [""; 3]);
    let late = Agent::start(&hub.enroll("1114"), &[]);
    let [first, second, mut hostile] = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&first, &second, "home/probe");
    until_joined(&hostile, &first, "home/probe");
    hub.operate(&["group", "grant", "home", "1114"]);
    for agent in [&first, &second, &hostile, &late] {
        agent.log.until(&["keys agreed", "members=4"]);
    }
    hostile.kill();

    let (mut groups, replica) = groups(&hostile.dir, &read_replica(&hostile.dir).unwrap().0);
    groups.request_update(&replica, GroupNumber::new(1).unwrap(), now_ms() + 3_600_000);
    let outputs: Vec<_> = std::iter::from_fn(|| groups.poll_output()).collect();
    let mut intruder = Intruder::start(&hostile.dir);
    let entry = intruder.sign(wanted(&outputs, |body| matches!(body, Body::Commit(_))));
    match intruder.submit(&entry) {
        Err(SubmitError::Rejected { reason }) => {
            assert!(
                reason.starts_with("the commit would be void: ") && reason.contains("ends an epoch after"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    until_joined(&first, &second, "home/probe");
    assert_nobody_is_blamed(&[&first, &second, &late]);
}

/// A member writes into the inbox of a device that is to join.
#[test]
fn no_member_overwrites_or_pushes_out_the_welcome_of_another() {
    let hub = Hub::start();
    let [first, second, hostile] = hub.members("home", [""; 3]);
    let [first, second] = [first, second].map(|dir| Agent::start(&dir, &[]));
    until_joined(&first, &second, "home/probe");
    let mut late = Agent::start(&hub.enroll("1114"), &[]);
    until("its keys are there", || hub.operate(&["device", "show", "1114"]).contains("published a key package"));
    late.kill();
    hub.operate(&["group", "grant", "home", "1114"]);
    first.log.until(&["keys agreed", "members=3"]);

    let intruder = Intruder::start(&hostile);
    let place = |committer: &str| format!("sealcast/v1/inbox/1114/1/{committer}");
    for junk in 0..JUNK {
        for other in ["1111", "1112"] {
            let refused = intruder.publish(&place(other), &junk.to_be_bytes()).unwrap_err();
            assert!(refused.contains("the device may not publish to this topic"), "{refused}");
        }
        intruder.publish(&place("1113"), &junk.to_be_bytes()).unwrap();
    }
    late.restart();
    until_joined(&first, &late, "home/probe");
    assert!(late.log.lines(&["gets no keys of the group"]).is_empty(), "it had to ask for another one");
}
