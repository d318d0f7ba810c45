//! SUBSCRIBE, UNSUBSCRIBE and the retained messages that a subscription brings.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use sealcast_mqtt::{Qos, RetainHandling, SubscriptionOptions, reason};

use super::Core;
use super::connection::ConnId;
use super::deliveries::Terms;
use super::effects::JournalRecord;
use super::session::Session;
use super::usage::{Class, Load, Loads};
use crate::cause::Cause;
use crate::message::Message;
use crate::packets::{Outgoing, Subscribed};
use crate::router::SessionId;
use crate::topic;

/// Shared subscriptions of one session, and the longest of their filters with `$share` and the share's name. A message goes
/// to the session once for each that picks it, and the journal has the filter beside it.
const MAX_SHARES: usize = 16;
const MAX_SHARE_BYTES: usize = 512;

/// Retained topics that the filters of one SUBSCRIBE are held against. The filter that passes it is the last.
const MAX_LOOKED: usize = 500_000;

/// A retained message that a filter brings.
struct Retained {
    message: Arc<Message>,
    group: Option<u64>,
    subscribed: Subscribed,
}

/// What one SUBSCRIBE brings of what is retained.
#[derive(Default)]
struct Brought {
    messages: Vec<Retained>,
    /// A filter that stands in one packet again and again brings them once.
    filters: HashSet<String>,
    looked: usize,
    /// What of it is queued, and what goes out at QoS 0.
    queued: Loads,
    passing: Loads,
}

impl Brought {
    fn add(&mut self, class: Class, retained: Retained) -> Load {
        let Retained { message, subscribed, .. } = &retained;
        let queued = subscribed.options.qos.min(message.qos) > Qos::AtMostOnce;
        let load = if queued { &mut self.queued } else { &mut self.passing }.of_mut(class);
        load.add(message.cost());
        self.messages.push(retained);
        *load
    }
}

impl Core {
    pub(super) fn handle_subscribe(
        &mut self,
        conn: ConnId,
        packet_id: u16,
        filters: Vec<(String, Subscribed)>,
        now_ms: u64,
    ) {
        let Some(connection) = self.connections.get(&conn) else { return };
        let (id, device, bridge) = (connection.session, connection.peer.device.clone(), connection.bridge);
        let mut brought = Brought::default();
        let subscribe = |(text, wanted): (String, Subscribed)| {
            let subscribed = Subscribed { options: options(wanted.options, bridge, &text), ..wanted };
            match self.subscribe(id, &device, &text, subscribed, &mut brought, now_ms) {
                Ok(()) => subscribed.options.qos as u8,
                Err(code) => code,
            }
        };
        let codes = filters.into_iter().map(subscribe).collect();
        self.fx.send(conn, Outgoing::SubAck { id: packet_id, codes });
        for Retained { message, group, subscribed } in brought.messages {
            let terms = Terms {
                qos: subscribed.options.qos.min(message.qos),
                retain: true,
                subscription_ids: subscribed.id.into_iter().collect(),
                share: None,
                group,
                // It stays retained: the client can ask for it again.
                surplus: true,
            };
            self.deliver(id, &message, terms, now_ms);
        }
    }

