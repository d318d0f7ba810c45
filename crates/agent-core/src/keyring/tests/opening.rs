//! What may be opened.

use sealcast_seal::HandOver;

use super::*;

const LIVE: Arrival =
    Arrival { hand_over: HandOver::Acknowledged { dup: false }, retain: false, away: None, copy: false };
const RETAINED: Arrival = Arrival { retain: true, ..LIVE };
const MINUTE_MS: u64 = 60_000;

fn away(since_ms: u64, until_ms: u64) -> Arrival {
    Arrival { away: Some(Away { since_ms, until_ms }), ..LIVE }
}

impl Scene {
    /// A frame of device 1, sealed at the start under epoch 1.
    fn frame(&self, topic: &str, retain: bool) -> Vec<u8> {
        seal(&mut self.member(1), self.group, topic, &content(retain)).unwrap()
    }

    fn open(
        &self,
        keyring: &Keyring,
        topic: &str,
        frame: &[u8],
        arrival: Arrival,
        now_ms: u64,
    ) -> Result<Received, Denied> {
        keyring.open(&mut Opener::new(), self.group, topic, frame, arrival, now_ms)
    }

    fn opens(&self, topic: &str, frame: &[u8], arrival: Arrival, now_ms: u64) -> bool {
        match self.open(&self.member(0), topic, frame, arrival, now_ms) {
            Ok(Received::Message(message)) => {
                assert_eq!((message.payload(), message.sender()), (&b"27"[..], &self.world.devices[1].id));
                true
            }
            Err(Denied::Refused(_)) => false,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_member_sealed_opens_on_its_topic() {
    let scene = Scene::new();
    let frame = scene.frame("plant/a", false);
    assert!(scene.opens("plant/a", &frame, LIVE, START_MS));
    assert!(!scene.opens("plant/b", &frame, LIVE, START_MS));
}

#[test]
fn after_a_start_nothing_opens_before_the_ledger_was_read_to_its_end() {
    let scene = Scene::new();
    let (frame, mut keyring) = (scene.frame("plant/a", false), scene.keyring(0));
    keyring.insert_epoch(&scene.keys(0, 1, &[0, 1, 2]), START_MS);
    let early = scene.open(&keyring, "plant/a", &frame, LIVE, START_MS);
    assert!(matches!(early, Err(Denied::Behind(why)) if why.text.contains("after a start")));
    catch_up(&mut keyring);
    assert!(matches!(scene.open(&keyring, "plant/a", &frame, LIVE, START_MS), Ok(Received::Message(_))));
}

#[test]
fn a_live_message_may_be_as_old_as_its_topic_allows() {
    let scene = Scene::new();
    let frame = scene.frame("plant/a", false);
    for (age_ms, opens) in [(0, true), (MINUTE_MS + 1_000, true), (MINUTE_MS + 1_001, false)] {
        assert_eq!(scene.opens("plant/a", &frame, LIVE, START_MS + age_ms), opens, "{age_ms}");
    }
}

#[test]
fn what_waited_at_the_broker_while_the_client_was_away_may_be_older() {
    let scene = Scene::new();
    let frame = scene.frame("plant/a", false);
    let now_ms = START_MS + 5 * MINUTE_MS;
    let (before, after) = (START_MS - MINUTE_MS, START_MS + MINUTE_MS);
    assert!(!scene.opens("plant/a", &frame, LIVE, now_ms), "it was not away");
    assert!(scene.opens("plant/a", &frame, away(before, now_ms), now_ms));
    // It left just after: the message was on its way then.
    assert!(scene.opens("plant/a", &frame, away(after, now_ms), now_ms));
    assert!(!scene.opens("plant/a", &frame, away(after + 1_001, now_ms), now_ms), "it should have come before");
    assert!(!scene.opens("plant/a", &frame, away(before, START_MS - 1), now_ms), "the client was back by then");
    let late_ms = START_MS + 11 * MINUTE_MS;
    assert!(!scene.opens("plant/a", &frame, away(before, late_ms), late_ms));
}

#[test]
fn a_retained_message_that_is_too_old_is_refused_or_flagged() {
    let scene = Scene::new();
    let now_ms = START_MS + 100 * MINUTE_MS;
    for (topic, opens) in [("plant/a", false), ("plant/old/a", true)] {
        let frame = scene.frame(topic, true);
        assert!(scene.opens(topic, &frame, RETAINED, START_MS + 30 * MINUTE_MS));
        assert_eq!(scene.opens(topic, &frame, RETAINED, now_ms), opens, "{topic}");
        assert!(!scene.opens(topic, &frame, LIVE, now_ms), "live it is too old all the same");
        // Who hands it on tells that it is old.
        assert!(scene.member(0).freshness().is_stale(topic, true, now_ms - START_MS));
    }
}

#[test]
fn a_member_that_is_gone_is_not_believed_any_more() {
    let mut scene = Scene::new();
    let frame = scene.frame("plant/a", false);
    let other = seal(&mut scene.member(2), scene.group, "plant/a", &content(false)).unwrap();
    scene.world.revoke(scene.group, 1);
    scene.world.commit(scene.group, 0);
    let mut keyring = scene.member(0);
    scene.open(&keyring, "plant/a", &frame, LIVE, START_MS).unwrap();
    // It still knows epoch 1, and so could go on with it.
    keyring.insert_epoch(&scene.keys(0, 2, &[0, 2]), START_MS);
    let denied = scene.open(&keyring, "plant/a", &frame, LIVE, START_MS).unwrap_err();
    assert!(matches!(&denied, Denied::Refused(why) if why.text.contains("1112")), "{denied}");
    // What another one sealed under epoch 1 is still good.
    scene.open(&keyring, "plant/a", &other, LIVE, START_MS).unwrap();
}

#[test]
fn a_message_of_a_later_epoch_waits_for_the_ledger() {
    let mut scene = Scene::new();
    let early = scene.member(0);
    scene.world.commit(scene.group, 0);
    let mut sender = scene.member(1);
    sender.insert_epoch(&scene.keys(1, 2, &[0, 1, 2]), START_MS);
    let frame = seal(&mut sender, scene.group, "plant/a", &content(false)).unwrap();
    let denied = scene.open(&early, "plant/a", &frame, LIVE, START_MS).unwrap_err();
    assert!(matches!(denied, Denied::Behind(why) if why.text.contains("no key yet")));
}

#[test]
fn without_a_key_it_depends_on_the_ledger_whether_waiting_helps() {
    let mut scene = Scene::new();
    let frame = scene.frame("plant/a", false);
    let open = |keyring: &Keyring, scene: &Scene| scene.open(keyring, "plant/a", &frame, LIVE, START_MS).unwrap_err();
    let mut keyring = scene.keyring(0);
    assert!(matches!(open(&keyring, &scene), Denied::NotYet(_)), "it is granted, and waits to be added");
    scene.world.revoke(scene.group, 0);
    scene.follow(&mut keyring);
    assert!(matches!(open(&keyring, &scene), Denied::Behind(_)), "it may have been granted again");
    let sync = keyring.begin_sync();
    assert!(keyring.set_caught_up(sync));
    assert!(matches!(open(&keyring, &scene), Denied::Refused(_)));
    // Its keys were wiped.
    let mut left = scene.member(0);
    left.leave(scene.group, &LeftReason::Replaced);
    assert!(matches!(open(&left, &scene), Denied::Refused(_)));
}

/// Until a commit removes a device whose grant has ended, it may be granted again, and gets the next epoch's key then.
#[test]
fn a_device_that_no_commit_has_removed_asks_the_ledger_before_it_refuses() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    scene.world.revoke(scene.group, 0);
    scene.follow(&mut keyring);
    scene.world.grant(scene.group, 0);
    scene.world.commit(scene.group, 1);
    let mut sender = scene.member(1);
    sender.insert_epoch(&scene.keys(1, 2, &[0, 1, 2]), START_MS);
    let frame = seal(&mut sender, scene.group, "plant/a", &content(false)).unwrap();
    let denied = |keyring: &Keyring| scene.open(keyring, "plant/a", &frame, LIVE, START_MS).unwrap_err();
    assert!(matches!(denied(&keyring), Denied::Behind(why) if why.text.contains("1111 is not a member of plant")));
    keyring.leave(scene.group, &LeftReason::Replaced);
    assert!(matches!(denied(&keyring), Denied::Refused(_)), "it asks no more");
}
