//! What a person is told beside the result: notes of the operator's commands, the agent's log, and where a configuration
//! is wrong.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use crate::harness::{Agent, Hub, configure, output, refuse, sealcast, succeed, until_joined};

/// Standard output and standard error of an operator's command that succeeds.
fn operate(hub: &Hub, args: &[&str]) -> (String, String) {
    let output = output(&mut hub.command(args));
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{args:?}: {out}{err}");
    (out, err)
}

#[test]
fn the_operator_is_told_of_devices_and_topics_that_are_known_already() {
    let hub = Hub::start();
    let (token, note) = operate(&hub, &["device", "add", "1111"]);
    assert_eq!((token.lines().count(), note.as_str()), (1, ""), "it is new");
    hub.enroll("1111");
    let (token, note) = operate(&hub, &["device", "add", "1111"]);
    assert_eq!(token.lines().count(), 1);
    assert!(note.contains("1111 is already enrolled") && note.contains("renews"), "{note}");
    hub.operate(&["device", "revoke", "1111"]);
    let (_, note) = operate(&hub, &["device", "add", "1111"]);
    assert!(note.contains("1111 is revoked") && note.contains("grant its groups again"), "{note}");

    let create = |name: &str, filter: &str| operate(&hub, &["group", "create", name, "--filter", filter]).1;
    assert_eq!(create("plant", "plant/#"), "");
    assert_eq!(create("other", "other/#"), "");
    let valves = ["group", "create", "valves", "--filter", "plant/+/valve"];
    let refused = refuse([&valves[..], &["--operator", hub.operator().to_str().unwrap()]].concat());
    let loss = "members of plant that are not granted valves can no longer publish or read there";
    assert!(refused.contains("plant/+/valve takes topics from plant/#") && refused.contains(loss), "{refused}");
    assert!(refused.contains("--overlap"), "{refused}");
    assert!(!hub.operate(&["group", "list"]).contains("valves"), "nothing was created");
    let (_, note) = operate(&hub, &[&valves[..], &["--overlap"]].concat());
    assert!(note.contains(loss), "{note}");
    let note = create("all", "#");
    assert_eq!(note.lines().count(), 3, "{note}");
    assert!(note.contains("topics that other/# of group other matches stay with other"), "{note}");
}

#[test]
fn what_the_ledger_refuses_is_told_with_names() {
    let hub = Hub::start();
    hub.enroll("1111");
    hub.enroll("1112");
    hub.group("plant", "plant/#", &["1111"]);
    hub.operate(&["device", "revoke", "1112"]);
    for (args, said) in [
        (&["group", "grant", "plant", "1111"][..], "1111 is already granted plant"),
        (&["group", "grant", "plant", "1112"], "1112 is revoked: enrol it again"),
        (&["group", "revoke", "plant", "1112"], "1112 is not granted plant"),
        (&["device", "revoke", "1112"], "1112 is already revoked"),
        (&["group", "create", "other", "--filter", "plant/#"], "the filter \"plant/#\" is taken by plant"),
    ] {
        let refused = refuse([args, &["--operator", hub.operator().to_str().unwrap()]].concat());
        assert!(refused.contains(&format!("the ledger did not take the entry: {said}")), "{args:?}: {refused}");
    }
}

#[test]
fn without_a_running_hub_a_device_is_invited_all_the_same() {
    let mut hub = Hub::start();
    hub.kill();
    let (token, note) = operate(&hub, &["device", "add", "1111"]);
    assert_eq!((token.lines().count(), note.as_str()), (1, ""));
}

/// A client without an identifier that publishes at QoS 0 to a topic of no group, and what comes until the agent closes.
fn anonymous(agent: &Agent, version: u8) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(&agent.listen).unwrap();
    // MQTT 5 has properties here and there: none.
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    let packet = |kind: u8, parts: &[&[u8]]| {
        let body = parts.concat();
        [&[kind, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()
    };
    let connect = packet(0x10, &[b"\0\x04MQTT", &[version, 2, 0, 60], properties, &[0, 0]]);
    let publish = packet(0x30, &[b"\0\x09nobodys/t", properties, b"x"]);
    socket.write_all(&[connect, publish].concat()).unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    (socket.local_addr().unwrap().to_string(), answer)
}

#[test]
fn a_client_without_an_identifier_can_be_found_in_the_log() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let agent = Agent::start(&dir, &[]);
    let (address, _) = anonymous(&agent, 4);
    agent.log.until(&["publish refused", &format!("no id, from {address}"), "nobodys/t"]);
    // The same again within ten seconds is counted and not logged, though it is another connection.
    let (again, _) = anonymous(&agent, 4);
    assert_eq!(agent.log.count(&format!("publish refused client=\"no id, from {again}")), 0);
    let other = Agent::start(&hub.enroll("1112"), &[]);
    anonymous(&other, 5);
    let line = other.log.until(&["publish refused", "(given by the broker)"]);
    assert!(!line.contains("client=\"\""), "{line}");
}

#[test]
fn a_broker_that_is_away_is_logged_once_and_not_for_each_client() {
    let mut hub = Hub::start();
    let dirs = hub.members("hsu0001", ["", ""]);
    let [sender, receiver] = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&sender, &receiver, "hsu0001/probe");
    hub.kill();
    for _ in 0..5 {
        anonymous(&sender, 4);
    }
    sender.log.until(&["no connection to the broker"]);
    assert_eq!(sender.log.count("no connection to the broker"), 1);
    hub.restart();
    until_joined(&sender, &receiver, "hsu0001/probe");
    assert_eq!(sender.log.count("no connection to the broker"), 1);
    sender.log.until(&["the broker is back"]);
}

