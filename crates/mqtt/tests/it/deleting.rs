//! Messages that delete a retained one, and what goes before them.

use bytes::Bytes;
use sealcast_mqtt::*;

use crate::harness::*;

const ANNOUNCEMENT: Bytes = Bytes::from_static(b"\xFDannouncement");

fn delete(qos: Qos) -> Publish {
    Publish { retain: true, payload: Bytes::new(), ..message(qos) }
}

/// The client sends `sent`, and its announcement goes up.
fn announced(version: Version, sent: &Publish) -> Rig {
    let mut rig = Rig::open(version);
    rig.client(&sent.encode(version).unwrap());
    let request = rig.request();
    assert!(request.retain && request.payload.is_empty());
    rig.answer(|proxy| proxy.announce(request.id, ANNOUNCEMENT));
    rig
}

/// What the broker reads of such a message.
fn read(frame: &Frame, version: Version) -> (Qos, bool, Option<u16>, Bytes) {
    let publish = Publish::parse(frame, version).unwrap();
    assert_eq!(publish.topic, Some(topic("hsu/1")));
    (publish.qos, publish.retain, publish.packet_id.map(PacketId::value), publish.payload)
}

#[test]
fn at_qos_0_both_go_at_once() {
    for version in VERSIONS {
        let mut rig = announced(version, &delete(Qos::AtMostOnce));
        let up: Vec<_> = rig.take_broker().iter().map(|frame| read(frame, version)).collect();
        let first = (Qos::AtMostOnce, false, None, ANNOUNCEMENT);
        assert_eq!(up, [first, (Qos::AtMostOnce, true, None, Bytes::new())]);
    }
}

#[test]
fn what_deletes_follows_the_acknowledgement_of_its_announcement_and_the_rest_follows_that() {
    for version in VERSIONS {
        for (qos, kind) in [(Qos::AtLeastOnce, AckKind::Puback), (Qos::ExactlyOnce, AckKind::Pubrec)] {
            let mut rig = announced(version, &delete(qos));
            // A new message of the topic must not be deleted.
            let next = Publish { retain: true, packet_id: Some(id(8)), ..message(Qos::AtLeastOnce) };
            rig.client(&next.encode(version).unwrap());
            let request = rig.request();
            rig.answer(|proxy| proxy.seal_done(request.id, Bytes::from_static(b"next")));
            let up = rig.take_broker();
            assert_eq!(up.len(), 1, "{version:?} {qos:?}");
            assert_eq!(read(&up[0], version), (Qos::AtLeastOnce, false, Some(7), ANNOUNCEMENT));

            rig.broker(&ack(AckKind::Puback, 7, version));
            let up: Vec<_> = rig.take_broker().iter().map(|frame| read(frame, version)).collect();
            let second = (qos, true, Some(7), Bytes::new());
            assert_eq!(up, [second, (Qos::AtLeastOnce, true, Some(8), Bytes::from_static(b"next"))]);
            assert!(rig.to_client.is_empty(), "the client hears of its own message, not of the announcement");
            rig.broker(&ack(kind, 7, version));
            assert_eq!(rig.to_client, ack(kind, 7, version));
        }
    }
}

#[test]
fn a_refused_announcement_refuses_what_it_announces() {
    let v = Version::V5;
    for (qos, kind) in [(Qos::AtLeastOnce, AckKind::Puback), (Qos::ExactlyOnce, AckKind::Pubrec)] {
        let mut rig = announced(v, &delete(qos));
        rig.clear();
        let no = |kind| Ack { kind, packet_id: id(7), code: reason::NOT_AUTHORIZED, properties: Properties::new() };
        rig.broker(&no(AckKind::Puback).encode(v).unwrap());
        assert_eq!(rig.to_client, no(kind).encode(v).unwrap());
        assert!(rig.to_broker.is_empty(), "nothing is deleted");
        let code = reason::NOT_AUTHORIZED;
        assert_eq!(rig.take_events(), [Output::PublishRejected { topic: topic("hsu/1"), code }]);
    }
}

/// The broker may hold the packet identifier of a second try, and would take the announcement for that message.
#[test]
fn a_second_try_at_qos_2_is_announced_without_a_packet_identifier() {
    for version in VERSIONS {
        let mut rig = announced(version, &Publish { dup: true, ..delete(Qos::ExactlyOnce) });
        let up: Vec<_> = rig.take_broker().iter().map(|frame| read(frame, version)).collect();
        let first = (Qos::AtMostOnce, false, None, ANNOUNCEMENT);
        assert_eq!(up, [first, (Qos::ExactlyOnce, true, Some(7), Bytes::new())]);
    }
}

#[test]
fn an_announcement_that_is_too_large_for_the_broker_goes_with_what_it_announces() {
    let v = Version::V5;
    let mut rig = Rig::resumed(v, SessionState::default(), &[], &[Property::MaximumPacketSize(100)]);
    rig.client(&delete(Qos::AtLeastOnce).encode(v).unwrap());
    let request = rig.request();
    rig.answer(|proxy| proxy.announce(request.id, vec![0; 100].into()));
    assert!(rig.to_broker.is_empty());
    assert!(matches!(rig.take_events().as_slice(), [Output::PublishTooLarge { max: 100, .. }]));
    assert_eq!(Ack::parse(&rig.take_client()[0], v).unwrap().code, reason::QUOTA_EXCEEDED);
}

#[test]
fn a_client_that_says_disconnect_has_its_message_deleted_first() {
    let v = Version::V311;
    let mut rig = announced(v, &delete(Qos::AtLeastOnce));
    rig.clear();
    rig.client(&Disconnect::default().encode(v).unwrap());
    rig.proxy.handle_client_eof();
    assert!(rig.run().to_broker.is_empty() && !rig.proxy.is_closed());
    rig.broker(&ack(AckKind::Puback, 7, v));
    let up: Vec<_> = rig.take_broker().iter().map(Frame::packet).collect();
    assert_eq!(up, [PacketType::Publish, PacketType::Disconnect]);
    assert!(rig.proxy.is_closed());
}

#[test]
fn an_empty_message_in_the_agents_words_is_not_handed_on_without_them() {
    let deliver = |limit: u32| {
        let mut rig = Rig::resumed(Version::V5, SessionState::default(), &[Property::MaximumPacketSize(limit)], &[]);
        let forged = [Property::User(text("sealcast-deleted"), text("forged"))].into_iter().collect();
        let sent = Publish { payload: Bytes::new(), properties: forged, ..message(Qos::AtLeastOnce) };
        rig.broker(&sent.encode(Version::V5).unwrap());
        let delivery = rig.delivery();
        rig.answer(|proxy| proxy.deliver_empty(delivery.id, &[("sealcast-deleted", "broker")]));
        rig
    };
    let down = parse(&deliver(100).take_client(), Version::V5);
    let said = [Property::User(text("sealcast-deleted"), text("broker"))].into_iter().collect();
    assert_eq!((down.payload, down.properties), (Bytes::new(), said));
    let rig = deliver(30);
    assert!(rig.to_client.is_empty());
    assert_eq!(rig.to_broker, ack(AckKind::Puback, 7, Version::V5));
}
