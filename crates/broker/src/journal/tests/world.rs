//! A broker's core and its journal with clients that follow the standard to the letter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use sealcast_broker_core::{
    Attempt, ConnId, Core, Image, Incoming, JournalRecord, Limits, Outgoing, Output, Peer, Policy, PolicyRefusal,
    Restored, Subscribed,
};
use sealcast_faults::{Fault, mend};
use sealcast_mqtt::{Connect, PacketId, Properties, Property, Publish, Qos, Text, TopicName, Version};

use super::super::{SCHEMA, read, write};

struct Everyone;

impl Policy for Everyone {
    fn connect(&self, _: &Attempt<'_>) -> Result<Peer, PolicyRefusal> {
        Ok("device".into())
    }
    fn may_publish(&self, _: &Peer, _: &str) -> bool {
        true
    }
    fn may_subscribe(&self, _: &str, _: &str) -> bool {
        true
    }
    /// Of which all are members: no session is ended for room.
    fn group(&self, _: &str) -> Option<u64> {
        Some(1)
    }
}

/// Clients 0 and 1 publish at QoS 1 and 2. Clients 2 and 3 subscribe with QoS 1 and 2, or both share one subscription at
/// QoS 1. All keep their sessions, unless [`World::start_anew`] ends one, or client 2 is [`Sharing::Passing`].
#[derive(Default)]
pub(super) struct Client {
    conn: Option<ConnId>,
    online: bool,
    inbox: VecDeque<Outgoing>,
    /// Publisher: identifier -> (number, PUBREC seen).
    open: BTreeMap<u16, (u32, bool)>,
    next_id: u16,
    next_number: u32,
    pub acked: BTreeSet<u32>,
    /// Subscriber: QoS 2 identifiers not yet released, and what it got, per publisher.
    held: BTreeSet<u16>,
    pub got: [Vec<u32>; 2],
    subscribed: bool,
    sessions: u32,
}

/// How clients 2 and 3 subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    Not,
    Kept,
    /// Client 2's session ends with its connection.
    Passing,
}

pub(super) struct World {
    pub db: rusqlite::Connection,
    /// What the database has to hold.
    image: Image,
    pub core: Core,
    pub clients: Vec<Client>,
    /// Not committed; committed with outputs not released.
    uncommitted: Vec<JournalRecord>,
    limits: Limits,
    /// That of the publishers; the subscribers speak MQTT 5.
    version: Version,
    sharing: Sharing,
    waiting: VecDeque<Output>,
    released_up_to: usize,
    pub now_ms: u64,
    next_conn: ConnId,
}

impl World {
    pub(super) fn new(limits: Limits, version: Version, sharing: Sharing) -> Self {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        let mut world = Self {
            db,
            image: Image::default(),
            core: core(&limits),
            limits,
            version,
            sharing,
            clients: Vec::new(),
            uncommitted: Vec::new(),
            waiting: VecDeque::new(),
            released_up_to: 0,
            now_ms: 1_000_000,
            next_conn: 1,
        };
        world.clients.resize_with(4, Client::default);
        world
    }

    /// Takes what the core has done: outputs wait behind the records.
    pub(super) fn collect(&mut self) {
        let effects = self.core.take_effects(self.now_ms);
        // After a crash, what was in flight at QoS 1 waits again.
        let most = self.limits.application.max_queued_messages + usize::from(self.limits.max_inflight);
        // What another member of a share leaves behind comes on top.
        assert!(self.sharing != Sharing::Not || self.core.longest_queue() <= most);
        let gates = effects.records.iter().any(JournalRecord::gates);
        self.uncommitted.extend(effects.records);
        self.waiting.extend(effects.outputs);
        // As the driver does: without a record to wait for, outputs may go with those before them.
        if !gates && self.uncommitted.iter().all(|record| !record.gates()) {
            self.released_up_to = self.waiting.len();
        }
    }

    pub(super) fn commit(&mut self) {
        let records = std::mem::take(&mut self.uncommitted);
        write::commit(&mut self.db, &records).unwrap();
        records.iter().for_each(|record| self.image.apply(record));
        self.released_up_to = self.waiting.len();
    }

