//! What is not read, by the rule that it breaks.

use bytes::{Bytes, BytesMut};
use sealcast_mqtt::*;

#[test]
fn headers_that_are_refused() {
    let check = |bytes: &[u8], expected: Result<bool, ParseError>| {
        let mut splitter = Splitter::new(1000);
        splitter.feed(bytes);
        assert_eq!(splitter.next_frame().map(|frame| frame.is_some()), expected, "{bytes:02x?}");
    };
    check(&[], Ok(false));
    check(&[0xC0], Ok(false));
    check(&[0xC0, 0], Ok(true));
    check(&[0x00], Err(ParseError::UnknownType(0)));
    check(&[0x36], Err(ParseError::HeaderFlags { packet: PacketType::Publish, flags: 6 }));
    check(&[0x60], Err(ParseError::HeaderFlags { packet: PacketType::Pubrel, flags: 0 }));
    check(&[0xC1], Err(ParseError::HeaderFlags { packet: PacketType::Pingreq, flags: 1 }));
    check(&[0x30, 0xFF, 0xFF, 0xFF], Ok(false));
    check(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], Err(ParseError::Varint("remaining length")));
    check(&[0x30, 0x80, 0x00], Err(ParseError::Varint("remaining length")));
    check(&[0x30, 0xE5, 0x07], Ok(false));
    check(&[0x30, 0xE6, 0x07], Err(ParseError::TooLarge { size: 1001, max: 1000 }));
}

/// The rule that each breaks decides the reason code: malformed if it cannot be read, a protocol error if it may not be.
#[test]
fn packets_that_are_refused() {
    let check = |version, bytes: &[u8], expected: ParseError, code: u8| {
        let mut buffer = BytesMut::from(bytes);
        let frame = Frame::take(&mut buffer, version, 1000).map(Option::unwrap);
        let error = frame.and_then(|frame| Packet::parse(&frame, version)).unwrap_err();
        assert_eq!((error.reason_code(), error), (code, expected), "{bytes:02x?}");
    };
    let (v31, v311, v5) = (Version::V31, Version::V311, Version::V5);
    let flags = |packet, flags| ParseError::HeaderFlags { packet, flags };
    check(v311, &[0x36, 3, 0, 1, b'a'], flags(PacketType::Publish, 6), 0x81);
    check(v311, &[0x38, 3, 0, 1, b'a'], flags(PacketType::Publish, 8), 0x81);
    check(v311, &[0x32, 5, 0, 1, b'a', 0, 0], ParseError::PacketId, 0x82);
    check(v311, &[0x30, 4, 0, 2, b'a', 0], ParseError::Topic(TopicError::Nul), 0x81);
    check(v311, &[0x30, 4, 0, 2, b'a', 0xFF], ParseError::Topic(TopicError::Utf8), 0x81);
    check(v311, &[0x30, 3, 0, 1, b'#'], ParseError::Topic(TopicError::Wildcard), 0x90);
    check(v311, &[0x30, 2, 0, 0], ParseError::Topic(TopicError::Empty), 0x82);
    check(v5, &[0x30, 3, 0, 0, 0], ParseError::Topic(TopicError::Empty), 0x82);
    check(v5, &[0x30, 6, 0, 1, b'a', 2, 1, 2], ParseError::PropertyValue(1), 0x82);
    check(v5, &[0x30, 6, 0, 1, b'a', 2, 0x11, 0], ParseError::Truncated("SessionExpiry"), 0x81);
    check(v5, &[0x30, 10, 0, 1, b'a', 6, 0x23, 0, 1, 0x23, 0, 1], ParseError::DuplicateProperty(0x23), 0x82);
    // Longer forms of small numbers (1.5.5).
    check(v5, &[0x30, 0x85, 0], ParseError::Varint("remaining length"), 0x81);
    check(v5, &[0x30, 5, 0, 1, b'a', 0x80, 0], ParseError::Varint("property length"), 0x81);
    check(v5, &[0x30, 7, 0, 1, b'a', 3, 0x0B, 0x81, 0], ParseError::Varint("SubscriptionId"), 0x81);
    check(v5, &[0x30, 7, 0, 1, b'a', 3, 0x81, 0, 1], ParseError::Varint("property identifier"), 0x81);
    check(v5, &[0x62, 6, 0, 1, 0, 2, 0x23, 0], ParseError::Truncated("TopicAlias"), 0x81);
    check(v5, &[0x62, 7, 0, 1, 0, 3, 0x23, 0, 1], ParseError::MisplacedProperty(0x23), 0x81);
    check(v5, &[0x40, 5, 0, 1, 0, 0, 9], ParseError::Trailing(1), 0x81);
    check(v311, &[0x40, 3, 0, 1, 0], ParseError::Trailing(1), 0x81);
    check(v311, &[0x82, 2, 0, 1], ParseError::NoFilter(PacketType::Subscribe), 0x82);
    check(v311, &[0xA2, 2, 0, 1], ParseError::NoFilter(PacketType::Unsubscribe), 0x82);
    check(v311, &[0x82, 6, 0, 1, 0, 1, b'a', 3], ParseError::Bits("subscription options"), 0x81);
    check(v311, &[0x82, 6, 0, 1, 0, 1, b'a', 4], ParseError::Bits("subscription options"), 0x81);
    check(v5, &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30], ParseError::Bits("subscription options"), 0x81);
    check(v5, &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x40], ParseError::Bits("subscription options"), 0x81);
    check(v5, &[0x82, 10, 0, 1, 4, 0x0B, 1, 0x0B, 1, 0, 0, 0], ParseError::DuplicateProperty(0x0B), 0x82);
    check(v5, &[0x82, 8, 0, 1, 2, 0x0B, 0, 0, 0, 0], ParseError::PropertyValue(0x0B), 0x82);
    check(v311, &[0x80, 6, 0, 1, 0, 1, b'a', 0], flags(PacketType::Subscribe, 0), 0x81);
    check(v311, &[0x8A, 6, 0, 1, 0, 1, b'a', 0], flags(PacketType::Subscribe, 10), 0x81);
    check(v31, &[0x86, 6, 0, 1, 0, 1, b'a', 0], flags(PacketType::Subscribe, 6), 0x81);
    check(v311, &[0xC0, 1, 0], ParseError::Trailing(1), 0x81);
    check(v311, &[0xB0, 3, 0, 1, 0], ParseError::Trailing(1), 0x81);
    check(v311, &[0xF0, 0], ParseError::Unexpected(PacketType::Auth), 0x82);
    let many = [&[0xA2, 0x84, 0x10, 0, 1][..], &[0; 2 * (MAX_FILTERS + 1)]].concat();
    let frame = Frame::from_bytes(many.into()).unwrap();
    let error = Packet::parse(&frame, v311).unwrap_err();
    assert_eq!((error.reason_code(), error), (0x97, ParseError::TooManyFilters(PacketType::Unsubscribe)));
}

