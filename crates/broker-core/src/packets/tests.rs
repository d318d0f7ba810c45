#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sealcast_mqtt::PropertySet;

use super::*;

fn text(pattern: &'static str) -> impl Strategy<Value = Text> {
    pattern.prop_map(|text| Text::new(&text).unwrap())
}

/// What a publisher says, the expiry first, as it is sent on.
fn properties() -> impl Strategy<Value = Properties> {
    (
        option::of(any::<u32>().prop_map(Property::MessageExpiry)),
        option::of((0u8..2).prop_map(Property::PayloadFormat)),
        option::of(text("[a-z/]{0,20}").prop_map(Property::ContentType)),
        option::of(text("[a-z]{1,20}").prop_map(Property::ResponseTopic)),
        option::of(vec(any::<u8>(), 0..40).prop_map(|data| Property::CorrelationData(data.into()))),
        vec((text("[a-z]{0,8}"), text("\\PC{0,8}")).prop_map(|(name, value)| Property::User(name, value)), 0..4),
    )
        .prop_map(|(expiry, format, content_type, response, correlation, user)| {
            [expiry, format, content_type, response, correlation].into_iter().flatten().chain(user).collect()
        })
}

proptest! {
    #[test]
    fn a_publish_comes_back_as_it_went(
        topic in "[a-z/]{1,40}",
        payload in vec(any::<u8>(), 0..300),
        qos in 0u8..3,
        retain: bool,
        dup: bool,
        id in 1u16..,
        properties in properties(),
        subscription_ids in vec(1u32..=268_435_455, 0..3),
        version in prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)],
    ) {
        let qos = Qos::from_bits(qos).unwrap();
        let (id, dup) = if qos == Qos::AtMostOnce { (0, false) } else { (id, dup) };
        let message = Arc::new(Message {
            seq: 1, topic: TopicName::new(&topic).unwrap(), payload: payload.into(), qos, retain,
            properties: properties.clone(), expires_ms: None, sender: None,
        });
        let mut out = BytesMut::new();
        let packet = Outgoing::Publish {
            message: message.clone(), qos, retain, dup, id, subscription_ids: subscription_ids.clone(),
            remaining_s: properties.message_expiry_s(),
        };
        packet.put(version, &mut out).unwrap();
        prop_assert_eq!(out.len(), publish_size(version, &message, qos, &subscription_ids));
        let frame = Frame::take(&mut out, version, 1 << 20).unwrap().unwrap();
        prop_assert!(out.is_empty());
        let back = Publish::parse(&frame, version).unwrap();
        let told: Properties = properties.iter().cloned().chain(properties_of(&subscription_ids)).collect();
        prop_assert_eq!(back.topic.as_ref(), Some(&message.topic));
        prop_assert_eq!(&back.payload, &message.payload);
        prop_assert_eq!((back.qos, back.retain, back.dup), (qos, retain, dup));
        prop_assert_eq!(back.packet_id, PacketId::new(id));
        prop_assert_eq!(back.properties, if version == Version::V5 { told } else { Properties::new() });
    }

    #[test]
    fn properties_round_trip_through_the_journal(properties in properties()) {
        let blob = properties.encode_with_length().unwrap();
        prop_assert_eq!(Properties::parse_with_length(&blob, PropertySet::Publish).unwrap(), properties);
    }

    #[test]
    fn no_bytes_panic(first: u8, content in vec(any::<u8>(), 0..100)) {
        let bytes = [vec![first, content.len() as u8], content].concat();
        for version in [Version::V31, Version::V311, Version::V5] {
            if let Ok(Some(frame)) = Frame::take(&mut BytesMut::from(&bytes[..]), version, 100) {
                let _ = Incoming::parse(&frame, version);
            }
        }
    }
}

/// What a client may not send, beside what breaks the form of a packet, which `sealcast_mqtt` tests.
#[test]
fn refused_packets_are_named() {
    let check = |version, bytes: &[u8], want: u8| {
        let frame = Frame::from_bytes(Bytes::copy_from_slice(bytes)).unwrap();
        assert_eq!(Incoming::parse(&frame, version).unwrap_err().reason_code(), want, "{bytes:02x?}");
    };
    check(Version::V5, b"\x30\x06\0\x01a\x02\x0B\x01", reason::PROTOCOL_ERROR); // subscription identifier
    check(Version::V5, b"\xF0\0", reason::PROTOCOL_ERROR); // AUTH
    check(Version::V311, b"\xF0\0", reason::PROTOCOL_ERROR);
    check(Version::V311, b"\x10\0", reason::PROTOCOL_ERROR); // a second CONNECT
    for first in [0x20, 0x90, 0xB0, 0xD0] {
        check(Version::V5, &[first, 0], reason::PROTOCOL_ERROR); // only a broker sends it
    }
    check(Version::V311, b"\xC0\x01\0", reason::MALFORMED_PACKET); // a ping with content
}

#[test]
fn each_version_is_told_what_it_knows() {
    let check = |packet: &Outgoing, version, want: &[u8]| {
        let mut out = BytesMut::new();
        packet.put(version, &mut out).unwrap();
        assert_eq!(out, want, "{packet:?} {version:?}");
    };
    let refused = Outgoing::ConnAck { session_present: false, code: reason::BANNED, properties: None };
    check(&refused, Version::V31, &[0x20, 2, 0, 5]);
    check(&refused, Version::V5, &[0x20, 3, 0, 0x8A, 0]);
    let resumed = Outgoing::ConnAck { session_present: true, code: 0, properties: None };
    check(&resumed, Version::V31, &[0x20, 2, 0, 0]);
    check(&resumed, Version::V311, &[0x20, 2, 1, 0]);
    let suback = Outgoing::SubAck { id: 7, codes: vec![1, reason::QUOTA_EXCEEDED] };
    check(&suback, Version::V31, &[0x90, 4, 0, 7, 1, 0]);
    check(&suback, Version::V311, &[0x90, 4, 0, 7, 1, 0x80]);
    check(&suback, Version::V5, &[0x90, 5, 0, 7, 0, 1, 0x97]);
    let unsuback = Outgoing::UnsubAck { id: 7, codes: vec![0, 0x11] };
    check(&unsuback, Version::V311, &[0xB0, 2, 0, 7]);
    check(&unsuback, Version::V5, &[0xB0, 5, 0, 7, 0, 0, 0x11]);
    check(&Outgoing::PubComp { id: 7, code: 0x92 }, Version::V311, &[0x70, 2, 0, 7]);
    check(&Outgoing::PubComp { id: 7, code: 0x92 }, Version::V5, &[0x70, 3, 0, 7, 0x92]);
    check(&Outgoing::Disconnect { code: 0x8E }, Version::V311, &[]);
    check(&Outgoing::Disconnect { code: 0x8E }, Version::V5, &[0xE0, 1, 0x8E]);
    check(&Outgoing::PingResp, Version::V31, &[0xD0, 0]);
}
