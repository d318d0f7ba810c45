//! Values under attack: by a local client that wants to speak for its agent, and by what an alarm can bring about.

use std::{collections::BTreeSet, net::UdpSocket, process::Command, sync::mpsc};

use crate::{
    harness::{Agent, Hub, PATIENCE, PROBE_INTERVAL, output, succeed, until},
    raw::{Client, Connect},
    values::{MARKER, V5},
};

#[test]
fn a_will_is_checked_and_cannot_claim_that_it_was() {
    let hub = Hub::start();
    let rules = "
        [[quality]]
        filter = 'hsu0001/t'
        range = { max = 100 }
        [[publish]]
        filter = 'hsu0001/json'
        input = { format = 'json', value = '$.t' }
        output = { format = 'number' }";
    let policy = "
        [[receive]]
        filter = 'hsu0001/checked'
        require_checked = true";
    let [sender, receiver] = hub.pair("hsu0001", [rules, policy]);
    let will = |topic: &str, payload: &str| {
        let forged = ["-D", "will", "user-property", "sealcast-check", "pass"];
        let own = ["-D", "will", "user-property", "unit", "Cel"];
        let will = ["-V", "mqttv5", "--will-topic", topic, "--will-payload", payload, "--will-qos", "1"];
        sender.subscribe("hsu0001/none", &[&will[..], &forged, &own].concat())
    };
    let marked = |topic: &str| receiver.subscribe(topic, &[&V5[..], &["-t", MARKER]].concat());
    let [mut checked, mut sees, mut number] = ["hsu0001/checked", "hsu0001/t", "hsu0001/json"].map(marked);
    let mut everybody = sender.subscribe("hsu0001/checked", &[]);

    will("hsu0001/t", "50").kill();
    let line = sees.message(PATIENCE).unwrap();
    assert!(line.contains(" 50 ") && line.contains("unit:Cel") && !line.contains("sealcast-check"), "{line}");
    will("hsu0001/json", r#"{"t": 21.5}"#).kill();
    assert!(number.message(PATIENCE).unwrap().contains("hsu0001/json 21.5 "), "converted as what is published is");
    will("hsu0001/checked", "1").kill();
    // It was published, as the sender's own agent sees it; for the other one nobody has checked it.
    everybody.before("hsu0001/checked 1");
    receiver.nothing_before_marker(MARKER, &mut checked);
    // What a rule blocks, or nobody can read, is not left with the broker at all: the connection is refused.
    for (topic, payload) in [("hsu0001/t", "500"), ("hsu0001/json", "{")] {
        let will = ["-V", "mqttv5", "--will-topic", topic, "--will-payload", payload];
        let mut command = Command::new("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", sender.port(), "-t", "hsu0001/none", "-W", "200"]).args(will);
        let said = String::from_utf8(output(&mut command).stderr).unwrap();
        assert!(said.to_lowercase().contains("not authori"), "{said}");
    }
    for reader in [&mut sees, &mut number] {
        receiver.nothing_before_marker(MARKER, reader);
    }
}

#[test]
fn a_fail_safe_value_ends_with_the_first_good_value_also_one_within_the_dead_band() {
    let hub = Hub::start();
    let rules = "
        [[quality]]
        filter = 'hsu0001/t'
        range = { max = 100 }
        report = { dead_band = 5 }";
    let policy = "
        [[quality]]
        filter = 'hsu0001/t'
        fail_safe = { on_blocked = { after_ms = 300, publish = 'open', topic = 'hsu0001/valve' } }";
    let [sender, receiver] = hub.pair("hsu0001", [rules, policy]);
    let mut sees = receiver.subscribe("hsu0001/t", &[]);
    let mut valve = receiver.subscribe("hsu0001/valve", &[]);
    sender.publish("hsu0001/t", "20", &[]);
    assert_eq!(sees.message(PATIENCE).as_deref(), Some("hsu0001/t 20"));
    sender.publish("hsu0001/t", "500", &[]);
    assert_eq!(valve.message(PATIENCE).as_deref(), Some("hsu0001/valve open"));
    sender.publish("hsu0001/t", "21", &[]);
    assert_eq!(sees.message(PATIENCE).as_deref(), Some("hsu0001/t 21"), "it ends the alarm, so it has to arrive");
    // The fail-safe value stands no more.
    receiver.nothing_before_marker(MARKER, &mut receiver.subscribe("hsu0001/valve", &["-t", MARKER]));
}

/// What an HTTP door gives for a topic: status and body.
fn get(agent: &Agent, topic: &str) -> String {
    let url = format!("http://{}/topics/{topic}", agent.ready["http"].as_str().unwrap());
    succeed(Command::new("curl").args(["-sS", "--max-time", "200", "-w", " %{http_code}", &url]))
}

