//! What comes in one read: sealed under one signature, written in one transaction, and each message in its own right.

use std::sync::Arc;

use bytes::Bytes;
use sealcast_ledger::GroupNumber;
use sealcast_mqtt::{Ack, AckKind, Connack, Packet, PacketId, Property, Publish, Qos, TopicName, Version, reason};
use sealcast_quality::{RuleSet, TopicSpec};
use sealcast_reading::{Decoder, InputConfig, PlainConfig};
use sealcast_seal::{HandOver, MAX_BATCH, Opener};

use super::rig::{Disk, Fleet, Rig, encode};
use crate::{
    Arrival, ByFilter, Keyring, MAX_RETAINED, Received, RecordTable, RetainedTopics,
    session::{ClientEvent, Refused, Write},
    testing::START_MS,
    values::ValueRules,
};

const PAYLOAD_BYTES: usize = 5;
/// What a message that is signed alone has more than its payload.
const ALONE: usize = 100;

/// What a message of a batch has more, with so many hashes in its path.
fn together(hashes: usize) -> usize {
    ALONE + 2 + 32 * hashes
}

fn payload(at: usize) -> String {
    format!("{at:0PAYLOAD_BYTES$}")
}

/// The message at this place; each has its packet identifier.
fn message(topic: &str, qos: Qos, retain: bool, at: usize) -> Packet {
    let packet_id = PacketId::new(u16::try_from(at + 1).unwrap()).filter(|_| qos != Qos::AtMostOnce);
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain,
        topic: Some(TopicName::new(topic).unwrap()),
        packet_id,
        properties: Default::default(),
        payload: payload(at).into(),
    })
}

fn live(at: usize) -> Packet {
    message("plant/t", Qos::AtMostOnce, false, at)
}

/// By how much each message to the broker is longer than what its client published: at most. A start that begins with zeros
/// is shorter.
fn added(rig: &Rig) -> Vec<usize> {
    added_to(rig, &[PAYLOAD_BYTES; MAX_BATCH + 1][..rig.published().len()])
}

/// The same of payloads with these lengths.
fn added_to(rig: &Rig, payload_bytes: &[usize]) -> Vec<usize> {
    let most: Vec<usize> = [0, ALONE].into_iter().chain((1..=8).map(together)).collect();
    let rounded = |added: usize| most.iter().copied().find(|most| (*most - most.min(&3)..=*most).contains(&added));
    let published = rig.published();
    assert_eq!(published.len(), payload_bytes.len());
    let each = published.iter().zip(payload_bytes);
    each.map(|((_, frame), payload)| rounded(frame.len() - payload).expect("an envelope's overhead")).collect()
}

/// What a member reads of what was published, in that order.
fn read(receiver: &Keyring, group: GroupNumber, rig: &Rig) -> Vec<Bytes> {
    let (mut opener, mut read) = (Opener::new(), Vec::new());
    for (topic, frame) in rig.published() {
        let arrival = Arrival { hand_over: HandOver::AtMostOnce, retain: false, away: None, copy: false };
        match receiver.open(&mut opener, group, topic, &frame, arrival, START_MS) {
            Ok(Received::Message(message)) => {
                opener.mark_delivered(&message.receipt());
                read.push(Bytes::copy_from_slice(message.payload()));
            }
            other => panic!("{other:?}"),
        }
    }
    read
}

fn rules(spec: &str) -> Arc<ValueRules> {
    let spec: TopicSpec = serde_json::from_str(spec).unwrap();
    let quality = Arc::new(RuleSet::new(vec![spec]).unwrap());
    Arc::new(ValueRules::new(quality, ByFilter::default(), ByFilter::default(), None))
}

fn connected(fleet: &Fleet) -> Rig {
    let mut rig = Rig::new(fleet, 0);
    rig.connect(None);
    rig
}

#[test]
fn messages_that_come_together_have_one_signature_and_one_that_is_alone_has_its_own() {
    let fleet = Fleet::new();
    let mut rig = connected(&fleet);
    rig.client_at_once([live(0)]);
    let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
    rig.client_at_once((1..=3).map(|at| message("plant/t", qos[at - 1], false, at)));
    rig.client_at_once([live(4)]);
    assert_eq!(added(&rig), [ALONE, together(2), together(2), together(1), ALONE]);
    assert_eq!(read(&fleet.keyring(1), fleet.group, &rig), (0..5).map(payload).collect::<Vec<_>>());
    assert!(rig.acknowledged().is_empty(), "the broker has not taken it");
}

#[test]
fn a_batch_is_full_at_some_time() {
    let fleet = Fleet::new();
    let mut rig = connected(&fleet);
    rig.client_at_once((0..=MAX_BATCH).map(live));
    let full = vec![together(7); MAX_BATCH];
    assert_eq!(added(&rig), [full.as_slice(), &[ALONE]].concat());
    assert_eq!(read(&fleet.keyring(1), fleet.group, &rig).len(), MAX_BATCH + 1);
}

