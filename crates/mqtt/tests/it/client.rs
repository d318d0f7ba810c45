//! A client and a simple model of a server that do anything in any order: each message has one outcome, and what the client
//! says of it is what the server did; bounds hold; acknowledgements come in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use sealcast_mqtt::client::{Client, CloseReason, Config, Message, Outcome, Output, Receipt, RequestError};
use sealcast_mqtt::*;

use crate::harness::id;

const CONFIG: Config = Config {
    max_packet_bytes: 4096,
    receive_maximum: 3,
    max_in_flight: 5,
    max_queued: 4,
    max_queued_bytes: 200,
    connect_patience: Duration::from_secs(5),
    ping_patience: Duration::from_secs(10),
};

#[derive(Debug, Clone, Copy)]
enum Op {
    Publish {
        qos1: bool,
        payload: u8,
    },
    Subscribe,
    Ping,
    /// The client's bytes move on.
    Transmit {
        frames: u8,
    },
    /// The server answers what it has read, the oldest or a later one.
    Answer {
        which: u8,
        refuse: bool,
    },
    /// The server publishes.
    Deliver {
        qos1: bool,
    },
    /// The server's bytes move on, in pieces.
    Receive {
        pieces: u8,
    },
    /// The application deals with a message.
    Acknowledge {
        which: u8,
    },
    Wait {
        seconds: u8,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (any::<bool>(), any::<u8>()).prop_map(|(qos1, payload)| Op::Publish { qos1, payload }),
        1 => Just(Op::Subscribe),
        1 => Just(Op::Ping),
        4 => (1u8..6).prop_map(|frames| Op::Transmit { frames }),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(which, refuse)| Op::Answer { which, refuse }),
        3 => any::<bool>().prop_map(|qos1| Op::Deliver { qos1 }),
        4 => (1u8..4).prop_map(|pieces| Op::Receive { pieces }),
        3 => any::<u8>().prop_map(|which| Op::Acknowledge { which }),
        1 => (1u8..9).prop_map(|seconds| Op::Wait { seconds }),
    ];
    vec(op, 0..200)
}

/// The server: what it has read and not answered, and what it has sent and not seen acknowledged.
struct Server {
    version: Version,
    receive_maximum: u16,
    open: VecDeque<Frame>,
    /// By their payload, which is the token.
    answered: BTreeMap<u32, bool>,
    read: BTreeSet<u32>,
    unacknowledged: VecDeque<PacketId>,
    last: u16,
    wire: Vec<u8>,
}

impl Server {
    fn new(version: Version, receive_maximum: u16) -> Self {
        let properties = [Property::ReceiveMaximum(receive_maximum)].into_iter().collect();
        let connack = Connack { session_present: false, code: 0, properties };
        // MQTT 3.1.1 has no receive maximum.
        let receive_maximum = if version == Version::V5 { receive_maximum } else { CONFIG.max_in_flight };
        Self {
            version,
            receive_maximum,
            open: VecDeque::new(),
            answered: BTreeMap::new(),
            read: BTreeSet::new(),
            unacknowledged: VecDeque::new(),
            last: 0,
            wire: connack.encode(version).unwrap().to_vec(),
        }
    }

    fn read(&mut self, frame: Frame) {
        match frame.packet() {
            PacketType::Connect => {}
            PacketType::Puback => {
                let ack = Ack::parse(&frame, self.version).unwrap();
                assert_eq!(Some(ack.packet_id), self.unacknowledged.pop_front(), "in the order of the messages");
            }
            PacketType::Publish => {
                let publish = Publish::parse(&frame, self.version).unwrap();
                assert!(!publish.dup);
                assert!(self.read.insert(token(&publish.payload)), "sent once");
                if publish.qos == Qos::AtLeastOnce {
                    self.open.push_back(frame);
                }
                let open = self.open.iter().filter(|frame| frame.packet() == PacketType::Publish).count();
                assert!(open <= usize::from(self.receive_maximum.min(CONFIG.max_in_flight)), "{open} in flight");
            }
            PacketType::Subscribe | PacketType::Pingreq => self.open.push_back(frame),
            other => panic!("{other}"),
        }
        let ids: Vec<_> = self.open.iter().filter_map(packet_id).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an identifier twice");
    }

