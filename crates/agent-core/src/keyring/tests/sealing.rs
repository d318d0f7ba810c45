//! What may be sealed, and under which start.

use std::num::NonZeroU32;

use sealcast_ledger::Policy;
use sealcast_seal::{HandOver, Header, Start};

use super::*;
use crate::testing::POLICY;

/// Why nothing is sealed now, in words that the reason contains.
fn assert_waits(keyring: &mut Keyring, group: GroupNumber, words: &str) {
    match seal(keyring, group, "plant/a", &content(false)) {
        Err(Denied::NotYet(why)) => assert!(why.text.contains(words), "{why}"),
        other => panic!("{other:?}"),
    }
}

fn start(frame: &[u8]) -> Start {
    Header::parse(frame).unwrap().key_id.start()
}

/// What a member that has seen nothing makes of a frame.
fn opened(receiver: &Keyring, group: GroupNumber, frame: &[u8]) -> sealcast_seal::Message {
    let arrival = Arrival { hand_over: HandOver::AtMostOnce, retain: false, away: None, copy: false };
    match receiver.open(&mut Opener::default(), group, "plant/a", frame, arrival, START_MS) {
        Ok(Received::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_under_the_epoch_that_the_ledger_is_at() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
    scene.world.commit(scene.group, 1);
    scene.follow(&mut keyring);
    assert_waits(&mut keyring, scene.group, "is at epoch 2 of the ledger, but this device is still at epoch 1");
    keyring.insert_epoch(&scene.keys(0, 2, &[0, 1, 2]), START_MS);
    seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
    // After a restart the kept epochs come before the current one.
    let mut restarted = scene.keyring(0);
    catch_up(&mut restarted);
    restarted.insert_epoch(&scene.keys(0, 1, &[0, 1, 2]), START_MS);
    assert_waits(&mut restarted, scene.group, "still at epoch 1");
}

/// Until then nobody knows whether the folder is an old copy.
#[test]
fn after_a_start_not_before_the_ledger_was_read_to_its_end() {
    let scene = Scene::new();
    let mut keyring = scene.keyring(0);
    keyring.insert_epoch(&scene.keys(0, 1, &[0, 1, 2]), START_MS);
    let early = seal(&mut keyring, scene.group, "plant/a", &content(false));
    assert!(matches!(early, Err(Denied::Behind(why)) if why.text.contains("after a start")));
    catch_up(&mut keyring);
    seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
}

#[test]
fn under_the_same_keys_after_a_commit_that_is_void() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    let before = seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
    scene.world.commit(scene.group, 1);
    scene.follow(&mut keyring);
    assert_waits(&mut keyring, scene.group, "is at epoch 2 of the ledger, but this device is still at epoch 1");
    keyring.hold_epoch(scene.group, EpochId { generation: 0, epoch: 2 });
    let after = seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
    assert_eq!(start(&before), start(&after), "nothing begins anew");
    assert_eq!(keyring.epochs(), [(scene.group, EpochId { generation: 0, epoch: 2 })]);
}

#[test]
fn not_while_a_member_is_being_removed() {
    for as_a_whole in [false, true] {
        let mut scene = Scene::new();
        let mut keyring = scene.member(0);
        match as_a_whole {
            true => scene.world.revoke_device(2),
            false => scene.world.revoke(scene.group, 2),
        }
        scene.follow(&mut keyring);
        assert_waits(&mut keyring, scene.group, "1113 is being removed from plant");
        scene.world.commit(scene.group, 1);
        scene.follow(&mut keyring);
        keyring.insert_epoch(&scene.keys(0, 2, &[0, 1]), START_MS);
        seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
    }
}

#[test]
fn not_while_the_disk_cannot_be_written_nor_before_what_was_missed_was_read() {
    let scene = Scene::new();
    let mut keyring = scene.member(0);
    assert!(!keyring.resume(), "it was not stalled");
    let asked_before = keyring.begin_sync();
    keyring.stall();
    assert_waits(&mut keyring, scene.group, "disk cannot be written");
    assert!(keyring.set_caught_up(asked_before));
    assert_waits(&mut keyring, scene.group, "disk cannot be written");
    assert!(keyring.resume());
    assert_waits(&mut keyring, scene.group, "could not be written for a while");
    // It was begun before the wait was over, and tells nothing of what came then.
    assert!(keyring.set_caught_up(asked_before));
    assert_waits(&mut keyring, scene.group, "could not be written for a while");
    let asked_after = keyring.begin_sync();
    assert!(keyring.set_caught_up(asked_after));
    seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
}

#[test]
fn not_without_a_key() {
    let mut scene = Scene::new();
    let mut keyring = scene.keyring(0);
    assert_waits(&mut keyring, scene.group, "1111 is granted plant and waits until a member adds it");
    scene.world.revoke(scene.group, 0);
    scene.follow(&mut keyring);
    let denied = |keyring: &mut Keyring| seal(keyring, scene.group, "plant/a", &content(false)).unwrap_err();
    assert!(matches!(denied(&mut keyring), Denied::Behind(why) if why.text.contains("the ledger is out of reach")));
    let sync = keyring.begin_sync();
    assert!(keyring.set_caught_up(sync));
    assert!(matches!(denied(&mut keyring), Denied::Refused(why) if why.text.contains("1111 is not a member of plant")));
}

#[test]
fn not_with_the_keys_of_a_group_that_was_left() {
    let scene = Scene::new();
    let mut keyring = scene.member(0);
    seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
    keyring.leave(scene.group, &LeftReason::Replaced);
    assert_waits(&mut keyring, scene.group, "waits until a member adds it");
    assert!(keyring.members(scene.group).is_empty() && keyring.epochs().is_empty());
}

/// A restart begins under another key, and so does a copy of the device.
#[test]
fn each_process_and_each_epoch_has_a_start_of_its_own() {
    let mut scene = Scene::new();
    let mut frames = Vec::new();
    for _ in 0..2 {
        let mut keyring = scene.member(0);
        frames.extend((0..2).map(|_| seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap()));
    }
    assert_eq!(start(&frames[0]), start(&frames[1]));
    assert_ne!(start(&frames[0]), start(&frames[2]), "equal once in 16 million runs");
    let mut keyring = scene.member(0);
    let before = seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
    scene.world.commit(scene.group, 1);
    scene.follow(&mut keyring);
    keyring.insert_epoch(&scene.keys(0, 2, &[0, 1, 2]), START_MS);
    let after = seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
    assert_ne!(start(&before), start(&after), "equal once in 16 million runs");
}

#[test]
fn a_message_says_how_far_its_sender_has_read_the_ledger() {
    let mut scene = Scene::new();
    let (mut sender, mut receiver) = (scene.member(0), scene.member(1));
    for _ in 0..3 {
        let frame = seal(&mut sender, scene.group, "plant/a", &content(false)).unwrap();
        let (replica, report) = (sender.replica(), opened(&receiver, scene.group, &frame).ledger().unwrap());
        assert_eq!(report.height(), replica.height());
        assert!(report.agrees_with(replica.head().as_bytes()));
        // Whoever is behind reads it too.
        scene.world.device(&format!("late{}", replica.height()));
        scene.follow(&mut sender);
    }
    // A restart knows where the epoch began, and so does the next epoch.
    let mut restarted = scene.member(0);
    let frame = seal(&mut restarted, scene.group, "plant/a", &content(false)).unwrap();
    assert_eq!(opened(&receiver, scene.group, &frame).ledger().unwrap().height(), restarted.replica().height());
    scene.world.commit(scene.group, 1);
    for (device, keyring) in [(0, &mut sender), (1, &mut receiver)] {
        scene.follow(keyring);
        keyring.insert_epoch(&scene.keys(device, 2, &[0, 1, 2]), START_MS);
    }
    let frame = seal(&mut sender, scene.group, "plant/a", &content(false)).unwrap();
    assert_eq!(opened(&receiver, scene.group, &frame).ledger().unwrap().height(), sender.replica().height());
}

#[test]
fn a_group_whose_epoch_has_sealed_as_many_messages_as_its_policy_allows_wants_another() {
    let (mut world, _) = World::with_group(1);
    let group = world.group_of("busy", Policy { epoch_max_messages: NonZeroU32::new(3), ..POLICY });
    world.grant(group, 0);
    world.commit(group, 0);
    let scene = Scene { world, group };
    let mut keyring = scene.keyring(0);
    catch_up(&mut keyring);
    keyring.insert_epoch(&scene.keys(0, 1, &[0]), START_MS);
    for sealed in 0..3 {
        assert_eq!(keyring.worn_out(), [], "after {sealed}");
        seal(&mut keyring, group, "busy/a", &content(false)).unwrap();
    }
    assert_eq!(keyring.worn_out(), [group]);
}
