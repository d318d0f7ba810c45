//! The hub and all agents as clients of somebody else's broker.

use crate::harness::{Agent, Hub, Mosquitto, PATIENCE, mosquitto_sub, output, sealcast, until, until_joined};

const CLEAR: &str = "clear = ['open/#']";

/// Waits until the newest keys of this member's group are its own alone.
fn until_alone(member: &Agent) {
    until("the other one is out", || {
        member.log.lines(&["keys agreed"]).last().is_some_and(|line| line.contains("members=1"))
    });
}

/// A stranger at the broker replaces what is retained there, while the devices that need it are away. The hub has it.
#[test]
fn whoever_overwrites_control_topics_keeps_nobody_out() {
    let broker = Mosquitto::plain();
    let hub = Hub::at(&broker.url());
    let [early, late] = ["1111", "1112"].map(|device| hub.enroll(device));
    let mut keys = mosquitto_sub(&broker.port(), "sealcast/v1/keys/1112", &["-F", "%t"]);
    let mut late = Agent::start(&late, &[]);
    let topic = keys.message(PATIENCE).unwrap();
    until("the ledger names the keys", || hub.operate(&["device", "show", "1112"]).contains("published a key package"));
    late.kill();
    broker.overwrite(&topic);

    let early = Agent::start(&early, &[]);
    let mut welcomes = mosquitto_sub(&broker.port(), "sealcast/v1/inbox/1112/#", &["-F", "%t"]);
    hub.group("room", "room/#", &["1111", "1112"]);
    let topic = welcomes.message(PATIENCE).unwrap();
    broker.overwrite(&topic);
    late.restart();
    until_joined(&early, &late, "room/probe");
}

/// It keeps no message for whoever comes later, and says so. The hub does: a device that was away when it was added to a
/// group finds its Welcome, and the one that added it found its keys.
#[test]
fn a_broker_that_keeps_nothing_is_enough() {
    let broker = Mosquitto::with("mqtt", |_| "allow_anonymous true\nretain_available false\n".to_owned());
    let hub = Hub::at(&broker.url());
    hub.log.until(&["connected to the broker", "keeps no retained messages"]);
    let [early, late] = ["1111", "1112"].map(|device| hub.enroll(device));
    let mut late = Agent::start(&late, &[]);
    until("the ledger names the keys", || hub.operate(&["device", "show", "1112"]).contains("published a key package"));
    late.kill();

    let early = Agent::start(&early, &[]);
    early.log.until(&["connected to the broker", "keeps no retained messages"]);
    let mut welcomes = mosquitto_sub(&broker.port(), "sealcast/v1/inbox/1112/#", &["-F", "%t"]);
    hub.group("room", "room/#", &["1111", "1112"]);
    assert!(welcomes.message(PATIENCE).is_some());
    late.restart();
    until_joined(&early, &late, "room/probe");
}

/// Messages go on flowing at a broker without a hub, so nobody would hear of a revocation.
#[test]
fn without_a_hub_nothing_is_sealed_for_long() {
    const CONFIG: &str = "[ledger]\nmax_age_ms = 3000\n";
    let broker = Mosquitto::plain();
    let mut hub = Hub::at(&broker.url());
    let [writer, reader] = hub.pair("room", [CONFIG, CONFIG]);
    let mut read = reader.subscribe("room/t", &[]);
    writer.publish("room/t", "with a hub", &[]);
    assert_eq!(read.message(PATIENCE).as_deref(), Some("room/t with a hub"));

    hub.kill();
    writer.log.until(&[" WARN ", "connected to the broker at mqtt://", "but no hub answers on it"]);
    writer.log.until(&[" WARN ", "the hub has not answered for", "nothing is sealed or opened"]);
    assert!(writer.refusal("room/t", "without a hub", &[]).contains("the hub has not answered for"));

    hub.restart();
    until("messages are sealed again", || writer.try_publish("room/t", "again", &[]));
    assert_eq!(read.message(PATIENCE).as_deref(), Some("room/t again"));
    writer.log.until(&["the hub answers again"]);
}

