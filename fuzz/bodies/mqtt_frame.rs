//! MQTT frames: splitter, every packet in both versions, a proxy between two sides that say anything, and a client whose
//! server says anything.
//!
//! Input: a byte that says which, then for the codec `chunk u8 | stream`, for the proxy `config u8 | operations`, each
//! operation `what u8 | length u8 | bytes`, for the client `version u8 | stream`.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use sealcast_mqtt::{
    Connack, Connect, ConnectCode, EncodeError, Frame, MAX_REMAINING_BYTES, Output, Packet, PacketType, ParseError,
    Properties, PropertySet, Proxy, ProxyConfig, Publish, PublishRefusal, Qos, RefuseCode, SessionState, Splitter,
    Text, TopicName, Version, WillAnswer, client,
};

/// More outputs than this for one operation of at most 255 bytes, and the proxy goes in circles.
const MAX_OUTPUTS: usize = 10_000;

pub fn run(data: &[u8]) {
    match data {
        [0, chunk, stream @ ..] => codec((*chunk).into(), stream),
        [1, config, operations @ ..] => proxy(*config, operations),
        [2, list @ ..] => properties(list),
        [3, version, stream @ ..] => client(if version & 1 == 0 { Version::V311 } else { Version::V5 }, stream),
        _ => {}
    }
}

fn codec(chunk: usize, stream: &[u8]) {
    const MAX_FRAME_BYTES: usize = 2000;
    let mut whole = Splitter::new(MAX_FRAME_BYTES);
    whole.feed(stream);
    let (frames, end) = drain(&mut whole);
    for frame in &frames {
        assert!(frame.bytes().len() <= MAX_FRAME_BYTES);
        assert_eq!(Frame::from_bytes(frame.bytes().clone()).as_ref(), Ok(frame));
        packet(frame);
    }

    let mut chunked = Splitter::new(MAX_FRAME_BYTES);
    let mut seen = Vec::new();
    let mut last = Ok(());
    for bytes in stream.chunks(chunk.max(1)) {
        chunked.feed(bytes);
        let (more, end) = drain(&mut chunked);
        seen.extend(more);
        last = end;
        if last.is_err() {
            break;
        }
    }
    assert_eq!((seen, last), (frames, end), "the same frames, however the stream is cut");
}

fn drain(splitter: &mut Splitter) -> (Vec<Frame>, Result<(), ParseError>) {
    let mut frames = Vec::new();
    loop {
        let peeked = splitter.peek_packet();
        match splitter.next_frame() {
            Ok(Some(frame)) => {
                assert_eq!(peeked, Ok(Some(frame.packet())));
                frames.push(frame);
            }
            Ok(None) => return (frames, Ok(())),
            Err(error) => {
                assert_eq!(splitter.next_frame().err(), Some(error.clone()), "an error stays");
                return (frames, Err(error));
            }
        }
    }
}

fn packet(frame: &Frame) {
    for version in [Version::V31, Version::V311, Version::V5] {
        round_trip(frame, version);
    }
    let _ = Connect::parse_version(frame);
    if let (Ok(receipt), Ok(publish)) = (Publish::parse_receipt(frame), Publish::parse(frame, Version::V311)) {
        assert_eq!((publish.qos, publish.packet_id), receipt);
    }
}

fn round_trip(frame: &Frame, version: Version) {
    let Ok(packet) = Packet::parse(frame, version) else { return };
    let bytes = encode(&packet, version).expect("what was read can be written");
    let again = Frame::from_bytes(bytes.clone()).expect("what was written is a frame");
    let back = Packet::parse(&again, version).expect("what was written can be read");
    assert!(back == packet, "{back:?} is not {packet:?}");
    assert_eq!(encode(&back, version).as_ref(), Ok(&bytes), "writing has one form");
}

fn encode(packet: &Packet, version: Version) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::new();
    packet.put(version, &mut out).map(|()| out.freeze())
}

fn properties(list: &[u8]) {
    let bytes = Bytes::copy_from_slice(list);
    for set in [
        PropertySet::Connect,
        PropertySet::Will,
        PropertySet::Connack,
        PropertySet::Publish,
        PropertySet::Ack,
        PropertySet::Disconnect,
        PropertySet::Subscribe,
        PropertySet::Unsubscribe,
        PropertySet::Auth,
        PropertySet::Sealed,
    ] {
        if let Ok(list) = Properties::parse(bytes.clone(), set) {
            let written = list.encode().expect("what was read can be written");
            assert_eq!(Properties::parse(written, set).as_ref(), Ok(&list));
            let (inside, outside) = list.partition_sealed();
            assert_eq!(inside.len() + outside.len(), list.len());
        }
    }
}

/// A proxy, its driver, and what came out whole on either side.
struct Rig {
    proxy: Proxy,
    config: ProxyConfig,
    to_client: Splitter,
    to_broker: Splitter,
    waiting: Vec<Output>,
    closed: bool,
}

