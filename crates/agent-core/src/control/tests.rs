mod copies;
mod crashes;
mod snapshots;
mod world;

use sealcast_ledger::{Body, KeysPublished, ReadingTopic};
use sealcast_seal::{Content, Purpose, QosClass};

use self::world::{Disk, Plant};
use super::*;
use crate::{
    Denied,
    testing::{START_MS, World},
};

/// So many devices of one group, connected, with their keys agreed.
fn agreed(devices: usize) -> (Plant, GroupNumber) {
    let (world, group) = World::with_group(devices);
    let mut plant = Plant::new(world);
    (0..devices).for_each(|node| plant.connect(node));
    plant.run(30);
    let members: Vec<usize> = (0..devices).collect();
    plant.assert_members(group, &members);
    (plant, group)
}

fn kinds(writes: &[Write]) -> (usize, usize, usize) {
    let count = |wanted: fn(&Write) -> bool| writes.iter().filter(|write| wanted(write)).count();
    (
        count(|write| matches!(write, Write::Record { .. })),
        count(|write| matches!(write, Write::State(_))),
        count(|write| matches!(write, Write::ReadingOnLedger { .. })),
    )
}

fn position(effects: &[String], name: &str) -> usize {
    effects.iter().position(|effect| effect.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {effects:?}"))
}

fn seal(keyring: &mut Keyring, group: GroupNumber, now_ms: u64) -> Result<Vec<u8>, Denied> {
    let content =
        Content { purpose: Purpose::Message, class: QosClass::Acknowledged, retain: false, props: &[], payload: b"27" };
    keyring.seal(group, "plant/a", &content, now_ms)
}

#[test]
fn the_devices_of_a_group_agree_on_keys() {
    let (mut plant, group) = agreed(3);
    for node in 0..3 {
        seal(&mut plant.nodes[node].keyring, group, plant.world.now_ms).unwrap();
        assert_eq!(plant.nodes[node].keys_seen.by_device().len(), 3, "all keys were seen, its own too");
        assert_eq!(plant.nodes[node].notices, [""; 0]);
        assert_eq!(plant.nodes[node].disk.records.len(), plant.world.ledger.records().len());
    }
    plant.world.revoke(group, 2);
    plant.run(30);
    plant.assert_members(group, &[0, 1]);
    assert_eq!(plant.nodes[2].left.len(), 1);
    assert!(seal(&mut plant.nodes[2].keyring, group, plant.world.now_ms).is_err());
}

#[test]
fn all_records_of_a_step_are_one_transaction_with_what_the_groups_made_of_them() {
    let (mut plant, _) = agreed(2);
    plant.disconnect(1);
    while plant.step(1).is_some() {}
    for name in ["one", "two", "three"] {
        plant.world.group(name);
    }
    let records = plant.world.ledger.records().to_vec();
    for record in &records[records.len() - 3..] {
        plant.push(1, record);
    }
    let (writes, _) = plant.step(1).unwrap();
    let (of_ledger, of_groups, _) = kinds(&writes);
    assert_eq!(of_ledger, 3);
    assert!(of_groups > 0, "the groups have seen them: {writes:?}");
    assert!(plant.step(1).is_none());
    plant.restart(1);
}

#[test]
fn keys_are_handed_out_after_their_commit_is_on_disk_and_before_anything_is_sealed_again() {
    let (mut plant, group) = agreed(2);
    plant.world.revoke(group, 1);
    let mut seen = false;
    for _ in 0..200 {
        while let Some((writes, effects)) = plant.step(0) {
            if effects.iter().any(|effect| effect.starts_with("InsertEpoch")) {
                assert!(kinds(&writes).0 > 0 && kinds(&writes).1 > 0, "{writes:?}");
                assert!(position(&effects, "InsertEpoch") < position(&effects, "SealRetained"), "{effects:?}");
                seen = true;
            }
        }
        if !plant.answer(0) {
            plant.world.now_ms += 500;
        }
    }
    assert!(seen);
    plant.assert_members(group, &[0]);
}

#[test]
fn what_could_not_be_sealed_again_keeps_its_turn() {
    let (mut plant, group) = agreed(1);
    assert_eq!(plant.nodes[0].resealed, [group]);
    plant.nodes[0].control.handle(Input::NotSealed(group));
    plant.settle();
    assert_eq!(plant.nodes[0].resealed.len(), 1, "not at once");
    plant.disconnect(0);
    plant.run(3);
    assert_eq!(plant.nodes[0].resealed.len(), 1, "not without a connection");
    plant.connect(0);
    plant.settle();
    assert_eq!(plant.nodes[0].resealed, [group; 2]);
}

#[test]
fn a_message_of_the_outbox_is_published_again_when_the_connection_comes_back() {
    let (mut plant, _) = agreed(1);
    let topic = format!("sealcast/v1/keys/{}", plant.world.devices[0].id);
    let keys = plant.retained.remove(&topic).unwrap();
    plant.disconnect(0);
    plant.connect(0);
    plant.settle();
    assert_eq!(plant.retained.get(&topic), Some(&keys));
}

#[test]
fn a_welcome_is_published_again_until_its_epoch_is_over() {
    let (mut world, group) = World::with_group(1);
    let second = world.device("2222");
    world.grant(group, second);
    let mut plant = Plant::new(world);
    for node in [0, second] {
        plant.connect(node);
        plant.run(10);
    }
    plant.assert_members(group, &[0, second]);
    let mut republishes = |renew: bool| {
        let Plant { nodes, world, .. } = &mut plant;
        if renew {
            nodes[0].control.groups.request_update(world.ledger.replica(), group, world.now_ms);
        }
        plant.run(40);
        plant.disconnect(0);
        plant.connect(0);
        let (_, effects) = plant.step(0).unwrap();
        effects.iter().any(|effect| effect.starts_with("Publish") && effect.contains("/inbox/2222/"))
    };
    assert_eq!([republishes(false), republishes(true)], [true, false]);
}

#[test]
fn while_the_broker_refuses_a_welcome_nobody_is_added_and_afterwards_everybody_is() {
    let (mut world, group) = World::with_group(1);
    for name in ["2222", "3333"] {
        let device = world.device(name);
        world.grant(group, device);
    }
    let mut plant = Plant::new(world);
    plant.connect(0);
    plant.run(5);
    plant.assert_members(group, &[0]);
    let committer = &plant.world.devices[0].id;
    let inbox = |name: &str| format!("sealcast/v1/inbox/{name}/{group}/{committer}");
    plant.refused = [inbox("2222"), inbox("3333")].into();
    plant.connect(1);
    plant.run(20);
    let commits = |plant: &Plant| plant.world.ledger.replica().group(group).unwrap().epoch;
    let before = commits(&plant);
    plant.connect(2);
    plant.run(60);
    assert_eq!(commits(&plant), before, "each try would be another epoch");
    // That it says nothing for a while does not say that it takes them.
    plant.mute = true;
    plant.run(60);
    assert_eq!(commits(&plant), before);
    plant.mute = false;
    plant.run(60);
    assert_eq!(commits(&plant), before);
    plant.refused.clear();
    plant.run(120);
    plant.assert_members(group, &[0, 1, 2]);
}

#[test]
fn a_reading_leaves_its_queue_in_the_transaction_of_its_record() {
    let (mut plant, group) = agreed(1);
    let topic: ReadingTopic = "plant/a".parse().unwrap();
    let queued = |sequence| QueuedReading { topic: topic.clone(), time_ms: START_MS, sequence, value: 5, decimals: 1 };
    plant.nodes[0].disk.readings = vec![queued(1)];
    plant.nodes[0].control.handle(Input::ReadingQueued);
    plant.settle();
    assert_eq!(plant.nodes[0].disk.readings.len(), 1, "there are no limits for it yet");
    let limits = plant.world.limit(group, "plant/a");
    plant.push(0, &limits);
    let mut taken = Vec::new();
    for _ in 0..60 {
        while let Some((writes, _)) = plant.step(0) {
            if kinds(&writes).2 > 0 {
                taken.push(kinds(&writes));
            }
        }
        plant.answer(0);
    }
    assert!(matches!(taken[..], [(1, 1.., 1)]), "{taken:?}");
    assert!(plant.nodes[0].disk.readings.is_empty());
    let number = plant.world.number(0);
    assert_eq!(plant.world.ledger.replica().last_sequence(number, group, &topic), Some(1));
}

#[test]
fn an_entry_that_the_ledger_refuses_goes_back_to_the_groups() {
    let (mut plant, _) = agreed(1);
    let key_package = plant.nodes[0].keys_seen.by_device()[&plant.world.devices[0].id];
    let certificate = plant.world.devices[0].certificate;
    let twice = Body::KeysPublished(KeysPublished { key_package, certificate, rejoin: false });
    plant.nodes[0].control.submitter.put(twice);
    plant.settle();
    let notices = &plant.nodes[0].notices;
    assert!(matches!(&notices[..], [one] if one.contains("the ledger refused this device's entry")), "{notices:?}");
}

#[test]
fn after_a_wait_for_the_disk_nothing_is_sealed_until_the_ledger_was_read() {
    let (mut plant, group) = agreed(1);
    // A question is on its way while the disk is full: its answer may be older than what was missed.
    plant.nodes[0].control.handle(Input::NewsWanted);
    assert!(plant.step(0).is_some());
    plant.nodes[0].keyring.stall();
    let sealed = |plant: &mut Plant| seal(&mut plant.nodes[0].keyring, group, plant.world.now_ms);
    assert!(matches!(sealed(&mut plant), Err(Denied::NotYet(why)) if why.text.contains("cannot be written")));
    plant.nodes[0].control.handle(Input::Resumed);
    while plant.step(0).is_some() {}
    assert!(matches!(sealed(&mut plant), Err(Denied::NotYet(why)) if why.text.contains("for a while")));
    assert!(plant.answer(0));
    assert!(plant.step(0).is_some(), "it asks again");
    assert!(sealed(&mut plant).is_err());
    assert!(plant.answer(0));
    while plant.step(0).is_some() {}
    sealed(&mut plant).unwrap();
}

#[test]
fn without_a_connection_it_asks_nothing_and_submits_nothing() {
    let (world, _) = World::with_group(1);
    let mut plant = Plant::new(world);
    plant.run(60);
    assert!(!plant.answer(0));
    assert!(plant.nodes[0].disk.records.is_empty());
    plant.connect(0);
    plant.run(5);
    assert_eq!(plant.nodes[0].disk.records.len(), plant.world.ledger.records().len());
}

#[test]
fn what_cannot_be_read_is_passed_over() {
    let (mut plant, group) = agreed(1);
    let device = &plant.world.devices[0].id;
    for topic in [
        "sealcast/v1/ledger".to_owned(),
        format!("sealcast/v1/keys/{device}"),
        "sealcast/v1/keys/not a device".to_owned(),
        format!("sealcast/v1/inbox/{device}/{group}/2222"),
        format!("sealcast/v1/inbox/{device}/none/2222"),
        format!("sealcast/v1/inbox/{device}/{group}/not a device"),
        "sealcast/v2/something".to_owned(),
    ] {
        plant.nodes[0].control.handle(Input::Message { topic, payload: vec![1, 2, 3].into() });
    }
    plant.settle();
    plant.assert_members(group, &[0]);
}

#[test]
fn a_folder_of_an_older_version_whose_groups_lag_is_brought_up_once() {
    let (mut plant, group) = agreed(2);
    let early = plant.nodes[1].disk.clone();
    let Plant { nodes, world, .. } = &mut plant;
    nodes[0].control.groups.request_update(world.ledger.replica(), group, world.now_ms);
    plant.run(5);
    let Disk { records, .. } = plant.nodes[1].disk.clone();
    assert!(records.len() > early.records.len());
    let lagging = Disk { records, ..early };
    assert!(lagging.groups(&plant.world, 1).next_entry() < lagging.records.len() as u64);
    let (control, keyring) = lagging.open(&plant.world, 1).unwrap();
    let node = &mut plant.nodes[1];
    (node.disk, node.control, node.keyring) = (lagging, control, keyring);
    node.epochs.clear();
    let (writes, effects) = plant.step(1).unwrap();
    assert!(kinds(&writes).1 > 0 && kinds(&writes).0 == 0, "{writes:?}");
    position(&effects, "InsertEpoch");
    plant.assert_members(group, &[0, 1]);
    // From now on both fit.
    plant.restart(1);
}

#[test]
fn a_folder_whose_records_are_damaged_is_refused() {
    let (plant, _) = agreed(1);
    let good = plant.nodes[0].disk.clone();
    let check = |damage: fn(&mut Vec<Vec<u8>>), words: &str| {
        let mut disk = good.clone();
        damage(&mut disk.records);
        let error = disk.open(&plant.world, 0).map(|_| String::new()).unwrap_or_else(|error| error.to_string());
        assert!(error.contains(words), "{error}");
    };
    check(|records| drop(records.pop()), "but the groups have read up to");
    check(|records| records[2].truncate(9), "record 2 cannot be read");
    check(|records| drop(records.remove(1)), "is not the next");
}
