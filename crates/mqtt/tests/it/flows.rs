//! Each flow of a message, step by step.

use bytes::Bytes;
use sealcast_mqtt::*;

use crate::harness::*;

const SEALED: Bytes = Bytes::from_static(b"\xFEsealed");

#[test]
fn seals_upward() {
    for version in VERSIONS {
        for qos in QOS {
            let mut rig = Rig::open(version);
            let mut sent = message(qos);
            let kept = [Property::MessageExpiry(9)];
            let moved = [
                Property::ContentType(text("text/plain")),
                Property::PayloadFormat(1),
                Property::ResponseTopic(text("re")),
                Property::CorrelationData(Bytes::from_static(b"c")),
                Property::User(text("a"), text("b")),
            ];
            if version == Version::V5 {
                sent.properties = moved.iter().take(2).chain(&kept).chain(&moved[2..]).cloned().collect();
            }
            rig.client(&sent.encode(version).unwrap());
            let request = rig.request();
            assert_eq!((request.topic.as_str(), request.qos, &request.payload), ("hsu/1", qos, &sent.payload));
            let inside = Properties::parse(request.sealed_properties, PropertySet::Sealed).unwrap();
            assert!(rig.to_broker.is_empty(), "nothing goes up before it is sealed");

            rig.answer(|proxy| proxy.seal_done(request.id, SEALED));
            let up = parse(&rig.take_broker(), version);
            assert_eq!(up.payload, SEALED);
            assert_eq!((up.packet_id, up.qos, &up.topic), (sent.packet_id, qos, &sent.topic));
            if version == Version::V5 {
                assert_eq!(inside, moved.iter().cloned().collect());
                assert_eq!(up.properties, kept.iter().cloned().collect());
            } else {
                assert!(inside.is_empty());
            }
            assert_eq!(rig.proxy.counters().published_sealed, 1);
            assert_eq!(rig.proxy.seal_done(request.id, SEALED), Err(AnswerError::NotWaiting));
        }
    }
}

#[test]
fn says_which_publish_the_broker_refused() {
    for (qos, kind) in [(Qos::AtLeastOnce, AckKind::Puback), (Qos::ExactlyOnce, AckKind::Pubrec)] {
        for code in [0x00, 0x10, 0x80, 0x97] {
            let mut rig = Rig::open(Version::V5);
            rig.client(&message(qos).encode(Version::V5).unwrap());
            let request = rig.request();
            rig.answer(|proxy| proxy.seal_done(request.id, SEALED));
            rig.clear();
            let answer = Ack { kind, packet_id: id(7), code, properties: Properties::new() };
            let answer = answer.encode(Version::V5).unwrap();
            rig.broker(&answer);
            assert_eq!(rig.to_client, answer, "the client is told in any case");
            let refused = (code >= 0x80).then(|| Output::PublishRejected { topic: topic("hsu/1"), code });
            assert_eq!(rig.take_events(), Vec::from_iter(refused), "{code:#04x}");
            // An identifier that nobody waits for says nothing of a topic.
            rig.broker(&answer);
            assert_eq!(rig.take_events(), []);
        }
    }
}

