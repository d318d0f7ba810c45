//! A member that does not keep to the rules.

use std::time::Duration;

use sealcast_identity::SigningKey;
use sealcast_ledger::{Body, Commit, GroupNumber, Number, Replica};

use crate::{
    PublicGroups,
    mls::{BACKDATE_S, Built, Engine},
    slot::Candidate,
    trust::Trust,
    wire,
    world::{Node, World},
};

/// Three members (0, 1, 2) of one group.
pub(crate) fn world() -> (World, GroupNumber) {
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
pub(crate) fn rogue(
    world: &mut World,
    group: GroupNumber,
    adds: &[(Number, Vec<u8>)],
    removes: &[u32],
    head: Option<Vec<u8>>,
) -> (Built, Body) {
    world.catch_up(0);
    rogue_of(world, 0, group, adds, removes, head).unwrap()
}

/// The same by any member. `None` if it is none now, or MLS itself does not let it.
pub(crate) fn rogue_of(
    world: &mut World,
    node: usize,
    group: GroupNumber,
    adds: &[(Number, Vec<u8>)],
    removes: &[u32],
    head: Option<Vec<u8>>,
) -> Option<(Built, Body)> {
    let Node { groups, replica, .. } = &mut world.nodes[node];
    let groups = groups.as_mut()?;
    let head = head.unwrap_or_else(|| wire::write_ledger_head(replica.height(), replica.head().as_bytes()));
    let slot = groups.slots.get_mut(&group)?;
    let (epoch, generation) = (slot.on_ledger(), slot.generation());
    let mls = slot.group.as_mut()?;
    let built = groups.engine.commit(mls, adds, removes, false, head, world.now_ms / 1000).ok()?;
    // It follows its own commit, if the others do.
    let (commit, secrets) = (built.commit.clone(), built.secrets.to_vec());
    let candidate = Candidate { commit, secrets, welcomes: Vec::new(), submitted_ms: world.now_ms, refused: true };
    slot.add_candidate(group, candidate, &mut groups.changes);
    let body = Body::Commit(Commit { group, generation, epoch, commit: built.commit.clone() });
    Some((built, body))
}

/// Puts an entry of a device on the ledger, past what its groups want.
pub(crate) fn submit(world: &mut World, node: usize, body: Body) {
    let (number, key) = (world.number(node), world.nodes[node].key());
    world.submit(number, &key, body).unwrap();
}

/// Devices that have all of the ledger see the group as somebody does who has read all of it at once, member or not, and as the
/// hub does, which stops in between.
pub(crate) fn assert_seen_alike(world: &World, group: GroupNumber) {
    let (mut replica, mut groups) = (Replica::new(world.genesis), PublicGroups::default());
    let stops = world.ledger.records().len() as u64 / 2;
    for record in world.ledger.records() {
        if record.index == stops {
            groups = PublicGroups::from_snapshot(&groups.snapshot()).unwrap();
        }
        replica.apply(record).unwrap();
        groups.handle_record(&replica, record);
    }
    let seen = groups.group(group).unwrap();
    for node in &world.nodes {
        let Some(own) = &node.groups else { continue };
        if own.next_entry() == replica.height() {
            assert_eq!(&own.slots[&group].public, seen, "{}", node.id);
        }
    }
}

/// The key package that a device has broadcast.
pub(crate) fn package(world: &World, node: usize) -> (Number, Vec<u8>) {
    let bytes = &world.keys[&world.nodes[node].id];
    (world.number(node), wire::read_keys(bytes).unwrap().0.to_vec())
}

/// A key package that is made outside of `Groups`.
pub(crate) fn foreign_package(key: &SigningKey, chain: &[Vec<u8>], now_ms: u64) -> Vec<u8> {
    let engine = Engine::new(key, chain, Trust::new(Vec::new())).unwrap();
    engine.new_key_package(now_ms / 1000).unwrap().message
}

/// The same, which is valid for so long from now on.
pub(crate) fn short_lived_package(world: &World, node: usize, lifetime: Duration) -> Vec<u8> {
    let (key, chain) = (world.nodes[node].key(), &world.nodes[node].chain);
    let lifetime = Duration::from_secs(BACKDATE_S) + lifetime;
    let engine = Engine::with_lifetime(&key, chain, Trust::new(Vec::new()), lifetime).unwrap();
    engine.new_key_package(world.now_ms / 1000).unwrap().message
}
