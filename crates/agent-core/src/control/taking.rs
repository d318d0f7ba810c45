//! What has happened: each input to the part that it is for.

use sealcast_group::OutOfOrder;
use sealcast_identity::DeviceId;
use sealcast_ledger::{Body, GroupNumber, Record, Replica, WelcomeRoute};
use sealcast_topic::ControlTopic;
use tracing::{debug, warn};

use super::{
    Control, TICK_MS,
    follower::Source,
    input::{Input, KeptMessages, Submitted},
    ledger_of,
    output::Write,
};
use crate::{Keyring, SharedKeyring, deadline::Deadline};

impl Control {
    pub(super) fn take(
        &mut self,
        keyring: &mut impl SharedKeyring,
        input: Input,
        now_ms: u64,
    ) -> Result<(), OutOfOrder> {
        match input {
            Input::Up => {
                self.follower.handle_up(now_ms);
                self.asker.handle_up();
                self.submitter.handle_up();
                self.publish_again(now_ms);
            }
            Input::Down => {
                self.follower.handle_down();
                self.asker.handle_down();
                self.groups.set_live(&keyring.replica(), false, now_ms);
            }
            Input::Taken { topic } => {
                self.outbox.handle_taken(&topic);
                self.tell_undelivered(keyring, now_ms);
            }
            Input::Refused { topic, reason } => {
                self.outbox.handle_refused(&topic, &reason, now_ms);
                self.tell_undelivered(keyring, now_ms);
            }
            Input::Message { topic, payload } => self.take_message(keyring, &topic, &payload, now_ms)?,
            Input::Records { sync, answer } if self.follower.is_asking(sync) => match answer {
                Ok(records) => self.take_answer(keyring, &records, now_ms)?,
                Err(reason) => self.follower.handle_failure(&reason, now_ms),
            },
            Input::HubLedger { height, head } => keyring.change(|keyring| keyring.hear_hub(height, head)),
            Input::Kept { question, answer } if self.asker.is_asking(question) => match answer {
                Ok(kept) => self.take_kept(keyring, kept, now_ms)?,
                Err(reason) => self.asker.handle_failure(&reason, now_ms),
            },
            // Of a connection that is over: it is asked again.
            Input::Records { .. } | Input::Kept { .. } => {}
            Input::Submitted(submitted) => self.take_submitted(keyring, submitted, now_ms)?,
            Input::ReadingQueued => self.submitter.handle_queue_changed(),
            Input::Readings(oldest) => self.submitter.handle_readings(oldest),
            Input::SeriesChanged => self.anchorer.handle_changed(),
            Input::Series(series) => self.anchorer.handle_series(series),
            Input::Renewed { chain } => {
                if let Err(refusal) = self.groups.renew(&keyring.replica(), chain, now_ms) {
                    warn!("the groups do not take this device's new certificate: {refusal}");
                }
            }
            Input::NewsWanted => self.follower.want(now_ms),
            Input::NotSealed(group) => {
                self.reseal.insert(group);
                self.reseal_at = Deadline::after(now_ms, TICK_MS);
            }
            // What the hub has pushed meanwhile is late, or was lost with the connection.
            Input::Resumed => {
                keyring.change(Keyring::resume);
                self.follower.want(now_ms);
            }
        }
        Ok(())
    }