#[test]
fn opens_downward() {
    for version in VERSIONS {
        for qos in QOS {
            let mut rig = Rig::open(version);
            let mut sent = message(qos);
            sent.payload = SEALED;
            let inside: Properties = [
                Property::ContentType(text("text/plain")),
                Property::ResponseTopic(text("re")),
                Property::CorrelationData(Bytes::from_static(b"c")),
                Property::User(text("sealcast-sender"), text("forged")),
            ]
            .into_iter()
            .collect();
            if version == Version::V5 {
                sent.properties = [
                    Property::SubscriptionId(3),
                    Property::User(text("broker"), text("says")),
                    Property::ContentType(text("broker/made")),
                    Property::ResponseTopic(text("to/the/broker")),
                    Property::CorrelationData(Bytes::from_static(b"another")),
                ]
                .into_iter()
                .collect();
            }
            rig.broker(&sent.encode(version).unwrap());
            let delivery = rig.delivery();
            assert_eq!((delivery.topic.as_str(), delivery.qos, delivery.payload), ("hsu/1", qos, SEALED));
            rig.answer(|proxy| {
                let restored = inside.encode().unwrap();
                proxy.deliver(delivery.id, Bytes::from_static(b"21.5"), restored, &[("sealcast-sender", "1113")])
            });
            let down = parse(&rig.take_client(), version);
            assert_eq!(down.payload, "21.5");
            if version == Version::V5 {
                let expected = [
                    Property::SubscriptionId(3),
                    Property::ContentType(text("text/plain")),
                    Property::ResponseTopic(text("re")),
                    Property::CorrelationData(Bytes::from_static(b"c")),
                    Property::User(text("sealcast-sender"), text("1113")),
                ];
                assert_eq!(down.properties, expected.into_iter().collect());
            }
            assert!(rig.to_broker.is_empty(), "the client acknowledges, not the proxy");

            match qos {
                Qos::AtMostOnce => {}
                Qos::AtLeastOnce => {
                    rig.client(&ack(AckKind::Puback, 7, version));
                    assert_eq!(rig.take_events(), [Output::Acked(delivery.id)]);
                }
                Qos::ExactlyOnce => {
                    rig.client(&ack(AckKind::Pubrec, 7, version));
                    assert_eq!(rig.take_events(), [Output::Acked(delivery.id)], "it has the message");
                    assert_eq!(rig.proxy.session().received, [id(7)].into());
                    rig.broker(&ack(AckKind::Pubrel, 7, version));
                    assert_eq!(rig.take_client()[0].packet(), PacketType::Pubrel);
                    rig.client(&ack(AckKind::Pubcomp, 7, version));
                    assert_eq!(rig.take_events(), [], "once only");
                }
            }
            let session = rig.proxy.session();
            assert!(session.delivered.is_empty() && session.received.is_empty());
        }
    }
}

/// What begins with `sealcast-` is the agent's to say; the rest may stay.
fn agents_and_others() -> (Properties, Properties) {
    let user = |name| Property::User(text(name), text("1113"));
    let all = [user("sealcast-sender"), user("a"), user("Sealcast-Verified"), user("sealcast"), user("sealcast-")];
    (all.into_iter().collect(), [user("a"), user("sealcast")].into_iter().collect())
}

#[test]
fn a_message_in_clear_says_nothing_in_the_agents_name() {
    let v = Version::V5;
    let (all, others) = agents_and_others();
    for qos in QOS {
        let mut rig = Rig::open(v);
        rig.broker(&Publish { properties: all.clone(), ..message(qos) }.encode(v).unwrap());
        let delivery = rig.delivery();
        rig.answer(|proxy| proxy.pass(delivery.id));
        assert_eq!(parse(&rig.take_client(), v), Publish { properties: others.clone(), ..message(qos) });
    }
}

#[test]
fn nobody_speaks_in_the_agents_name_from_inside_a_seal() {
    let v = Version::V5;
    let (all, others) = agents_and_others();
    let mut rig = Rig::open(v);
    rig.client(&Publish { properties: all.clone(), ..message(Qos::AtLeastOnce) }.encode(v).unwrap());
    let request = rig.request();
    assert_eq!(Properties::parse(request.sealed_properties, PropertySet::Sealed), Ok(others.clone()));
    rig.answer(|proxy| proxy.seal_done(request.id, SEALED));
    assert!(parse(&rig.take_broker(), v).properties.is_empty(), "nor beside it");

    let mut rig = Rig::fresh();
    let will = Will {
        topic: topic("hsu/1/lost"),
        payload: Bytes::from_static(b"gone"),
        qos: Qos::AtMostOnce,
        retain: false,
        properties: all.clone(),
    };
    rig.client(&Connect { will: Some(will), ..connect(v) }.encode().unwrap());
    let events = rig.take_events();
    let [Output::Connect(request)] = events.as_slice() else { panic!("{events:?}") };
    let sealed = request.will.clone().unwrap().sealed_properties;
    assert_eq!(Properties::parse(sealed, PropertySet::Sealed), Ok(others.clone()));

    // A member whose agent lets them through.
    let mut rig = Rig::open(v);
    rig.broker(&message(Qos::AtMostOnce).encode(v).unwrap());
    let delivery = rig.delivery();
    rig.answer(|proxy| proxy.deliver(delivery.id, SEALED, all.encode().unwrap(), &[]));
    assert_eq!(parse(&rig.take_client(), v).properties, others);
}

