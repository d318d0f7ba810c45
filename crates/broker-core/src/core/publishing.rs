//! From a PUBLISH to everyone who gets it.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use sealcast_mqtt::{PacketId, Properties, Property, Publish, Qos, TopicName, Version, reason};

use super::connection::{ALIAS_MAX, ConnId};
use super::deliveries::Terms;
use super::effects::{JournalRecord, Output};
use super::usage::{Bound, Class};
use super::{Core, HubMessage, NewMessage};
use crate::cause::Cause;
use crate::message::{self, Message, Received};
use crate::packets::Outgoing;
use crate::policy::{Credential, Intercepted, Interception, Peer};
use crate::router::{LocalId, Matches, SessionId};
use crate::topic;

/// Whose PUBLISH it is, and how it is answered.
struct Publisher {
    conn: ConnId,
    session: SessionId,
    peer: Peer,
    version: Version,
    qos: Qos,
    /// 0 at QoS 0.
    packet_id: u16,
}

/// What the session of its publisher knows of a PUBLISH.
enum Inbound {
    /// At QoS 0 and 1 always.
    New,
    Known,
    /// Another one may not be under way.
    TooMany,
}

/// Why a PUBLISH is refused.
struct Refused {
    code: u8,
    topic: TopicName,
    reason: &'static str,
}

/// Topics up to this length are told back in a refusal.
const MAX_TOLD_TOPIC: usize = 1024;

/// What becomes of a message that a session has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Its publisher can be told: it goes to nobody.
    Refusable,
    /// Nobody can be told: it goes to the others.
    Final,
}

/// The session that has no room for a message, and why.
pub(super) struct NoRoom {
    pub session: SessionId,
    /// The share that has picked it.
    pub share: Option<Arc<str>>,
    pub class: Class,
    /// What it would have to take.
    pub bytes: usize,
    pub bound: Bound,
}

