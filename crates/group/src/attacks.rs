//! Members and devices that use the rules, or what others do by them, against the group.

use std::time::Duration;

use sealcast_ledger::{Body, Epoch, Generation, GroupNumber, Hash, KeysPublished};

use crate::{
    inboxes::Early,
    rogue::{assert_seen_alike, package, rogue, short_lived_package, submit, world},
    wire,
    world::World,
};

const DAY: Duration = Duration::from_secs(86_400);

/// Nobody has lost the group, and no log line tells anybody to revoke a device.
fn assert_unharmed(world: &World, group: GroupNumber, nodes: &[usize]) {
    assert_seen_alike(world, group);
    for node in nodes {
        let n = &world.nodes[*node];
        assert!(n.left.is_empty(), "{}: {:?}", n.id, n.left);
        assert!(!n.has_notice("device revoke") && !n.has_notice("group reset"), "{}: {:?}", n.id, n.notices);
    }
}

/// Publishes and broadcasts a key package of a device that runs no groups.
fn publish(world: &mut World, node: usize, package: &[u8], rejoin: bool) {
    let chain = world.nodes[node].chain.clone();
    let body = KeysPublished { key_package: Hash::of(package), certificate: Hash::of(&chain[0]), rejoin };
    submit(world, node, Body::KeysPublished(body));
    world.keys.insert(world.nodes[node].id.clone(), wire::write_keys(package, &chain));
}

/// A device that is granted the group and does as the test says.
fn hostile_device(world: &mut World, group: GroupNumber, lifetime: Duration) -> usize {
    let node = world.device_for("6666", lifetime);
    world.nodes[node].groups = None;
    world.grant(group, node);
    node
}

#[test]
fn a_key_package_is_verified_when_the_ledger_has_it_and_not_before() {
    const NO_PACKAGE: &str = "does not hold an MLS KeyPackage";
    let (mut world, group) = world();
    let hostile = hostile_device(&mut world, group, 365 * DAY);
    world.settle();
    let (id, chain, now_ms) = (world.nodes[hostile].id.clone(), world.nodes[hostile].chain.clone(), world.now_ms);
    for junk in 0..64 {
        let bytes = wire::write_keys(&[junk], &chain);
        world.with_groups(1, |groups, replica| groups.handle_keys(replica, &id, &bytes, now_ms));
    }
    world.pump(1);
    assert!(!world.nodes[1].has_notice(NO_PACKAGE), "{:?}", world.nodes[1].notices);
    publish(&mut world, hostile, &[63], false);
    world.catch_up(1);
    assert!(world.nodes[1].has_notice(NO_PACKAGE), "{:?}", world.nodes[1].notices);
    // Whichever of broadcast and record comes first.
    for is_broadcast_first in [true, false] {
        let real = short_lived_package(&world, hostile, 365 * DAY);
        let bytes = wire::write_keys(&real, &chain);
        let now_ms = world.now_ms;
        let is_usable = |world: &World| {
            let mut of_device = world.nodes[1].groups.iter().flat_map(|groups| groups.packages.of(&id));
            of_device.any(|package| package.message == real && package.until_s.is_some())
        };
        if is_broadcast_first {
            world.with_groups(1, |groups, replica| groups.handle_keys(replica, &id, &bytes, now_ms));
            assert!(!is_usable(&world));
        }
        publish(&mut world, hostile, &real, false);
        world.catch_up(1);
        assert_eq!(is_usable(&world), is_broadcast_first);
        world.with_groups(1, |groups, replica| groups.handle_keys(replica, &id, &bytes, now_ms));
        assert!(is_usable(&world));
    }
}

