//! The hub: the broker's core with its journal, the relay that answers calls, and whoever has the broker in his hands.

mod meddling;
mod withholding;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::{Context as _, Result, anyhow};
use bytes::{Bytes, BytesMut};
use sealcast_agent_core::{
    Now,
    control::{KeptMessages, Submitted},
};
use sealcast_broker_core::{
    ConnId, Core, HubMessage, Image, Incoming, JournalRecord, Limits, LocalId, Outgoing, Output, PeerCertificate,
    Received,
};
use sealcast_hub_core::{Barred, Kept, LedgerPolicy, Readers};
use sealcast_identity::OPERATOR_NAME;
use sealcast_ledger::{Checkpoint, Hash, Replica, SignedEntry};
use sealcast_mqtt::{Connect, PacketId, PacketType, Properties, Publish, Qos, TopicName};
use sealcast_topic::{ControlTopic, is_control};

pub use self::meddling::{forged, replayed};
use self::withholding::Withholding;
use crate::{
    cast::Cast,
    net::{End, Net, Wire, take},
    rng::Rng,
};

/// Packet identifiers from here on are never the broker's own: what is acknowledged under one is nothing that it waits for.
pub const FIRST_FOREIGN_ID: u16 = 60_000;

/// What a device asks of the relay. A payload names it by its place, where the real one has JSON-RPC.
#[derive(Clone, Debug)]
pub enum Request {
    /// Records.
    Ask {
        /// The first index.
        from: u64,
        /// How many at most.
        most: usize,
    },
    /// An entry for the ledger.
    Submit(Box<SignedEntry>),
    /// What the hub keeps.
    Kept {
        /// What the device has published.
        have: Vec<(String, Hash)>,
    },
}

/// What the relay says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Records, in order.
    Records(Vec<sealcast_ledger::Record>),
    /// What became of an entry.
    Submitted(Submitted),
    /// All that is kept for the device.
    Kept(KeptMessages),
}

/// Something that the broker has carried.
#[derive(Clone, Debug)]
pub struct Carried {
    /// Its topic.
    pub topic: TopicName,
    /// Sealed.
    pub payload: Bytes,
}

struct Call {
    node: Arc<str>,
    id: u64,
    request: usize,
}

/// See the module.
pub struct Hub {
    core: Core,
    /// What the journal has.
    image: Image,
    /// Records that it has not, by number.
    unwritten: VecDeque<(u64, Vec<JournalRecord>)>,
    /// Outputs, each with the number that must be written first.
    held: VecDeque<(u64, Vec<Output>)>,
    written: u64,
    last: u64,
    gate: u64,
    policy: LedgerPolicy,
    calls: Vec<Call>,
    /// All requests and answers ever.
    pub requests: Vec<Request>,
    /// By which an answer's payload is its place.
    pub answers: Vec<Answer>,
    /// What clients got.
    pub carried: Vec<Carried>,
    /// Clients whose next frame is kept back.
    holds: BTreeSet<usize>,
    kept: Vec<(usize, Publish)>,
    withholding: Withholding,
    /// What the operator said last.
    word: Bytes,
    next_foreign: u16,
}

impl Hub {
    /// A hub whose journal is empty.
    pub fn new(cast: &Cast, now: Now) -> Self {
        let replica = Arc::new(RwLock::new(Replica::new(cast.genesis)));
        let policy = LedgerPolicy { replica, readers: Readers::Granted };
        let mut hub = Self {
            core: core(&policy),
            image: Image::default(),
            unwritten: VecDeque::new(),
            held: VecDeque::new(),
            written: 0,
            last: 0,
            gate: 0,
            policy,
            calls: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            carried: Vec::new(),
            holds: BTreeSet::new(),
            kept: Vec::new(),
            withholding: Withholding::default(),
            word: Bytes::new(),
            next_foreign: 0,
        };
        hub.start(now);
        hub
    }

    fn start(&mut self, now: Now) {
        self.core.handle_local_subscribe(ControlTopic::Request { node: "+" }.to_string(), now.unix_ms);
    }

