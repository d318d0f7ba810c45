//! The console of a real hub, asked by curl as a browser asks it, and the operator's process beside it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use sealcast_console::{Act, Action, Token};
use serde_json::{Value, json};

use crate::harness::{Agent, Hub, PATIENCE, Port, Process, refuse, sealcast, succeed, until, until_joined};

/// Somebody with a browser.
struct Visitor {
    url: String,
    jar: PathBuf,
    csrf: String,
}

/// The token of this text, as a person copies it.
fn token(text: &str) -> Token {
    Token::parse(text).unwrap()
}

impl Visitor {
    fn new(hub: &Hub, name: &str) -> Self {
        let url = hub.ready["console"].as_str().unwrap().to_owned();
        Self { url, jar: hub.dir.path().join(name), csrf: String::new() }
    }

    fn sign_in(hub: &Hub, name: &str, token: &Token) -> Self {
        let visitor = Self::new(hub, name);
        let proof = json!({ "proof": hex::encode(token.sign_in()) });
        let (status, body) = visitor.ask("POST", "/api/session", &[], Some(&proof));
        assert_eq!((status, &body["role"]), (200, &name.into()));
        Self { csrf: body["csrf"].as_str().unwrap().to_owned(), ..visitor }
    }

    fn curl(&self, path: &str, more: &[&str]) -> String {
        let (url, jar) = (format!("{}{path}", self.url), self.jar.to_str().unwrap());
        succeed(Command::new("curl").args(["-sS", "-b", jar, "-c", jar]).args(more).arg(url))
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> (u16, Value) {
        let csrf = format!("x-sealcast-csrf: {}", self.csrf);
        let mut args = vec!["-X", method, "-w", "\n%{http_code}", "-H", &*csrf];
        let body = body.map(Value::to_string);
        args.extend(body.iter().flat_map(|body| ["-d", &**body]));
        args.extend(headers.iter().flat_map(|header| ["-H", *header]));
        let said = self.curl(path, &args);
        let (body, status) = said.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn see(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, &[], None);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// What the feed says at once behind an event, from its id on.
    fn feed(&self, after: &str) -> String {
        let (url, jar) = (format!("{}/api/feed", self.url), self.jar.to_str().unwrap());
        let after = format!("last-event-id: {after}");
        let args = ["-sS", "-N", "--max-time", "1", "-b", jar, "-H", &after, &url];
        // It ends by its time, which curl calls a failure.
        let output = Command::new("curl").args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks for an action; what becomes of it.
    fn outcome(&self, action: &Action) -> Value {
        let before = self.see("/api/state")["event"].as_str().unwrap().to_owned();
        let (status, body) = self.ask("POST", "/api/actions", &[], Some(&serde_json::to_value(action).unwrap()));
        assert_eq!((status, &body["id"]), (202, &action.id.clone().into()), "{body}");
        let mut outcome = Value::Null;
        until("the action has an outcome", || {
            let feed = self.feed(&before);
            let data = feed.split("event: action\ndata: ").nth(1).and_then(|rest| rest.lines().next());
            outcome = data.map(|data| serde_json::from_str(data).unwrap()).unwrap_or_default();
            !outcome.is_null()
        });
        assert_eq!(outcome["id"], action.id);
        outcome
    }
}

fn action(act: Act, node: &str, number: u64) -> Action {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let (node, group, reason) = (node.to_owned(), "hsu0001".to_owned(), String::new());
    Action { action: act, node, group, reason, at: now, id: format!("{number:016x}"), proof: "0".repeat(64) }
}

/// The operator's process, and its token.
fn operator(hub: &Hub) -> (Process, Token) {
    let process = Process::start(&mut hub.command(&["operator", "--json"]));
    let ready: Value = serde_json::from_str(&process.line()).unwrap();
    assert_eq!(ready["console"], hub.ready["console"]);
    let token = token(ready["token"].as_str().unwrap());
    (process, token)
}

#[test]
fn a_reader_sees_devices_entries_and_sealed_messages_as_they_come() {
    let hub = Hub::start();
    let stranger = Visitor::new(&hub, "stranger");
    assert_eq!(stranger.ask("GET", "/api/state", &[], None).0, 401);
    let by_name = stranger.ask("GET", "/", &["host: evil.example"], None);
    assert_eq!((by_name.0, &by_name.1["error"]["code"]), (403, &"host".into()));
    let reader_token = token(hub.ready["console_token"].as_str().unwrap());
    let proof = json!({ "proof": hex::encode(reader_token.sign_in()) });
    assert_eq!(stranger.ask("POST", "/api/session", &["origin: http://evil.example"], Some(&proof)).0, 403);
    let wrong = json!({ "proof": "00" });
    assert_eq!(stranger.ask("POST", "/api/session", &[], Some(&wrong)).0, 503, "no operator's process has called");

    let reader = Visitor::sign_in(&hub, "reader", &reader_token);
    let begin = reader.see("/api/state")["event"].as_str().unwrap().to_owned();
    let devices = ["1111", "1112", "1113", "1114"];
    let dirs = devices.map(|device| {
        let dir = hub.enroll(device);
        until("the device is shown", || {
            reader.see("/api/state")["nodes"].as_array().unwrap().iter().any(|node| node["id"] == device)
        });
        dir
    });
    // The feed has told the four, and goes on behind any of them.
    let feed = reader.feed(&begin);
    let ids: Vec<&str> = feed.split("id: ").skip(1).filter(|event| event.contains("event: entry")).collect();
    assert_eq!(ids.len(), 4, "{feed}");
    let second = ids[1].lines().next().unwrap();
    let rest = reader.feed(second);
    assert_eq!(rest.matches("event: entry").count(), 2, "{rest}");
    assert!(reader.feed("5").contains("event: reset"));

    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    let agents = [0, 1].map(|at| Agent::start(&dirs[at], &[]));
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    agents[0].publish("hsu0001/t", "27.0 degrees", &[]);
    until("the message is shown", || {
        let wire = reader.see("/api/wire");
        let found =
            wire["messages"].as_array().unwrap().iter().find(|message| message["topic"] == "hsu0001/t").cloned();
        found.is_some_and(|message| {
            assert_eq!((&message["from"], &message["sealed"]), (&"1111".into(), &true.into()));
            assert!(!message["hex"].as_str().unwrap().contains(&hex::encode("27.0")));
            true
        })
    });
    until("both are members, and connected", || {
        let state = reader.see("/api/state");
        state["groups"][0]["joined"] == json!(["1111", "1112"]) && state["nodes"][0]["online"] == true
    });
    let group = reader.see("/api/groups/hsu0001");
    let causes: Vec<&str> =
        group["epochs"].as_array().unwrap().iter().map(|it| it["cause"].as_str().unwrap()).collect();
    assert_eq!(causes.last(), Some(&"created"), "{group}");
    assert_eq!(reader.see("/api/entries/0")["signature"]["good"], true);

    assert_eq!(reader.ask("POST", "/api/verify", &[], None).0, 202);
    let denied = reader.ask("POST", "/api/actions", &[], Some(&json!({})));
    assert_eq!((denied.0, &denied.1["error"]["code"]), (403, &"role".into()));
    // One that cannot be written down takes nobody's place.
    let error = refuse(["console", "token", "--out", "/nowhere/token", "--dir", hub.path().to_str().unwrap()]);
    assert!(error.contains("cannot write /nowhere/token"), "{error}");
    assert_eq!(reader.ask("GET", "/api/state", &[], None).0, 200);
    Visitor::sign_in(&hub, "reader", &reader_token);
    // A new token ends what began by the former one.
    let new = succeed(sealcast().args(["console", "token", "--dir"]).arg(hub.path()));
    until("the reader is signed out", || reader.ask("GET", "/api/state", &[], None).0 == 401);
    Visitor::sign_in(&hub, "reader", &token(new.trim()));
}

#[test]
fn readings_are_shown_where_the_nodes_configuration_shares_them() {
    let hub = Hub::start();
    let shares = "
        share = ['hsu0001/t', 'hsu0001/pack', 'other/#']
        [[quality]]
        filter = 'hsu0001/t'
        range = { min = -20, max = 60 }
        step = { max = 3, action = 'flag' }
        [[publish]]
        filter = 'hsu0001/pack'
        input = { format = 'senml_json' }";
    let [agent, _] = hub.pair("hsu0001", [shares, ""]);
    let reader = Visitor::sign_in(&hub, "reader", &token(hub.ready["console_token"].as_str().unwrap()));
    let begin = reader.see("/api/state")["event"].as_str().unwrap().to_owned();
    for value in ["20", "30", "99"] {
        agent.publish("hsu0001/t", value, &[]);
    }
    agent.publish("hsu0001/pack", r#"[{"n":"room","u":"Cel","v":21.5},{"n":"state","vs":"secret"}]"#, &[]);
    agent.publish("hsu0001/kept", "20", &[]);
    let mut series = Vec::new();
    until("the readings are shown", || {
        series = reader.see("/api/values")["series"].as_array().unwrap().clone();
        series.len() == 2 && series[1]["points"].as_array().unwrap().len() == 3
    });
    let of = |at: usize, name: &str| series[at][name].clone();
    assert_eq!([of(0, "topic"), of(0, "name"), of(0, "unit")], [json!("hsu0001/pack"), json!("room"), json!("Cel")]);
    assert_eq!(
        [of(1, "topic"), of(1, "node"), of(1, "group"), of(1, "source"), of(1, "bands")],
        [
            json!("hsu0001/t"),
            json!("1111"),
            json!("hsu0001"),
            json!("node"),
            json!({ "min": -20.0, "max": 60.0, "step": 3.0 })
        ]
    );
    let points: Vec<_> = of(1, "points")
        .as_array()
        .unwrap()
        .iter()
        .map(|point| (point["verdict"].clone(), point["reason"].clone()))
        .collect();
    let step = "step: 30 is 10 from the last accepted 20, at most 3 is allowed";
    let range = "range: 99 is above the largest allowed value 60";
    assert_eq!(
        points,
        [(json!("good"), Value::Null), (json!("flagged"), step.into()), (json!("blocked"), range.into())]
    );
    until("the feed has told them", || reader.feed(&begin).matches("event: value").count() == 4);
    let told = series.iter().map(Value::to_string).collect::<String>();
    assert!(!told.contains("secret") && !told.contains("kept"), "{told}");
}

#[test]
fn what_an_operator_asks_for_is_done_and_what_the_hub_invents_is_not() {
    let hub = Hub::start();
    let dirs = ["1111", "1112", "1113"].map(|device| hub.enroll(device));
    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    let agents = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    let (process, token) = operator(&hub);
    let visitor = Visitor::sign_in(&hub, "operator", &token);
    assert_eq!(visitor.see("/api/state")["hub"]["operator"], true);

    let grant = action(Act::Grant, "1113", 1).proven(&token);
    let body = serde_json::to_value(&grant).unwrap();
    let forged = Visitor { csrf: "0".into(), url: visitor.url.clone(), jar: visitor.jar.clone() };
    assert_eq!(forged.ask("POST", "/api/actions", &[], Some(&body)).0, 403);

    // What a hub could hand on by itself: an action without the token's proof.
    let invented = visitor.outcome(&action(Act::Grant, "1113", 2));
    assert_eq!(invented["state"], "refused");
    assert!(invented["text"].as_str().unwrap().contains("not proven"), "{invented}");
    let old = Action { at: grant.at - 120_000, ..action(Act::Grant, "1113", 3) }.proven(&token);
    assert_eq!(visitor.outcome(&old)["state"], "refused");
    assert_eq!(visitor.outcome(&action(Act::Grant, "9999", 4).proven(&token))["state"], "refused");
    assert!(!hub.operate(&["group", "show", "hsu0001"]).contains("to 1113"));

    let granted = visitor.outcome(&action(Act::Grant, "1113", 5).proven(&token));
    assert_eq!((&granted["state"], &granted["text"]), (&"done".into(), &"1113 is granted hsu0001".into()));
    until_joined(&agents[0], &agents[2], "hsu0001/probe");
    let mut third = agents[2].subscribe("hsu0001/t", &[]);
    agents[0].publish("hsu0001/t", "for all", &[]);
    assert_eq!(third.message(PATIENCE).as_deref(), Some("hsu0001/t for all"));
    let revoked = visitor.outcome(&action(Act::Revoke, "1113", 6).proven(&token));
    assert_eq!(revoked["state"], "done", "{revoked}");
    until("1113 is out", || visitor.see("/api/groups/hsu0001")["joined"] == json!(["1111", "1112"]));
    let group = visitor.see("/api/groups/hsu0001");
    let causes: Vec<&str> =
        group["epochs"].as_array().unwrap().iter().map(|it| it["cause"].as_str().unwrap()).collect();
    assert_eq!(causes[..2], ["removed 1113", "added 1113"], "{group}");

    drop(process);
    until("nobody can act", || visitor.see("/api/state")["hub"]["operator"] == false);
    let late = serde_json::to_value(action(Act::Grant, "1113", 7).proven(&token)).unwrap();
    let denied = visitor.ask("POST", "/api/actions", &[], Some(&late));
    assert_eq!((denied.0, &denied.1["error"]["code"]), (503, &"no-operator".into()));
}

/// What curl gets from the console with the certificate in a device's folder: the status and the body.
fn with_certificate(url: &str, root: &Path, dir: &Path, more: &[&str]) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "-w", "\n%{http_code}", "--cacert"]).arg(root);
    command.arg("--cert").arg(dir.join("device.pem")).arg("--key").arg(dir.join("device.key"));
    let said = succeed(command.args(more).arg(url));
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn a_named_device_signs_in_by_its_certificate_until_it_is_revoked() {
    let mut hub = Hub::start();
    let [anna, bert] = ["anna", "bert"].map(|name| hub.enroll(name));
    let port = Port::reserve();
    hub.console_at(&format!("0.0.0.0:{}", port.number()), "[console]\ncertificates = [\"anna\"]\n");
    let url = hub.ready["console"].as_str().unwrap().to_owned();
    let (root, state) = (hub.path().join("root.pem"), format!("{url}/api/state"));
    let (status, body) = with_certificate(&state, &root, &anna, &[]);
    assert_eq!(status, 200, "{body}");
    let (status, body) = with_certificate(&state, &root, &bert, &[]);
    assert!(status == 401 && body.contains("hub.toml does not name it"), "{status} {body}");
    let verify = format!("{url}/api/verify");
    assert_eq!(with_certificate(&verify, &root, &anna, &["-X", "POST"]).0, 403, "without the session's CSRF text");
    let mut watch = sealcast();
    let watch = Process::start(watch.args(["watch", &url, "--json", "--identity"]).arg(&anna));
    let first: Value = serde_json::from_str(&watch.line()).unwrap();
    assert_eq!(first["data"]["nodes"].as_array().unwrap().len(), 2);
    hub.operate(&["device", "revoke", "anna", "--reason", "left"]);
    until("the certificate is refused", || with_certificate(&state, &root, &anna, &[]).0 == 401);
    let mut watch = watch;
    until("the view has ended", || watch.exit_code() == Some(1));
}

#[test]
fn beyond_this_machine_it_takes_https_only() {
    let folder = tempfile::tempdir().unwrap();
    let (mut command, dir) = (sealcast(), folder.path().join("hub"));
    command.args(["up", "--json", "--est", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--console", "0.0.0.0:0"]);
    let process = Process::start(command.arg("--dir").arg(&dir));
    let ready: Value = serde_json::from_str(&process.line()).unwrap();
    let url = ready["console"].as_str().unwrap();
    assert!(url.starts_with("https://localhost:"), "{url}");
    let root = dir.join("root.pem");
    let page = succeed(Command::new("curl").args(["-sS", "--cacert", root.to_str().unwrap(), url]));
    assert!(page.contains("<html"), "{page}");
    let plain = succeed(Command::new("curl").args(["-sS", &url.replace("https", "http")]));
    assert!(plain.contains("https://"), "{plain}");
}
