//! Every way around the two-key rule, by members who do not keep to it.

use std::{collections::BTreeSet, time::Duration};

use sealcast_identity::{DeviceId, Root, SigningKey};
use sealcast_ledger::{Body, Commit, GroupNumber, Hash, KeysPublished};

use crate::{
    LeftReason,
    rogue::{assert_seen_alike, foreign_package, package, rogue, submit, world},
    wire,
    world::{World, chain},
};

const DAY: Duration = Duration::from_secs(86_400);

/// Member 0's commit is on the ledger; 1 and 2 must pass it over for this reason, which must name all of these.
fn void(world: &mut World, group: GroupNumber, body: Body, reason: &[&str]) {
    submit(world, 0, body);
    for node in [1, 2] {
        let before = world.nodes[node].epochs.len();
        world.catch_up(node);
        let n = &world.nodes[node];
        let named = |text: &str| text.contains("is void") && reason.iter().all(|part| text.contains(part));
        assert!(n.notices.iter().any(|(_, notice)| named(&notice.to_string())), "{reason:?}: {:?}", n.notices);
        assert!(!n.notices.iter().any(|(_, notice)| notice.to_string().contains("device revoke")), "{:?}", n.notices);
        assert_eq!(n.epochs.len(), before, "no keys of the void epoch");
        assert!(n.left.is_empty(), "{:?}", n.left);
        world.start(node);
        world.pump(node);
        let n = &world.nodes[node];
        assert_eq!(n.epochs.len(), before, "nor after a restart");
        assert_eq!(n.on_ledger[&group], world.ledger.replica().group(group).unwrap().epoch);
    }
    // The group goes on, with whoever joins next.
    let next = world.device("9999");
    world.grant(group, next);
    world.run(60);
    let keys = world.nodes[1].newest(group).unwrap();
    let names: BTreeSet<_> = keys.roster.values().map(|(id, _)| id).collect();
    assert!(names.contains(&world.nodes[next].id), "{names:?}");
    let members: Vec<_> = (0..world.nodes.len()).filter(|node| names.contains(&world.nodes[*node].id)).collect();
    world.assert_members(group, &members);
    assert_seen_alike(world, group);
}

#[test]
fn a_device_that_is_not_granted() {
    let (mut world, group) = world();
    let stranger = world.device("6666");
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
    let add = package(&world, stranger);
    let (_, body) = rogue(&mut world, group, &[add], &[], None);
    void(&mut world, group, body, &["6666", "not granted group 1"]);
}

#[test]
fn a_device_whose_grant_was_revoked() {
    let (mut world, group) = world();
    let fourth = world.device("6666");
    world.grant(group, fourth);
    world.run(60);
    world.revoke(group, fourth);
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
    let add = package(&world, fourth);
    let (_, body) = rogue(&mut world, group, &[add], &[], None);
    void(&mut world, group, body, &["6666", "lost its grant of group 1"]);
}

#[test]
fn a_device_that_was_revoked_as_a_whole() {
    let (mut world, group) = world();
    let fourth = world.device("6666");
    world.grant(group, fourth);
    world.run(60);
    world.revoke_device(fourth);
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
    let add = package(&world, fourth);
    let (_, body) = rogue(&mut world, group, &[add], &[], None);
    void(&mut world, group, body, &["6666", "revoked from all groups"]);
}

#[test]
fn a_device_that_must_go_and_is_left_in() {
    let (mut world, group) = world();
    world.revoke(group, 2);
    let (_, body) = rogue(&mut world, group, &[], &[], None);
    submit(&mut world, 0, body);
    world.catch_up(1);
    assert!(world.nodes[1].has_notice("keeps a device that must be removed: device 1113 lost its grant of group 1"));
    world.run(60);
    world.assert_members(group, &[0, 1]);
}

#[test]
fn a_certificate_of_another_ca() {
    let (mut world, group) = world();
    let other = Root::create("other", world.now_ms, 100 * DAY).unwrap();
    let authority = other.create_authority("other", world.now_ms, 100 * DAY).unwrap();
    let (id, key): (DeviceId, _) = ("6666".parse().unwrap(), SigningKey::generate().unwrap());
    let issued = authority.issue_device(&id, key.public(), world.now_ms, DAY).unwrap();
    // Even the ledger has it.
    world.register(&id, &issued);
    let node = world.add_node(id.clone(), &key, chain(&issued));
    world.grant(group, node);
    world.start(node);
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
    assert!(world.nodes[1].has_notice("\"6666\" has a certificate from another CA"), "{:?}", world.nodes[1].notices);

    // A member that does not look, because it trusts both.
    let add = package(&world, node);
    let anchors = vec![world.ca.anchor(), sealcast_identity::TrustAnchor::new(other.certificate().clone()).unwrap()];
    world.start_with(0, anchors);
    world.catch_up(0);
    let (_, body) = rogue(&mut world, group, &[add], &[], None);
    // Whether a chain leads to the root is not on the ledger: who knows one root alone stays out of such a group.
    submit(&mut world, 0, body);
    for node in [1, 2] {
        world.catch_up(node);
        assert_behind(&world, node, "\"6666\" has a certificate from another CA");
    }
}

