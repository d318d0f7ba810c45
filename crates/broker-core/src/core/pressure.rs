//! What happens when a session has no room: nothing that was acknowledged is dropped, so nothing more is acknowledged.
//!
//! A PUBACK or PUBREC says that the broker keeps the message for *every* persistent session that matches. Dropping the
//! oldest message of a full queue would break that word to a publisher that has long forgotten the message. So the
//! question is asked before the acknowledgement: is there room in every session that gets the message at QoS 1 or 2, in
//! its queue, in those of its device together, and in those of all sessions together (`core::room`)? If one has none, the
//! message is stored for no session and not retained, and its publisher is told:
//!
//! - **MQTT 5**: PUBACK or PUBREC with 0x97, quota exceeded. The publisher decides what to do.
//! - **MQTT 3** has no such answer. An acknowledgement would be a lie and closing the connection at once a storm of
//!   reconnections, so the publisher is *held up*: its PUBLISH waits here, and what follows it waits behind it. Its
//!   acknowledgements and pings are still handled, since it may be the very client whose queue has to drain. Once
//!   `MAX_HELD` packets or `MAX_HELD_BYTES` wait, nothing more is read from it if it has nothing to acknowledge. If
//!   it has, its acknowledgements may stand behind more than is kept here, and somebody may wait for them: it is read
//!   on, further PUBLISH, SUBSCRIBE and UNSUBSCRIBE packets are dropped unanswered, and once those that were kept are
//!   handled, the connection is closed. So nothing that came after a dropped packet is acknowledged. When the queue, and
//!   those of the device and of all, have drained to three quarters of their limits, all who wait for the session go on,
//!   in their order. So do those who wait for a share when any member of it has so much room, and those whose messages a
//!   session has unsubscribed from. If that takes longer than [`crate::Limits::publish_patience`], the connection is closed; the message
//!   was never acknowledged, so the client sends it again.
//! - **QoS 0** promises nothing and never waits for a queue.
//! - **A will, and what the hub publishes itself**, have nobody to whom "no" could be said. They go to each session that
//!   has room, and are counted for the others ([`crate::Stats::skipped`]). Nobody was told that those have them.
//!   A will may end sessions that do not keep up, which have wills too. So wills wait in a queue that is worked off
//!   between packets, never inside the publication that made them due.
//! - **Retained messages that a subscription brings** are part of what SUBACK promises. If they do not fit, the
//!   subscription is refused (0x97, in MQTT 3 0x80). They stay retained; the client subscribes again when it has caught
//!   up. Queues that are empty take all that is retained, whatever their limits are.
//! - **Control topics** have a queue limit of their own. A session that does not keep up with them is ended, since a
//!   slow or hostile subscriber must not stop the others' keys, and all that they carry is retained or can be asked for.
//!   A session that ends is not a silent loss: the client sees that its session is gone.
//! - **A device that has no use for a topic**, since it is not in the topic's group ([`crate::Policy::group`]) and cannot
//!   open its messages, holds nobody up. Its session is ended too.
//! - **When all queues together are full**, everybody would be held up by whoever fills them. What is surplus gives way:
//!   messages that are not for a device as one of a group, and retained ones that a subscription brought, which its client
//!   can ask for again. A message that would be surplus itself is refused. For one that a member of a group is owed, and
//!   for a control message, a session ends: of the device that has the most surplus, the one that holds the most of it.
//!   A device without surplus keeps its sessions; if such devices alone fill the bound, publishers wait. A session that is
//!   sent its messages at once is never held up by other sessions.
//! - **Expired messages** hold nobody up: they are removed when their time comes, and before a queue is called full.
//! - **A shared subscription** picks the member whose device publishers wait for, then one that has room, then one that
//!   is online, of a bounded number that it asks in turn (`router::share`). If the picked session is ended, another member is picked, until one has room or is waited for; and other
//!   members get what waited for it (`core::shares`).
//! - A queue that is **empty** takes a message of any size, so that no message waits for ever. A queue that is over its
//!   limit because the limit was lowered keeps what it has.
//!
//! # One stuck subscriber, and a whole fleet
//! An offline subscriber with a full queue makes the publishers of its topics wait, and it may never come back. That is
//! loud: a warning names the device and client identifier when it begins, and once a minute while publishers are turned
//! away; each connection that is closed for it gets a warning that names both sides. The operator can bring the client
//! back, connect once as that client with a clean session, raise the limit that the warning names, or lower
//! [`crate::Limits::max_session_expiry`] and restart, which ends sessions that have been away for longer. Where
//! publishers matter more than an absent subscriber, [`crate::Limits::full_session_expiry`] does the last by itself: an
//! offline session whose own queue has been full for so long ends.

