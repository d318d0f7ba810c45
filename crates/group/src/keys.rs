//! Looking after this device's own key packages: published, replaced once used, and forgotten.

use std::collections::BTreeSet;

use sealcast_ledger::{Hash, PublishedKeys, Replica};

use crate::{GroupRefusal, Groups, Notice, build::RESUBMIT_MS, own::OwnKey};

/// Between two requests to be added again: at first, and at most.
const REJOIN_WAIT_MS: u64 = 60_000;
const MAX_REJOIN_WAIT_MS: u64 = 3_600_000;
/// A commit that was under way when the ledger got a newer key package of this device comes within so long. One that comes
/// later is answered like one whose Welcome is lost.
const SUPERSEDED_S: u64 = 60;

impl Groups {
    pub(crate) fn evaluate_own_keys(&mut self, replica: &Replica, now_ms: u64) -> Result<(), GroupRefusal> {
        let certificate = self.certificate;
        let Some(device) = replica.device(self.number) else { return Ok(()) };
        if !device.is_active() || device.certificate != Hash::from(certificate) {
            return Ok(());
        }
        if self.own.rejoin_wanted {
            if now_ms < self.own.rejoin_after_ms {
                self.wake_at(self.own.rejoin_after_ms);
            } else {
                let wait = REJOIN_WAIT_MS.saturating_mul(1 << self.own.rejoins.min(6)).min(MAX_REJOIN_WAIT_MS);
                self.own.rejoins = self.own.rejoins.saturating_add(1);
                (self.own.rejoin_wanted, self.own.rejoin_after_ms) = (false, now_ms + wait);
                self.own.make(&self.engine, certificate, true, now_ms / 1000, &mut self.changes)?;
                self.publish_keys();
                self.notice(Some(self.device.clone()), None, Notice::Rejoining);
            }
        } else if self.own.current().is_none_or(|key| key.certificate != certificate) {
            // A device that has published before and has no keys has lost its state.
            let rejoin = device.has_published() && self.own.current().is_none();
            self.own.make(&self.engine, certificate, rejoin, now_ms / 1000, &mut self.changes)?;
            self.publish_keys();
        }
        let published = self.own.current().and_then(|key| replica.keys(&Hash::from(key.hash())));
        if published.is_none_or(|keys| keys.device != self.number) {
            let due = self.own.submitted_ms.map_or(now_ms, |at| at + RESUBMIT_MS);
            if now_ms >= due {
                self.submit_keys(now_ms);
            }
            self.wake_at(due.max(now_ms + RESUBMIT_MS));
        }
        Ok(())
    }

    /// Replaces our key package by a fresh one.
    pub(crate) fn rotate_keys(&mut self, now_ms: u64) -> Result<(), GroupRefusal> {
        self.own.make(&self.engine, self.certificate, false, now_ms / 1000, &mut self.changes)?;
        self.own.rejoins = 0;
        self.publish_keys();
        Ok(())
    }

    /// Forgets private parts that no Welcome can need any more: whoever takes this device's disk could open with them what
    /// it has recorded (RFC 9420 section 16.8).
    pub(crate) fn forget_superseded_keys(&mut self, replica: &Replica, now_ms: u64) {
        let now_s = self.ledger_now_s(replica, now_ms);
        let forget_s = |key| self.published(replica, key).map(|newer| newer.time_s.saturating_add(SUPERSEDED_S));
        let newer: Vec<_> = self.own.iter().skip(1).map(forget_s).collect();
        if let Some(next_s) = newer.iter().flatten().filter(|forget_s| **forget_s > now_s).min() {
            self.wake_at_ledger_s(replica, *next_s);
        }
        let superseded = newer.iter().rposition(|forget_s| forget_s.is_some_and(|forget_s| forget_s <= now_s));
        let awaited = self.awaited_keys(replica);
        let is_awaited = |key: &&OwnKey| self.published(replica, key).is_some_and(|keys| awaited.contains(&keys.at));
        let gone = self.own.iter().take(superseded.map_or(0, |place| place + 1)).filter(|key| !is_awaited(key));
        for sequence in gone.map(OwnKey::sequence).collect::<Vec<_>>() {
            self.own.forget(sequence, &self.engine, &mut self.changes);
        }
    }

    /// Indices of the records that published what this device was added with, to groups whose Welcome has not come.
    fn awaited_keys(&self, replica: &Replica) -> BTreeSet<u64> {
        let invited = self.slots.values().filter(|slot| slot.invitation.is_some());
        invited.filter_map(|slot| self.own_seat(replica, slot)).map(|seat| seat.keys_at).collect()
    }

    fn published<'a>(&self, replica: &'a Replica, key: &OwnKey) -> Option<&'a PublishedKeys> {
        replica.keys(&Hash::from(key.hash())).filter(|keys| keys.device == self.number)
    }
}
