//! What others say of the ledger.

use sealcast_identity::SigningKey;
use sealcast_ledger::{AttestedHead, Hash};
use sealcast_seal::{HandOver, Message};

use super::*;

const MINUTE_MS: u64 = 60_000;
const LIVE: Arrival =
    Arrival { hand_over: HandOver::Acknowledged { dup: false }, retain: false, away: None, copy: false };

/// The ledger is read to its end, as far as the hub shows it.
fn sync(keyring: &mut Keyring, now_ms: u64) -> Vec<Doubt> {
    let sync = keyring.begin_sync();
    assert!(keyring.set_caught_up(sync));
    keyring.settle_news(now_ms)
}

impl Scene {
    /// A message of device 1, which has read all of the ledger, as `keyring`'s device opens it.
    fn message(&self, keyring: &Keyring) -> Message {
        let frame = seal(&mut self.member(1), self.group, "plant/a", &content(false)).unwrap();
        match keyring.open(&mut Opener::new(), self.group, "plant/a", &frame, LIVE, START_MS) {
            Ok(Received::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    /// The ledger grows, without an effect on the group.
    fn grow(&mut self) {
        let name = format!("g{}", self.world.ledger.replica().height());
        self.world.group(&name);
    }
}

#[test]
fn a_member_that_has_read_more_has_the_hub_asked_and_is_not_told_of_if_it_shows_it() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    let message = scene.message(&keyring);
    assert_eq!(keyring.hear(&message, START_MS), Ok(false));
    scene.grow();
    let message = scene.message(&keyring);
    assert_eq!(keyring.hear(&message, START_MS), Ok(true));
    assert_eq!(keyring.hear(&message, START_MS + 1), Ok(false), "the hub is asked already");
    scene.follow(&mut keyring);
    assert_eq!(sync(&mut keyring, START_MS), []);
    assert_eq!(keyring.hear(&message, START_MS + MINUTE_MS), Ok(false));
}

/// As when its folder was put back from a copy: it has nothing new to show.
#[test]
fn a_hub_that_has_less_than_this_device_has_read_or_something_else_is_told() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    let (height, older) = (keyring.replica().height(), keyring.replica().head());
    scene.grow();
    let ahead = scene.world.ledger.replica().head();
    scene.follow(&mut keyring);
    let causes = |height, head| {
        let mut keyring = scene.member(0);
        keyring.hear_hub(height, head);
        keyring.take_alarms().into_iter().map(|why| why.cause).collect::<Vec<_>>()
    };
    assert_eq!(causes(height, older), [Cause::LedgerWithheld]);
    for height in [0, height, height + 1] {
        assert_eq!(causes(height, Hash::of(b"another")), [Cause::LedgerParted]);
    }
    assert_eq!(causes(height + 1, ahead), []);
    assert_eq!(causes(height + 2, Hash::of(b"newer")), [], "what it is will be seen");
}

#[test]
fn what_the_hub_does_not_show_although_it_was_asked_is_told_once_in_a_while() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    let shown = keyring.replica().height();
    scene.grow();
    let message = scene.message(&keyring);
    // A sync that was begun before the message came says nothing of it.
    let begun = keyring.begin_sync();
    assert_eq!(keyring.hear(&message, START_MS), Ok(true));
    assert!(keyring.set_caught_up(begun));
    assert_eq!(keyring.settle_news(START_MS), []);
    let speaker = Speaker::Member(scene.world.devices[1].id.clone());
    let withheld = [Doubt::Withheld { speaker, read: shown + 1, shown }];
    assert_eq!(sync(&mut keyring, START_MS), withheld);
    assert_eq!(sync(&mut keyring, START_MS + MINUTE_MS), []);
    assert_eq!(keyring.hear(&message, START_MS + 10 * MINUTE_MS), Ok(true));
    assert_eq!(sync(&mut keyring, START_MS + 10 * MINUTE_MS), withheld);
    // Nothing stops because of what one member says.
    assert!(seal(&mut keyring, scene.group, "plant/a", &content(false)).is_ok());
}

#[test]
fn a_member_on_another_branch_is_found_out() {
    let mut scene = Scene::new();
    let before = scene.world.ledger.clone();
    scene.world.group("other");
    let mut other = scene.member(0);
    scene.world.ledger = before;
    scene.grow();
    let mut same = scene.member(0);
    assert_eq!(
        (other.replica().height(), other.replica().head() == same.replica().head()),
        (same.replica().height(), false)
    );
    let (speaker, height) = (Speaker::Member(scene.world.devices[1].id.clone()), same.replica().height());
    let agreed = 0;
    let mut sender = scene.member(1);
    let mut heard = || {
        let frame = seal(&mut sender, scene.group, "plant/a", &content(false)).unwrap();
        [&mut other, &mut same].map(|keyring| {
            let opened = keyring.open(&mut Opener::new(), scene.group, "plant/a", &frame, LIVE, START_MS);
            let Ok(Received::Message(message)) = opened else { panic!("{opened:?}") };
            keyring.hear(&message, START_MS)
        })
    };
    // Of one message in 4,096 the piece of the head is the same by chance. The next one has another piece.
    let heard = [heard(), heard()];
    assert!(
        heard.iter().any(|[other, _]| *other == Err(Doubt::OtherLedger { speaker: speaker.clone(), agreed, height }))
    );
    assert!(heard.iter().all(|[_, same]| *same == Ok(false)), "{heard:?}");
}

