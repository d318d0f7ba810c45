#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::packets::{Connack, Frame, PacketType, ParseError, Text};
use sealcast_topic::TopicName;

mod unwritten;

const V5: Version = Version::V5;
const V311: Version = Version::V311;
const CONFIG: Config = Config {
    max_packet_bytes: 1000,
    receive_maximum: 2,
    max_in_flight: 2,
    max_queued: 3,
    max_queued_bytes: 500,
    connect_patience: Duration::from_secs(5),
    ping_patience: Duration::from_secs(20),
};

type Out = Output<u32, &'static str>;

/// A client with the test as its server.
struct Pair {
    client: Client<u32, &'static str>,
    now: Instant,
    version: Version,
}

impl Pair {
    fn connecting(version: Version) -> Self {
        let connect = Connect { keep_alive_s: 40, ..Connect::new(version, Text::new("c").unwrap()) };
        let now = Instant::now();
        Self { client: Client::new(connect, CONFIG, now).unwrap(), now, version }
    }

    fn open_with(version: Version, properties: &[Property]) -> (Self, ServerLimits) {
        let mut pair = Self::connecting(version);
        assert_eq!(pair.sent(), [PacketType::Connect]);
        let properties = properties.iter().cloned().collect();
        pair.hear(&Connack { session_present: false, code: 0, properties }.encode(version).unwrap());
        match &pair.told()[..] {
            [Output::Connected(connected)] => (pair, connected.limits),
            other => panic!("{other:?}"),
        }
    }

    fn open(version: Version) -> Self {
        Self::open_with(version, &[]).0
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.client.handle_input(bytes, self.now);
    }

    fn puback(&mut self, id: u16, code: u8) {
        let ack = Ack { code, ..Ack::success(AckKind::Puback, PacketId::new(id).unwrap()) };
        self.hear(&ack.encode(self.version).unwrap());
    }

    fn deliver(&mut self, qos: Qos, id: Option<u16>, properties: &[Property]) {
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: Some(TopicName::new("t").unwrap()),
            packet_id: id.map(|id| PacketId::new(id).unwrap()),
            properties: properties.iter().cloned().collect(),
            payload: Bytes::from_static(b"p"),
        };
        self.hear(&publish.encode(self.version).unwrap());
    }

    fn deliver_and_acknowledge(&mut self, id: u16) {
        self.deliver(Qos::AtLeastOnce, Some(id), &[]);
        let told = self.told().pop();
        let Some(Output::Message(_, Some(receipt))) = told else { panic!("{told:?}") };
        self.client.acknowledge(receipt);
    }

    fn frames(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.client.poll_transmit(self.now)).map(|b| Frame::from_bytes(b).unwrap()).collect()
    }

    fn sent(&mut self) -> Vec<PacketType> {
        self.frames().iter().map(Frame::packet).collect()
    }

    fn told(&mut self) -> Vec<Out> {
        std::iter::from_fn(|| self.client.poll_output()).collect()
    }

    fn publish(&mut self, qos: Qos, payload: usize, token: u32) -> Result<(), RequestError> {
        self.client.publish(&message(qos, false, payload), token).map_err(|rejected| {
            assert_eq!(rejected.token, token);
            rejected.error
        })
    }

    fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.client.handle_timeout(self.now);
    }
}

fn message(qos: Qos, retain: bool, payload: usize) -> Message {
    let (topic, payload) = (TopicName::new("t").unwrap(), vec![0; payload].into());
    Message { topic, qos, retain, properties: Properties::new(), payload }
}

fn closed(reason: CloseReason) -> Vec<Out> {
    vec![Output::Closed(reason)]
}

/// A frame of whatever content.
fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let [low, high] = [content.len() & 0x7F, content.len() >> 7].map(|part| u8::try_from(part).unwrap());
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [&[first][..], &length, content].concat()
}

#[test]
fn connect_tells_an_mqtt_5_server_this_sides_bounds() {
    for version in [V311, V5] {
        let mut pair = Pair::connecting(version);
        let connect = Connect::parse(&pair.frames()[0]).unwrap();
        let told = connect.properties.iter().cloned().collect::<Vec<_>>();
        let bounds = [Property::ReceiveMaximum(2), Property::MaximumPacketSize(1000)];
        assert_eq!(told, if version == V5 { &bounds[..] } else { &[] });
    }
}