#[test]
fn the_broker_cannot_add_a_response_topic() {
    let v = Version::V5;
    let mut rig = Rig::open(v);
    let added = [Property::ResponseTopic(text("to/me")), Property::CorrelationData(Bytes::from_static(b"x"))];
    let sent = Publish { properties: added.into_iter().collect(), ..message(Qos::AtMostOnce) };
    rig.broker(&sent.encode(v).unwrap());
    let delivery = rig.delivery();
    rig.answer(|proxy| proxy.deliver(delivery.id, Bytes::from_static(b"21.5"), Bytes::new(), &[]));
    assert!(parse(&rig.take_client(), v).properties.is_empty());
}

#[test]
fn malformed_sealed_properties_leave_the_delivery_waiting() {
    let mut rig = Rig::open(Version::V5);
    rig.broker(&message(Qos::AtLeastOnce).encode(Version::V5).unwrap());
    let delivery = rig.delivery();
    let alias = Bytes::from_static(&[0x23, 0, 1]);
    assert_eq!(
        rig.proxy.deliver(delivery.id, Bytes::new(), alias, &[]),
        Err(AnswerError::Properties(ParseError::MisplacedProperty(0x23)))
    );
    let wildcard = Bytes::from_static(&[0x08, 0, 1, b'#']);
    assert_eq!(
        rig.proxy.deliver(delivery.id, Bytes::new(), wildcard, &[]),
        Err(AnswerError::Properties(ParseError::PropertyValue(0x08)))
    );
    rig.answer(|proxy| proxy.swallow(delivery.id));
    assert_eq!(rig.to_broker, ack(AckKind::Puback, 7, Version::V5));
}

#[test]
fn refuses_upward_in_mqtt_5() {
    for (qos, kind) in [(Qos::AtLeastOnce, AckKind::Puback), (Qos::ExactlyOnce, AckKind::Pubrec)] {
        for problem_info in [0, 1] {
            let asked = [Property::RequestProblemInfo(problem_info)];
            let mut rig = Rig::resumed(Version::V5, SessionState::default(), &asked, &[]);
            rig.client(&message(qos).encode(Version::V5).unwrap());
            let request = rig.request();
            rig.answer(|proxy| proxy.refuse(request.id, refusal()));
            let answer = Ack::parse(&rig.take_client()[0], Version::V5).unwrap();
            assert_eq!((answer.kind, answer.packet_id, answer.code), (kind, id(7), 0x87));
            let reason = Property::ReasonString(text("hsu/1 belongs to no group"));
            assert_eq!(answer.properties, (problem_info == 1).then_some(reason).into_iter().collect());
            assert!(rig.to_broker.is_empty());
            assert!(!rig.proxy.is_closed());
        }
    }
}

#[test]
fn refuses_upward_in_mqtt_3_by_closing() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut rig = Rig::open(Version::V311);
        rig.client(&message(qos).encode(Version::V311).unwrap());
        let request = rig.request();
        rig.answer(|proxy| proxy.refuse(request.id, refusal()));
        let reason = "hsu/1 belongs to no group".into();
        assert_eq!(rig.take_events(), [Output::Closed(CloseReason::PublishRefused { topic: topic("hsu/1"), reason })]);
        assert!(rig.to_client.is_empty() && rig.to_broker.is_empty());
    }
}

#[test]
fn refuses_qos_0_in_silence_unless_told() {
    for version in VERSIONS {
        let mut rig = Rig::open(version);
        rig.client(&message(Qos::AtMostOnce).encode(version).unwrap());
        let request = rig.request();
        rig.answer(|proxy| proxy.refuse(request.id, refusal()));
        assert!(rig.to_client.is_empty() && rig.to_broker.is_empty() && !rig.proxy.is_closed());
        assert_eq!(rig.proxy.counters().publish_dropped, 1);

        rig.client(&message(Qos::AtMostOnce).encode(version).unwrap());
        let request = rig.request();
        rig.answer(|proxy| proxy.refuse(request.id, PublishRefusal { disconnect: true, ..refusal() }));
        assert!(rig.proxy.is_closed());
        if version == Version::V5 {
            assert_eq!(Disconnect::parse(&rig.take_client()[0], version).unwrap().code, 0x87);
        } else {
            assert!(rig.to_client.is_empty());
        }
    }
}

