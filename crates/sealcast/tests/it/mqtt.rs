//! MQTT clients as they are: bridges, packets and topics of any size, wills that delete, and connections that end at once.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};

use crate::{
    harness::{Agent, Hub, Mosquitto, PATIENCE, PROBE_INTERVAL, configure, mosquitto_sub, until, until_joined},
    raw::{Client, Connect},
};

/// A client of `agent`, connected with Clean Session.
fn connect(agent: &Agent, id: &str, v5: bool) -> Client {
    Client::connect(agent.address(), &Connect { id, v5, clean: true, ..Connect::default() }).0
}

/// A hub and two devices of a group with all topics below `home`.
fn home(config: &str) -> (Hub, Agent, Agent) {
    let hub = Hub::start();
    let [agent, other] = hub.pair("home", [config; 2]);
    (hub, agent, other)
}

/// A mosquitto that hands on what is below `home`, both ways, as a bridge.
fn bridge(agent: &Agent, config: &str) -> Mosquitto {
    let address = agent.address();
    Mosquitto::with("mqtt", |_| {
        format!("allow_anonymous true\nconnection br1\naddress {address}\ntopic home/# both 1\n{config}")
    })
}

fn the_bridge_works_both_ways(config: &str) {
    let (_hub, agent, other) = home("");
    let local = bridge(&agent, config);
    let mut inside = mosquitto_sub(&local.port(), "home/#", &[]);
    let mut outside = other.subscribe("home/#", &[]);
    until("the bridge is connected", || {
        local.publish("home/up", "hello", &[]);
        outside.message(PROBE_INTERVAL).is_some()
    });
    local.publish("home/once", "1", &[]);
    loop {
        let message = outside.message(PATIENCE).expect("what is published inside comes out");
        if message == "home/once 1" {
            break;
        }
        assert_eq!(message, "home/up hello");
    }
    other.publish("home/down", "21.5", &[]);
    let mut copies = 0;
    loop {
        match inside.message(PATIENCE).expect("what is published outside comes in").as_str() {
            "home/down 21.5" => break,
            "home/once 1" => copies += 1,
            message => assert_eq!(message, "home/up hello"),
        }
    }
    assert_eq!(copies, 1, "nothing that the bridge sent comes back to it");
    // What it says of itself: its will and its state are on `$SYS/broker/connection/…/state`.
    agent.log.until(&[" INFO ", "its will is dropped", "$SYS/broker/connection/"]);
    agent.log.until(&[" INFO ", "not sent", "$SYS/broker/connection/"]);
    for said in ["will is dropped", "not sent"] {
        assert_eq!(agent.log.lines(&[said]).len(), 1, "once");
    }
    for bad in ["connection closed", "`clear`", "refused"] {
        assert!(agent.log.lines(&["br1", bad]).is_empty(), "{:?}", agent.log.lines(&[bad]));
    }
}

#[test]
fn case_07_a_mosquitto_bridge_with_its_defaults_works_both_ways() {
    the_bridge_works_both_ways("");
}

#[test]
fn case_07_a_mosquitto_bridge_of_mqtt_5_works_both_ways() {
    the_bridge_works_both_ways("bridge_protocol_version mqttv50\n");
}

#[test]
fn case_07_a_mosquitto_bridge_of_mqtt_3_1_works_both_ways() {
    the_bridge_works_both_ways("bridge_protocol_version mqttv31\n");
}

#[test]
fn clients_of_mqtt_3_1_publish_and_get_messages_at_any_qos() {
    let (_hub, agent, other) = home("");
    for qos in ["0", "1", "2"] {
        let v31 = ["-V", "mqttv31", "-q", qos];
        let mut reader = other.subscribe("home/old/#", &v31);
        agent.publish("home/old/1", qos, &v31);
        assert_eq!(reader.message(PATIENCE), Some(format!("home/old/1 {qos}")));
    }
    // It gets what was kept while it was away.
    let session = ["-V", "mqttv31", "-q", "1", "-i", "old", "-c"];
    drop(other.subscribe("home/old/#", &session));
    agent.publish("home/old/2", "while it was away", &["-V", "mqttv31", "-q", "1"]);
    let mut reader = other.subscribe("home/old/#", &session);
    assert_eq!(reader.message(PATIENCE).as_deref(), Some("home/old/2 while it was away"));
}