    /// One filter of a SUBSCRIBE; the reason code if it is refused.
    fn subscribe(
        &mut self,
        id: SessionId,
        device: &str,
        text: &str,
        subscribed: Subscribed,
        brought: &mut Brought,
        now_ms: u64,
    ) -> Result<(), u8> {
        let (share, filter) = topic::parse_filter(text).map_err(|error| {
            let code = Cause::Filter;
            self.causes.add(code);
            tracing::info!(%code, %device, filter = text, "subscription refused: the filter is not valid: {error}");
            reason::TOPIC_FILTER_INVALID
        })?;
        if !self.policy.may_subscribe(device, filter) {
            let code = Cause::Subscribe;
            self.causes.add(code);
            if let Some(unlogged) = self.told.due("subscription refused", device, text, now_ms) {
                tracing::info!(%code, %device, filter = text, unlogged, "subscription refused: the device may not subscribe to it");
            }
            return Err(reason::NOT_AUTHORIZED);
        }
        let Some(session) = self.sessions.get(&id) else { return Err(reason::FIRST_FAILURE) };
        let new = !session.subscriptions.contains_key(text);
        if new && session.subscriptions.len() >= self.limits.max_subscriptions {
            let (code, limit) = (Cause::Subscriptions, self.limits.max_subscriptions);
            self.causes.add(code);
            tracing::warn!(%code, %device, filter = text, limit, "subscription refused: the session has as many \
                subscriptions as one session may");
            return Err(reason::QUOTA_EXCEEDED);
        }
        if share.is_some() && !session.takes_share(text) {
            let code = Cause::Shares;
            self.causes.add(code);
            tracing::warn!(%code, %device, filter = text, MAX_SHARES, MAX_SHARE_BYTES, "subscription refused: the session \
                has as many shared subscriptions as one session may, or the filter is too long for one");
            return Err(reason::QUOTA_EXCEEDED);
        }
        let brings = share.is_none()
            && match subscribed.options.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => new,
                RetainHandling::Never => false,
            };
        if brings && brought.filters.insert(text.to_owned()) && !self.bring(id, filter, subscribed, brought, now_ms) {
            let code = Cause::RetainedRoom;
            self.causes.add(code);
            tracing::warn!(%code, %device, filter = text, "subscription refused: there is no room for the retained messages \
                that it brings, or the packet has too many filters for what is retained; the client can subscribe again once it has read what waits, with fewer filters at once");
            return Err(reason::QUOTA_EXCEEDED);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return Err(reason::FIRST_FAILURE) };
        self.router.insert(&session.subscriber(id), share, filter, subscribed);
        if session.persistent() {
            self.fx.record(JournalRecord::Subscribed { session: id, filter: text.to_owned(), subscribed });
        }
        session.subscriptions.insert(text.to_owned(), subscribed);
        match (new, share) {
            (true, Some(_)) => self.release_shares(id),
            (false, _) if !subscribed.keeps() => self.release_matching(id, filter),
            _ => {}
        }
        Ok(())
    }

    /// Adds what is retained and matches a filter to what its packet brings; false, and nothing, if that is too much.
    fn bring(&self, id: SessionId, filter: &str, subscribed: Subscribed, brought: &mut Brought, now_ms: u64) -> bool {
        let (before, queued, passing) = (brought.messages.len(), brought.queued, brought.passing);
        let Some(device) = self.sessions.get(&id).map(|session| &session.key.device) else { return false };
        let looked = Cell::new(brought.looked);
        let fits = looked.get() < MAX_LOOKED
            && self.retained_for(filter, &looked, now_ms).all(|message| {
                let group = self.policy.group(&message.topic);
                if !self.members.may_receive(device, group) {
                    return true;
                }
                let class = Class::of(&self.router, &message.topic);
                let retained = Retained { message: message.clone(), group, subscribed };
                brought.add(class, retained).has_room(0, 0, self.most_brought(class))
            });
        brought.looked = looked.get();
        let fits = fits && self.takes(id, brought.queued);
        if !fits {
            brought.messages.truncate(before);
            (brought.queued, brought.passing) = (queued, passing);
        }
        fits
    }

    /// What one SUBSCRIBE brings at most, queued or at QoS 0: all that is retained, however low the limits are, since a
    /// client could never subscribe otherwise.
    fn most_brought(&self, class: Class) -> Load {
        class.queue_limit(&self.limits).max(self.usages.retained(class))
    }

    /// Whether a session has room for all of this at once, beside what waits already.
    fn takes(&self, id: SessionId, more: Loads) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        [Class::Application, Class::Control].into_iter().all(|class| {
            let more = more.of(class);
            let all = self.usages.retained(class);
            let queued = session.queue.load(class);
            let passed = || self.usages.passed(&session.key.device, class, more, all, &self.limits);
            more.messages == 0
                || queued.has_room(more.messages, more.bytes, self.most_brought(class))
                    && (session.takes_at_once(more, &self.limits) || passed().is_none())
        })
    }

    pub(super) fn handle_unsubscribe(&mut self, conn: ConnId, packet_id: u16, filters: &[String]) {
        let Some(connection) = self.connections.get(&conn) else { return };
        let id = connection.session;
        let codes = filters.iter().map(|text| self.unsubscribe(id, text)).collect();
        self.fx.send(conn, Outgoing::UnsubAck { id: packet_id, codes });
    }

    /// The reason code.
    fn unsubscribe(&mut self, id: SessionId, text: &str) -> u8 {
        let session = self.sessions.get_mut(&id);
        let Some(session) = session.filter(|session| session.subscriptions.contains_key(text)) else {
            return reason::NO_SUBSCRIPTION_EXISTED;
        };
        session.subscriptions.remove(text);
        let subscriber = session.subscriber(id);
        if session.persistent() {
            self.fx.record(JournalRecord::Unsubscribed { session: id, filter: text.to_owned() });
        }
        if let Ok((share, filter)) = topic::parse_filter(text) {
            self.router.remove(&subscriber, share, filter);
            self.release_matching(id, filter);
        }
        0
    }
}

/// What a subscription has: a bridge gets nothing of its own, and sees what is retained.
fn options(wanted: SubscriptionOptions, bridge: bool, text: &str) -> SubscriptionOptions {
    SubscriptionOptions {
        no_local: wanted.no_local || bridge && !text.starts_with("$share/"),
        retain_as_published: wanted.retain_as_published || bridge,
        ..wanted
    }
}

impl Session {
    /// Whether it may have this shared subscription, or has it.
    fn takes_share(&self, text: &str) -> bool {
        let shares = || self.shared_subscriptions().count();
        text.len() <= MAX_SHARE_BYTES && (self.subscriptions.contains_key(text) || shares() < MAX_SHARES)
    }
}
