//! Clients of MQTT 3.1, for which the broker is spoken to in MQTT 3.1.1.

use sealcast_mqtt::*;

use crate::harness::*;

const V: Version = Version::V31;

fn open() -> Rig {
    let mut rig = Rig::fresh();
    rig.client(&connect(V).encode().unwrap());
    rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default())).broker(&[0x20, 2, 0, 0]).clear();
    rig
}

#[test]
fn connect_and_connack_are_translated() {
    let mut rig = Rig::fresh();
    let mut sent = connect(V);
    sent.username = Some(text("app"));
    rig.client(&sent.encode().unwrap());
    let events = rig.take_events();
    assert!(matches!(&events[..], [Output::Connect(request)] if request.version == Version::V311), "{events:?}");
    rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default()));
    assert_eq!(Connect::parse(&rig.take_broker()[0]).unwrap(), Connect { version: Version::V311, ..sent });
    // The broker still has the session: its deliveries go on, and the client, whose version has no word for it, is told none.
    rig.broker(&[0x20, 2, 1, 0]);
    assert_eq!(rig.to_client, [0x20, 2, 0, 0]);
    assert!(
        matches!(&rig.events[..], [Output::Connected(Connected { session_present: true, .. })]),
        "{:?}",
        rig.events
    );
}

#[test]
fn a_refusal_of_the_broker_has_the_same_code() {
    for code in 1..=5 {
        let mut rig = Rig::fresh();
        rig.client(&connect(V).encode().unwrap());
        rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default())).broker(&[0x20, 2, 0, code]);
        assert_eq!(rig.to_client, [0x20, 2, 0, code]);
    }
}

#[test]
fn a_client_without_an_identifier_is_refused() {
    let mut rig = Rig::fresh();
    let nameless = Connect { client_id: text(""), clean_start: true, ..connect(V) };
    rig.client(&nameless.encode().unwrap());
    assert_eq!(rig.to_client, [0x20, 2, 0, 2]);
    assert!(matches!(&rig.events[..], [Output::Closed(CloseReason::ConnectRefused { .. })]), "{:?}", rig.events);
}

#[test]
fn a_user_name_may_be_missing_although_its_flag_is_set() {
    let connect = [&[0x10, 15, 0, 6][..], b"MQIsdp", &[3, 0xC2, 0, 60, 0, 1, b'a']].concat();
    let frame = Frame::from_bytes(connect.into()).unwrap();
    let parsed = Connect::parse(&frame).unwrap();
    assert_eq!((parsed.username, parsed.password), (None, None));
    let later = [&[0x10, 13, 0, 4][..], b"MQTT", &[4, 0xC2, 0, 60, 0, 1, b'a']].concat();
    assert_eq!(Connect::parse(&Frame::from_bytes(later.into()).unwrap()), Err(ParseError::Truncated("user name")));
}

#[test]
fn dup_is_taken_off_where_mqtt_311_has_no_flags() {
    let mut rig = open();
    let subscribe = |first| vec![first, 6, 0, 1, 0, 1, b'a', 1];
    let unsubscribe = |first| vec![first, 5, 0, 2, 0, 1, b'a'];
    let pubrel = |first| vec![first, 2, 0, 1];
    rig.client(&[subscribe(0x8A), unsubscribe(0xAA), pubrel(0x6A)].concat());
    assert_eq!(rig.to_broker, [subscribe(0x82), unsubscribe(0xA2), pubrel(0x62)].concat());
    rig.clear();
    // In PUBLISH it means what it means in later versions.
    let publish = Publish { dup: true, ..message(Qos::AtLeastOnce) }.encode(Version::V311).unwrap();
    rig.client(&publish);
    let request = rig.request();
    assert!(request.dup);
    rig.answer(|proxy| proxy.pass_clear(request.id));
    assert_eq!(rig.to_broker, publish);
    // A client of a later version may not.
    let mut later = Rig::open(Version::V311);
    later.client(&subscribe(0x8A));
    assert!(matches!(&later.events[..], [Output::Closed(CloseReason::ClientMalformed(_))]), "{:?}", later.events);
}

#[test]
fn a_filter_that_is_refused_is_granted_and_told_to_a_person() {
    let mut rig = open();
    // `b#` is refused here, `c` by the broker.
    let filters = [&[0x82, 15, 0, 7][..], &[0, 1, b'a', 2], &[0, 2, b'b', b'#', 1], &[0, 1, b'c', 1]].concat();
    rig.client(&filters);
    rig.broker(&[0x90, 4, 0, 7, 2, 0x80]);
    assert_eq!(rig.to_client, [0x90, 5, 0, 7, 2, 0, 0]);
    let told = rig.take_events();
    let told = told.iter().filter_map(|event| match event {
        Output::FilterUnfit { filter, .. } => Some(&**filter),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), ["b#", "c"]);
    // All are refused here: nothing goes up.
    rig.clear();
    rig.client(&[0x82, 7, 0, 8, 0, 2, b'b', b'#', 1]);
    assert!(rig.to_broker.is_empty());
    assert_eq!(rig.to_client, [0x90, 3, 0, 8, 0]);
}

#[test]
fn a_message_that_is_refused_is_not_acknowledged() {
    let mut rig = open();
    rig.client(&message(Qos::AtLeastOnce).encode(Version::V311).unwrap());
    let request = rig.request();
    let reason = "no key".to_owned();
    let refusal = PublishRefusal { code: RefuseCode::NotAuthorized, reason, disconnect: true };
    rig.answer(|proxy| proxy.refuse(request.id, refusal));
    assert!(rig.to_client.is_empty() && rig.to_broker.is_empty() && rig.proxy.is_closed());
}
