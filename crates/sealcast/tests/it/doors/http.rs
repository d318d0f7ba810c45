//! curl at the HTTP door.

use std::{os::unix::fs::PermissionsExt as _, process::Command};

use super::pair;
use crate::harness::{Agent, Hub, PATIENCE, Process, configure, output, sealcast, secret_file, succeed, until};

fn curl(args: &[&str]) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "200", "-w", "\n%{http_code}"]).args(args);
    let output = succeed(&mut command);
    let (body, code) = output.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), body.trim_end().to_owned())
}

fn url(agent: &Agent, path: &str) -> String {
    format!("http://{}{path}", agent.ready["http"].as_str().expect("the agent says where its HTTP door is"))
}

/// The next event of a stream: name and data.
fn event(stream: &Process) -> (String, String) {
    let (mut name, mut data) = (String::new(), Vec::new());
    loop {
        let line = stream.line();
        match line.split_once(": ") {
            Some(("event", text)) => text.clone_into(&mut name),
            Some(("data", text)) => data.push(text.to_owned()),
            _ if line.is_empty() && !name.is_empty() => return (name, data.join("\n")),
            _ => {}
        }
    }
}

#[test]
fn curl_publishes_reads_the_last_value_and_listens() {
    let hub = Hub::start();
    let [door, other] = pair(&hub, "[http]\nlisten = '127.0.0.1:0'\nmax_payload_bytes = 1000\n");

    // Publish: sealed on its way, opened at the other agent, with its media type.
    let mut reader = other.subscribe("hsu0001/t", &["-V", "mqttv5", "-F", "%t %p %C"]);
    let publish = |method: &str, path: &str, body: &str, extra: &[&str]| {
        let mut args = vec!["-X", method, "--data-binary", body];
        args.extend(extra);
        let url = url(&door, path);
        args.push(&url);
        curl(&args)
    };
    let json = ["-H", "Content-Type: application/json"];
    assert_eq!(publish("POST", "/topics/hsu0001/t", r#"{"v":21.50}"#, &json), (204, String::new()));
    assert_eq!(reader.message(PATIENCE).as_deref(), Some(r#"hsu0001/t {"v":21.50} application/json"#));
    assert_eq!(publish("PUT", "/topics/hsu0001/t?qos=0", "22", &[]).0, 202);
    assert_eq!(reader.message(PATIENCE).map(|line| line.trim_end().to_owned()).as_deref(), Some("hsu0001/t 22"));

    // What is refused says why.
    let (code, reason) = publish("POST", "/topics/elsewhere/t", "1", &[]);
    assert_eq!(code, 403, "{reason}");
    assert!(reason.contains("no group covers elsewhere/t"), "{reason}");
    assert_eq!(publish("POST", "/topics/sealcast/v1/ledger", "1", &[]).0, 403);
    assert_eq!(publish("POST", "/topics/hsu0001/t", &"x".repeat(1001), &[]).0, 413);
    assert_eq!(publish("POST", "/topics/hsu0001/+", "1", &[]).0, 400);
    assert_eq!(publish("POST", "/topics/hsu0001/t?retian=1", "1", &[]).0, 400);
    assert_eq!(publish("DELETE", "/topics/hsu0001/t", "", &[]).0, 405);
    assert_eq!(publish("POST", "/", "1", &[]).0, 404);
    // A page in a browser of this machine is none of the device's programs.
    assert_eq!(publish("POST", "/topics/hsu0001/t", "1", &["-H", "Origin: http://evil.example"]).0, 403);
    assert_eq!(publish("POST", "/topics/hsu0001/t", "1", &["-H", "Host: evil.example"]).0, 403);
    let kept = url(&door, "/topics/hsu0001/kept");
    assert_eq!(curl(&["-H", "Sec-Fetch-Site: cross-site", &kept]).0, 403);
    // Nor is one that a member publishes: it is shown, and runs nothing.
    other.publish("hsu0001/page", "<script>", &["-V", "mqttv5", "-r", "-D", "publish", "content-type", "text/html"]);
    let page = url(&door, "/topics/hsu0001/page");
    until("the page is there", || curl(&[&page]).0 == 200);
    let (_, shown) = curl(&["-i", "-H", "Sec-Fetch-Site: none", &page]);
    assert!(
        shown.contains("text/html") && shown.contains("content-security-policy: default-src 'none'; sandbox"),
        "{shown}"
    );

    // The last value.
    let (code, reason) = curl(&[&url(&door, "/topics/hsu0001/kept")]);
    assert_eq!(code, 404, "{reason}");
    assert_eq!(publish("POST", "/topics/hsu0001/kept?retain=1", "27.0", &[]).0, 204);
    assert_eq!(curl(&[&url(&door, "/topics/hsu0001/kept")]), (200, "27.0".into()));
    other.publish("hsu0001/kept", "28.00", &["-r"]);
    assert_eq!(curl(&[&url(&door, "/topics/hsu0001/kept")]), (200, "28.00".into()));

    // Server-sent events: the kept value, then what comes.
    let stream = |path: &str| {
        let mut command = Command::new("curl");
        command.args(["-sSN", "-H", "Accept: text/event-stream", &url(&door, path)]);
        Process::start(&mut command)
    };
    let events = stream("/topics/hsu0001/kept/%23");
    assert_eq!(event(&events), ("hsu0001/kept".into(), "28.00".into()));
    let encoded = stream("/topics/hsu0001/kept?as=base64");
    assert_eq!(event(&encoded), ("hsu0001/kept".into(), "MjguMDA=".into()));
    other.publish("hsu0001/kept/below", "two\nlines", &[]);
    assert_eq!(event(&events), ("hsu0001/kept/below".into(), "two\nlines".into()));
    other.publish("hsu0001/kept", "29", &[]);
    assert_eq!(event(&events), ("hsu0001/kept".into(), "29".into()));
    assert_eq!(event(&encoded), ("hsu0001/kept".into(), "Mjk=".into()));
}

#[test]
fn the_door_goes_on_after_the_hub_was_killed() {
    let mut hub = Hub::start();
    let [door, other] = pair(&hub, "[http]\nlisten = '127.0.0.1:0'\n");
    let mut command = Command::new("curl");
    command.args(["-sSN", "-H", "Accept: text/event-stream", &url(&door, "/topics/hsu0001/t")]);
    let events = Process::start(&mut command);
    other.publish("hsu0001/t", "before", &["-r"]);
    assert_eq!(event(&events).1, "before");

    hub.kill();
    let post = || curl(&["--data-binary", "after", &url(&door, "/topics/hsu0001/t")]);
    let (code, reason) = post();
    assert_eq!(code, 503, "{reason}");
    hub.restart();
    until("the door publishes again", || post().0 == 204);
    until("the stream goes on", || event(&events).1 == "after");
}

#[test]
fn what_a_listener_left_while_the_hub_was_away_is_not_kept_for_it() {
    let mut hub = Hub::start();
    hub.configure("[limits]\nmax_queued_messages = 3");
    let [mut door, other] = pair(&hub, "[http]\nlisten = '127.0.0.1:0'\n");
    let mut command = Command::new("curl");
    command.args(["-sSN", "-H", "Accept: text/event-stream", &url(&door, "/topics/hsu0001/left")]);
    let events = Process::start(&mut command);
    other.publish("hsu0001/left", "before", &["-r"]);
    assert_eq!(event(&events).1, "before");

    hub.kill();
    events.kill();
    let post = || curl(&["--data-binary", "after", &url(&door, "/topics/hsu0001/t")]).0;
    assert_eq!(post(), 503);
    hub.restart();
    until("the door publishes again", || post() == 204);
    door.kill();
    // The hub keeps the session of the doors. Each message in it would take room.
    until("the other agent publishes again", || other.refusal("hsu0001/t", "x", &[]).is_empty());
    for _ in 0..10 {
        assert_eq!(other.refusal("hsu0001/left", "x", &[]), "");
    }
}

#[test]
fn a_door_beyond_loopback_asks_for_its_token() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let check = |config: &str| {
        configure(&dir, config);
        let output = output(sealcast().args(["agent", "--check", "--dir"]).arg(&dir));
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (valid, reason) = check("[http]\nlisten = '0.0.0.0:0'\n");
    assert!(!valid && reason.contains("http.token_file"), "{reason}");
    secret_file(&dir.join("short.token"), "1234");
    let (valid, reason) = check("[http]\nlisten = '0.0.0.0:0'\ntoken_file = 'short.token'\n");
    assert!(!valid && reason.contains("16 ASCII characters"), "{reason}");
    let (valid, reason) = check("[http]\nlisten = '127.0.0.1:0'\ntokenfile = 'x'\n");
    assert!(!valid && reason.contains("tokenfile"), "{reason}");

    std::fs::write(dir.join("http.token"), "correct-horse-battery\n").unwrap();
    std::fs::set_permissions(dir.join("http.token"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (valid, reason) = check("[http]\nlisten = '127.0.0.1:0'\ntoken_file = 'http.token'\n");
    assert!(!valid && reason.contains("others than its owner may use it (mode 644): chmod 600"), "{reason}");
    secret_file(&dir.join("http.token"), "correct-horse-battery");
    configure(&dir, "[http]\nlisten = '127.0.0.1:0'\ntoken_file = 'http.token'\n");
    let agent = Agent::start(&dir, &["--clear", "open/#"]);
    let post = |authorization: &str| {
        curl(&["-H", &format!("Authorization: {authorization}"), "-d", "1", &url(&agent, "/topics/open/t")]).0
    };
    assert_eq!(post("Bearer correct-horse-batterx"), 401);
    assert_eq!(post("Basic correct-horse-battery"), 401);
    until("the agent knows the ledger", || post("Bearer correct-horse-battery") == 204);

    // Who has no token does not use up the requests of who has.
    drop(agent);
    configure(&dir, "[http]\nlisten = '127.0.0.1:0'\ntoken_file = 'http.token'\nmax_per_second = 1\n");
    let agent = Agent::start(&dir, &["--clear", "open/#"]);
    let page = url(&agent, "/topics/open/t");
    for _ in 0..3 {
        assert_eq!(curl(&["-d", "1", &page]).0, 401);
    }
    assert_ne!(curl(&["-H", "Authorization: Bearer correct-horse-battery", "-d", "1", &page]).0, 429);
}