#[test]
fn hashes_of_key_packages_that_do_not_exist_make_no_commit_void() {
    let (mut world, group) = world();
    let hostile = hostile_device(&mut world, group, 365 * DAY);
    let real = short_lived_package(&world, hostile, 365 * DAY);
    publish(&mut world, hostile, &real, false);
    let number = world.number(hostile);
    // An honest committer has made its commit when the others come.
    let (_, commit) = rogue(&mut world, group, &[(number, real)], &[], None);
    let certificate = Hash::of(&world.nodes[hostile].chain[0]);
    for junk in 0..32 {
        let body = KeysPublished { key_package: Hash::of(&[junk]), certificate, rejoin: false };
        submit(&mut world, hostile, Body::KeysPublished(body));
    }
    submit(&mut world, 0, commit);
    for node in [1, 2] {
        world.catch_up(node);
        let keys = world.nodes[node].newest(group).unwrap();
        assert!(keys.roster.values().any(|(id, _)| id.as_str() == "6666"), "{:?}", world.nodes[node].notices);
    }
    assert_unharmed(&world, group, &[1, 2]);
}

/// What a device publishes ends while the commit that adds it is on its way: nobody is to blame, and nothing stops.
#[test]
fn keys_that_end_while_the_commit_is_on_its_way_stop_nobody() {
    // The key package ends, and the certificate.
    for (package_s, certificate_s) in [(12, 365 * 86_400), (400, 400)] {
        let (mut world, group) = world();
        world.lose_submissions.extend([0, 1, 2]);
        let hostile = hostile_device(&mut world, group, Duration::from_secs(certificate_s));
        let package = short_lived_package(&world, hostile, Duration::from_secs(package_s));
        publish(&mut world, hostile, &package, false);
        world.run(20);
        world.now_ms += package_s * 1000;
        world.lose_submissions.clear();
        world.run(90);
        assert_unharmed(&world, group, &[0, 1, 2]);
        world.assert_members(group, &[0, 1, 2]);
        let next = world.device("7777");
        world.grant(group, next);
        world.run(90);
        world.assert_members(group, &[0, 1, 2, next]);
    }
}

#[test]
fn a_short_lived_key_package_keeps_nobody_from_joining_later() {
    let (mut world, group) = world();
    let hostile = hostile_device(&mut world, group, 365 * DAY);
    let package = short_lived_package(&world, hostile, Duration::from_secs(12));
    publish(&mut world, hostile, &package, false);
    let number = world.number(hostile);
    let (_, commit) = rogue(&mut world, group, &[(number, package)], &[], None);
    submit(&mut world, 0, commit);
    world.run(60);
    let late = world.device("7777");
    world.grant(group, late);
    world.run(60);
    let keys = world.nodes[late].newest(group).expect("it has joined");
    assert_eq!(Some(&keys.secret), world.nodes[1].newest(group).map(|keys| &keys.secret));
    let blamed = world.nodes[late].notices.iter().any(|(device, _)| device.as_ref() == Some(&world.nodes[late].id));
    assert!(!blamed, "{:?}", world.nodes[late].notices);
    assert_unharmed(&world, group, &[1, 2]);
}

#[test]
fn nobody_is_removed_without_a_reason() {
    let (mut world, group) = world();
    let leaf = world.nodes[2].newest(group).unwrap().leaf;
    let before = world.nodes[2].newest(group).unwrap().epoch;
    for comes_back in [false, true] {
        let add = package(&world, 2);
        let adds = if comes_back { vec![add] } else { Vec::new() };
        let (_, commit) = rogue(&mut world, group, &adds, &[leaf], None);
        submit(&mut world, 0, commit);
        world.settle();
        assert!(world.nodes[1].has_notice("removes device 1113, and the ledger gives no reason to"));
    }
    assert_unharmed(&world, group, &[1, 2]);
    world.assert_members(group, &[0, 1, 2]);
    assert_eq!(world.nodes[2].newest(group).unwrap().epoch, before);
}

