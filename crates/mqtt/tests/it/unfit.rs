//! What brokers close connections for: refused here, by the acknowledgement where there is one.

use bytes::Bytes;
use sealcast_mqtt::*;

use crate::harness::*;

fn deep() -> String {
    "home/".to_owned() + &"a/".repeat(249)
}

fn publish_to(name: &str, qos: Qos) -> Publish {
    Publish { topic: Some(topic(name)), ..message(qos) }
}

#[test]
fn a_topic_that_brokers_cut_for_is_refused_and_the_client_of_mqtt_5_stays() {
    let v = Version::V5;
    for name in [deep(), "home/\u{1}".into(), "home/\u{FFFF}".into()] {
        for qos in QOS {
            let mut rig = Rig::open(v);
            rig.client(&publish_to(&name, qos).encode(v).unwrap());
            let said = format!("{:?}", rig.take_events());
            assert!(said.contains("PublishUnfit") && (said.contains("251 levels") || said.contains("U+")), "{said}");
            assert!(rig.to_broker.is_empty());
            let answer = rig.take_client();
            match qos {
                Qos::AtMostOnce => assert_eq!(Disconnect::parse(&answer[0], v).unwrap().code, 0x90),
                _ => assert_eq!(Ack::parse(&answer[0], v).unwrap().code, 0x90),
            }
            assert_eq!(rig.proxy.is_closed(), qos == Qos::AtMostOnce, "{qos:?}");
        }
    }
}

#[test]
fn in_mqtt_3_such_a_topic_ends_the_connection_as_other_refusals_do() {
    let v = Version::V311;
    for qos in QOS {
        let mut rig = Rig::open(v);
        rig.client(&publish_to(&deep(), qos).encode(v).unwrap());
        assert!(rig.to_broker.is_empty() && rig.to_client.is_empty());
        assert!(
            matches!(
                &rig.events[..],
                [Output::PublishUnfit { .. }, Output::Closed(CloseReason::PublishRefused { .. })]
            ),
            "{:?}",
            rig.events
        );
    }
}

#[test]
fn the_most_levels_pass() {
    for version in VERSIONS {
        let mut rig = Rig::open(version);
        let name = "a/".repeat(MAX_TOPIC_LEVELS - 1) + "b";
        rig.client(&publish_to(&name, Qos::AtLeastOnce).encode(version).unwrap());
        assert_eq!(rig.request().topic.as_str(), name);
    }
}

#[test]
fn a_response_topic_counts_too() {
    let v = Version::V5;
    let mut rig = Rig::open(v);
    let properties = [Property::ResponseTopic(text(&deep()))].into_iter().collect();
    rig.client(&Publish { properties, ..message(Qos::AtLeastOnce) }.encode(v).unwrap());
    assert_eq!(Ack::parse(&rig.take_client()[0], v).unwrap().code, 0x90);
    assert!(rig.to_broker.is_empty() && !rig.proxy.is_closed());
}

#[test]
fn a_will_on_such_a_topic_refuses_the_connection_with_the_reason() {
    for (version, code) in [(Version::V311, 5), (Version::V5, 0x90)] {
        let mut rig = Rig::fresh();
        let mut sent = connect(version);
        let (payload, properties) = (Bytes::new(), Properties::new());
        sent.will = Some(Will { topic: topic(&deep()), payload, qos: Qos::AtMostOnce, retain: false, properties });
        rig.client(&sent.encode().unwrap());
        assert_eq!(Connack::parse(&rig.take_client()[0], version).unwrap().code, code);
        assert!(
            matches!(&rig.events[..], [Output::Closed(CloseReason::ConnectRefused { reason })] if reason.contains("levels"))
        );
    }
}