use sealcast_mqtt::{Publish, reason};

use super::Core;
use super::connection::{ConnId, Connection, Wait};
use super::publishing::NoRoom;
use super::usage::{Bound, Class, Load};
use crate::cause::Cause;
use crate::message;
use crate::packets::Incoming;
use crate::router::SessionId;

/// What is full.
fn full(bound: Bound) -> Cause {
    match bound {
        Bound::Session => Cause::SessionFull,
        Bound::Device => Cause::DeviceFull,
        Bound::Total => Cause::AllFull,
    }
}

impl Core {
    /// Notes that something found no room, and tells the operator.
    pub(super) fn note_full(&mut self, id: SessionId, bound: Bound, now_ms: u64) {
        self.mark_full(id, bound, now_ms);
        self.causes.add(full(bound));
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let reminder = &mut session.full.get_or_insert_default().reminder;
        let reminder = self.usages.block(&session.key.device, bound).unwrap_or(reminder);
        if let Some(turned_away) = reminder.count(now_ms) {
            self.tell_full(id, bound, turned_away);
        }
    }

    /// Somebody is to go on once the session has room.
    fn mark_full(&mut self, id: SessionId, bound: Bound, now_ms: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        self.full.insert(id);
        self.usages.block(&session.key.device, bound);
        let full = session.full.get_or_insert_default();
        if bound == Bound::Session && full.queue_since_ms.is_none() {
            full.queue_since_ms = Some(now_ms);
            self.await_timer(id);
        }
    }

    fn tell_full(&self, id: SessionId, bound: Bound, turned_away: u64) {
        let Some(session) = self.sessions.get(&id) else { return };
        let class = Class::Application;
        let (device, client_id) = (&*session.key.device, &*session.key.client_id);
        let online = session.conn.is_some();
        match bound {
            Bound::Session => {
                let Load { messages, bytes } = session.queue.load(class);
                tracing::warn!(
                    code = %full(bound),
                    device,
                    client_id,
                    online,
                    messages,
                    bytes,
                    turned_away,
                    "a session's queue is full: publishers of its topics are refused (MQTT 5) or wait (MQTT 3); let the \
                     client catch up, connect once as it with a clean session, or raise limits.max_queued_messages or \
                     limits.max_queued_bytes"
                );
            }
            Bound::Device => {
                let Load { messages, bytes } = self.usages.of(device).queued.of(class);
                tracing::warn!(
                    code = %full(bound),
                    device,
                    messages,
                    bytes,
                    turned_away,
                    "the queues of a device's sessions together are full: publishers of its topics are refused (MQTT 5) \
                     or wait (MQTT 3); let its clients catch up, connect once with a clean session as those that will \
                     not, or raise limits.max_device_queued_messages or limits.max_device_queued_bytes"
                );
            }
            Bound::Total => {
                let Load { messages, bytes } = self.usages.queued(class);
                tracing::warn!(
                    code = %full(bound),
                    messages,
                    bytes,
                    turned_away,
                    "the queues of all sessions together are full: publishers are refused (MQTT 5) or wait (MQTT 3) \
                     unless all who get the message are sent it at once; let offline clients catch up, lower \
                     limits.session_expiry_hours, or raise limits.max_total_queued_messages or \
                     limits.max_total_queued_bytes"
                );
            }
        }
    }