#[test]
fn a_batch_is_of_one_group() {
    let mut fleet = Fleet::new();
    let other = fleet.world.group("other");
    fleet.world.grant(other, 0);
    fleet.world.commit(other, 0);
    let mut keyring = fleet.keyring(0);
    keyring.insert_epoch(&fleet.world.keys(other, 0, 1, &[0]), START_MS);
    let mut rig = Rig::with_rules(keyring, Arc::default(), ByFilter::default());
    rig.connect(None);
    let topics = ["plant/t", "plant/u", "other/t", "plant/t", "open/t", "plant/t", "plant/t"];
    rig.client_at_once(topics.iter().enumerate().map(|(at, topic)| message(topic, Qos::AtMostOnce, false, at)));
    assert_eq!(added(&rig), [together(1), together(1), ALONE, ALONE, 0, together(1), together(1)]);
    assert!(rig.published().iter().map(|(topic, _)| *topic).eq(topics), "in the order of the client");
}

#[test]
fn a_message_for_which_the_broker_has_no_room_in_a_batch_is_signed_alone() {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    let connect = rig.connect_packet(None);
    rig.client(&Packet::Connect(Box::new(connect)));
    let properties = [Property::MaximumPacketSize(400)].into_iter().collect();
    rig.broker(&Packet::Connack(Connack { session_present: false, code: 0, properties }));
    let large = |at| match live(at) {
        Packet::Publish(publish) => Packet::Publish(Publish { payload: Bytes::from(vec![b'x'; 270]), ..publish }),
        other => other,
    };
    rig.client_at_once([live(0), live(1), large(2), large(3), live(4), live(5)]);
    let payloads = [PAYLOAD_BYTES, PAYLOAD_BYTES, 270, 270, PAYLOAD_BYTES, PAYLOAD_BYTES];
    assert_eq!(added_to(&rig, &payloads), [together(1), together(1), ALONE, ALONE, together(1), together(1)]);
}

#[test]
fn messages_that_waited_for_a_key_go_together_with_what_comes_meanwhile() {
    let fleet = Fleet::new();
    let mut rig = Rig::with_rules(fleet.without_keys(0), Arc::default(), ByFilter::default());
    rig.connect(None);
    rig.client_at_once([live(0), live(1)]);
    assert!(rig.published().is_empty());
    fleet.insert_keys(&mut rig.keyring, 0);
    rig.client_at_once([live(2)]);
    assert_eq!(added(&rig), [together(2), together(2), together(1)]);
    assert_eq!(read(&fleet.keyring(1), fleet.group, &rig), (0..3).map(payload).collect::<Vec<_>>());
}

#[test]
fn what_a_batch_leaves_is_written_at_once_and_before_any_of_it_goes_out() {
    let fleet = Fleet::new();
    let decoder = Decoder::new(InputConfig::Number(PlainConfig::default())).unwrap();
    let table = RecordTable { decimals: Some(1), decoder };
    let record = || ByFilter::new(vec![("plant/t".parse().unwrap(), table.clone())]);
    let kept = |at| message("plant/t", Qos::AtLeastOnce, true, at);
    let mut rig = Rig::with_rules(fleet.keyring(0), Arc::default(), record());
    rig.connect(None);
    rig.log.clear();
    let before = rig.commits;
    rig.client_at_once([kept(0), kept(1)]);
    assert_eq!(rig.commits, before + 1);
    let disk = ["disk: retained", "disk: readings", "disk: retained", "disk: readings"];
    assert_eq!(rig.log, [disk.as_slice(), &["broker: PUBLISH"; 2]].concat());
    for disk in [Disk::Fails, Disk::FailsAfterwards] {
        let mut rig = Rig::with_rules(fleet.keyring(0), Arc::default(), record());
        rig.connect(None);
        rig.disk = disk;
        rig.client_at_once([kept(0), kept(1)]);
        assert_eq!((rig.published().len(), rig.acknowledged().len(), rig.closed.is_some()), (0, 0, true), "{disk:?}");
    }
}

/// A retained message and the one that deletes it, in one read: what is remembered is that it is gone.
#[test]
fn a_deletion_comes_after_what_it_deletes() {
    let fleet = Fleet::new();
    let mut rig = connected(&fleet);
    let Packet::Publish(kept) = message("plant/t", Qos::AtMostOnce, true, 0) else { panic!() };
    let deletion = Publish { payload: Bytes::new(), ..kept.clone() };
    rig.client_at_once([Packet::Publish(kept), Packet::Publish(deletion)]);
    assert!(rig.retained.iter().next().is_none());
    let written = rig.written.iter().filter_map(|write| match write {
        Write::Retained(retained) => Some(retained.payload.len()),
        _ => None,
    });
    assert_eq!(written.collect::<Vec<_>>(), [PAYLOAD_BYTES, 0]);
}