#[test]
fn the_operators_word_is_news_once_this_device_has_read_as_far() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    assert_eq!(keyring.news.age_ms(START_MS), None);
    assert_eq!(keyring.hear_operator(&scene.statement(START_MS), START_MS), Ok(false));
    assert_eq!(keyring.news.age_ms(START_MS + 5), Some(5));
    // An older one that comes again makes nothing older or newer.
    assert_eq!(keyring.hear_operator(&scene.statement(START_MS - 100), START_MS), Ok(false));
    assert_eq!(keyring.news.age_ms(START_MS + 5), Some(5));

    scene.grow();
    let (shown, newer_ms) = (keyring.replica().height(), START_MS + MINUTE_MS);
    assert_eq!(keyring.hear_operator(&scene.statement(newer_ms), newer_ms), Ok(true), "the hub is asked");
    let withheld = Doubt::Withheld { speaker: Speaker::Operator, read: shown + 1, shown };
    assert_eq!(sync(&mut keyring, newer_ms), [withheld]);
    assert_eq!(keyring.news.age_ms(newer_ms), Some(MINUTE_MS), "nothing new has come");
    scene.follow(&mut keyring);
    assert_eq!(sync(&mut keyring, newer_ms), []);
    assert_eq!(keyring.news.age_ms(newer_ms), Some(0));
}

#[test]
fn what_is_not_the_operators_word_on_this_ledger_is_no_news() {
    let scene = Scene::new();
    let mut keyring = scene.member(0);
    let replica = scene.world.ledger.replica();
    let said = AttestedHead { time_ms: START_MS, height: replica.height(), head: replica.head() };
    let forged = said.sign(&SigningKey::generate().unwrap(), &scene.world.genesis.id).unwrap();
    assert_eq!(keyring.hear_operator(&forged, START_MS), Ok(true), "the operator may have a new key");
    assert_eq!(sync(&mut keyring, START_MS), []);
    // Signed for later than now, so that it stays news for longer.
    assert_eq!(keyring.hear_operator(&scene.statement(START_MS + 1_001), START_MS), Ok(false));
    assert_eq!(keyring.news.age_ms(START_MS), None);
    let other = scene.world.attest(&AttestedHead { head: Hash::from([1; 32]), ..said });
    let doubt = Doubt::OtherLedger { speaker: Speaker::Operator, agreed: 0, height: said.height };
    assert_eq!(keyring.hear_operator(&other, START_MS), Err(doubt));
    assert_eq!(keyring.news.age_ms(START_MS), None);
}

/// Whoever withholds the ledger also carries the questions and the answers.
#[test]
fn answers_that_come_after_the_next_message_do_not_silence_the_doubt() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    scene.grow();
    let message = scene.message(&keyring);
    let mut told = Vec::new();
    assert_eq!(keyring.hear(&message, START_MS), Ok(true));
    for turn in 0..100 {
        let asked_ms = START_MS + turn * 10_500 + 600;
        let asked = keyring.begin_sync();
        assert_eq!(keyring.hear(&message, asked_ms + 9_900), Ok(true), "the hub is to be asked again");
        // The answer shows nothing. It comes just within the 10 s that a call may take.
        assert!(keyring.set_caught_up(asked));
        told.extend(keyring.settle_news(asked_ms + 9_950));
    }
    assert!(!told.is_empty(), "a quarter of an hour without a word");
}

#[test]
fn what_is_not_shown_in_time_is_told_though_the_hub_never_answers() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    scene.grow();
    let message = scene.message(&keyring);
    assert_eq!(keyring.hear(&message, START_MS), Ok(true));
    keyring.begin_sync();
    for later_ms in [10_000, 20_000, 50_000] {
        assert_eq!(keyring.hear(&message, START_MS + later_ms), Ok(true));
    }
    assert!(!keyring.has_news_to_tell(START_MS + MINUTE_MS - 1));
    assert!(keyring.has_news_to_tell(START_MS + MINUTE_MS));
    keyring.tell_news(START_MS + MINUTE_MS);
    assert!(!keyring.has_news_to_tell(START_MS + MINUTE_MS), "it is told");
    assert!(keyring.has_news_to_tell(START_MS + 11 * MINUTE_MS), "and told again");
    scene.follow(&mut keyring);
    keyring.tell_news(START_MS + 11 * MINUTE_MS);
    assert!(!keyring.has_news_to_tell(START_MS + 30 * MINUTE_MS), "it was shown");
}

