//! Sizes, malformed packets, back pressure.

use bytes::Bytes;
use sealcast_mqtt::*;

use crate::harness::*;

#[test]
fn sizes_in_connect_and_connack() {
    let v = Version::V5;
    // asked by the client, seen by the broker; given by the broker, seen by the client
    let check = |asked: Option<u32>, seen_up: u32, given: Option<u32>, seen_down: u32| {
        let mut rig = Rig::fresh();
        let mut sent = connect(v);
        sent.properties = asked.map(Property::MaximumPacketSize).into_iter().collect();
        rig.client(&sent.encode().unwrap());
        rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default()));
        let up = Connect::parse(&rig.take_broker()[0]).unwrap();
        assert_eq!(up.properties.maximum_packet_size(), Some(seen_up));
        let properties = given.map(Property::MaximumPacketSize).into_iter().collect();
        rig.broker(&Connack { session_present: false, code: 0, properties }.encode(v).unwrap());
        let down = Connack::parse(&rig.take_client()[0], v).unwrap();
        assert_eq!(down.properties.maximum_packet_size(), Some(seen_down));
    };
    let full = 1 << 20;
    check(None, full, None, full - 108);
    check(Some(1000), 1302, Some(1000), 892);
    check(Some(u32::MAX), full, Some(u32::MAX), full - 108);
    check(Some(1), 303, Some(1), 1);
}

#[test]
fn a_refusing_connack_passes_as_it_is() {
    for (version, frame) in
        [(Version::V311, &[0x20, 2, 0, 5][..]), (Version::V5, &[0x20, 3, 0, 0x87, 0]), (Version::V5, &[0x20, 2, 0, 1])]
    {
        let mut rig = Rig::fresh();
        rig.client(&connect(version).encode().unwrap());
        rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default()));
        rig.broker(frame);
        assert_eq!(rig.to_client, frame);
        assert_eq!(rig.events.last(), Some(&Output::Closed(CloseReason::BrokerRefused { code: frame[3] })));
    }
}

/// Whatever stands around it: aliases, properties inside and outside, a longer remaining length.
#[test]
fn a_payload_of_the_length_that_is_given_fits_the_broker() {
    let v = Version::V5;
    for max in [200, 300, 20_000] {
        let limits = [Property::MaximumPacketSize(max), Property::TopicAliasMaximum(9)];
        let mut rig = Rig::resumed(v, SessionState::default(), &[], &limits);
        let content_type = Property::ContentType(text("text/plain"));
        let first = Publish {
            properties: [Property::TopicAlias(3), Property::MessageExpiry(60), content_type].into_iter().collect(),
            ..message(Qos::AtLeastOnce)
        };
        let again = Publish {
            topic: None,
            properties: [Property::TopicAlias(3)].into_iter().collect(),
            ..message(Qos::AtLeastOnce)
        };
        for publish in [first, again] {
            rig.client(&publish.encode(v).unwrap());
            let request = rig.request();
            let sealed = vec![0; request.max_payload_bytes];
            rig.answer(|proxy| proxy.seal_done(request.id, sealed.into()));
            assert_eq!((rig.take_events().as_slice(), rig.take_broker().len()), ([].as_slice(), 1));
            let spare = max as usize - request.max_payload_bytes;
            assert!(spare < 60, "of {max} bytes {spare} are not used");
        }
    }
}

#[test]
fn too_large_for_the_broker_once_sealed() {
    let v = Version::V5;
    for qos in QOS {
        let mut rig = Rig::resumed(v, SessionState::default(), &[], &[Property::MaximumPacketSize(300)]);
        rig.client(&message(qos).encode(v).unwrap());
        let request = rig.request();
        rig.answer(|proxy| proxy.seal_done(request.id, vec![0; 300].into()));
        let events = rig.take_events();
        assert!(matches!(events[..], [Output::PublishTooLarge { id, max: 300, .. }] if id == request.id), "{events:?}");
        assert!(rig.to_broker.is_empty() && !rig.proxy.is_closed());
        let answer = rig.take_client();
        match qos {
            Qos::AtMostOnce => assert!(answer.is_empty()),
            _ => assert_eq!(Ack::parse(&answer[0], v).unwrap().code, 0x97),
        }
    }
}