#[test]
fn each_message_is_judged_and_refused_by_itself() {
    let rules = rules(r#"{"filter": "plant/t", "range": {"max": 1, "action": "block"}}"#);
    let fleet = Fleet::new();
    let mut rig = Rig::with_rules(fleet.keyring(0), rules, ByFilter::default());
    rig.connect(None);
    let topics = ["plant/t", "plant/t", "plant/t", "nobody/t", "plant/u", "plant/u"];
    rig.client_at_once(topics.iter().enumerate().map(|(at, topic)| message(topic, Qos::AtLeastOnce, false, at)));
    assert_eq!(rig.acknowledged(), [reason::IMPLEMENTATION_SPECIFIC, reason::NOT_AUTHORIZED]);
    let topics: Vec<_> = rig.published().iter().map(|(topic, _)| *topic).collect();
    assert_eq!(topics, ["plant/t", "plant/t", "plant/u", "plant/u"]);
    assert_eq!(rig.told.len(), 2);
}

/// MQTT 3.1.1 has no word for it. What came before goes out, and of what came after nothing is remembered.
#[test]
fn a_refusal_that_ends_the_connection_stands_in_its_place() {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    rig.version = Version::V311;
    rig.connect(None);
    let kept = |topic, at| message(topic, Qos::AtLeastOnce, true, at);
    rig.client_at_once([kept("plant/t", 0), kept("plant/u", 1), kept("nobody/t", 2), kept("plant/v", 3)]);
    assert_eq!((rig.published().len(), rig.closed.is_some()), (2, true));
    assert!(matches!(rig.told.as_slice(), [ClientEvent { what: Refused::Publish, topic, .. }] if topic == "nobody/t"));
    let remembered: Vec<_> = rig.retained.iter().map(|topic| topic.to_owned()).collect();
    assert_eq!(remembered, ["plant/t", "plant/u"]);
}

#[test]
fn nothing_is_remembered_of_what_follows_such_a_refusal_in_its_batch() {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    rig.version = Version::V311;
    rig.connect(None);
    let known = (0..MAX_RETAINED).map(|at| format!("plant/{at}"));
    rig.retained = RetainedTopics::new(known);
    let kept = |topic, at| message(topic, Qos::AtLeastOnce, true, at);
    rig.client_at_once([kept("plant/0", 0), kept("plant/new", 1), kept("plant/1", 2)]);
    assert_eq!((rig.published().len(), rig.told.len(), rig.closed.is_some()), (1, 1, true));
    let written = rig.written.iter().filter(|write| matches!(write, Write::Retained(_)));
    assert_eq!(written.count(), 1);
}

/// A value that has not changed need not be sent, unless the one before it was not.
#[test]
fn a_value_is_judged_by_what_became_of_the_one_before_it() {
    let mut fleet = Fleet::new();
    fleet.world.revoke(fleet.group, 0);
    let rules = rules(r#"{"filter": "plant/t", "report": {"dead_band": 5}}"#);
    let mut rig = Rig::with_rules(fleet.without_keys(0), rules, ByFilter::default());
    rig.connect(None);
    rig.client_at_once((0..2).map(|at| message("plant/t", Qos::AtLeastOnce, false, at)));
    assert_eq!(rig.acknowledged(), [reason::NOT_AUTHORIZED; 2]);
}

#[test]
fn what_a_client_sent_before_it_broke_the_rules_goes_out() {
    let fleet = Fleet::new();
    let mut rig = connected(&fleet);
    let mut bytes: Vec<u8> = [live(0), live(1)].iter().flat_map(|packet| encode(packet, rig.version)).collect();
    // Packet type 0 is forbidden.
    bytes.extend_from_slice(&[0x00, 0x00]);
    rig.session.handle_client(&bytes);
    rig.run();
    assert_eq!((rig.published().len(), rig.closed.is_some()), (2, true));
}

#[test]
fn what_comes_in_one_read_is_noted_on_disk_at_once() {
    let fleet = Fleet::new();
    let mut sender = connected(&fleet);
    sender.client_at_once((0..10).map(|at| message("plant/t", Qos::AtLeastOnce, false, at)));
    let mut rig = Rig::new(&fleet, 1);
    rig.connect(None);
    let before = rig.commits;
    rig.broker_at_once(
        std::mem::take(&mut sender.to_broker).into_iter().filter(|packet| matches!(packet, Packet::Publish(_))),
    );
    assert_eq!((rig.delivered().len(), rig.commits), (10, before), "nothing is noted that the client does not have");
    let ids = (1..=10).map(|id| PacketId::new(id).unwrap());
    rig.client_at_once(ids.map(|id| Packet::Ack(Ack::success(AckKind::Puback, id))));
    assert_eq!((rig.acknowledged_to_broker().len(), rig.commits), (10, before + 1));
}
