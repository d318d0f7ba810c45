//! Whether there is room for a message: in a session's queue, in those of its device, in all together.
//!
//! What is in flight counts like what waits: it is kept as long. A message counts once for each copy: one for each
//! session with ordinary subscriptions, and one for each shared subscription, with its name. So the bounds are on the safe
//! side where copies have the message's memory in common. The copies of one message are judged one by one, so that it
//! cannot be too much for a broker whose queues are empty; a bound may be passed by that much.

use super::Core;
use super::queue::Delivery;
use super::session::Session;
use super::usage::{Bound, Class, Load, Usages};
use crate::limits::Limits;
use crate::router::SessionId;

impl Core {
    /// What stands against another message at QoS 1 or 2 for a session, if anything does. A queue that is empty takes one
    /// of any size, so that no message waits for ever.
    pub(super) fn obstacle(
        session: &Session,
        usages: &Usages,
        limits: &Limits,
        class: Class,
        bytes: usize,
    ) -> Option<Bound> {
        let queued = session.queue.load(class);
        if queued.messages > 0 && !queued.has_room(1, bytes, class.queue_limit(limits)) {
            return Some(Bound::Session);
        }
        let more = Load { messages: 1, bytes };
        let bound = usages.passed(&session.key.device, class, more, Load::default(), limits)?;
        (!session.takes_at_once(more, limits)).then_some(bound)
    }

    /// Counts a delivery against its device and all.
    pub(super) fn count(&mut self, id: SessionId, delivery: &mut Delivery) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let class = Class::of(&self.router, &delivery.message.topic);
        let device = &session.key.device;
        let owed = delivery.group.is_some_and(|group| self.members.include(device, group));
        delivery.surplus |= class == Class::Control || !owed;
        let bytes = delivery.cost();
        self.usages.queue(device, class, bytes, delivery.surplus);
        if delivery.surplus {
            session.surplus.of_mut(class).add(bytes);
        }
    }

    /// A delivery to a session that goes on is over.
    pub(super) fn uncount(&mut self, id: SessionId, delivery: &Delivery) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let class = Class::of(&self.router, &delivery.message.topic);
        let bytes = delivery.cost();
        self.usages.queue_end(&session.key.device, class, bytes, delivery.surplus);
        if delivery.surplus {
            session.surplus.of_mut(class).remove(bytes);
        }
    }

    /// The session that ends first when all queues together are full: of the device with the most surplus, the one with
    /// the most of it. So nobody is ended for what a device has spread over many sessions.
    pub(super) fn largest_surplus(&self, class: Class) -> Option<SessionId> {
        let device = self.usages.largest_surplus(class, &self.limits)?;
        let limit = class.total_queued_limit(&self.limits);
        let of_device = self.sessions.iter().filter(|(_, session)| session.key.device == *device);
        of_device.max_by_key(|(id, session)| (session.surplus.of(class).part_of(limit), **id)).map(|(id, _)| *id)
    }

    /// Removes what has expired from all queues: it takes no room, and nobody waits for it.
    pub(super) fn drop_expired(&mut self, now_ms: u64) {
        while let Some(&(at, id)) = self.expiries.first() {
            if at > now_ms {
                return;
            }
            self.expiries.pop_first();
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.next_expiry_ms = None;
            while let Some(delivery) = self.sessions.get_mut(&id).and_then(|session| session.queue.pop_expired(now_ms))
            {
                self.finish(id, &delivery);
            }
            self.await_expiry(id);
            self.drained(id);
        }
    }

    /// Each session stands among `expiries` once at most: at the time of its first message that expires, or earlier.
    pub(super) fn await_expiry(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(first) = session.queue.first_expiry() else { return };
        if session.next_expiry_ms.is_some_and(|at| at <= first) {
            return;
        }
        if let Some(at) = session.next_expiry_ms.replace(first) {
            self.expiries.remove(&(at, id));
        }
        self.expiries.insert((first, id));
    }

    /// A session has less on its way: those who wait for room may go on.
    pub(super) fn drained(&mut self, id: SessionId) {
        self.relieve(id);
        let Some(session) = self.sessions.get(&id) else { return };
        let device = session.key.device.clone();
        self.device_drained(&device);
    }

    /// The same for the other sessions of its device, and for all.
    pub(super) fn device_drained(&mut self, device: &str) {
        if self.usages.unblock_all(&self.limits) {
            tracing::info!("the queues of all sessions together have room again: publishers go on");
            for id in self.full.clone() {
                self.relieve(id);
            }
        }
        if self.usages.unblock(device, &self.limits) {
            tracing::info!(device, "the queues of the device's sessions have room again: their publishers go on");
            let of_device =
                |id: &SessionId| self.sessions.get(id).is_some_and(|session| &*session.key.device == device);
            for id in self.full.iter().copied().filter(of_device).collect::<Vec<_>>() {
                self.relieve(id);
            }
        }
    }

    /// Lets those go on who wait for a session, or for a share of which it is a member, if it has room again.
    fn relieve(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.full.is_some()) else { return };
        let class = Class::Application;
        if let Some(full) = session.full.as_mut().filter(|full| full.queue_since_ms.is_some()) {
            if !session.queue.load(class).is_low(class.queue_limit(&self.limits)) {
                return;
            }
            full.queue_since_ms = None;
        }
        let at_once = session.takes_at_once(Load { messages: 1, bytes: 0 }, &self.limits);
        if !at_once && self.usages.is_blocked(&session.key.device, &self.limits) {
            return;
        }
        tracing::info!(device = %session.key.device, client_id = %session.key.client_id,
            "the session has room again: its publishers go on");
        let full = session.full.take();
        self.full.remove(&id);
        self.release(full.into_iter().flat_map(|full| full.waiting));
        self.release_shares(id);
    }
}

impl Session {
    /// Whether its client is sent so much more at once. That holds nothing up, whatever the queues of its device or of
    /// others hold, as long as the client acknowledges: beyond one packet of the largest size, what is in flight counts.
    pub(super) fn takes_at_once(&self, more: Load, limits: &Limits) -> bool {
        let in_flight = || self.inflight.values().map(Delivery::cost).sum::<usize>();
        self.conn.is_some()
            && self.queue.len() == 0
            && self.inflight.len().saturating_add(more.messages) <= self.window
            && (self.inflight.is_empty() && more.messages == 1
                || in_flight().saturating_add(more.bytes) <= limits.max_packet_bytes)
    }
}
