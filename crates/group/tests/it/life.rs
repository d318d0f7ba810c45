//! The life of a group: found, join, renew, revoke, rejoin, reset, catch up, lose a race.

use std::time::Duration;

use sealcast_group::{OutOfOrder, Output};
use sealcast_identity::SigningKey;
use sealcast_ledger::{Body, GroupNumber, Replica};

use crate::world::{Node, Store, World, chain};

const DAY: Duration = Duration::from_secs(86_400);

pub fn world_of(members: usize, max_age_s: u32) -> (World, GroupNumber) {
    let mut world = World::new();
    let group = world.group("hsu0001", max_age_s);
    for place in 0..members {
        let node = world.device(&(1111 + place).to_string());
        world.grant(group, node);
    }
    world.run(60);
    (world, group)
}

#[test]
fn devices_found_a_group_and_share_its_keys() {
    let (world, group) = world_of(3, 0);
    world.assert_members(group, &[0, 1, 2]);
    assert!(world.inboxes.is_empty(), "inboxes are cleared");
    assert!(world.nodes.iter().all(|node| node.left.is_empty()));
}

#[test]
fn a_welcome_follows_the_epoch_that_it_is_for() {
    let (mut world, group) = world_of(1, 0);
    let before = world.assert_members(group, &[0]);
    let second = world.device("2222");
    world.grant(group, second);
    world.run(60);
    assert_eq!(world.assert_members(group, &[0, second]), before + 1);
    assert_eq!(world.nodes[0].welcomed, [Some(sealcast_ledger::Epoch(before + 1))]);
}

#[test]
fn one_more_joins_and_one_is_revoked() {
    let (mut world, group) = world_of(3, 0);
    let before = world.assert_members(group, &[0, 1, 2]);
    let fourth = world.device("2222");
    world.grant(group, fourth);
    world.run(60);
    let joined = world.assert_members(group, &[0, 1, 2, fourth]);
    assert!(joined > before);
    world.revoke(group, 1);
    world.run(60);
    world.assert_members(group, &[0, 2, fourth]);
    assert!(world.nodes[1].left.iter().any(|(_, reason)| reason.to_string().contains("lost its grant of group")));
    // It forgets the keys that it had.
    assert!(!world.nodes[1].store.keys().any(|key| key.starts_with("epoch/") || key.starts_with("mls/")));
    world.grant(group, 1);
    world.run(60);
    world.assert_members(group, &[0, 1, 2, fourth]);
}

#[test]
fn a_device_that_is_revoked_as_a_whole_leaves_all_groups() {
    let (mut world, first) = world_of(3, 0);
    let second = world.group("hsu0002", 0);
    for node in [0, 1, 2] {
        world.grant(second, node);
    }
    world.run(60);
    world.assert_members(second, &[0, 1, 2]);
    world.revoke_device(2);
    world.run(60);
    world.assert_members(first, &[0, 1]);
    world.assert_members(second, &[0, 1]);
}

#[test]
fn epochs_are_renewed_when_the_policy_or_the_driver_says_so() {
    let (mut world, group) = world_of(3, 600);
    let before = world.assert_members(group, &[0, 1, 2]);
    world.run(700);
    let aged = world.assert_members(group, &[0, 1, 2]);
    assert_eq!(aged, before + 1, "one commit, not one by each member");
    world.request_update(2, group);
    world.settle();
    assert_eq!(world.assert_members(group, &[0, 1, 2]), aged + 1);
    // Only what the policy retains is stored.
    let stored = world.nodes[0].store.keys().filter(|key| key.starts_with("epoch/")).count();
    assert!(stored <= 4, "{stored} epochs stored");
}

#[test]
fn the_next_member_acts_when_the_first_is_dead() {
    let (mut world, group) = world_of(4, 0);
    let first = world.nodes[0].newest(group).unwrap().roster.first_key_value().unwrap().1.0.clone();
    let dead = world.nodes.iter().position(|node| node.id == first).unwrap();
    world.nodes[dead].online = false;
    let gone = (dead + 1) % 4;
    world.revoke(group, gone);
    world.run(30);
    let rest: Vec<usize> = (0..4).filter(|&node| node != dead && node != gone).collect();
    let epoch = world.ledger.replica().group(group).unwrap().epoch;
    for node in rest {
        assert_eq!(world.nodes[node].newest(group).unwrap().epoch, epoch);
    }
    world.nodes[dead].online = true;
    world.run(5);
    let members: Vec<usize> = (0..4).filter(|&node| node != gone).collect();
    world.assert_members(group, &members);
}

