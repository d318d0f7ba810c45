//! What the agent says in the broker's place: acknowledgements, and messages of its own.

use sealcast_mqtt::*;

use crate::harness::*;

#[test]
fn acknowledges_in_the_brokers_place() {
    for version in VERSIONS {
        for qos in QOS {
            let mut rig = Rig::open(version);
            let sent = message(qos);
            rig.client(&sent.encode(version).unwrap());
            let request = rig.request();
            rig.answer(|proxy| proxy.acknowledge(request.id));
            assert!(rig.to_broker.is_empty());
            let told = std::mem::take(&mut rig.to_client);
            match (qos, sent.packet_id) {
                (Qos::AtMostOnce, _) => assert!(told.is_empty()),
                (Qos::AtLeastOnce, Some(packet_id)) => {
                    assert_eq!(told, ack(AckKind::Puback, packet_id.value(), version));
                }
                (_, packet_id) => {
                    let packet_id = packet_id.unwrap().value();
                    assert_eq!(told, ack(AckKind::Pubrec, packet_id, version));
                    rig.client(&ack(AckKind::Pubrel, packet_id, version));
                    assert_eq!(rig.to_client, ack(AckKind::Pubcomp, packet_id, version));
                    assert!(rig.to_broker.is_empty(), "the broker knows nothing of it");
                    // Another release of that identifier is the broker's to answer.
                    rig.clear();
                    rig.client(&ack(AckKind::Pubrel, packet_id, version));
                    assert_eq!(rig.to_broker, ack(AckKind::Pubrel, packet_id, version));
                }
            }
            assert_eq!(rig.proxy.counters().publish_withheld, 1);
        }
    }
}

#[test]
fn an_acknowledged_redelivery_frees_its_identifier_at_the_broker() {
    let v = Version::V311;
    let mut rig = Rig::open(v);
    let mut sent = message(Qos::ExactlyOnce);
    sent.dup = true;
    let packet_id = sent.packet_id.unwrap().value();
    rig.client(&sent.encode(v).unwrap());
    let request = rig.request();
    rig.answer(|proxy| proxy.acknowledge(request.id));
    assert_eq!(rig.to_broker, ack(AckKind::Pubrel, packet_id, v));
    assert_eq!(rig.to_client, ack(AckKind::Pubrec, packet_id, v));
    rig.clear();
    rig.broker(&ack(AckKind::Pubcomp, packet_id, v));
    assert!(rig.to_client.is_empty(), "it answers the agent's release, not the client's");
    rig.client(&ack(AckKind::Pubrel, packet_id, v));
    assert_eq!(rig.to_client, ack(AckKind::Pubcomp, packet_id, v));
}

#[test]
fn an_identifier_that_is_used_again_is_the_brokers() {
    let v = Version::V5;
    let mut rig = Rig::open(v);
    let sent = message(Qos::ExactlyOnce);
    let packet_id = sent.packet_id.unwrap().value();
    for acknowledged in [true, false] {
        rig.client(&sent.encode(v).unwrap());
        let request = rig.request();
        if acknowledged {
            rig.answer(|proxy| proxy.acknowledge(request.id));
        } else {
            rig.answer(|proxy| proxy.pass_clear(request.id));
        }
    }
    rig.clear();
    rig.client(&ack(AckKind::Pubrel, packet_id, v));
    assert_eq!(rig.to_broker, ack(AckKind::Pubrel, packet_id, v));
}

/// SUBSCRIBE or UNSUBSCRIBE with packet identifier 1.
fn wanting(first: u8, version: Version, filters: &[&str]) -> Vec<u8> {
    let mut content = vec![0, 1];
    if version == Version::V5 {
        content.push(0);
    }
    for filter in filters {
        content.extend_from_slice(&u16::try_from(filter.len()).unwrap().to_be_bytes());
        content.extend_from_slice(filter.as_bytes());
        if first == 0x82 {
            content.push(0);
        }
    }
    [vec![first, u8::try_from(content.len()).unwrap()], content].concat()
}

fn suback(version: Version, codes: &[u8]) -> Vec<u8> {
    answer(0x90, version, codes)
}