#[test]
fn a_refused_qos_2_redelivery_frees_its_identifier_at_the_broker() {
    let v = Version::V5;
    let mut rig = Rig::open(v);
    let again = Publish { dup: true, ..message(Qos::ExactlyOnce) };
    rig.client(&again.encode(v).unwrap());
    let request = rig.request();
    rig.answer(|proxy| proxy.refuse(request.id, refusal()));
    assert_eq!(rig.to_broker, ack(AckKind::Pubrel, 7, v));
    rig.clear();
    rig.broker(&ack(AckKind::Pubcomp, 7, v));
    assert!(rig.to_client.is_empty(), "the client knows nothing of this PUBREL");
    rig.broker(&ack(AckKind::Pubcomp, 7, v));
    assert_eq!(rig.to_client, ack(AckKind::Pubcomp, 7, v), "but the next one is its own");
}

#[test]
fn swallows_downward() {
    for version in VERSIONS {
        for qos in QOS {
            let mut rig = Rig::open(version);
            rig.broker(&message(qos).encode(version).unwrap());
            let delivery = rig.delivery();
            rig.answer(|proxy| proxy.swallow(delivery.id));
            let expected = match qos {
                Qos::AtMostOnce => Bytes::new(),
                Qos::AtLeastOnce => ack(AckKind::Puback, 7, version),
                Qos::ExactlyOnce => ack(AckKind::Pubrec, 7, version),
            };
            assert_eq!(rig.to_broker, expected);
            rig.clear();
            if qos == Qos::ExactlyOnce {
                // The client's own identifier 7 goes on beside it.
                rig.client(&message(qos).encode(version).unwrap());
                let request = rig.request();
                rig.answer(|proxy| proxy.pass_clear(request.id));
                rig.broker(&ack(AckKind::Pubrec, 7, version));
                assert_eq!(rig.take_client()[0].packet(), PacketType::Pubrec);
                rig.client(&ack(AckKind::Pubrel, 7, version));
                rig.broker(&ack(AckKind::Pubcomp, 7, version));
                assert_eq!(rig.take_client()[0].packet(), PacketType::Pubcomp);
                rig.clear();
                rig.broker(&ack(AckKind::Pubrel, 7, version));
                assert_eq!(rig.to_broker, ack(AckKind::Pubcomp, 7, version));
                assert!(rig.proxy.session().swallowed.is_empty());
            }
            assert!(rig.to_client.is_empty());
            assert_eq!(rig.proxy.counters().delivery_swallowed, 1);
        }
    }
}

#[test]
fn a_swallowed_message_can_be_delivered_on_the_next_connection() {
    for version in VERSIONS {
        let mut rig = Rig::open(version);
        rig.broker(&message(Qos::ExactlyOnce).encode(version).unwrap());
        let first = rig.delivery();
        rig.answer(|proxy| proxy.swallow(first.id));

        // PUBREC was lost: the broker sends again, and this time the key is there.
        let mut rig = Rig::resumed(version, rig.proxy.session().clone(), &[], &[]);
        rig.broker(&Publish { dup: true, ..message(Qos::ExactlyOnce) }.encode(version).unwrap());
        let second = rig.delivery();
        assert!(second.dup && second.redelivery_of.is_none() && second.id > first.id);
        rig.answer(|proxy| proxy.deliver(second.id, Bytes::from_static(b"21.5"), Bytes::new(), &[]));
        assert_eq!(parse(&rig.take_client(), version).payload, "21.5");
        rig.client(&ack(AckKind::Pubrec, 7, version)).broker(&ack(AckKind::Pubrel, 7, version));
        assert_eq!(rig.take_client()[0].packet(), PacketType::Pubrel);
        assert_eq!(rig.take_events(), [Output::Acked(second.id)]);
        rig.client(&ack(AckKind::Pubcomp, 7, version));
        assert!(rig.proxy.session().received.is_empty());
    }
}

#[test]
fn a_swallowed_release_on_the_next_connection_is_answered_here() {
    let v = Version::V311;
    let mut rig = Rig::open(v);
    rig.broker(&message(Qos::ExactlyOnce).encode(v).unwrap());
    let delivery = rig.delivery();
    rig.answer(|proxy| proxy.swallow(delivery.id));
    let mut rig = Rig::resumed(v, rig.proxy.session().clone(), &[], &[]);
    rig.broker(&ack(AckKind::Pubrel, 7, v));
    assert_eq!(rig.to_broker, ack(AckKind::Pubcomp, 7, v));
    assert!(rig.to_client.is_empty());
}

