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

#[test]
fn a_boot_number_must_be_stored_first() {
    let scene = Scene::new();
    let mut keyring = scene.member(0);
    let ask = |keyring: &mut Keyring| match keyring.seal(scene.group, "plant/a", &content(false), START_MS) {
        Err(Unsealed::NeedsBoot(pending)) => pending,
        other => panic!("{other:?}"),
    };
    // It was asked for and could not be stored, or was: nobody knows. So the next one is another.
    let lost = ask(&mut keyring);
    let stored = ask(&mut keyring);
    assert_eq!((lost.number(), stored.number()), (0, 1));
    keyring.begin_boot(stored.stored());
    let frame = keyring.seal(scene.group, "plant/a", &content(false), START_MS).unwrap();
    assert_eq!(boot(&frame), 1);
}

#[test]
fn two_sealers_never_share_a_boot() {
    let scene = Scene::new();
    let mut keyring = scene.member(0);
    // Two connections that store a boot at the same time: whoever comes second goes on with the later one, or the first.
    let mut pending: Vec<PendingBoot> = Vec::new();
    for _ in 0..2 {
        match keyring.seal(scene.group, "plant/a", &content(false), START_MS) {
            Err(Unsealed::NeedsBoot(boot)) => pending.push(boot),
            other => panic!("{other:?}"),
        }
    }
    let (second, first) = (pending.pop().unwrap(), pending.pop().unwrap());
    keyring.begin_boot(second.stored());
    assert_eq!(seal_counting(&mut keyring, scene.group), (1, vec![]));
    keyring.begin_boot(first.stored());
    let counters: Vec<u32> = (0..3)
        .map(|_| {
            let frame = seal(&mut keyring, scene.group, "plant/a", &content(false)).unwrap();
            assert_eq!(boot(&frame), 1, "the earlier boot is never used");
            Header::parse(&frame).unwrap().counter
        })
        .collect();
    assert_eq!(counters, [1, 2, 3]);
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
