//! Who writes into a device's inbox.

use super::world::World;
use crate::Readers;
use sealcast_mqtt::reason;

const DENIED: Option<u8> = Some(reason::NOT_AUTHORIZED);

/// A hostile member that overwrites what an honest one has left for a newcomer.
#[test]
fn a_welcome_is_written_by_its_committer_alone_and_taken_away_by_its_addressee() {
    let mut world = World::new(Readers::Granted);
    let [honest, hostile, newcomer, outsider] = ["1111", "1112", "1113", "1114"].map(|name| {
        let certificate = world.register(name);
        world.connect(&certificate, name, None).unwrap()
    });
    let group = world.group("g", "g/#");
    for name in ["1111", "1112", "1113"] {
        world.grant(group, name);
    }
    let place = "sealcast/v1/inbox/1113/1/1111";
    assert_eq!(world.publish(honest, place, true), (Some(0), vec![]));
    // The inbox as a whole is no topic.
    for topic in [place, "sealcast/v1/inbox/1113/1", "sealcast/v1/inbox/1113/1/1114", "sealcast/v1/inbox/1113/01/1112"]
    {
        assert_eq!(world.publish(hostile, topic, true), (DENIED, vec![]), "{topic}");
    }
    assert_eq!(world.publish(hostile, "sealcast/v1/inbox/1113/1/1112", true), (Some(0), vec![]), "a place of its own");
    assert_eq!(world.publish(outsider, "sealcast/v1/inbox/1113/1/1114", true), (DENIED, vec![]), "it is not granted");
    assert_eq!(world.publish(honest, "sealcast/v1/inbox/1114/1/1111", true), (DENIED, vec![]), "nor a member to be");

    assert_eq!(world.subscribe(hostile, &["sealcast/v1/inbox/1113/+/+"]), (vec![reason::NOT_AUTHORIZED], 0));
    assert_eq!(world.subscribe(newcomer, &["sealcast/v1/inbox/1113/+/+"]), (vec![1], 2), "one of each");
    for topic in [place, "sealcast/v1/inbox/1113/1/1112", "sealcast/v1/inbox/1113/7/1112"] {
        assert_eq!(world.publish(newcomer, topic, true), (Some(0), vec![newcomer]), "{topic}");
    }
    for topic in ["sealcast/v1/inbox/1113/x/1111", "sealcast/v1/inbox/1113/1/not a device"] {
        assert_eq!(world.publish(newcomer, topic, true).0, DENIED, "{topic}");
    }
    world.revoke(group, "1111");
    assert_eq!(world.publish(honest, place, true), (DENIED, vec![]));
}