    fn answer(&mut self, which: u8, refuse: bool) {
        // Answers to messages may come in any order here, those to pings only in theirs.
        let Some(which) = usize::from(which).checked_rem(self.open.len()) else { return };
        let ping = |frame: &Frame| frame.packet() == PacketType::Pingreq;
        if self.open.iter().take(which).any(ping) && ping(&self.open[which]) {
            return;
        }
        let frame = self.open.remove(which).unwrap();
        match frame.packet() {
            PacketType::Publish => {
                let publish = Publish::parse(&frame, self.version).unwrap();
                let refuse = refuse && self.version == Version::V5;
                self.answered.insert(token(&publish.payload), !refuse);
                let mut ack = Ack::success(AckKind::Puback, publish.packet_id.unwrap());
                ack.code = if refuse { 0x97 } else { 0 };
                self.wire.extend(ack.encode(self.version).unwrap());
            }
            PacketType::Subscribe => {
                let id = packet_id(&frame).unwrap().value().to_be_bytes();
                match self.version {
                    Version::V31 | Version::V311 => self.wire.extend([0x90, 3, id[0], id[1], 1]),
                    Version::V5 => self.wire.extend([0x90, 4, id[0], id[1], 0, 1]),
                }
            }
            _ => self.wire.extend([0xD0, 0]),
        }
    }

    fn deliver(&mut self, qos1: bool) {
        if qos1 && self.unacknowledged.len() >= usize::from(CONFIG.receive_maximum) {
            return;
        }
        let packet_id = qos1.then(|| {
            self.last += 1;
            id(self.last)
        });
        self.unacknowledged.extend(packet_id);
        let publish = Publish {
            dup: false,
            qos: if qos1 { Qos::AtLeastOnce } else { Qos::AtMostOnce },
            retain: false,
            topic: Some(TopicName::new("down").unwrap()),
            packet_id,
            properties: Properties::new(),
            payload: Bytes::from_static(b"x"),
        };
        self.wire.extend(publish.encode(self.version).unwrap());
    }
}

fn packet_id(frame: &Frame) -> Option<PacketId> {
    match frame.packet() {
        PacketType::Publish => Publish::parse_receipt(frame).unwrap().1,
        PacketType::Subscribe => PacketId::new(u16::from_be_bytes(*frame.content().first_chunk().unwrap())),
        _ => None,
    }
}

fn token(payload: &[u8]) -> u32 {
    u32::from_be_bytes(*payload.first_chunk().unwrap())
}

struct World {
    client: Client<u32, u32>,
    server: Server,
    now: Instant,
    next: u32,
    published: BTreeSet<u32>,
    outcomes: BTreeMap<u32, Outcome>,
    pings: VecDeque<u32>,
    subscriptions: BTreeSet<u32>,
    receipts: Vec<Receipt>,
    closed: Option<CloseReason>,
}

impl World {
    fn new(version: Version, receive_maximum: u16) -> Self {
        let connect = Connect {
            version,
            bridge: false,
            clean_start: true,
            keep_alive_s: 20,
            properties: Properties::new(),
            client_id: Text::default(),
            will: None,
            username: None,
            password: None,
        };
        let now = Instant::now();
        Self {
            client: Client::new(connect, CONFIG, now).unwrap(),
            server: Server::new(version, receive_maximum),
            now,
            next: 0,
            published: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            pings: VecDeque::new(),
            subscriptions: BTreeSet::new(),
            receipts: Vec::new(),
            closed: None,
        }
    }

    fn apply(&mut self, op: Op) {
        self.next += 1;
        let token = self.next;
        match op {
            Op::Publish { qos1, payload } => self.publish(qos1, payload, token),
            Op::Subscribe => {
                if self.client.subscribe(&[("down", Qos::AtLeastOnce)], token).is_ok() {
                    self.subscriptions.insert(token);
                }
            }
            Op::Ping => {
                if self.client.ping(token, self.now).is_ok() {
                    self.pings.push_back(token);
                }
            }
            Op::Transmit { frames } => self.transmit(frames.into()),
            Op::Answer { which, refuse } => self.server.answer(which, refuse),
            Op::Deliver { qos1 } => self.server.deliver(qos1),
            Op::Receive { pieces } => self.receive(pieces.into()),
            Op::Acknowledge { which } => {
                if let Some(which) = usize::from(which).checked_rem(self.receipts.len()) {
                    self.client.acknowledge(self.receipts.swap_remove(which));
                }
            }
            Op::Wait { seconds } => {
                self.now += Duration::from_secs(seconds.into());
                self.client.handle_timeout(self.now);
            }
        }
        self.take_outputs();
    }

    fn publish(&mut self, qos1: bool, payload: u8, token: u32) {
        let mut bytes = token.to_be_bytes().to_vec();
        bytes.resize(4 + usize::from(payload), 0);
        let message = Message {
            topic: TopicName::new("up").unwrap(),
            qos: if qos1 { Qos::AtLeastOnce } else { Qos::AtMostOnce },
            retain: false,
            properties: Properties::new(),
            payload: bytes.into(),
        };
        let room = self.client.has_room();
        match self.client.publish(&message, token) {
            Ok(()) => {
                assert!(room && self.published.insert(token));
            }
            Err(rejected) => {
                assert!(!room && rejected.token == token);
                let open = self.client.is_open();
                assert_eq!(rejected.error, if open { RequestError::Full } else { RequestError::NotConnected });
            }
        }
    }