/// SUBSCRIBE or UNSUBSCRIBE with packet identifier 7.
fn filters(first: u8, version: Version, filters: &[(&str, Option<u8>)]) -> Vec<u8> {
    let mut content = vec![0, 7];
    if version == Version::V5 {
        content.push(0);
    }
    for (filter, options) in filters {
        content.extend((filter.len() as u16).to_be_bytes());
        content.extend(filter.as_bytes());
        content.extend(options);
    }
    let mut frame = vec![first];
    let mut rest = content.len();
    loop {
        let low = (rest & 0x7F) as u8;
        rest >>= 7;
        frame.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    [frame, content].concat()
}

#[test]
fn filters_that_brokers_cut_for_are_refused_in_the_suback_and_the_others_pass() {
    for (version, code) in [(Version::V311, 0x80), (Version::V5, 0x8F)] {
        let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let deep = deep();
        let mut rig = Rig::open(version);
        let asked = [("a/#", Some(1)), (deep.as_str(), Some(0)), ("b/#/c", Some(0)), ("+", Some(2))];
        rig.client(&filters(0x82, version, &asked));
        assert_eq!(rig.to_broker, filters(0x82, version, &[asked[0], asked[3]]));
        let refused = rig.take_events();
        assert!(matches!(refused[..], [Output::FilterUnfit { .. }, Output::FilterUnfit { .. }]), "{refused:?}");
        let answer = |codes: &[u8]| {
            let content = [&[0, 7], properties, codes].concat();
            [&[0x90, content.len() as u8][..], &content].concat()
        };
        rig.broker(&answer(&[1, 2]));
        assert_eq!(rig.to_client, answer(&[1, code, code, 2]));
        assert_eq!(rig.take_events(), [Output::Subscribed(vec!["a/#".into(), "+".into()])]);

        rig.clear();
        rig.client(&filters(0x82, version, &[("#/a", Some(0)), ("", Some(0))]));
        assert!(rig.to_broker.is_empty(), "nothing is left to ask for");
        assert_eq!(rig.to_client, answer(&[code, code]));
        assert!(!rig.proxy.is_closed());
    }
}

#[test]
fn an_unsubscribe_is_treated_likewise() {
    for version in VERSIONS {
        let v5 = version == Version::V5;
        let mut rig = Rig::open(version);
        rig.client(&filters(0xA2, version, &[("a", None), ("b#", None)]));
        assert_eq!(rig.to_broker, filters(0xA2, version, &[("a", None)]));
        rig.broker(if v5 { &[0xB0, 4, 0, 7, 0, 0x11] } else { &[0xB0, 2, 0, 7] });
        let answer: &[u8] = if v5 { &[0xB0, 5, 0, 7, 0, 0x11, 0x8F] } else { &[0xB0, 2, 0, 7] };
        assert_eq!(rig.to_client, answer);
        rig.clear();
        rig.client(&filters(0xA2, version, &[("b#", None)]));
        assert!(rig.to_broker.is_empty());
        assert_eq!(rig.to_client, if v5 { &[0xB0, 4, 0, 7, 0, 0x8F][..] } else { &[0xB0, 2, 0, 7] });
    }
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let v = Version::V5;
    let mut rig = Rig::open(v);
    rig.client(&filters(0x82, v, &[("a", Some(0x04)), ("$share/g/a", Some(0x00))]));
    assert!(!rig.proxy.is_closed());
    rig.clear();
    rig.client(&filters(0x82, v, &[("$share/g/a", Some(0x05))]));
    assert_eq!(Disconnect::parse(&rig.take_client()[0], v).unwrap().code, 0x82);
    assert!(rig.to_broker.is_empty() && rig.proxy.is_closed());
}

#[test]
fn a_bridge_is_known_to_the_broker_and_its_will_can_be_dropped() {
    for version in VERSIONS {
        let mut rig = Rig::fresh();
        let mut sent = connect(version);
        sent.bridge = true;
        let (payload, properties) = (Bytes::from_static(b"0"), Properties::new());
        let name = topic("$SYS/broker/connection/x.br1/state");
        sent.will = Some(Will { topic: name, payload, qos: Qos::AtLeastOnce, retain: true, properties });
        let bytes = sent.encode().unwrap();
        assert_eq!(bytes[8], version.level() | 0x80, "a level with the bridge's bit");
        rig.client(&bytes);
        rig.answer(|proxy| proxy.accept(WillAnswer::Dropped, SessionState::default()));
        let up = Connect::parse(&rig.take_broker()[0]).unwrap();
        assert!(up.bridge && up.will.is_none());
        assert_eq!((up.version, &up.client_id), (version, &sent.client_id));
        // A broker that does not know the bit says so, and the bridge tries again without it.
        let refusal: &[u8] = if version == Version::V5 { &[0x20, 3, 0, 0x84, 0] } else { &[0x20, 2, 0, 1] };
        rig.broker(refusal);
        assert_eq!(rig.to_client, refusal);
    }
}

#[test]
fn what_was_sent_goes_up_before_the_agent_closes() {
    for version in VERSIONS {
        let mut rig = Rig::open(version);
        let frame = message(Qos::AtMostOnce).encode(version).unwrap();
        rig.client(&frame).client(&frame);
        rig.proxy.close_when_drained(0x8B, "the agent is shutting down");
        rig.run();
        assert!(!rig.proxy.is_closed() && !rig.proxy.wants_client_bytes());
        let requests: Vec<_> = rig.take_events();
        assert_eq!(requests.len(), 2);
        for request in requests {
            let Output::Publish(request) = request else { panic!("{request:?}") };
            assert!(!rig.proxy.is_closed());
            rig.answer(|proxy| proxy.pass_clear(request.id));
        }
        assert_eq!(rig.to_broker, frame.repeat(2));
        assert!(matches!(&rig.events[..], [Output::Closed(CloseReason::Agent(_))]), "{:?}", rig.events);
        assert_eq!(rig.to_client.is_empty(), version == Version::V311);
    }
}

#[test]
fn a_disconnect_that_waits_behind_a_message_ends_the_connection_first() {
    let v = Version::V311;
    let mut rig = Rig::open(v);
    let frame = message(Qos::AtMostOnce).encode(v).unwrap();
    rig.client(&frame).client(&[0xE0, 0]);
    rig.proxy.close_when_drained(0x8E, "taken over");
    let request = rig.request();
    rig.answer(|proxy| proxy.pass_clear(request.id));
    assert_eq!(rig.to_broker, [&frame[..], &[0xE0, 0]].concat());
    assert_eq!(rig.events, [Output::Closed(CloseReason::ClientDisconnect)]);
    assert!(rig.proxy.forgoes_will());
}

#[test]
fn the_brokers_limit_counts_for_mqtt_3_where_it_is_known() {
    let v = Version::V311;
    let mut rig = Rig::fresh();
    rig.client(&connect(v).encode().unwrap());
    rig.proxy.set_broker_max_bytes(100);
    rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default())).broker(&[0x20, 2, 0, 0]).clear();
    rig.client(&message(Qos::AtLeastOnce).encode(v).unwrap());
    let request = rig.request();
    rig.answer(|proxy| proxy.seal_done(request.id, vec![0; 100].into()));
    assert!(
        matches!(
            &rig.events[..],
            [Output::PublishTooLarge { max: 100, .. }, Output::Closed(CloseReason::PublishRefused { .. })]
        ),
        "{:?}",
        rig.events
    );
    assert!(rig.to_broker.is_empty());
}

