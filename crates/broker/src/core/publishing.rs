//! From a PUBLISH to everyone who gets it.

use std::sync::Arc;

use super::deliveries::Terms;
use super::{ConnId, Core, HubMessage, NewMessage, Record};
use crate::core::connections::ALIAS_MAX;
use crate::core::effects::Output;
use crate::message::{self, Message, Qos, Received};
use crate::policy::{Intercepted, Verdict};
use crate::router::{LocalId, SessionId};
use crate::topic;
use crate::wire::{Outgoing, Publish, Version};

const NOT_AUTHORIZED: u8 = 0x87;
const QUOTA: u8 = 0x97;
const TOPIC_NAME: u8 = 0x90;
const RECEIVE_MAXIMUM: u8 = 0x93;
const TOPIC_ALIAS: u8 = 0x94;
const UNKNOWN_ID: u8 = 0x92;

impl Core {
    pub(super) fn handle_publish(&mut self, conn: ConnId, mut publish: Publish, now_ms: u64) {
        if let Err(code) = self.resolve_alias(conn, &mut publish) {
            self.handle_failed(conn, code, now_ms);
            return;
        }
        let Some(connection) = self.connections.get(&conn) else { return };
        let (id, device, version) = (connection.session, connection.device.clone(), connection.version);
        if topic::validate_topic(&publish.topic).is_err() {
            self.handle_failed(conn, TOPIC_NAME, now_ms);
            return;
        }
        let packet_id = publish.id;
        let qos = publish.qos;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let persistent = session.persistent();
        if qos == Qos::ExactlyOnce {
            if session.inbound.contains(&packet_id) {
                // Sent again: it was routed the first time (MQTT 5, §4.3.3).
                self.fx.send(conn, Outgoing::PubRec { id: packet_id, code: 0 });
                return;
            }
            if session.inbound.len() >= usize::from(self.limits.max_inflight.max(1)) && version == Version::V5
                || session.inbound.len() >= usize::from(u16::MAX)
            {
                self.handle_failed(conn, RECEIVE_MAXIMUM, now_ms);
                return;
            }
        }
        if !self.policy.may_publish(&device, &publish.topic) {
            tracing::info!(%device, topic = publish.topic, "publish refused");
            self.refuse_publish(conn, version, qos, packet_id, NOT_AUTHORIZED, now_ms);
            return;
        }
        let bytes = message::cost(&publish.topic, &publish.payload, &publish.properties);
        if publish.retain && !publish.payload.is_empty() && !self.may_retain(&device, &publish.topic, bytes) {
            let usage = self.usages.of(&device);
            tracing::warn!(
                %device,
                topic = publish.topic,
                retained = usage.retained,
                bytes = usage.retained_bytes,
                "publish refused: the device has too many retained messages"
            );
            self.refuse_publish(conn, version, qos, packet_id, QUOTA, now_ms);
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if qos == Qos::ExactlyOnce {
            session.inbound.insert(packet_id);
            if persistent {
                self.fx.record(Record::Inbound { session: id, id: packet_id });
            }
        }
        let new = NewMessage {
            topic: publish.topic,
            payload: publish.payload,
            qos,
            retain: publish.retain,
            properties: publish.properties,
            sender: Some(device),
        };
        self.publish(new, Some(id), true, now_ms);
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.fx.send(conn, Outgoing::PubAck { id: packet_id, code: 0 }),
            Qos::ExactlyOnce => self.fx.send(conn, Outgoing::PubRec { id: packet_id, code: 0 }),
        }
    }

    fn refuse_publish(&mut self, conn: ConnId, version: Version, qos: Qos, packet_id: u16, code: u8, now_ms: u64) {
        match (qos, version) {
            (Qos::AtMostOnce, _) => {}
            (Qos::AtLeastOnce, Version::V5) => self.fx.send(conn, Outgoing::PubAck { id: packet_id, code }),
            (Qos::ExactlyOnce, Version::V5) => self.fx.send(conn, Outgoing::PubRec { id: packet_id, code }),
            // MQTT 3 cannot refuse one message; an acknowledgement would be a lie.
            _ => self.handle_failed(conn, code, now_ms),
        }
    }

    /// Whether `device` may have a retained message of so many bytes on `topic`, in place of what it has there.
    fn may_retain(&self, device: &str, topic: &str, bytes: usize) -> bool {
        let usage = self.usages.of(device);
        let old = self.retained.get(topic).filter(|old| old.sender.as_deref() == Some(device));
        let (messages, old_bytes) = old.map_or((0, 0), |old| (1, old.cost()));
        usage.retained.saturating_sub(messages) < self.limits.max_device_retained
            && usage.retained_bytes.saturating_sub(old_bytes).saturating_add(bytes)
                <= self.limits.max_device_retained_bytes
    }

