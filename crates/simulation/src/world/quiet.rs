//! When faults end and time passes, everything that was promised has come true.

use std::collections::BTreeSet;

use anyhow::Result;
use sealcast_seal::EpochId;

use super::World;
use crate::{
    client::State,
    event::{CLIENTS, DEVICES, Event},
    ghost::device_of,
};

/// Members agree within this time, ms.
const AGREED_WITHIN_MS: u64 = 1_800_000;
/// How much time passes before it is looked whether they have, ms.
const LOOK_EVERY_MS: u64 = 2_000;
/// How long what waits for keys and timers may take then, ms.
const REST_MS: u64 = 90_000;

impl World {
    /// Faults end, all come back, and time passes until members have agreed and everything has arrived.
    pub(super) fn quiet(&mut self) -> Result<()> {
        for device in 0..DEVICES {
            self.agents[device].disk.mend();
            self.run(device)?;
        }
        let deceived = self.hub.behave();
        // What was kept back comes again on a new connection.
        for client in 0..CLIENTS {
            self.cut(client)?;
        }
        let until_ms = self.now.run_ms + AGREED_WITHIN_MS;
        while let Some(why) = self.disagreement() {
            if self.now.run_ms >= until_ms {
                self.ghost.violated("members agree in the end", why);
                return Ok(());
            }
            self.rest(LOOK_EVERY_MS)?;
            if self.is_deserted() {
                self.happen(Event::Reset)?;
            }
        }
        // What they sealed, or were to get, before they knew the whole ledger may be lost.
        deceived.into_iter().for_each(|device| self.ghost.disrupted(device));
        // A connection that was made before a group was there, or a device was active, may have been refused.
        self.rest(REST_MS)?;
        self.check_back();
        self.ghost.check_arrived();
        self.readmit()
    }

    /// Whoever was shut out is let in again, so that a run does not end with an empty group.
    fn readmit(&mut self) -> Result<()> {
        for device in 0..DEVICES {
            if !self.cast.is_granted(device) {
                self.happen(Event::Register { device })?;
                self.happen(Event::Grant { device })?;
            }
        }
        Ok(())
    }

    fn rest(&mut self, ms: u64) -> Result<()> {
        let end_ms = self.now.run_ms + ms;
        while self.now.run_ms < end_ms {
            (0..CLIENTS).try_for_each(|client| self.connect(client))?;
            self.settle()?;
            self.tick(end_ms)?;
        }
        self.settle()
    }

    /// Whether nobody who is granted the group has its keys: nobody is left who could add a member.
    fn is_deserted(&self) -> bool {
        let group = self.cast.ledger.replica().group(self.cast.group);
        let founded = group.is_some_and(|group| group.epoch.0 > 0);
        let has_keys = |device: &usize| {
            let keyring = self.agents[*device].keyring();
            keyring.is_some_and(|keyring| {
                let epoch = keyring.epochs().into_iter().find(|(number, _)| *number == self.cast.group);
                epoch.is_some_and(|(_, epoch)| group.is_some_and(|group| epoch.generation == group.generation.0))
            })
        };
        founded && !(0..DEVICES).filter(|device| self.cast.is_granted(*device)).any(|device| has_keys(&device))
    }

    /// Why the members of the group do not agree.
    fn disagreement(&self) -> Option<String> {
        let group = self.cast.ledger.replica().group(self.cast.group)?;
        let current = EpochId { generation: group.generation.0, epoch: group.epoch.0 };
        let granted: Vec<usize> = (0..DEVICES).filter(|device| self.cast.is_granted(*device)).collect();
        let roster: BTreeSet<_> = granted.iter().map(|device| self.cast.devices[*device].id.clone()).collect();
        for device in granted {
            let Some(keyring) = self.agents[device].keyring() else { return Some(format!("device {device} is away")) };
            if keyring.replica().height() != self.records() {
                return Some(format!(
                    "device {device} is at {} of {} records",
                    keyring.replica().height(),
                    self.records()
                ));
            }
            let held =
                keyring.epochs().into_iter().find(|(number, _)| *number == self.cast.group).map(|(_, epoch)| epoch);
            let members: BTreeSet<_> = keyring.members(self.cast.group).into_iter().collect();
            if held != Some(current) || members != roster {
                return Some(format!(
                    "device {device} is at {held:?} with {members:?}, not at {current} with {roster:?}"
                ));
            }
        }
        None
    }

    /// Clients of members are connected. Those of others are too, except for one of MQTT 3.1.1 that has something to say to the
    /// group: its connection is the only thing by which it can be told no.
    fn check_back(&mut self) {
        for client in 0..CLIENTS {
            if self.cast.is_granted(device_of(client)) && self.clients[client].state != State::Online {
                let what = format!("client {client} is {:?}", self.clients[client].state);
                self.ghost.violated("whoever may connect is connected in the end", what);
            }
        }
    }
}