#[test]
fn what_cannot_see_that_a_value_is_flagged_gets_it_as_configured_and_never_a_stale_one_as_fresh() {
    let hub = Hub::start();
    let rules = "
        [[quality]]
        filter = 'hsu0001/t'
        step = { max = 10 }";
    let policy = "
        [http]
        listen = '127.0.0.1:0'
        [[receive]]
        filter = 'hsu0001/t'
        flagged = 'drop'
        [[topic]]
        filter = 'hsu0001/old'
        retained_max_age_ms = 1
        stale = 'flag'
        [freshness]
        clock_tolerance_ms = 500";
    let [sender, receiver] = hub.pair("hsu0001", [rules, policy]);
    sender.publish("hsu0001/t", "20", &["-r"]);
    until("it is there", || get(&receiver, "hsu0001/t") == "20 200");
    sender.publish("hsu0001/t", "40", &["-r"]);
    sender.publish("hsu0001/old", "5", &["-r"]);
    let said = get(&receiver, "hsu0001/t");
    assert!(said.ends_with("404"), "flagged, and a door has no place for that: {said}");
    until("it is too old", || get(&receiver, "hsu0001/old").ends_with("404"));
    receiver.nothing_before_marker(MARKER, &mut receiver.subscribe("hsu0001/old", &["-t", MARKER]));
    let line = receiver.subscribe("hsu0001/old", &V5).message(PATIENCE).unwrap();
    assert!(line.contains("sealcast-check:flag:stale"), "{line}");
}

#[test]
fn an_observation_that_is_ended_before_its_first_answer_is_answered() {
    let hub = Hub::start();
    let [door, _other] = hub.pair("hsu0001", ["[coap]\nlisten = '127.0.0.1:0'", ""]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(door.ready["coap"].as_str().unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // RFC 7252 §3: a confirmable GET with one byte of token, Observe (6) and two of Uri-Path (11) for each level.
    let get = |id: u8, observe: &[u8]| {
        let mut datagram = vec![0x41, 0x01, 0, id, 0x77, 0x60 | observe.len() as u8];
        datagram.extend(observe);
        datagram.extend(b"\x56topics\x07hsu0001\x04cold");
        datagram
    };
    // Begun and ended at once, more often than requests can be under way.
    let (mut ended, mut separate) = (0, BTreeSet::new());
    for at in 0..70 {
        socket.send(&get(2 * at, &[])).unwrap();
        socket.send(&get(2 * at + 1, &[1])).unwrap();
        let mut answered = [false; 2];
        let mut buffer = [0; 1500];
        while answered != [true; 2] {
            let length = socket.recv(&mut buffer).expect("an answer in time");
            let (kind, code, id) = (buffer[0] >> 4 & 3, buffer[1], [buffer[2], buffer[3]]);
            let reason = String::from_utf8_lossy(&buffer[..length]);
            match kind {
                // An empty acknowledgement: the machine is slow, and the answer comes by itself (RFC 7252 §5.2.2).
                2 if code == 0 => continue,
                2 if id == [0, 2 * at] || id == [0, 2 * at + 1] => {}
                0 => {
                    socket.send(&[0x60, 0, id[0], id[1]]).unwrap();
                    if !separate.insert(id) {
                        continue;
                    }
                }
                _ => continue,
            }
            match code {
                0xa3 if reason.contains("was ended") => {
                    ended += 1;
                    answered[0] = true;
                }
                // It was not ended in time on a machine that stopped this test between both datagrams.
                0x45 => answered[0] = true,
                0x84 => answered[1] = true,
                _ => panic!("{code:#x} {reason}"),
            }
        }
    }
    assert!(ended > 35, "{ended} of 70 were ended before their first answer");
}

/// Each refusal has its reason in words, and takes more bytes than the message.
#[test]
fn a_client_that_does_not_read_its_answers_is_not_read() {
    const MANY: usize = 400_000;
    let hub = Hub::start();
    let [agent] = hub.members("home", ["max_packet_bytes = 65536"]).map(|dir| Agent::start(&dir, &[]));
    until("the group has its keys", || agent.try_publish("home/t", "1", &[]));
    let options = Connect { id: "deaf", v5: true, clean: true, ..Connect::default() };
    let (mut client, _) = Client::connect(agent.address(), &options);
    let mut answers = client.another().unwrap();
    let (sender, held_up) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..MANY {
            if client.publish("elsewhere", &[0; 80], 2, 1).is_err() || sender.send(()).is_err() {
                return;
            }
        }
    });
    let mut sent = 0;
    while held_up.recv_timeout(4 * PROBE_INTERVAL).is_ok() {
        sent += 1;
    }
    assert!(sent < MANY, "the agent has taken everything");
    // It goes on where it was as soon as the client reads.
    for _ in 0..=sent {
        assert_eq!(answers.read().unwrap().0, 0x40);
    }
    held_up.recv_timeout(PATIENCE).unwrap();
}