#[derive(Clone, Copy)]
enum Policy {
    Identity,
    Clear,
    Refuse,
    Hold,
}

fn proxy(config: u8, mut operations: &[u8]) {
    let pick = |bit: u8, large: usize, small: usize| if config & bit == 0 { large } else { small };
    let config = ProxyConfig {
        max_frame_bytes: pick(1, 1 << 20, 96) as u32,
        seal_overhead_bytes: pick(2, 108, 0) as u32,
        open_overhead_bytes: pick(2, 302, 0) as u32,
        max_topic_aliases: pick(4, 64, 1) as u16,
        max_waiting_frames: pick(8, 64, 2),
        max_waiting_bytes: pick(16, 1 << 20, 128),
    };
    let mut rig = Rig::new(config);
    while let [what, length, rest @ ..] = operations {
        let (bytes, rest) = rest.split_at(rest.len().min((*length).into()));
        operations = rest;
        let policy = match (what >> 3) & 3 {
            0 => Policy::Identity,
            1 => Policy::Clear,
            2 => Policy::Refuse,
            _ => Policy::Hold,
        };
        match what & 7 {
            // A driver reads only while it is told to; bytes that it does not read wait in the socket.
            0..=2 if rig.proxy.wants_client_bytes() => rig.proxy.handle_client(bytes),
            3 | 4 if rig.proxy.wants_broker_bytes() => rig.proxy.handle_broker(bytes),
            5 => rig.proxy.handle_client_eof(),
            6 => rig.proxy.handle_broker_eof(),
            7 if what & 0x80 != 0 => rig.proxy.close(*length, "the agent stops"),
            7 if rig.closed => rig.reconnect(),
            7 if what & 0x20 != 0 => rig.proxy.close_when_drained(*length, "the agent stops"),
            _ => {}
        }
        rig.work(policy);
    }
    rig.proxy.handle_client_eof();
    rig.proxy.handle_broker_eof();
    rig.work(Policy::Identity);
    let connecting = rig.waiting.iter().any(|output| matches!(output, Output::Connect(_)));
    assert!(rig.closed || connecting, "both sides have gone, all is answered, and it has not ended");
}

impl Rig {
    fn new(config: ProxyConfig) -> Self {
        let splitter = || Splitter::new(MAX_REMAINING_BYTES);
        let (to_client, to_broker) = (splitter(), splitter());
        Self { proxy: Proxy::new(config), config, to_client, to_broker, waiting: Vec::new(), closed: false }
    }

    /// The client comes back to its session.
    fn reconnect(&mut self) {
        let session = self.proxy.session().clone();
        *self = Self::new(self.config);
        let connect = Connect {
            version: Version::V5,
            bridge: false,
            clean_start: false,
            keep_alive_s: 0,
            properties: Properties::new(),
            client_id: sealcast_mqtt::Text::new("again").expect("a text"),
            will: None,
            username: None,
            password: None,
        };
        self.proxy.handle_client(&connect.encode().expect("small"));
        while let Some(output) = self.proxy.poll() {
            if let Output::Connect(_) = output {
                self.proxy.accept(WillAnswer::AsIs, session.clone()).expect("it waits");
            }
        }
        let connack = Connack { session_present: true, code: 0, properties: Properties::new() };
        self.proxy.handle_broker(&connack.encode(Version::V5).expect("small"));
    }

    fn work(&mut self, policy: Policy) {
        let mut outputs = 0;
        loop {
            while let Some(output) = self.proxy.poll() {
                outputs += 1;
                assert!(outputs < MAX_OUTPUTS, "it goes in circles");
                assert!(!self.closed, "{output:?} after the end");
                self.take(output);
            }
            if matches!(policy, Policy::Hold) || self.waiting.is_empty() {
                return;
            }
            // From the back: answers come in any order.
            for output in std::mem::take(&mut self.waiting).into_iter().rev() {
                self.answer(output, policy);
            }
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::ToBroker(bytes) => whole(&mut self.to_broker, &bytes, true),
            Output::ToClient(bytes) => whole(&mut self.to_client, &bytes, false),
            Output::Closed(reason) => {
                assert!(!reason.to_string().is_empty());
                assert!(self.proxy.is_closed());
                assert!(!self.proxy.wants_client_bytes() && !self.proxy.wants_broker_bytes());
                self.closed = true;
                self.waiting.clear();
            }
            output @ (Output::Connect(_) | Output::Publish(_) | Output::Delivery(_)) => self.waiting.push(output),
            other => assert!(!format!("{other:?}").is_empty()),
        }
    }

