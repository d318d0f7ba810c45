//! Who gets a copy of a message, and on which terms.

use std::sync::Arc;

use sealcast_mqtt::Qos;

use crate::message::{Message, delivery_cost};
use crate::packets::Subscribed;

/// A session, here and in the journal.
pub type SessionId = u64;
/// One copy of a message: for a session by all its ordinary subscriptions that match, or for the member that a shared
/// subscription has picked, which is a subscription of its own (MQTT 5, §4.8.2).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub session: SessionId,
    pub qos: Qos,
    pub retain_as_published: bool,
    pub subscription_ids: Vec<u32>,
    /// The shared subscription, as `$share/<name>/<filter>`.
    pub share: Option<Arc<str>>,
}

impl Target {
    pub(super) fn new(session: SessionId, subscribed: &Subscribed, share: Option<Arc<str>>) -> Self {
        Self {
            session,
            qos: subscribed.options.qos,
            retain_as_published: subscribed.options.retain_as_published,
            subscription_ids: Vec::from_iter(subscribed.id),
            share,
        }
    }

    /// What it would count against a byte limit.
    pub(crate) fn cost(&self, message: &Message) -> usize {
        message.cost() + delivery_cost(self.share.as_deref(), &self.subscription_ids)
    }

    /// Another ordinary subscription of the session matches too.
    pub(super) fn merge(&mut self, subscribed: &Subscribed) {
        self.qos = self.qos.max(subscribed.options.qos);
        self.retain_as_published |= subscribed.options.retain_as_published;
        self.subscription_ids.extend(subscribed.id);
    }
}
