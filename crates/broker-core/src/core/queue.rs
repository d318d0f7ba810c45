//! What waits for one session beyond what is in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sealcast_mqtt::Qos;

use super::usage::{Class, Load, Loads};
use crate::message::{Message, delivery_cost};

/// A message on its way to one session at QoS 1 or 2.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Unique and growing over all sessions: the order in which a session gets its messages.
    pub order: u64,
    /// What is delivered.
    pub message: Arc<Message>,
    /// The lower of what it was published with and subscribed with.
    pub qos: Qos,
    /// RETAIN flag that it goes out with.
    pub retain: bool,
    /// The subscriptions that it came by (MQTT 5, §3.3.2.3.8).
    pub subscription_ids: Vec<u32>,
    /// The shared subscription that it came by: another member gets it if this session ends before it is sent.
    pub share: Option<Arc<str>>,
    /// The group of its topic, if its session's device is to get it as one of the group's.
    pub group: Option<u64>,
    /// It is given up first when all queues together are full.
    pub surplus: bool,
    /// QoS 2: PUBREC has come, PUBREL is owed.
    pub released: bool,
    /// QoS 1: it may have gone out before the broker was started again, since the journal does not have that.
    pub maybe_sent: bool,
    /// It stands in the journal.
    pub stored: bool,
}

impl Delivery {
    /// What it counts against a byte limit.
    pub(crate) fn cost(&self) -> usize {
        self.message.cost() + self.own_cost()
    }

    /// What it holds beside the message.
    pub(crate) fn own_cost(&self) -> usize {
        delivery_cost(self.share.as_deref(), &self.subscription_ids)
    }
}

/// Deliveries in their order, with what they count against the limits of their class, and when each expires: a publisher
/// must not wait for messages that nobody gets any more.
#[derive(Default)]
pub(super) struct Queue {
    deliveries: BTreeMap<u64, (Class, Delivery)>,
    /// Unix ms and order.
    expiries: BTreeSet<(u64, u64)>,
    loads: Loads,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    pub(super) fn load(&self, class: Class) -> Load {
        self.loads.of(class)
    }

    pub(super) fn push(&mut self, class: Class, delivery: Delivery) {
        self.loads.of_mut(class).add(delivery.cost());
        self.expiries.extend(delivery.message.expires_ms.map(|at| (at, delivery.order)));
        self.deliveries.insert(delivery.order, (class, delivery));
    }

    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let order = *self.deliveries.first_key_value()?.0;
        self.remove(order)
    }

    /// When the first one expires, Unix ms.
    pub(super) fn first_expiry(&self) -> Option<u64> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// One that has expired.
    pub(super) fn pop_expired(&mut self, now_ms: u64) -> Option<Delivery> {
        let (at, order) = *self.expiries.first()?;
        if at > now_ms {
            return None;
        }
        self.expiries.pop_first();
        self.remove(order)
    }

    fn remove(&mut self, order: u64) -> Option<Delivery> {
        let (class, delivery) = self.deliveries.remove(&order)?;
        self.loads.of_mut(class).remove(delivery.cost());
        if let Some(at) = delivery.message.expires_ms {
            self.expiries.remove(&(at, order));
        }
        Some(delivery)
    }
}
