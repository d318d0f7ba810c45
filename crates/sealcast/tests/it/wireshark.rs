//! Sealed traffic in Wireshark: what everybody sees of it, and what a key log opens.

use std::{
    fmt::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use sealcast_mqtt::{PacketId, Properties, Publish, Qos, TopicName, Version};
use serde_json::Value;

use crate::harness::{Agent, Hub, PATIENCE, mosquitto_sub_at, succeed, until};

/// A capture of these messages, each a PUBLISH to a broker.
fn capture(dir: &Path, messages: &[(&str, Vec<u8>)]) -> PathBuf {
    let (text, pcap) = (dir.join("messages.txt"), dir.join("messages.pcap"));
    let mut dump = String::new();
    for (topic, payload) in messages {
        let publish = Publish {
            dup: false,
            qos: Qos::AtLeastOnce,
            retain: false,
            topic: Some(TopicName::new(topic).unwrap()),
            packet_id: PacketId::new(1),
            properties: Properties::new(),
            payload: payload.clone().into(),
        };
        for (line, bytes) in publish.encode(Version::V311).unwrap().chunks(16).enumerate() {
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(dump, "{:06x} {}", 16 * line, bytes.join(" ")).unwrap();
        }
    }
    std::fs::write(&text, dump).unwrap();
    succeed(Command::new("text2pcap").args(["-q", "-T", "50000,1883"]).arg(text).arg(&pcap));
    pcap
}

/// These fields of each sealed message.
fn fields<const N: usize>(pcap: &Path, keylog: Option<&Path>, names: [&str; N]) -> Vec<[String; N]> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/wireshark/sealcast.lua");
    let mut tshark = Command::new("tshark");
    tshark.arg("-X").arg(format!("lua_script:{}", script.display())).arg("-r").arg(pcap);
    tshark.args(["-Y", "sealcast", "-T", "fields"]).args(names.iter().flat_map(|name| ["-e", name]));
    if let Some(keylog) = keylog {
        tshark.arg("-o").arg(format!("sealcast.keylog:{}", keylog.display()));
    }
    let lines = succeed(&mut tshark);
    let fields = |line: &str| <[String; N]>::try_from(line.split('\t').map(str::to_owned).collect::<Vec<_>>()).unwrap();
    lines.lines().map(fields).collect()
}

