//! What the broker delivers.

use std::collections::BTreeMap;

use bytes::Bytes;
use sealcast_mqtt::{Packet, Publish, Qos};
use sealcast_seal::{Content, Opener, Purpose, QosClass};

use super::rig::{Disk, Fleet, Rig, puback, publish};
use crate::{
    Cause, Keyring,
    session::{ClientEvent, Memory, Refused, Write},
    testing::START_MS,
};

/// What `keyring`'s device publishes on `plant/t`.
pub fn seal(keyring: &mut Keyring, payload: &[u8], now_ms: u64) -> Vec<u8> {
    let class = QosClass::Acknowledged;
    seal_content(keyring, &Content { purpose: Purpose::Message, class, retain: false, props: b"", payload }, now_ms)
}

pub fn seal_content(keyring: &mut Keyring, content: &Content<'_>, now_ms: u64) -> Vec<u8> {
    let group = sealcast_ledger::GroupNumber::new(1).unwrap();
    keyring.seal(group, "plant/t", content, now_ms).unwrap()
}

pub fn delivery(frame: &[u8]) -> Publish {
    publish("plant/t", Qos::AtLeastOnce, false, frame)
}

/// A receiver, and the sender's keys.
pub fn pair() -> (Fleet, Rig, Keyring) {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 1);
    rig.connect(None);
    rig.log.clear();
    let sender = fleet.keyring(0);
    (fleet, rig, sender)
}

#[test]
fn the_broker_hears_that_the_client_has_a_message_once_that_is_on_disk() {
    let (_fleet, mut rig, mut sender) = pair();
    let frame = seal(&mut sender, b"21", START_MS);
    rig.broker(&Packet::Publish(delivery(&frame)));
    assert_eq!(rig.delivered(), [Bytes::from("21")]);
    rig.client(&puback());
    assert_eq!(rig.log, ["client: PUBLISH", "disk: client", "broker: acknowledgement"]);
    // The same frame again, as a broker would that forges or replays.
    rig.broker(&Packet::Publish(delivery(&frame)));
    assert_eq!((rig.delivered().len(), rig.told.len()), (1, 1));
    assert!(
        matches!(&rig.told[0], ClientEvent { what: Refused::Delivery { .. }, why, .. } if why.text.contains("replay")),
        "{:?}",
        rig.told
    );
}

/// The client's acknowledgement could not be written, or nobody knows whether it was. The broker is not told, and delivers
/// again: the client gets the message again as long as it is not known to have it, and no message is lost.
#[test]
fn an_acknowledgement_that_cannot_be_written_does_not_reach_the_broker() {
    for disk in [Disk::Fails, Disk::FailsAfterwards] {
        let (fleet, mut rig, mut sender) = pair();
        let frame = seal(&mut sender, b"21", START_MS);
        rig.broker(&Packet::Publish(delivery(&frame)));
        rig.disk = disk;
        rig.client(&puback());
        assert!(rig.acknowledged_to_broker().is_empty() && rig.closed.is_some(), "{disk:?}");

        // After a restart, from what is on disk.
        let mut windows = BTreeMap::new();
        for write in &rig.written {
            let Write::Client { changes, .. } = write else { continue };
            if changes.replace_all {
                windows.clear();
            }
            windows.extend(changes.rows.iter().map(|row| (row.key.as_slice(), row.value.as_deref())));
        }
        let rows = windows.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let opener = Opener::restore(rows).unwrap();
        let mut next = Rig::new(&fleet, 1);
        next.memory = Some(Memory { opener, ..Memory::default() });
        next.connect(None);
        next.broker(&Packet::Publish(Publish { dup: true, ..delivery(&frame) }));
        let again = if disk == Disk::Fails { 1 } else { 0 };
        assert_eq!(next.delivered().len(), again, "{disk:?}");
    }
}

#[test]
fn what_a_client_has_not_acknowledged_it_gets_again_once_on_each_connection() {
    let (_fleet, mut rig, mut sender) = pair();
    let frame = seal(&mut sender, b"21", START_MS);
    rig.broker(&Packet::Publish(delivery(&frame)));
    rig.reconnect(true);
    let again = Packet::Publish(Publish { dup: true, ..delivery(&frame) });
    rig.broker(&again);
    assert_eq!(rig.delivered(), [Bytes::from("21")]);
    rig.broker(&again);
    assert_eq!(rig.delivered().len(), 1);
    assert!(
        matches!(&rig.told[..], [ClientEvent { what: Refused::Delivery { .. }, why, .. }] if why.text.contains("again and again"))
    );
    rig.client(&puback());
    assert!(rig.session.repeated.is_empty(), "it is the windows' from now on");
}

