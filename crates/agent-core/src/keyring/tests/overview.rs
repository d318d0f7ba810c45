//! What is told to whoever watches the agent.

use super::*;
use crate::{Cause, Traffic};

fn missing(keyring: &Keyring) -> Vec<Cause> {
    keyring.overview(START_MS).missing.iter().map(|why| why.cause).collect()
}

#[test]
fn what_is_missing_is_told_and_what_is_there_counted() {
    let scene = Scene::new();
    let mut keyring = scene.keyring(0);
    assert_eq!(missing(&keyring), [Cause::LedgerUnread]);
    catch_up(&mut keyring);
    assert_eq!(missing(&keyring), [Cause::KeyAwaited]);
    assert!(keyring.overview(START_MS).groups.is_empty());
    keyring.insert_epoch(&scene.keys(0, 1, &[0, 1, 2]), START_MS);
    assert_eq!(missing(&keyring), []);

    let content = content(false);
    let bytes = content.payload.len() as u64;
    let frames = keyring.seal_batch(scene.group, &[("plant/t", content), ("plant/t", content)], START_MS);
    assert!(frames.iter().all(Result::is_ok));
    keyring.note_opened(scene.group, 7);
    let overview = keyring.overview(START_MS);
    let [group] = &overview.groups[..] else { panic!("{overview:?}") };
    assert_eq!((group.name.as_str(), group.epoch, group.members), ("plant", 1, 3));
    assert_eq!(group.sealed, Traffic { messages: 2, bytes: 2 * bytes });
    assert_eq!(group.opened, Traffic { messages: 1, bytes: 7 });
    assert_eq!((overview.height, overview.operator_word_age_ms), (keyring.replica().height(), None));
    keyring.hear_operator(&scene.statement(START_MS), START_MS).unwrap();
    assert_eq!(keyring.overview(START_MS + 5).operator_word_age_ms, Some(5));

    // The next epoch's keys are on their way. What was counted stays.
    let mut scene = scene;
    scene.world.commit(scene.group, 1);
    scene.follow(&mut keyring);
    assert_eq!(missing(&keyring), [Cause::EpochBehind]);
    keyring.insert_epoch(&scene.keys(0, 2, &[0, 1, 2]), START_MS);
    let groups = keyring.overview(START_MS).groups;
    assert_eq!((groups[0].epoch, groups[0].sealed.messages), (2, 2));
}
