//! The life of a group: found, join, update, revoke, rejoin, reset, restart, catch up.

use crate::world::World;

fn world_of(members: usize) -> (World, sealcast_ledger::GroupNumber) {
    let mut world = World::new();
    let group = world.group("hsu0001", 0);
    for place in 0..members {
        let node = world.device(&(1111 + place).to_string());
        world.grant(group, node);
    }
    world.run(60);
    (world, group)
}

#[test]
fn devices_found_a_group_and_share_its_keys() {
    let (world, group) = world_of(3);
    world.assert_members(group, &[0, 1, 2]);
}

#[test]
fn one_more_joins_and_one_is_revoked() {
    let (mut world, group) = world_of(3);
    let before = world.assert_members(group, &[0, 1, 2]);
    let fourth = world.device("2222");
    world.grant(group, fourth);
    world.run(60);
    let joined = world.assert_members(group, &[0, 1, 2, fourth]);
    assert!(joined > before);
    world.revoke(group, 1);
    world.run(60);
    world.assert_members(group, &[0, 2, fourth]);
    assert!(world.nodes[1].left.iter().any(|(_, reason)| reason.to_string().contains("revoked from group")));
}