/// A member that reads on while the hub shows what it had read before.
#[test]
fn a_hub_that_is_always_a_little_behind_withholds_nothing() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    scene.grow();
    let first = scene.message(&keyring);
    assert_eq!(keyring.hear(&first, START_MS), Ok(true));
    let asked = keyring.begin_sync();
    scene.follow(&mut keyring);
    scene.grow();
    let second = scene.message(&keyring);
    assert_eq!(keyring.hear(&second, START_MS + 10_000), Ok(true));
    assert!(keyring.set_caught_up(asked));
    assert_eq!(keyring.settle_news(START_MS + 10_000), []);
    assert!(!keyring.has_news_to_tell(START_MS + MINUTE_MS));
}

/// The operator's words carry whole heads, so that nothing is the same by chance.
#[test]
fn the_entry_where_two_ledgers_part_is_named_as_near_as_the_heads_tell() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    let say = |keyring: &mut Keyring, said: AttestedHead, world: &World| {
        keyring.hear_operator(&world.attest(&said), said.time_ms)
    };
    let agreed = keyring.replica().height();
    let same = AttestedHead { time_ms: START_MS, height: agreed, head: keyring.replica().head() };
    assert_eq!(say(&mut keyring, same, &scene.world), Ok(false));
    for _ in 0..3 {
        scene.grow();
    }
    scene.follow(&mut keyring);
    let other = |height, time_ms| AttestedHead { time_ms, height, head: Hash::of(b"another") };
    let doubt = |height| Err(Doubt::OtherLedger { speaker: Speaker::Operator, agreed, height });
    assert_eq!(say(&mut keyring, other(agreed + 3, START_MS + 1), &scene.world), doubt(agreed + 3));
    assert_eq!(keyring.overview(START_MS).parted, Some((agreed, agreed + 3)));
    assert_eq!(say(&mut keyring, other(agreed + 1, START_MS + 2), &scene.world), doubt(agreed + 1), "the very entry");
    assert_eq!(say(&mut keyring, other(agreed + 2, START_MS + 3), &scene.world), doubt(agreed + 1));
    let alarms = keyring.take_alarms();
    assert!(alarms[0].text.contains(&format!("from one of the entries {agreed} to {} on", agreed + 2)), "{alarms:?}");
    assert_eq!(alarms[0].cause, crate::Cause::LedgerParted);
    let again = AttestedHead { time_ms: START_MS + 4, height: agreed + 3, head: keyring.replica().head() };
    assert_eq!(say(&mut keyring, again, &scene.world), Ok(false));
    assert_eq!(keyring.overview(START_MS).parted, None, "it reads the same ledger again");
}

#[test]
fn an_old_word_of_the_operator_in_the_place_of_a_newer_one_is_told() {
    let scene = Scene::new();
    let mut keyring = scene.member(0);
    let now_ms = START_MS + MINUTE_MS;
    assert_eq!(keyring.hear_operator(&scene.statement(START_MS), now_ms), Ok(false));
    assert_eq!(keyring.hear_operator(&scene.statement(now_ms), now_ms), Ok(false));
    let height = keyring.replica().height();
    let replayed = Doubt::Replayed { older_ms: MINUTE_MS, height };
    assert_eq!(keyring.hear_operator(&scene.statement(START_MS), now_ms), Err(replayed));
    assert_eq!(keyring.hear_operator(&scene.statement(now_ms), now_ms), Ok(false), "it is the newest again");
    assert_eq!(keyring.news.age_ms(now_ms), Some(0));
    assert_eq!(keyring.take_alarms().len(), 1);
}

/// Somebody else's endpoint may call final what is not final here.
#[test]
fn an_agent_that_reads_the_network_gives_it_the_time_that_blocks_take() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0).with_source(LedgerSource::Network { final_after_ms: 10 * MINUTE_MS });
    let shown = keyring.replica().height();
    scene.grow();
    let message = scene.message(&keyring);
    assert_eq!(keyring.hear(&message, START_MS), Ok(true));
    assert_eq!(sync(&mut keyring, START_MS + 10 * MINUTE_MS), []);
    assert!(!keyring.has_news_to_tell(START_MS + 10 * MINUTE_MS));
    let speaker = Speaker::Member(scene.world.devices[1].id.clone());
    let late_ms = START_MS + 10 * MINUTE_MS + 10_000;
    assert!(keyring.has_news_to_tell(late_ms));
    assert_eq!(sync(&mut keyring, late_ms), [Doubt::Withheld { speaker, read: shown + 1, shown }]);
    assert_eq!(keyring.overview(late_ms).withheld_by, 1);
    assert!(keyring.take_alarms()[0].text.contains("than the ledger's endpoints show"));
}
