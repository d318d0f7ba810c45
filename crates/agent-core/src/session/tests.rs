//! What leaves an agent, and what had to be on disk before.

mod annotating;
mod batches;
mod copies;
mod deleting;
mod delivering;
mod login;
mod publishing;
mod rig;
mod series;
mod subscribing;

use std::sync::Arc;

use bytes::BytesMut;
use sealcast_mqtt::{Disconnect, Packet, Properties, Qos, TopicName, Will};

use self::rig::{Disk, Fleet, Rig, publish};
use crate::{
    ByFilter,
    session::{Session, Write},
};

fn will(payload: &'static str) -> Will {
    Will {
        topic: TopicName::new("plant/pump/state").unwrap(),
        payload: payload.into(),
        qos: Qos::AtLeastOnce,
        retain: true,
        properties: Properties::new(),
    }
}

#[test]
fn the_broker_hears_of_a_client_when_its_will_is_sealed() {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    rig.connect(Some(will("away")));
    assert_eq!(rig.log, ["broker: CONNECT", "disk: client", "client: CONNACK"]);
    let Some(Packet::Connect(connect)) = rig.to_broker.first() else { panic!("{:?}", rig.to_broker) };
    let sealed = &connect.will.as_ref().unwrap().payload;
    assert!(!sealed.windows(4).any(|part| part == b"away"));
}

#[test]
fn a_retained_will_is_kept_to_be_sealed_again_unless_the_client_takes_leave() {
    let fleet = Fleet::new();
    let kept = |end: &dyn Fn(&mut Rig)| {
        let mut rig = Rig::new(&fleet, 0);
        rig.connect(Some(will("away")));
        end(&mut rig);
        assert!(rig.closed.is_some());
        rig.written.iter().any(|write| matches!(write, Write::Retained(kept) if kept.payload.as_slice() == b"away"))
    };
    assert!(kept(&|rig| {
        rig.session.handle_client_eof();
        rig.run();
    }));
    assert!(!kept(&|rig| rig.client(&Packet::Disconnect(Disconnect::default()))));
}

#[test]
fn without_connect_the_connection_ends() {
    let mut rig = Rig::new(&Fleet::new(), 0);
    assert_eq!(rig.session.poll_timeout(rig.now, 1), Some(rig.now.run_ms + 10_000));
    rig.wait(9_999);
    assert_eq!(rig.closed, None);
    rig.wait(1);
    assert_eq!(rig.closed.as_deref(), Some("no CONNECT in time"));
}

#[test]
fn an_agent_that_ends_lets_what_its_client_has_sent_go_out_first() {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    rig.connect(None);
    rig.session.handle_client(&{
        let mut bytes = BytesMut::new();
        Packet::Publish(publish("plant/t", Qos::AtLeastOnce, false, b"21")).put(rig.version, &mut bytes).unwrap();
        bytes
    });
    rig.session.handle_shutdown(rig.now);
    rig.run();
    assert_eq!((rig.published().len(), rig.closed.is_some()), (1, true));
    // A key is waited for no longer than the agent may take.
    let mut rig = Rig::with_rules(fleet.without_keys(0), Arc::default(), ByFilter::default());
    rig.connect(None);
    rig.publish("plant/t", Qos::AtLeastOnce, false, "21");
    rig.session.handle_shutdown(rig.now);
    rig.wait(1_999);
    assert_eq!(rig.closed, None);
    rig.wait(1);
    assert!(rig.closed.is_some());
}

#[test]
fn what_is_remembered_of_a_client_is_kept_in_memory_if_the_last_write_fails() {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    rig.connect(None);
    rig.disk = Disk::Fails;
    rig.session.handle_client_eof();
    rig.run();
    assert!(rig.closed.is_some());
    let next = Session::new(rig::settings(), rig.values.rules(), rig.now);
    let (_, keep) = std::mem::replace(&mut rig.session, next).into_memory().unwrap();
    assert!(keep);
}

/// CONNECT and what is no packet of MQTT in one segment.
#[test]
fn a_client_that_breaks_the_rules_right_after_connect_is_let_go() {
    let mut rig = Rig::new(&Fleet::new(), 0);
    let mut bytes = BytesMut::new();
    Packet::Connect(Box::new(rig.connect_packet(None))).put(rig.version, &mut bytes).unwrap();
    // Packet type 0 is forbidden.
    bytes.extend_from_slice(&[0x00, 0x00]);
    rig.session.handle_client(&bytes);
    rig.run();
    assert!(rig.closed.is_some() && rig.memory.is_some(), "nothing was opened for it: {:?}", rig.log);
}

/// The client goes while CONNECT waits for the will's key, and the key comes before the session is polled.
#[test]
fn a_client_that_goes_as_its_wills_key_comes_is_let_go() {
    let fleet = Fleet::new();
    let mut rig = Rig::with_rules(fleet.without_keys(0), Arc::default(), ByFilter::default());
    let connect = Packet::Connect(Box::new(rig.connect_packet(Some(will("away")))));
    rig.client(&connect);
    assert!(rig.session.is_waiting() && rig.closed.is_none());
    fleet.insert_keys(&mut rig.keyring, 0);
    rig.session.handle_client_eof();
    rig.run();
    assert!(rig.closed.is_some() && rig.memory.is_some(), "nothing was opened for it: {:?}", rig.log);
}