#[test]
fn nothing_is_requested_before_the_server_has_accepted() {
    let mut pair = Pair::connecting(V5);
    let now = pair.now;
    assert_eq!(pair.publish(Qos::AtLeastOnce, 1, 1), Err(RequestError::NotConnected));
    let rejected = Rejected { token: "s", error: RequestError::NotConnected };
    assert_eq!(pair.client.subscribe(&[("a", Qos::AtLeastOnce)], "s"), Err(rejected));
    assert!(pair.client.ping("p", now).is_err());
    assert_eq!(pair.sent(), [PacketType::Connect]);
    pair.after(4);
    assert!(pair.client.wants_input());
    pair.after(1);
    assert_eq!(pair.told(), closed(CloseReason::Silent));
}

#[test]
fn a_refusal_has_its_reason_in_both_versions() {
    for (version, code, want) in [(V311, 5, 0x87), (V311, 3, 0x88), (V5, 0x97, 0x97)] {
        let mut pair = Pair::connecting(version);
        let connack = Connack { session_present: false, code, properties: Properties::new() };
        pair.hear(&connack.encode(version).unwrap());
        assert_eq!(pair.told(), closed(CloseReason::Refused(Reason::new(want))));
    }
}

#[test]
fn a_server_of_the_older_version_says_so_in_its_own_form() {
    let mut pair = Pair::connecting(V5);
    pair.hear(&[0x20, 2, 0, 1]);
    assert_eq!(pair.told(), closed(CloseReason::Refused(Reason::new(0x84))));
}

#[test]
fn a_server_that_goes_on_with_a_session_nobody_has_is_left() {
    let mut pair = Pair::connecting(V5);
    pair.hear(&Connack { session_present: true, code: 0, properties: Properties::new() }.encode(V5).unwrap());
    assert_eq!(pair.told(), closed(CloseReason::Protocol(ParseError::Bits("session present"))));
}

#[test]
fn what_the_server_takes_is_kept_to() {
    let properties = [
        Property::ReceiveMaximum(1),
        Property::MaximumPacketSize(40),
        Property::MaximumQos(1),
        Property::RetainAvailable(0),
        Property::WildcardSubscriptions(0),
        Property::ServerKeepAlive(100),
    ];
    let (mut pair, limits) = Pair::open_with(V5, &properties);
    assert_eq!((limits.receive_maximum, limits.keep_alive_s, limits.wildcards), (1, Some(100), false));
    assert_eq!(pair.publish(Qos::AtLeastOnce, 40, 1), Err(RequestError::TooLarge { size: 48, max: 40 }));
    assert_eq!(pair.publish(Qos::ExactlyOnce, 1, 1), Err(RequestError::Qos(Qos::ExactlyOnce)));
    let retained = pair.client.publish(&message(Qos::AtMostOnce, true, 1), 1);
    assert_eq!(retained, Err(Rejected { token: 1, error: RequestError::Retain }));
    for token in [1, 2] {
        pair.publish(Qos::AtLeastOnce, 1, token).unwrap();
    }
    assert_eq!(pair.sent(), [PacketType::Publish], "one at a time");
    assert_eq!(pair.client.poll_timeout(), Some(pair.now + Duration::from_secs(75)));

    let (mut pair, _) = Pair::open_with(V5, &[Property::MaximumQos(0)]);
    assert_eq!(pair.publish(Qos::AtLeastOnce, 1, 1), Err(RequestError::Qos(Qos::AtLeastOnce)));
    pair.publish(Qos::AtMostOnce, 1, 1).unwrap();
}

#[test]
fn each_publish_learns_what_became_of_it_whatever_the_order() {
    for version in [V311, V5] {
        let mut pair = Pair::open(version);
        for token in [10, 20] {
            pair.publish(Qos::AtLeastOnce, 1, token).unwrap();
        }
        assert_eq!(pair.sent().len(), 2);
        pair.puback(2, if version == V5 { 0x97 } else { 0 });
        pair.puback(1, 0);
        pair.puback(1, 0);
        pair.puback(7, 0);
        let second = if version == V5 { Outcome::Refused(Reason::new(0x97)) } else { Outcome::Taken };
        assert_eq!(pair.told(), [Output::Published(20, second), Output::Published(10, Outcome::Taken)]);
        assert!(pair.client.is_idle());
    }
}

