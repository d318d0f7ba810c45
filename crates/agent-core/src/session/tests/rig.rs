//! A session by calls: what its client and the broker send goes in as packets, and its steps are committed to a disk that
//! may fail.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sealcast_ledger::GroupNumber;
use sealcast_mqtt::{
    Ack, AckKind, Connack, Connect, Frame, Packet, PacketId, Properties, Publish, Qos, Text, TopicName, Version, Will,
};
use sealcast_reading::{Decoder, InputConfig, PlainConfig};

use crate::{
    ByFilter, Keyring, Now, RecordRules, RecordTable, RetainedTopics,
    session::{Annotate, ClientEvent, Effect, Memory, Opened, Session, Settings, Shared, Write},
    testing::{START_MS, World},
    values::{ArchiveOnDisk, ValueRules, Values},
};

/// What becomes of the next write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    Works,
    /// It fails.
    Fails,
    /// It is on disk, and its writer hears that it failed.
    FailsAfterwards,
}

/// Devices 0, 1 and 2 are members of a group that covers `plant/#` and is at epoch 1.
pub struct Fleet {
    pub world: World,
    pub group: GroupNumber,
    epoch: u64,
}

impl Fleet {
    pub fn new() -> Self {
        let (mut world, group) = World::with_group(3);
        world.commit(group, 0);
        Self { world, group, epoch: 1 }
    }

    /// The epoch ends.
    pub fn commit(&mut self) {
        self.world.commit(self.group, 0);
        self.epoch += 1;
    }

    /// A device's key ring that has read the ledger to its end, and has no keys.
    pub fn without_keys(&self, device: usize) -> Keyring {
        let mut keyring = self.world.keyring(device, self.world.ledger.replica().clone());
        let sync = keyring.begin_sync();
        assert!(keyring.set_caught_up(sync));
        keyring
    }

    pub fn insert_keys(&self, keyring: &mut Keyring, device: usize) {
        keyring.insert_epoch(&self.world.keys(self.group, device, self.epoch, &[0, 1, 2]), START_MS);
    }

    /// A member's key ring, with the keys of the present epoch.
    pub fn keyring(&self, device: usize) -> Keyring {
        let mut keyring = self.without_keys(device);
        self.insert_keys(&mut keyring, device);
        keyring
    }
}

/// One device: what it has in memory, what is on its disk, and one connection of a client.
pub struct Rig {
    pub keyring: Keyring,
    pub values: Values,
    pub retained: RetainedTopics,
    pub record: RecordRules,
    pub session: Session,
    pub now: Now,
    pub disk: Disk,
    /// All that is on disk, in order.
    pub written: Vec<Write>,
    /// Transactions that this took.
    pub commits: usize,
    /// Writes and packets in the order in which they happened.
    pub log: Vec<String>,
    pub to_client: Vec<Packet>,
    pub to_broker: Vec<Packet>,
    pub told: Vec<ClientEvent>,
    pub asked: usize,
    /// How long the driver takes to look at a password.
    pub login_ms: u64,
    pub closed: Option<String>,
    pub version: Version,
    /// What the driver will give to the client's next connection.
    pub memory: Option<Memory>,
}

pub fn settings() -> Settings {
    Settings {
        connection: 1,
        address: "127.0.0.1:1".to_owned(),
        annotate: Annotate::default(),
        login: false,
        copies: true,
        max_packet_bytes: 1 << 16,
        key_wait_ms: 10_000,
    }
}

impl Rig {
    /// The device at this place, with its keys and without rules for values.
    pub fn new(fleet: &Fleet, device: usize) -> Self {
        Self::with_rules(fleet.keyring(device), Arc::default(), ByFilter::default())
    }