#[test]
fn the_dissector_reads_the_test_vectors() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/envelope-vectors.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(vectors).unwrap()).unwrap();
    let expected: Vec<&Value> = vectors["messages"].as_array().unwrap().iter().collect();
    let text = |message: &Value, name: &str| message[name].as_str().unwrap().to_owned();
    let frames: Vec<(String, Vec<u8>)> =
        expected.iter().map(|message| (text(message, "topic"), hex::decode(text(message, "frame")).unwrap())).collect();
    let dir = tempfile::tempdir().unwrap();
    let messages: Vec<(&str, Vec<u8>)> = frames.iter().map(|(topic, frame)| (topic.as_str(), frame.clone())).collect();
    let pcap = capture(dir.path(), &messages);

    let outside = ["sealcast.leaf", "sealcast.start", "sealcast.counter", "sealcast.payload"];
    let seen = fields(&pcap, None, outside);
    assert_eq!(seen.len(), expected.len());
    for (seen, message) in seen.iter().zip(&expected) {
        let start = format!("{:#010x}", message["start"].as_u64().unwrap());
        let expected = [message["leaf"].to_string(), start, message["counter"].to_string(), String::new()];
        assert_eq!(seen, &expected, "without a key the payload is not seen");
    }

    let keylog = dir.path().join("keys");
    let line = |secret: &str| format!("# a comment\nSEALCAST_BASE_KEY 7 0 3 {secret}\n");
    std::fs::write(&keylog, line(vectors["secret"].as_str().unwrap())).unwrap();
    let inside = [
        "sealcast.group",
        "sealcast.epoch",
        "sealcast.payload",
        "sealcast.properties",
        "sealcast.flags.retain",
        "sealcast.flags.mode",
        "sealcast.report.distance",
    ];
    for (seen, message) in fields(&pcap, Some(&keylog), inside).iter().zip(&expected) {
        let mode = ["alone", "batch", "group"].iter().position(|mode| message["mode"] == *mode).unwrap();
        let distance = message["height"].as_u64().unwrap() - vectors["began_at"].as_u64().unwrap();
        let retain = u8::from(message["retain"].as_bool().unwrap()).to_string();
        let (payload, props) = (text(message, "payload"), text(message, "props"));
        let expected = ["7".into(), "3".into(), payload, props, retain, mode.to_string(), distance.to_string()];
        assert_eq!(seen, &expected, "{message}");
    }

    // Each change of key, topic or bytes is seen.
    let bad = |pcap: &Path, keylog: &Path| {
        let seen = fields(pcap, Some(keylog), ["sealcast.payload", "sealcast.bad_tag"]);
        assert!(seen.iter().all(|[payload, bad]| payload.is_empty() && !bad.is_empty()), "{seen:?}");
    };
    let other = dir.path().join("other");
    std::fs::write(&other, line(&"0".repeat(64))).unwrap();
    bad(&pcap, &other);
    bad(&capture(dir.path(), &[("hsu0001/room2/temperature", messages[0].1.clone())]), &keylog);
    let mut changed = messages[0].1.clone();
    changed[20] ^= 1;
    bad(&capture(dir.path(), &[(messages[0].0, changed)]), &keylog);
    let not_ours = [("t", b"plain".to_vec()), ("t", vec![0xFD]), ("t", messages[0].1[..20].to_vec())];
    assert!(fields(&capture(dir.path(), &not_ours), None, ["sealcast.leaf"]).is_empty());
}

#[test]
fn an_agents_key_log_opens_what_the_broker_carries() {
    let hub = Hub::start();
    let dirs = hub.members("hsu0001", ["", ""]);
    let keylog = hub.dir.path().join("keys");
    let sender = Agent::start(&dirs[0], &[]);
    let reader = Agent::start(&dirs[1], &["--keylog", keylog.to_str().unwrap()]);
    reader.log.until(&[" WARN ", "--keylog", "IN THE CLEAR"]);
    crate::harness::until_joined(&sender, &reader, "hsu0001/probe");
    assert_eq!(std::fs::metadata(&keylog).unwrap().permissions().mode() & 0o777, 0o600);

    // What the broker has, whoever reads it there.
    let file = |name: &str| dirs[1].join(name).to_str().unwrap().to_owned();
    let (root, certificate, key) = (file("root.pem"), file("device.pem"), file("device.key"));
    let at = ["-h", "localhost", "-p", hub.mqtt_port(), "--cafile", &root, "--cert", &certificate, "--key", &key];
    let mut wire = mosquitto_sub_at(&at, "hsu0001/t", &["-F", "%x"]);
    let mut behind = reader.subscribe("hsu0001/t", &[]);
    sender.publish("hsu0001/t", "temperature 27.0", &["-q", "1"]);
    assert_eq!(behind.message(PATIENCE).as_deref(), Some("hsu0001/t temperature 27.0"));
    let frame = hex::decode(wire.message(PATIENCE).unwrap()).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let pcap = capture(dir.path(), &[("hsu0001/t", frame)]);
    let names = ["sealcast.payload.text", "sealcast.flags.acknowledged", "sealcast.bad_tag"];
    assert_eq!(fields(&pcap, Some(&keylog), names), [["temperature 27.0".to_owned(), "1".into(), String::new()]]);

    // Without being asked, no agent writes keys.
    let lines = || std::fs::read_to_string(&keylog).unwrap().lines().count();
    let before = lines();
    hub.operate(&["group", "reset", "hsu0001"]);
    until("the next epochs are logged, too", || lines() > before);
    assert!(sender.log.lines(&["--keylog"]).is_empty());
}
