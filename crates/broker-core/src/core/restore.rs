//! The state that the journal gives back at start.

use std::collections::HashMap;
use std::sync::Arc;

use sealcast_mqtt::{Qos, TopicName};

use super::Core;
use super::left::Left;
use super::queue::Delivery;
use super::session::{Session, SessionKey};
use super::usage::Class;
use crate::message::Message;
use crate::packets::Subscribed;
use crate::router::SessionId;
use crate::topic;

/// A session as the journal has it.
#[derive(Debug)]
pub struct RestoredSession {
    /// Its number.
    pub id: SessionId,
    /// Whose it is.
    pub key: SessionKey,
    /// Seconds that it outlives its connection; `u32::MAX`: for ever.
    pub expiry_s: u32,
    /// `None`: it was online when the broker ended.
    pub disconnected_ms: Option<u64>,
    /// By filter, with `$share/<group>/` if it is shared.
    pub subscriptions: Vec<(String, Subscribed)>,
    /// In order; those at QoS 2 that have gone out with their identifiers.
    pub deliveries: Vec<(Option<u16>, Delivery)>,
    /// QoS 2 packet identifiers of its client whose PUBREL is awaited.
    pub inbound: Vec<u16>,
}

/// All that the journal has.
#[derive(Debug, Default)]
pub struct Restored {
    /// Sessions, in any order.
    pub sessions: Vec<RestoredSession>,
    /// What shares are owed of sessions that have ended, in order.
    pub left: Vec<Delivery>,
    /// Retained messages.
    pub retained: Vec<Arc<Message>>,
    /// The highest number of a session that is or has left something.
    pub last_session: u64,
    /// The highest number of a message.
    pub last_message: u64,
    /// The highest number of a delivery.
    pub last_order: u64,
}

/// The groups of topics, asked once each.
type Groups = HashMap<TopicName, Option<u64>>;

impl Core {
    /// Takes over what the journal holds; before any connection. Sessions that have expired meanwhile end.
    pub fn restore(&mut self, restored: Restored, now_ms: u64) {
        self.next_session = restored.last_session + 1;
        self.next_message = restored.last_message + 1;
        self.next_order = restored.last_order + 1;
        let cap = u32::try_from(self.limits.max_session_expiry.as_secs()).unwrap_or(u32::MAX);
        for message in restored.retained {
            self.usages.retain(Class::of(&self.router, &message.topic), &message);
            self.retained.insert(message.topic.clone(), message);
        }
        let mut deliveries = Vec::new();
        for found in restored.sessions {
            let mut session = Session::new(found.key);
            session.stored = true;
            // The operator may have lowered the limit to be rid of a session.
            session.expiry_s = found.expiry_s.min(cap);
            session.disconnected_ms = found.disconnected_ms.unwrap_or(now_ms);
            session.inbound.extend(found.inbound);
            for (text, options) in found.subscriptions {
                if let Ok((share, filter)) = topic::parse_filter(&text) {
                    self.router.insert(&session.subscriber(found.id), share, filter, options);
                }
                session.subscriptions.insert(text, options);
            }
            deliveries.push((found.id, found.deliveries));
            self.usages.session(&session.key.device, false);
            self.by_key.insert(session.key.clone(), found.id);
            self.sessions.insert(found.id, session);
            self.await_timer(found.id);
        }
        let mut groups = HashMap::new();
        for (id, deliveries) in deliveries {
            self.restore_deliveries(id, deliveries, &mut groups);
        }
        for mut delivery in restored.left {
            self.restore_delivery(&mut delivery, &mut groups);
            self.left.push_back(Left { delivery, device: None });
        }
        self.handle_timeout(now_ms);
    }

    /// What the journal does not have of it.
    fn restore_delivery(&mut self, delivery: &mut Delivery, groups: &mut Groups) {
        let topic = &delivery.message.topic;
        delivery.group = *groups.entry(topic.clone()).or_insert_with(|| self.policy.group(topic));
        *self.stored.entry(delivery.message.seq).or_insert(0) += 1;
    }

    fn restore_deliveries(&mut self, id: SessionId, deliveries: Vec<(Option<u16>, Delivery)>, groups: &mut Groups) {
        for (packet_id, mut delivery) in deliveries {
            self.restore_delivery(&mut delivery, groups);
            // DUP says that it may be a second try (MQTT 5, §3.3.1.1). Whoever tells replays from second tries must hear it.
            delivery.maybe_sent = delivery.qos == Qos::AtLeastOnce;
            self.count(id, &mut delivery);
            match packet_id {
                None => self.enqueue(id, delivery),
                Some(packet_id) => {
                    self.sessions.get_mut(&id).map(|session| session.inflight.insert(packet_id, delivery));
                }
            }
        }
    }
}