    pub(super) fn handle_pubrel(&mut self, conn: ConnId, id: SessionId, packet_id: u16) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let known = session.inbound.remove(&packet_id);
        if known && session.persistent() {
            // Must be durable before PUBCOMP: the client may then use the identifier for a new message.
            self.fx.record(Record::InboundEnd { session: id, id: packet_id });
        }
        self.fx.send(conn, Outgoing::PubComp { id: packet_id, code: if known { 0 } else { UNKNOWN_ID } });
    }

    fn resolve_alias(&mut self, conn: ConnId, publish: &mut Publish) -> Result<(), u8> {
        let Some(connection) = self.connections.get_mut(&conn) else { return Ok(()) };
        let Some(alias) = publish.alias else { return Ok(()) };
        if alias == 0 || alias > ALIAS_MAX {
            return Err(TOPIC_ALIAS);
        }
        if publish.topic.is_empty() {
            publish.topic = connection.aliases.get(&alias).ok_or(TOPIC_ALIAS)?.clone();
        } else {
            connection.aliases.insert(alias, publish.topic.clone());
        }
        Ok(())
    }

    /// A message of the hub's own.
    pub(crate) fn handle_hub_publish(&mut self, message: HubMessage, token: u64, now_ms: u64) {
        let new = NewMessage {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            properties: message.properties,
            sender: None,
        };
        self.publish(new, None, message.intercept, now_ms);
        self.fx.outputs.push(Output::Done(token));
    }

    /// Intercepts, retains and routes.
    pub(super) fn publish(&mut self, mut new: NewMessage, from: Option<SessionId>, intercept: bool, now_ms: u64) {
        if let Some(interceptor) = self.interceptor.as_ref().filter(|_| intercept) {
            let mut message = Intercepted {
                topic: std::mem::take(&mut new.topic),
                payload: std::mem::take(&mut new.payload),
                qos: new.qos,
                retain: new.retain,
            };
            let verdict = interceptor.publish(new.sender.as_deref(), &mut message);
            if verdict == Verdict::Drop || topic::validate_topic(&message.topic).is_err() {
                return;
            }
            (new.topic, new.payload, new.qos, new.retain) =
                (message.topic, message.payload, message.qos, message.retain);
        }
        let message = self.new_message(new, now_ms);
        if message.retain {
            self.retain(&message);
        }
        self.route(&message, from, now_ms);
    }

    fn retain(&mut self, message: &Arc<Message>) {
        if let Some(old) = self.retained.remove(&message.topic) {
            self.retained_bytes = self.retained_bytes.saturating_sub(old.cost());
            self.usages.retained_end(old.sender.as_ref(), old.cost());
            if message.payload.is_empty() {
                self.fx.record(Record::RetainedEnd { topic: message.topic.clone() });
            }
        }
        if message.payload.is_empty() {
            return;
        }
        // Wills, and what an interceptor has changed, have not been judged before.
        let sender = message.sender.as_ref();
        if sender.is_some_and(|device| !self.may_retain(device, &message.topic, message.cost())) {
            let device = sender.map(|device| &**device).unwrap_or_default();
            tracing::warn!(device, topic = %message.topic, "not retained: the device has too many retained messages");
            self.fx.record(Record::RetainedEnd { topic: message.topic.clone() });
            return;
        }
        if self.retained.len() >= self.limits.max_retained
            || self.retained_bytes.saturating_add(message.cost()) > self.limits.max_retained_bytes
        {
            tracing::warn!(topic = %message.topic, retained = self.retained.len(), "not retained: the limit is reached");
            self.fx.record(Record::RetainedEnd { topic: message.topic.clone() });
            return;
        }
        self.retained_bytes += message.cost();
        self.usages.retained(sender, message.cost());
        self.fx.record(Record::Retained(message.clone()));
        self.retained.insert(message.topic.clone(), message.clone());
    }

    fn route(&mut self, message: &Arc<Message>, from: Option<SessionId>, now_ms: u64) {
        let sessions = &self.sessions;
        let online = |id: SessionId| sessions.get(&id).is_some_and(|session| session.conn.is_some());
        let found = self.router.matches(&message.topic, from, &online);
        for target in found.targets.into_values() {
            let terms = Terms {
                qos: target.qos.min(message.qos),
                retain: message.retain && target.retain_as_published,
                subscription_ids: target.subscription_ids,
            };
            self.deliver(target.session, message, terms, now_ms);
        }
        for local in found.locals {
            self.fx.outputs.push(Output::Local(local, Box::new(received(message))));
        }
    }

    /// An in-process subscriber; it gets retained messages at once.
    pub(crate) fn handle_local_subscribe(&mut self, filter: String, now_ms: u64) -> LocalId {
        let id = self.next_local;
        self.next_local += 1;
        self.router.insert_local(id, &filter);
        let wanted = |m: &&Arc<Message>| self.router.filter_matches(&filter, &m.topic) && !m.expired(now_ms);
        for message in self.retained.values().filter(wanted) {
            self.fx.outputs.push(Output::Local(id, Box::new(received(message))));
        }
        self.locals.insert(id, filter);
        id
    }

    pub(crate) fn handle_local_unsubscribe(&mut self, id: LocalId) {
        if let Some(filter) = self.locals.remove(&id) {
            self.router.remove_local(id, &filter);
        }
    }
}

fn received(message: &Message) -> Received {
    Received {
        topic: message.topic.clone(),
        payload: message.payload.clone(),
        qos: message.qos,
        retain: message.retain,
        properties: message.properties.clone(),
        sender: message.sender.clone(),
    }
}
