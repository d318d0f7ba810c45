//! Every codec gives back what it was given, every chunking gives the same frames, and no bytes make it panic.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sealcast_mqtt::*;

fn text() -> impl Strategy<Value = Text> {
    "[^\u{0}]{0,12}".prop_filter_map("text", |text| Text::new(&text).ok())
}

fn topic() -> impl Strategy<Value = TopicName> {
    "[^\u{0}+#]{1,20}".prop_filter_map("topic", |topic| TopicName::new(&topic).ok())
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)]
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_filter_map("packet id", PacketId::new)
}

fn user() -> BoxedStrategy<Property> {
    (text(), text()).prop_map(|(name, value)| Property::User(name, value)).boxed()
}

fn any_property() -> BoxedStrategy<Property> {
    prop_oneof![
        (0..=1u8).prop_map(Property::PayloadFormat),
        any::<u32>().prop_map(Property::MessageExpiry),
        text().prop_map(Property::ContentType),
        topic().prop_filter_map("topic", |t| Text::new(t.as_str()).ok()).prop_map(Property::ResponseTopic),
        bytes().prop_map(Property::CorrelationData),
        (1..=268_435_455u32).prop_map(Property::SubscriptionId),
        any::<u32>().prop_map(Property::SessionExpiry),
        text().prop_map(Property::AssignedClientId),
        any::<u16>().prop_map(Property::ServerKeepAlive),
        text().prop_map(Property::AuthMethod),
        bytes().prop_map(Property::AuthData),
        (0..=1u8).prop_map(Property::RequestProblemInfo),
        any::<u32>().prop_map(Property::WillDelay),
        (0..=1u8).prop_map(Property::RequestResponseInfo),
        text().prop_map(Property::ResponseInfo),
        text().prop_map(Property::ServerReference),
        text().prop_map(Property::ReasonString),
        (1..=u16::MAX).prop_map(Property::ReceiveMaximum),
        any::<u16>().prop_map(Property::TopicAliasMaximum),
        (1..=u16::MAX).prop_map(Property::TopicAlias),
        (0..=1u8).prop_map(Property::MaximumQos),
        (0..=1u8).prop_map(Property::RetainAvailable),
        (1..=u32::MAX).prop_map(Property::MaximumPacketSize),
        (0..=1u8).prop_map(Property::WildcardSubscriptions),
        (0..=1u8).prop_map(Property::SubscriptionIdsAvailable),
        (0..=1u8).prop_map(Property::SharedSubscriptions),
        user(),
        user(),
        user(),
    ]
    .boxed()
}

/// A list that is valid in `set`: what does not belong or stands twice is left out.
fn properties(set: PropertySet) -> impl Strategy<Value = Properties> {
    vec(any_property(), 0..12).prop_map(move |list| {
        list.into_iter().fold(Properties::new(), |mut kept, property| {
            let mut longer = kept.clone();
            longer.push(property);
            if longer.encode().is_ok_and(|bytes| Properties::parse(bytes, set).is_ok()) {
                kept = longer;
            }
            kept
        })
    })
}

fn only_v5(version: Version, properties: Properties) -> Properties {
    if version == Version::V5 { properties } else { Properties::new() }
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    (topic(), bytes(), qos(), any::<bool>(), properties(PropertySet::Will)).prop_map(
        move |(topic, payload, qos, retain, list)| Will {
            topic,
            payload,
            qos,
            retain,
            properties: only_v5(version, list),
        },
    )
}

fn connect() -> impl Strategy<Value = Connect> {
    version().prop_flat_map(|version| {
        (
            any::<(bool, bool)>(),
            any::<u16>(),
            properties(PropertySet::Connect),
            text(),
            option::of(will(version)),
            option::of(text()),
            option::of(bytes()),
        )
            .prop_map(
                move |((bridge, clean_start), keep_alive_s, list, client_id, will, username, password)| Connect {
                    version,
                    bridge,
                    clean_start,
                    keep_alive_s,
                    properties: only_v5(version, list),
                    client_id,
                    will,
                    password: if version == Version::V5 || username.is_some() { password } else { None },
                    username,
                },
            )
    })
}

fn publish(version: Version) -> impl Strategy<Value = Publish> {
    (
        any::<bool>(),
        qos(),
        any::<bool>(),
        topic(),
        any::<bool>(),
        packet_id(),
        properties(PropertySet::Publish),
        bytes(),
    )
        .prop_map(move |(dup, qos, retain, topic, by_alias, packet_id, list, payload)| {
            let properties = only_v5(version, list);
            Publish {
                dup: dup && qos != Qos::AtMostOnce,
                qos,
                retain,
                topic: if by_alias && properties.topic_alias().is_some() { None } else { Some(topic) },
                packet_id: if qos == Qos::AtMostOnce { None } else { Some(packet_id) },
                properties,
                payload,
            }
        })
}