    pub fn with_rules(keyring: Keyring, rules: Arc<ValueRules>, record: ByFilter<RecordTable>) -> Self {
        let now = Now { unix_ms: START_MS, run_ms: 50 };
        let plain = Decoder::new(InputConfig::Number(PlainConfig::default())).unwrap();
        let values =
            Values::new(keyring.device().clone(), rules.clone(), &[], ArchiveOnDisk::default(), now.unix_ms).unwrap();
        Self {
            session: Session::new(settings(), &rules, now),
            record: RecordRules::new(record, rules, plain),
            keyring,
            values,
            retained: RetainedTopics::default(),
            now,
            disk: Disk::Works,
            written: Vec::new(),
            commits: 0,
            log: Vec::new(),
            to_client: Vec::new(),
            to_broker: Vec::new(),
            told: Vec::new(),
            asked: 0,
            login_ms: 0,
            closed: None,
            version: Version::V5,
            memory: Some(Memory::default()),
        }
    }

    pub fn wait(&mut self, ms: u64) {
        self.now.unix_ms += ms;
        self.now.run_ms += ms;
        self.run();
    }

    /// Takes all steps that there are.
    pub fn run(&mut self) {
        loop {
            let Self { keyring, values, retained, record, .. } = self;
            let disk_fails = self.disk == Disk::Fails;
            let mut shared = Shared { keyring, values, retained, record, disk_fails };
            let Some(step) = self.session.poll(&mut shared, 1 << 16, self.now) else { return };
            let (disk, written, log, commits) = (self.disk, &mut self.written, &mut self.log, &mut self.commits);
            let outcome = step.commit(|writes| {
                *commits += 1;
                if disk != Disk::Fails {
                    log.extend(writes.iter().map(|write| format!("disk: {}", name(write))));
                    written.extend_from_slice(writes);
                }
                if disk == Disk::Works { Ok(()) } else { Err("no room") }
            });
            match outcome {
                Ok(effects) => effects.into_iter().for_each(|effect| self.apply(effect)),
                Err(_) => {
                    if self.session.handle_uncommitted() {
                        self.closed = Some("the disk fails".to_owned());
                    }
                }
            }
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::ToClient(bytes) => {
                let packets = packets(&bytes, self.version);
                self.log.extend(packets.iter().map(|packet| format!("client: {}", kind(packet))));
                self.to_client.extend(packets);
            }
            Effect::ToBroker(bytes) => {
                let packets = packets(&bytes, self.version);
                self.log.extend(packets.iter().map(|packet| format!("broker: {}", kind(packet))));
                self.to_broker.extend(packets);
            }
            Effect::Open { .. } => {
                let memory = self.memory.take().unwrap();
                self.session.opened(Opened { memory, max_packet_bytes: None, credentials: None }, &self.keyring);
            }
            Effect::CheckLogin { credentials } => {
                self.log.push("login".to_owned());
                self.now.run_ms += self.login_ms;
                let is_right = credentials.password.as_deref() == Some(b"right");
                self.session.login_checked(is_right, self.now);
            }
            Effect::AskForNews => self.asked += 1,
            Effect::Tell(event) => self.told.push(event),
            Effect::Close { reason } => self.closed = Some(reason),
            Effect::Connected { .. } | Effect::Refused { .. } => {}
        }
    }

    /// A packet of the client.
    pub fn client(&mut self, packet: &Packet) {
        self.session.handle_client(&encode(packet, self.version));
        self.run();
    }

    /// Packets of the client that are read at once.
    pub fn client_at_once(&mut self, packets: impl IntoIterator<Item = Packet>) {
        let bytes: Vec<u8> = packets.into_iter().flat_map(|packet| encode(&packet, self.version)).collect();
        self.session.handle_client(&bytes);
        self.run();
    }

    /// Packets of the broker that are read at once.
    pub fn broker_at_once(&mut self, packets: impl IntoIterator<Item = Packet>) {
        let bytes: Vec<u8> = packets.into_iter().flat_map(|packet| encode(&packet, self.version)).collect();
        self.session.handle_broker(&bytes);
        self.run();
    }

    /// A packet of the broker.
    pub fn broker(&mut self, packet: &Packet) {
        self.session.handle_broker(&encode(packet, self.version));
        self.run();
    }

    /// The client has connected, and the broker has accepted it.
    pub fn connect(&mut self, will: Option<Will>) {
        self.connect_again(will, false);
    }