    fn transmit(&mut self, frames: usize) {
        for _ in 0..frames {
            let Some(bytes) = self.client.poll_transmit(self.now) else { return };
            self.server.read(Frame::from_bytes(bytes).unwrap());
        }
    }

    fn receive(&mut self, pieces: usize) {
        if self.client.wants_input() {
            let wire = std::mem::take(&mut self.server.wire);
            for piece in wire.chunks(wire.len().div_ceil(pieces).max(1)) {
                self.client.handle_input(piece, self.now);
            }
        }
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.client.poll_output() {
            assert_eq!(self.closed, None, "the end is the last output");
            match output {
                Output::Connected(connected) => {
                    if self.server.version == Version::V5 {
                        assert_eq!(connected.limits.receive_maximum, self.server.receive_maximum);
                    }
                }
                Output::Published(token, outcome) => {
                    assert!(self.outcomes.insert(token, outcome).is_none(), "one outcome for each");
                }
                Output::Pong(token) => assert_eq!(Some(token), self.pings.pop_front()),
                Output::Subscribed(token, results) => {
                    assert!(self.subscriptions.remove(&token));
                    assert_eq!(results, [Ok(Qos::AtLeastOnce)]);
                }
                Output::Message(_, receipt) => self.receipts.extend(receipt),
                Output::Unsubscribed(..) => panic!("nobody asked for it"),
                Output::Closed(reason) => self.closed = Some(reason),
            }
        }
    }

    /// Everything is said and answered, as long as the connection lasts.
    fn settle(&mut self) {
        while self.closed.is_none() {
            self.transmit(usize::MAX);
            self.receipts.drain(..).for_each(|receipt| self.client.acknowledge(receipt));
            (0..self.server.open.len()).for_each(|_| self.server.answer(0, false));
            let over = self.server.wire.is_empty() && self.server.unacknowledged.is_empty() && self.client.is_idle();
            self.receive(1);
            self.take_outputs();
            if over {
                return;
            }
        }
    }

    fn verify(&self) {
        assert_eq!(self.outcomes.keys().copied().collect::<BTreeSet<_>>(), self.published);
        for (token, outcome) in &self.outcomes {
            let (read, answered) = (self.server.read.contains(token), self.server.answered.get(token));
            match outcome {
                Outcome::Taken => assert!(read && answered != Some(&false)),
                Outcome::Refused(reason) => assert!(answered == Some(&false) && reason.code == 0x97),
                Outcome::Unknown => assert!(read),
                Outcome::Unsent => assert!(!read),
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_each_message_has_its_outcome(
        v5 in any::<bool>(), receive_maximum in 1u16..8, ops in ops(), cut in any::<bool>(),
    ) {
        let mut world = World::new(if v5 { Version::V5 } else { Version::V311 }, receive_maximum);
        world.transmit(1);
        world.receive(1);
        world.take_outputs();
        for op in ops {
            world.apply(op);
        }
        if cut {
            world.client.handle_eof();
            world.take_outputs();
            let silent = Some(CloseReason::Silent);
            prop_assert!(world.closed == Some(CloseReason::Eof) || world.closed == silent, "{:?}", world.closed);
        } else {
            world.settle();
            if world.closed.is_none() {
                prop_assert!(world.pings.is_empty() && world.subscriptions.is_empty());
                let certain = |outcome: &Outcome| matches!(outcome, Outcome::Taken | Outcome::Refused(_));
                prop_assert!(world.outcomes.values().all(certain));
            } else {
                prop_assert_eq!(&world.closed, &Some(CloseReason::Silent));
            }
        }
        world.verify();
    }

    #[test]
    fn whatever_the_server_sends_the_client_stays_in_its_bounds(
        v5 in any::<bool>(), connected in any::<bool>(), bytes in vec(any::<u8>(), 0..400),
    ) {
        let mut world = World::new(if v5 { Version::V5 } else { Version::V311 }, 4);
        if connected {
            world.receive(1);
        }
        world.client.handle_input(&bytes, world.now);
        let mut outputs = 0;
        while let Some(output) = world.client.poll_output() {
            outputs += 1;
            prop_assert!(outputs <= bytes.len() + 2);
            let last = matches!(output, Output::Closed(_));
            prop_assert!(!last || world.client.poll_output().is_none());
        }
    }
}