    /// The commit fails, and the broker ends, as it does then.
    pub(super) fn fail(&mut self, fault: Fault) {
        if fault.is_persisted() {
            // This database is in memory, where no commit fails so. What its journal and its clients know is the same.
            self.commit();
        } else {
            fault.strike(&self.db).unwrap();
            let failed = write::commit(&mut self.db, &std::mem::take(&mut self.uncommitted));
            mend(&self.db).unwrap();
            assert!(failed.is_err() || fault == Fault::Refused, "{fault:?}");
        }
        self.crash();
    }

    pub(super) fn release(&mut self) {
        for output in self.waiting.drain(..std::mem::take(&mut self.released_up_to)) {
            match output {
                Output::Send(conn, packet) => {
                    if let Some(client) = self.clients.iter_mut().find(|client| client.conn == Some(conn)) {
                        client.inbox.push_back(packet);
                    }
                }
                Output::Close(conn) => {
                    if let Some(client) = self.clients.iter_mut().find(|client| client.conn == Some(conn)) {
                        (client.conn, client.online) = (None, false);
                        client.inbox.clear();
                    }
                }
                Output::Local(..) | Output::Published(_) | Output::Done(_) => {}
            }
        }
    }

    pub(super) fn connect(&mut self, index: usize) {
        self.connect_with(index, false);
    }

    fn passes(&self, index: usize) -> bool {
        index == 2 && self.sharing == Sharing::Passing
    }

    /// The client gives its session up and begins another.
    pub(super) fn start_anew(&mut self, index: usize) {
        self.clients[index].sessions = 0;
        self.connect_with(index, true);
    }

    fn connect_with(&mut self, index: usize, clean_start: bool) {
        self.cut(index, false);
        let conn = self.next_conn;
        self.next_conn += 1;
        self.clients[index].conn = Some(conn);
        let version = if index < 2 { self.version } else { Version::V5 };
        let expiry_s = if self.passes(index) { 0 } else { 100_000 };
        let connect = Connect {
            clean_start,
            properties: Properties::from_iter([Property::SessionExpiry(expiry_s), Property::ReceiveMaximum(3)]),
            ..Connect::new(version, Text::new(&format!("c{index}")).unwrap())
        };
        self.core.handle_connect(conn, None, connect, self.now_ms);
        self.collect();
    }

    /// What is in the inbox is lost on the way. The broker may not have noticed.
    pub(super) fn cut(&mut self, index: usize, noticed: bool) {
        let client = &mut self.clients[index];
        client.inbox.clear();
        client.online = false;
        if let Some(conn) = client.conn.take()
            && noticed
        {
            self.core.handle_closed(conn, self.now_ms);
            self.collect();
        }
    }

    pub(super) fn crash(&mut self) {
        self.uncommitted.clear();
        self.waiting.clear();
        self.released_up_to = 0;
        for client in &mut self.clients {
            (client.conn, client.online) = (None, false);
            client.inbox.clear();
        }
        self.core = core(&self.limits);
        let restored = read::read(&mut self.db).unwrap();
        assert_eq!(comparable(&restored), comparable(&self.image.restored()));
        self.core.restore(restored, self.now_ms);
        self.collect();
    }

    fn input(&mut self, conn: ConnId, packet: Incoming) {
        self.core.handle_packet(conn, packet, self.now_ms);
        self.collect();
    }

    fn send(&mut self, index: usize, id: u16, number: u32) {
        let Some(conn) = self.clients[index].conn else { return };
        let publish = Publish {
            dup: false,
            topic: Some(TopicName::new(&format!("t/{index}")).unwrap()),
            payload: Bytes::from(number.to_be_bytes().to_vec()),
            qos: if index == 0 { Qos::AtLeastOnce } else { Qos::ExactlyOnce },
            retain: false,
            packet_id: PacketId::new(id),
            properties: Properties::new(),
        };
        self.input(conn, Incoming::Publish(publish));
    }

    pub(super) fn publish(&mut self, index: usize) {
        let client = &mut self.clients[index];
        // Both subscribers must be there first, or the message is nobody's.
        if !client.online || client.open.len() >= 4 || !self.clients[2..].iter().all(|s| s.subscribed) {
            return;
        }
        let client = &mut self.clients[index];
        loop {
            client.next_id = client.next_id % 7 + 1;
            if !client.open.contains_key(&client.next_id) {
                break;
            }
        }
        client.next_number += 1;
        let (id, number) = (client.next_id, client.next_number);
        client.open.insert(id, (number, false));
        self.send(index, id, number);
    }

