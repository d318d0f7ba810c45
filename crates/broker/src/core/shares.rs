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
//! In the journal, a session's end and its deliveries to others stand in one transaction: they come out of the core with
//! the same [`super::Effects`].

use std::collections::HashMap;

use sealcast_mqtt::Qos;

use super::Core;
use super::deliveries::Terms;
use super::queue::Delivery;
use super::session::Session;
use super::usage::{Class, Usages};
use crate::config::Limits;
use crate::message::Message;
use crate::packets::Subscribed;
use crate::policy::Policy;
use crate::router::{Matches, SessionId};

/// What a member of a share is judged by.
struct Judge<'a> {
    sessions: &'a HashMap<SessionId, Session>,
    usages: &'a Usages,
    limits: &'a Limits,
    policy: &'a dyn Policy,
    message: &'a Message,
    class: Class,
    group: Option<u64>,
}

impl Judge<'_> {
    /// Publishers wait for a device that may hold them up, so it is preferred even if it has no room.
    /// Whoever is away and subscribed at QoS 0 would lose the message, and comes last.
    fn readiness(&self, id: SessionId, subscribed: &Subscribed) -> u8 {
        let Some(session) = self.sessions.get(&id) else { return 0 };
        let keeps = session.conn.is_some() || subscribed.options.qos.min(self.message.qos) > Qos::AtMostOnce;
        let room = Core::obstacle(session, self.usages, self.limits, self.class, self.message.cost()).is_none();
        let waited_for = self.group.is_none_or(|group| self.policy.is_member(&session.key.device, group));
        8 * u8::from(keeps) + 4 * u8::from(waited_for) + 2 * u8::from(room) + u8::from(session.conn.is_some())
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
        let (sessions, usages, limits, policy) = (&self.sessions, &self.usages, &self.limits, &*self.policy);
        let judge = Judge { sessions, usages, limits, policy, message, class, group };
        self.router.matches(&message.topic, from, &|id, subscribed| judge.readiness(id, subscribed))
    }

    /// What an ended session had neither been sent nor, at QoS 1, acknowledged: what shares are owed goes to
    /// [`Self::hand_over`].
    pub(super) fn leave_behind(&mut self, session: &mut Session) {
        let in_flight = std::mem::take(&mut session.inflight).into_values();
        let (unacknowledged, sent_once): (Vec<_>, Vec<_>) = in_flight.partition(|d| d.qos == Qos::AtLeastOnce);
        let queued = std::iter::from_fn(|| session.queue.pop());
        let (mut owed, ended): (Vec<_>, Vec<_>) =
            unacknowledged.into_iter().chain(queued).partition(|d| d.share.is_some());
        owed.sort_by_key(|delivery| delivery.order);
        for delivery in sent_once.iter().chain(&owed).chain(&ended) {
            let class = Class::of(&self.router, &delivery.message.topic);
            self.usages.queue_end(&session.key.device, class, delivery.cost(), delivery.surplus);
        }
        self.left.extend(owed);
        for delivery in sent_once.into_iter().chain(ended) {
            if delivery.stored {
                self.unstore(delivery.message.seq);
            }
        }
    }

    /// Gives what ended sessions were to get by shared subscriptions to other members. Not inside what ends a session:
    /// when many sessions end at once, none of them is a member any more.
    pub(super) fn hand_over(&mut self, now_ms: u64) {
        while let Some(delivery) = self.left.pop_front() {
            if !delivery.message.expired(now_ms) {
                self.hand_over_one(&delivery, now_ms);
            }
            // Only now, so that the journal keeps its copy of the message.
            if delivery.stored {
                self.unstore(delivery.message.seq);
            }
        }
    }

    fn hand_over_one(&mut self, delivery: &Delivery, now_ms: u64) {
        let (Some(share), message) = (&delivery.share, &delivery.message) else { return };
        let class = Class::of(&self.router, &message.topic);
        let (sessions, usages, limits, policy) = (&self.sessions, &self.usages, &self.limits, &*self.policy);
        let judge = Judge { sessions, usages, limits, policy, message, class, group: delivery.group };
        let target = self.router.member(share, &|id, subscribed| {
            16 * u8::from(subscribed.options.qos > Qos::AtMostOnce) + judge.readiness(id, subscribed)
        });
        if let Some(target) = target {
            // It keeps its place among the messages, whoever gets it.
            let (session, terms) = (target.session, Terms::new(message, delivery.group, target));
            self.deliver_as(delivery.order, session, message, terms, now_ms);
        }
    }
}
