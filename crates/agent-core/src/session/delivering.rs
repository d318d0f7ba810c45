//! What the broker delivers to a client: opened, judged, handed on, or withheld with the reason.

use sealcast_ledger::GroupNumber;
use sealcast_mqtt::{Delivery, DeliveryId, Qos, Version};
use sealcast_seal::{HandOver, Message};
use tracing::warn;

use super::{
    Annotate, Effect, FrameId, Refused, SAVE_DELAY_MS, Session, Shared, Turn, inject,
    state::{Unsaved, Until, Waiting},
};
use crate::{
    Arrival, Cause, Denied, Now, Received, Route, Why,
    values::{Arrived, DELETED, Deliver, Incoming, SENDER, Values},
};

const UNSEALED_DELETION: &str =
    "no member has sealed that: the broker did it, or an empty will, or a client that has no agent";
const DIVERTED: &str = "the value is flagged, so it goes to the topic for flagged values";
const NO_VALUE: &str = "the message has no value, so `output` has nothing to write";
const BROKERS_TOPIC: &str = "not handed on: topics that begin with $ are the broker's own; list a filter such as $SYS/# under \
                             `clear` if clients are to read them";

impl Session {
    pub(super) fn attend_delivery(
        &mut self,
        shared: &mut Shared<'_>,
        delivery: Delivery,
        until: &mut Until,
        now: Now,
    ) -> Option<Waiting> {
        match shared.keyring.route(delivery.topic.as_str()) {
            Route::Group(_) if delivery.payload.is_empty() => return self.attend_deletion(delivery),
            Route::Group(group) => return self.open(shared, group, delivery, until, now),
            Route::Clear => self.answered(|proxy| proxy.pass(delivery.id)),
            Route::Brokers => {
                self.withhold(&delivery, Why::new(Cause::BrokersTopic, BROKERS_TOPIC));
            }
            // A client that subscribes to `#` gets the agents' own messages too: not for it, and nothing to report.
            Route::Control => self.swallow(&delivery),
            Route::Behind(why) => return self.deny(shared, delivery, &Denied::Behind(why), until, now),
            Route::Refused(why) => return self.deny(shared, delivery, &Denied::Refused(why), until, now),
        }
        None
    }

    fn open(
        &mut self,
        shared: &mut Shared<'_>,
        group: GroupNumber,
        delivery: Delivery,
        until: &mut Until,
        now: Now,
    ) -> Option<Waiting> {
        let memory = self.memory.as_mut()?;
        let hand_over = match delivery.qos {
            Qos::AtMostOnce => HandOver::AtMostOnce,
            _ => HandOver::Acknowledged { dup: delivery.dup },
        };
        let (topic, frame, id) = (delivery.topic.as_str(), &delivery.payload, FrameId::of(&delivery.payload));
        let turn = memory.turn(&delivery, id);
        let copy = match turn {
            Turn::First => false,
            Turn::Further => true,
            Turn::Again(_) => memory.copies.knows(id),
        };
        let arrival = Arrival { hand_over, retain: delivery.retain, away: self.away, copy };
        match shared.keyring.open(&mut memory.opener, group, topic, frame, arrival, now.unix_ms) {
            Ok(Received::Repeated) => self.swallow(&delivery),
            Ok(Received::Message(message) | Received::Deleted(message)) => {
                shared.keyring.note_opened(group, message.payload().len());
                if matches!(turn, Turn::Again(_)) && !self.may_repeat(id) {
                    let sender = Some(message.sender().clone());
                    let text = "replayed: the broker sends it again and again".to_owned();
                    self.withhold(&delivery, Why { cause: Cause::Replayed, sender, text });
                } else {
                    self.judge_delivery(shared, &delivery, &message, now);
                }
            }
            Err(denied) => return self.deny(shared, delivery, &denied, until, now),
        }
        None
    }

    /// The broker says of its own accord that it sends something again: once on a connection it may, as often as the client
    /// was given it and has not acknowledged it.
    fn may_repeat(&mut self, frame: FrameId) -> bool {
        let given = self.memory.as_ref().map_or(0, |memory| memory.unacknowledged(frame));
        let repeated = self.repeated.entry(frame).or_default();
        *repeated += 1;
        *repeated <= given
    }

    /// An empty message, which is not sealed, so that the broker can read it: what the broker kept of the topic is deleted. It
    /// says nothing to whoever had the deleting member's tombstone. Else nobody vouches for it: the client gets it only if it
    /// can see that.
    fn attend_deletion(&mut self, delivery: Delivery) -> Option<Waiting> {
        let topic = &delivery.topic;
        let is_on_topic = |waiting: &Waiting| matches!(waiting, Waiting::Delivery(other) if other.topic == *topic);
        if self.waiting.iter().any(|(waiting, _)| is_on_topic(waiting)) {
            return Some(Waiting::Delivery(delivery));
        }
        let is_known = self.memory.as_ref().is_some_and(|memory| memory.deleted.contains(topic.as_str()));
        if is_known {
            self.swallow(&delivery);
            return None;
        }
        self.tell(Refused::Deletion, topic.clone().as_str(), Why::new(Cause::Deleted, UNSEALED_DELETION));
        if self.sees_flags() {
            self.answered(|proxy| proxy.deliver_empty(delivery.id, &[(DELETED, "broker")]));
        } else {
            self.swallow(&delivery);
        }
        None
    }

