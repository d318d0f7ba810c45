//! Copies of a message for each of a client's filters, as some brokers send them.

use bytes::Bytes;
use sealcast_mqtt::{
    Ack, AckKind, Packet, PacketId, Properties, Publish, Qos, SessionState, Suback, Subscribe, SubscriptionOptions,
    Text, Unsuback, Unsubscribe,
};

use super::{
    delivering::{delivery, pair, seal},
    rig::Rig,
};
use crate::{
    session::{ClientEvent, Memory, Refused, Write},
    testing::START_MS,
};

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

pub fn subscribe(rig: &mut Rig, filters: &[&str]) {
    let options = SubscriptionOptions::new(Qos::AtLeastOnce);
    let asked = filters.iter().map(|filter| (Text::new(filter).unwrap(), options)).collect();
    rig.client(&Packet::Subscribe(Subscribe { packet_id: id(1), properties: Properties::new(), filters: asked }));
    let codes = Bytes::from(vec![1; filters.len()]);
    rig.broker(&Packet::Suback(Suback { packet_id: id(1), properties: Properties::new(), codes }));
}

fn copy(frame: &[u8], qos: Qos, number: u16) -> Publish {
    Publish { qos, packet_id: (qos != Qos::AtMostOnce).then(|| id(number)), ..delivery(frame) }
}

fn acknowledge(rig: &mut Rig, number: u16) {
    rig.client(&Packet::Ack(Ack::success(AckKind::Puback, id(number))));
}

fn refused(rig: &Rig) -> usize {
    rig.told.iter().filter(|event| matches!(event, ClientEvent { what: Refused::Delivery { .. }, .. })).count()
}

#[test]
fn a_message_comes_once_for_each_filter_that_matches_and_at_its_quality_of_service() {
    let (_fleet, mut rig, mut sender) = pair();
    subscribe(&mut rig, &["plant/+", "plant/#", "$share/g/plant/t", "other"]);
    let frame = seal(&mut sender, b"21", START_MS);
    for (number, qos) in [(1, Qos::AtMostOnce), (2, Qos::AtLeastOnce), (3, Qos::AtLeastOnce)] {
        rig.broker(&Packet::Publish(copy(&frame, qos, number)));
    }
    assert_eq!((rig.delivered().len(), refused(&rig)), (3, 0));
    // Whatever else comes of it is a replay.
    for dup in [false, true] {
        rig.broker(&Packet::Publish(Publish { dup, ..copy(&frame, Qos::AtLeastOnce, 4) }));
    }
    acknowledge(&mut rig, 2);
    acknowledge(&mut rig, 3);
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        rig.broker(&Packet::Publish(copy(&frame, qos, 5)));
    }
    // The second try was let pass: two copies were not acknowledged.
    assert_eq!((rig.delivered().len(), refused(&rig)), (4, 3));
}

#[test]
fn a_broker_that_sends_one_copy_and_a_client_with_one_filter_change_nothing() {
    let (_fleet, mut rig, mut sender) = pair();
    subscribe(&mut rig, &["plant/+"]);
    let frame = seal(&mut sender, b"21", START_MS);
    for _ in 0..2 {
        rig.broker(&Packet::Publish(copy(&frame, Qos::AtMostOnce, 0)));
    }
    assert_eq!((rig.delivered().len(), refused(&rig)), (1, 1));
}

#[test]
fn a_filter_that_has_ended_brings_no_copy() {
    let (_fleet, mut rig, mut sender) = pair();
    subscribe(&mut rig, &["plant/+", "plant/#"]);
    let filters = vec![Text::new("plant/+").unwrap()];
    rig.client(&Packet::Unsubscribe(Unsubscribe { packet_id: id(2), properties: Properties::new(), filters }));
    let codes = Bytes::from(vec![0]);
    rig.broker(&Packet::Unsuback(Unsuback { packet_id: id(2), properties: Properties::new(), codes }));
    let frame = seal(&mut sender, b"21", START_MS);
    for number in [1, 2] {
        rig.broker(&Packet::Publish(copy(&frame, Qos::AtLeastOnce, number)));
    }
    assert_eq!((rig.delivered().len(), refused(&rig)), (1, 1));
}

#[test]
fn the_copy_that_the_client_has_not_acknowledged_comes_again() {
    let (_fleet, mut rig, mut sender) = pair();
    subscribe(&mut rig, &["plant/+", "plant/#"]);
    let frame = seal(&mut sender, b"21", START_MS);
    rig.broker(&Packet::Publish(copy(&frame, Qos::AtLeastOnce, 1)));
    rig.broker(&Packet::Publish(copy(&frame, Qos::AtLeastOnce, 2)));
    acknowledge(&mut rig, 1);
    rig.reconnect(true);
    let again = Packet::Publish(Publish { dup: true, ..copy(&frame, Qos::AtLeastOnce, 2) });
    rig.broker(&again);
    assert_eq!(rig.delivered().len(), 1);
    rig.broker(&again);
    assert_eq!((rig.delivered().len(), refused(&rig)), (1, 1), "once on a connection");
    acknowledge(&mut rig, 2);
    rig.broker(&again);
    assert_eq!((rig.delivered().len(), refused(&rig)), (1, 2), "it has it");
}

#[test]
fn a_broker_that_changes_identifiers_does_not_send_the_same_again_and_again() {
    let (_fleet, mut rig, mut sender) = pair();
    let frame = seal(&mut sender, b"21", START_MS);
    rig.broker(&Packet::Publish(copy(&frame, Qos::AtLeastOnce, 1)));
    for number in 2..6 {
        rig.broker(&Packet::Publish(Publish { dup: true, ..copy(&frame, Qos::AtLeastOnce, number) }));
    }
    assert_eq!((rig.delivered().len(), refused(&rig)), (2, 3));
}

#[test]
fn what_a_client_is_subscribed_to_is_on_disk_before_it_is_told_so_and_outlives_a_restart() {
    let (fleet, mut rig, mut sender) = pair();
    subscribe(&mut rig, &["plant/+", "plant/#"]);
    assert_eq!(rig.log, ["broker: other", "disk: client", "disk: subscriptions", "client: other"]);
    let written = rig.written.iter().rev().find_map(|write| match write {
        Write::Subscriptions { filters, .. } => Some(filters),
        _ => None,
    });
    let mqtt = SessionState { subscriptions: written.unwrap().iter().collect(), ..SessionState::default() };
    let mut next = Rig::new(&fleet, 1);
    next.memory = Some(Memory { mqtt, seen_ms: Some(START_MS), ..Memory::default() });
    next.connect_again(None, true);
    let frame = seal(&mut sender, b"21", START_MS);
    for number in [1, 2, 3] {
        next.broker(&Packet::Publish(copy(&frame, Qos::AtLeastOnce, number)));
    }
    assert_eq!((next.delivered().len(), refused(&next)), (2, 1));

    // A session that the broker has not kept has none.
    next.log.clear();
    next.reconnect(false);
    assert!(matches!(next.written.last(), Some(Write::Subscriptions { filters, .. }) if filters.is_empty()));
}