#[test]
fn a_key_package_that_is_not_on_the_ledger() {
    let (mut world, group) = world();
    world.lose_submissions.insert(3);
    let fourth = world.device("6666");
    world.grant(group, fourth);
    world.run(90);
    world.assert_members(group, &[0, 1, 2]);
    let text = "of device 6666 is not on the ledger";
    assert!(world.nodes[1].has_notice(text), "{:?}", world.nodes[1].notices);
    let add = package(&world, fourth);
    let (_, body) = rogue(&mut world, group, &[add], &[], None);
    void(&mut world, group, body, &[text]);
}

#[test]
fn a_key_package_of_long_ago_is_still_the_devices_own() {
    let (mut world, group) = world();
    let fourth = world.device("6666");
    world.run(5);
    let add = package(&world, fourth);
    world.nodes[fourth].online = false;
    let (number, key) = (world.number(fourth), world.nodes[fourth].key());
    let certificate = Hash::of(&world.nodes[fourth].chain[0]);
    for later in 0..20 {
        let key_package = Hash::of(&[later]);
        let body = Body::KeysPublished(KeysPublished { key_package, certificate, rejoin: false });
        world.submit(number, &key, body).unwrap();
    }
    world.grant(group, fourth);
    let (_, body) = rogue(&mut world, group, &[add], &[], None);
    let (number, key) = (world.number(0), world.nodes[0].key());
    world.submit(number, &key, body).unwrap();
    for node in [1, 2] {
        world.catch_up(node);
        let n = &world.nodes[node];
        let keys = n.newest(group).unwrap();
        let members: BTreeSet<_> = keys.roster.values().map(|(id, _)| id.as_str()).collect();
        assert_eq!(members, BTreeSet::from(["1111", "1112", "1113", "6666"]), "{:?}", n.notices);
    }
}

#[test]
fn an_expired_certificate() {
    let (mut world, group) = world();
    let fourth = world.device_for("6666", DAY);
    world.grant(group, fourth);
    world.run(60);
    world.assert_members(group, &[0, 1, 2, fourth]);
    let add = package(&world, fourth);
    world.now_ms += 2 * 86_400_000;
    world.run(60);
    // A member that has expired is removed...
    world.assert_members(group, &[0, 1, 2]);
    // ... its keys are not taken up again ...
    world.start(1);
    world.catch_up(1);
    world.deliver_retained(1);
    assert!(world.nodes[1].has_notice("\"6666\" expired at"), "{:?}", world.nodes[1].notices);
    // ... and nobody can add it, not even one whose clock is behind.
    world.now_ms -= 2 * 86_400_000;
    let (_, body) = rogue(&mut world, group, &[add], &[], None);
    world.now_ms += 2 * 86_400_000;
    void(&mut world, group, body, &["device 6666 expired at"]);
}

#[test]
fn a_ca_certificate_as_a_leaf() {
    let (mut world, group) = world();
    let authority = world.ca.authority.certificate().clone();
    let key = world.ca.authority.key().clone();
    let chain = vec![authority.der().to_vec()];
    let message = foreign_package(&key, &chain, world.now_ms);
    let id: DeviceId = "6666".parse().unwrap();
    world.keys.insert(id, wire::write_keys(&message, &chain));
    world.run(5);
    assert!(world.nodes[1].has_notice("is a CA certificate"), "{:?}", world.nodes[1].notices);
    world.assert_members(group, &[0, 1, 2]);
}

#[test]
fn a_key_package_of_another_device() {
    let (mut world, group) = world();
    let fourth = world.device("6666");
    world.settle();
    let bytes = world.keys[&world.nodes[fourth].id].clone();
    let now_ms = world.now_ms;
    let liar: DeviceId = "7777".parse().unwrap();
    world.with_groups(1, |groups, replica| groups.handle_keys(replica, &liar, &bytes, now_ms));
    world.pump(1);
    assert!(
        world.nodes[1].has_notice("the MLS leaf of device 7777 has another key or name"),
        "{:?}",
        world.nodes[1].notices
    );
    world.assert_members(group, &[0, 1, 2]);
}

