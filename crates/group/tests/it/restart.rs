//! Crashes at every point: what was persisted is all that is left.

use sealcast_group::Output;
use sealcast_ledger::GroupNumber;

use crate::{
    life::world_of,
    world::{Node, World},
};

/// Runs a story again and again, and crashes `node` before its n-th output each time, for all n.
fn crash_everywhere(node: usize, story: impl Fn(&mut World, GroupNumber), check: impl Fn(&World, GroupNumber)) {
    for crash_after in 0..200 {
        let (mut world, group) = world_of(3, 0);
        world.nodes[node].crash_after = Some(crash_after);
        story(&mut world, group);
        world.run(20);
        let crashed = world.nodes[node].groups.is_none();
        if crashed {
            world.start(node);
        }
        world.nodes[node].crash_after = None;
        world.run(200);
        check(&world, group);
        if !crashed {
            assert!(crash_after > 2, "the story has outputs to crash at");
            return;
        }
    }
    panic!("the story never ends");
}

fn adder(world: &World, group: GroupNumber) -> usize {
    let first = world.nodes[0].newest(group).unwrap().roster.first_key_value().unwrap().1.0.clone();
    world.nodes.iter().position(|node| node.id == first).unwrap()
}

#[test]
fn the_committer_crashes_while_it_adds() {
    let committer = adder(&world_of(3, 0).0, GroupNumber::new(1).unwrap());
    crash_everywhere(
        committer,
        |world, group| {
            let fourth = world.device("2222");
            world.grant(group, fourth);
        },
        |world, group| {
            world.assert_members(group, &[0, 1, 2, 3]);
        },
    );
}

#[test]
fn the_joiner_crashes_while_it_joins() {
    for crash_after in 0..12 {
        let (mut world, group) = world_of(3, 0);
        let fourth = world.device("2222");
        world.grant(group, fourth);
        world.nodes[fourth].crash_after = Some(crash_after);
        world.run(20);
        if world.nodes[fourth].groups.is_none() {
            world.start(fourth);
        }
        world.nodes[fourth].crash_after = None;
        world.run(200);
        world.assert_members(group, &[0, 1, 2, fourth]);
    }
}

#[test]
fn a_member_crashes_while_others_commit() {
    crash_everywhere(
        2,
        |world, group| {
            world.revoke(group, 1);
            world.run(10);
            world.request_update(0, group);
        },
        |world, group| {
            world.assert_members(group, &[0, 2]);
        },
    );
}

#[test]
fn the_founder_crashes() {
    for crash_after in 0..12 {
        let mut world = World::new();
        let group = world.group("hsu0001", 0);
        for name in ["1111", "1112"] {
            let node = world.device(name);
            world.grant(group, node);
        }
        world.nodes[0].crash_after = Some(crash_after);
        world.run(20);
        if world.nodes[0].groups.is_none() {
            world.start(0);
        }
        world.nodes[0].crash_after = None;
        world.run(200);
        world.assert_members(group, &[0, 1]);
    }
}

#[test]
fn the_ledger_has_a_commit_that_its_maker_has_not_heard_of() {
    let (mut world, group) = world_of(3, 0);
    let before = world.assert_members(group, &[0, 1, 2]);
    // It persists, submits, and dies before the record comes back.
    world.request_update(0, group);
    world.nodes[0].groups = None;
    world.run(10);
    world.start(0);
    world.run(10);
    assert_eq!(world.assert_members(group, &[0, 1, 2]), before + 1);
}

#[test]
fn epochs_are_handed_out_again_after_a_restart() {
    let (mut world, group) = world_of(3, 0);
    for node in [0, 1, 2, 0, 1] {
        world.request_update(node, group);
        world.run(40);
    }
    let latest = world.assert_members(group, &[0, 1, 2]);
    world.start(0);
    let Node { epochs: known, groups, .. } = &mut world.nodes[0];
    let groups = groups.as_mut().unwrap();
    let mut again = Vec::new();
    while let Some(output) = groups.poll_output() {
        if let Output::Epoch(keys) = output {
            assert_eq!(keys, known[&(group.get(), 0, keys.epoch.0)]);
            again.push(keys.epoch.0);
        }
    }
    // The last one is sealed under.
    assert_eq!(again, [latest - 3, latest - 2, latest - 1, latest], "the present one and three retained, oldest first");
}

#[test]
fn a_welcome_that_may_not_have_gone_out_goes_out_once_more() {
    let (mut world, group) = world_of(3, 0);
    let node = adder(&world, group);
    let fourth = world.device("2222");
    world.grant(group, fourth);
    world.run(20);
    world.assert_members(group, &[0, 1, 2, fourth]);
    let welcomes =
        |world: &World| world.old_inboxes.iter().filter(|((id, ..), _)| *id == world.nodes[fourth].id).count();
    let before = welcomes(&world);
    world.start(node);
    world.pump(node);
    assert_eq!(welcomes(&world), before, "the ledger may say more");
    for _ in 0..2 {
        world.catch_up(node);
        assert_eq!(welcomes(&world), before + 1);
    }
    // The next commit makes it void.
    world.request_update(0, group);
    world.run(20);
    world.start(node);
    world.catch_up(node);
    assert_eq!(welcomes(&world), before + 1);
}

#[test]
fn a_welcome_goes_out_before_what_came_after_its_commit() {
    let (mut world, group) = world_of(3, 0);
    let node = adder(&world, group);
    let fourth = world.device("2222");
    world.run(5);
    world.nodes[fourth].online = false;
    world.grant(group, fourth);
    world.run(20);
    world.inboxes.clear();
    world.nodes[node].groups = None;
    world.request_update((node + 1) % 3, group);
    world.run(20);
    world.nodes[fourth].online = true;
    world.start(node);
    // No time passes in which the Welcome could be asked for again.
    world.settle();
    world.assert_members(group, &[0, 1, 2, fourth]);
}