/// There never was a hub at this broker: the agents reach theirs over HTTPS, and say so.
#[test]
fn a_broker_that_the_hub_is_not_at_is_named_and_a_revocation_is_heard_of_all_the_same() {
    let broker = Mosquitto::plain();
    let hub = Hub::start();
    let dirs = hub.members("room", [CLEAR, CLEAR]);
    let [writer, reader] = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&writer, &reader, "room/probe");
    drop((writer, reader));

    let [writer, reader] = dirs.map(|dir| Agent::start(&dir, &["--upstream", &broker.url()]));
    writer.log.until(&["no answer of the hub comes over the broker, but the hub answers over HTTPS"]);
    until_joined(&writer, &reader, "room/probe");
    let mut read = reader.subscribe("room/t", &["-t", "open/marker"]);
    hub.operate(&["group", "revoke", "room", "1112"]);
    until_alone(&writer);
    writer.publish("room/t", "not for 1112", &[]);
    writer.nothing_before_marker("open/marker", &mut read);
}

/// A name with a dot is another one at the broker, because some brokers make a slash of a dot.
#[test]
fn two_hubs_with_a_prefix_each_share_a_broker() {
    const PREFIX: &str = "plant-7/sealcast";
    let broker = Mosquitto::plain();
    let mut topics = mosquitto_sub(&broker.port(), "#", &["-F", "%t"]);
    let config = |prefix: &str| format!("[broker]\nprefix = '{prefix}'\n");
    let (one, mut other) = (
        Hub::at(&broker.url()),
        Hub::at_with(&broker.url(), |hub| std::fs::write(hub.join("hub.toml"), config(PREFIX)).unwrap()),
    );
    let fleets = [(&one, "room", "pump.1"), (&other, "hall", "pump.2")].map(|(hub, group, pump)| {
        let dirs = ["1111", pump].map(|device| hub.enroll(device));
        hub.group(group, &format!("{group}/#"), &["1111", pump]);
        dirs.map(|dir| Agent::start(&dir, &[]))
    });
    for ([writer, reader], group) in fleets.iter().zip(["room", "hall"]) {
        until_joined(writer, reader, &format!("{group}/probe"));
    }
    other.operate(&["group", "revoke", "hall", "pump.2"]);
    let [[room, _], [hall, _]] = &fleets;
    until_alone(hall);

    room.publish("room/last", "of all", &[]);
    let seen = topics.before("room/last");
    for (prefix, device, stranger) in [("sealcast/v1", "pump=1", "pump=2"), (PREFIX, "pump=2", "pump=1")] {
        let of = |device: &str| {
            let of = |topic: &String| topic.starts_with(prefix) && topic.split('/').any(|level| level == device);
            seen.iter().filter(|topic| of(topic)).cloned().collect::<Vec<_>>()
        };
        for topic in [format!("{prefix}/keys/{device}"), format!("{prefix}/rpc/{device}/request")] {
            assert!(of(device).contains(&topic), "{topic}: {seen:?}");
        }
        assert_eq!(of(stranger), Vec::<String>::new(), "below {prefix}");
    }

    let own = format!("{PREFIX}/ledger");
    assert!(hall.refusal(&own, "forged", &[]).contains("Sealcast's own topics"));
    let create = output(&mut other.command(&["group", "create", "own", "--filter", &own]));
    let error = String::from_utf8_lossy(&create.stderr);
    assert!(!create.status.success() && error.contains("Sealcast's own topics begin with plant-7/sealcast"), "{error}");

    other.kill();
    std::fs::write(other.path().join("hub.toml"), config("hall")).unwrap();
    let start = output(&mut other.up(sealcast()));
    let error = String::from_utf8_lossy(&start.stderr);
    assert!(!start.status.success() && error.contains("hall/# of group hall"), "{error}");
}

/// The operator's commands reach the hub over HTTPS where there is no hub at the broker, and where there is no broker.
#[test]
fn the_operator_needs_no_broker() {
    let hub = Hub::start();
    let broker = Mosquitto::plain();
    let config = hub.operator().join("operator.toml");
    std::fs::write(config, format!("broker = '{}'\n", broker.url())).unwrap();
    let [first, _second] = hub.pair("room", ["", ""]);

    drop(broker);
    let shown = output(&mut hub.command(&["group", "show", "room"]));
    let note = String::from_utf8_lossy(&shown.stderr);
    assert!(shown.status.success() && note.contains("the hub is asked over HTTPS"), "{note}");
    assert!(hub.operate(&["key", "rotate", "operator"]).contains("the operator has a new key"));
    hub.operate(&["group", "revoke", "room", "1112"]);
    until_alone(&first);
}
