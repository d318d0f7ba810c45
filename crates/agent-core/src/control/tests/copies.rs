//! A folder is put back from a copy: its agent notices by itself, seals nothing under the keys that it has, and is in its
//! group again.

use super::{
    world::{Crash, Disk, Moment, Node, Plant},
    *,
};

/// The member whose folder is copied. The other one, on the lower leaf, makes the commits.
const COPIED: usize = 1;

impl Plant {
    /// The copied device's agent ends, and starts again with this folder.
    fn put_back(&mut self, folder: Disk) {
        self.nodes[COPIED].disk = folder;
        self.restart(COPIED);
    }

    /// The members agree on so many more epochs, which the other member begins.
    fn turn(&mut self, group: GroupNumber, epochs: usize) {
        for _ in 0..epochs {
            let Self { nodes, world, .. } = self;
            nodes[0].control.groups.request_update(world.ledger.replica(), group, world.now_ms);
            self.run(60);
        }
    }

    fn start_again(&mut self) {
        self.restart(COPIED);
        self.connect(COPIED);
        self.run(60);
    }

    fn epoch(&self, group: GroupNumber) -> u64 {
        self.world.ledger.replica().group(group).unwrap().epoch.0
    }

    /// So much time passes. Whenever anything happened, what the copied device's agent would seal must be of a later epoch
    /// than the one that the ledger is at now.
    fn run_without_sealing_under_old_keys(&mut self, group: GroupNumber, seconds: u64) {
        let old = self.epoch(group);
        let check = |plant: &mut Self| {
            let now_ms = plant.world.now_ms;
            let keyring = &mut plant.nodes[COPIED].keyring;
            if seal(keyring, group, now_ms).is_ok() {
                let (_, held) = keyring.epochs()[0];
                assert!(held.epoch > old, "it seals under epoch {held}, and its folder is a copy");
            }
        };
        check(self);
        for _ in 0..seconds {
            let mut any = true;
            while std::mem::take(&mut any) {
                for node in 0..self.nodes.len() {
                    while self.step(node).is_some() {
                        any = true;
                        check(self);
                    }
                    any |= self.answer(node);
                    check(self);
                }
            }
            self.world.now_ms += 1_000;
        }
    }

    fn alarms(&self, node: usize) -> Vec<&str> {
        let notices = self.nodes[node].notices.iter().map(String::as_str);
        notices.filter(|notice| notice.contains("folder is older")).collect()
    }

    fn checkpoint(&mut self) -> &mut Vec<u8> {
        let topic = format!("sealcast/v1/checkpoint/{}", self.world.devices[COPIED].id);
        self.retained.get_mut(&topic).unwrap()
    }

    fn lose_checkpoint(&mut self) {
        let topic = format!("sealcast/v1/checkpoint/{}", self.world.devices[COPIED].id);
        self.retained.remove(&topic).unwrap();
    }
}

/// Two members of a group, and a copy of the second one's folder, which `then` something happens after.
fn copied(then: impl FnOnce(&mut Plant, GroupNumber)) -> (Plant, GroupNumber, Disk) {
    let (mut plant, group) = agreed(2);
    let copy = plant.nodes[COPIED].disk.clone();
    then(&mut plant, group);
    assert_eq!(plant.alarms(COPIED), [""; 0]);
    (plant, group, copy)
}

/// The copy is put back, is noticed for this reason, and its agent is a member again.
fn check(then: impl FnOnce(&mut Plant, GroupNumber), sign: &str) {
    let (mut plant, group, copy) = copied(then);
    plant.put_back(copy.clone());
    plant.connect(COPIED);
    plant.run_without_sealing_under_old_keys(group, 120);
    plant.assert_members(group, &[0, COPIED]);
    let state = &plant.nodes[COPIED].disk.state;
    for (key, secret) in
        copy.state.iter().filter(|(key, _)| ["own/", "mls/", "epoch/"].iter().any(|of| key.starts_with(of)))
    {
        assert_ne!(state.get(key), Some(secret), "{key} is kept");
    }
    assert!(matches!(plant.alarms(COPIED)[..], [one] if one.contains(sign)), "{:?}", plant.nodes[COPIED].notices);
    // From now on it is as new as any.
    plant.start_again();
    plant.turn(group, 1);
    plant.assert_members(group, &[0, COPIED]);
    assert_eq!(plant.alarms(COPIED).len(), 1);
    assert_eq!(plant.alarms(0), [""; 0]);
}

#[test]
fn a_later_start_shows() {
    check(|plant, _| plant.start_again(), "the broker keeps its checkpoint");
}

#[test]
fn a_later_epoch_shows_although_another_member_began_it() {
    check(|plant, group| plant.turn(group, 1), "the broker keeps its checkpoint");
}

#[test]
fn a_while_without_anything_shows() {
    check(|plant, _| plant.run(700), "the broker keeps its checkpoint");
}

#[test]
fn an_entry_of_the_device_shows_whatever_the_broker_keeps() {
    let own_commit = |plant: &mut Plant, group| {
        let Plant { nodes, world, .. } = plant;
        nodes[COPIED].control.groups.request_update(world.ledger.replica(), group, world.now_ms);
        plant.run(60);
        plant.lose_checkpoint();
    };
    check(own_commit, "entry");
}