#[test]
fn a_member_catches_up_epoch_by_epoch() {
    let (mut world, group) = world_of(3, 0);
    let before = world.assert_members(group, &[0, 1, 2]);
    world.nodes[2].online = false;
    for round in 0..5 {
        world.request_update(round % 2, group);
        world.run(10);
    }
    let fourth = world.device("2222");
    world.grant(group, fourth);
    world.run(60);
    world.nodes[2].online = true;
    world.run(10);
    let after = world.assert_members(group, &[0, 1, 2, fourth]);
    for epoch in before..=after {
        assert!(world.nodes[2].epochs.contains_key(&(group.get(), 0, epoch)), "epoch {epoch}");
    }
}

#[test]
fn a_late_joiner_follows_from_its_welcome_on() {
    let (mut world, group) = world_of(2, 0);
    let late = world.device("2222");
    world.run(5);
    world.nodes[late].online = false;
    world.grant(group, late);
    world.run(10);
    for node in [0, 1, 0] {
        world.request_update(node, group);
        world.run(40);
    }
    world.nodes[late].online = true;
    world.run(60);
    world.assert_members(group, &[0, 1, late]);
    assert!(world.nodes[late].epochs.len() >= 4, "{:?}", world.nodes[late].epochs.keys());
}

#[test]
fn a_lost_welcome_is_asked_for_again() {
    let (mut world, group) = world_of(2, 0);
    let late = world.device("2222");
    world.run(5);
    world.deliver = false;
    world.grant(group, late);
    world.run(10);
    world.inboxes.clear();
    world.deliver = true;
    world.run(120);
    world.assert_members(group, &[0, 1, late]);
    assert!(world.nodes[late].has_notice("asks to be added again"));
}

#[test]
fn a_refused_welcome_costs_one_epoch_until_it_is_delivered() {
    let (mut world, group) = world_of(1, 0);
    let before = world.assert_members(group, &[0]);
    world.refuse_welcomes.insert(0);
    let second = world.device("2222");
    world.grant(group, second);
    world.run(3 * 3600);
    let epoch = |world: &World| world.ledger.replica().group(group).unwrap().epoch.0;
    assert!(world.nodes[second].has_notice("asks to be added again"));
    assert_eq!(epoch(&world), before + 1, "it asks, and is not added in vain");
    world.deliver_welcomes();
    world.run(60);
    world.assert_members(group, &[0, second]);
    assert!(epoch(&world) <= before + 2, "once more at most, for the keys that it asked with");
}

#[test]
fn another_member_adds_whom_a_refused_welcome_did_not_reach() {
    let (mut world, group) = world_of(2, 0);
    world.refuse_welcomes.insert(0);
    let third = world.device("2222");
    world.grant(group, third);
    world.run(120);
    world.assert_members(group, &[0, 1, third]);
}

#[test]
fn a_device_that_lost_its_state_is_added_again() {
    let (mut world, group) = world_of(3, 0);
    let before = world.assert_members(group, &[0, 1, 2]);
    world.nodes[1].store = Store::new();
    world.nodes[1].epochs.clear();
    world.start(1);
    world.run(60);
    let after = world.assert_members(group, &[0, 1, 2]);
    assert_eq!(after, before + 1, "removed and added in one commit");
}

#[test]
fn a_renewed_certificate_takes_the_old_ones_place() {
    let (mut world, group) = world_of(3, 0);
    let (id, key) = (world.nodes[1].id.clone(), world.nodes[1].key());
    let issued = world.ca.issue(&id, &key, world.now_ms, 30 * DAY);
    world.register(&id, &issued);
    world.nodes[1].chain = chain(&issued);
    world.start(1);
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
}

