#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn properties() -> impl Strategy<Value = MessageProperties> {
    (
        proptest::option::of(0u8..2),
        proptest::option::of(any::<u32>()),
        proptest::option::of("[a-z/]{0,20}"),
        proptest::option::of("[a-z]{1,20}"),
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        proptest::collection::vec(("[a-z]{0,8}", "\\PC{0,8}"), 0..4),
    )
        .prop_map(|(payload_format, expiry_s, content_type, response_topic, correlation, user)| {
            MessageProperties {
                payload_format,
                expiry_s,
                content_type,
                response_topic,
                correlation_data: correlation.map(Bytes::from),
                user,
            }
        })
}

proptest! {
    #[test]
    fn a_publish_comes_back_as_it_went(
        topic in "[a-z/]{1,40}",
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        qos in 0u8..3,
        retain: bool,
        id in 1u16..,
        properties in properties(),
        v5: bool,
    ) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        let qos = Qos::from_bits(qos).unwrap_or(Qos::AtMostOnce);
        let message = Arc::new(Message {
            seq: 1, topic: topic.as_str().into(), payload: payload.into(), qos, retain,
            properties: properties.clone(), expires_ms: None, sender: None,
        });
        let mut out = BytesMut::new();
        let packet = Outgoing::Publish {
            message: message.clone(), qos, retain, dup: false, id, subscription_ids: vec![],
            remaining_s: properties.expiry_s,
        };
        encode(version, &packet, &mut out);
        prop_assert_eq!(out.len(), publish_size(version, &message, qos, &[]));
        let (header, body) = frame_length(&out, 1 << 20).unwrap().unwrap();
        prop_assert_eq!(header + body, out.len());
        let mut frame = out.freeze();
        let first = frame[0];
        let body = frame.split_off(header);
        let Ok(Incoming::Publish(back)) = decode_packet(version, first, body) else { panic!("no PUBLISH") };
        prop_assert_eq!(&*back.topic, &*message.topic);
        prop_assert_eq!(&back.payload, &message.payload);
        prop_assert_eq!((back.qos, back.retain), (qos, retain));
        prop_assert_eq!(back.id, if qos == Qos::AtMostOnce { 0 } else { id });
        prop_assert_eq!(back.properties, if v5 { properties } else { MessageProperties::default() });
    }

    #[test]
    fn properties_round_trip_through_the_journal(properties in properties()) {
        prop_assert_eq!(decode_properties_blob(&encode_properties_blob(&properties)).unwrap(), properties);
    }

    #[test]
    fn no_bytes_panic(first: u8, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let body = Bytes::from(body);
        let _ = frame_length(&body, 100);
        let _ = decode_connect(0x10, body.clone());
        for version in [Version::V31, Version::V311, Version::V5] {
            let _ = decode_packet(version, first, body.clone());
        }
    }
}

#[test]
fn malformed_packets_are_named() {
    let check = |version, first, body: &'static [u8], want: u8| {
        assert_eq!(decode_packet(version, first, Bytes::from_static(body)).unwrap_err().code(), want, "{body:?}");
    };
    check(Version::V311, 0x36, b"\0\x01a\0\x01", 0x81); // QoS 3
    check(Version::V311, 0x32, b"\0\x01a\0\0", 0x82); // packet identifier 0
    check(Version::V311, 0x30, b"\0\x02a\0", 0x81); // U+0000
    check(Version::V5, 0x30, b"\0\x01a\x02\x01\x02", 0x82); // payload format 2
    check(Version::V5, 0x30, b"\0\x01a\x05\x23\0\x01\x23\0", 0x82); // topic alias twice
    check(Version::V5, 0x30, b"\0\x01a\x02\x0B\x01", 0x82); // subscription identifier from a client
    check(Version::V311, 0x82, b"\0\x01", 0x82); // no filter
    check(Version::V311, 0x80, b"\0\x01\0\x01a\0", 0x81); // reserved flags
    assert_eq!(
        frame_length(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], 1 << 30),
        Err(WireError::Malformed("remaining length of more than four bytes"))
    );
    assert_eq!(frame_length(&[0x30, 0xFF, 0x7F], 100), Err(WireError::TooLarge));
}