    pub(super) fn run(&mut self, index: usize) -> bool {
        let passes = self.passes(index);
        let client = &mut self.clients[index];
        let Some(conn) = client.conn else { return false };
        let Some(packet) = client.inbox.pop_front() else { return false };
        match packet {
            Outgoing::ConnAck { session_present, code, .. } => {
                assert_eq!(code, 0);
                // A session that was confirmed once is never lost.
                assert!(session_present || client.sessions == 0 || passes);
                client.sessions += 1;
                client.online = true;
                let open: Vec<_> = client.open.iter().map(|(id, (number, rec))| (*id, *number, *rec)).collect();
                if index == 0 {
                    client.open.clear();
                } else {
                    let mut open = open;
                    open.sort_by_key(|(_, number, _)| *number);
                    for (id, number, received) in open {
                        if received {
                            self.input(conn, Incoming::PubRel { id });
                        } else {
                            self.send(index, id, number);
                        }
                    }
                }
                if index >= 2 && !(session_present && self.clients[index].subscribed) {
                    let shared = self.sharing != Sharing::Not;
                    let qos = if index == 2 || shared { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
                    let filter = if shared { "$share/s/t/+" } else { "t/+" };
                    let filters = vec![(filter.into(), Subscribed::new(qos))];
                    self.input(conn, Incoming::Subscribe { id: 1, filters });
                }
            }
            Outgoing::SubAck { .. } => client.subscribed = true,
            // The message is not the broker's: a client may forget it.
            Outgoing::PublishRefused { id, code, .. } => {
                assert_eq!((self.version, code), (Version::V5, 0x97));
                client.open.remove(&id);
            }
            Outgoing::PubAck { id, code } | Outgoing::PubComp { id, code } => {
                assert!(code == 0 || index == 1);
                if let Some((number, _)) = client.open.remove(&id) {
                    client.acked.insert(number);
                }
            }
            Outgoing::PubRec { id, code } => {
                assert_eq!(code, 0);
                if let Some((number, received)) = client.open.get_mut(&id) {
                    *received = true;
                    client.acked.insert(*number);
                }
                self.input(conn, Incoming::PubRel { id });
            }
            Outgoing::Publish { message, qos, id, .. } => {
                let number = u32::from_be_bytes(message.payload[..4].try_into().unwrap());
                let from = usize::from(&*message.topic == "t/1");
                if qos == Qos::AtLeastOnce {
                    client.got[from].push(number);
                    self.input(conn, Incoming::PubAck { id });
                } else {
                    if client.held.insert(id) {
                        client.got[from].push(number);
                    }
                    self.input(conn, Incoming::PubRec { id, code: 0 });
                }
            }
            Outgoing::PubRel { id, .. } => {
                client.held.remove(&id);
                self.input(conn, Incoming::PubComp { id });
            }
            Outgoing::UnsubAck { .. } | Outgoing::PingResp | Outgoing::Disconnect { .. } => {}
        }
        true
    }

    /// The broker has something to do by itself; it is done.
    fn is_due(&mut self) -> bool {
        let due = self.core.poll_timeout().is_some_and(|at| at <= self.now_ms);
        if due {
            self.core.handle_timeout(self.now_ms);
            self.collect();
        }
        due
    }

    pub(super) fn settle(&mut self) {
        for index in 0..4 {
            self.connect(index);
        }
        loop {
            self.commit();
            self.release();
            let mut moved = false;
            for index in 0..4 {
                while self.run(index) {
                    moved = true;
                }
            }
            if !moved && self.waiting.is_empty() && !self.is_due() {
                return;
            }
        }
    }
}

/// Without orders that mean nothing, and numbers that may be higher than they need be.
fn comparable(restored: &Restored) -> String {
    let Restored { sessions, left, retained, .. } = restored;
    format!("{sessions:#?} {left:#?} {retained:#?}")
}

fn core(limits: &Limits) -> Core {
    // What a session leaves takes several steps to go to others, and crashes fall between them.
    Core::new(limits.clone(), Arc::new(Everyone), None).with_slice(1)
}
