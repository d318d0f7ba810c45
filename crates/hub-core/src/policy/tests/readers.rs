//! Who gets the messages of a group.

use sealcast_broker_core::ConnId;
use sealcast_ledger::GroupNumber;
use sealcast_mqtt::reason;

use super::world::World;
use crate::Readers;

const DENIED: u8 = reason::NOT_AUTHORIZED;

struct Scene {
    world: World,
    group: GroupNumber,
    /// Who is granted `g`, with the topics below `g`.
    member: ConnId,
    /// The device `1112`, which is granted nothing.
    outsider: ConnId,
}

fn scene(readers: Readers) -> Scene {
    let mut world = World::new(readers);
    let [member, outsider] = ["1111", "1112"].map(|name| world.register(name));
    let group = world.group("g", "g/#");
    world.grant(group, "1111");
    let member = world.connect(&member, "member", None).unwrap();
    let outsider = world.connect(&outsider, "outsider", None).unwrap();
    Scene { world, group, member, outsider }
}

#[test]
fn only_granted_devices_subscribe_to_a_groups_topics() {
    let Scene { mut world, group, member, outsider } = scene(Readers::Granted);
    let own = ["g", "g/#", "g/t", "g/+/t", "$share/s/g/#"];
    let wide = ["#", "+/t", "open/#", "$share/s/#"];
    assert_eq!(world.subscribe(outsider, &own).0, [DENIED; 5]);
    assert_eq!(world.subscribe(outsider, &wide).0, [1; 4]);
    assert_eq!(world.subscribe(member, &own).0, [1; 5]);
    world.grant(group, "1112");
    assert_eq!(world.subscribe(outsider, &own).0, [1; 5]);
    world.revoke(group, "1112");
    assert_eq!(world.subscribe(outsider, &own).0, [DENIED; 5]);
    // What lies in one group, and partly in another that the device is granted.
    let inner = world.group("inner", "g/a/#");
    world.grant(inner, "1112");
    assert_eq!(world.subscribe(outsider, &["g/#", "g/a/t", "g/b/t"]).0, [1, 1, DENIED]);
}

#[test]
fn a_wildcard_brings_only_what_is_allowed_by_the_ledger_as_it_is_now() {
    let Scene { mut world, group, member, outsider } = scene(Readers::Granted);
    world.subscribe(outsider, &["#"]);
    assert_eq!(world.publish(member, "g/t", false), (Some(0), vec![]));
    assert_eq!(world.publish(member, "open/t", false), (Some(0), vec![outsider]));
    world.grant(group, "1112");
    assert_eq!(world.publish(member, "g/t", false), (Some(0), vec![outsider]));
    world.revoke(group, "1112");
    assert_eq!(world.publish(member, "g/t", false), (Some(0), vec![]));
    // A group that comes to be later takes its topics with it.
    world.group("late", "open/#");
    assert_eq!(world.publish(member, "open/t", false), (Some(DENIED), vec![]));
}

#[test]
fn so_do_retained_messages() {
    let Scene { mut world, group, member, outsider } = scene(Readers::Granted);
    world.publish(member, "g/t", true);
    world.publish(member, "open/t", true);
    assert_eq!(world.subscribe(member, &["#"]), (vec![1], 2));
    assert_eq!(world.subscribe(outsider, &["#"]), (vec![1], 1));
    world.grant(group, "1112");
    assert_eq!(world.subscribe(outsider, &["#"]), (vec![1], 2));
    world.revoke(group, "1112");
    assert_eq!(world.subscribe(outsider, &["#"]), (vec![1], 1));
}

#[test]
fn a_shared_subscription_gives_nothing_to_outsiders() {
    let Scene { mut world, member, outsider, .. } = scene(Readers::Granted);
    world.subscribe(outsider, &["$share/s/#"]);
    assert_eq!(world.publish(member, "g/t", false), (Some(0), vec![]), "nobody else is in the share");
    world.subscribe(member, &["$share/s/#"]);
    for _ in 0..4 {
        assert_eq!(world.publish(member, "g/t", false), (Some(0), vec![member]));
    }
    // What waits for a member that leaves goes to no outsider.
    world.close(member);
    world.core.handle_disconnect_device("1111");
    let outputs = world.outputs();
    assert!(world.receivers(outputs).is_empty());
}

#[test]
fn what_waits_for_a_device_when_it_loses_its_grant_is_not_sent() {
    let Scene { mut world, group, member, .. } = scene(Readers::Granted);
    let certificate = world.register("1112");
    world.grant(group, "1112");
    let reader = world.connect(&certificate, "reader", None).unwrap();
    world.publish(member, "g/retained", true);
    world.subscribe(reader, &["#"]);
    world.close(reader);
    for topic in ["g/t", "open/t", "g/t"] {
        assert_eq!(world.publish(member, topic, false), (Some(0), vec![]));
    }
    world.revoke(group, "1112");
    let received = world.connect_and_receive(&certificate, "reader");
    assert_eq!(received, ["open/t"]);
    assert_eq!(world.core.stats().queued, 0);
}

#[test]
fn anyone_may_be_let_in() {
    let Scene { mut world, member, outsider, .. } = scene(Readers::Anyone);
    world.publish(member, "g/r", true);
    assert_eq!(world.subscribe(outsider, &["g/#"]), (vec![1], 1));
    assert_eq!(world.publish(member, "g/t", false), (Some(0), vec![outsider]));
    assert_eq!(world.publish(outsider, "g/t", false), (Some(DENIED), vec![]), "it may not publish");
}
