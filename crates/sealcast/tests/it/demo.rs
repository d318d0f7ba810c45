//! `sealcast demo`: every step of the experiment holds, and its capture is one that Wireshark reads.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Mosquitto, output, own_certificate, sealcast, secret_file, succeed};

/// Hub, agents and all others are clients of a mosquitto that lets anybody in.
#[test]
fn every_step_holds_on_somebody_elses_broker() {
    every_step_holds_on(&Mosquitto::plain(), &[]);
}

/// One that lets in one user, shows a certificate of an authority of its own, and is reached by `scheme`.
fn every_step_holds_with_a_login(scheme: &'static str, listener: &str) {
    let broker = Mosquitto::with(scheme, |dir| {
        let users = dir.join("users").display().to_string();
        succeed(Command::new("mosquitto_passwd").args(["-c", "-b", &users, "lab", "correct-horse"]));
        let socket = dir.join("socket").display().to_string();
        // mosquitto 2.0.11 does not start if all that it has are WebSockets.
        format!("{listener}{}allow_anonymous false\npassword_file {users}\nlistener 0 {socket}\n", own_certificate(dir))
    });
    secret_file(&broker.dir().join("password"), "correct-horse");
    let login = broker.dir().join("login.toml");
    let table = "user = 'lab'\npassword_file = 'password'\nca_file = 'broker.pem'\nserver_name = 'broker.example'\n";
    std::fs::write(&login, table).unwrap();
    every_step_holds_on(&broker, &["--broker-login", &login.display().to_string()]);

    // By the same table with another password nobody gets in.
    secret_file(&broker.dir().join("password"), "wrong");
    let url = broker.url();
    let said = output(sealcast().args(["demo", "--broker", &url, "--broker-login"]).arg(&login));
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && text.contains(&url) && text.contains("refused"), "{text}");
}

#[test]
fn every_step_holds_over_tls_with_a_password() {
    every_step_holds_with_a_login("mqtts", "");
}

#[test]
fn every_step_holds_in_a_web_socket_over_tls_with_a_password() {
    every_step_holds_with_a_login("wss", "protocol websockets\n");
}

fn every_step_holds_on(broker: &Mosquitto, options: &[&str]) {
    let out = succeed(sealcast().args(["demo", "--json", "--broker", &broker.url()]).args(options));
    let report: Value = serde_json::from_str(&out).unwrap();
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.len() > 50 && steps.iter().all(|step| step["held"] == true), "{out}");
    assert_eq!(report["ledger"]["verified"], true);
}

#[test]
fn every_step_of_the_experiment_holds() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = dir.path().join("wire.pcap");
    let keep = dir.path().join("kept");
    let plot = dir.path().join("valve.svg");
    let mut command = sealcast();
    command.args(["demo", "--json", "--pcap"]).arg(&pcap).arg("--keep").arg(&keep).arg("--plot").arg(&plot);
    let out = succeed(&mut command);
    let report: Value = serde_json::from_str(&out).unwrap();
    let steps = report["steps"].as_array().unwrap();
    // What the page of `--serve` counts to.
    assert_eq!(steps.len(), 52);
    for step in steps {
        assert_eq!(step["held"], true, "{step:#}");
        assert_eq!(step["seen"], step["expected"], "{step:#}");
    }
    for figure in ["Fig 5-7", "Fig 8", "Fig 9-10", "Fig 11", "Fig 12-13", "Fig 14", "beyond the paper", "the valve"] {
        assert!(steps.iter().any(|step| step["figure"] == figure), "{figure} is missing");
    }
    assert!(report["times_ms"]["grant_to_readable"].as_f64().unwrap() > 0.0);
    assert!(report["times_ms"]["revoke_to_unreadable"].as_f64().unwrap() > 0.0);
    assert!(report["overhead_bytes"]["signed"].as_u64().unwrap() <= 100);
    assert!(report["overhead_bytes"]["group"].as_u64().unwrap() <= 36);
    assert_eq!(report["ledger"]["verified"], true);

    let plot = std::fs::read_to_string(plot).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("act 4"), "{plot}");

    let kept = succeed(sealcast().args(["ledger", "verify", "--json", "--agent"]).arg(keep.join("agents/1111")));
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["head"], report["ledger"]["head"]);

    // What the contract refused in the last act is there for everybody, verified from the thermometer's own replica.
    let mut command = sealcast();
    command.args(["readings", "show", "thermometer", "--json", "--agent"]).arg(keep.join("agents/thermometer"));
    let readings: Value = serde_json::from_str(&succeed(&mut command)).unwrap();
    let refused = readings["readings"].as_array().unwrap().iter().find(|reading| reading["accepted"] == false).unwrap();
    assert_eq!((&refused["value"], &refused["topic"]), (&"85.00".into(), &"machine/logbook".into()));

    let topics = succeed(Command::new("tshark").arg("-r").arg(&pcap).args([
        "-Y",
        "mqtt.msgtype == 3",
        "-T",
        "fields",
        "-e",
        "mqtt.topic",
    ]));
    let topics: Vec<&str> = topics.lines().collect();
    assert!(topics.len() >= 2 && topics.iter().any(|topic| topic.starts_with("hsu0002/")), "{topics:?}");
    let bad = succeed(Command::new("tshark").arg("-r").arg(&pcap).args([
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "tcp.check_checksum:TRUE",
        "-Y",
        "_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0",
    ]));
    assert_eq!(bad.trim(), "");
}
