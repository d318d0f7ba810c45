//! From a session's queue to its client, and the acknowledgements back (MQTT 5, §4.3 and §4.4).

use std::sync::Arc;

use sealcast_mqtt::{Qos, reason};

use super::Core;
use super::connection::ConnId;
use super::effects::JournalRecord;
use super::queue::Delivery;
use super::session::Session;
use super::usage::Class;
use crate::message::Message;
use crate::packets::{Outgoing, publish_size};
use crate::router::{SessionId, Target};

/// How a message reaches one session.
pub(super) struct Terms {
    pub qos: Qos,
    pub retain: bool,
    pub subscription_ids: Vec<u32>,
    pub share: Option<Arc<str>>,
    /// The group of the message's topic.
    pub group: Option<u64>,
    /// It is given up first when all queues together are full, whoever it is for.
    pub surplus: bool,
}

impl Terms {
    /// As the session's subscriptions have it.
    pub(super) fn new(message: &Message, group: Option<u64>, target: Target) -> Self {
        Self {
            qos: target.qos.min(message.qos),
            retain: message.retain && target.retain_as_published,
            subscription_ids: target.subscription_ids,
            share: target.share,
            group,
            surplus: false,
        }
    }
}

impl Core {
    /// A delivery that comes after all that there are.
    pub(super) fn next_order(&mut self) -> u64 {
        let order = self.next_order;
        self.next_order += 1;
        order
    }

    /// Sends or queues a message for one session, which has room for it ([`Core::obstacle`]).
    pub(super) fn deliver(&mut self, id: SessionId, message: &Arc<Message>, terms: Terms, now_ms: u64) {
        let order = self.next_order();
        self.deliver_as(order, id, message, terms, now_ms);
    }

    /// [`Self::deliver`] in the place of another delivery.
    pub(super) fn deliver_as(&mut self, order: u64, id: SessionId, message: &Arc<Message>, terms: Terms, now_ms: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if terms.qos == Qos::AtMostOnce {
            let Some(conn) = session.conn else { return };
            let Some(connection) = self.connections.get(&conn) else { return };
            let size = || publish_size(connection.version, message, terms.qos, &terms.subscription_ids);
            if connection.max_packet_bytes.is_none_or(|max| size() <= max) {
                self.fx.send(
                    conn,
                    Outgoing::Publish {
                        message: message.clone(),
                        qos: terms.qos,
                        retain: terms.retain,
                        dup: false,
                        id: 0,
                        subscription_ids: terms.subscription_ids,
                        remaining_s: message.remaining_s(now_ms),
                    },
                );
            }
            return;
        }
        // What a share is owed outlives the session: when the broker ends, another member gets it.
        let stored = session.persistent() || terms.share.is_some();
        let mut delivery = Delivery {
            order,
            message: message.clone(),
            qos: terms.qos,
            retain: terms.retain,
            subscription_ids: terms.subscription_ids,
            share: terms.share,
            group: terms.group,
            surplus: terms.surplus,
            maybe_sent: false,
            released: false,
            stored,
        };
        if stored {
            self.store_session(id);
            let count = self.stored.entry(message.seq).or_insert(0);
            if *count == 0 {
                self.fx.record(JournalRecord::Message(message.clone()));
            }
            *count += 1;
            self.fx.record(JournalRecord::Delivery { session: id, delivery: delivery.clone() });
        }
        self.count(id, &mut delivery);
        self.enqueue(id, delivery);
        self.pump(id, now_ms);
    }

