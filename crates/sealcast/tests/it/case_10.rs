//! Case 10: a retained message is deleted while its readers are there.

use std::{net::SocketAddr, process::Command};

use crate::{
    harness::{Agent, Hub, PATIENCE, Process, succeed},
    raw::{Client, Connect},
};

const TOPIC: &str = "home/ent/config";

/// A reader of MQTT 5 that prints payloads in brackets, with the user properties.
fn reader(agent: &Agent) -> Process {
    agent.subscribe("home/#", &["-V", "mqttv5", "-F", "%t [%p] %P"])
}

fn next(reader: &mut Process) -> String {
    reader.message(PATIENCE).expect("a message")
}

/// Whether the broker keeps a message of the topic, which it sends before what is published after the subscription.
fn is_kept(agent: SocketAddr) -> bool {
    let (mut client, _) = Client::connect(agent, &Connect { id: "kept", clean: true, ..Connect::default() });
    assert_eq!((client.subscribe("home/end", 0), client.subscribe(TOPIC, 0)), (0, 0));
    client.publish("home/end", b"end", 0, 0).unwrap();
    client.message().topic == TOPIC
}

#[test]
fn case_10_members_learn_who_deleted_a_retained_message() {
    let hub = Hub::start();
    let [agent, other] = hub.pair("home", [""; 2]);
    let mut five = reader(&other);
    let mut three = other.subscribe("home/#", &["-V", "mqttv311", "-F", "%t [%p]"]);
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let extra = ["-r", "-V", version, "-q", qos];
            agent.publish(TOPIC, "{}", &extra);
            assert_eq!(three.message(PATIENCE).as_deref(), Some("home/ent/config [{}]"));
            assert!(next(&mut five).starts_with("home/ent/config [{}]"));
            agent.publish(TOPIC, "", &extra);
            assert_eq!(three.message(PATIENCE).as_deref(), Some("home/ent/config []"), "{version} {qos}");
            let deleted = next(&mut five);
            assert!(deleted.starts_with("home/ent/config [] "), "{deleted}");
            assert!(
                deleted.contains("sealcast-sender:1111") && deleted.contains("sealcast-deleted:sender"),
                "{deleted}"
            );
            assert!(!is_kept(other.address()), "{version} {qos}");
            // The marker of that look.
            assert!(next(&mut five).starts_with("home/end [end]") && three.message(PATIENCE).is_some());
        }
    }
    assert!(other.log.lines(&["retained message deleted"]).is_empty());

    // A device without an agent, which stands for the broker itself: it has no key to seal with.
    agent.publish(TOPIC, "{}", &["-r"]);
    assert!(next(&mut five).starts_with("home/ent/config [{}]") && three.message(PATIENCE).is_some());
    let mut command = Command::new("mosquitto_pub");
    command.args(["-p", hub.mqtt_port(), "-t", TOPIC, "-n", "-r", "-q", "1"]);
    command.arg("--cafile").arg(hub.path().join("root.pem"));
    command.arg("--cert").arg(agent.dir.join("device.pem")).arg("--key").arg(agent.dir.join("device.key"));
    succeed(&mut command);
    assert_eq!(next(&mut five), "home/ent/config [] sealcast-deleted:broker");
    other.log.until(&[" WARN ", "retained message deleted", TOPIC, "no member has sealed that"]);
    agent.publish("home/end", "end", &[]);
    let after = three.message(PATIENCE);
    assert_eq!(after.as_deref(), Some("home/end [end]"), "a client that cannot see whose it is does not get it");
}
