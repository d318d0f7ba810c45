use std::sync::LazyLock;

use sealcast_ledger::{Body, KeysPublished};

use super::*;
use crate::testing::{START_MS, World};

static WORLD: LazyLock<World> = LazyLock::new(|| World::with_group(2).0);

fn own() -> Own {
    WORLD.own(0)
}

fn ledger() -> LedgerId {
    WORLD.genesis.id
}

fn numbered(number: u64) -> Checkpoint {
    Checkpoint::new(number).unwrap()
}

fn folder_at(checkpoint: Checkpoint) -> Rollback {
    Rollback::new(FolderPast { checkpoint: Some(checkpoint), submitted: Vec::new() }, START_MS)
}

fn show(rollback: &mut Rollback, shown: Checkpoint, signer: usize) -> Option<Sign> {
    let signed = shown.sign(own().number, &WORLD.own(signer).key, &ledger()).unwrap();
    rollback.handle_checkpoint(&own(), &ledger(), &signed)
}

/// The record of an entry of this device, signed by the key of one.
fn record(nonce: u64, content: u8, signer: usize) -> Record {
    let body = KeysPublished { key_package: Hash::of(&[content]), certificate: own().certificate, rejoin: false };
    let entry = Body::KeysPublished(body).sign(&WORLD.own(signer).key, own().number, nonce, &ledger()).unwrap();
    Record { index: 7, time_s: START_MS / 1000, entry, head: Hash::of(b"head") }
}

#[test]
fn only_a_checkpoint_that_the_folder_has_not_come_to_is_a_sign() {
    let (last, other) = (numbered(50), numbered(50));
    for (shown, signer, sign) in [
        (last, 0, None),
        (numbered(49), 0, None),
        (numbered(51), 0, Some(Sign::Later { shown: 51, own: 50 })),
        (other, 0, Some(Sign::Other(50))),
        (numbered(51), 1, None),
        (other, 1, None),
    ] {
        assert_eq!(show(&mut folder_at(last), shown, signer), sign, "{shown:?} by {signer}");
        let mut fresh = Rollback::new(FolderPast::default(), START_MS);
        assert_eq!(show(&mut fresh, shown, signer), None, "it has nothing to lose");
    }
    assert_eq!(folder_at(last).handle_checkpoint(&own(), &ledger(), b"not a checkpoint"), None);
}

#[test]
fn numbers_grow_whatever_the_clock_does_and_pass_what_the_broker_has_shown() {
    let mut rollback = Rollback::new(FolderPast::default(), START_MS);
    let next = |rollback: &mut Rollback, now_ms| {
        rollback.want(now_ms);
        let (checkpoint, signed) = rollback.next(&own(), &ledger(), now_ms).unwrap().unwrap();
        assert_eq!(Checkpoint::verify(&signed, own().number, own().key.public(), &ledger()), Ok(checkpoint));
        assert_eq!(rollback.handle_checkpoint(&own(), &ledger(), &signed), None, "its own word");
        checkpoint.number
    };
    assert_eq!(next(&mut rollback, START_MS), START_MS);
    assert_eq!(next(&mut rollback, START_MS), START_MS + 1);
    assert_eq!(next(&mut rollback, START_MS - 5_000), START_MS + 2);
    assert_eq!(next(&mut rollback, START_MS + 9), START_MS + 9);
    let mut fresh = Rollback::new(FolderPast::default(), START_MS);
    show(&mut fresh, numbered(START_MS + 70), 0);
    assert_eq!(next(&mut fresh, START_MS), START_MS + 71);
}

#[test]
fn the_next_one_comes_after_a_while_or_when_something_happened() {
    let mut rollback = Rollback::new(FolderPast::default(), START_MS);
    let mut times = Vec::new();
    let mut now_ms = START_MS;
    for _ in 0..3 {
        assert!(rollback.next(&own(), &ledger(), now_ms).unwrap().is_some());
        assert!(rollback.next(&own(), &ledger(), now_ms).unwrap().is_none());
        now_ms = rollback.due_ms();
        times.push(now_ms - START_MS);
    }
    assert_eq!(times, [600_000, 1_200_000, 1_800_000]);
    rollback.want(START_MS);
    assert!(rollback.next(&own(), &ledger(), START_MS).unwrap().is_some());
}

#[test]
fn only_an_entry_that_the_folder_has_not_submitted_is_a_sign() {
    let mut rollback = folder_at(numbered(50));
    for content in [1, 2] {
        let entry = record(4, content, 0).entry;
        let digest = entry.digest(&ledger());
        assert_eq!(rollback.note_submitted(&ledger(), &entry), Some(Write::Submitted { nonce: 4, digest }));
        assert_eq!(rollback.note_submitted(&ledger(), &entry), None, "once");
    }
    let strange = |content, signer| {
        let FolderPast { submitted, .. } = FolderPast::default();
        let submitted = rollback.submitted.iter().copied().chain(submitted).collect();
        let mut restarted = Rollback::new(FolderPast { checkpoint: rollback.last, submitted }, START_MS);
        restarted.handle_own(&own(), &ledger(), &ledger(), &record(4, content, signer))
    };
    let answered = Some(Write::Answered { nonce: 4 });
    assert_eq!(strange(1, 0), (answered.clone(), None));
    assert_eq!(strange(2, 0), (answered.clone(), None), "several may be on their way");
    let sign = Sign::Entry { index: 7, kind: Kind::KeysPublished };
    assert_eq!(strange(3, 0), (answered.clone(), Some(sign)));
    assert_eq!(strange(3, 1), (answered, None), "by a former key");

    assert_eq!(rollback.handle_own(&own(), &ledger(), &ledger(), &record(5, 3, 0)).1, Some(sign));
    rollback.begin_anew();
    assert_eq!(
        rollback.handle_own(&own(), &ledger(), &ledger(), &record(6, 3, 0)),
        (None, None),
        "it has nothing to lose"
    );
}