#[test]
fn no_matching_subscribers_is_no_refusal() {
    let mut pair = Pair::open(V5);
    pair.publish(Qos::AtLeastOnce, 1, 1).unwrap();
    assert_eq!(pair.sent().len(), 1);
    pair.puback(1, 0x10);
    assert_eq!(pair.told(), [Output::Published(1, Outcome::Taken)]);
}

#[test]
fn what_does_not_fit_the_window_waits_in_order_and_then_is_refused_as_full() {
    let mut pair = Pair::open(V5);
    for token in 1..=3 {
        pair.publish(Qos::AtLeastOnce, 1, token).unwrap();
    }
    assert_eq!(pair.publish(Qos::AtLeastOnce, 1, 4), Err(RequestError::Full));
    assert!(!pair.client.has_room());
    assert_eq!(pair.sent().len(), 2, "the window is 2");
    // A message of QoS 0 does not overtake.
    pair.publish(Qos::AtMostOnce, 1, 5).unwrap();
    assert_eq!(pair.sent().len(), 0);
    pair.puback(2, 0);
    let ids: Vec<_> = pair.frames().iter().map(|frame| Publish::parse(frame, V5).unwrap().packet_id).collect();
    assert_eq!(ids, [PacketId::new(3), None]);
    assert_eq!(pair.told(), [Output::Published(2, Outcome::Taken), Output::Published(5, Outcome::Taken)]);

    // Bytes count too, but one message may be larger than the bound.
    pair.publish(Qos::AtLeastOnce, 900, 6).unwrap();
    assert_eq!(pair.publish(Qos::AtLeastOnce, 1, 7), Err(RequestError::Full));
}

#[test]
fn the_end_tells_what_may_have_arrived_and_what_was_not_sent() {
    let mut pair = Pair::open(V5);
    for token in 1..=3 {
        pair.publish(Qos::AtLeastOnce, 1, token).unwrap();
    }
    assert_eq!(pair.sent().len(), 2);
    pair.client.handle_eof();
    let told = [
        Output::Published(1, Outcome::Unknown),
        Output::Published(2, Outcome::Unknown),
        Output::Published(3, Outcome::Unsent),
        Output::Closed(CloseReason::Eof),
    ];
    assert_eq!(pair.told(), told);
    pair.client.handle_broken("again");
    assert_eq!((pair.told(), pair.client.poll_timeout()), (vec![], None));
    assert!(!pair.client.wants_input() && pair.client.is_idle());
}

#[test]
fn identifiers_are_not_used_twice_at_a_time() {
    let mut pair = Pair::open(V5);
    pair.client.subscribe(&[("a", Qos::AtLeastOnce)], "s").unwrap();
    for round in 0..70_000u32 {
        pair.publish(Qos::AtLeastOnce, 1, round).unwrap();
        let frames = pair.frames();
        let publish = Publish::parse(frames.last().unwrap(), V5).unwrap();
        let id = publish.packet_id.unwrap().value();
        assert_ne!(id, 1, "it is the subscription's");
        pair.puback(id, 0);
        assert_eq!(pair.told().len(), 1);
    }
}

#[test]
fn acknowledgements_leave_in_the_order_of_the_messages() {
    let mut pair = Pair::open(V5);
    pair.deliver(Qos::AtLeastOnce, Some(7), &[]);
    pair.deliver(Qos::AtLeastOnce, Some(9), &[]);
    pair.deliver(Qos::AtMostOnce, None, &[]);
    let receipt = |out| if let Output::Message(_, receipt) = out { receipt } else { panic!("{out:?}") };
    let mut receipts: Vec<_> = pair.told().into_iter().map(receipt).collect();
    assert_eq!(receipts.pop(), Some(None));
    assert_eq!(pair.sent(), [], "not before the caller says so");
    pair.client.acknowledge(receipts.pop().unwrap().unwrap());
    assert_eq!(pair.sent(), [], "not before the first one");
    pair.client.acknowledge(receipts.pop().unwrap().unwrap());
    let ids: Vec<_> = pair.frames().iter().map(|frame| Ack::parse(frame, V5).unwrap().packet_id.value()).collect();
    assert_eq!(ids, [7, 9]);
}