#[test]
fn a_member_that_renews_its_certificate_stays_one() {
    let (mut world, group) = world_of(3, 0);
    let before = world.assert_members(group, &[0, 1, 2]);
    for renewals in 1..=2 {
        let (id, key) = (world.nodes[1].id.clone(), world.nodes[1].key());
        let issued = world.ca.issue(&id, &key, world.now_ms, 30 * DAY);
        world.register(&id, &issued);
        // The answer is late: the others see the new certificate, and this device does not have it yet.
        world.run(60);
        assert_eq!(world.assert_members(group, &[0, 1, 2]), before + renewals - 1, "the old leaf is good");
        world.nodes[1].chain = chain(&issued);
        let (renewed, now_ms) = (chain(&issued), world.now_ms);
        world.with_groups(1, |groups, replica| groups.renew(replica, renewed, now_ms).unwrap());
        world.pump(1);
        world.run(60);
        assert_eq!(world.assert_members(group, &[0, 1, 2]), before + renewals, "one commit, by itself");
        assert_eq!(world.nodes[0].left, [], "{renewals}");
        assert_eq!(world.nodes[1].left, [], "{renewals}");
    }
    // Its key package has the new certificate: it can be added to another group.
    let another = world.group("another", 0);
    world.grant(another, 0);
    world.grant(another, 1);
    world.run(60);
    world.assert_members(another, &[0, 1]);
    world.start(1);
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
}

#[test]
fn a_certificate_that_comes_before_its_record_waits_for_it() {
    let (mut world, group) = world_of(3, 0);
    let before = world.assert_members(group, &[0, 1, 2]);
    let (id, key) = (world.nodes[1].id.clone(), world.nodes[1].key());
    let issued = world.ca.issue(&id, &key, world.now_ms, 30 * DAY);
    let (renewed, now_ms) = (chain(&issued), world.now_ms);
    world.nodes[1].chain = renewed.clone();
    world.with_groups(1, |groups, replica| groups.renew(replica, renewed, now_ms).unwrap());
    world.run(60);
    assert_eq!(world.assert_members(group, &[0, 1, 2]), before);
    assert_eq!(world.nodes[1].notices, []);
    world.register(&id, &issued);
    world.run(60);
    assert_eq!(world.assert_members(group, &[0, 1, 2]), before + 1);
}

#[test]
fn a_member_that_renews_its_certificate_and_loses_its_state_comes_back() {
    let (mut world, group) = world_of(3, 0);
    let before = world.assert_members(group, &[0, 1, 2]);
    let (id, key) = (world.nodes[1].id.clone(), world.nodes[1].key());
    let issued = world.ca.issue(&id, &key, world.now_ms, 30 * DAY);
    world.register(&id, &issued);
    world.nodes[1].chain = chain(&issued);
    world.nodes[1].store = Store::new();
    world.nodes[1].epochs.clear();
    world.start(1);
    world.run(60);
    assert_eq!(world.assert_members(group, &[0, 1, 2]), before + 1, "removed and added in one commit");
}

#[test]
fn another_key_under_a_granted_name_is_no_member() {
    let (mut world, group) = world_of(3, 0);
    // The CA alone cannot make a member: it issues to itself under a name that is granted.
    let (id, key) = (world.nodes[1].id.clone(), SigningKey::generate().unwrap());
    let issued = world.ca.issue(&id, &key, world.now_ms, 30 * DAY);
    world.register(&id, &issued);
    world.nodes[1].online = false;
    let usurper = world.add_node(id, &key, chain(&issued));
    world.start(usurper);
    world.run(120);
    world.assert_members(group, &[0, 2]);
    assert!(world.nodes[usurper].epochs.is_empty());
    // The grant of the operator is the second key.
    world.grant(group, usurper);
    world.run(60);
    world.assert_members(group, &[0, 2, usurper]);
}

#[test]
fn inboxes_of_groups_that_are_not_granted_are_dropped() {
    let (mut world, group) = world_of(2, 0);
    let late = world.device("2222");
    world.settle();
    let committer = world.nodes[0].id.clone();
    for number in 1..1000 {
        world.deliver_welcome(late, GroupNumber::new(number).unwrap(), &committer, &[1; 100_000]);
    }
    let dropped = world.nodes[late].notices.iter().filter(|(_, n)| n.to_string().contains("is dropped")).count();
    assert_eq!(dropped, 999);
    world.grant(group, late);
    world.run(60);
    world.assert_members(group, &[0, 1, late]);
}