#[test]
fn too_large_for_the_client_once_opened() {
    let v = Version::V5;
    let open = || Rig::resumed(v, SessionState::default(), &[Property::MaximumPacketSize(100)], &[]);
    for qos in QOS {
        let mut rig = open();
        rig.broker(&message(qos).encode(v).unwrap());
        let delivery = rig.delivery();
        rig.answer(|proxy| proxy.deliver(delivery.id, vec![b'x'; 100].into(), Bytes::new(), &[]));
        let events = rig.take_events();
        assert!(
            matches!(events[..], [Output::DeliveryTooLarge { id, max: 100, .. }] if id == delivery.id),
            "{events:?}"
        );
        assert!(rig.to_client.is_empty());
        assert_eq!(rig.to_broker.is_empty(), qos == Qos::AtMostOnce);
    }
    // The agent's own properties give way.
    let mut rig = open();
    rig.broker(&message(Qos::AtMostOnce).encode(v).unwrap());
    let delivery = rig.delivery();
    rig.answer(|proxy| proxy.deliver(delivery.id, vec![b'x'; 80].into(), Bytes::new(), &[("sealcast-sender", "1113")]));
    assert!(parse(&rig.take_client(), v).properties.is_empty());
}

#[test]
fn a_reason_gives_way_to_the_clients_limit() {
    let v = Version::V5;
    let mut rig = Rig::resumed(v, SessionState::default(), &[Property::MaximumPacketSize(20)], &[]);
    rig.client(&message(Qos::AtLeastOnce).encode(v).unwrap());
    let request = rig.request();
    rig.answer(|proxy| proxy.refuse(request.id, refusal()));
    assert_eq!(rig.to_client, [0x40, 3, 0, 7, 0x87]);
}

#[test]
fn malformed_from_the_client() {
    let check = |bytes: &[u8], code: u8| {
        for version in VERSIONS {
            let mut rig = Rig::open(version);
            rig.client(bytes);
            assert!(
                matches!(rig.events[..], [Output::Closed(CloseReason::ClientMalformed(_))]),
                "{bytes:02x?}: {:?}",
                rig.events
            );
            let last = rig.take_client();
            match version {
                Version::V31 | Version::V311 => assert!(last.is_empty()),
                Version::V5 => assert_eq!(Disconnect::parse(&last[0], version).unwrap().code, code, "{bytes:02x?}"),
            }
        }
    };
    check(&[0x00, 0], 0x81);
    check(&[0x36, 0], 0x81);
    check(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], 0x81);
    check(&[0x30, 0xFF, 0xFF, 0x7F], 0x95);
    check(&[0x30, 0], 0x81);
    check(&[0x30, 4, 0, 1, b'#', 0], 0x90);
    check(&[0x30, 4, 0, 1, 0, 0], 0x81);
    check(&[0x32, 6, 0, 1, b'a', 0, 0, 0], 0x82);
    check(&[0x40, 2, 0, 0], 0x82);
    check(&[0x20, 2, 0, 0], 0x82);
    check(&connect(Version::V5).encode().unwrap(), 0x82);
}

#[test]
fn what_came_before_a_malformed_packet_goes_up_first() {
    for version in VERSIONS {
        let mut rig = Rig::open(version);
        let mut bytes = message(Qos::AtMostOnce).encode(version).unwrap().to_vec();
        bytes.extend_from_slice(&[0x00, 0]);
        rig.client(&bytes);
        let request = rig.request();
        assert!(!rig.proxy.is_closed() && !rig.proxy.wants_client_bytes());
        rig.answer(|proxy| proxy.seal_done(request.id, "sealed".into()));
        assert_eq!(rig.take_broker().len(), 1);
        assert!(matches!(rig.events[..], [Output::Closed(CloseReason::ClientMalformed(_))]), "{:?}", rig.events);
    }
}

#[test]
fn a_client_may_not_send_subscription_identifiers() {
    let v = Version::V5;
    let mut rig = Rig::open(v);
    let properties = [Property::SubscriptionId(1)].into_iter().collect();
    rig.client(&Publish { properties, ..message(Qos::AtMostOnce) }.encode(v).unwrap());
    assert_eq!(rig.events, [Output::Closed(CloseReason::ClientMalformed(ParseError::ClientsSubscriptionId))]);
}