    /// The hub dies and starts again. What its journal was about to write is there or not.
    pub fn crash(&mut self, net: &mut Net, persisted: bool, now: Now) {
        if persisted {
            self.unwritten.iter().flat_map(|(_, records)| records).for_each(|record| self.image.apply(record));
        }
        self.unwritten.clear();
        self.held.clear();
        (self.written, self.gate) = (self.last, self.last);
        self.calls.clear();
        self.core = core(&self.policy);
        self.core.restore(self.image.restored(), now.unix_ms);
        self.start(now);
        net.wires.values_mut().for_each(Wire::broker_gone);
        self.flush(net, now);
    }

    /// How far a device's folder has come, as the broker will say even if it dies now.
    pub fn kept_checkpoint(&self, cast: &Cast, device: usize) -> Option<Checkpoint> {
        let own = cast.own(device);
        let topic = ControlTopic::Checkpoint { device: own.device.as_str() }.to_string();
        let kept = self.image.restored().retained.into_iter().find(|kept| kept.topic.as_str() == topic)?;
        Checkpoint::verify(&kept.payload, own.number, own.key.public(), &cast.genesis.id).ok()
    }

    /// Takes the next frame of a connection, or its end. `false` if there is neither.
    pub fn receive(&mut self, cast: &Cast, net: &mut Net, conn: ConnId, now: Now) -> Result<bool> {
        let Some(wire) = net.wires.get_mut(&conn) else { return Ok(false) };
        if wire.down_ended || !wire.reads && !wire.up.is_empty() {
            wire.up.clear();
        }
        let (version, end) = (wire.version, wire.end);
        let Some(frame) = wire.up.pop_front() else {
            if wire.up_ended {
                let connected = wire.connected;
                net.wires.remove(&conn);
                if connected {
                    self.core.handle_closed(conn, now.unix_ms);
                    self.flush(net, now);
                }
                return Ok(true);
            }
            return Ok(false);
        };
        if frame.packet() == PacketType::Connect && !wire.connected {
            wire.connected = true;
            let (End::Control { device } | End::Client { device, .. }) = end;
            let certificate = cast.devices[device].chain.first().map(|der| PeerCertificate::from_leaf(der));
            let connect = Connect::parse(&frame).map_err(|error| anyhow!("{error}"))?;
            self.core.handle_connect(conn, certificate.as_ref(), connect, now.unix_ms);
        } else {
            let packet = Incoming::parse(&frame, version).map_err(|error| anyhow!("an agent sent {error}"))?;
            self.core.handle_packet(conn, packet, now.unix_ms);
        }
        self.flush(net, now);
        Ok(true)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, net: &mut Net, now: Now) -> bool {
        let due = self.core.poll_timeout().is_some_and(|at_ms| at_ms <= now.unix_ms);
        if due {
            self.core.handle_timeout(now.unix_ms);
            self.flush(net, now);
        }
        due
    }

    /// As the broker's driver does it.
    fn flush(&mut self, net: &mut Net, now: Now) {
        let effects = self.core.take_effects(now.unix_ms);
        for (conn, reads) in effects.reading {
            net.wires.get_mut(&conn).map(|wire| wire.reads = reads).unwrap_or_default();
        }
        if !effects.records.is_empty() {
            self.last += 1;
            if effects.records.iter().any(JournalRecord::gates) {
                self.gate = self.last;
            }
            self.unwritten.push_back((self.last, effects.records));
        }
        if self.gate > self.written {
            self.held.push_back((self.gate, effects.outputs));
        } else {
            self.release(net, effects.outputs);
        }
    }

    /// The journal writes what came first. `false` if there is nothing.
    pub fn write(&mut self, net: &mut Net) -> bool {
        let Some((number, records)) = self.unwritten.pop_front() else { return false };
        records.iter().for_each(|record| self.image.apply(record));
        self.written = number;
        while let Some((_, outputs)) = self.held.pop_front_if(|(gate, _)| *gate <= number) {
            self.release(net, outputs);
        }
        true
    }

