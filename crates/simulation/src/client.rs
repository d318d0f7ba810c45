//! A local MQTT client that follows the standard to the letter. It outlives its agent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context as _, Result, anyhow};
use bytes::{Bytes, BytesMut};
use sealcast_mqtt::{
    Ack, AckKind, Connect, Disconnect, Packet, PacketId, Properties, Property, Publish, Qos, Subscribe,
    SubscriptionOptions, Text, TopicName, Version,
};

use crate::{event::Kind, ghost::Ghost, net::take};

/// Messages that it publishes before one is acknowledged.
const WINDOW: usize = 8;
/// What it subscribes to.
const FILTER: &str = "plant/#";
const SESSION_S: u32 = 30 * 86_400;

struct Unacknowledged {
    publish: Publish,
    number: u32,
    /// QoS 2: PUBREC has come.
    received: bool,
}

/// How far its connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has none.
    Away,
    /// CONNACK has not come.
    Connecting,
    /// It may publish.
    Online,
}

/// See the module.
pub struct Client {
    place: usize,
    version: Version,
    qos: Qos,
    /// How far its connection is.
    pub state: State,
    /// Bytes from its agent.
    pub inbox: BytesMut,
    /// Frames for its agent.
    pub outbox: VecDeque<Bytes>,
    next_id: u16,
    order: Vec<u16>,
    unacknowledged: BTreeMap<u16, Unacknowledged>,
    /// QoS 2: what it has and the broker has not released.
    held: BTreeSet<u16>,
    /// It has had a SUBACK.
    subscribed: bool,
    /// Its agent has closed the connection, and what it wrote before may still be read.
    hung_up: bool,
}

impl Client {
    /// The client at this place.
    pub fn new(place: usize) -> Self {
        Self {
            place,
            version: if place == 2 { Version::V311 } else { Version::V5 },
            qos: if place.is_multiple_of(2) { Qos::ExactlyOnce } else { Qos::AtLeastOnce },
            state: State::Away,
            inbox: BytesMut::new(),
            outbox: VecDeque::new(),
            next_id: 0,
            order: Vec::new(),
            unacknowledged: BTreeMap::new(),
            held: BTreeSet::new(),
            subscribed: false,
            hung_up: false,
        }
    }

    /// Its client identifier.
    pub fn name(&self) -> String {
        format!("client-{}", self.place)
    }

    /// It opens a connection.
    pub fn connect(&mut self) -> Result<()> {
        self.lost();
        self.state = State::Connecting;
        let expiry = [Property::SessionExpiry(SESSION_S)];
        let connect = Connect {
            clean_start: false,
            properties: if self.version == Version::V5 { expiry.into_iter().collect() } else { Properties::new() },
            ..Connect::new(self.version, Text::new(&self.name())?)
        };
        self.send(&Packet::Connect(Box::new(connect)))
    }

    /// Its connection is gone.
    pub fn lost(&mut self) {
        (self.state, self.hung_up) = (State::Away, false);
        self.inbox.clear();
        self.outbox.clear();
    }

    /// Its agent closes the connection.
    pub fn hang_up(&mut self) {
        self.hung_up = true;
    }

    /// Whether it has something to read, or hears that its connection is over.
    pub fn may_receive(&self) -> bool {
        self.hung_up || !self.inbox.is_empty()
    }

    /// It says that it goes.
    pub fn leave(&mut self) -> Result<()> {
        self.send(&Packet::Disconnect(Disconnect::default()))
    }

    fn send(&mut self, packet: &Packet) -> Result<()> {
        let mut bytes = BytesMut::new();
        packet.put(self.version, &mut bytes)?;
        self.outbox.push_back(bytes.freeze());
        Ok(())
    }

    /// It publishes its next message. `false` if it cannot now.
    pub fn publish(&mut self, ghost: &mut Ghost, kind: Kind, qos: Qos, retain: bool) -> Result<bool> {
        if self.state != State::Online || self.unacknowledged.len() >= WINDOW {
            return Ok(false);
        }
        let name = match kind {
            Kind::Plain => "plain",
            Kind::Good | Kind::Blocked => "hot",
            Kind::Flagged => "warm",
            Kind::Live => "live",
        };
        let topic = format!("plant/{}/{name}", self.place);
        let (number, payload) = ghost.publish(self.place, &topic, kind, qos);
        let packet_id = (qos != Qos::AtMostOnce).then(|| self.take_id());
        let topic = Some(TopicName::new(&topic)?);
        let payload = payload.into_bytes().into();
        let publish = Publish { dup: false, qos, retain, topic, packet_id, properties: Properties::new(), payload };
        if let Some(id) = packet_id {
            self.order.push(id.value());
            let unacknowledged = Unacknowledged { publish: publish.clone(), number, received: false };
            self.unacknowledged.insert(id.value(), unacknowledged);
        }
        self.send(&Packet::Publish(publish)).map(|()| true)
    }

