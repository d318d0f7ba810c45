//! SUBSCRIBE, UNSUBSCRIBE and the retained messages that a subscription brings.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

use sealcast_mqtt::{Qos, RetainHandling, SubscriptionOptions, reason};

use super::Core;
use super::connection::ConnId;
use super::deliveries::Terms;
use super::effects::Record;
use super::session::Session;
use super::usage::{Class, Loads};
use crate::message::Message;
use crate::packets::{Outgoing, Subscribed};
use crate::router::SessionId;
use crate::topic;

/// Shared subscriptions of one session, and the longest of their filters with `$share` and the share's name. A message goes
/// to the session once for each that picks it, and the journal has the filter beside it.
const MAX_SHARES: usize = 16;
const MAX_SHARE_BYTES: usize = 512;

impl Core {
    pub(super) fn handle_subscribe(
        &mut self,
        conn: ConnId,
        packet_id: u16,
        filters: Vec<(String, Subscribed)>,
        now_ms: u64,
    ) {
        let Some(connection) = self.connections.get(&conn) else { return };
        let (id, device, bridge) = (connection.session, connection.device.clone(), connection.bridge);
        let mut codes = Vec::with_capacity(filters.len());
        let mut retained: Vec<(Arc<Message>, Subscribed)> = Vec::new();
        let mut brought_by = HashSet::new();
        for (text, wanted) in filters {
            let (share, filter) = match topic::parse_filter(&text) {
                Ok(parsed) => parsed,
                Err(error) => {
                    tracing::info!(%device, filter = text, "subscription refused: the filter is not valid: {error}");
                    codes.push(reason::TOPIC_FILTER_INVALID);
                    continue;
                }
            };
            if !self.policy.may_subscribe(&device, filter) {
                tracing::info!(%device, filter = text, "subscription refused: the device may not subscribe to it");
                codes.push(reason::NOT_AUTHORIZED);
                continue;
            }
            let Some(session) = self.sessions.get_mut(&id) else { return };
            if session.subscriptions.len() >= self.limits.max_subscriptions
                && !session.subscriptions.contains_key(&text)
            {
                let limit = self.limits.max_subscriptions;
                tracing::warn!(%device, filter = text, limit, "subscription refused: the session has as many \
                    subscriptions as one session may");
                codes.push(reason::QUOTA_EXCEEDED);
                continue;
            }
            if share.is_some() && !session.takes_share(&text) {
                tracing::warn!(%device, filter = text, MAX_SHARES, MAX_SHARE_BYTES, "subscription refused: the session \
                    has as many shared subscriptions as one session may, or the filter is too long for one");
                codes.push(reason::QUOTA_EXCEEDED);
                continue;
            }
            let options = SubscriptionOptions {
                no_local: wanted.options.no_local || (bridge && share.is_none()),
                retain_as_published: wanted.options.retain_as_published || bridge,
                ..wanted.options
            };
            let subscribed = Subscribed { options, ..wanted };
            let new = !session.subscriptions.contains_key(&text);
            let brings = match options.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => new,
                RetainHandling::Never => false,
            };
            // A filter that stands in one packet again and again brings them once.
            if share.is_none() && brings && brought_by.insert(text.clone()) {
                let brought = self.retained_for(filter, now_ms).into_iter().map(|message| (message, subscribed));
                let before = retained.len();
                retained.extend(brought);
                if !self.takes(id, &retained) {
                    retained.truncate(before);
                    tracing::warn!(%device, filter = text, "subscription refused: there is no room in the queues for \
                        the retained messages that it brings; the client can subscribe again once it has read what waits");
                    codes.push(reason::QUOTA_EXCEEDED);
                    continue;
                }
            }
            let Some(session) = self.sessions.get_mut(&id) else { return };
            self.router.insert(&session.subscriber(id), share, filter, subscribed);
            codes.push(options.qos as u8);
            if session.persistent() {
                self.fx.record(Record::Subscribed { session: id, filter: text.clone(), subscribed });
            }
            session.subscriptions.insert(text, subscribed);
        }
        self.fx.send(conn, Outgoing::SubAck { id: packet_id, codes });
        for (message, subscribed) in retained {
            let terms = Terms {
                qos: subscribed.options.qos.min(message.qos),
                retain: true,
                subscription_ids: subscribed.id.into_iter().collect(),
                share: None,
                // It stays retained: the client can ask for it again.
                group: None,
            };
            self.deliver(id, &message, terms, now_ms);
        }
    }

    /// Whether a session has room for all of these at once. Queues that are empty take all that is retained, however low
    /// their limits are: a client could never subscribe otherwise.
    fn takes(&self, id: SessionId, retained: &[(Arc<Message>, Subscribed)]) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        let mut more = Loads::default();
        for (message, subscribed) in retained {
            if subscribed.options.qos.min(message.qos) > Qos::AtMostOnce {
                more.of_mut(Class::of(&self.router, &message.topic)).add(message.cost());
            }
        }
        [Class::Application, Class::Control].into_iter().all(|class| {
            let more = more.of(class);
            let all = self.usages.retained(class);
            let (queued, limit) = (session.queue.load(class), class.queue_limit(&self.limits).max(all));
            let passed = || self.usages.passed(&session.key.device, class, more, all, &self.limits);
            more.messages == 0
                || queued.has_room(more.messages, more.bytes, limit)
                    && (session.takes_at_once(more, &self.limits) || passed().is_none())
        })
    }

    /// Retained messages that match: only topics that begin as the filter does are looked at.
    fn retained_for(&self, filter: &str, now_ms: u64) -> Vec<Arc<Message>> {
        let literal = filter.split(['+', '#']).next().unwrap_or(filter);
        // `a/#` matches `a` too.
        let prefix = literal.strip_suffix('/').filter(|_| literal.len() < filter.len()).unwrap_or(literal);
        self.retained
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(topic, _)| topic.starts_with(prefix))
            .filter(|(topic, message)| self.router.filter_matches(filter, topic) && !message.expired(now_ms))
            .map(|(_, message)| message.clone())
            .collect()
    }

    pub(super) fn handle_unsubscribe(&mut self, conn: ConnId, packet_id: u16, filters: &[String]) {
        let Some(connection) = self.connections.get(&conn) else { return };
        let id = connection.session;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut codes = Vec::with_capacity(filters.len());
        for text in filters {
            if session.subscriptions.remove(text).is_none() {
                codes.push(reason::NO_SUBSCRIPTION_EXISTED);
                continue;
            }
            if let Ok((share, filter)) = topic::parse_filter(text) {
                self.router.remove(&session.subscriber(id), share, filter);
            }
            if session.persistent() {
                self.fx.record(Record::Unsubscribed { session: id, filter: text.clone() });
            }
            codes.push(0);
        }
        self.fx.send(conn, Outgoing::UnsubAck { id: packet_id, codes });
    }
}

impl Session {
    /// Whether it may have this shared subscription, or has it.
    fn takes_share(&self, text: &str) -> bool {
        let shares = || self.shared_subscriptions().count();
        text.len() <= MAX_SHARE_BYTES && (self.subscriptions.contains_key(text) || shares() < MAX_SHARES)
    }
}