    /// Of an MQTT 5 client whose session outlives its connection.
    pub fn connect_packet(&self, will: Option<Will>) -> Connect {
        let session_expiry = [sealcast_mqtt::Property::SessionExpiry(3600)].into_iter().collect();
        Connect {
            clean_start: false,
            properties: if self.version == Version::V5 { session_expiry } else { Properties::new() },
            will,
            ..Connect::new(self.version, Text::new("pump").unwrap())
        }
    }

    pub fn connect_again(&mut self, will: Option<Will>, session_present: bool) {
        let connect = self.connect_packet(will);
        self.client(&Packet::Connect(Box::new(connect)));
        self.broker(&Packet::Connack(Connack { session_present, code: 0, properties: Properties::new() }));
    }

    /// Ends the connection, and gives what is kept in memory to the next one.
    pub fn reconnect(&mut self, session_present: bool) {
        self.session.handle_client_eof();
        self.run();
        assert!(self.closed.take().is_some());
        let next = Session::new(settings(), self.values.rules(), self.now);
        let (memory, _) = std::mem::replace(&mut self.session, next).into_memory().unwrap();
        self.memory = Some(memory);
        self.to_broker.clear();
        self.to_client.clear();
        self.connect_again(None, session_present);
    }

    pub fn publish(&mut self, topic: &str, qos: Qos, retain: bool, payload: &str) {
        self.client(&Packet::Publish(publish(topic, qos, retain, payload.as_bytes())));
    }

    /// What was published to the broker: topics and payloads.
    pub fn published(&self) -> Vec<(&str, Bytes)> {
        self.to_broker
            .iter()
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => Some((publish.topic.as_ref()?.as_str(), publish.payload.clone())),
                _ => None,
            })
            .collect()
    }

    /// What the client was given.
    pub fn delivered(&self) -> Vec<Bytes> {
        let publish = |packet: &Packet| match packet {
            Packet::Publish(publish) => Some(publish.payload.clone()),
            _ => None,
        };
        self.to_client.iter().filter_map(publish).collect()
    }

    /// Codes of the acknowledgements that the client got.
    pub fn acknowledged(&self) -> Vec<u8> {
        codes(&self.to_client)
    }

    /// The same for the broker.
    pub fn acknowledged_to_broker(&self) -> Vec<u8> {
        codes(&self.to_broker)
    }
}

fn codes(packets: &[Packet]) -> Vec<u8> {
    let code = |packet: &Packet| match packet {
        Packet::Ack(ack) if ack.kind == AckKind::Puback => Some(ack.code),
        _ => None,
    };
    packets.iter().filter_map(code).collect()
}

pub fn publish(topic: &str, qos: Qos, retain: bool, payload: &[u8]) -> Publish {
    Publish {
        dup: false,
        qos,
        retain,
        topic: Some(TopicName::new(topic).unwrap()),
        packet_id: (qos != Qos::AtMostOnce).then(|| PacketId::new(7).unwrap()),
        properties: Properties::new(),
        payload: Bytes::copy_from_slice(payload),
    }
}

pub fn puback() -> Packet {
    Packet::Ack(Ack::success(AckKind::Puback, PacketId::new(7).unwrap()))
}

pub fn encode(packet: &Packet, version: Version) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.put(version, &mut bytes).unwrap();
    bytes
}

fn packets(bytes: &[u8], version: Version) -> Vec<Packet> {
    let mut rest = BytesMut::from(bytes);
    std::iter::from_fn(|| Frame::take(&mut rest, version, 1 << 20).unwrap())
        .map(|frame| Packet::parse(&frame, version).unwrap())
        .collect()
}

fn kind(packet: &Packet) -> &'static str {
    match packet {
        Packet::Connect(_) => "CONNECT",
        Packet::Connack(_) => "CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::Ack(_) => "acknowledgement",
        Packet::Disconnect(_) => "DISCONNECT",
        _ => "other",
    }
}

fn name(write: &Write) -> &'static str {
    match write {
        Write::Client { .. } => "client",
        Write::Subscriptions { .. } => "subscriptions",
        Write::Retained(_) => "retained",
        Write::Readings { .. } => "readings",
        Write::Sent { .. } => "sent",
        Write::Values => "values",
    }
}
