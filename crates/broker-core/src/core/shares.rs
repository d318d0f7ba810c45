//! Shared subscriptions (MQTT 5, §4.8.2): which member gets a message, and who gets what a session leaves behind.
//!
//! The publisher of a message that waits for a member has its acknowledgement, and the message is owed to the share, not
//! to that member. So when a session ends, for whatever reason, what it has not been sent goes to another member, and so
//! does what it has not acknowledged at QoS 1. What it has been sent at QoS 2 goes to nobody else: the standard forbids
//! it, since the member may have it already. If the share has no other member, the messages end with the session, as
//! those of any session do. All of this holds over a crash too: what a share is owed is in the journal even if the session
//! that it waits for ends with its connection.
//!
//! The other member is the one that a new message would get, except that one with a subscription at QoS 0 comes last. It
//! gets the messages even if its queue has no room, since there is nobody to whom "no" could be said. Its queue is over
//! its limit then, as after the limit was lowered. Each delivery moves by itself, so that there are never more of them.
//!
//! A session may leave hundreds of thousands of them, so they go in slices, between which the broker does other things.
//! Until its turn comes, a delivery counts for the device that it waited for. In the journal it stays where it is, without
//! a session, and moves by one record: a crash between two slices loses nothing, and no message is handed over twice.

use std::collections::HashMap;
use std::ops::Bound;

use sealcast_mqtt::Qos;

use super::Core;
use super::deliveries::Terms;
use super::effects::JournalRecord;
use super::left::Left;
use super::members::Members;
use super::queue::Delivery;
use super::session::Session;
use super::usage::{Class, Usages};
use crate::limits::Limits;
use crate::message::{Message, delivery_cost};
use crate::packets::Subscribed;
use crate::router::{self, Matches, SessionId, Subscriber};
use crate::topic;

/// What a member of a share is judged by.
struct Judge<'a> {
    sessions: &'a HashMap<SessionId, Session>,
    usages: &'a Usages,
    limits: &'a Limits,
    members: &'a Members,
    message: &'a Message,
    class: Class,
    group: Option<u64>,
    /// Members with a subscription at QoS 0 are left out.
    kept: bool,
}

impl router::Judge for Judge<'_> {
    fn waits_for(&self, device: &str) -> bool {
        self.group.is_none_or(|group| self.members.include(device, group))
    }

    fn serves_others(&self) -> bool {
        !self.members.are_exclusive()
    }

    fn waits(&self) -> bool {
        self.message.qos > Qos::AtMostOnce
    }

    fn accepts(&self, subscribed: &Subscribed) -> bool {
        !self.kept || subscribed.keeps()
    }

    fn has_room(&self, session: SessionId, share: &str) -> bool {
        let bytes = self.message.cost() + delivery_cost(Some(share), &[]);
        let session = self.sessions.get(&session);
        session.is_some_and(|s| Core::obstacle(s, self.usages, self.limits, self.class, bytes).is_none())
    }
}

impl Core {
    /// Everyone who is to get a message; of a share, one for whom its publisher may wait, if there is one.
    pub(super) fn matches(
        &mut self,
        message: &Message,
        class: Class,
        group: Option<u64>,
        from: Option<SessionId>,
    ) -> Matches {
        let (sessions, usages, limits, members) = (&self.sessions, &self.usages, &self.limits, &self.members);
        let judge = Judge { sessions, usages, limits, members, message, class, group, kept: false };
        let mut found = self.router.matches(&message.topic, from, &judge);
        if group.is_some() && members.are_exclusive() {
            let device = |id: &SessionId| sessions.get(id).map(|session| &session.key.device);
            found.sessions.retain(|id, _| device(id).is_some_and(|device| members.may_receive(device, group)));
        }
        found
    }