#[test]
fn more_than_the_receive_maximum_ends_mqtt_5_and_holds_up_mqtt_3_1_1() {
    for version in [V311, V5] {
        let mut pair = Pair::open(version);
        for id in 1..=3 {
            pair.deliver(Qos::AtLeastOnce, Some(id), &[]);
        }
        let told = pair.told();
        if version == V5 {
            let frames = pair.frames();
            assert_eq!(Disconnect::parse(&frames[0], V5).unwrap().code, 0x93);
            assert!(matches!(told.last(), Some(Output::Closed(CloseReason::Protocol(_)))));
        } else {
            assert_eq!((told.len(), pair.client.wants_input()), (3, false));
            for out in told {
                let Output::Message(_, Some(receipt)) = out else { panic!("{out:?}") };
                pair.client.acknowledge(receipt);
            }
            assert_eq!(pair.sent(), [PacketType::Puback; 3]);
            assert!(pair.client.wants_input());
        }
    }
}

#[test]
fn outputs_that_nobody_takes_hold_up_the_server_and_no_silence_is_counted() {
    let mut pair = Pair::open(V5);
    for _ in 0..MAX_OUTPUTS {
        assert!(pair.client.wants_input());
        pair.deliver(Qos::AtMostOnce, None, &[]);
    }
    assert!(!pair.client.wants_input());
    pair.after(30);
    assert_eq!(pair.sent(), [PacketType::Pingreq]);
    pair.after(20);
    pair.after(20);
    assert_eq!(pair.told().len(), MAX_OUTPUTS);
    // From now on it listens again.
    pair.after(19);
    assert_eq!(pair.told(), []);
    pair.after(1);
    assert_eq!(pair.told(), closed(CloseReason::Silent));
}

#[test]
fn what_the_server_must_not_send_ends_the_connection() {
    let alias = |pair: &mut Pair| pair.deliver(Qos::AtMostOnce, None, &[Property::TopicAlias(1)]);
    let qos_2 = |pair: &mut Pair| pair.deliver(Qos::ExactlyOnce, Some(1), &[]);
    let connack = |pair: &mut Pair| {
        pair.hear(&Connack { session_present: false, code: 0, properties: Properties::new() }.encode(V5).unwrap());
    };
    let pingreq = |pair: &mut Pair| pair.hear(&PINGREQ);
    let large = |pair: &mut Pair| pair.hear(&frame(0x30, &[0; 1000]));
    let nonsense = |pair: &mut Pair| pair.hear(&[0]);
    type Case = (fn(&mut Pair), u8);
    let cases: [Case; 6] =
        [(alias, 0x94), (qos_2, 0x82), (connack, 0x82), (pingreq, 0x82), (large, 0x95), (nonsense, 0x81)];
    for (send, code) in cases {
        let mut pair = Pair::open(V5);
        send(&mut pair);
        let frames = pair.frames();
        assert_eq!(Disconnect::parse(&frames[0], V5).unwrap().code, code);
        assert!(matches!(pair.told()[..], [Output::Closed(CloseReason::Protocol(_))]), "{code:#x}");
    }
}

#[test]
fn each_filter_has_its_answer() {
    for version in [V311, V5] {
        let mut pair = Pair::open(version);
        let filters = [("a/#", Qos::AtLeastOnce), ("b", Qos::AtMostOnce), ("c", Qos::AtLeastOnce)];
        pair.client.subscribe(&filters, "s").unwrap();
        pair.client.unsubscribe(&["a/#", "d"], "u").unwrap();
        let bytes: Vec<_> = pair.frames().into_iter().map(Frame::into_bytes).collect();
        let no_properties: &[u8] = if version == V5 { &[0] } else { &[] };
        let subscribe = [&[0, 1], no_properties, b"\0\x03a/#\x01\0\x01b\0\0\x01c\x01"].concat();
        let unsubscribe = [&[0, 2], no_properties, b"\0\x03a/#\0\x01d"].concat();
        assert_eq!(bytes, [frame(0x82, &subscribe), frame(0xA2, &unsubscribe)]);

        let code = if version == V5 { 0x87 } else { 0x80 };
        pair.hear(&frame(0x90, &[&[0, 1], no_properties, &[1, 0, code]].concat()));
        let codes: &[u8] = if version == V5 { &[0, 0x11] } else { &[] };
        pair.hear(&frame(0xB0, &[&[0, 2], no_properties, codes].concat()));
        let granted = vec![Ok(Qos::AtLeastOnce), Ok(Qos::AtMostOnce), Err(Reason::new(code))];
        assert_eq!(pair.told(), [Output::Subscribed("s", granted), Output::Unsubscribed("u", vec![Ok(()); 2])]);
    }
}