#[test]
fn a_welcome_whose_commit_is_not_on_the_ledger() {
    let (mut world, group) = world();
    let fourth = world.device("6666");
    world.settle();
    world.grant(group, fourth);
    let add = package(&world, fourth);
    let (built, _) = rogue(&mut world, group, &[add], &[], None);
    let payload = wire::write_inbox(&built.welcomes[0].1, &built.tree);
    // The ledger takes another commit for the epoch, by which the device is a member as well.
    world.deliver = false;
    world.catch_up(1);
    world.now_ms += 2_000;
    world.run(20);
    world.catch_up(fourth);
    let (author, good) = world.welcome(fourth, group);
    // Not even from whoever made the commit that the ledger has.
    world.deliver_welcome(fourth, group, &author, &payload);
    let text = "belongs to a commit that is not on the ledger";
    assert!(world.nodes[fourth].has_notice(text), "{:?}", world.nodes[fourth].notices);
    world.deliver_welcome(fourth, group, &author, &good);
    world.assert_members(group, &[0, 1, 2, fourth]);
}

#[test]
fn a_committer_with_another_ledger() {
    let (mut world, group) = world();
    let count = world.ledger.replica().height();
    let (_, body) = rogue(&mut world, group, &[], &[], Some(wire::write_ledger_head(count, &[6; 32])));
    void(&mut world, group, body, &["names another ledger than this device"]);
}

#[test]
fn a_committer_that_claims_an_old_ledger() {
    let (mut world, group) = world();
    let head = *world.ledger.replica().genesis().head().as_bytes();
    let (_, body) = rogue(&mut world, group, &[], &[], Some(wire::write_ledger_head(0, &head)));
    void(&mut world, group, body, &["names ledger entry 0"]);
}

#[test]
fn a_commit_under_another_name() {
    let (mut world, group) = world();
    let (_, body) = rogue(&mut world, group, &[], &[], None);
    submit(&mut world, 1, body);
    world.catch_up(2);
    assert!(world.nodes[2].has_notice(", which put it on the ledger"), "{:?}", world.nodes[2].notices);
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
}

#[test]
fn bytes_that_are_no_commit() {
    let (mut world, group) = world();
    let (_, Body::Commit(mut commit)) = rogue(&mut world, group, &[], &[], None) else { unreachable!() };
    commit.commit = b"garbage".to_vec();
    void(&mut world, group, Body::Commit(commit), &["does not hold an MLS commit", "commit of device 1111"]);
}

#[test]
fn a_commit_with_something_behind_it() {
    let (mut world, group) = world();
    let (_, Body::Commit(mut commit)) = rogue(&mut world, group, &[], &[], None) else { unreachable!() };
    commit.commit.push(0);
    void(&mut world, group, Body::Commit(commit), &["does not hold an MLS commit"]);
}

#[test]
fn a_commit_of_an_epoch_that_is_over() {
    let (mut world, group) = world();
    let (_, Body::Commit(old)) = rogue(&mut world, group, &[], &[], None) else { unreachable!() };
    world.request_update(1, group);
    world.settle();
    let (epoch, generation) = (world.ledger.replica().group(group).unwrap().epoch, old.generation);
    void(&mut world, group, Body::Commit(Commit { epoch, generation, ..old }), &["another MLS group or epoch"]);
}

#[test]
fn a_commit_that_no_member_can_follow() {
    let (mut world, group) = world();
    let (_, Body::Commit(mut commit)) = rogue(&mut world, group, &[], &[], None) else { unreachable!() };
    // The membership tag, which everybody takes for granted but the members.
    *commit.commit.last_mut().unwrap() ^= 1;
    submit(&mut world, 0, Body::Commit(commit));
    for node in [1, 2] {
        world.catch_up(node);
        assert_behind(&world, node, "MLS refuses it");
    }
    // Two of three say so: the group goes on without whoever made it.
    world.run(60);
    world.assert_members(group, &[1, 2]);
    assert!(!world.ledger.replica().is_granted(group, world.number(0)));
    assert_seen_alike(&world, group);
    for node in [1, 2] {
        assert!(!world.nodes[node].has_notice("device revoke"), "{:?}", world.nodes[node].notices);
    }
}

/// The device has left the group for this reason, and holds no key of it.
fn assert_behind(world: &World, node: usize, reason: &str) {
    let n = &world.nodes[node];
    let behind = |text: &str| text.contains("cannot follow a commit of device 1111") && text.contains(reason);
    assert!(n.notices.iter().any(|(_, notice)| behind(&notice.to_string())), "{:?}", n.notices);
    assert!(n.left.iter().any(|(_, reason)| matches!(reason, LeftReason::Behind(_))), "{:?}", n.left);
    assert!(!n.store.keys().any(|key| key.starts_with("epoch/") || key.starts_with("mls/")), "{:?}", n.store.keys());
}
