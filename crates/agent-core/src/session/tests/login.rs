//! A listener that asks for a user name and password.

use bytes::Bytes;
use sealcast_mqtt::{Connack, Connect, Packet, Qos, Text, Version, Will};

use super::{
    rig::{Fleet, Rig, publish, settings},
    will,
};
use crate::session::{Session, Settings};

fn rig(version: Version) -> Rig {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    rig.version = version;
    rig.session = Session::new(Settings { login: true, ..settings() }, rig.values.rules(), rig.now);
    rig
}

fn connect(rig: &Rig, password: &'static str, will: Option<Will>) -> Packet {
    let username = Some(Text::new("app").unwrap());
    let password = Some(Bytes::from_static(password.as_bytes()));
    Packet::Connect(Box::new(Connect { username, password, ..rig.connect_packet(will) }))
}

#[test]
fn the_right_one_is_let_in_and_the_broker_does_not_hear_of_it() {
    let mut rig = rig(Version::V5);
    let connect = connect(&rig, "right", None);
    rig.client(&connect);
    assert_eq!(rig.log, ["login", "broker: CONNECT"]);
    let [Packet::Connect(up)] = &rig.to_broker[..] else { panic!("{:?}", rig.to_broker) };
    assert_eq!((&up.username, &up.password), (&None, &None));
}

#[test]
fn a_wrong_one_is_refused_before_anything_else_is_done() {
    for (version, code) in [(Version::V311, 4), (Version::V5, 0x86)] {
        let mut rig = rig(version);
        let connect = connect(&rig, "wrong", Some(will("away")));
        rig.client(&connect);
        assert_eq!(rig.log, ["login", "client: CONNACK"]);
        assert!(matches!(&rig.to_client[..], [Packet::Connack(Connack { code: told, .. })] if *told == code));
        assert!(rig.closed.is_some() && rig.written.is_empty());
    }
}

#[test]
fn a_check_that_takes_long_takes_nothing_from_the_clients_other_patience() {
    for (password, expected) in [("right", "broker: CONNECT"), ("wrong", "client: CONNACK")] {
        let mut rig = rig(Version::V5);
        rig.login_ms = 60_000;
        let connect = connect(&rig, password, Some(will("away")));
        rig.client(&connect);
        assert_eq!(rig.log, ["login", expected]);
    }
}

#[test]
fn nothing_that_comes_behind_connect_is_looked_at_before() {
    let mut rig = rig(Version::V5);
    let publish = Packet::Publish(publish("clear/a", Qos::AtMostOnce, false, b"x"));
    let connect = connect(&rig, "wrong", None);
    rig.client_at_once([connect, publish]);
    assert_eq!(rig.log, ["login", "client: CONNACK"]);
}