#[test]
fn epochs_without_a_cause_do_not_follow_each_other_until_the_retained_ones_are_gone() {
    let (mut world, group) = world();
    let before = world.nodes[1].newest(group).unwrap().epoch.0;
    for _ in 0..40 {
        let (_, commit) = rogue(&mut world, group, &[], &[], None);
        submit(&mut world, 0, commit);
        world.settle();
        world.now_ms += 500;
    }
    let kept = world.nodes[1].store.contains_key(&format!("epoch/{group}/{before:020}"));
    assert!(kept, "what is under way can still be read");
    assert_eq!(world.assert_members(group, &[0, 1, 2]) - before, 40, "one of the commits counts");
    assert_eq!(world.nodes[1].newest(group).unwrap().epoch.0, before + 1);
    assert_unharmed(&world, group, &[0, 1, 2]);
}

#[test]
fn a_member_that_asks_to_be_added_again_and_again_costs_no_more_epochs_than_one_that_does_not() {
    let (mut world, group) = world();
    let before = world.nodes[1].newest(group).unwrap().epoch.0;
    world.nodes[2].groups = None;
    for _ in 0..90 {
        let package = short_lived_package(&world, 2, 365 * DAY);
        publish(&mut world, 2, &package, true);
        world.run(1);
    }
    let epochs = world.nodes[1].newest(group).unwrap().epoch.0 - before;
    assert!((1..=4).contains(&epochs), "{epochs} epochs in 90 s");
    assert_unharmed(&world, group, &[0, 1]);
}

#[test]
fn a_founder_that_lets_nobody_in_is_not_waited_for() {
    let mut world = World::new();
    let group = world.group("hsu0001", 0);
    for name in ["1111", "1112", "1113", "1114"] {
        let node = world.device(name);
        world.grant(group, node);
    }
    let founder = (0..4).min_by_key(|node| world.number(*node)).unwrap();
    world.refuse_welcomes.insert(founder);
    world.run(50);
    let inside = |world: &World| (0..4).filter(|node| world.nodes[*node].newest(group).is_some()).collect::<Vec<_>>();
    assert_eq!(inside(&world), [founder], "it has founded the group");
    world.run(60);
    let replica = world.ledger.replica();
    assert_eq!(replica.group(group).unwrap().generation.0, 1, "the others have said that they get no keys");
    let (_, founded_at) = replica.commits_from(group, Epoch(0)).next().unwrap();
    assert_ne!(replica.commit_at(group, founded_at), Some((Epoch(0), world.number(founder))));
    world.run(60);
    // Nobody can tell whether the founder is to blame: it stays.
    world.assert_members(group, &[0, 1, 2, 3]);
    assert_seen_alike(&world, group);
}

#[test]
fn whoever_got_no_welcome_from_a_member_is_added_by_another() {
    let (mut world, group) = world();
    let fourth = world.device("6666");
    world.settle();
    world.lose_submissions.extend([0, 1, 2]);
    world.grant(group, fourth);
    let add = package(&world, fourth);
    let (_, commit) = rogue(&mut world, group, std::slice::from_ref(&add), &[], None);
    submit(&mut world, 0, commit);
    world.run(70);
    assert!(world.nodes[fourth].has_notice("gets no keys of the group"), "{:?}", world.nodes[fourth].notices);
    // Who has not let it in does not get to do so again at once, or could go on for ever.
    let certificate = Hash::of(&world.nodes[fourth].chain[0]);
    let seats = &world.nodes[1].groups.as_ref().unwrap().slots[&group].public.seats;
    let leaf = *seats.iter().find(|(_, seat)| seat.certificate == *certificate.as_bytes()).unwrap().0;
    let (_, commit) = rogue(&mut world, group, &[add], &[leaf], None);
    submit(&mut world, 0, commit);
    world.settle();
    assert!(world.nodes[1].has_notice("adds device 6666 again, which is for the others to do"));
    world.lose_submissions.clear();
    world.run(30);
    world.assert_members(group, &[0, 1, 2, fourth]);
    assert_unharmed(&world, group, &[1, 2]);
}