#[test]
fn a_welcome_that_is_held_does_not_give_way_to_what_others_send() {
    let (mut world, group) = world_of(2, 0);
    let late = world.device("2222");
    world.settle();
    world.grant(group, late);
    world.catch_up(late);
    world.nodes[late].online = false;
    world.deliver = false;
    world.run(10);
    let (committer, good) = world.welcome(late, group);
    let other = world.nodes[usize::from(committer == world.nodes[0].id)].id.clone();
    // The same Welcome with another tree, made up after it, and sent before the ledger's commit arrives.
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let asked = world.refused;
    for (from, payload) in [(&committer, &good), (&other, &bad)] {
        world.deliver_welcome(late, group, from, payload);
    }
    world.inboxes.clear();
    world.catch_up(late);
    world.nodes[late].online = true;
    world.run(5);
    assert!(!world.nodes[late].has_notice("asks to be added again"));
    assert_eq!(world.refused, asked);
    world.assert_members(group, &[0, 1, late]);
}

/// The hub gives what it keeps again on each connection.
#[test]
fn a_welcome_that_was_used_is_no_news_and_one_that_cannot_be_opened_is() {
    let (mut world, group) = world_of(2, 0);
    let ((_, _, committer), used) = world.old_inboxes.last().unwrap().clone();
    let joined = world.nodes.iter().position(|node| node.id != committer).unwrap();
    // Its private part is wiped meanwhile.
    world.run(120);
    let text = "the Welcome is for a key package that this device has used already";
    for _ in 0..2 {
        world.deliver_welcome(joined, group, &committer, &used);
        world.start(joined);
        world.catch_up(joined);
    }
    assert!(world.nodes[joined].notices.is_empty(), "{:?}", world.nodes[joined].notices);
    world.assert_members(group, &[0, 1]);

    let third = world.device("2222");
    world.swallow_welcomes.extend([0, 1]);
    world.grant(group, third);
    world.run(20);
    world.deliver_welcome(third, group, &committer, &used);
    assert!(world.nodes[third].has_notice(text), "{:?}", world.nodes[third].notices);
}

#[test]
fn a_reset_group_starts_again() {
    let (mut world, group) = world_of(3, 0);
    world.reset(group);
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
    assert_eq!(world.nodes[0].newest(group).unwrap().generation.0, 1);
    assert!(world.nodes.iter().all(|node| node.left.iter().any(|(_, reason)| reason.to_string().contains("reset"))));
}

#[test]
fn the_loser_of_a_race_follows_the_winner() {
    let (mut world, group) = world_of(3, 0);
    let before = world.assert_members(group, &[0, 1, 2]);
    // Both commit at once; the ledger takes one.
    let now_ms = world.now_ms;
    for node in [1, 2] {
        world.with_groups(node, |groups, replica| groups.request_update(replica, group, now_ms));
    }
    for node in [1, 2] {
        world.pump(node);
    }
    assert_eq!(world.refused, 1);
    world.run(60);
    // The request of the loser is met by the winner's commit.
    assert_eq!(world.assert_members(group, &[0, 1, 2]), before + 1);
}

#[test]
fn a_submission_that_is_lost_is_repeated() {
    let (mut world, group) = world_of(2, 0);
    let before = world.assert_members(group, &[0, 1]);
    let now_ms = world.now_ms;
    world.with_groups(0, |groups, replica| groups.request_update(replica, group, now_ms));
    world.lose_submissions.insert(0);
    world.pump(0);
    world.lose_submissions.clear();
    world.run(20);
    assert_eq!(world.assert_members(group, &[0, 1]), before);
    world.run(20);
    assert_eq!(world.assert_members(group, &[0, 1]), before + 1);
}