#[test]
fn an_answer_that_does_not_fit_the_request_ends_the_connection() {
    for codes in [&[0u8][..], &[0, 1, 1], &[3, 1]] {
        let mut pair = Pair::open(V5);
        pair.client.subscribe(&[("a", Qos::AtLeastOnce), ("b", Qos::AtLeastOnce)], "s").unwrap();
        assert_eq!(pair.sent(), [PacketType::Subscribe]);
        pair.hear(&frame(0x90, &[&[0, 1, 0], codes].concat()));
        assert!(matches!(pair.told()[..], [Output::Closed(CloseReason::Protocol(ParseError::Bits(_)))]));
    }
}

#[test]
fn filters_are_checked_here() {
    let mut pair = Pair::open(V5);
    for filters in [&[][..], &[("a/#/b", Qos::AtLeastOnce)], &[("a", Qos::ExactlyOnce)]] {
        assert!(pair.client.subscribe(filters, "s").is_err(), "{filters:?}");
    }
    assert!(pair.client.unsubscribe(&["+a"], "u").is_err());
    assert_eq!(pair.sent(), []);
}

#[test]
fn a_server_that_is_silent_after_a_ping_is_given_up_and_one_that_speaks_is_not() {
    let mut pair = Pair::open(V5);
    pair.after(29);
    assert_eq!(pair.sent(), []);
    // What is sent alone does not show that anybody listens.
    pair.publish(Qos::AtLeastOnce, 1, 1).unwrap();
    assert_eq!(pair.sent(), [PacketType::Publish]);
    pair.after(1);
    assert_eq!(pair.sent(), [PacketType::Pingreq]);
    pair.after(19);
    pair.puback(1, 0);
    pair.after(19);
    assert_eq!(pair.told().len(), 1);
    pair.hear(&[0xD0, 0]);
    pair.after(1);
    assert!(pair.client.is_open());
    pair.after(29);
    assert_eq!(pair.sent(), [PacketType::Pingreq]);
    pair.after(20);
    assert_eq!(pair.told(), closed(CloseReason::Silent));
}

#[test]
fn the_callers_pings_come_back_and_those_of_the_keep_alive_do_not() {
    let mut pair = Pair::open(V311);
    pair.after(30);
    let now = pair.now;
    pair.client.ping("mine", now).unwrap();
    assert_eq!(pair.sent(), [PacketType::Pingreq; 2]);
    pair.hear(&[0xD0, 0, 0xD0, 0]);
    assert_eq!(pair.told(), [Output::Pong("mine")]);
}

#[test]
fn disconnect_is_the_last_packet() {
    let mut pair = Pair::open(V5);
    pair.deliver_and_acknowledge(3);
    pair.publish(Qos::AtLeastOnce, 1, 1).unwrap();
    pair.client.disconnect(0);
    assert_eq!(pair.sent(), [PacketType::Puback, PacketType::Disconnect]);
    assert_eq!(pair.told(), [Output::Published(1, Outcome::Unsent), Output::Closed(CloseReason::Local)]);
}

#[test]
fn the_server_says_why_it_ends_the_connection() {
    let mut pair = Pair::open(V5);
    let properties = [Property::ReasonString(Text::new("another one").unwrap())].into_iter().collect();
    pair.hear(&Disconnect { code: 0x8E, properties }.encode(V5).unwrap());
    let told = pair.told();
    let [Output::Closed(reason)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(reason.to_string(), "the broker ended the connection: another one");
    assert_eq!(Reason::new(0x8E).to_string(), "session taken over");
    assert_eq!(Reason::new(0xFE).to_string(), "reason code 0xfe");
    // MQTT 3.1.1 has no such packet from a server.
    let mut pair = Pair::open(V311);
    pair.hear(&[0xE0, 0]);
    assert_eq!(pair.told(), closed(CloseReason::Protocol(ParseError::Unexpected(PacketType::Disconnect))));
}

#[test]
fn frames_are_read_however_the_stream_is_cut() {
    let mut pair = Pair::open(V5);
    let mut bytes = BytesMut::new();
    for token in [1, 2] {
        pair.publish(Qos::AtLeastOnce, 1, token).unwrap();
        bytes.extend_from_slice(
            &Ack::success(AckKind::Puback, PacketId::new(token as u16).unwrap()).encode(V5).unwrap(),
        );
    }
    assert_eq!(pair.sent().len(), 2);
    for byte in bytes {
        pair.hear(&[byte]);
    }
    assert_eq!(pair.told().len(), 2);
}