    /// A session that ends with its connection stands in the journal once it has what a share is owed.
    fn store_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.stored) else { return };
        session.stored = true;
        self.fx.record(JournalRecord::Session { id, key: session.key.clone(), expiry_s: session.expiry_s });
    }

    /// Puts a delivery, which has been counted, into a session's queue.
    pub(super) fn enqueue(&mut self, id: SessionId, delivery: Delivery) {
        let class = Class::of(&self.router, &delivery.message.topic);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.queue.push(class, delivery);
        self.await_expiry(id);
    }

    /// Sends what the client's window has room for, and lets those go on who waited for room.
    pub(super) fn pump(&mut self, id: SessionId, now_ms: u64) {
        self.send_queued(id, now_ms);
        self.drained(id);
    }

    fn send_queued(&mut self, id: SessionId, now_ms: u64) {
        loop {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            let Some(conn) = session.conn else { return };
            let Some(connection) = self.connections.get(&conn) else { return };
            if session.inflight.len() >= session.window {
                return;
            }
            let Some(delivery) = session.queue.pop() else { return };
            let too_large = connection.max_packet_bytes.is_some_and(|max| {
                publish_size(connection.version, &delivery.message, delivery.qos, &delivery.subscription_ids) > max
            });
            let barred = !self.members.may_receive(&session.key.device, delivery.group);
            // MQTT 5, §3.1.2.11.4: as if sent. §3.3.2.3.3: expired messages are not sent.
            if barred || too_large || delivery.message.expired(now_ms) {
                self.finish(id, &delivery);
                continue;
            }
            let packet_id = session.allocate();
            if delivery.qos == Qos::ExactlyOnce && delivery.stored {
                self.fx.record(JournalRecord::Sent { order: delivery.order, id: packet_id });
            }
            self.fx.send(conn, outgoing(&delivery, packet_id, delivery.maybe_sent, now_ms));
            session.inflight.insert(packet_id, delivery);
            self.read_on(conn);
        }
    }

    /// After CONNACK: what was under way goes out again, in order, under its old identifiers (MQTT 5, §4.4).
    pub(super) fn resume(&mut self, id: SessionId, now_ms: u64) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(conn) = session.conn else { return };
        let mut under_way: Vec<(&u16, &Delivery)> = session.inflight.iter().collect();
        under_way.sort_by_key(|(_, delivery)| delivery.order);
        for (packet_id, delivery) in under_way {
            let packet = if delivery.released {
                Outgoing::PubRel { id: *packet_id, code: 0 }
            } else {
                outgoing(delivery, *packet_id, true, now_ms)
            };
            self.fx.send(conn, packet);
        }
        self.pump(id, now_ms);
    }

    pub(super) fn handle_puback(&mut self, id: SessionId, packet_id: u16, now_ms: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.inflight.get(&packet_id).is_some_and(|delivery| delivery.qos == Qos::AtLeastOnce)
            && let Some(delivery) = session.inflight.remove(&packet_id)
        {
            self.finish(id, &delivery);
            self.pump(id, now_ms);
        }
    }

    pub(super) fn handle_pubrec(&mut self, conn: ConnId, id: SessionId, packet_id: u16, code: u8, now_ms: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match session.inflight.get_mut(&packet_id).filter(|delivery| delivery.qos == Qos::ExactlyOnce) {
            None => self.fx.send(conn, Outgoing::PubRel { id: packet_id, code: reason::PACKET_IDENTIFIER_NOT_FOUND }),
            Some(_) if code >= reason::FIRST_FAILURE => {
                if let Some(delivery) = session.inflight.remove(&packet_id) {
                    self.finish(id, &delivery);
                    self.pump(id, now_ms);
                }
            }
            Some(delivery) => {
                if delivery.stored && !delivery.released {
                    self.fx.record(JournalRecord::Released { order: delivery.order });
                }
                delivery.released = true;
                self.fx.send(conn, Outgoing::PubRel { id: packet_id, code: 0 });
            }
        }
    }

    pub(super) fn handle_pubcomp(&mut self, id: SessionId, packet_id: u16, now_ms: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.inflight.get(&packet_id).is_some_and(|delivery| delivery.released)
            && let Some(delivery) = session.inflight.remove(&packet_id)
        {
            self.finish(id, &delivery);
            self.pump(id, now_ms);
        }
    }

    /// A delivery to a session that goes on has come to its end.
    pub(super) fn finish(&mut self, id: SessionId, delivery: &Delivery) {
        self.uncount(id, delivery);
        if delivery.stored {
            self.fx.record(JournalRecord::DeliveryEnd { order: delivery.order });
            self.unstore(delivery.message.seq);
        }
    }

    /// One journalled delivery less needs the message.
    pub(super) fn unstore(&mut self, seq: u64) {
        if let Some(count) = self.stored.get_mut(&seq) {
            *count -= 1;
            if *count == 0 {
                self.stored.remove(&seq);
                self.fx.record(JournalRecord::MessageEnd { seq });
            }
        }
    }
}

impl Session {
    /// A packet identifier that is not in use; the window keeps most of them free.
    fn allocate(&mut self) -> u16 {
        loop {
            let id = self.next_packet_id;
            self.next_packet_id = id.checked_add(1).unwrap_or(1);
            if !self.inflight.contains_key(&id) {
                return id;
            }
        }
    }
}

fn outgoing(delivery: &Delivery, id: u16, dup: bool, now_ms: u64) -> Outgoing {
    Outgoing::Publish {
        message: delivery.message.clone(),
        qos: delivery.qos,
        retain: delivery.retain,
        dup,
        id,
        subscription_ids: delivery.subscription_ids.clone(),
        remaining_s: delivery.message.remaining_s(now_ms),
    }
}