#[test]
fn a_delivery_at_qos_0_is_noted_on_disk_a_moment_later() {
    let (_fleet, mut rig, mut sender) = pair();
    let frame = seal(&mut sender, b"21", START_MS);
    rig.broker(&Packet::Publish(publish("plant/t", Qos::AtMostOnce, false, &frame)));
    assert_eq!(rig.log, ["client: PUBLISH"]);
    assert_eq!(rig.session.poll_timeout(rig.now, 1), Some(rig.now.run_ms + 200));
    rig.wait(200);
    assert_eq!(rig.log, ["client: PUBLISH", "disk: client"]);
}

#[test]
fn what_does_not_open_is_acknowledged_and_not_handed_on() {
    let (_fleet, mut rig, mut sender) = pair();
    let mut frame = seal(&mut sender, b"21", START_MS);
    let last = frame.len() - 1;
    frame[last] ^= 1;
    rig.broker(&Packet::Publish(delivery(&frame)));
    rig.broker(&Packet::Publish(delivery(b"not sealed")));
    assert_eq!((rig.delivered().len(), rig.acknowledged_to_broker().len(), rig.told.len()), (0, 2, 2));
}

#[test]
fn a_frame_of_an_unknown_epoch_waits_until_the_ledger_was_asked() {
    let (mut fleet, mut rig, _) = pair();
    fleet.commit();
    let mut sender = fleet.keyring(0);
    let frame = seal(&mut sender, b"21", START_MS);
    rig.broker(&Packet::Publish(delivery(&frame)));
    assert_eq!((rig.asked, rig.delivered().len(), rig.told.len()), (1, 0, 0));
    // The ledger has nothing new: such an epoch does not exist, and nothing behind the frame is held up.
    let sync = rig.keyring.begin_sync();
    rig.keyring.set_caught_up(sync);
    rig.run();
    assert_eq!((rig.delivered().len(), rig.told.len()), (0, 1));
}

#[test]
fn a_sender_that_has_read_more_of_the_ledger_has_the_hub_asked_and_holds_nothing_up() {
    let (mut fleet, mut rig, mut sender) = pair();
    rig.broker(&Packet::Publish(delivery(&seal(&mut sender, b"21", START_MS))));
    assert_eq!(rig.asked, 0);
    fleet.world.group("other");
    let frame = seal(&mut fleet.keyring(0), b"22", START_MS);
    rig.broker(&Packet::Publish(delivery(&frame)));
    assert_eq!((rig.asked, rig.delivered().len()), (1, 2));
}

#[test]
fn while_the_ledger_is_out_of_reach_a_message_stays_at_the_broker() {
    let (mut fleet, mut rig, _) = pair();
    fleet.commit();
    let frame = seal(&mut fleet.keyring(0), b"21", START_MS);
    rig.broker(&Packet::Publish(delivery(&frame)));
    rig.wait(10_000);
    assert_eq!((rig.delivered().len(), rig.acknowledged_to_broker().len()), (0, 0));
    assert_eq!(rig.closed.as_deref(), Some("the ledger is out of reach"));
}

#[test]
fn the_agents_own_topics_and_the_brokers_are_not_for_clients() {
    let (_fleet, mut rig, _) = pair();
    rig.broker(&Packet::Publish(publish("sealcast/v1/ledger", Qos::AtMostOnce, false, b"x")));
    rig.broker(&Packet::Publish(publish("$SYS/uptime", Qos::AtMostOnce, false, b"x")));
    rig.broker(&Packet::Publish(publish("open/t", Qos::AtMostOnce, false, b"clear")));
    assert_eq!(rig.delivered(), [Bytes::from("clear")]);
    // The agents' own are nobody's concern; that the broker's do not come may surprise.
    let told: Vec<_> = rig.told.iter().map(|event| (event.topic.as_str(), event.why.cause)).collect();
    assert_eq!(told, [("$SYS/uptime", Cause::BrokersTopic)]);
}
