//! The broker's state machine: sessions, subscriptions, retained messages, deliveries. Sans-IO: the driver passes in
//! events and the time, and takes out [`Effects`].
//!
//! Invariant: an output may leave only after every record that was made before it is durable, if one of them
//! [`JournalRecord::gates`]. The driver keeps that; nothing here waits.

mod announced;
mod connecting;
mod connection;
mod deliveries;
mod effects;
mod image;
mod left;
mod members;
mod pressure;
mod publishing;
mod queue;
mod restore;
mod retained;
mod room;
mod session;
mod shares;
mod subscriptions;
#[cfg(test)]
mod tests;
mod timers;
mod told;
mod usage;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use sealcast_mqtt::{Properties, Qos, TopicName};

use crate::cause::{Cause, Counts};
use crate::limits::Limits;
use crate::message::Message;
use crate::packets::{Incoming, Outgoing};
use crate::policy::{Interceptor, Peer, Policy};
use crate::router::{LocalId, Router, SessionId};
use crate::topic::Reserved;
use announced::Announced;
use connection::Connection;
use left::Left;
use members::Members;
use session::{Due, Session};
use usage::Class;

pub use connection::ConnId;
pub use effects::{Effects, JournalRecord, Output};
pub use image::Image;
pub use queue::Delivery;
pub use restore::{Restored, RestoredSession};
pub use session::SessionKey;

/// What the hub publishes itself.
pub struct HubMessage {
    /// Topic name.
    pub topic: TopicName,
    /// Payload.
    pub payload: bytes::Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// False for what an interceptor injects.
    pub intercept: bool,
}

/// Figures of a running broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that have completed CONNECT.
    pub connections: usize,
    /// Sessions, online and offline.
    pub sessions: usize,
    /// Retained messages.
    pub retained: usize,
    /// PUBLISH packets that were refused as "quota exceeded" because there was no room for them in the queues.
    pub refused: u64,
    /// Connections that are held up for the same reason.
    pub held_up: usize,
    /// Messages at QoS 1 and 2 that wait for sessions or are in flight to them, each counted once for each session
    /// and each share.
    pub queued: usize,
    /// Bytes of them.
    pub queued_bytes: usize,
    /// Times that a will or a message of the hub's own found no room in a session, and went to the others only.
    pub skipped: u64,
    /// How often a client, a message or a subscription was refused, by cause.
    pub causes: Counts,
}

/// The broker without its sockets and its journal.
///
/// Its owner passes in what happens (`handle_*`, [`Self::handle_timeout`]), and then takes the [`Effects`]: it stores the
/// records, in their order, and does an output once every record that was made before it and [`JournalRecord::gates`] is durable.
/// After a crash, a new core takes over what is stored ([`Self::restore`]).
pub struct Core {
    limits: Limits,
    policy: Arc<dyn Policy>,
    members: Members,
    interceptor: Option<Arc<dyn Interceptor>>,
    connections: HashMap<ConnId, Connection>,
    sessions: HashMap<SessionId, Session>,
    by_key: HashMap<SessionKey, SessionId>,
    router: Router,
    retained: BTreeMap<TopicName, Arc<Message>>,
    usages: usage::Usages,
    announced: Announced,
    /// How many journalled deliveries need the journal's copy of a message.
    stored: HashMap<u64, u32>,
    locals: HashMap<LocalId, String>,
    watched: bool,
    /// Wills whose time has come. A will may end sessions, which have wills too: it never goes out where it is found.
    wills: VecDeque<Due>,
    /// What ended sessions were to get by shared subscriptions.
    left: VecDeque<Left>,
    /// How many of these are handed over until [`Self::take_effects`] has been called again.
    slice_left: usize,
    slice: usize,
    /// Sessions to look at, by time: each once at most ([`Session::next_timer_ms`]).
    timers: BTreeSet<(u64, SessionId)>,
    /// Sessions with messages that expire, by the time of the first.
    expiries: BTreeSet<(u64, SessionId)>,
    /// Sessions that have had no room for something.
    full: BTreeSet<SessionId>,
    /// Connections that are held up by a member of a share, by the share.
    share_waits: HashMap<Arc<str>, BTreeSet<ConnId>>,
    /// Connections that are held up, by the time at which they are closed.
    held_up: BTreeSet<(u64, ConnId)>,
    /// Connections that were held up, and can go on.
    released: BTreeSet<(u64, ConnId)>,
    /// Sessions in places that are reserved for control connections.
    reserved_sessions: usize,
    next_session: SessionId,
    next_message: u64,
    next_order: u64,
    next_local: LocalId,
    refused: u64,
    skipped: u64,
    causes: Counts,
    /// Refusals that the log has.
    told: told::Told,
    fx: Effects,
}

