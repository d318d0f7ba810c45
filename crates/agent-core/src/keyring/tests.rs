mod news;
mod opening;
mod overdue;
mod overview;
mod routing;
mod sealing;

use sealcast_ledger::AttestedHead;
use sealcast_seal::{Content, Purpose, QosClass};

use super::*;
use crate::testing::{START_MS, World};

/// Devices 0, 1 and 2 are in `group`, which is at epoch 1.
struct Scene {
    world: World,
    group: GroupNumber,
}

impl Scene {
    fn new() -> Self {
        let (mut world, group) = World::with_group(3);
        world.commit(group, 0);
        Self { world, group }
    }

    /// The keys of an epoch, as these devices agreed on them; `device` is whose.
    fn keys(&self, device: usize, epoch: u64, members: &[usize]) -> EpochKeys {
        self.world.keys(self.group, device, epoch, members)
    }

    /// A device that has all of the ledger, and just started.
    fn keyring(&self, device: usize) -> Keyring {
        self.world.keyring(device, self.world.ledger.replica().clone())
    }

    /// The same, with the ledger read to its end and the keys of epoch 1.
    fn member(&self, device: usize) -> Keyring {
        let mut keyring = self.keyring(device);
        catch_up(&mut keyring);
        keyring.insert_epoch(&self.keys(device, 1, &[0, 1, 2]), START_MS);
        keyring
    }

    /// The operator's word on the ledger as it is.
    fn statement(&self, time_ms: u64) -> Vec<u8> {
        let replica = self.world.ledger.replica();
        self.world.attest(&AttestedHead { time_ms, height: replica.height(), head: replica.head() })
    }

    /// Gives a keyring what the ledger has beyond it.
    fn follow(&self, keyring: &mut Keyring) {
        let known = usize::try_from(keyring.replica().height()).unwrap();
        for record in &self.world.ledger.records()[known..] {
            keyring.replica_mut().apply(record).unwrap();
        }
    }
}

/// The ledger was read to its end.
fn catch_up(keyring: &mut Keyring) {
    let sync = keyring.begin_sync();
    assert!(keyring.set_caught_up(sync));
}

fn content(retain: bool) -> Content<'static> {
    Content { purpose: Purpose::Message, class: QosClass::Acknowledged, retain, props: &[], payload: b"27" }
}

fn seal(keyring: &mut Keyring, group: GroupNumber, topic: &str, content: &Content<'_>) -> Result<Vec<u8>, Denied> {
    keyring.seal(group, topic, content, START_MS)
}
