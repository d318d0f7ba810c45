//! Every way around the two-key rule, by members who do not keep to it.

use std::{collections::BTreeSet, time::Duration};

use sealcast_identity::{DeviceId, Root, SigningKey};
use sealcast_ledger::{Body, Commit, Epoch, Generation, GroupNumber, Hash, KeysPublished, Number};

use crate::{
    LeftReason,
    mls::{Built, Engine},
    trust::Trust,
    wire,
    world::{Node, World, chain},
};

const DAY: Duration = Duration::from_secs(86_400);

/// Three members (0, 1, 2) of one group.
fn world() -> (World, GroupNumber) {
    let mut world = World::new();
    let group = world.group("hsu0001", 0);
    for name in ["1111", "1112", "1113"] {
        let node = world.device(name);
        world.grant(group, node);
    }
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
    (world, group)
}

/// A commit that member 0 makes against the rules.
fn rogue(
    world: &mut World,
    group: GroupNumber,
    adds: &[(Number, Vec<u8>)],
    removes: &[u32],
    head: Option<Vec<u8>>,
) -> (Built, Body) {
    world.catch_up(0);
    let now_s = world.now_ms / 1000;
    let Node { groups, replica, .. } = &mut world.nodes[0];
    let groups = groups.as_mut().unwrap();
    let head = head.unwrap_or_else(|| wire::write_ledger_head(replica.height(), replica.head().as_bytes()));
    let slot = groups.slots.get_mut(&group).unwrap();
    let (epoch, generation) = (Epoch(slot.epoch().unwrap()), Generation(slot.generation));
    let built = groups.engine.commit(slot.group.as_mut().unwrap(), adds, removes, false, head, now_s).unwrap();
    let body = Body::Commit(Commit { group, generation, epoch, commit: built.commit.clone() });
    (built, body)
}

/// Member 0's commit is on the ledger; 1 and 2 must stop with this reason, which must name all of these.
fn refused(world: &mut World, body: Body, reason: &[&str]) {
    let (number, key) = (world.number(0), world.nodes[0].key());
    world.submit(number, &key, body).unwrap();
    let epochs: Vec<_> = [1, 2].map(|node| world.nodes[node].epochs.len()).into();
    for node in [1, 2] {
        world.catch_up(node);
        let n = &world.nodes[node];
        let stopped = |text: &str| text.contains("stopped here") && reason.iter().all(|part| text.contains(part));
        assert!(n.notices.iter().any(|(_, notice)| stopped(&notice.to_string())), "{reason:?}: {:?}", n.notices);
        assert_eq!(n.epochs.len(), epochs[node - 1], "no keys of the refused epoch");
        assert_gone(world, node);
        // Nor are they there after a restart.
        world.nodes[node].left.clear();
        world.start(node);
        world.pump(node);
        assert_eq!(world.nodes[node].epochs.len(), epochs[node - 1]);
        assert_gone(world, node);
    }
}

/// The device has told its data plane to forget the group, and holds no key of it.
fn assert_gone(world: &World, node: usize) {
    let n = &world.nodes[node];
    assert!(n.left.iter().any(|(_, reason)| matches!(reason, LeftReason::Stopped(_))), "{:?}", n.left);
    assert!(!n.store.keys().any(|key| key.starts_with("epoch/") || key.starts_with("mls/")), "{:?}", n.store.keys());
}

/// The key package that a device has broadcast.
fn package(world: &World, node: usize) -> (Number, Vec<u8>) {
    let bytes = &world.keys[&world.nodes[node].id];
    (world.number(node), wire::read_keys(bytes).unwrap().0.to_vec())
}

/// A key package that is made outside of `Groups`.
fn foreign_package(key: &SigningKey, chain: &[Vec<u8>], now_ms: u64) -> Vec<u8> {
    let engine = Engine::new(key, chain, Trust::new(Vec::new(), now_ms)).unwrap();
    engine.new_key_package(now_ms / 1000).unwrap().message
}

#[test]
fn a_device_that_is_not_granted() {
    let (mut world, group) = world();
    let stranger = world.device("6666");
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
    let add = package(&world, stranger);
    let (_, body) = rogue(&mut world, group, &[add], &[], None);
    refused(&mut world, body, &["6666", "not granted group 1"]);
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
    refused(&mut world, body, &["6666", "lost its grant of group 1"]);
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
    refused(&mut world, body, &["6666", "revoked from all groups"]);
}

