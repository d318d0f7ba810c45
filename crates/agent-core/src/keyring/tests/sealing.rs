//! What may be sealed, and under which boot.

use sealcast_seal::{Header, PendingBoot};

use super::*;

/// Why nothing is sealed now, in words that the reason contains.
fn assert_waits(keyring: &mut Keyring, group: GroupNumber, words: &str) {
    match seal(keyring, group, "plant/a", &content(false)) {
        Err(Denied::NotYet(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    }
}

fn boot(frame: &[u8]) -> u16 {
    Header::parse(frame).unwrap().key_id.boot()
}

/// Seals, and gives the boot of the frame and the boots that were to be stored.
fn seal_counting(keyring: &mut Keyring, group: GroupNumber) -> (u16, Vec<u16>) {
    let mut stored = Vec::new();
    loop {
        match keyring.seal(group, "plant/a", &content(false), START_MS) {
            Ok(frame) => return (boot(&frame), stored),
            Err(Unsealed::NeedsBoot(pending)) => {
                stored.push(pending.number());
                keyring.begin_boot(pending.stored());
            }
            Err(Unsealed::Denied(denied)) => panic!("{denied}"),
        }
    }
}

#[test]
fn only_under_the_epoch_that_the_ledger_is_at() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
    scene.world.commit(scene.group, 1);
    scene.follow(&mut keyring);
    assert_waits(&mut keyring, scene.group, "is at epoch 2, but this device is still at epoch 1");
    keyring.insert_epoch(&scene.keys(0, 2, &[0, 1, 2]), START_MS);
    seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
    // After a restart the kept epochs come before the current one.
    let mut restarted = scene.keyring(0, &[]);
    restarted.insert_epoch(&scene.keys(0, 1, &[0, 1, 2]), START_MS);
    assert_waits(&mut restarted, scene.group, "still at epoch 1");
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
    let mut keyring = scene.keyring(0, &[]);
    assert_waits(&mut keyring, scene.group, "1111 is granted plant and waits until a member adds it");
    scene.world.revoke(scene.group, 0);
    scene.follow(&mut keyring);
    let denied = |keyring: &mut Keyring| seal(keyring, scene.group, "plant/a", &content(false)).unwrap_err();
    assert!(matches!(denied(&mut keyring), Denied::Behind(reason) if reason.contains("the ledger is out of reach")));
    let sync = keyring.begin_sync();
    assert!(keyring.set_caught_up(sync));
    assert!(
        matches!(denied(&mut keyring), Denied::Refused(reason) if reason.contains("1111 is not a member of plant"))
    );
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

fn ask(keyring: &mut Keyring, group: GroupNumber) -> PendingBoot {
    match keyring.seal(group, "plant/a", &content(false), START_MS) {
        Err(Unsealed::NeedsBoot(pending)) => pending,
        other => panic!("{other:?}"),
    }
}

/// Whether it was stored, nobody knows: nothing was sealed under it, so it is asked for again. A disk that fails for long uses
/// no numbers up.
#[test]
fn a_boot_number_must_be_stored_first() {
    let scene = Scene::new();
    let mut keyring = scene.member(0);
    let numbers: Vec<u16> = (0..3).map(|_| ask(&mut keyring, scene.group).number()).collect();
    assert_eq!(numbers, [0, 0, 0]);
    let pending = ask(&mut keyring, scene.group);
    keyring.begin_boot(pending.stored());
    let frame = keyring.seal(scene.group, "plant/a", &content(false), START_MS).unwrap();
    assert_eq!(boot(&frame), 0);
}

/// Two connections store a boot at the same time: whoever comes second goes on with what the first has begun.
#[test]
fn two_sealers_never_share_a_boot() {
    let scene = Scene::new();
    let mut keyring = scene.member(0);
    let (first, second) = (ask(&mut keyring, scene.group), ask(&mut keyring, scene.group));
    keyring.begin_boot(second.stored());
    assert_eq!(seal_counting(&mut keyring, scene.group), (0, vec![]));
    keyring.begin_boot(first.stored());
    let counters: Vec<u32> = (0..3)
        .map(|_| Header::parse(&seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap()).unwrap().counter)
        .collect();
    assert_eq!(counters, [1, 2, 3]);
}

/// An epoch turns, and clients that wait for its key publish at once, each on its own connection to the broker: what they
/// publish may arrive in any order, and a receiver keeps the windows of few boots.
#[test]
fn clients_that_publish_as_an_epoch_turns_share_a_boot() {
    let scene = Scene::new();
    let (mut keyring, receiver) = (scene.member(0), scene.member(1));
    let pending: Vec<PendingBoot> = (0..6).map(|_| ask(&mut keyring, scene.group)).collect();
    let mut frames = Vec::new();
    for pending in pending {
        keyring.begin_boot(pending.stored());
        frames.push(keyring.seal(scene.group, "plant/a", &content(false), START_MS).unwrap());
    }
    frames.rotate_left(1);
    let mut opener = Opener::default();
    for frame in &frames {
        let hand_over = sealcast_seal::HandOver::Acknowledged { dup: false };
        let arrival = Arrival { hand_over, retain: false, away: None };
        let opened = receiver.open(&mut opener, scene.group, "plant/a", frame, arrival, START_MS);
        let Ok(Received::Message(message)) = opened else { panic!("{opened:?}") };
        opener.mark_delivered(&message.receipt());
    }
}

#[test]
fn a_boot_of_an_epoch_that_is_over_is_not_used() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    let Err(Unsealed::NeedsBoot(late)) = keyring.seal(scene.group, "plant/a", &content(false), START_MS) else {
        panic!("there is no sealer yet")
    };
    scene.world.commit(scene.group, 1);
    scene.follow(&mut keyring);
    keyring.insert_epoch(&scene.keys(0, 2, &[0, 1, 2]), START_MS);
    keyring.begin_boot(late.stored());
    assert_eq!(seal_counting(&mut keyring, scene.group), (0, vec![0]));
}

#[test]
fn boots_go_on_after_a_restart() {
    let scene = Scene::new();
    let mut boots = Vec::new();
    for wanted in 0..3 {
        let mut keyring = scene.keyring(0, &boots);
        keyring.insert_epoch(&scene.keys(0, 1, &[0, 1, 2]), START_MS);
        let (used, stored) = seal_counting(&mut keyring, scene.group);
        assert_eq!((used, stored), (wanted, vec![wanted]));
        // An epoch that is handed out again, as after a late Welcome, goes on too.
        keyring.insert_epoch(&scene.keys(0, 1, &[0, 1, 2]), START_MS);
        boots = vec![(scene.group.get(), EpochId { generation: 0, epoch: 1 }, used)];
    }
}

#[test]
fn a_group_whose_epoch_has_sealed_as_many_messages_as_its_policy_allows_wants_another() {
    let (mut world, _) = World::with_group(1);
    let group = world.group_of("busy", 3);
    world.grant(group, 0);
    world.commit(group, 0);
    let scene = Scene { world, group };
    let mut keyring = scene.keyring(0, &[]);
    keyring.insert_epoch(&scene.keys(0, 1, &[0]), START_MS);
    for sealed in 0..3 {
        assert_eq!(keyring.worn_out(), [], "after {sealed}");
        seal(&mut keyring, group, "busy/a", &content(false)).unwrap();
    }
    assert_eq!(keyring.worn_out(), [group]);
}