    fn take_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id % 1_000 + 1;
            if let Some(id) = PacketId::new(self.next_id).filter(|id| !self.unacknowledged.contains_key(&id.value())) {
                return id;
            }
        }
    }

    /// Takes the next packet from its agent, or the end of the connection. `false` if there is neither.
    pub fn receive(&mut self, ghost: &mut Ghost) -> Result<bool> {
        let Some(frame) = take(&mut self.inbox, self.version)? else {
            let over = self.hung_up;
            if over {
                self.lost();
            }
            return Ok(over);
        };
        let packet =
            Packet::parse(&frame, self.version).map_err(|error| anyhow!("an agent sent its client {error}"))?;
        match packet {
            Packet::Connack(connack) if connack.code == 0 => self.connected(ghost, connack.session_present)?,
            Packet::Connack(_) | Packet::Disconnect(_) => self.lost(),
            Packet::Suback(suback) if suback.codes.iter().all(|code| *code == self.qos as u8) => {
                self.subscribed = true;
                ghost.subscribed(self.place);
            }
            Packet::Publish(publish) => self.got(ghost, &publish)?,
            Packet::Ack(ack) => self.acknowledged(ghost, &ack)?,
            _ => {}
        }
        Ok(true)
    }

    fn connected(&mut self, ghost: &mut Ghost, session_present: bool) -> Result<()> {
        self.state = State::Online;
        if !session_present {
            ghost.no_session(self.place);
            self.unacknowledged.clear();
            self.order.clear();
            self.held.clear();
            self.subscribed = false;
        }
        // A session may have been made whose subscription was lost on the way.
        let filters = vec![(Text::new(FILTER)?, SubscriptionOptions::new(self.qos))];
        let packet_id = PacketId::new(u16::MAX).context("an identifier")?;
        if !self.subscribed {
            self.send(&Packet::Subscribe(Subscribe { packet_id, properties: Properties::new(), filters }))?;
        }
        for id in self.order.clone() {
            let Some(unacknowledged) = self.unacknowledged.get(&id) else { continue };
            let packet_id = PacketId::new(id).context("an identifier")?;
            let packet = if unacknowledged.received {
                Packet::Ack(Ack::success(AckKind::Pubrel, packet_id))
            } else {
                Packet::Publish(Publish { dup: true, ..unacknowledged.publish.clone() })
            };
            self.send(&packet)?;
        }
        Ok(())
    }

    fn got(&mut self, ghost: &mut Ghost, publish: &Publish) -> Result<()> {
        let Some(id) = publish.packet_id else {
            ghost.got(self.place, publish);
            return Ok(());
        };
        let again = publish.qos == Qos::ExactlyOnce && !self.held.insert(id.value());
        if !again {
            ghost.got(self.place, publish);
        }
        let kind = if publish.qos == Qos::ExactlyOnce { AckKind::Pubrec } else { AckKind::Puback };
        self.send(&Packet::Ack(Ack::success(kind, id)))
    }

    fn acknowledged(&mut self, ghost: &mut Ghost, ack: &Ack) -> Result<()> {
        let id = ack.packet_id.value();
        match ack.kind {
            AckKind::Pubrel => {
                self.held.remove(&id);
                return self.send(&Packet::Ack(Ack::success(AckKind::Pubcomp, ack.packet_id)));
            }
            AckKind::Pubrec if !ack.is_error() => {
                if let Some(unacknowledged) = self.unacknowledged.get_mut(&id) {
                    unacknowledged.received = true;
                    ghost.acknowledged_to(unacknowledged.number);
                }
                return self.send(&Packet::Ack(Ack::success(AckKind::Pubrel, ack.packet_id)));
            }
            AckKind::Puback | AckKind::Pubrec | AckKind::Pubcomp => {}
        }
        self.order.retain(|other| *other != id);
        if let Some(done) = self.unacknowledged.remove(&id)
            && ack.kind == AckKind::Puback
            && !ack.is_error()
        {
            ghost.acknowledged_to(done.number);
        }
        Ok(())
    }
}
