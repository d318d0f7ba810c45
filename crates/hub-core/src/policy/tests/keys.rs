//! A device that has enrolled again: whoever holds its former key is connected still.

use sealcast_broker_core::{Outgoing, Output, Peer, PeerCertificate};
use sealcast_identity::Certificate;
use sealcast_mqtt::reason;

use super::world::World;
use crate::Readers;

/// Publishing in the moment in which the ledger has the new key, and the connection has not been ended yet.
#[test]
fn a_former_key_gives_no_right_to_publish() {
    let mut world = World::new(Readers::Granted);
    let former = world.register("1111");
    let reader = world.register("1112");
    let group = world.group("g", "g/#");
    world.grant(group, "1111");
    world.grant(group, "1112");
    let reader = world.connect(&reader, "reader", None).unwrap();
    world.subscribe(reader, &["g/#", "sealcast/v1/keys/1111", "open/#"]);
    let thief = world.connect(&former, "thief", Some("g/will")).unwrap();
    assert_eq!(world.publish(thief, "g/t", false), (Some(0), vec![reader]));

    let current = world.register("1111");
    world.grant(group, "1111");
    for topic in ["g/t", "sealcast/v1/keys/1111", "sealcast/v1/rpc/1111/request", "open/t"] {
        assert_eq!(world.publish(thief, topic, false), (Some(reason::NOT_AUTHORIZED), vec![]), "{topic}");
    }
    let own = world.connect(&current, "own", None).unwrap();
    assert_eq!(world.publish(own, "g/t", false), (Some(0), vec![reader]));
    // Nor does a will that it left.
    assert!(world.close(thief).is_empty());
    assert_eq!(world.connect(&former, "thief", None), None);
}

/// A later one would make the device drop its keys.
#[test]
fn a_checkpoint_is_its_device_s_own() {
    let mut world = World::new(Readers::Granted);
    let connections = ["1111", "1112"].map(|name| {
        let certificate = world.register(name);
        world.connect(&certificate, name, None).unwrap()
    });
    let [own, other] = connections;
    let topic = "sealcast/v1/checkpoint/1111";
    for filter in [topic, "sealcast/v1/checkpoint/+"] {
        assert_eq!(world.subscribe(other, &[filter]).0, [reason::NOT_AUTHORIZED], "{filter}");
    }
    assert_eq!(world.subscribe(own, &[topic]).0, [1]);
    assert_eq!(world.publish(other, topic, true), (Some(reason::NOT_AUTHORIZED), vec![]));
    assert_eq!(world.publish(own, topic, true), (Some(0), vec![own]));
}

#[test]
fn a_new_key_ends_the_connections_by_the_former_one_and_no_others() {
    let mut world = World::new(Readers::Granted);
    let former = world.register("1111");
    let other = world.register("1112");
    let other = world.connect(&other, "other", None).unwrap();
    let thief = world.connect(&former, "thief", Some("will")).unwrap();
    world.subscribe(other, &["will"]);
    let current = world.register("1111");
    let own = world.connect(&current, "own", None).unwrap();

    assert_eq!(world.core.handle_new_credential("1111", key_of(&current)), 1);
    let outputs = world.outputs();
    let [(conn, Outgoing::Disconnect { code })] = outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((conn, code), (thief, reason::ADMINISTRATIVE_ACTION));
    assert_eq!(world.publish(own, "will", false), (Some(0), vec![other]));
    // Nothing of its former sessions is left to take places and queues.
    assert_eq!(world.core.stats().sessions, 2);
    assert!(world.connect(&current, "thief", None).is_some());
    assert_eq!(world.core.stats().sessions, 3);
}

/// What a former key leaves behind must not be full one day, and hold up the group.
#[test]
fn a_session_that_a_former_key_has_left_takes_nothing_that_the_device_gets_later() {
    let mut world = World::new(Readers::Granted);
    let (former, other) = (world.register("1111"), world.register("1112"));
    let group = world.group("g", "g/#");
    world.grant(group, "1111");
    world.grant(group, "1112");
    let other = world.connect(&other, "other", None).unwrap();
    let thief = world.connect(&former, "thief", None).unwrap();
    world.subscribe(thief, &["g/#"]);
    let current = world.register("1111");
    assert_eq!(world.core.handle_new_credential("1111", key_of(&current)), 1);
    world.outputs();
    world.grant(group, "1111");
    world.publish(other, "g/t", false);
    assert_eq!(world.connect_and_receive(&current, "thief"), [""; 0], "it waited in the thief's session");
}

/// By which the relay counts calls: those by a former key are not the present one's.
#[test]
fn what_the_hub_hears_tells_the_sender_s_key() {
    let mut world = World::new(Readers::Granted);
    world.core.handle_local_subscribe("sealcast/v1/rpc/+/request".to_owned(), 0);
    let certificate = world.register("1111");
    let conn = world.connect(&certificate, "own", None).unwrap();
    world.send(conn, "sealcast/v1/rpc/1111/request", false);
    let outputs = world.core.take_effects(0).outputs.into_iter();
    let heard = outputs.filter_map(|output| match output {
        Output::Local(_, received) => received.sender,
        _ => None,
    });
    let sender = Peer { device: "1111".into(), credential: Some(key_of(&certificate)) };
    assert_eq!(heard.collect::<Vec<_>>(), [sender]);
}

fn key_of(certificate: &PeerCertificate) -> [u8; 32] {
    Certificate::from_der(certificate.der()).unwrap().public_key().fingerprint()
}

/// Every agent has work with each of them.
#[test]
fn a_device_publishes_its_keys_only_so_often() {
    let mut world = World::new(Readers::Granted);
    let device = world.register("1111");
    let device = world.connect(&device, "own", None).unwrap();
    let codes: Vec<_> = (0..17).map(|_| world.publish(device, "sealcast/v1/keys/1111", true).0).collect();
    assert_eq!(codes[..16], [Some(0); 16]);
    assert_eq!(codes[16], Some(reason::QUOTA_EXCEEDED));
    for topic in ["sealcast/v1/rpc/1111/request", "open/t"] {
        assert_eq!(world.publish(device, topic, false).0, Some(0), "{topic}");
    }
}
