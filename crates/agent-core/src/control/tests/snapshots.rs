//! A start from the snapshot on disk, and from one that cannot be used.

use super::{crashes::life, world::Disk, *};

/// The replica that a device starts with, after how many records of the snapshot, and which pages it has read.
fn start(disk: &Disk, plant: &world::Plant) -> (String, u64, Vec<u64>) {
    let mut groups = disk.groups(&plant.world, 0);
    let mut pages = Vec::new();
    let page = |from: u64| {
        pages.push(from);
        let from = usize::try_from(from)?;
        Ok::<_, std::num::TryFromIntError>(disk.records.iter().skip(from).cloned().collect())
    };
    let genesis = plant.world.genesis;
    let Restored { replica, snapshot_at } =
        restore(genesis, &mut groups, disk.snapshot.as_deref(), page, START_MS).unwrap();
    (format!("{replica:?}"), snapshot_at, pages)
}

#[test]
fn a_start_applies_the_records_behind_the_snapshot_alone() {
    let plant = life(None);
    let disk = &plant.nodes[0].disk;
    let (all, records) = (format!("{:?}", plant.nodes[0].keyring.replica()), disk.records.len() as u64);
    let (replica, at, pages) = start(disk, &plant);
    assert_eq!(replica, all);
    assert!(at >= 16 && at <= records, "a snapshot at {at} of {records}");
    assert_eq!(pages, [at - 1, at, records]);

    // Without it.
    let without = Disk { snapshot: None, ..disk.clone() };
    assert_eq!(start(&without, &plant), (all, 0, vec![0, records]));
}

#[test]
fn a_snapshot_that_does_not_fit_costs_time_alone() {
    let plant = life(None);
    let disk = &plant.nodes[0].disk;
    let (all, at, _) = start(disk, &plant);
    let snapshot = disk.snapshot.clone().unwrap();
    let mut damaged = snapshot.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut newer = snapshot.clone();
    newer[0] += 1;
    // Of this ledger, but with another past: somebody has put records of another time there.
    let elsewhere = life(None);
    let foreign = elsewhere.nodes[0].disk.snapshot.clone().unwrap();
    for snapshot in [Vec::new(), damaged, newer, foreign] {
        let disk = Disk { snapshot: Some(snapshot), ..disk.clone() };
        let (replica, from, _) = start(&disk, &plant);
        assert_eq!((replica, from), (all.clone(), 0));
    }

    // Records that end before it are too few for the groups, too.
    let mut short = disk.clone();
    short.records.truncate(usize::try_from(at).unwrap() - 1);
    let error = short.open(&plant.world, 0).map(drop).unwrap_err();
    assert!(matches!(error, RestoreError::GroupsLead { .. }), "{error}");

    // Groups that have read less need the records before it.
    let mut behind = disk.clone();
    behind.state.clear();
    assert_eq!(start(&behind, &plant).1, 0);
}

#[test]
fn snapshots_are_made_as_the_ledger_grows() {
    let mut last = 0;
    let mut made = Vec::new();
    for height in 0..1000 {
        if Replica::is_snapshot_due(last, height) {
            last = height;
            made.push(height);
        }
    }
    assert_eq!(made, [16, 32, 48, 64, 80, 100, 125, 156, 195, 243, 303, 378, 472, 590, 737, 921]);
    assert!(Replica::is_snapshot_due(0, 100_000) && !Replica::is_snapshot_due(u64::MAX, u64::MAX - 1));
}