#[test]
fn a_device_that_lost_its_group_says_by_what() {
    let hub = Hub::start();
    let dirs = hub.members("hsu0001", ["", ""]);
    let [first, second] = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&first, &second, "hsu0001/probe");
    hub.operate(&["group", "revoke", "hsu0001", "1112", "--reason", "sold"]);
    second.log.until(&[
        " WARN ",
        "hsu0001",
        "operator revoked hsu0001 from 1112: sold",
        "`sealcast group grant hsu0001 1112`",
    ]);
    // Another key for the device ends its grants too, and the connection at once.
    hub.operate(&["group", "grant", "hsu0001", "1112"]);
    until_joined(&first, &second, "hsu0001/probe");
    let url = format!("https://{}", hub.est);
    let elsewhere = hub.path().join("elsewhere");
    let token = hub.invite("1112");
    succeed(sealcast().args(["enroll", "--hub", &url]).arg("--token-file").arg(token).arg("--dir").arg(&elsewhere));
    second.log.until(&[" WARN ", "no control connection to the hub", "or the device has a newer one"]);
}

#[test]
fn a_device_that_is_revoked_says_so_and_the_hub_says_it_once_a_minute() {
    let hub = Hub::start();
    let agent = Agent::start(&hub.enroll("1111"), &[]);
    agent.log.until(&["the control connection to the hub is up"]);
    hub.operate(&["device", "revoke", "1111"]);
    agent.log.until(&[" WARN ", "no control connection to the hub", "this device is revoked", "device add"]);
    // Each is a connection to the broker that is refused.
    for _ in 0..5 {
        anonymous(&agent, 4);
    }
    hub.log.until(&[" WARN ", "connection refused: the device is revoked", "1111"]);
    assert_eq!(hub.log.count("connection refused"), 1);
}

#[test]
fn an_agent_that_never_reached_its_hub_has_not_lost_it() {
    let mut hub = Hub::start();
    let dir = hub.enroll("1111");
    hub.kill();
    let agent = Agent::start(&dir, &[]);
    agent.log.until(&[" WARN ", "no control connection to the hub yet", "the agent tries again"]);
}

/// A client with the device's own certificate, beside its agent.
#[test]
fn the_hub_names_the_group_of_a_refused_publish_once_a_minute() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    hub.operate(&["group", "create", "hsu0001", "--filter", "hsu0001/#"]);
    let message = ["-h", "localhost", "-p", hub.mqtt_port(), "-t", "hsu0001/t", "-m", "x", "-q", "1", "-V", "311"];
    for _ in 0..5 {
        let mut publish = Command::new("mosquitto_pub");
        publish.args(message).arg("--cafile").arg(hub.path().join("root.pem"));
        publish.arg("--cert").arg(dir.join("device.pem")).arg("--key").arg(dir.join("device.key"));
        assert!(!output(&mut publish).status.success());
    }
    let line = hub.log.until(&["publish refused", "group hsu0001", "`sealcast group grant hsu0001 1111`"]);
    assert!(line.contains("topic=hsu0001/t"), "{line}");
    hub.log.until(&["connection closed"]);
    assert_eq!((hub.log.count("publish refused"), hub.log.count("connection closed")), (1, 1));
}

#[test]
fn a_wrong_value_is_named_with_its_file_and_line() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let check = |text: &str, said: &[&str]| {
        configure(&dir, text);
        let error = refuse(["agent", "--check", "--dir", dir.to_str().unwrap()]);
        for said in said {
            assert!(error.contains(said), "{said:?} is not in: {error}");
        }
    };
    check("\nmax_clients = 0", &["agent.toml, line 2: max_clients: must be"]);
    let rule = "[[quality]]\nfilter = 'a'\n";
    check(
        &format!("{rule}\n{rule}"),
        &["agent.toml, line 4: [[quality]] table number 2 (filter = \"a\")", "same filter"],
    );
    check(
        "[[topic]]\nfilter = 'a/#/b'",
        &["agent.toml, line 1: [[topic]] table number 1 (filter = \"a/#/b\"): filter"],
    );
    let units =
        "[[publish]]\nfilter = 'a'\ninput = { format = 'json', value = '$.t', unit = 'degF', convert_to = 'bar' }";
    check(
        &format!("# one\n{units}"),
        &["agent.toml, line 2: [[publish]] table number 1 (filter = \"a\"): ", "convert"],
    );
    configure(&dir, &units.replace("bar", "nosuch"));
    let error = refuse(["agent", "--check", "--dir", dir.to_str().unwrap()]);
    assert_eq!(error.matches("unit `nosuch` is in no registry").count(), 1, "{error}");
    let topic = "fail_safe = { on_silence = { after_ms = 1, publish = 'x', topic = '$SYS/x' } }";
    check(
        &format!("{rule}{topic}"),
        &["line 1: [[quality]] table number 1 (filter = \"a\"): fail_safe.on_silence.topic"],
    );
    std::fs::write(hub.path().join("hub.toml"), "[limits]\nmax_sessions = 0\n").unwrap();
    let error = refuse(["up", "--check", "--dir", hub.path().to_str().unwrap()]);
    assert!(error.contains("hub.toml, line 2: limits.max_sessions: must be"), "{error}");
    let error = refuse(["topics", "--dir", "nosuch"]);
    assert!(error.contains("there is no folder nosuch"), "{error}");
    let error = refuse(["topics", "--dir", hub.path().to_str().unwrap()]);
    assert!(error.contains("not the folder of an enrolled device"), "{error}");
}