#[test]
fn a_redelivery_names_the_delivery_that_was_not_acknowledged() {
    let v = Version::V311;
    let mut rig = Rig::open(v);
    rig.broker(&message(Qos::ExactlyOnce).encode(v).unwrap());
    let first = rig.delivery();
    rig.answer(|proxy| proxy.pass(first.id));
    let mut rig = Rig::resumed(v, rig.proxy.session().clone(), &[], &[]);
    rig.broker(&Publish { dup: true, ..message(Qos::ExactlyOnce) }.encode(v).unwrap());
    let second = rig.delivery();
    assert_eq!(second.redelivery_of, Some(first.id));
    // Swallowed now, but the client had it before: it must still see PUBREL, or its identifier stays taken.
    rig.answer(|proxy| proxy.swallow(second.id));
    assert_eq!(rig.take_broker()[0].packet(), PacketType::Pubrec);
    rig.broker(&ack(AckKind::Pubrel, 7, v));
    assert_eq!(rig.to_client, ack(AckKind::Pubrel, 7, v));
    rig.client(&ack(AckKind::Pubcomp, 7, v));
    assert_eq!(rig.take_events(), [Output::Acked(first.id)]);
}

#[test]
fn a_broker_that_never_releases_cannot_make_a_message_new_again() {
    for v in VERSIONS {
        let mut rig = Rig::open(v);
        rig.broker(&message(Qos::ExactlyOnce).encode(v).unwrap());
        let first = rig.delivery();
        rig.answer(|proxy| proxy.deliver(first.id, Bytes::from_static(b"21.5"), Bytes::new(), &[]));
        rig.client(&ack(AckKind::Pubrec, 7, v));
        assert_eq!(rig.take_events(), [Output::Acked(first.id)], "so the driver knows it under whatever identifier");
        rig.clear();

        // PUBREC was lost, or the broker says so: the driver finds the message acknowledged and withholds it.
        let mut rig = Rig::resumed(v, rig.proxy.session().clone(), &[], &[]);
        rig.broker(&Publish { dup: true, ..message(Qos::ExactlyOnce) }.encode(v).unwrap());
        let second = rig.delivery();
        assert_eq!(second.redelivery_of, None);
        rig.answer(|proxy| proxy.swallow(second.id));
        assert_eq!(rig.take_broker()[0].packet(), PacketType::Pubrec);
        // The client still waits for PUBREL, and answers it itself.
        rig.broker(&ack(AckKind::Pubrel, 7, v));
        assert_eq!(rig.take_client()[0].packet(), PacketType::Pubrel);
        rig.client(&ack(AckKind::Pubcomp, 7, v));
        assert_eq!((rig.take_events(), rig.proxy.session().received.len()), (vec![], 0));
    }
}

#[test]
fn a_pubrec_that_refuses_ends_a_delivery() {
    let v = Version::V5;
    let mut rig = Rig::open(v);
    rig.broker(&message(Qos::ExactlyOnce).encode(v).unwrap());
    let delivery = rig.delivery();
    rig.answer(|proxy| proxy.pass(delivery.id));
    rig.client(&Ack { code: 0x83, ..Ack::success(AckKind::Pubrec, id(7)) }.encode(v).unwrap());
    assert_eq!(rig.take_events(), [Output::Acked(delivery.id)]);
    assert_eq!((rig.proxy.session().delivered.len(), rig.proxy.session().received.len()), (0, 0));
}

#[test]
fn a_new_session_forgets_the_old_one() {
    let v = Version::V5;
    let old = SessionState {
        swallowed: [id(7)].into(),
        received: [id(8)].into(),
        next_delivery: 40,
        ..SessionState::default()
    };
    let mut rig = Rig::fresh();
    rig.client(&connect(v).encode().unwrap());
    rig.proxy.accept(WillAnswer::AsIs, old).unwrap();
    let connack = Connack { session_present: false, code: 0, properties: Properties::new() };
    rig.broker(&connack.encode(v).unwrap());
    assert_eq!(rig.proxy.session(), &SessionState { next_delivery: 40, ..SessionState::default() });
}

