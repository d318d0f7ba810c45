//! The operator's word on the ledger does not come any more.

use std::num::NonZeroU32;

use sealcast_ledger::Policy;
use sealcast_seal::HandOver;

use super::*;
use crate::testing::POLICY;

const MINUTE_MS: u64 = 60_000;

/// Devices 0 and 1 are in `group`, whose members seal only by a word of the operator that is not older than a minute.
fn strict() -> Scene {
    let (mut world, _) = World::with_group(3);
    let group = world.group_of("strict", Policy { ledger_max_age_s: NonZeroU32::new(60), ..POLICY });
    for device in [0, 1] {
        world.grant(group, device);
    }
    world.commit(group, 0);
    Scene { world, group }
}

/// A device that has all of the ledger, and the keys of its epoch 1.
fn member(scene: &Scene, device: usize) -> Keyring {
    let mut keyring = scene.keyring(device);
    let sync = keyring.begin_sync();
    assert!(keyring.set_caught_up(sync));
    keyring.insert_epoch(&scene.keys(device, 1, &[0, 1]), START_MS);
    keyring
}

/// Why nothing is sealed at that time, in words that the reason contains.
fn assert_stops(keyring: &mut Keyring, group: GroupNumber, now_ms: u64, words: &str) {
    match keyring.seal(group, "strict/t", &content(false), now_ms) {
        Err(Denied::NotYet(why)) => assert!(why.text.contains(words), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn that_no_news_come_is_told_and_that_they_come_again() {
    let scene = Scene::new();
    let mut keyring = scene.member(0);
    // The limit is ten minutes.
    assert!(!keyring.has_news_to_tell(START_MS + 60 * MINUTE_MS), "this operator may never say anything");
    keyring.hear_operator(&scene.statement(START_MS), START_MS).unwrap();
    let late_ms = START_MS + 10 * MINUTE_MS + 1;
    assert!(!keyring.has_news_to_tell(late_ms - 1) && keyring.has_news_to_tell(late_ms));
    keyring.tell_news(late_ms);
    assert!(!keyring.has_news_to_tell(late_ms + MINUTE_MS) && keyring.has_news_to_tell(late_ms + 10 * MINUTE_MS));
    keyring.hear_operator(&scene.statement(late_ms), late_ms).unwrap();
    assert!(keyring.has_news_to_tell(late_ms));
    keyring.tell_news(late_ms);
    assert!(!keyring.has_news_to_tell(late_ms));
}

/// The last answer of the hub is older than the limit of ten minutes, and then it answers.
#[test]
fn nothing_is_sealed_or_opened_while_the_hub_answers_nothing() {
    let scene = Scene::new();
    let (mut keyring, mut writer) = (scene.member(0), scene.member(1));
    keyring.note_hub(START_MS);
    let late_ms = START_MS + 10 * MINUTE_MS + 1;
    let frame = writer.seal(scene.group, "plant/a", &content(false), late_ms).unwrap();
    let arrival = Arrival { hand_over: HandOver::Acknowledged { dup: false }, retain: false, away: None, copy: false };
    let open = |keyring: &Keyring| {
        keyring.open(&mut Opener::new(), scene.group, "plant/a", &frame, arrival, late_ms).map(drop)
    };
    assert!(keyring.seal(scene.group, "plant/a", &content(false), late_ms - 1).is_ok());
    assert!(!keyring.has_news_to_tell(late_ms - 1) && keyring.has_news_to_tell(late_ms));
    assert_stops(&mut keyring, scene.group, late_ms, "the hub has not answered for 600 s");
    assert!(matches!(open(&keyring), Err(Denied::NotYet(why)) if why.text.contains("the hub")));
    keyring.tell_news(late_ms);
    assert!(!keyring.has_news_to_tell(late_ms));

    keyring.note_hub(late_ms);
    assert!(keyring.seal(scene.group, "plant/a", &content(false), late_ms).is_ok());
    open(&keyring).unwrap();
    assert!(keyring.has_news_to_tell(late_ms), "it tells that it goes on");
}

#[test]
fn a_group_that_asks_for_it_seals_only_while_the_operators_word_is_new() {
    let scene = strict();
    let mut keyring = member(&scene, 0);
    let seal = |keyring: &mut Keyring, now_ms| keyring.seal(scene.group, "strict/t", &content(false), now_ms);
    // A restart does not make the last word newer.
    assert_stops(&mut keyring, scene.group, START_MS, "has not come since this agent was started");
    keyring.hear_operator(&scene.statement(START_MS), START_MS).unwrap();
    seal(&mut keyring, START_MS).unwrap();
    seal(&mut keyring, START_MS + MINUTE_MS).unwrap();
    let late_ms = START_MS + MINUTE_MS + 1;
    assert_stops(&mut keyring, scene.group, late_ms, "members of strict seal nothing when it is older than 60 s");
    // What comes again is no newer, and what is sealed by others can still be read.
    keyring.hear_operator(&scene.statement(START_MS), late_ms).unwrap();
    assert_stops(&mut keyring, scene.group, late_ms, "is 60 s old");
    keyring.hear_operator(&scene.statement(late_ms), late_ms).unwrap();
    seal(&mut keyring, late_ms).unwrap();
}

#[test]
fn what_a_member_says_does_not_make_a_group_seal() {
    let scene = strict();
    let (mut keyring, mut other) = (member(&scene, 0), member(&scene, 1));
    other.hear_operator(&scene.statement(START_MS), START_MS).unwrap();
    let frame = other.seal(scene.group, "strict/t", &content(false), START_MS).unwrap();
    let arrival = Arrival { hand_over: HandOver::AtMostOnce, retain: false, away: None, copy: false };
    let opened = keyring.open(&mut Opener::new(), scene.group, "strict/t", &frame, arrival, START_MS);
    let Ok(Received::Message(message)) = opened else { panic!("{opened:?}") };
    assert_eq!(message.ledger().unwrap().height(), keyring.replica().height());
    assert_eq!(keyring.hear(&message, START_MS), Ok(false));
    assert_stops(&mut keyring, scene.group, START_MS, "has not come since");
}

#[test]
fn a_revocation_that_is_withheld_stops_a_group_that_asks_for_it() {
    let mut scene = strict();
    let mut keyring = member(&scene, 0);
    keyring.hear_operator(&scene.statement(START_MS), START_MS).unwrap();
    scene.world.revoke(scene.group, 1);
    // The operator speaks of entries that this device does not get.
    let late_ms = START_MS + 2 * MINUTE_MS;
    assert_eq!(keyring.hear_operator(&scene.statement(late_ms), late_ms), Ok(true));
    assert_stops(&mut keyring, scene.group, late_ms, "is 120 s old");
    scene.follow(&mut keyring);
    let sync = keyring.begin_sync();
    assert!(keyring.set_caught_up(sync));
    keyring.settle_news(late_ms);
    assert_stops(&mut keyring, scene.group, late_ms, "1112 is being removed");
}

#[test]
fn that_a_group_stops_is_told_and_that_it_goes_on() {
    let scene = strict();
    let mut keyring = scene.keyring(0);
    keyring.insert_epoch(&scene.keys(0, 1, &[0, 1]), START_MS);
    assert!(!keyring.has_news_to_tell(START_MS), "the first word may be on its way");
    let sync = keyring.begin_sync();
    assert!(keyring.set_caught_up(sync));
    assert!(keyring.has_news_to_tell(START_MS));
    keyring.tell_news(START_MS);
    assert!(!keyring.has_news_to_tell(START_MS + MINUTE_MS) && keyring.has_news_to_tell(START_MS + 10 * MINUTE_MS));
    keyring.hear_operator(&scene.statement(START_MS), START_MS).unwrap();
    assert!(keyring.has_news_to_tell(START_MS));
    keyring.tell_news(START_MS);
    assert!(!keyring.has_news_to_tell(START_MS + MINUTE_MS) && keyring.has_news_to_tell(START_MS + MINUTE_MS + 1));
    // A group whose keys are gone holds nothing back.
    keyring.leave(scene.group, &LeftReason::Replaced);
    assert!(!keyring.has_news_to_tell(START_MS + MINUTE_MS + 1));
}