#[test]
fn a_commit_that_some_cannot_follow_keeps_nobody_out_for_long() {
    let (mut world, group) = world();
    world.now_ms += 60_000;
    world.nodes[0].groups.as_ref().unwrap().engine.crypto().spoil(1);
    let (_, commit) = rogue(&mut world, group, &[], &[], None);
    submit(&mut world, 0, commit);
    world.lose_submissions.insert(0);
    world.catch_up(1);
    world.catch_up(2);
    let behind = |world: &World| [1, 2].map(|node| !world.nodes[node].left.is_empty());
    assert!(behind(&world).contains(&true) && behind(&world).contains(&false), "{:?}", behind(&world));
    world.run(60);
    world.assert_members(group, &[0, 1, 2]);
    assert_eq!(world.ledger.replica().group(group).unwrap().generation.0, 0);
    assert_seen_alike(&world, group);
}

/// MLS would take it. Its receiver could not follow the next honest member, and would report that one.
#[test]
fn a_welcome_without_its_path_secret_is_refused() {
    let (mut world, group) = world();
    world.deliver = false;
    let fourth = world.device("6666");
    world.settle();
    world.grant(group, fourth);
    world.settle();
    let add = package(&world, fourth);
    let without = rogue(&mut world, group, std::slice::from_ref(&add), &[], None).0;
    assert_eq!(wire::has_path_secret(&without.welcomes[0].1), Ok(false), "a commit that only adds has no path");
    let leaf = world.nodes[2].newest(group).unwrap().leaf;
    let built = rogue(&mut world, group, std::slice::from_ref(&add), &[leaf], None).0;
    assert_eq!(wire::has_path_secret(&built.welcomes[0].1), Ok(true));

    let (built, commit) = rogue(&mut world, group, &[add], &[], None);
    submit(&mut world, 0, commit);
    world.catch_up(fourth);
    let payload = wire::write_inbox(&built.welcomes[0].1, &built.tree);
    world.with_groups(fourth, |groups, _| {
        groups.slots.get_mut(&group).unwrap().invitation.as_mut().unwrap().has_path = true;
    });
    let committer = world.nodes[0].id.clone();
    world.deliver_welcome(fourth, group, &committer, &payload);
    assert!(world.nodes[fourth].has_notice("lacks the path secret"), "{:?}", world.nodes[fourth].notices);
    assert!(world.nodes[fourth].newest(group).is_none());
}

/// A member that writes into the newcomer's inbox whatever the broker lets it: before the ledger has the commit, and
/// after it.
#[test]
fn no_member_pushes_out_the_welcome_of_another() {
    for before in [true, false] {
        let (mut world, group) = world();
        let late = world.device("6666");
        world.settle();
        let add = package(&world, late);
        let mut made_up = || {
            let built = rogue(&mut world, group, std::slice::from_ref(&add), &[], None).0;
            wire::write_inbox(&built.welcomes[0].1, &built.tree)
        };
        let flood: Vec<_> = (0..8).map(|_| made_up()).chain([b"junk".to_vec()]).collect();
        // An honest member lets it in, and it has not heard so.
        world.lose_submissions.insert(0);
        world.grant(group, late);
        world.catch_up(late);
        world.nodes[late].online = false;
        world.run(10);
        let (author, genuine) = world.welcome(late, group);
        let hostile = world.nodes[0].id.clone();
        assert_ne!(author, hostile);
        if !before {
            world.catch_up(late);
        }
        for payload in flood.iter().chain([&genuine]) {
            world.deliver_welcome(late, group, &hostile, payload);
        }
        if before {
            world.deliver_welcome(late, group, &author, &genuine);
            world.inboxes.clear();
            world.catch_up(late);
        } else {
            assert!(world.nodes[late].newest(group).is_none(), "a Welcome of somebody else's");
            assert!(world.inboxes.contains_key(&(world.nodes[late].id.clone(), group, author.clone())));
            world.deliver_welcome(late, group, &author, &genuine);
        }
        // No time has passed in which it could have asked for another.
        assert!(world.nodes[late].newest(group).is_some(), "{:?}", world.nodes[late].notices);
        assert!(!world.nodes[late].has_notice("gets no keys"));
        world.nodes[late].online = true;
        world.settle();
        world.assert_members(group, &[0, 1, 2, late]);
        assert!(world.inboxes.is_empty(), "it has tidied up: {:?}", world.inboxes.keys());
    }
}