#[test]
fn order_is_kept_and_answers_may_come_in_any_order() {
    let v = Version::V311;
    let mut rig = Rig::open(v);
    let mut stream = Vec::new();
    for packet_id in 1..=3 {
        stream.extend(Publish { packet_id: Some(id(packet_id)), ..message(Qos::AtLeastOnce) }.encode(v).unwrap());
    }
    let subscribe = [0x82, 6, 0, 9, 0, 1, b'a', 0];
    stream.extend(subscribe);
    rig.client(&stream);
    let ids: Vec<_> = rig
        .take_events()
        .into_iter()
        .map(|event| if let Output::Publish(request) = event { request.id } else { panic!("{event:?}") })
        .collect();
    // Pings and acknowledgements overtake.
    rig.client(&[0xC0, 0]).client(&ack(AckKind::Puback, 30, v));
    assert_eq!(rig.to_broker, [&[0xC0, 0][..], &ack(AckKind::Puback, 30, v)].concat());
    rig.clear();
    rig.answer(|proxy| proxy.pass_clear(ids[2]));
    rig.answer(|proxy| proxy.pass_clear(ids[1]));
    assert!(rig.to_broker.is_empty());
    rig.answer(|proxy| proxy.pass_clear(ids[0]));
    assert_eq!(rig.to_broker, stream);
}

#[test]
fn aliases_upward_survive_a_refusal() {
    let v = Version::V5;
    let mut rig = Rig::resumed(v, SessionState::default(), &[], &[Property::TopicAliasMaximum(5)]);
    let alias: Properties = [Property::TopicAlias(3)].into_iter().collect();
    let sets = Publish { properties: alias.clone(), ..message(Qos::AtMostOnce) };
    let uses = Publish { topic: None, ..sets.clone() };
    rig.client(&sets.encode(v).unwrap());
    let request = rig.request();
    rig.answer(|proxy| proxy.refuse(request.id, refusal()));

    // The broker never heard of alias 3, so the next one carries the topic; after that it knows it.
    for expected in [Some(topic("hsu/1")), None] {
        rig.client(&uses.encode(v).unwrap());
        let request = rig.request();
        assert_eq!(request.topic.as_str(), "hsu/1");
        rig.answer(|proxy| proxy.seal_done(request.id, SEALED));
        let up = parse(&rig.take_broker(), v);
        assert_eq!((up.topic, up.properties, up.payload), (expected, alias.clone(), SEALED));
    }

    let unknown = Publish { properties: [Property::TopicAlias(4)].into_iter().collect(), ..uses };
    rig.client(&unknown.encode(v).unwrap());
    assert_eq!(rig.take_events(), [Output::Closed(CloseReason::ClientMalformed(ParseError::Alias(4)))]);
    assert_eq!(Disconnect::parse(&rig.take_client()[0], v).unwrap().code, 0x94);
}

#[test]
fn aliases_downward_survive_a_swallow() {
    let v = Version::V5;
    let mut rig = Rig::resumed(v, SessionState::default(), &[Property::TopicAliasMaximum(5)], &[]);
    let alias: Properties = [Property::TopicAlias(3)].into_iter().collect();
    let sets = Publish { properties: alias.clone(), ..message(Qos::AtMostOnce) };
    let uses = Publish { topic: None, ..sets.clone() };
    rig.broker(&sets.encode(v).unwrap());
    let delivery = rig.delivery();
    rig.answer(|proxy| proxy.swallow(delivery.id));
    for expected in [Some(topic("hsu/1")), None] {
        rig.broker(&uses.encode(v).unwrap());
        let delivery = rig.delivery();
        assert_eq!(delivery.topic.as_str(), "hsu/1");
        rig.answer(|proxy| proxy.pass(delivery.id));
        assert_eq!(parse(&rig.take_client(), v).topic, expected);
    }
}