/// Publishes zeros with mosquitto_pub; whether it got its acknowledgement within `patience_s` seconds.
fn publish_zeros(agent: &Agent, bytes: usize, version: &str, patience_s: &str) -> bool {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &vec![0; bytes]).unwrap();
    let mut command = Command::new("timeout");
    command.args([patience_s, "mosquitto_pub", "-h", "127.0.0.1", "-p", agent.port(), "-t", "home/big", "-q", "1"]);
    command.args(["-V", version]).arg("-f").arg(file.path()).stderr(Stdio::null());
    command.status().unwrap().success()
}

#[test]
fn case_08_a_packet_that_is_too_large_is_named_in_the_log_once() {
    let (_hub, agent, _other) = home("");
    let large = vec![0; 1_100_000];
    for _ in 0..3 {
        let mut client = connect(&agent, "big", false);
        // The agent may close before all of it is written.
        let _ = client.publish("home/big", &large, 2, 1);
        assert_eq!(client.closed(), None);
    }
    let said = agent.log.lines(&[" WARN ", "connection closed"]);
    assert_eq!(said.len(), 1, "{said:?}");
    for part in ["big", "1100016 bytes", "1048576", "max_packet_bytes"] {
        assert!(said[0].contains(part), "{said:?}");
    }
    // One that is too large only once it is sealed.
    let mut client = connect(&agent, "sealed", true);
    client.publish("home/big", &large, 2, 1).unwrap();
    assert_eq!(client.closed(), Some(0x95), "MQTT 5 has a reason code");
}