#[test]
fn a_message_over_the_limit_does_not_end_a_connection_of_mqtt_3() {
    let v = Version::V311;
    let config = ProxyConfig { max_frame_bytes: 1000, max_waiting_bytes: 1000, ..ProxyConfig::default() };
    for (qos, chunk) in QOS.into_iter().flat_map(|qos| [(qos, 1), (qos, 700), (qos, usize::MAX)]) {
        let mut rig = Rig::with_config(config);
        rig.client(&connect(v).encode().unwrap());
        rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default())).broker(&[0x20, 2, 0, 0]).clear();
        let large = Publish { payload: vec![0x30; 5000].into(), ..message(qos) }.encode(v).unwrap();
        let next = message(Qos::AtMostOnce).encode(v).unwrap();
        let stream = [&large[..], &next].concat();
        for bytes in stream.chunks(chunk.min(stream.len())) {
            assert!(rig.proxy.wants_broker_bytes());
            rig.broker(bytes);
        }
        assert!(
            matches!(
                &rig.events[..],
                [Output::DeliveryOversized { topic, max: 1000, .. }, Output::Delivery(next)]
                    if &**topic == "hsu/1" && next.payload == "21.5"
            ),
            "{:?}",
            rig.events
        );
        match qos {
            Qos::AtMostOnce => assert!(rig.to_broker.is_empty()),
            Qos::AtLeastOnce => assert_eq!(rig.to_broker, ack(AckKind::Puback, 7, v)),
            Qos::ExactlyOnce => assert_eq!(rig.to_broker, ack(AckKind::Pubrec, 7, v)),
        }
    }
}