    fn answer(&mut self, output: Output, policy: Policy) {
        if self.proxy.is_closed() {
            return;
        }
        let asked = format!("{output:?}");
        let done = match (output, policy) {
            (Output::Connect(_), Policy::Refuse) => self.proxy.refuse_connect(ConnectCode::NotAuthorized, "not here"),
            (Output::Connect(request), Policy::Identity) => {
                let will = request.will.map_or(WillAnswer::AsIs, |will| WillAnswer::Sealed(will.payload));
                self.proxy.accept(will, SessionState::default())
            }
            (Output::Connect(_), _) => self.proxy.accept(WillAnswer::AsIs, SessionState::default()),
            (Output::Publish(request), Policy::Clear) => self.proxy.pass_clear(request.id),
            (Output::Publish(request), Policy::Refuse) => {
                let disconnect = request.retain;
                let refusal = PublishRefusal { code: RefuseCode::NotAuthorized, reason: "no".to_owned(), disconnect };
                self.proxy.refuse(request.id, refusal)
            }
            (Output::Publish(request), _) if request.retain && request.payload.is_empty() => {
                self.proxy.announce(request.id, "announcement".into())
            }
            (Output::Publish(request), _) => self.proxy.seal_done(request.id, request.payload),
            (Output::Delivery(delivery), Policy::Clear) => self.proxy.pass(delivery.id),
            (Output::Delivery(delivery), Policy::Refuse) => self.proxy.swallow(delivery.id),
            (Output::Delivery(delivery), _) => {
                let (inside, _) = delivery.properties.partition_sealed();
                let inside = inside.encode().expect("what was read can be written");
                self.proxy.deliver(delivery.id, delivery.payload, inside, &[("sealcast-sender", "1111")])
            }
            (other, _) => panic!("{other:?} wants no answer"),
        };
        assert_eq!(done, Ok(()), "an answer that was asked for is taken: {asked}");
    }
}

/// What goes out is whole frames of a kind that may go that way.
fn whole(splitter: &mut Splitter, bytes: &[u8], to_broker: bool) {
    splitter.feed(bytes);
    let (frames, end) = drain(splitter);
    assert_eq!(end, Ok(()));
    assert_eq!(splitter.buffered_bytes(), 0, "half a frame was put out");
    for frame in frames {
        let one_way = match frame.packet() {
            PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::Pingreq => to_broker,
            PacketType::Connack | PacketType::Suback | PacketType::Unsuback | PacketType::Pingresp => !to_broker,
            _ => true,
        };
        assert!(one_way, "{} does not go that way", frame.packet());
    }
}

/// A client that publishes, subscribes and pings as soon as it may. Its server's bytes come one by one.
fn client(version: Version, stream: &[u8]) {
    const RECEIVE_MAXIMUM: u16 = 4;
    let config = client::Config {
        max_packet_bytes: 2000,
        receive_maximum: RECEIVE_MAXIMUM,
        max_in_flight: 3,
        max_queued: 8,
        max_queued_bytes: 2000,
        connect_patience: Duration::from_secs(1),
        ping_patience: Duration::from_secs(1),
    };
    let connect = Connect {
        version,
        bridge: false,
        clean_start: false,
        keep_alive_s: 10,
        properties: Properties::new(),
        client_id: Text::default(),
        will: None,
        username: None,
        password: None,
    };
    let message = client::Message {
        topic: TopicName::new("t").expect("a topic"),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: Properties::new(),
        payload: Bytes::new(),
    };
    let now = Instant::now();
    let mut client = client::Client::new(connect, config, now).expect("a short CONNECT");
    let (mut published, mut outcomes, mut unacknowledged, mut over) = (0u32, 0, Vec::new(), false);
    for bytes in stream.chunks(1) {
        if client.wants_input() {
            client.handle_input(bytes, now);
        }
        while let Some(output) = client.poll_output() {
            assert!(!over, "the end is the last output");
            match output {
                client::Output::Connected(_) => {
                    published = (0..5).filter(|token| client.publish(&message, *token).is_ok()).count() as u32;
                    let _ = client.subscribe(&[("a/#", Qos::AtLeastOnce), ("b", Qos::AtMostOnce)], 0);
                    let _ = client.unsubscribe(&["b"], 1);
                    let _ = client.ping(2, now);
                }
                client::Output::Message(_, receipt) => unacknowledged.extend(receipt),
                client::Output::Published(..) => outcomes += 1,
                client::Output::Closed(_) => over = true,
                _ => {}
            }
        }
        if version == Version::V5 {
            assert!(unacknowledged.len() <= RECEIVE_MAXIMUM.into(), "more than the client takes");
        }
        // The last one first.
        unacknowledged.drain(..).rev().for_each(|receipt| client.acknowledge(receipt));
        while let Some(frame) = client.poll_transmit(now) {
            Frame::from_bytes(frame).expect("what is written is a frame");
        }
    }
    client.handle_eof();
    while let Some(output) = client.poll_output() {
        outcomes += u32::from(matches!(output, client::Output::Published(..)));
    }
    assert_eq!(outcomes, published, "one outcome for each message");
}