    /// Ends a session for which nobody waits, and its connection.
    pub(super) fn end_slow_session(&mut self, id: SessionId, reason: &str) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let code = Cause::SlowSession;
        self.causes.add(code);
        tracing::warn!(%code, device = %session.key.device, client_id = %session.key.client_id, online = session.conn.is_some(),
            messages = session.queue.len(), "session ended: {reason}");
        if let Some(conn) = session.conn.take() {
            self.cut(conn, reason::QUOTA_EXCEEDED);
        }
        self.end_session(id);
    }

    /// Holds up an MQTT 3 connection whose PUBLISH a session has no room for.
    pub(super) fn hold_up(&mut self, conn: ConnId, publish: Publish, no_room: NoRoom, now_ms: u64) {
        let NoRoom { session: by, share, class, bytes, .. } = no_room;
        let patience_ms = u64::try_from(self.limits.publish_patience.as_millis()).unwrap_or(u64::MAX);
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let until_ms = connection.pressure.again.take().unwrap_or_else(|| now_ms.saturating_add(patience_ms));
        let packet = Incoming::Publish(publish);
        connection.pressure.wait = Some(Wait { by, share: share.clone(), until_ms });
        connection.pressure.bytes += cost(&packet);
        connection.pressure.packets.push_front(packet);
        self.held_up.insert((until_ms, conn));
        if let Some(full) = self.sessions.get_mut(&by).and_then(|session| session.full.as_mut()) {
            full.waiting.insert(conn);
        }
        if let Some(share) = share {
            // Any member that has no room now may be the first that has.
            for id in self.router.next_members(&share) {
                if let Some(bound) = self.bound_for(id, class, bytes) {
                    self.mark_full(id, bound, now_ms);
                }
            }
            self.share_waits.entry(share).or_default().insert(conn);
        }
    }

    /// Keeps a packet of a connection that is held up; gives back what is handled all the same.
    pub(super) fn hold(&mut self, conn: ConnId, packet: Incoming) -> Option<Incoming> {
        let connection = self.connections.get_mut(&conn).filter(|connection| connection.pressure.wait.is_some());
        let Some(connection) = connection else { return Some(packet) };
        let (session, held) = (connection.session, &mut connection.pressure);
        match packet {
            Incoming::Publish(_) | Incoming::Subscribe { .. } | Incoming::Unsubscribe { .. } => {
                let owes = self.sessions.get(&session).is_some_and(|session| !session.inflight.is_empty());
                if held.is_full() && owes || held.lost {
                    held.lost = true;
                    return None;
                }
                held.bytes += cost(&packet);
                held.packets.push_back(packet);
                if !owes && !held.stopped && held.is_full() {
                    held.stopped = true;
                    self.fx.reading.push((conn, false));
                }
                None
            }
            // With DISCONNECT the client gives up what was not acknowledged.
            packet => Some(packet),
        }
    }

    /// A connection that is held up was sent something: its acknowledgement is read, whatever comes before it.
    pub(super) fn read_on(&mut self, conn: ConnId) {
        let held = self.connections.get_mut(&conn).map(|connection| &mut connection.pressure);
        if held.is_some_and(|held| std::mem::take(&mut held.stopped)) {
            self.fx.reading.push((conn, true));
        }
    }

    pub(super) fn release(&mut self, conns: impl IntoIterator<Item = ConnId>) {
        for conn in conns {
            let wait = self.connections.get(&conn).and_then(|connection| connection.pressure.wait.as_ref());
            self.released.extend(wait.map(|wait| (wait.until_ms, conn)));
        }
    }

    /// A member of shares has room: those go on who wait for other members, unless it is for a group that its device is
    /// not in.
    pub(super) fn release_shares(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id).filter(|_| !self.share_waits.is_empty()) else { return };
        let waited_for = |conn: &ConnId| {
            let held = self.connections.get(conn).map(|connection| &connection.pressure);
            let group = held.and_then(|held| self.policy.group(held.topic()));
            group.is_none_or(|group| self.members.include(&session.key.device, group))
        };
        let shares = session.shared_subscriptions().filter_map(|(text, _)| self.share_waits.get(&**text));
        let conns: Vec<ConnId> = shares.flatten().copied().filter(waited_for).collect();
        self.release(conns);
    }

    /// A session gets less by a filter, or nothing: those try again whose messages it matches.
    pub(super) fn release_matching(&mut self, id: SessionId, filter: &str) {
        let Some(full) = self.sessions.get(&id).and_then(|session| session.full.as_ref()) else { return };
        let matches = |conn: &ConnId| {
            let held = self.connections.get(conn).map(|connection| &connection.pressure);
            held.is_some_and(|held| self.router.filter_matches(filter, held.topic()))
        };
        let conns: Vec<ConnId> = full.waiting.iter().copied().filter(matches).collect();
        self.release(conns);
    }

    /// Handles what released connections have sent; who has waited longest goes first.
    pub(super) fn go_on(&mut self, now_ms: u64) {
        while let Some((_, conn)) = self.released.pop_first() {
            let Some(connection) = self.connections.get_mut(&conn) else { continue };
            let Some(wait) = connection.pressure.wait.take() else { continue };
            connection.pressure.again = Some(wait.until_ms);
            self.end_wait(conn, &wait);
            while let Some(connection) = self.connections.get_mut(&conn) {
                let held = &mut connection.pressure;
                if held.wait.is_some() {
                    break;
                }
                let Some(packet) = held.packets.pop_front() else {
                    if held.lost {
                        self.close(conn, reason::QUOTA_EXCEEDED, now_ms);
                        break;
                    }
                    if std::mem::take(&mut held.stopped) {
                        self.fx.reading.push((conn, true));
                    }
                    break;
                };
                held.bytes = held.bytes.saturating_sub(cost(&packet));
                self.handle_packet(conn, packet, now_ms);
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.pressure.again = None;
                }
            }
        }
    }

    /// A connection ends that may be held up.
    pub(super) fn stop_waiting(&mut self, conn: ConnId, connection: &Connection) {
        if let Some(wait) = &connection.pressure.wait {
            self.end_wait(conn, wait);
        }
    }

    fn end_wait(&mut self, conn: ConnId, wait: &Wait) {
        self.held_up.remove(&(wait.until_ms, conn));
        if let Some(full) = self.sessions.get_mut(&wait.by).and_then(|session| session.full.as_mut()) {
            full.waiting.remove(&conn);
        }
        if let Some(share) = &wait.share
            && let Some(waiting) = self.share_waits.get_mut(share)
        {
            waiting.remove(&conn);
            if waiting.is_empty() {
                self.share_waits.remove(share);
            }
        }
    }

    /// Closes the connections that have been held up for too long.
    pub(super) fn give_up_waiting(&mut self, now_ms: u64) {
        while let Some(&(at, conn)) = self.held_up.first() {
            if at > now_ms {
                return;
            }
            self.held_up.pop_first();
            let Some(connection) = self.connections.get(&conn) else { continue };
            let Some(by) = connection.pressure.wait.as_ref().map(|wait| wait.by) else { continue };
            let client_id = self.sessions.get(&connection.session).map(|session| session.key.client_id.clone());
            let topic = connection.pressure.topic();
            let full = self.sessions.get(&by).map(|session| session.key.clone());
            let code = Cause::Waited;
            self.causes.add(code);
            tracing::warn!(
                %code,
                device = %connection.peer.device,
                client_id = client_id.as_deref().unwrap_or_default(),
                topic,
                full_device = full.as_ref().map_or("", |key| &*key.device),
                full_client_id = full.as_ref().map_or("", |key| &*key.client_id),
                waited_ms = u64::try_from(self.limits.publish_patience.as_millis()).unwrap_or(u64::MAX),
                "connection of a publisher closed: a session that its message is for had no room for all of waited_ms; \
                 the message was not acknowledged, so the client can send it again"
            );
            self.close(conn, reason::QUOTA_EXCEEDED, now_ms);
        }
    }
}

/// Rough memory of a packet that waits.
fn cost(packet: &Incoming) -> usize {
    match packet {
        Incoming::Publish(publish) => {
            message::cost(publish.topic.as_deref().unwrap_or_default(), &publish.payload, &publish.properties)
        }
        Incoming::Subscribe { filters, .. } => filters.iter().map(|(filter, _)| filter.len() + 64).sum(),
        Incoming::Unsubscribe { filters, .. } => filters.iter().map(|filter| filter.len() + 64).sum(),
        _ => 64,
    }
}