#[test]
fn first_packets_that_are_refused() {
    let check = |bytes: &[u8], answer: &[u8]| {
        let mut rig = Rig::fresh();
        rig.client(bytes);
        assert!(rig.proxy.is_closed());
        assert_eq!(rig.to_client.get(..answer.len()), Some(answer), "{bytes:02x?}");
        assert_eq!(rig.to_client.is_empty(), answer.is_empty());
    };
    check(b"\x10\x0E\0\x06MQIsdp\x02\x02\0\0\0\0", &[0x20, 2, 0, 1]);
    check(b"\x10\x0E\0\x06MQIsdp\x82\x02\0\0\0\0", &[0x20, 2, 0, 1]);
    let v6 = b"\x10\x0C\0\x04MQTT\x06\x02\0\0\0\0";
    let mut rig = Rig::fresh();
    rig.client(v6);
    assert_eq!(Connack::parse(&rig.take_client()[0], Version::V5).unwrap().code, 0x84);
    check(b"\x10\x0C\0\x04HTTP\x04\x02\0\0\0\0", &[]);
    check(&[0xC0, 0], &[]);
    check(b"GET / HTTP/1.1\r\n", &[]);
    // MQTT 5 with a reserved connect flag
    let mut rig = Rig::fresh();
    rig.client(b"\x10\x0D\0\x04MQTT\x05\x03\0\0\0\0\0");
    assert_eq!(Connack::parse(&rig.take_client()[0], Version::V5).unwrap().code, 0x81);
}

#[test]
fn malformed_from_the_broker() {
    for bytes in [&[0x00, 0][..], &[0x10, 0], &[0x30, 0], &[0x82, 0], &[0x20, 2, 0, 0], &[0x40, 2, 0, 0]] {
        for version in VERSIONS {
            let mut rig = Rig::open(version);
            rig.broker(bytes);
            assert!(matches!(rig.events[..], [Output::Closed(CloseReason::BrokerMalformed(_))]), "{bytes:02x?}");
            assert_eq!(rig.to_client.is_empty(), version == Version::V311);
        }
    }
}

#[test]
fn one_bad_publisher_does_not_cut_off_its_subscribers() {
    for version in VERSIONS {
        let mut rig = Rig::open(version);
        let mut frame = vec![0x32, 7, 0, 3, b'a', 0, b'b', 0, 9];
        if version == Version::V5 {
            frame[1] += 1;
            frame.push(0);
        }
        rig.broker(&frame);
        assert_eq!(rig.take_events(), [Output::DeliveryInvalid(ParseError::Topic(TopicError::Nul))]);
        assert_eq!(rig.to_broker, ack(AckKind::Puback, 9, version));
        assert!(rig.to_client.is_empty() && !rig.proxy.is_closed());
    }
}

#[test]
fn back_pressure() {
    let v = Version::V311;
    let config = ProxyConfig { max_waiting_frames: 4, ..ProxyConfig::default() };
    let mut rig = Rig::with_config(config);
    rig.client(&connect(v).encode().unwrap());
    assert!(!rig.proxy.wants_broker_bytes(), "there is no broker yet");
    rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default())).broker(&[0x20, 2, 0, 0]).clear();
    let publish = message(Qos::AtMostOnce).encode(v).unwrap();
    let stream = publish.repeat(10);
    rig.client(&stream);
    assert!(!rig.proxy.wants_client_bytes() && rig.proxy.wants_broker_bytes());
    let mut asked = 0;
    loop {
        let events = rig.take_events();
        if events.is_empty() {
            break;
        }
        assert!(events.len() <= 4);
        asked += events.len();
        for event in events {
            let Output::Publish(request) = event else { panic!("{event:?}") };
            rig.answer(|proxy| proxy.pass_clear(request.id));
        }
    }
    assert_eq!((asked, rig.to_broker == stream), (10, true));
    assert!(rig.proxy.wants_client_bytes());

    rig.broker(&stream);
    assert!(!rig.proxy.wants_broker_bytes() && rig.proxy.wants_client_bytes());
}

