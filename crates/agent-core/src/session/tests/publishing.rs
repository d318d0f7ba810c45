//! What clients publish.

use std::sync::Arc;

use sealcast_mqtt::{Packet, Qos, Version, reason};
use sealcast_quality::{RuleSet, TopicSpec};
use sealcast_reading::{Decoder, InputConfig, PlainConfig};
use sealcast_seal::{HandOver, Opener};

use super::rig::{Disk, Fleet, Rig, puback};
use crate::{
    Arrival, ByFilter, Received, RecordTable,
    session::{ClientEvent, Refused, Write},
    testing::START_MS,
    values::ValueRules,
};

/// Values of `plant/t` above 100 are blocked.
fn rules() -> Arc<ValueRules> {
    let spec: TopicSpec =
        serde_json::from_str(r#"{"filter": "plant/t", "range": {"max": 100, "action": "block"}}"#).unwrap();
    let quality = Arc::new(RuleSet::new(vec![spec]).unwrap());
    Arc::new(ValueRules::new(quality, ByFilter::default(), ByFilter::default(), None))
}

#[test]
fn what_is_published_is_sealed_and_acknowledged_when_the_broker_has_taken_it() {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    rig.connect(None);
    rig.log.clear();
    rig.publish("plant/t", Qos::AtLeastOnce, false, "21");
    rig.publish("plant/t", Qos::AtMostOnce, false, "22");
    assert_eq!(rig.log, ["broker: PUBLISH", "broker: PUBLISH"]);
    assert!(!rig.published().iter().any(|(_, frame)| frame.windows(2).any(|part| part == b"21")));
    assert!(rig.acknowledged().is_empty(), "the broker has not taken it");
    rig.broker(&puback());
    assert_eq!(rig.acknowledged(), [0]);
}

#[test]
fn a_message_waits_for_its_key_and_is_refused_when_none_comes() {
    let fleet = Fleet::new();
    let mut rig = Rig::with_rules(fleet.without_keys(0), Arc::default(), ByFilter::default());
    rig.connect(None);
    rig.publish("plant/t", Qos::AtLeastOnce, false, "21");
    assert!(rig.session.is_waiting() && rig.published().is_empty());
    fleet.insert_keys(&mut rig.keyring, 0);
    rig.run();
    assert_eq!(rig.published().len(), 1);

    let mut rig = Rig::with_rules(fleet.without_keys(0), Arc::default(), ByFilter::default());
    rig.connect(None);
    rig.publish("plant/t", Qos::AtLeastOnce, false, "21");
    assert_eq!(rig.session.poll_timeout(rig.now, 1), Some(rig.now.run_ms + 10_000));
    rig.wait(10_000);
    assert_eq!(rig.acknowledged(), [reason::NOT_AUTHORIZED]);
    assert!(
        matches!(rig.told.as_slice(), [ClientEvent { what: Refused::Publish, why, .. }] if why.text.contains("no key yet"))
    );
    assert_eq!(rig.closed, None, "other messages of the client go on");
}

#[test]
fn an_mqtt_3_client_hears_no_by_the_end_of_its_connection() {
    let mut fleet = Fleet::new();
    fleet.world.revoke(fleet.group, 0);
    let mut rig = Rig::new(&fleet, 0);
    rig.keyring.leave(fleet.group, &sealcast_group::LeftReason::Replaced);
    rig.version = Version::V311;
    rig.connect(None);
    rig.publish("plant/t", Qos::AtLeastOnce, false, "21");
    assert!(rig.acknowledged().is_empty() && rig.published().is_empty() && rig.closed.is_some());
}

#[test]
fn while_the_disk_fails_nothing_is_refused_that_could_be_sent_later() {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    rig.connect(None);
    rig.keyring.stall();
    rig.disk = Disk::Fails;
    rig.publish("plant/t", Qos::AtLeastOnce, false, "21");
    assert!(rig.acknowledged().is_empty() && rig.told.is_empty(), "the client sends it again");
    assert!(rig.closed.is_some());
}

#[test]
fn each_topic_goes_its_own_way() {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    rig.connect(None);
    rig.publish("open/t", Qos::AtLeastOnce, false, "21");
    assert_eq!(rig.published(), [("open/t", "21".into())]);
    rig.broker(&puback());
    rig.publish("sealcast/v1/keys/1112", Qos::AtLeastOnce, false, "x");
    rig.publish("nobody/t", Qos::AtLeastOnce, false, "x");
    rig.publish("$SYS/bridge", Qos::AtLeastOnce, false, "1");
    let refused = [reason::SUCCESS, reason::NOT_AUTHORIZED, reason::NOT_AUTHORIZED, reason::TOPIC_NAME_INVALID];
    assert_eq!((rig.acknowledged().as_slice(), rig.published().len()), (refused.as_slice(), 1));
}

#[test]
fn a_blocked_value_is_refused_once_what_was_seen_of_it_is_on_disk() {
    let fleet = Fleet::new();
    let mut rig = Rig::with_rules(fleet.keyring(0), rules(), ByFilter::default());
    rig.connect(None);
    rig.log.clear();
    rig.publish("plant/t", Qos::AtLeastOnce, false, "101");
    assert_eq!(rig.log, ["disk: values", "client: acknowledgement"]);
    assert_eq!(
        (rig.acknowledged().as_slice(), rig.published().len()),
        ([reason::IMPLEMENTATION_SPECIFIC].as_slice(), 0)
    );
    // If that cannot be written, the client hears nothing, and sends it again.
    rig.disk = Disk::Fails;
    rig.publish("plant/t", Qos::AtLeastOnce, false, "102");
    assert_eq!((rig.acknowledged().len(), rig.closed.is_some()), (1, true));
}

#[test]
fn retained_messages_and_readings_are_on_disk_before_the_message_goes_out() {
    let fleet = Fleet::new();
    let table =
        RecordTable { decimals: Some(1), decoder: Decoder::new(InputConfig::Number(PlainConfig::default())).unwrap() };
    let record = ByFilter::new(vec![("plant/t".parse().unwrap(), table)]);
    let mut rig = Rig::with_rules(fleet.keyring(0), Arc::default(), record);
    rig.connect(None);
    rig.log.clear();
    rig.publish("plant/t", Qos::AtLeastOnce, true, "21.46");
    assert_eq!(rig.log, ["disk: retained", "disk: readings", "broker: PUBLISH"]);
    let Some(Write::Readings { values, last: 0, .. }) = rig.written.last() else { panic!("{:?}", rig.written) };
    assert_eq!((values[0].0.mantissa(), values[0].1), (215, START_MS));
    // With a disk that fails, neither.
    rig.broker(&puback());
    rig.disk = Disk::Fails;
    let before = rig.published().len();
    rig.publish("plant/t", Qos::AtLeastOnce, true, "22");
    assert_eq!((rig.published().len(), rig.closed.is_some()), (before, true));
}

/// The broker has to read what deletes its message. Before that, the members read who deletes it.
#[test]
fn what_deletes_a_retained_message_goes_as_it_is_behind_its_tombstone() {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 0);
    rig.connect(None);
    rig.publish("plant/t", Qos::AtLeastOnce, true, "21");
    rig.broker(&puback());
    rig.log.clear();
    rig.publish("plant/t", Qos::AtLeastOnce, true, "");
    assert_eq!(rig.log, ["disk: retained", "broker: PUBLISH"]);
    assert!(rig.retained.iter().next().is_none(), "nothing to seal again");
    rig.broker(&puback());
    let flags: Vec<_> = rig.to_broker.iter().filter_map(retain).collect();
    assert_eq!((flags, rig.published().len()), (vec![true, false, true], 3));
    let published = rig.published();
    assert_eq!(published[2].1, "");
    let mut opener = Opener::new();
    let arrival = Arrival { hand_over: HandOver::Acknowledged { dup: false }, retain: false, away: None, copy: false };
    let tombstone = fleet.keyring(1).open(&mut opener, fleet.group, "plant/t", &published[1].1, arrival, START_MS);
    let Ok(Received::Deleted(tombstone)) = tombstone else { panic!("{tombstone:?}") };
    assert_eq!((tombstone.sender(), tombstone.payload()), (rig.keyring.device(), &b""[..]));
    assert_eq!(rig.acknowledged().len(), 1, "the broker has not taken the second one");
    rig.broker(&puback());
    assert_eq!(rig.acknowledged(), [reason::SUCCESS; 2]);
}

#[test]
fn only_a_member_deletes() {
    let fleet = Fleet::new();
    let mut rig = Rig::with_rules(fleet.without_keys(0), Arc::default(), ByFilter::default());
    rig.connect(None);
    rig.publish("plant/t", Qos::AtLeastOnce, true, "");
    assert!(rig.session.is_waiting());
    rig.wait(10_000);
    assert_eq!((rig.acknowledged(), rig.published().len()), (vec![reason::NOT_AUTHORIZED], 0));
}

fn retain(packet: &Packet) -> Option<bool> {
    if let Packet::Publish(publish) = packet { Some(publish.retain) } else { None }
}