/// Many members together can fill all places. That keeps nobody out who knows the commit already.
#[test]
fn a_welcome_whose_commit_is_on_the_ledger_needs_no_place() {
    let (mut world, group) = world();
    let late = world.device("6666");
    world.settle();
    world.deliver = false;
    world.grant(group, late);
    world.run(10);
    let (author, genuine) = world.welcome(late, group);
    world.with_groups(late, |groups, _| {
        let mut fill = |member: usize| {
            let early = Early { leads_to: (Generation(0), 99), payload: vec![0; genuine.len() - 1] };
            groups.inboxes.hold(group, &member.to_string().parse().unwrap(), early).is_ok()
        };
        let taken = (10_000..).take_while(|member| fill(*member)).count();
        assert!(taken > 1_000, "{taken}");
    });
    world.deliver_welcome(late, group, &author, &genuine);
    world.assert_members(group, &[0, 1, 2, late]);
}

/// One member spoils one other's way at each commit, and adds it again without a Welcome before the others do.
#[test]
fn a_member_does_not_keep_another_one_out_for_most_of_the_time() {
    let (mut world, group) = world();
    for name in ["1114", "1115", "1116"] {
        let node = world.device(name);
        world.grant(group, node);
    }
    world.run(120);
    let (mut inside_s, mut spoilt) = (0, 0);
    world.lose_submissions.insert(0);
    let victim = (1..6)
        .find(|node| {
            world.nodes[*node]
                .newest(group)
                .is_some_and(|keys| keys.leaf == world.nodes[0].newest(group).unwrap().leaf ^ 1)
        })
        .unwrap();
    let seat = |world: &World| {
        let certificate = Hash::of(&world.nodes[victim].chain[0]);
        let slot = &world.nodes[0].groups.as_ref().unwrap().slots[&group];
        slot.public.seats.iter().find(|(_, seat)| seat.certificate == *certificate.as_bytes()).map(|(leaf, _)| *leaf)
    };
    const OBSERVED_S: u32 = 1_800;
    for _ in 0..OBSERVED_S {
        world.run(1);
        let Some(current) = world.nodes[0].newest(group).map(|keys| keys.epoch) else { continue };
        let is_in = world.nodes[victim].newest(group).is_some_and(|keys| keys.epoch == current)
            && world.nodes[victim].groups.as_ref().unwrap().slots[&group].group.is_some();
        inside_s += u32::from(is_in);
        world.catch_up(0);
        let groups = world.nodes[0].groups.as_ref().unwrap();
        let age_s = (world.now_ms / 1000).saturating_sub(groups.slots[&group].public.since_s);
        if is_in && age_s >= 31 {
            // The first path secret is for the neighbour alone.
            world.nodes[0].groups.as_ref().unwrap().engine.crypto().spoil(1);
            let (_, commit) = rogue(&mut world, group, &[], &[], None);
            world.nodes[0].groups.as_ref().unwrap().engine.crypto().spoil(0);
            submit(&mut world, 0, commit);
            spoilt += 1;
            world.settle();
            // The victim has said so. Whoever it has blamed adds it again at once, and sends no Welcome.
            world.catch_up(0);
            if let Some(leaf) = seat(&world) {
                let add = package(&world, victim);
                let (_, commit) = rogue(&mut world, group, &[add], &[leaf], None);
                submit(&mut world, 0, commit);
                world.settle();
            }
        }
    }
    assert!(world.ledger.replica().is_granted(group, world.number(0)), "put out: no finding");
    assert!(spoilt > 10, "{spoilt}");
    assert!(inside_s * 4 > OBSERVED_S * 3, "inside for {inside_s} s; {spoilt} spoilt commits");
}