#[test]
fn seals_the_will() {
    for version in VERSIONS {
        let mut sent = connect(version);
        let kept = Property::WillDelay(5);
        let moved = Property::User(text("a"), text("b"));
        let v5 = version == Version::V5;
        sent.will = Some(Will {
            topic: topic("hsu/1/lost"),
            payload: Bytes::from_static(b"gone"),
            qos: Qos::AtLeastOnce,
            retain: true,
            properties: if v5 { [kept.clone(), moved.clone()].into_iter().collect() } else { Properties::new() },
        });
        sent.username = Some(text("u"));
        sent.password = Some(Bytes::from_static(b"p"));
        let mut rig = Rig::fresh();
        rig.client(&sent.encode().unwrap());
        let events = rig.take_events();
        let [Output::Connect(request)] = events.as_slice() else { panic!("{events:?}") };
        let will = request.will.clone().unwrap();
        assert_eq!((will.topic.as_str(), &will.payload[..], will.retain), ("hsu/1/lost", &b"gone"[..], true));
        assert_eq!((request.client_id.as_str(), request.clean_start, request.keep_alive_s), ("pump-7", false, 60));
        assert_eq!(request.session_expiry_s, if v5 { 0 } else { u32::MAX });
        assert_eq!(will.sealed_properties.is_empty(), !v5);
        rig.answer(|proxy| proxy.accept(WillAnswer::Sealed(SEALED), SessionState::default()));

        let up = Connect::parse(&rig.take_broker()[0]).unwrap();
        let will = up.will.unwrap();
        assert_eq!((will.payload, will.qos, will.retain), (SEALED, Qos::AtLeastOnce, true));
        assert_eq!(will.properties, v5.then_some(kept).into_iter().collect());
        assert_eq!((up.username, up.password), (sent.username, sent.password));
    }
}

#[test]
fn refuses_connect() {
    for (version, code) in [(Version::V311, 5), (Version::V5, 0x87)] {
        let mut rig = Rig::fresh();
        rig.client(&connect(version).encode().unwrap());
        assert_eq!(
            rig.proxy.accept(WillAnswer::Sealed(SEALED), SessionState::default()),
            Err(AnswerError::Will("it has no will".into()))
        );
        rig.answer(|proxy| proxy.refuse_connect(ConnectCode::NotAuthorized, "this device is revoked"));
        let connack = Connack::parse(&rig.take_client()[0], version).unwrap();
        assert_eq!(connack.code, code);
        assert_eq!(connack.properties.is_empty(), version == Version::V311);
        assert!(rig.to_broker.is_empty() && rig.proxy.is_closed());
    }
}

#[test]
fn what_comes_before_the_end_is_still_sent() {
    for version in VERSIONS {
        // CONNECT, PUBLISH, DISCONNECT in one go, and the client is gone before anybody answers.
        let mut rig = Rig::fresh();
        let publish = message(Qos::AtMostOnce).encode(version).unwrap();
        rig.client(&[&connect(version).encode().unwrap()[..], &publish, &[0xE0, 0]].concat());
        rig.proxy.handle_client_eof();
        rig.run().take_events();
        rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default()));
        rig.broker(
            &Connack { session_present: false, code: 0, properties: Properties::new() }.encode(version).unwrap(),
        );
        let events = rig.take_events();
        let [Output::Connected(_), Output::Publish(request)] = events.as_slice() else { panic!("{events:?}") };
        rig.clear();
        rig.answer(|proxy| proxy.pass_clear(request.id));
        assert_eq!(rig.to_broker, [&publish[..], &[0xE0, 0]].concat());
        assert_eq!(rig.take_events(), [Output::Closed(CloseReason::ClientDisconnect)]);
    }
}

#[test]
fn ends() {
    let v = Version::V5;
    let mut rig = Rig::open(v);
    rig.proxy.handle_client_eof();
    assert_eq!(rig.run().take_events(), [Output::Closed(CloseReason::ClientEof)]);

    let mut rig = Rig::open(v);
    rig.broker(&message(Qos::AtMostOnce).encode(v).unwrap());
    let delivery = rig.delivery();
    rig.proxy.handle_broker_eof();
    assert_eq!(rig.run().take_events(), [], "a delivery is still waiting");
    rig.answer(|proxy| proxy.pass(delivery.id));
    assert_eq!(rig.take_client().len(), 1);
    assert_eq!(rig.take_events(), [Output::Closed(CloseReason::BrokerEof)]);

    let mut rig = Rig::open(v);
    rig.broker(&[0xE0, 1, 0x8B]);
    assert_eq!(rig.to_client, [0xE0, 1, 0x8B]);
    assert_eq!(rig.take_events(), [Output::Closed(CloseReason::BrokerDisconnect { code: 0x8B })]);
}
