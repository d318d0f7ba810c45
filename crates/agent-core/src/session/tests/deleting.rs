//! Deletions of retained messages, as they reach a client.

use bytes::Bytes;
use sealcast_mqtt::{Packet, Property, Publish, Qos, Version};
use sealcast_seal::{Content, Purpose, QosClass};

use super::{
    delivering::{delivery, pair, seal_content},
    rig::{Rig, puback},
};
use crate::{
    Keyring,
    session::{ClientEvent, Refused},
    testing::START_MS,
    values::DELETED,
};

fn tombstone(sender: &mut Keyring) -> Packet {
    let class = QosClass::Acknowledged;
    let content = Content { purpose: Purpose::Tombstone, class, retain: false, props: b"", payload: b"" };
    Packet::Publish(delivery(&seal_content(sender, &content, START_MS)))
}

fn retained(sender: &mut Keyring, payload: &[u8]) -> Packet {
    let class = QosClass::Acknowledged;
    let content = Content { purpose: Purpose::Message, class, retain: true, props: b"", payload };
    Packet::Publish(delivery(&seal_content(sender, &content, START_MS)))
}

/// What deletes the message at the broker, which hands it on.
fn empty() -> Packet {
    Packet::Publish(delivery(b""))
}

/// Payloads with what the agent says of the deletion, and of the sender.
fn delivered(rig: &Rig) -> Vec<(Bytes, Option<String>, Option<String>)> {
    let said = |publish: &Publish, wanted: &str| {
        publish.properties.iter().find_map(|property| match property {
            Property::User(name, value) if name.as_str() == wanted => Some(value.as_str().to_owned()),
            _ => None,
        })
    };
    let publish = |packet: &Packet| match packet {
        Packet::Publish(publish) => {
            Some((publish.payload.clone(), said(publish, DELETED), said(publish, "sealcast-sender")))
        }
        _ => None,
    };
    rig.to_client.iter().filter_map(publish).collect()
}

fn is_brokers(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent { what: Refused::Deletion, topic, .. } if topic == "plant/t")
}

#[test]
fn a_tombstone_is_an_empty_message_of_its_sender_and_the_brokers_empty_message_says_nothing_more() {
    let (_fleet, mut rig, mut sender) = pair();
    rig.broker(&tombstone(&mut sender));
    let device = sender.device().to_string();
    assert_eq!(delivered(&rig), [(Bytes::new(), Some("sender".into()), Some(device))]);
    assert!(rig.acknowledged_to_broker().is_empty(), "the client has to acknowledge it");
    rig.client(&puback());
    rig.broker(&empty());
    rig.broker(&empty());
    assert_eq!((delivered(&rig).len(), rig.told.len(), rig.acknowledged_to_broker().len()), (1, 0, 3));
    // There is a retained message again: that it is deleted would be news.
    rig.broker(&retained(&mut sender, b"21"));
    rig.broker(&empty());
    assert!(matches!(rig.told.as_slice(), [event] if is_brokers(event)), "{:?}", rig.told);
}

#[test]
fn a_tombstone_that_comes_twice_is_a_replay() {
    let (_fleet, mut rig, mut sender) = pair();
    let tombstone = tombstone(&mut sender);
    rig.broker(&tombstone);
    rig.client(&puback());
    rig.broker(&tombstone);
    assert_eq!(delivered(&rig).len(), 1);
    assert!(
        matches!(&rig.told[..], [ClientEvent { what: Refused::Delivery { .. }, why, .. }] if why.text.starts_with("replayed")),
        "{:?}",
        rig.told
    );
}

/// Nobody vouches for it, so only a client that can see this gets it.
#[test]
fn a_deletion_that_no_member_has_sealed_is_shown_as_the_brokers_own() {
    let (_fleet, mut rig, _) = pair();
    rig.broker(&empty());
    assert_eq!(delivered(&rig), [(Bytes::new(), Some("broker".into()), None)]);
    assert!(matches!(rig.told.as_slice(), [event] if is_brokers(event)), "{:?}", rig.told);

    let fleet = super::Fleet::new();
    let mut rig = Rig::new(&fleet, 1);
    rig.version = Version::V311;
    rig.connect(None);
    rig.broker(&empty());
    assert_eq!((delivered(&rig).len(), rig.told.len(), rig.acknowledged_to_broker().len()), (0, 1, 1));
}

/// The tombstone waits for its key, and the broker's empty message comes right behind it.
#[test]
fn an_empty_message_waits_for_the_tombstone_before_it() {
    let (mut fleet, mut rig, _) = pair();
    fleet.commit();
    rig.broker(&tombstone(&mut fleet.keyring(0)));
    rig.broker(&empty());
    assert!(rig.session.is_waiting() && rig.told.is_empty(), "{:?}", rig.told);
    let next = fleet.world.ledger.records().last().unwrap().clone();
    rig.keyring.replica_mut().apply(&next).unwrap();
    fleet.insert_keys(&mut rig.keyring, 1);
    rig.run();
    assert_eq!((delivered(&rig).len(), rig.told.len()), (1, 0), "{:?}", rig.told);
}

#[test]
fn what_is_deleted_is_still_known_on_the_next_connection() {
    let (_fleet, mut rig, mut sender) = pair();
    rig.broker(&tombstone(&mut sender));
    rig.client(&puback());
    rig.reconnect(true);
    rig.broker(&Packet::Publish(Publish { qos: Qos::AtMostOnce, packet_id: None, ..delivery(b"") }));
    assert!(rig.told.is_empty(), "{:?}", rig.told);
}