#[test]
fn many_devices_are_added_in_batches_that_fit_into_an_entry() {
    let mut world = World::new();
    let group = world.group("hsu0001", 0);
    for place in 0..60 {
        let node = world.device(&(1111 + place).to_string());
        world.grant(group, node);
    }
    world.nodes.iter_mut().skip(1).for_each(|node| node.online = false);
    for node in 1..60 {
        world.catch_up(node);
    }
    world.run(60);
    world.nodes.iter_mut().for_each(|node| node.online = true);
    world.run(5);
    let epochs = world.assert_members(group, &(0..60).collect::<Vec<_>>());
    assert!(epochs <= 3, "{epochs} epochs for 60 devices that wait together");
    // What 1,000 members need is far below the 4 MiB that an inbox may have.
    let longest = world.old_inboxes.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
    assert!(longest * 1000 / 60 < 3 << 20, "{longest} bytes for 60 members");
}

#[test]
fn nothing_is_submitted_before_the_driver_is_live() {
    let mut world = World::new();
    let group = world.group("hsu0001", 0);
    let node = world.device("1111");
    world.grant(group, node);
    let Node { groups, replica, .. } = &mut world.nodes[node];
    let groups = groups.as_mut().unwrap();
    for record in world.ledger.records() {
        replica.apply(record).unwrap();
        groups.handle_record(replica, record, world.now_ms).unwrap();
    }
    groups.handle_timeout(replica, world.now_ms + 60_000);
    while let Some(output) = groups.poll_output() {
        assert!(matches!(output, Output::Persist(_)), "{output:?}");
    }
    groups.set_live(replica, true, world.now_ms);
    let outputs: Vec<Output> = std::iter::from_fn(|| groups.poll_output()).collect();
    assert!(matches!(outputs.first(), Some(Output::Persist(_))));
    assert!(outputs.iter().any(|output| matches!(output, Output::Submit(Body::KeysPublished(_)))));
    assert!(outputs.iter().any(|output| matches!(output, Output::Submit(Body::Commit(_)))));
}

#[test]
fn records_must_come_in_order() {
    let (mut world, _) = world_of(2, 0);
    let third = world.device("2222");
    let records = world.ledger.records().to_vec();
    let Node { groups, replica, .. } = &mut world.nodes[third];
    let groups = groups.as_mut().unwrap();
    let mut hear = |replica: &Replica, index: usize| groups.handle_record(replica, &records[index], world.now_ms);
    assert_eq!(hear(replica, 3), Err(OutOfOrder::Record { expected: 0, index: 3 }));
    assert_eq!(hear(replica, 0), Err(OutOfOrder::Replica { index: 0, height: 0 }), "the replica has not got it");
    replica.apply(&records[0]).unwrap();
    hear(replica, 0).unwrap();
    hear(replica, 0).unwrap();
    replica.apply(&records[1]).unwrap();
    replica.apply(&records[2]).unwrap();
    assert_eq!(hear(replica, 1), Err(OutOfOrder::Replica { index: 1, height: 3 }), "it is further on");
}

#[test]
fn changed_payloads_do_no_harm() {
    let (mut world, group) = world_of(2, 0);
    let late = world.device("2222");
    world.run(5);
    world.deliver = false;
    world.grant(group, late);
    world.run(10);
    let id = world.nodes[late].id.clone();
    let (committer, welcome) = world.welcome(late, group);
    let keys = world.keys[&id].clone();
    world.catch_up(late);
    let now_ms = world.now_ms;
    for step in 0..150 {
        let (mut bad_welcome, mut bad_keys) = (welcome.clone(), keys.clone());
        let place = step * welcome.len() / 150;
        bad_welcome[place] ^= 1 << (step % 8);
        let place = step * keys.len() / 150;
        bad_keys[place] ^= 1 << (step % 8);
        world.deliver_welcome(late, group, &committer, &bad_welcome);
        assert_eq!(world.nodes[late].groups.as_ref().unwrap().epoch(group), None, "bit of byte {place}");
        world.with_groups(0, |groups, replica| groups.handle_keys(replica, &id, &bad_keys, now_ms));
        world.deliver_welcome(late, group, &committer, &welcome[..place.min(welcome.len())]);
    }
    world.deliver_welcome(late, group, &committer, &welcome);
    world.deliver = true;
    world.run(60);
    world.assert_members(group, &[0, 1, late]);
}
