//! A device dies at each of its steps, in each way that it can: what is on disk is always a replica with the groups that
//! belong to it, and everything goes on from there.

use super::{
    world::{Crash, Moment, Plant},
    *,
};

/// Two devices found a group, a reading goes to the ledger, a third device is added and another one removed.
pub(super) fn life(crash: Option<(usize, Crash)>) -> Plant {
    let (mut world, group) = World::with_group(3);
    world.limit(group, "plant/a");
    let mut plant = Plant::new(world);
    let reading =
        QueuedReading { topic: "plant/a".parse().unwrap(), time_ms: START_MS, sequence: 1, value: 5, decimals: 1 };
    if let Some((node, crash)) = crash {
        plant.nodes[node].crash = Some(crash);
    }
    plant.nodes[0].disk.readings.push(reading);
    plant.connect(0);
    plant.connect(1);
    plant.run(60);
    plant.connect(2);
    plant.run(60);
    plant.world.revoke(group, 1);
    plant.run(150);
    plant
}

fn check(at: Moment, nodes: &[usize]) {
    for &node in nodes {
        for step in 0.. {
            let plant = life(Some((node, Crash { step, at })));
            if plant.nodes[node].crashes == 0 {
                assert!(step > 10, "{node} has few steps");
                break;
            }
            for node in &plant.nodes {
                let alarms = node.notices.iter().filter(|notice| notice.contains("folder is older"));
                assert_eq!(alarms.count(), 0, "{node_of} at {step}: a crash is no copy", node_of = node.device);
            }
            let group = plant.world.ledger.replica().groups().next().unwrap().number;
            plant.assert_members(group, &[0, 2]);
            assert!(plant.nodes[0].disk.readings.is_empty(), "{node} at {step}: the reading waits");
            let number = plant.world.number(0);
            assert_eq!(plant.world.ledger.replica().reading_counts(number).accepted, 1, "{node} at {step}");
        }
    }
}

#[test]
fn a_write_that_failed() {
    check(Moment::WriteLost, &[0, 1, 2]);
}

#[test]
fn a_write_that_failed_but_was_persisted() {
    // On disk it is the same as a crash before the first effect.
    check(Moment::WritePersisted, &[0]);
}

#[test]
fn a_crash_between_a_write_and_its_effects() {
    check(Moment::AfterEffects(0), &[0, 1, 2]);
}

#[test]
fn a_crash_between_two_effects() {
    check(Moment::AfterEffects(1), &[0]);
}
