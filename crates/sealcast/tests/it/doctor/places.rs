//! `sealcast doctor` and the servers of others: endpoints of the ledger's network, and a broker.

use std::{fs, net::TcpListener, process::Command};

use serde_json::json;

use super::Found;
use crate::{
    brokers::{hub_at, login},
    endpoints::hub_on,
    harness::{Agent, Answers, Anvil, Endpoint, Hub, Mosquitto, configure, secret_file, succeed, until},
};

/// Takes connections and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// A flag has named the broker to the hub, and `doctor` reads what its configuration says.
fn name_broker(hub: &Hub, url: &str) {
    let path = hub.path().join("hub.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (before, lines) = text.split_once("[broker]\n").unwrap_or((&text, ""));
    fs::write(&path, format!("{before}\n[broker]\nurl = '{url}'\n{lines}")).unwrap();
}

#[test]
fn endpoints_that_answer_disagree_or_do_not_answer_are_told_apart() {
    let (anvil, broker) = (Anvil::start(&[]), Mosquitto::plain());
    let hub = hub_on(&anvil, 0, &broker.url(), |_| {});
    let dir = hub.enroll("1111");
    let endpoints = |urls: &[String]| configure(&dir, &format!("[ledger]\nrpc = {urls:?}\nfinality = 'latest'"));
    endpoints(&[anvil.url()]);
    let block = anvil.ask("eth_blockNumber", &json!([]));
    hub.group("room", "room/#", &["1111"]);
    let mut agent = Agent::start(&dir, &[]);
    until("its groups have members", || {
        Found::of("--dir", &dir, &[]).checks.iter().any(|check| check["found"].to_string().contains("room: 1 of 1"))
    });
    agent.end();

    let (listener, silent) = silent();
    let other = Endpoint::before(&anvil);
    let gone = "http://127.0.0.1:1".to_owned();
    endpoints(&[anvil.url(), other.url(), gone.clone(), silent.clone()]);
    let found = Found::of("--dir", &dir, &[]);
    for url in [anvil.url(), other.url()] {
        found.assert_says("endpoints", &format!("{url} has "));
    }
    for url in [&gone, &silent] {
        found.assert_fault("warning", "endpoints", &format!("{url} does not answer"));
    }
    assert_eq!(found.code, Some(0), "{:#?}", found.faults());

    // It shows what nobody has signed.
    other.set(Answers::False);
    endpoints(&[anvil.url(), other.url()]);
    let found = Found::of("--dir", &dir, &[]);
    found.assert_failure("endpoints", &format!("{} shows another ledger", other.url()));
    found.assert_says("endpoints", &format!("{} has ", anvil.url()));

    // It is behind.
    other.set(Answers::Stale(u64::from_str_radix(&block.as_str().unwrap()[2..], 16).unwrap()));
    let found = Found::of("--dir", &dir, &[]);
    found.assert_fault("warning", "endpoints", &format!("{} has ", other.url()));

    // None of them answers.
    endpoints(&[gone.clone(), silent.clone()]);
    let found = Found::of("--dir", &dir, &[]);
    for url in [&gone, &silent] {
        found.assert_failure("endpoints", &format!("{url} does not answer"));
    }
    found.assert_says("groups", "room: 1 of 1");
    drop(listener);
}

#[test]
fn a_hub_whose_endpoint_is_gone_says_so_and_checks_the_rest() {
    let (anvil, broker) = (Anvil::start(&[]), Mosquitto::plain());
    let hub = hub_on(&anvil, 0, &broker.url(), |_| {});
    name_broker(&hub, &broker.url());
    let found = Found::of("--hub", hub.path(), &[]);
    found.assert_ok();
    found.assert_says("account", "can pay for");
    found.assert_says("broker", "takes the hub's connection");
    drop(anvil);
    let found = Found::of("--hub", hub.path(), &[]);
    found.assert_failure("ledger", "127.0.0.1");
    found.assert_says("broker", "takes the hub's connection");
}

#[test]
fn a_broker_that_refuses_the_login_or_does_not_answer_is_told() {
    let broker = Mosquitto::with("mqtt", |dir| {
        let users = dir.join("users");
        succeed(Command::new("mosquitto_passwd").args(["-c", "-b"]).arg(&users).args(["gateway", "correct-horse"]));
        format!("allow_anonymous false\npassword_file {}\n", users.display())
    });
    let right = login("gateway", broker.dir(), "correct-horse");
    let hub = hub_at(&broker.url(), &right);
    name_broker(&hub, &broker.url());
    let dir = hub.enroll("1111");
    let upstream = |lines: &str| configure(&dir, &format!("[upstream]\n{lines}"));
    let all = [("--dir", dir.clone()), ("--hub", hub.path().to_owned()), ("--operator", hub.operator())];

    upstream(&right);
    for (option, dir) in &all {
        Found::of(option, dir, &[]).assert_says("broker", &format!("{} takes", broker.url()));
    }

    // With another password, and without a user.
    let wrong = broker.dir().join("wrong");
    secret_file(&wrong, "battery-staple");
    upstream(&format!("user = 'gateway'\npassword_file = '{}'", wrong.display()));
    let found = Found::of("--dir", &dir, &[]);
    found.assert_failure("broker", "refused the connection");
    assert!(found.checks.iter().all(|check| !check.to_string().contains("battery-staple")));
    upstream("");
    Found::of("--dir", &dir, &[]).assert_failure("broker", "check `user`");

    // It takes connections and says nothing.
    upstream(&right);
    broker.signal("-STOP");
    for (option, dir) in &all {
        Found::of(option, dir, &[]).assert_failure("broker", "not answer");
    }
    broker.signal("-CONT");
    for (option, dir) in &all {
        Found::of(option, dir, &[]).assert_says("broker", "takes");
    }
}
