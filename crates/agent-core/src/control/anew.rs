//! What lets an old copy of the folder show ([`rollback`](super::rollback)), and what follows when it does.

use sealcast_identity::DeviceId;
use sealcast_ledger::Replica;
use sealcast_topic::ControlTopic;
use tracing::error;

use super::{
    Control, ledger_of,
    output::{Effect, Write},
    rollback::Sign,
};
use crate::SharedKeyring;

impl Control {
    /// What is submitted is on disk before, or the folder would not know it when it comes back as a record.
    pub(super) fn submit(&mut self, replica: &Replica, now_ms: u64) {
        let effect = self.submitter.poll(&self.own, replica, now_ms);
        if let Some(Effect::Submit(entry)) = &effect {
            self.writes.extend(self.rollback.note_submitted(&replica.genesis().id, entry));
        }
        self.effects.extend(effect);
    }

    /// Has the broker keep how far the folder has come. Not before the ledger was read: what the broker keeps since the last
    /// start has been judged then.
    pub(super) fn make_checkpoint(&mut self, keyring: &impl SharedKeyring, now_ms: u64) {
        if !self.caught_up {
            return;
        }
        match self.rollback.next(&self.own, &ledger_of(keyring), now_ms) {
            Ok(None) => {}
            Ok(Some((checkpoint, signed))) => {
                self.writes.push(Write::Checkpoint(checkpoint));
                let topic = checkpoint_topic(&self.own.device);
                self.outbox.put(topic.clone(), signed.clone(), None);
                self.publish(topic, signed);
            }
            Err(error) => error!(%error, "the agent cannot sign how far its folder has come: it tries again"),
        }
    }

    /// The folder is older than what this device has done. What it holds of its groups' keys is of the past: it drops them,
    /// and has the groups add the device again.
    pub(super) fn begin_anew(&mut self, sign: Sign) {
        self.began_anew = true;
        self.rollback.begin_anew();
        self.outbox.withdraw(&checkpoint_topic(&self.own.device));
        self.submitter.forget_bodies();
        self.anchorer.handle_changed();
        self.writes.push(Write::BeginAnew { before_ms: self.started_ms });
        self.groups.begin_anew(&sign.to_string());
    }
}

fn checkpoint_topic(device: &DeviceId) -> String {
    ControlTopic::Checkpoint { device: device.as_str() }.to_string()
}