fn unsuback(version: Version) -> Vec<u8> {
    answer(0xB0, version, if version == Version::V5 { &[0] } else { &[] })
}

fn answer(first: u8, version: Version, codes: &[u8]) -> Vec<u8> {
    let mut content = vec![0, 1];
    if version == Version::V5 {
        content.push(0);
    }
    content.extend_from_slice(codes);
    [vec![first, u8::try_from(content.len()).unwrap()], content].concat()
}

#[test]
fn gives_messages_of_its_own_to_who_subscribed() {
    for version in VERSIONS {
        let mut rig = Rig::open(version);
        let give = |rig: &mut Rig, name: &str| {
            let given = rig.proxy.inject(&topic(name), "27".into(), &[("a", "b")]);
            rig.run();
            let frames = rig.take_client();
            assert_eq!(frames.len(), usize::from(given));
            frames
        };
        let subscribe = wanting(0x82, version, &["a/+", "b/#", "c"]);
        rig.client(&subscribe);
        assert_eq!(rig.take_broker()[0].clone().into_bytes(), subscribe);
        assert!(give(&mut rig, "a/1").is_empty(), "not granted yet");
        rig.broker(&suback(version, &[1, 0x80, 0]));
        assert_eq!(rig.take_client().len(), 1);
        assert_eq!(rig.take_events(), [Output::Subscribed(vec!["a/+".into(), "c".into()])]);

        let frames = give(&mut rig, "a/1");
        let given = parse(&frames, version);
        assert_eq!((given.qos, given.retain, &given.payload[..]), (Qos::AtMostOnce, false, &b"27"[..]));
        assert_eq!(given.properties.len(), usize::from(version == Version::V5));
        assert!(give(&mut rig, "b/1").is_empty(), "refused");
        assert!(give(&mut rig, "d").is_empty());
        assert!(!give(&mut rig, "c").is_empty());

        rig.client(&wanting(0xA2, version, &["a/+"]));
        rig.broker(&unsuback(version));
        assert_eq!(rig.take_client().len(), 1);
        assert!(give(&mut rig, "a/1").is_empty(), "not wanted any more");
    }
}

#[test]
fn learns_the_filters_of_an_old_session_from_what_they_bring() {
    let v = Version::V311;
    let mut rig = Rig::open(v);
    assert!(!rig.proxy.inject(&topic("hsu/1"), "x".into(), &[]));
    rig.broker(&message(Qos::AtMostOnce).encode(v).unwrap());
    assert!(rig.proxy.inject(&topic("hsu/1"), "x".into(), &[]));
    rig.client(&wanting(0xA2, v, &["hsu/#"]));
    rig.broker(&unsuback(v));
    assert!(!rig.proxy.inject(&topic("hsu/1"), "x".into(), &[]));
}

#[test]
fn counts_the_filters_for_which_a_broker_may_send_a_copy() {
    for version in VERSIONS {
        let mut rig = Rig::open(version);
        let copies = |rig: &mut Rig| {
            rig.broker(&message(Qos::AtMostOnce).encode(version).unwrap());
            let Some(Output::Delivery(delivery)) = rig.take_events().pop() else { panic!("no delivery") };
            rig.answer(|proxy| proxy.pass(delivery.id));
            rig.take_client();
            delivery.copies
        };
        assert_eq!(copies(&mut rig), 1, "none is known");
        rig.client(&wanting(0x82, version, &["hsu/+", "hsu/#", "$share/g/hsu/1", "a"]));
        assert_eq!(copies(&mut rig), 3, "asked for");
        rig.broker(&suback(version, &[1, 0x80, 0, 0]));
        rig.take_events();
        rig.take_client();
        assert_eq!(copies(&mut rig), 2, "granted");
        rig.client(&wanting(0xA2, version, &["hsu/+"]));
        assert_eq!(copies(&mut rig), 2, "what is on its way still comes");
        rig.broker(&unsuback(version));
        rig.take_client();
        assert_eq!(copies(&mut rig), 1, "ended");
    }
}