    fn take_message(
        &mut self,
        keyring: &mut impl SharedKeyring,
        topic: &str,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<(), OutOfOrder> {
        match ControlTopic::parse(topic) {
            Some(ControlTopic::Ledger) => {
                let source = if keyring.read(Keyring::is_at_foreign_broker) { Source::Anybody } else { Source::Hub };
                match Record::decode(payload) {
                    Ok(record) => self.take_record(keyring, &record, source, now_ms)?,
                    Err(error) => self.follower.handle_unreadable(&error.to_string(), source, now_ms),
                }
            }
            Some(ControlTopic::Head) => self.hear_operator(keyring, payload, now_ms),
            Some(ControlTopic::Checkpoint { .. }) => {
                if let Some(sign) = self.rollback.handle_checkpoint(&self.own, &ledger_of(keyring), payload) {
                    self.begin_anew(sign);
                }
            }
            Some(ControlTopic::Keys { device }) => {
                let Ok(device) = device.parse::<DeviceId>() else { return Ok(()) };
                self.groups.handle_keys(&keyring.replica(), &device, payload, now_ms);
                self.see_keys(device, payload);
            }
            Some(ControlTopic::Inbox { group, committer, .. }) => {
                let (Ok(group), Ok(committer)) = (group.parse::<GroupNumber>(), committer.parse::<DeviceId>()) else {
                    return Ok(());
                };
                let replica = keyring.replica();
                if let Some(welcome) = self.welcome(&replica, group, &committer, payload) {
                    self.groups.handle_inbox(&replica, group, &committer, welcome, now_ms);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The Welcome in an inbox message, if it is the committer's.
    fn welcome<'a>(
        &self,
        replica: &Replica,
        group: GroupNumber,
        committer: &DeviceId,
        payload: &'a [u8],
    ) -> Option<&'a [u8]> {
        // Before the ledger was read: the hub is asked for it afterwards.
        let committer = replica.device_by_id(committer).filter(|_| !payload.is_empty())?;
        let route = WelcomeRoute { group, addressee: self.own.number, committer: committer.number };
        let dated = route.verify(payload, &committer.key, &replica.genesis().id);
        if let Err(error) = &dated {
            debug!(%group, committer = %committer.id, %error, "a Welcome that somebody else made up is passed over");
        }
        // However old: the groups take that of the commit on the ledger.
        dated.ok().map(|dated| dated.welcome)
    }

    /// What the hub keeps comes as if it were published now.
    fn take_kept(
        &mut self,
        keyring: &mut impl SharedKeyring,
        kept: KeptMessages,
        now_ms: u64,
    ) -> Result<(), OutOfOrder> {
        for (topic, payload) in &kept.messages {
            self.take_message(keyring, topic, payload, now_ms)?;
        }
        for topic in kept.lacks {
            if let Some(payload) = self.outbox.message(&topic) {
                self.publish(topic, payload);
            }
        }
        if self.asker.handle_answer(kept.next, kept.more, now_ms) {
            self.follower.release(now_ms);
        }
        Ok(())
    }

    fn hear_operator(&mut self, keyring: &mut impl SharedKeyring, statement: &[u8], now_ms: u64) {
        if keyring.change(|keyring| keyring.hear_operator(statement, now_ms)) == Ok(true) {
            self.follower.want(now_ms);
        }
    }

    fn take_answer(
        &mut self,
        keyring: &mut impl SharedKeyring,
        records: &[Record],
        now_ms: u64,
    ) -> Result<(), OutOfOrder> {
        keyring.change(|keyring| keyring.note_hub(now_ms));
        let reads_network = keyring.read(Keyring::reads_network);
        let source = if reads_network { Source::Network } else { Source::Hub };
        for record in records {
            self.take_record(keyring, record, source, now_ms)?;
        }
        // What the hub keeps may show that the folder is an old copy, and with the next answer clients may seal. Once that is
        // settled, a hub that does not answer keeps nobody from reading the network.
        if records.is_empty() && !self.asker.has_read() && !(reads_network && self.caught_up) {
            self.asker.want(now_ms);
            self.follower.hold(keyring, now_ms);
            return Ok(());
        }
        if self.follower.handle_answer(keyring, records.is_empty(), now_ms) {
            self.caught_up = true;
            keyring.change(|keyring| keyring.settle_news(now_ms));
            self.groups.set_live(&keyring.replica(), true, now_ms);
            self.submitter.look_again();
            self.reseal_at = Deadline::after(now_ms, 0);
        }
        Ok(())
    }

    /// The groups take each record that is new before the replica takes the next.
    fn take_record(
        &mut self,
        keyring: &mut impl SharedKeyring,
        record: &Record,
        source: Source,
        now_ms: u64,
    ) -> Result<(), OutOfOrder> {
        if source != Source::Network && keyring.read(Keyring::reads_network) {
            self.follower.handle_hint(keyring, record.index, now_ms);
            return Ok(());
        }
        if !self.follower.take(keyring, record, source, now_ms) {
            return Ok(());
        }
        let is_own = record.entry.originator() == self.own.number;
        if is_own {
            // No entry of a device moves the ledger: it is still where this one was signed for.
            let here = keyring.read(|keyring| *keyring.replica().current_id());
            let (forget, sign) = self.rollback.handle_own(&self.own, &ledger_of(keyring), &here, record);
            self.writes.extend(forget);
            // Before the groups try to follow what they made themselves and do not know.
            sign.into_iter().for_each(|sign| self.begin_anew(sign));
        }
        self.groups.handle_record(&keyring.replica(), record, now_ms)?;
        self.writes.push(Write::Record { index: record.index, bytes: record.encode() });
        let body = record.entry.body();
        if is_own {
            self.submitter.handle_own(body);
            if let Body::Reading(reading) = body {
                let (topic, sequence) = (reading.topic.clone(), reading.sequence);
                self.writes.push(Write::ReadingOnLedger { topic, sequence });
            }
            if let Body::Anchor(anchor) = body {
                self.writes.extend(self.anchorer.handle_own(anchor));
            }
        }
        // What readings waited for may have come.
        if !matches!(body, Body::Reading(_) | Body::Commit(_) | Body::Anchor(_)) {
            self.submitter.look_again();
            self.anchorer.look_again();
        }
        Ok(())
    }

    fn take_submitted(
        &mut self,
        keyring: &mut impl SharedKeyring,
        submitted: Submitted,
        now_ms: u64,
    ) -> Result<(), OutOfOrder> {
        match submitted {
            Submitted::Taken(record) => {
                self.take_record(keyring, &record, Source::Hub, now_ms)?;
                self.submitter.handle_taken(record.index, now_ms);
            }
            Submitted::Refused(refusal) => {
                self.follower.want(now_ms);
                if let Some(body) = self.submitter.handle_refused(&refusal, now_ms) {
                    self.note_anchor_refused(&body, now_ms);
                    self.groups.handle_refused(&keyring.replica(), &body, &refusal.to_string(), now_ms);
                }
            }
            Submitted::Rejected(reason) => {
                self.follower.want(now_ms);
                if let Some(body) = self.submitter.handle_rejected(&reason, now_ms) {
                    self.note_anchor_refused(&body, now_ms);
                    self.groups.handle_refused(&keyring.replica(), &body, &reason, now_ms);
                }
            }
            Submitted::Later { reason, wait_ms } => self.submitter.handle_later(&reason, wait_ms, now_ms),
            Submitted::Failed(reason) => {
                self.follower.want(now_ms);
                self.submitter.handle_failure(&reason, now_ms);
            }
        }
        Ok(())
    }

    fn note_anchor_refused(&mut self, body: &Body, now_ms: u64) {
        if matches!(body, Body::Anchor(_)) {
            self.anchorer.handle_refused(now_ms);
        }
    }
}
