//! Private parts of key packages: kept while a Welcome may need them, and no longer.

use crate::{life::world_of, world::World};

/// How many private parts of key packages are on a device's disk.
fn private_parts(world: &World, node: usize) -> usize {
    world.nodes[node].store.keys().filter(|key| key.starts_with("own/")).count()
}

#[test]
fn the_private_part_of_a_used_key_package_is_forgotten() {
    let (mut world, group) = world_of(2, 0);
    let late = world.device("2222");
    world.settle();
    world.deliver = false;
    world.grant(group, late);
    world.run(5);
    let (committer, welcome) = world.welcome(late, group);
    world.deliver = true;
    world.settle();
    world.assert_members(group, &[0, 1, late]);
    assert_eq!(private_parts(&world, late), 2, "another commit with the used one may be under way");
    world.run(55);
    assert_eq!(private_parts(&world, late), 2, "not before its time");
    world.run(10);
    assert_eq!(private_parts(&world, late), 1);
    // What a thief has recorded opens no more, and says nothing to a member: the hub, too, gives it again.
    world.nodes[late].notices.clear();
    world.deliver_welcome(late, group, &committer, &welcome);
    assert!(world.nodes[late].notices.is_empty(), "{:?}", world.nodes[late].notices);
    world.assert_members(group, &[0, 1, late]);
    // The present one is good, also for a second group.
    let second = world.group("hsu0002", 0);
    for node in [0, late] {
        world.grant(second, node);
    }
    world.run(90);
    world.assert_members(second, &[0, late]);
    assert_eq!((0..3).map(|node| private_parts(&world, node)).collect::<Vec<_>>(), [1; 3]);
}

#[test]
fn a_private_part_stays_while_a_commit_or_its_welcome_is_under_way() {
    let (mut world, group) = world_of(2, 0);
    let second = world.group("hsu0002", 0);
    world.grant(second, 1);
    world.run(30);
    let late = world.device("2222");
    world.settle();
    // One key package for both groups. The second one's committer does not get to the ledger for a while.
    world.lose_submissions.insert(1);
    for group in [group, second] {
        world.grant(group, late);
    }
    world.run(10);
    world.assert_members(group, &[0, 1, late]);
    world.lose_submissions.clear();
    world.deliver = false;
    world.run(30);
    // The ledger has the commit, and the Welcome takes longer.
    let (committer, welcome) = world.welcome(late, second);
    world.run(40);
    assert_eq!(private_parts(&world, late), 2);
    assert!(!world.nodes[late].has_notice("gets no keys"));
    world.deliver_welcome(late, second, &committer, &welcome);
    world.deliver = true;
    world.settle();
    world.assert_members(second, &[1, late]);
    assert_eq!(private_parts(&world, late), 1, "it was used, and is superseded");
}

#[test]
fn a_device_that_restarts_again_and_again_forgets_private_parts_all_the_same() {
    let (mut world, group) = world_of(2, 0);
    let late = world.device("2222");
    world.grant(group, late);
    world.run(5);
    world.assert_members(group, &[0, 1, late]);
    for _ in 0..7 {
        assert_eq!(private_parts(&world, late), 2);
        world.start(late);
        world.run(15);
    }
    world.start(late);
    world.run(15);
    assert_eq!(private_parts(&world, late), 1);
}

#[test]
fn a_key_package_that_the_ledger_does_not_have_yet_ends_no_older_one() {
    let (mut world, group) = world_of(2, 0);
    let late = world.device("2222");
    world.settle();
    world.lose_submissions.insert(late);
    world.grant(group, late);
    world.run(600);
    world.assert_members(group, &[0, 1, late]);
    assert_eq!(private_parts(&world, late), 2);
    world.lose_submissions.clear();
    world.run(120);
    assert_eq!(private_parts(&world, late), 1);
}