impl Core {
    pub(super) fn handle_publish(&mut self, conn: ConnId, publish: Publish, now_ms: u64) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let topic = match resolve_alias(&mut connection.aliases, &publish) {
            Ok(topic) => topic,
            Err(code) => return self.handle_failed(conn, code, now_ms),
        };
        let from = Publisher {
            conn,
            session: connection.session,
            peer: connection.peer.clone(),
            version: connection.version,
            qos: publish.qos,
            packet_id: publish.packet_id.map_or(0, PacketId::value),
        };
        if topic::check_levels(&topic).is_err() {
            return self.handle_failed(conn, reason::TOPIC_NAME_INVALID, now_ms);
        }
        match self.check_inbound(&from) {
            Inbound::New => self.take_publish(&from, topic, publish, now_ms),
            // Sent again: it was routed the first time (MQTT 5, §4.3.3).
            Inbound::Known => self.fx.send(conn, Outgoing::PubRec { id: from.packet_id, code: 0 }),
            Inbound::TooMany => self.handle_failed(conn, reason::RECEIVE_MAXIMUM_EXCEEDED, now_ms),
        }
    }

    fn check_inbound(&self, from: &Publisher) -> Inbound {
        let inbound = self.sessions.get(&from.session).map(|session| &session.inbound);
        let Some(inbound) = inbound.filter(|_| from.qos == Qos::ExactlyOnce) else { return Inbound::New };
        let most = match from.version {
            Version::V5 => self.limits.max_inflight.max(1),
            Version::V31 | Version::V311 => u16::MAX,
        };
        if inbound.contains(&from.packet_id) {
            Inbound::Known
        } else if inbound.len() >= usize::from(most) {
            Inbound::TooMany
        } else {
            Inbound::New
        }
    }

    /// Publishes a message that has not come before, if its device may publish it and there is room for it.
    fn take_publish(&mut self, from: &Publisher, topic: TopicName, mut publish: Publish, now_ms: u64) {
        // What else stands there is between the client and the broker.
        publish.properties.retain(Property::is_forwarded);
        if let Err((code, reason)) = self.may_take(&from.peer, &topic, &publish, now_ms) {
            return self.refuse_publish(from, Refused { code, topic, reason }, now_ms);
        }
        // Only MQTT 3 publishers wait with their message; the payload is shared.
        let waits = (from.qos > Qos::AtMostOnce && from.version != Version::V5).then(|| publish.clone());
        let new = NewMessage {
            topic: topic.clone(),
            payload: publish.payload,
            qos: from.qos,
            retain: publish.retain,
            properties: publish.properties,
            sender: Some(from.peer.clone()),
        };
        let Err(no_room) = self.publish(new, Some(from.session), true, Offer::Refusable, now_ms) else {
            return self.acknowledge(from);
        };
        let bound = no_room.bound;
        self.note_full(no_room.session, bound, now_ms);
        match waits {
            Some(publish) => self.hold_up(from.conn, publish, no_room, now_ms),
            None => {
                self.refused += 1;
                let reason = match bound {
                    Bound::Session => "the queue of a session that the message is for is full",
                    Bound::Device => "the queues of a device that the message is for are full",
                    Bound::Total => "the queues of all the broker's sessions together are full",
                };
                self.refuse_publish(from, Refused { code: reason::QUOTA_EXCEEDED, topic, reason }, now_ms);
            }
        }
    }

    /// The reason code of a refusal, and why, in words.
    fn may_take(
        &mut self,
        peer: &Peer,
        topic: &TopicName,
        publish: &Publish,
        now_ms: u64,
    ) -> Result<(), (u8, &'static str)> {
        let device = &*peer.device;
        if !self.policy.may_publish(peer, topic) {
            let code = Cause::Publish;
            self.causes.add(code);
            if let Some(unlogged) = self.told.due("publish refused", device, topic, now_ms) {
                let reason = self.policy.why_not_publish(peer, topic);
                tracing::info!(%code, device, %topic, unlogged, "publish refused: {reason}");
            }
            return Err((reason::NOT_AUTHORIZED, "the device may not publish to this topic"));
        }
        if !self.may_announce(peer, topic, now_ms) {
            return Err((reason::QUOTA_EXCEEDED, "the device publishes to this topic too often"));
        }
        if !publish.retain || publish.payload.is_empty() {
            return Ok(());
        }
        let bytes = message::cost(topic, &publish.payload, &publish.properties);
        self.may_retain(Some(device), topic, bytes).map_err(|reason| {
            let code = Cause::RetainedFull;
            self.causes.add(code);
            if let Some(unlogged) = self.told.due("retained message refused", device, topic, now_ms) {
                tracing::warn!(%code, device, %topic, unlogged, "publish refused: {reason}");
            }
            (reason::QUOTA_EXCEEDED, reason)
        })
    }

    /// Whether this is no announcement, or one that its device may make now.
    pub(super) fn may_announce(&mut self, peer: &Peer, topic: &str, now_ms: u64) -> bool {
        let device = &peer.device;
        let may = !self.policy.is_announcement(topic) || self.announced.take(device, &self.limits, now_ms);
        if may {
            return true;
        }
        let code = Cause::Announcements;
        self.causes.add(code);
        if let Some(unlogged) = self.told.due("announcement refused", device, topic, now_ms) {
            tracing::warn!(%code, %device, topic, unlogged, "publish refused: the device publishes to this topic too often");
        }
        false
    }

    fn acknowledge(&mut self, from: &Publisher) {
        let &Publisher { conn, session: id, packet_id, .. } = from;
        match from.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.fx.send(conn, Outgoing::PubAck { id: packet_id, code: 0 }),
            Qos::ExactlyOnce => {
                // Its own session may have ended with this message.
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.inbound.insert(packet_id);
                    if session.persistent() {
                        self.fx.record(JournalRecord::Inbound { session: id, id: packet_id });
                    }
                }
                self.fx.send(conn, Outgoing::PubRec { id: packet_id, code: 0 });
            }
        }
    }

    fn refuse_publish(&mut self, from: &Publisher, refused: Refused, now_ms: u64) {
        let Refused { code, topic, reason } = refused;
        let &Publisher { conn, qos, packet_id: id, .. } = from;
        let explain = self.connections.get(&conn).is_some_and(|connection| connection.explain);
        match (qos, from.version) {
            (Qos::AtMostOnce, _) => {}
            (_, Version::V5) if explain && topic.len() <= MAX_TOLD_TOPIC => {
                self.fx.send(conn, Outgoing::PublishRefused { qos, id, code, topic, reason });
            }
            (Qos::AtLeastOnce, Version::V5) => self.fx.send(conn, Outgoing::PubAck { id, code }),
            (Qos::ExactlyOnce, Version::V5) => self.fx.send(conn, Outgoing::PubRec { id, code }),
            // MQTT 3 cannot refuse one message; an acknowledgement would be a lie.
            _ => self.handle_failed(conn, code, now_ms),
        }
    }

    pub(super) fn handle_pubrel(&mut self, conn: ConnId, id: SessionId, packet_id: u16) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let known = session.inbound.remove(&packet_id);
        if known && session.persistent() {
            // Must be durable before PUBCOMP: the client may then use the identifier for a new message.
            self.fx.record(JournalRecord::InboundEnd { session: id, id: packet_id });
        }
        self.fx.send(
            conn,
            Outgoing::PubComp { id: packet_id, code: if known { 0 } else { reason::PACKET_IDENTIFIER_NOT_FOUND } },
        );
    }

    /// A message of the hub's own.
    pub fn handle_hub_publish(&mut self, message: HubMessage, token: u64, now_ms: u64) {
        self.members.refresh();
        self.settle(now_ms);
        let new = NewMessage {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            properties: Properties::new(),
            sender: None,
        };
        let _ = self.publish(new, None, message.intercept, Offer::Final, now_ms);
        self.fx.outputs.push(Output::Done(token));
    }

    /// Intercepts, retains and routes. Says who has no room, if the message can still be refused: then nothing has
    /// happened.
    pub(super) fn publish(
        &mut self,
        mut new: NewMessage,
        from: Option<SessionId>,
        intercept: bool,
        offer: Offer,
        now_ms: u64,
    ) -> Result<(), NoRoom> {
        if let Some(interceptor) = self.interceptor.as_ref().filter(|_| intercept) {
            let mut message = Intercepted {
                topic: new.topic.as_str().to_owned(),
                payload: std::mem::take(&mut new.payload),
                qos: new.qos,
                retain: new.retain,
            };
            let verdict = interceptor.publish(new.sender.as_ref().map(|peer| &*peer.device), &mut message);
            let Ok(topic) = topic::parse_topic(&message.topic) else { return Ok(()) };
            if verdict == Interception::Drop {
                return Ok(());
            }
            (new.topic, new.payload, new.qos, new.retain) = (topic, message.payload, message.qos, message.retain);
        }
        let credential = new.sender.as_ref().and_then(|peer| peer.credential);
        let message = self.new_message(new, now_ms);
        let group = self.policy.group(&message.topic);
        let found = self.receivers(&message, group, from, offer, now_ms)?;
        if message.retain {
            self.retain(&message);
        }
        self.route(&message, credential, group, found, now_ms);
        Ok(())
    }

    /// Who gets a message: each has room for it. See [`super::pressure`].
    fn receivers(
        &mut self,
        message: &Message,
        group: Option<u64>,
        from: Option<SessionId>,
        offer: Offer,
        now_ms: u64,
    ) -> Result<Matches, NoRoom> {
        let class = Class::of(&self.router, &message.topic);
        self.drop_expired(now_ms);
        // Each turn ends a session, after which a share may have a better member, and others may have room.
        loop {
            let mut found = self.matches(message, class, group, from);
            if message.qos == Qos::AtMostOnce {
                return Ok(found);
            }
            let queued = found.targets().filter(|target| target.qos > Qos::AtMostOnce);
            let full = queued.filter_map(|target| {
                let (session, share, bytes) = (target.session, target.share.clone(), target.cost(message));
                self.bound_for(session, class, bytes).map(|bound| NoRoom { session, share, class, bytes, bound })
            });
            let full: Vec<NoRoom> = full.collect();
            let mut changed = false;
            for NoRoom { session, bytes, .. } in &full {
                // What was ended for another of them may have made room for this one.
                let bound = self.bound_for(*session, class, *bytes);
                changed |= bound.is_some_and(|bound| self.make_room(*session, bound, class, group));
            }
            if changed {
                continue;
            }
            if offer == Offer::Refusable {
                return full.into_iter().next().map_or(Ok(found), Err);
            }
            for NoRoom { session, bound, .. } in full {
                if found.pass_over(session) {
                    self.skipped += 1;
                    self.note_full(session, bound, now_ms);
                }
            }
            return Ok(found);
        }
    }

    pub(super) fn bound_for(&self, id: SessionId, class: Class, bytes: usize) -> Option<Bound> {
        Self::obstacle(self.sessions.get(&id)?, &self.usages, &self.limits, class, bytes)
    }

    /// Ends a session that must not hold up this message's publisher, if there is one.
    fn make_room(&mut self, id: SessionId, bound: Bound, class: Class, group: Option<u64>) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        let member = group.map(|group| self.members.include(&session.key.device, group));
        let ends = match (class, bound) {
            (Class::Application, _) if member == Some(false) => Some((
                id,
                "it has no room for a message, and its device is not in the group of the topic",
            )),
            (Class::Control, Bound::Session | Bound::Device) => {
                Some((id, "it does not keep up with control messages"))
            }
            // What is for no group would be surplus itself.
            (Class::Application, Bound::Total) if member.is_none() => None,
            (_, Bound::Total) => self.largest_surplus(class).map(|id| {
                (
                    id,
                    "the queues of all sessions together are full, and of the device that holds most of what is not for \
                     members of a group, it holds most of that",
                )
            }),
            (Class::Application, Bound::Session | Bound::Device) => None,
        };
        let Some((id, reason)) = ends else { return false };
        self.end_slow_session(id, reason);
        true
    }

    fn route(
        &mut self,
        message: &Arc<Message>,
        credential: Option<Credential>,
        group: Option<u64>,
        found: Matches,
        now_ms: u64,
    ) {
        for target in found.sessions.into_values().chain(found.shares) {
            self.deliver(target.session, message, Terms::new(message, group, target), now_ms);
        }
        for local in found.locals {
            self.fx.outputs.push(Output::Local(local, Box::new(Received::new(message, credential))));
        }
        if self.watched {
            self.fx.outputs.push(Output::Published(message.clone()));
        }
    }

    /// An in-process subscriber; it gets retained messages at once.
    pub fn handle_local_subscribe(&mut self, filter: String, now_ms: u64) -> LocalId {
        let id = self.next_local;
        self.next_local += 1;
        self.router.insert_local(id, &filter);
        let looked = Cell::default();
        let retained = self.retained_for(&filter, &looked, now_ms);
        let retained = retained.map(|message| Output::Local(id, Box::new(Received::new(message, None))));
        let retained: Vec<Output> = retained.collect();
        self.fx.outputs.extend(retained);
        self.locals.insert(id, filter);
        id
    }

    /// Whether somebody in the process watches all that is published from now on ([`Output::Published`]).
    pub fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// Ends it.
    pub fn handle_local_unsubscribe(&mut self, id: LocalId) {
        if let Some(filter) = self.locals.remove(&id) {
            self.router.remove_local(id, &filter);
        }
    }
}

/// The topic of a PUBLISH, also where an alias stands for it; else the reason code.
fn resolve_alias(aliases: &mut HashMap<u16, TopicName>, publish: &Publish) -> Result<TopicName, u8> {
    match (publish.properties.topic_alias(), &publish.topic) {
        (None, Some(topic)) => Ok(topic.clone()),
        (Some(alias @ 1..=ALIAS_MAX), Some(topic)) => {
            aliases.insert(alias, topic.clone());
            Ok(topic.clone())
        }
        (Some(alias @ 1..=ALIAS_MAX), None) => aliases.get(&alias).cloned().ok_or(reason::TOPIC_ALIAS_INVALID),
        (Some(_), _) => Err(reason::TOPIC_ALIAS_INVALID),
        (None, None) => Err(reason::PROTOCOL_ERROR),
    }
}