    /// The client of a session has come or gone: its shared subscriptions are for online members, or for others.
    pub(super) fn move_in_shares(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let subscriber = session.subscriber(id);
        for (text, subscribed) in session.shared_subscriptions() {
            if let Ok((share, filter)) = topic::parse_filter(text) {
                self.router.insert(&subscriber, share, filter, *subscribed);
            }
        }
    }

    /// What an ended session had neither been sent nor, at QoS 1, acknowledged: what shares are owed waits for
    /// [`Self::hand_over`].
    pub(super) fn leave_behind(&mut self, session: &mut Session) {
        let device = &session.key.device;
        let in_flight = std::mem::take(&mut session.inflight).into_values();
        let (unacknowledged, sent_once): (Vec<_>, Vec<_>) = in_flight.partition(|d| d.qos == Qos::AtLeastOnce);
        let queued = std::iter::from_fn(|| session.queue.pop());
        let (mut owed, ended): (Vec<_>, Vec<_>) =
            unacknowledged.into_iter().chain(queued).partition(|d| d.share.is_some());
        owed.sort_by_key(|delivery| delivery.order);
        for delivery in owed {
            let class = Class::of(&self.router, &delivery.message.topic);
            self.usages.leave(class, delivery.cost(), delivery.surplus);
            self.left.push_back(Left { delivery, device: Some(device.clone()) });
        }
        for delivery in sent_once.into_iter().chain(ended) {
            let class = Class::of(&self.router, &delivery.message.topic);
            self.usages.queue_end(device, class, delivery.cost(), delivery.surplus);
            if delivery.stored {
                self.unstore(delivery.message.seq);
            }
        }
    }

    /// Gives what ended sessions were to get by shared subscriptions to other members: as much as one slice has. Not
    /// inside what ends a session: when many sessions end at once, none of them is a member any more.
    pub(super) fn hand_over(&mut self, now_ms: u64) {
        while self.slice_left > 0
            && let Some(Left { delivery, device }) = self.left.pop_front()
        {
            self.slice_left -= 1;
            let class = Class::of(&self.router, &delivery.message.topic);
            if let Some(device) = &device {
                self.usages.left_end(device, class, delivery.cost(), delivery.surplus);
            }
            if delivery.message.expired(now_ms) || !self.hand_over_one(&delivery, class, now_ms) {
                self.fx.record(JournalRecord::DeliveryEnd { order: delivery.order });
            }
            // Only now, so that the journal keeps its copy of the message.
            self.unstore(delivery.message.seq);
            if let Some(device) = device {
                self.device_drained(&device);
            }
        }
    }

    /// False if the share has nobody for it.
    fn hand_over_one(&mut self, delivery: &Delivery, class: Class, now_ms: u64) -> bool {
        let (Some(share), message, group) = (&delivery.share, &delivery.message, delivery.group) else { return false };
        let (sessions, usages, limits, members) = (&self.sessions, &self.usages, &self.limits, &self.members);
        let mut judge = Judge { sessions, usages, limits, members, message, class, group, kept: true };
        let target = self.router.member(share, &judge).or_else(|| {
            judge.kept = false;
            self.router.member(share, &judge)
        });
        let Some(target) = target else { return false };
        if target.qos == Qos::AtMostOnce {
            self.fx.record(JournalRecord::DeliveredOnce { order: delivery.order });
        }
        // It keeps its place among the messages, whoever gets it.
        let (session, terms) = (target.session, Terms::new(message, group, target));
        self.deliver_as(delivery.order, session, message, terms, now_ms);
        true
    }
}

impl Session {
    /// As the router knows it.
    pub(super) fn subscriber(&self, id: SessionId) -> Subscriber {
        Subscriber { device: self.key.device.clone(), session: id, online: self.conn.is_some() }
    }

    pub(super) fn shared_subscriptions(&self) -> impl Iterator<Item = (&String, &Subscribed)> {
        let from = self.subscriptions.range::<str, _>((Bound::Included("$share/"), Bound::Unbounded));
        from.take_while(|(text, _)| text.starts_with("$share/"))
    }
}