#[test]
fn a_device_that_must_go_and_is_left_in() {
    let (mut world, group) = world();
    world.revoke(group, 2);
    let (_, body) = rogue(&mut world, group, &[], &[], None);
    let (number, key) = (world.number(0), world.nodes[0].key());
    world.submit(number, &key, body).unwrap();
    world.catch_up(1);
    assert!(world.nodes[1].has_notice("keeps a device that must be removed: device 1113 lost its grant of group 1"));
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
    refused(&mut world, body, &["\"6666\" has a certificate from another CA"]);
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
    refused(&mut world, body, &[text]);
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
    refused(&mut world, body, &["\"6666\" expired at"]);
}

#[test]
fn a_ca_certificate_as_a_leaf() {
    let (mut world, group) = world();
    let authority = world.ca.authority.certificate().clone();
    let key = SigningKey::from_pkcs8_der(world.ca.authority.key().to_pkcs8_der()).unwrap();
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
    let now_ms = world.now_ms;
    world.with_groups(fourth, |groups, replica| groups.handle_inbox(replica, group, &payload, now_ms));
    world.pump(fourth);
    let text = "belongs to a commit that is not on the ledger";
    assert!(world.nodes[fourth].has_notice(text), "{:?}", world.nodes[fourth].notices);
    // The right one is still good.
    world.deliver = true;
    world.run(200);
    world.assert_members(group, &[0, 1, 2, fourth]);
}

#[test]
fn a_committer_with_another_ledger() {
    let (mut world, group) = world();
    let count = world.ledger.replica().height();
    let (_, body) = rogue(&mut world, group, &[], &[], Some(wire::write_ledger_head(count, &[6; 32])));
    refused(&mut world, body, &["was shown another ledger than this device"]);
}

#[test]
fn a_committer_that_claims_an_old_ledger() {
    let (mut world, group) = world();
    let head = *world.ledger.replica().genesis().head().as_bytes();
    let (_, body) = rogue(&mut world, group, &[], &[], Some(wire::write_ledger_head(0, &head)));
    refused(&mut world, body, &["names ledger entry 0"]);
}

#[test]
fn a_commit_under_another_name() {
    let (mut world, group) = world();
    let (_, body) = rogue(&mut world, group, &[], &[], None);
    let (number, key) = (world.number(1), world.nodes[1].key());
    world.submit(number, &key, body).unwrap();
    world.catch_up(2);
    assert!(world.nodes[2].has_notice(", which put it on the ledger"), "{:?}", world.nodes[2].notices);
}

#[test]
fn bytes_that_are_no_commit() {
    let (mut world, group) = world();
    let (_, Body::Commit(mut commit)) = rogue(&mut world, group, &[], &[], None) else { unreachable!() };
    commit.commit = b"garbage".to_vec();
    let epoch_rows: Vec<_> =
        world.nodes[1].store.clone().into_iter().filter(|(k, _)| k.starts_with("epoch/")).collect();
    assert!(!epoch_rows.is_empty());
    let named = "commit by device 1111";
    refused(&mut world, Body::Commit(commit.clone()), &["does not hold an MLS commit", named, "group reset"]);
    // An older version left the keys with the stopped group: they are not handed out.
    world.nodes[1].store.extend(epoch_rows);
    world.nodes[1].epochs.clear();
    world.start(1);
    world.pump(1);
    assert!(world.nodes[1].epochs.is_empty());
    assert_gone(&world, 1);
    // Revoking whoever did it does not bring the group back.
    world.revoke(group, 0);
    world.run(60);
    assert!([1, 2].iter().all(|node| world.nodes[*node].groups.as_ref().unwrap().epoch(group).is_none()));
    world.grant(group, 0);
    // A reset brings everybody back.
    world.reset(group);
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
}

#[test]
fn a_commit_with_a_changed_byte() {
    let (mut world, group) = world();
    let (_, Body::Commit(mut commit)) = rogue(&mut world, group, &[], &[], None) else { unreachable!() };
    let middle = commit.commit.len() / 2;
    commit.commit[middle] ^= 1;
    refused(&mut world, Body::Commit(commit), &["MLS refuses it"]);
}