#[test]
fn back_pressure_lets_a_large_frame_in() {
    let v = Version::V311;
    let config = ProxyConfig { max_waiting_bytes: 100, ..ProxyConfig::default() };
    let mut rig = Rig::with_config(config);
    rig.client(&connect(v).encode().unwrap());
    rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default())).broker(&[0x20, 2, 0, 0]).clear();
    let publish = Publish { payload: vec![1; 5000].into(), ..message(Qos::AtMostOnce) }.encode(v).unwrap();
    for chunk in publish.chunks(64) {
        assert!(rig.proxy.wants_client_bytes());
        rig.client(chunk);
    }
    assert!(!rig.proxy.wants_client_bytes());
    let request = rig.request();
    rig.answer(|proxy| proxy.pass_clear(request.id));
    assert_eq!(rig.to_broker, publish);
    assert!(rig.proxy.wants_client_bytes());
}

#[test]
fn nothing_secret_in_debug() {
    let v = Version::V311;
    let mut sent = connect(v);
    sent.username = Some(text("user-name"));
    sent.password = Some(Bytes::from_static(b"pass-word"));
    let shown = format!("{sent:?} {:?}", message(Qos::AtMostOnce));
    assert!(!shown.contains("user-name") && !shown.contains("pass-word") && !shown.contains("21.5"), "{shown}");
}

#[test]
fn an_alias_set_by_a_bad_message_is_not_taken_for_its_older_topic() {
    let v = Version::V5;
    let mut rig = Rig::resumed(v, SessionState::default(), &[Property::TopicAliasMaximum(5)], &[]);
    let alias: Properties = [Property::TopicAlias(3)].into_iter().collect();
    let sets = Publish { properties: alias.clone(), ..message(Qos::AtMostOnce) };
    let uses = Publish { topic: None, ..sets.clone() }.encode(v).unwrap();
    rig.broker(&sets.encode(v).unwrap());
    let delivery = rig.delivery();
    rig.answer(|proxy| proxy.pass(delivery.id));
    // Alias 3 becomes `a\0b`, then is used, then becomes `hsu/1` again.
    rig.broker(&[0x30, 9, 0, 3, b'a', 0, b'b', 3, 0x23, 0, 3]).broker(&uses);
    assert_eq!(
        rig.take_events(),
        [Output::DeliveryInvalid(ParseError::Topic(TopicError::Nul)), Output::DeliveryInvalid(ParseError::Alias(3))]
    );
    rig.broker(&sets.encode(v).unwrap());
    assert_eq!(rig.delivery().topic.as_str(), "hsu/1");
    rig.broker(&Publish { properties: [Property::TopicAlias(6)].into_iter().collect(), ..sets }.encode(v).unwrap());
    assert_eq!(rig.take_events(), [Output::Closed(CloseReason::BrokerMalformed(ParseError::Alias(6)))]);
}

#[test]
fn alias_maxima_are_lowered_to_what_is_kept_here() {
    let v = Version::V5;
    let check = |told: u16, seen: u16| {
        let properties: Properties = [Property::TopicAliasMaximum(told)].into_iter().collect();
        let mut rig = Rig::fresh();
        rig.client(&Connect { properties: properties.clone(), ..connect(v) }.encode().unwrap());
        rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default()));
        assert_eq!(Connect::parse(&rig.take_broker()[0]).unwrap().properties.topic_alias_maximum(), seen);
        rig.broker(&Connack { session_present: false, code: 0, properties }.encode(v).unwrap());
        assert_eq!(Connack::parse(&rig.take_client()[0], v).unwrap().properties.topic_alias_maximum(), seen);
    };
    check(0, 0);
    check(64, 64);
    check(65, 64);
    check(u16::MAX, 64);
}

#[test]
fn extended_authentication_goes_on_before_connack_and_nothing_else() {
    let v = Version::V5;
    let mut rig = Rig::fresh();
    rig.client(&connect(v).encode().unwrap());
    rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default())).clear();
    let auth = [0xF0, 2, 0x18, 0];
    rig.broker(&auth);
    assert_eq!(rig.to_client, auth);
    rig.client(&auth).client(&[0xC0, 0]);
    assert_eq!(rig.to_broker, auth, "the ping waits for CONNACK");
    rig.broker(&Connack { session_present: false, code: 0, properties: Properties::new() }.encode(v).unwrap());
    assert_eq!(rig.to_broker, [&auth[..], &[0xC0, 0]].concat());
}