impl Core {
    /// A broker with no sessions.
    pub fn new(limits: Limits, policy: Arc<dyn Policy>, interceptor: Option<Arc<dyn Interceptor>>) -> Self {
        let router = Router::new(Reserved::new(limits.reserved_levels.clone()));
        Self {
            limits,
            members: Members::new(policy.clone()),
            policy,
            interceptor,
            connections: HashMap::new(),
            sessions: HashMap::new(),
            by_key: HashMap::new(),
            router,
            retained: BTreeMap::new(),
            usages: usage::Usages::default(),
            announced: Announced::default(),
            stored: HashMap::new(),
            locals: HashMap::new(),
            watched: false,
            wills: VecDeque::new(),
            left: VecDeque::new(),
            slice_left: left::SLICE,
            slice: left::SLICE,
            timers: BTreeSet::new(),
            expiries: BTreeSet::new(),
            full: BTreeSet::new(),
            share_waits: HashMap::new(),
            held_up: BTreeSet::new(),
            released: BTreeSet::new(),
            reserved_sessions: 0,
            next_session: 1,
            next_message: 1,
            next_order: 1,
            next_local: 1,
            refused: 0,
            skipped: 0,
            causes: Counts::default(),
            told: told::Told::default(),
            fx: Effects::default(),
        }
    }

    /// What has come out since the last call. Connections that were held up go on here.
    pub fn take_effects(&mut self, now_ms: u64) -> Effects {
        self.members.refresh();
        loop {
            self.settle(now_ms);
            self.go_on(now_ms);
            if self.is_settled() {
                break;
            }
        }
        self.slice_left = self.slice;
        std::mem::take(&mut self.fx)
    }

    /// How many outputs wait for [`Self::take_effects`].
    pub fn outputs(&self) -> usize {
        self.fx.outputs.len()
    }

    /// Does what ended sessions have left to do: their wills go out, and a slice of their shared messages to others.
    fn settle(&mut self, now_ms: u64) {
        while !self.is_settled() {
            self.hand_over(now_ms);
            self.publish_wills(now_ms);
        }
    }

    fn is_settled(&self) -> bool {
        self.wills.is_empty() && (self.left.is_empty() || self.slice_left == 0)
    }

    /// Hands over so many deliveries of ended sessions at once. Tests have small slices, to come in between.
    pub fn with_slice(self, slice: usize) -> Self {
        Self { slice, slice_left: slice, ..self }
    }

    /// A packet of a client that has connected; ignored when the connection is gone.
    pub fn handle_packet(&mut self, conn: ConnId, packet: Incoming, now_ms: u64) {
        self.members.refresh();
        // "Offline" goes out before the "online" of the client that comes back.
        self.settle(now_ms);
        let Some(connection) = self.connections.get(&conn) else { return };
        let session = connection.session;
        let Some(packet) = self.hold(conn, packet) else { return };
        match packet {
            Incoming::Publish(publish) => self.handle_publish(conn, publish, now_ms),
            Incoming::PubAck { id } => self.handle_puback(session, id, now_ms),
            Incoming::PubRec { id, code } => self.handle_pubrec(conn, session, id, code, now_ms),
            Incoming::PubRel { id } => self.handle_pubrel(conn, session, id),
            Incoming::PubComp { id } => self.handle_pubcomp(session, id, now_ms),
            Incoming::Subscribe { id, filters } => self.handle_subscribe(conn, id, filters, now_ms),
            Incoming::Unsubscribe { id, filters } => self.handle_unsubscribe(conn, id, &filters),
            Incoming::PingReq => self.fx.send(conn, Outgoing::PingResp),
            Incoming::Disconnect { code, session_expiry_s } => {
                self.handle_disconnect(conn, code, session_expiry_s, now_ms);
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        let first = |set: &BTreeSet<(u64, u64)>| set.first().map(|(at, _)| *at);
        if !self.left.is_empty() {
            return Some(0);
        }
        [first(&self.timers), first(&self.expiries), first(&self.held_up)].into_iter().flatten().min()
    }

    /// Ends sessions that have expired, sends wills that are due, closes connections that were held up for too long.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.members.refresh();
        self.give_up_waiting(now_ms);
        self.drop_expired(now_ms);
        self.look_at_sessions(now_ms);
    }

    /// Messages in the longest queue of a session.
    pub fn longest_queue(&self) -> usize {
        self.sessions.values().map(|session| session.queue.len()).max().unwrap_or(0)
    }

    /// Figures for the operator.
    pub fn stats(&self) -> Stats {
        let (application, control) = (self.usages.queued(Class::Application), self.usages.queued(Class::Control));
        let left_bytes: usize = self.left.iter().map(|left| left.delivery.cost()).sum();
        Stats {
            queued: application.messages + control.messages + self.left.len(),
            queued_bytes: application.bytes + control.bytes + left_bytes,
            connections: self.connections.len(),
            sessions: self.sessions.len(),
            retained: self.retained.len(),
            refused: self.refused,
            held_up: self.held_up.len(),
            skipped: self.skipped,
            causes: self.causes,
        }
    }

    /// A client was refused before there was a connection of its.
    pub fn note_refused(&mut self, cause: Cause) {
        self.causes.add(cause);
    }

    fn new_message(&mut self, publish: NewMessage, now_ms: u64) -> Arc<Message> {
        let seq = self.next_message;
        self.next_message += 1;
        Arc::new(Message {
            seq,
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            expires_ms: publish.properties.message_expiry_s().map(|s| now_ms.saturating_add(u64::from(s) * 1000)),
            properties: publish.properties,
            sender: publish.sender.map(|peer| peer.device),
        })
    }
}

struct NewMessage {
    topic: TopicName,
    payload: bytes::Bytes,
    qos: Qos,
    retain: bool,
    properties: Properties,
    sender: Option<Peer>,
}