    fn release(&mut self, net: &mut Net, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(conn, packet) => self.send(net, conn, &packet),
                Output::Close(conn) => net.wires.get_mut(&conn).map(|wire| wire.down_ended = true).unwrap_or_default(),
                Output::Local(id, received) => self.call(id, *received),
                Output::Published(_) | Output::Done(_) => {}
            }
        }
    }

    fn send(&mut self, net: &mut Net, conn: ConnId, packet: &Outgoing) {
        let Some(wire) = net.wires.get_mut(&conn).filter(|wire| !wire.down_ended) else { return };
        let mut bytes = BytesMut::new();
        if packet.put(wire.version, &mut bytes).is_err() {
            unreachable!("the broker makes no packet that cannot be written: {packet:?}");
        }
        if let End::Control { device } = wire.end
            && let Some(instead) = self.withholding.instead_of(device, &bytes, wire.version)
        {
            return wire.down.push_back(instead);
        }
        if let (Outgoing::Publish { message, .. }, End::Client { client, .. }) = (packet, wire.end)
            && !is_control(&message.topic)
        {
            self.carried.push(Carried { topic: message.topic.clone(), payload: message.payload.clone() });
            if self.holds.remove(&client)
                && let Ok(Some(frame)) = take(&mut bytes.clone(), wire.version)
                && let Ok(publish) = Publish::parse(&frame, wire.version)
            {
                return self.kept.push((client, publish));
            }
        }
        wire.down.push_back(bytes.freeze());
    }

    fn call(&mut self, _: LocalId, received: Received) {
        let (Some(sender), Some((id, request))) = (received.sender, read_named(&received.payload)) else { return };
        self.calls.push(Call { node: sender.device, id, request });
    }

    /// The hub's replica, by which the broker judges, follows the ledger; records go out. `false` if there is none.
    pub fn follow(&mut self, cast: &Cast, net: &mut Net, now: Now) -> Result<bool> {
        let (mut barred, mut news) = (Vec::new(), Vec::new());
        {
            let mut replica = self.policy.replica.write().unwrap_or_else(PoisonError::into_inner);
            for record in cast.ledger.records().iter().skip(usize::try_from(replica.height())?) {
                let event = replica.apply(record).context("the hub's own ledger does not verify")?;
                barred.extend(Barred::by(&replica, &event));
                news.push(record.encode());
            }
        }
        for barred in barred {
            match barred {
                Barred::Device(name) => self.core.handle_disconnect_device(&name),
                Barred::FormerDevice { device, credential } => self.core.handle_new_credential(&device, credential),
                Barred::FormerOperator { credential } => self.core.handle_new_credential(OPERATOR_NAME, credential),
            };
        }
        for record in &news {
            self.publish(&ControlTopic::Ledger.to_string(), record.clone().into(), false, now)?;
        }
        self.flush(net, now);
        Ok(!news.is_empty())
    }

    /// The operator says how far the ledger is.
    pub fn attest(&mut self, net: &mut Net, statement: Bytes, now: Now) -> Result<()> {
        self.word = statement.clone();
        self.publish(&ControlTopic::Head.to_string(), statement, true, now)?;
        self.flush(net, now);
        Ok(())
    }

    fn publish(&mut self, topic: &str, payload: Bytes, retain: bool, now: Now) -> Result<()> {
        let topic = TopicName::new(topic)?;
        let message = HubMessage { topic, payload, qos: Qos::AtLeastOnce, retain, intercept: false };
        self.core.handle_hub_publish(message, 0, now.unix_ms);
        Ok(())
    }

    /// Whether the journal has something to write.
    pub fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Whether the ledger has records that the broker's rules do not know.
    pub fn is_behind(&self, cast: &Cast) -> bool {
        self.policy.replica.read().unwrap_or_else(PoisonError::into_inner).height() < cast.ledger.replica().height()
    }

    /// How many calls wait.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Answers one of the calls that wait. Nobody learns of a record before the broker's rules know it.
    pub fn answer(&mut self, cast: &mut Cast, net: &mut Net, place: usize, now: Now) -> Result<()> {
        let Call { node, id, request } = self.calls.remove(place);
        let answer = match self.requests[request].clone() {
            Request::Ask { from, most } => {
                let most = most.min(self.withholding.records_from(cast.place(&node), from));
                let records = cast.ledger.records().iter().skip(usize::try_from(from)?);
                Answer::Records(records.take(most).cloned().collect())
            }
            Request::Kept { have } => Answer::Kept(self.kept(&node, cast.place(&node), have)),
            Request::Submit(entry) => Answer::Submitted(match cast.ledger.submit(&entry, now.unix_ms / 1000) {
                Ok(record) => Submitted::Taken(Box::new(record)),
                Err(refusal) => Submitted::Refused(refusal),
            }),
        };
        self.follow(cast, net, now)?;
        self.answers.push(answer);
        let payload = named(id, self.answers.len() - 1);
        self.publish(&ControlTopic::Response { node: &node }.to_string(), payload, false, now)?;
        self.flush(net, now);
        Ok(())
    }

    /// What the hub keeps for a node, of what its journal has.
    fn kept(&self, node: &str, device: Option<usize>, have: Vec<(String, Hash)>) -> KeptMessages {
        let replica = self.policy.replica.read().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Kept::default();
        for message in self.image.restored().retained {
            let changes = kept.judge(&replica, message.topic.as_str(), message.payload.clone());
            changes.into_iter().for_each(|change| kept.apply(change));
        }
        let (mut messages, mut after, mut more) = (Vec::new(), 0, true);
        while more {
            let page = kept.page(node, after);
            messages.extend(page.messages.into_iter().map(|place| {
                let instead = self.withholding.payload(device, &place.topic, &place.payload);
                (place.topic, instead.unwrap_or(place.payload))
            }));
            (after, more) = (page.next, page.more);
        }
        let lacks = have.into_iter().filter(|(topic, message)| !kept.has(topic, message)).map(|(topic, _)| topic);
        KeptMessages { messages, next: String::new(), more: false, lacks: lacks.collect() }
    }

    /// The next frame for this client is kept back.
    pub fn hold(&mut self, client: usize) {
        self.holds.insert(client);
    }

    /// Sends one of the frames that were kept back. Gives the client and the frame.
    pub fn let_go(&mut self, net: &mut Net, rng: &mut Rng) -> Option<(usize, Bytes)> {
        if self.kept.is_empty() {
            return None;
        }
        let (client, publish) = self.kept.remove(rng.place(self.kept.len()));
        let payload = publish.payload.clone();
        self.inject(net, client, publish).then_some((client, payload))
    }

    /// From now on it shows a device nothing more of the ledger, nor, perhaps, what the operator says of it.
    pub fn withhold(&mut self, cast: &Cast, device: usize, word: bool) {
        self.withholding.begin(device, cast.ledger.records(), word.then(|| self.word.clone()));
    }

    /// No more hostility. Gives the devices that were shown less than there is.
    pub fn behave(&mut self) -> Vec<usize> {
        self.holds.clear();
        self.kept.clear();
        self.withholding.end()
    }

    /// Has a client sent this, under an identifier that the broker does not use. `false` if it has no connection.
    pub fn inject(&mut self, net: &mut Net, client: usize, publish: Publish) -> bool {
        let conns = net.of(|end| matches!(end, End::Client { client: other, .. } if other == client));
        let wire = conns.last().and_then(|conn| net.wires.get_mut(conn));
        let Some(wire) = wire.filter(|wire| wire.connected && !wire.down_ended) else { return false };
        self.next_foreign = (self.next_foreign + 1) % 1_000;
        let id = (publish.qos != Qos::AtMostOnce).then(|| PacketId::new(FIRST_FOREIGN_ID + self.next_foreign));
        let publish = Publish { packet_id: id.flatten(), properties: Properties::new(), ..publish };
        let Ok(bytes) = publish.encode(wire.version) else { return false };
        wire.down.push_back(bytes);
        true
    }
}

/// The payload of a request or an answer: the call's id, and the place of what it says in [`Hub::requests`] or
/// [`Hub::answers`].
pub fn named(id: u64, place: usize) -> Bytes {
    [id.to_be_bytes(), (place as u64).to_be_bytes()].concat().into()
}

/// Its opposite.
pub fn read_named(payload: &[u8]) -> Option<(u64, usize)> {
    let (id, place) = payload.split_at_checked(8)?;
    let [id, place] = [id, place].map(|bytes| bytes.try_into().ok().map(u64::from_be_bytes));
    Some((id?, usize::try_from(place?).ok()?))
}

/// A broker on an empty journal.
fn core(policy: &LedgerPolicy) -> Core {
    Core::new(Limits::default(), Arc::new(policy.clone()), None)
}