fn ack_kind() -> impl Strategy<Value = AckKind> {
    prop_oneof![Just(AckKind::Puback), Just(AckKind::Pubrec), Just(AckKind::Pubrel), Just(AckKind::Pubcomp)]
}

fn fail(error: impl std::error::Error) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

proptest! {
    #[test]
    fn connect_round_trips(packet in connect()) {
        let frame = Frame::from_bytes(packet.encode().map_err(fail)?).map_err(fail)?;
        prop_assert_eq!(Connect::parse(&frame).map_err(fail)?, packet);
    }

    #[test]
    fn connack_round_trips(version in version(), session_present: bool, code: u8, list in properties(PropertySet::Connack)) {
        let packet = Connack { session_present, code, properties: only_v5(version, list) };
        let frame = Frame::from_bytes(packet.encode(version).map_err(fail)?).map_err(fail)?;
        prop_assert_eq!(Connack::parse(&frame, version).map_err(fail)?, packet);
    }

    #[test]
    fn publish_round_trips((version, packet) in version().prop_flat_map(|v| (Just(v), publish(v)))) {
        let frame = Frame::from_bytes(packet.encode(version).map_err(fail)?).map_err(fail)?;
        prop_assert_eq!(Publish::parse(&frame, version).map_err(fail)?, packet.clone());
        prop_assert_eq!(Publish::parse_receipt(&frame).map_err(fail)?, (packet.qos, packet.packet_id));
    }

    #[test]
    fn ack_round_trips(kind in ack_kind(), packet_id in packet_id(), code: u8, list in properties(PropertySet::Ack), version in version()) {
        let code = if version == Version::V5 { code } else { 0 };
        let packet = Ack { kind, packet_id, code, properties: only_v5(version, list) };
        let frame = Frame::from_bytes(packet.encode(version).map_err(fail)?).map_err(fail)?;
        prop_assert_eq!(Ack::parse(&frame, version).map_err(fail)?, packet);
    }

    #[test]
    fn disconnect_round_trips(code: u8, list in properties(PropertySet::Disconnect), version in version()) {
        let code = if version == Version::V5 { code } else { 0 };
        let packet = Disconnect { code, properties: only_v5(version, list) };
        let frame = Frame::from_bytes(packet.encode(version).map_err(fail)?).map_err(fail)?;
        prop_assert_eq!(Disconnect::parse(&frame, version).map_err(fail)?, packet);
    }

    #[test]
    fn subscriptions_round_trip(packet_id in packet_id(), version in version(), filters in vec((text(), any::<(u8, u8, u8)>()), 1..5), list in properties(PropertySet::Subscribe)) {
        let options = |filter: &Text, (qos, flags, handling): (u8, u8, u8)| {
            let shared = filter.as_str().starts_with("$share/");
            let v5 = |bits| if version == Version::V5 { bits } else { 0 };
            let no_local = if shared { 0 } else { v5(flags & 4) };
            SubscriptionOptions::from_bits((qos % 3) | no_local | v5(flags & 8) | v5((handling % 3) << 4), version).unwrap()
        };
        let filters = filters.into_iter().map(|(filter, bits)| (filter.clone(), options(&filter, bits))).collect();
        round_trips(version, Packet::Subscribe(Subscribe { packet_id, properties: only_v5(version, list), filters }))?;
    }

    #[test]
    fn the_end_of_subscriptions_round_trips(packet_id in packet_id(), version in version(), filters in vec(text(), 1..5), list in properties(PropertySet::Unsubscribe)) {
        round_trips(version, Packet::Unsubscribe(Unsubscribe { packet_id, properties: only_v5(version, list), filters }))?;
    }

    #[test]
    fn answers_to_subscriptions_round_trip(packet_id in packet_id(), version in version(), codes in bytes(), list in properties(PropertySet::Ack)) {
        let properties = only_v5(version, list);
        round_trips(version, Packet::Suback(Suback { packet_id, properties: properties.clone(), codes: codes.clone() }))?;
        let codes = if version == Version::V5 { codes } else { Bytes::new() };
        round_trips(version, Packet::Unsuback(Unsuback { packet_id, properties, codes }))?;
    }

    #[test]
    fn auth_round_trips(code: u8, properties in properties(PropertySet::Auth)) {
        round_trips(Version::V5, Packet::Auth(Auth { code, properties }))?;
    }

    /// Of a message that many get, each frame is put together from its parts.
    #[test]
    fn a_publish_in_parts_is_the_whole((version, packet) in version().prop_flat_map(|v| (Just(v), publish(v)))) {
        let Some(topic) = &packet.topic else { return Ok(()) };
        let head = PublishHead {
            dup: packet.dup, qos: packet.qos, retain: packet.retain, topic: topic.as_str(), packet_id: packet.packet_id,
        };
        let whole = packet.encode(version).map_err(fail)?;
        let mut out = BytesMut::from(&b"before"[..]);
        head.put(packet.properties.iter(), &packet.payload, version, &mut out).map_err(fail)?;
        prop_assert_eq!(&out[..6], b"before");
        prop_assert_eq!(&out[6..], &whole[..]);
        prop_assert_eq!(head.frame_len(packet.properties.iter(), packet.payload.len(), version), whole.len());
    }

    /// What parses encodes to the same bytes: rewriting one field leaves all others as they were.
    #[test]
    fn parsed_bytes_encode_to_themselves(mut content in vec(any::<u8>(), 0..60), first in 0x30..0x3Fu8, spoil in any::<prop::sample::Index>()) {
        content.splice(0..0, [0, 1, b'a']);
        let at = spoil.index(content.len());
        content[at] ^= 1;
        let mut bytes = vec![first, content.len() as u8];
        bytes.extend(content);
        if let Ok(frame) = Frame::from_bytes(bytes.clone().into()) {
            for version in [Version::V31, Version::V311, Version::V5] {
                if let Ok(packet) = Publish::parse(&frame, version) {
                    prop_assert_eq!(packet.encode(version).map_err(fail)?, bytes.clone());
                }
            }
        }
    }

    #[test]
    fn any_chunking_gives_the_same_frames(
        packets in vec(publish(Version::V5), 1..8),
        cuts in vec(1..50usize, 0..40),
    ) {
        let frames: Vec<Bytes> = packets.iter().map(|p| p.encode(Version::V5)).collect::<Result<_, _>>().map_err(fail)?;
        let stream = frames.concat();
        let mut splitter = Splitter::new(100_000);
        let mut seen = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (chunk, behind) = rest.split_at(cut.min(rest.len()));
            rest = behind;
            splitter.feed(chunk);
            while let Some(frame) = splitter.next_frame().map_err(fail)? {
                seen.push(frame.into_bytes());
            }
        }
        prop_assert_eq!(seen, frames);
        prop_assert_eq!(splitter.buffered_bytes(), 0);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), set in 0..10usize) {
        let mut splitter = Splitter::new(1000);
        splitter.feed(&bytes);
        while let Ok(Some(frame)) = splitter.next_frame() {
            parse_all(&frame);
        }
        let sets = [
            PropertySet::Connect, PropertySet::Will, PropertySet::Connack, PropertySet::Publish,
            PropertySet::Sealed, PropertySet::Ack, PropertySet::Disconnect, PropertySet::Subscribe,
            PropertySet::Unsubscribe, PropertySet::Auth,
        ];
        let _ = Properties::parse(bytes.into(), sets[set]);
    }

    /// Random content seldom gets past the header, so give it one.
    #[test]
    fn arbitrary_content_never_panics(kind in 1..16u8, flags in 0..16u8, content in vec(any::<u8>(), 0..100)) {
        let mut bytes = vec![(kind << 4) | flags, content.len() as u8];
        bytes.extend(content);
        if let Ok(frame) = Frame::from_bytes(bytes.into()) {
            parse_all(&frame);
        }
    }

    #[test]
    fn spoilt_connects_never_panic(packet in connect(), spoil in any::<prop::sample::Index>(), value: u8) {
        let mut bytes = packet.encode().map_err(fail)?.to_vec();
        let at = spoil.index(bytes.len());
        bytes[at] = value;
        if let Ok(frame) = Frame::from_bytes(bytes.clone().into())
            && let Ok(packet) = Connect::parse(&frame)
        {
            let again = packet.encode().map_err(fail)?;
            match packet.version {
                // A user name or a password may be missing though its flag is set, and then the flag goes, too.
                Version::V31 => {
                    let frame = Frame::from_bytes(again).map_err(fail)?;
                    prop_assert_eq!(Connect::parse(&frame).map_err(fail)?, packet);
                }
                Version::V311 | Version::V5 => prop_assert_eq!(again, bytes),
            }
        }
    }
}

fn round_trips(version: Version, packet: Packet) -> Result<(), TestCaseError> {
    let mut out = BytesMut::new();
    packet.put(version, &mut out).map_err(fail)?;
    let frame = Frame::from_bytes(out.freeze()).map_err(fail)?;
    prop_assert_eq!(Packet::parse(&frame, version).map_err(fail)?, packet);
    Ok(())
}

fn parse_all(frame: &Frame) {
    for version in [Version::V31, Version::V311, Version::V5] {
        let _ = Packet::parse(frame, version);
    }
}