#[test]
fn case_08_the_limit_can_be_raised() {
    const LIMIT: usize = 8 << 20;
    let mut hub = Hub::start();
    hub.configure(&format!("max_packet_bytes = {LIMIT}"));
    let [agent, other] = hub.pair("home", [&format!("max_packet_bytes = {LIMIT}"); 2]);
    for (version, reader) in [("mqttv311", "mqttv5"), ("mqttv5", "mqttv311")] {
        let mut large = other.subscribe("home/big", &["-V", reader, "-F", "%t %l"]);
        assert!(publish_zeros(&agent, 5_000_000, version, "60"), "{version}");
        assert_eq!(large.message(PATIENCE).as_deref(), Some("home/big 5000000"));
    }
    // An MQTT 5 client is told a limit that leaves room for the seal.
    let mut client = Client::open(agent.address(), true).unwrap();
    client.send(0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\x01c").unwrap();
    let (_, connack) = client.read().unwrap();
    let at = connack.windows(1).position(|byte| byte == [0x27]).expect("Maximum Packet Size");
    let told = u32::from_be_bytes(connack[at + 1..at + 5].try_into().unwrap()) as usize;
    assert!((LIMIT - 1000..LIMIT).contains(&told), "{told}");
}

#[test]
fn case_08_what_the_hub_or_the_receiver_does_not_take_is_named_too() {
    let hub = Hub::start();
    let [agent, other] = hub.pair("home", ["max_packet_bytes = 8388608"; 2]);
    // MQTT 3.1.1 has no word for the hub's limit; the agent's own connection knows it.
    assert!(!publish_zeros(&agent, 5_000_000, "mqttv311", "3"));
    agent.log.until(&[" WARN ", "publish refused", "4194304", "hub.toml"]);
    drop(agent);
    drop(other);
    // A receiver that takes less: it stays connected, and gets the next message.
    let dir = hub.dir.path().join("agents/1112");
    configure(&dir, "");
    let receiver = Agent::start(&dir, &[]);
    let sender = Agent::start(&hub.dir.path().join("agents/1111"), &[]);
    let mut reader = receiver.subscribe("home/#", &["-V", "mqttv311", "-F", "%t %l"]);
    until("both have their keys", || {
        sender.publish("home/small", "x", &[]);
        reader.message(PROBE_INTERVAL).is_some()
    });
    assert!(publish_zeros(&sender, 3_000_000, "mqttv311", "60"));
    receiver.log.until(&[" WARN ", "delivery refused", "home/big", "max_packet_bytes"]);
    sender.publish("home/small", "after", &[]);
    loop {
        let message = reader.message(PATIENCE).expect("what comes after it");
        assert!(message.starts_with("home/small "), "{message}");
        if message == "home/small 5" {
            break;
        }
    }
    assert!(receiver.log.lines(&["connection closed"]).is_empty());
}

/// The topics below `home` that the broker keeps messages for, read by a client of `agent`.
fn kept(agent: SocketAddr, filter: &str) -> Vec<String> {
    let (mut client, _) = Client::connect(agent, &Connect { id: "kept", clean: true, ..Connect::default() });
    assert_eq!(client.subscribe("home/end", 0), 0);
    assert_eq!(client.subscribe(filter, 0), 0);
    // Retained messages come before what is published after the subscription.
    client.publish("home/end", b"end", 0, 0).unwrap();
    let mut topics = Vec::new();
    loop {
        let message = client.message();
        if message.topic == "home/end" && !message.retain {
            break;
        }
        topics.push(message.topic);
    }
    client.disconnect();
    topics
}

#[test]
fn case_09_an_empty_retained_will_deletes_what_is_kept() {
    let (hub, agent, other) = home("");
    let writer = other.address();
    let (mut publisher, _) = Client::connect(writer, &Connect { id: "p", clean: true, ..Connect::default() });
    let mut own = connect(&agent, "own", false);
    own.publish_acked("home/present", b"online", 1, 1);
    own.publish_acked("home/state", b"online", 1, 2);
    publisher.publish_acked("home/other", b"kept", 1, 1);
    let all = ["home/other", "home/present", "home/state"];
    until("they are kept", || kept(writer, "home/#") == all);
    for v5 in [false, true] {
        own.publish_acked("home/present", b"online", 1, 3);
        until("it is there", || kept(writer, "home/present") == ["home/present"]);
        let will = Some(("home/present", &b""[..], 1, true, 0));
        let (client, _) =
            Client::connect(agent.address(), &Connect { id: "w", v5, clean: true, will, ..Connect::default() });
        // No DISCONNECT.
        drop(client);
        until("the will deletes it", || kept(writer, "home/present").is_empty());
    }
    // One that is not empty takes the place of what was kept.
    let will = Some(("home/state", &b"offline"[..], 1, true, 0));
    drop(Client::connect(agent.address(), &Connect { id: "w", clean: true, will, ..Connect::default() }));
    let state = |agent: &Agent| agent.subscribe("home/state", &[]).message(PATIENCE);
    until("the will is there", || state(&other).as_deref() == Some("home/state offline"));

    // A new member gets what is kept sealed again: not what the wills have replaced.
    let third = Agent::start(&hub.enroll("1113"), &[]);
    hub.operate(&["group", "grant", "home", "1113"]);
    until_joined(&other, &third, "home/probe");
    let reader = third.address();
    until("the new member reads what is kept", || kept(reader, "home/#") == ["home/other", "home/state"]);
    assert_eq!(state(&third).as_deref(), Some("home/state offline"));
}

#[test]
fn a_will_that_the_broker_never_took_replaces_nothing() {
    let mut hub = Hub::start();
    hub.configure("[limits]\nmax_device_sessions = 3");
    let [agent, other] = hub.pair("home", [""; 2]);
    let session = |id| Connect { id, clean: true, v5: true, expiry_s: 1000, ..Connect::default() };
    let (mut own, _) = Client::connect(agent.address(), &session("a"));
    own.publish_acked("home/state", b"online", 1, 1);
    let _others = ["b", "c"].map(|id| Client::connect(agent.address(), &session(id)));
    let will = Some(("home/state", &b"offline"[..], 1, true, 0));
    let (refused, _, code) = Client::try_connect(agent.address(), &Connect { will, ..session("d") }).unwrap();
    assert_ne!(code, 0);
    assert_eq!(refused.closed(), None);

    // A new epoch: the agent seals again what it knows to be kept.
    let third = Agent::start(&hub.enroll("1113"), &[]);
    hub.operate(&["group", "grant", "home", "1113"]);
    until_joined(&other, &third, "home/probe");
    let state = third.subscribe("home/state", &[]).message(PATIENCE);
    assert_eq!(state.as_deref(), Some("home/state online"));
}

#[test]
fn case_12_a_topic_that_is_too_deep_is_refused_with_the_reason() {
    let (_hub, agent, _other) = home("");
    let deep = "home/".to_owned() + &"a/".repeat(250);
    let mut five = connect(&agent, "five", true);
    assert_eq!(five.publish_acked(&deep, b"x", 0, 1), 0x90);
    five.publish(&deep, b"x", 4, 2).unwrap();
    let (first, pubrec) = five.read().unwrap();
    assert_eq!((first, &pubrec[..3]), (0x50, &[0, 2, 0x90][..]));
    assert_eq!(five.publish_acked("home/\u{2}", b"x", 0, 3), 0x90, "a control character");
    assert_eq!(five.subscribe(&deep, 0), 0x8F);
    assert_eq!(five.subscribe("home/#/a", 0), 0x8F);
    assert_eq!(five.subscribe("home/1", 1), 1);
    five.nothing_more();
    agent.log.until(&[" WARN ", "publish refused", "five", "252 levels", "128"]);
    agent.log.until(&[" WARN ", "subscription refused", "five", "252 levels"]);
    // MQTT 3.1.1 has a code for the filter, and for the message only the end of the connection.
    let mut three = connect(&agent, "three", false);
    assert_eq!(three.subscribe(&deep, 0), 0x80);
    three.nothing_more();
    three.publish(&deep, b"x", 2, 1).unwrap();
    assert_eq!(three.closed(), None);
    agent.log.until(&[" WARN ", "publish refused", "three", "252 levels"]);
    // What MQTT forbids ends the connection of either, with the reason in the log.
    let mut wild = connect(&agent, "wild", true);
    wild.publish("home/+", b"x", 2, 1).unwrap();
    assert_eq!(wild.closed(), Some(0x90));
    agent.log.until(&[" WARN ", "connection closed", "wild", "wildcard"]);
    let mut nul = connect(&agent, "nul", false);
    nul.publish("home/\0", b"x", 2, 1).unwrap();
    assert_eq!(nul.closed(), None);
    agent.log.until(&[" WARN ", "connection closed", "nul", "NUL"]);
}

#[test]
fn no_local_on_a_shared_subscription_is_refused_by_the_agent() {
    let (_hub, agent, _other) = home("");
    let mut client = connect(&agent, "shared", true);
    let mut body = vec![0, 9, 0, 0, 15];
    body.extend(b"$share/g/home/1");
    body.push(5);
    client.send(0x82, &body).unwrap();
    assert_eq!(client.closed(), Some(0x82));
    agent.log.until(&[" WARN ", "connection closed", "shared", "No Local"]);
}

const RUNS: usize = 50;
const DELETES: usize = 9;

fn run_topic(run: usize, at: usize) -> String {
    format!("home/run/{run}/{at}")
}

/// One client after the other deletes nine retained messages at QoS 0, says DISCONNECT and closes, while the broker still
/// sends it what is kept. How many messages are kept afterwards is up to the caller to see.
fn delete_and_leave(agent: SocketAddr) {
    for run in 0..RUNS {
        let options = Connect { id: &format!("run-{run}"), clean: true, ..Connect::default() };
        let (mut client, _) = Client::connect(agent, &options);
        client.subscribe("home/run/#", 0);
        let mut bytes = Vec::new();
        for at in 0..DELETES {
            let topic = run_topic(run, at);
            bytes.extend([0x31, topic.len() as u8 + 2, 0, topic.len() as u8]);
            bytes.extend(topic.as_bytes());
        }
        bytes.extend([0xE0, 0]);
        client.send_all(&bytes).unwrap();
        if run % 2 == 0 {
            // It reads what still comes, as a client that closes in good order; the others just go.
            client.closed();
        }
    }
}

fn keep_all(agent: SocketAddr) {
    let (mut client, _) = Client::connect(agent, &Connect { id: "keeper", clean: true, ..Connect::default() });
    for run in 0..RUNS {
        for at in 0..DELETES {
            client.publish_acked(&run_topic(run, at), &[0x30; 2000], 1, 1 + at as u16);
        }
    }
    client.disconnect();
}

#[test]
fn a_client_that_says_disconnect_loses_nothing_on_the_hubs_broker() {
    let (_hub, agent, other) = home("");
    keep_all(agent.address());
    let reader = other.address();
    until("all are kept", || kept(reader, "home/run/#").len() == RUNS * DELETES);
    delete_and_leave(agent.address());
    until("all are deleted", || kept(reader, "home/run/#").is_empty());
}

#[test]
fn a_client_that_says_disconnect_loses_nothing_on_mosquitto() {
    let (mut hub, agent, _other) = home("");
    // It has its keys, and has read the ledger; from here on it has another broker.
    hub.kill();
    let mosquitto = Mosquitto::in_place_of(&hub);
    let direct = mosquitto.address();
    keep_all(agent.address());
    assert_eq!(kept(direct, "home/run/#").len(), RUNS * DELETES);
    delete_and_leave(agent.address());
    until("all are deleted", || kept(direct, "home/run/#").is_empty());
}

#[test]
fn what_a_client_has_sent_before_the_agent_is_shut_down_is_not_lost() {
    const SENT: usize = 200;
    let (_hub, mut agent, other) = home("");
    let mut reader = other.subscribe("home/last/#", &[]);
    for v5 in [false, true] {
        let mut client = connect(&agent, "last", v5);
        let mut bytes = Vec::new();
        for number in 0..SENT {
            let topic = format!("home/last/{number}");
            bytes.extend([0x30, topic.len() as u8 + 3 + u8::from(v5), 0, topic.len() as u8]);
            bytes.extend(topic.as_bytes());
            bytes.extend(&[0, b'x'][usize::from(!v5)..]);
        }
        client.send_all(&bytes).unwrap();
        if v5 {
            agent.end();
            assert_eq!(client.closed(), Some(0x8B), "and the client reads why");
            for number in 0..SENT {
                assert_eq!(reader.message(PATIENCE), Some(format!("home/last/{number} x")));
            }
            return;
        }
        for number in 0..SENT {
            assert_eq!(reader.message(PATIENCE), Some(format!("home/last/{number} x")));
        }
    }
}

#[test]
fn what_waits_for_a_key_is_sent_although_its_client_has_gone() {
    let hub = Hub::start();
    let (member, newcomer) = (hub.enroll("1111"), hub.enroll("1112"));
    configure(&newcomer, "key_wait_ms = 120000");
    hub.group("home", "home/#", &["1111"]);
    let agent = Agent::start(&member, &[]);
    until_joined(&agent, &agent, "home/probe");
    let mut agent = agent;
    agent.kill();
    // Nobody can add it now.
    hub.operate(&["group", "grant", "home", "1112"]);
    let newcomer = Agent::start(&newcomer, &[]);
    let mut client = connect(&newcomer, "brief", false);
    client.publish("home/waits", b"x", 1, 0).unwrap();
    // DISCONNECT. The agent, which still has the message, does not close its end yet.
    client.send(0xE0, &[]).unwrap();
    drop(client);
    agent.restart();
    until("it arrives", || kept(agent.address(), "home/waits") == ["home/waits"]);
}