    /// A message that opened: whether the client gets it is a matter of what it says.
    fn judge_delivery(&mut self, shared: &mut Shared<'_>, delivery: &Delivery, message: &Message, now: Now) {
        if shared.keyring.hear(message, now.unix_ms) == Ok(true) {
            self.effects.push(Effect::AskForNews);
        }
        let freshness = shared.keyring.freshness();
        let arrived = Arrived::new(&delivery.topic, &delivery.payload, message, delivery.retain, freshness);
        let incoming = if message.is_tombstone() {
            Values::deleted(&arrived)
        } else {
            shared.values.arrive(&arrived, self.sees_flags(), now.unix_ms)
        };
        let refused = match incoming {
            Incoming::Deliver(deliver) => return self.hand_on(shared, delivery, message, *deliver, now),
            refused => refused,
        };
        if let Some(restored) = &mut self.restored
            && !matches!(refused, Incoming::Nothing)
        {
            restored.withheld(&delivery.topic);
        }
        let about = |cause, text| Why::about(message.sender(), cause, text);
        match refused {
            Incoming::Withhold(why) => self.withhold(delivery, why),
            Incoming::Diverted => self.withhold(delivery, about(Cause::FlaggedDiverted, DIVERTED)),
            Incoming::Nothing | Incoming::Deliver(_) => self.withhold(delivery, about(Cause::NoValue, NO_VALUE)),
        }
    }

    fn hand_on(
        &mut self,
        shared: &mut Shared<'_>,
        delivery: &Delivery,
        message: &Message,
        mut deliver: Deliver,
        now: Now,
    ) {
        deliver.extra.push((SENDER, message.sender().to_string()));
        let rules = shared.values.rules();
        if let Some(restored) = &mut self.restored {
            for missed in restored.before(rules, &delivery.topic, &deliver) {
                inject(&mut self.proxy, self.settings.annotate, &missed);
            }
        }
        let extra = self.settings.annotate.of(&deliver.extra);
        if let Err(error) = self.proxy.deliver(delivery.id, deliver.payload.clone(), deliver.props.clone(), &extra) {
            return self.withhold(delivery, Why::about(message.sender(), Cause::BadContent, &error.to_string()));
        }
        if let Some(restored) = &mut self.restored {
            restored.handed_on(rules, &delivery.topic, &deliver, now.unix_ms);
        }
        let Some(memory) = &mut self.memory else { return };
        let (receipt, frame) = (message.receipt(), FrameId::of(&delivery.payload));
        match memory.turn(delivery, frame) {
            // It takes the place of the earlier one.
            Turn::Again(earlier) => drop(memory.receipts.remove(&earlier)),
            _ => memory.copies.hand_on(frame, if self.settings.copies { delivery.copies } else { 1 }),
        }
        memory.opener.mark_delivered(&receipt);
        if message.is_tombstone() || message.is_retain() {
            memory.deleted.note(delivery.topic.as_str(), message.is_tombstone());
        }
        if delivery.qos != Qos::AtMostOnce {
            memory.receipts.insert(delivery.id, (receipt, frame));
            return;
        }
        memory.copies.finish(frame);
        if self.unsaved == Unsaved::No {
            self.unsaved = Unsaved::By(now.run_ms.saturating_add(SAVE_DELAY_MS));
        }
    }

    fn deny(
        &mut self,
        shared: &Shared<'_>,
        delivery: Delivery,
        denied: &Denied,
        until: &mut Until,
        now: Now,
    ) -> Option<Waiting> {
        if self.may_wait(shared.keyring, denied, until, now) {
            return Some(Waiting::Delivery(delivery));
        }
        let heard = until.news.is_none_or(|sync| shared.keyring.is_caught_up_after(sync));
        if matches!(denied, Denied::Behind(_)) && !heard && delivery.qos != Qos::AtMostOnce {
            // Nobody can say whether it is for this client. Not acknowledged, it stays at the broker.
            let code = denied.why().cause;
            warn!(%code, client = self.label, topic = %delivery.topic, "connection closed: {denied}");
            self.give_up("the ledger is out of reach");
            return None;
        }
        self.withhold(&delivery, denied.why().clone());
        None
    }

    /// Fails closed: the client never sees it, the broker has it acknowledged.
    fn withhold(&mut self, delivery: &Delivery, why: Why) {
        self.tell(Refused::Delivery { bytes: delivery.payload.len() }, delivery.topic.as_str(), why);
        self.swallow(delivery);
    }

    fn swallow(&mut self, delivery: &Delivery) {
        self.answered(|proxy| proxy.swallow(delivery.id));
    }

    /// The client has it for good. The broker hears so in the same step, once the replay windows are on disk.
    pub(super) fn handle_acked(&mut self, id: DeliveryId) {
        let Some(memory) = &mut self.memory else { return };
        if let Some((receipt, frame)) = memory.receipts.remove(&id) {
            // Of a copy that it has not acknowledged, the broker may yet send it again.
            if memory.copies.finish(frame) {
                memory.opener.mark_acknowledged(&receipt);
                // The windows refuse it from now on.
                self.repeated.remove(&frame);
            }
            self.unsaved = Unsaved::Now;
        }
    }

    /// Whether the client sees that a value is flagged.
    pub(super) fn sees_flags(&self) -> bool {
        self.settings.annotate != Annotate::None && self.version == Version::V5
    }
}