#[test]
fn mqtt_31_lets_dup_stand_where_later_versions_have_no_flags() {
    for bytes in [&[0x8A, 6, 0, 1, 0, 1, b'a', 1][..], &[0xAA, 5, 0, 1, 0, 1, b'a'], &[0x6A, 2, 0, 1]] {
        let mut buffer = BytesMut::from(bytes);
        let frame = Frame::take(&mut buffer, Version::V31, 1000).unwrap().unwrap();
        assert!(Packet::parse(&frame, Version::V31).is_ok(), "{bytes:02x?}");
    }
    let connect = [&[0x10, 15, 0, 6][..], b"MQIsdp", &[3, 2, 0, 60, 0, 1, b'a']].concat();
    let frame = Frame::from_bytes(connect.clone().into()).unwrap();
    let parsed = Connect::parse(&frame).unwrap();
    assert_eq!((parsed.version, parsed.keep_alive_s), (Version::V31, 60));
    assert_eq!(parsed.encode().unwrap(), connect);
}

#[test]
fn what_cannot_be_written_leaves_the_buffer_as_it_was() {
    let mut out = BytesMut::from(&b"before"[..]);
    let long = Bytes::from(vec![0; 65_536]);
    let properties = Properties::from_iter([Property::CorrelationData(long)]);
    let publish = Publish {
        dup: false,
        qos: Qos::AtMostOnce,
        retain: false,
        topic: Some(TopicName::new("a").unwrap()),
        packet_id: None,
        properties,
        payload: Bytes::new(),
    };
    assert_eq!(publish.put(Version::V5, &mut out), Err(EncodeError::FieldTooLong("CorrelationData")));
    assert_eq!(out, &b"before"[..]);
}

#[test]
fn properties_that_are_refused() {
    let check = |bytes: &[u8], set, expected| {
        assert_eq!(Properties::parse(Bytes::copy_from_slice(bytes), set).err(), Some(expected), "{bytes:02x?}");
    };
    check(&[0x01, 0, 0x01, 0], PropertySet::Publish, ParseError::DuplicateProperty(0x01));
    check(&[0x01, 2], PropertySet::Publish, ParseError::PropertyValue(0x01));
    check(&[0x23, 0, 0], PropertySet::Publish, ParseError::Alias(0));
    check(&[0x23, 0, 1], PropertySet::Sealed, ParseError::MisplacedProperty(0x23));
    check(&[0x08, 0, 1, b'#'], PropertySet::Publish, ParseError::PropertyValue(0x08));
    check(&[0x03, 0, 1, 0], PropertySet::Publish, ParseError::Nul("ContentType"));
    check(&[0x03, 0, 1, 0xFF], PropertySet::Publish, ParseError::Utf8("ContentType"));
    check(&[0x7E], PropertySet::Publish, ParseError::UnknownProperty(0x7E));
    check(&[0x02, 0, 0], PropertySet::Publish, ParseError::Truncated("MessageExpiry"));
    check(&[0x26, 0, 0, 0, 0].repeat(MAX_PROPERTIES + 1), PropertySet::Sealed, ParseError::TooManyProperties);
}
