//! What a journal holds, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sealcast_mqtt::TopicName;

use super::effects::JournalRecord;
use super::queue::Delivery;
use super::restore::{Restored, RestoredSession};
use super::session::SessionKey;
use crate::message::Message;
use crate::packets::Subscribed;
use crate::router::SessionId;

/// Everything that records have made durable: what a journal must hold after it has stored them, whatever its form. The
/// tests restart the core from it, and hold the journal in SQLite against it.
#[derive(Clone, Debug, Default)]
pub struct Image {
    sessions: BTreeMap<SessionId, Stored>,
    deliveries: BTreeMap<u64, StoredDelivery>,
    messages: BTreeMap<u64, Arc<Message>>,
    retained: BTreeMap<TopicName, Arc<Message>>,
}

#[derive(Clone, Debug)]
struct Stored {
    key: SessionKey,
    expiry_s: u32,
    disconnected_ms: Option<u64>,
    subscriptions: BTreeMap<String, Subscribed>,
    inbound: BTreeSet<u16>,
}

#[derive(Clone, Debug)]
struct StoredDelivery {
    session: SessionId,
    packet_id: Option<u16>,
    delivery: Delivery,
}

impl Image {
    /// Takes over one record; those before it have been.
    pub fn apply(&mut self, record: &JournalRecord) {
        match record {
            JournalRecord::Session { id, key, expiry_s } => self.session(*id, key, *expiry_s),
            JournalRecord::Disconnected { id, at_ms, expiry_s } => {
                if let Some(session) = self.sessions.get_mut(id) {
                    (session.disconnected_ms, session.expiry_s) = (Some(*at_ms), *expiry_s);
                }
            }
            JournalRecord::SessionEnd { id } => {
                self.sessions.remove(id);
                self.deliveries.retain(|_, stored| stored.session != *id || stored.is_owed_to_a_share());
            }
            JournalRecord::Subscribed { session, filter, subscribed } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.subscriptions.insert(filter.clone(), *subscribed);
                }
            }
            JournalRecord::Unsubscribed { session, filter } => {
                self.sessions.get_mut(session).map(|session| session.subscriptions.remove(filter));
            }
            JournalRecord::Message(message) => drop(self.messages.insert(message.seq, message.clone())),
            JournalRecord::MessageEnd { seq } => drop(self.messages.remove(seq)),
            JournalRecord::Delivery { session, delivery } => {
                let delivery = Delivery { released: false, ..delivery.clone() };
                let stored = StoredDelivery { session: *session, packet_id: None, delivery };
                self.deliveries.insert(stored.delivery.order, stored);
            }
            JournalRecord::Sent { order, id } => {
                self.deliveries.get_mut(order).map(|stored| stored.packet_id.insert(*id));
            }
            JournalRecord::Released { order } => {
                if let Some(stored) = self.deliveries.get_mut(order) {
                    stored.delivery.released = true;
                }
            }
            JournalRecord::DeliveryEnd { order } | JournalRecord::DeliveredOnce { order } => {
                drop(self.deliveries.remove(order))
            }
            JournalRecord::Inbound { session, id } => {
                self.sessions.get_mut(session).map(|session| session.inbound.insert(*id));
            }
            JournalRecord::InboundEnd { session, id } => {
                self.sessions.get_mut(session).map(|session| session.inbound.remove(id));
            }
            JournalRecord::Retained(message) => drop(self.retained.insert(message.topic.clone(), message.clone())),
            JournalRecord::RetainedEnd { topic } => drop(self.retained.remove(topic)),
        }
    }

    fn session(&mut self, id: SessionId, key: &SessionKey, expiry_s: u32) {
        let new = || Stored {
            key: key.clone(),
            expiry_s,
            disconnected_ms: None,
            subscriptions: BTreeMap::new(),
            inbound: BTreeSet::new(),
        };
        let session = self.sessions.entry(id).or_insert_with(new);
        (session.expiry_s, session.disconnected_ms) = (expiry_s, None);
    }

    /// What a new core takes over ([`super::Core::restore`]).
    pub fn restored(&self) -> Restored {
        let mut restored = Restored { retained: self.retained.values().cloned().collect(), ..Restored::default() };
        let mut sessions: BTreeMap<SessionId, RestoredSession> =
            self.sessions.iter().map(|(id, session)| (*id, session.restored(*id))).collect();
        let last = sessions.keys().next_back().copied();
        restored.last_session = last.unwrap_or(0);
        for (order, stored) in &self.deliveries {
            restored.last_order = *order;
            let delivery =
                Delivery { group: None, surplus: false, maybe_sent: false, stored: true, ..stored.delivery.clone() };
            if !self.messages.contains_key(&delivery.message.seq) {
                continue;
            }
            match sessions.get_mut(&stored.session) {
                Some(session) => session.deliveries.push((stored.packet_id, delivery)),
                None => restored.left.push(delivery),
            }
            restored.last_session = restored.last_session.max(stored.session);
        }
        let retained = self.retained.values().map(|message| message.seq);
        restored.last_message = self.messages.keys().copied().chain(retained).max().unwrap_or(0);
        restored.sessions = sessions.into_values().collect();
        restored
    }
}

impl Stored {
    fn restored(&self, id: SessionId) -> RestoredSession {
        RestoredSession {
            id,
            key: self.key.clone(),
            expiry_s: self.expiry_s,
            disconnected_ms: self.disconnected_ms,
            subscriptions: self.subscriptions.clone().into_iter().collect(),
            deliveries: Vec::new(),
            inbound: self.inbound.iter().copied().collect(),
        }
    }
}

impl StoredDelivery {
    /// Not of its session alone: another member of the share gets it when the session ends, unless it has gone out.
    fn is_owed_to_a_share(&self) -> bool {
        self.delivery.share.is_some() && self.packet_id.is_none()
    }
}