/// The broker may show whatever it had before, and what others say.
#[test]
fn what_is_older_or_not_the_devices_says_nothing() {
    let (mut plant, group, _) = copied(|_, _| {});
    let older = plant.checkpoint().clone();
    plant.turn(group, 1);
    let newest = plant.checkpoint().clone();
    assert_ne!(older, newest);
    let (id, number) = (plant.world.genesis.id, plant.world.number(COPIED));
    let later = sealcast_ledger::Checkpoint::new(u64::MAX).unwrap();
    let others = later.sign(number, &plant.world.own(0).key, &id).unwrap();
    let elsewhere = later.sign(number, &plant.world.own(COPIED).key, &LedgerId { chain_id: 1, ..id }).unwrap();
    for shown in [older, newest, others, elsewhere, vec![7; 88], Vec::new()] {
        for restart in [false, true] {
            if restart {
                plant.restart(COPIED);
            } else {
                plant.disconnect(COPIED);
            }
            *plant.checkpoint() = shown.clone();
            plant.connect(COPIED);
            plant.run(60);
            assert_eq!(plant.alarms(COPIED), [""; 0]);
            plant.assert_members(group, &[0, COPIED]);
        }
    }
}

#[test]
fn a_folder_that_lost_its_state_is_no_copy() {
    let (mut plant, group, _) = copied(|plant, group| plant.turn(group, 2));
    let before = plant.checkpoint().clone();
    plant.put_back(Disk::default());
    plant.connect(COPIED);
    plant.run_without_sealing_under_old_keys(group, 120);
    plant.assert_members(group, &[0, COPIED]);
    assert_eq!(plant.alarms(COPIED), [""; 0]);
    // Nor does what it said before tell against it, when the broker shows it later.
    *plant.checkpoint() = before;
    plant.start_again();
    assert_eq!(plant.alarms(COPIED), [""; 0]);
}

#[test]
fn what_was_submitted_when_the_copy_was_made_is_its_own() {
    let (mut plant, group) = agreed(2);
    let Plant { nodes, world, .. } = &mut plant;
    nodes[COPIED].control.groups.request_update(world.ledger.replica(), group, world.now_ms + 60_000);
    plant.world.now_ms += 60_000;
    while plant.nodes[COPIED].disk.past.submitted.is_empty() {
        assert!(plant.step(COPIED).is_some(), "its commit is submitted");
    }
    let copy = plant.nodes[COPIED].disk.clone();
    assert!(plant.answer(COPIED));
    plant.put_back(copy);
    plant.connect(COPIED);
    plant.run(60);
    assert_eq!(plant.alarms(COPIED), [""; 0]);
    plant.assert_members(group, &[0, COPIED]);
}

/// What the broker keeps comes right before the last of what the ledger has.
#[test]
fn nobody_seals_between_the_notice_and_the_end_of_the_keys() {
    let (mut plant, group, copy) = copied(|plant, _| plant.start_again());
    let shown = plant.checkpoint().clone();
    plant.put_back(copy);
    plant.nodes[COPIED].up = true;
    plant.nodes[COPIED].control.handle(Input::Up);
    while plant.step(COPIED).is_some() {}
    let topic = format!("sealcast/v1/checkpoint/{}", plant.world.devices[COPIED].id);
    plant.nodes[COPIED].control.handle(Input::Message { topic, payload: shown.into() });
    assert!(plant.answer(COPIED));
    let Node { control, keyring, .. } = &mut plant.nodes[COPIED];
    let step = control.poll(keyring, plant.world.now_ms).unwrap().unwrap();
    assert!(seal(keyring, group, plant.world.now_ms).is_err(), "before {step:?} is done");
}

#[test]
fn the_only_member_of_a_group_founds_it_anew() {
    let (world, group) = World::with_group(1);
    let mut plant = Plant::new(world);
    plant.connect(0);
    plant.run(30);
    let copy = plant.nodes[0].disk.clone();
    plant.run(700);
    plant.nodes[0].disk = copy;
    plant.restart(0);
    plant.connect(0);
    plant.run(700);
    assert_eq!(plant.alarms(0).len(), 1);
    plant.assert_members(group, &[0]);
}

#[test]
fn a_crash_while_it_begins_anew() {
    for at in [Moment::WriteLost, Moment::WritePersisted, Moment::AfterEffects(0), Moment::AfterEffects(1)] {
        for step in 0.. {
            let (mut plant, group, copy) = copied(|plant, group| plant.turn(group, 1));
            plant.put_back(copy);
            plant.nodes[COPIED].crash = Some(Crash { step, at });
            plant.connect(COPIED);
            plant.run_without_sealing_under_old_keys(group, 180);
            plant.assert_members(group, &[0, COPIED]);
            if plant.nodes[COPIED].crashes == 0 {
                assert!(step > 5, "it has few steps");
                break;
            }
        }
    }
}

/// Each takes the other's place, again and again, but no more often than a device may ask to be added.
#[test]
fn two_that_run_side_by_side_do_not_drown_the_ledger() {
    let (mut plant, _, copy) = copied(|_, _| {});
    plant.nodes.push(Node::new(&plant.world, COPIED, copy));
    plant.connect(2);
    let before = plant.world.ledger.records().len();
    plant.run(1_800);
    let alarms = plant.alarms(COPIED).len() + plant.alarms(2).len();
    assert!((2..=64).contains(&alarms), "{alarms}");
    let records = plant.world.ledger.records().len() - before;
    assert!(records < 300, "{records}");
}
