//! libcoap's coap-client at the CoAP door.

use std::process::Command;

use super::pair;
use crate::harness::{Agent, Hub, PATIENCE, Process, configure, output, secret_file, until};

/// Without DTLS: its names differ between distributions.
fn program() -> &'static str {
    let there = |name: &str| Command::new(name).arg("-h").output().is_ok();
    ["coap-client-notls", "coap-client"].into_iter().find(|name| there(name)).expect("coap-client of libcoap3-bin")
}

fn url(agent: &Agent, path: &str) -> String {
    format!("coap://{}{path}", agent.ready["coap"].as_str().expect("the agent says where its CoAP door is"))
}

/// What coap-client prints of the answer: the payload, or the code and reason of a refusal. Confirmable unless `-N`.
fn coap(agent: &Agent, method: &str, path: &str, extra: &[&str]) -> String {
    let mut command = Command::new(program());
    command.args(["-B", "200", "-m", method]).args(extra).arg(url(agent, path));
    let output = output(&mut command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn coap_client_publishes_reads_in_blocks_and_observes() {
    let hub = Hub::start();
    let [door, other] = pair(&hub, "[coap]\nlisten = '127.0.0.1:0'\nmax_payload_bytes = 10000\n");

    // Confirmable and not; with its media type.
    let mut reader = other.subscribe("hsu0001/t", &["-V", "mqttv5", "-F", "%t %p %C"]);
    let json = ["-t", "application/json", "-e", r#"{"v":21.50}"#];
    assert_eq!(coap(&door, "put", "/topics/hsu0001/t", &json), "");
    assert_eq!(reader.message(PATIENCE).as_deref(), Some(r#"hsu0001/t {"v":21.50} application/json"#));
    assert_eq!(coap(&door, "post", "/topics/hsu0001/t", &["-N", "-t", "text/plain", "-e", "22"]), "");
    assert_eq!(reader.message(PATIENCE).as_deref(), Some("hsu0001/t 22 text/plain"));

    // What is refused says why.
    let refused = coap(&door, "put", "/topics/elsewhere/t", &["-e", "1"]);
    assert!(refused.contains("4.03") && refused.contains("no group covers elsewhere/t"), "{refused}");
    let refused = coap(&door, "get", "/topics/hsu0001/none", &[]);
    assert!(refused.contains("4.04"), "{refused}");
    assert!(coap(&door, "delete", "/topics/hsu0001/t", &[]).contains("4.05"));

    // Block-wise, both ways: RFC 7959.
    let large: String = (0..5000u32).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let file = hub.path().join("large.txt");
    std::fs::write(&file, &large).unwrap();
    let file = file.to_str().unwrap();
    let mut blocks = other.subscribe("hsu0001/large", &[]);
    assert_eq!(coap(&door, "put", "/topics/hsu0001/large?retain=1", &["-b", "256", "-f", file]), "");
    assert_eq!(blocks.message(PATIENCE), Some(format!("hsu0001/large {large}")));
    assert_eq!(coap(&door, "get", "/topics/hsu0001/large", &[]), large);
    assert_eq!(coap(&door, "get", "/topics/hsu0001/large", &["-b", "64"]), large);
    let too_large = "x".repeat(10_001);
    std::fs::write(file, too_large).unwrap();
    assert!(coap(&door, "put", "/topics/hsu0001/large", &["-f", file]).contains("4.13"));

    // Observe: the kept value, then what comes.
    other.publish("hsu0001/valve", "closed", &["-r"]);
    let mut command = Command::new("stdbuf");
    command
        .args(["-oL", program(), "-s", "900", "-B", "900", "-m", "get", "-w"])
        .arg(url(&door, "/topics/hsu0001/valve"));
    let observer = Process::start(&mut command);
    let next = || loop {
        let line = observer.line();
        if !line.trim().is_empty() {
            return line.trim().to_owned();
        }
    };
    assert_eq!(next(), "closed");
    other.publish("hsu0001/valve", "open", &[]);
    assert_eq!(next(), "open");
    other.publish("hsu0001/valve", "closed again", &[]);
    assert_eq!(next(), "closed again");
}

#[test]
fn the_token_of_the_coap_door() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    secret_file(&dir.join("coap.token"), "correct-horse-battery");
    configure(&dir, "clear = ['open/#']\n[coap]\nlisten = '127.0.0.1:0'\ntoken_file = 'coap.token'\n");
    let agent = Agent::start(&dir, &[]);
    let put = |query: &str| coap(&agent, "put", &format!("/topics/open/t{query}"), &["-e", "1"]);
    assert!(put("").contains("4.01"));
    assert!(put("?token=correct-horse-batterx").contains("4.01"));
    until("the agent knows the ledger", || put("?token=correct-horse-battery").is_empty());
}
