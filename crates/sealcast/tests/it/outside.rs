//! What a monitoring system sees: metrics, health and readiness of a hub and its agents.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::harness::{Agent, Hub, Mosquitto, PATIENCE, configure, refuse, until, until_joined};

const METRICS: &str = "[metrics]\nlisten = '127.0.0.1:0'\n";

/// Status and body.
fn get(ready: &Value, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(ready["metrics"].as_str().expect("it says where metrics are")).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The value of a metric, named with its labels.
fn metric(ready: &Value, name: &str) -> Option<f64> {
    let (status, body) = get(ready, "/metrics");
    assert_eq!(status, 200, "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let line = body.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    Some(line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[test]
fn an_agent_is_ready_when_it_has_the_keys_of_its_groups_and_counts_what_it_does() {
    let mut hub = Hub::start();
    let dir = hub.enroll("1111");
    hub.kill();
    configure(&dir, METRICS);
    let agent = Agent::start(&dir, &[]);
    assert_eq!(get(&agent.ready, "/healthz"), (200, "ok\n".into()), "starting it again would not help");
    let (status, missing) = get(&agent.ready, "/readyz");
    assert!(status == 503 && missing.contains("no control connection to the hub"), "{missing}");
    assert!(missing.contains("key-ledger-unread"), "{missing}");
    assert_eq!(metric(&agent.ready, "sealcast_control_connection_up"), Some(0.0));
    hub.restart();
    until("it needs no keys", || get(&agent.ready, "/readyz").0 == 200);

    // Somebody has to add it, and nobody is there: the founder is away.
    let founder = hub.enroll("1112");
    hub.group("hsu0001", "hsu0001/#", &["1112"]);
    let mut other = Agent::start(&founder, &[]);
    other.log.until(&["keys agreed", "hsu0001"]);
    other.end();
    hub.operate(&["group", "grant", "hsu0001", "1111"]);
    until("it waits for its keys", || get(&agent.ready, "/readyz").1.contains("key-awaited"));
    other.restart();
    until_joined(&agent, &other, "hsu0001/probe");
    until("it has them", || get(&agent.ready, "/readyz") == (200, "ready\n".into()));
    assert_eq!(metric(&agent.ready, "sealcast_control_connection_up"), Some(1.0));
    assert!(metric(&agent.ready, "sealcast_ledger_entries") >= Some(5.0));
    assert!(metric(&agent.ready, "sealcast_group_epoch{group=\"hsu0001\"}") >= Some(2.0));
    assert_eq!(metric(&agent.ready, "sealcast_group_members{group=\"hsu0001\"}"), Some(2.0));
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let ends_s = metric(&agent.ready, "sealcast_certificate_expiry_timestamp_seconds").unwrap();
    assert!((364.0..=365.1).contains(&((ends_s - now_s) / 86_400.0)), "{ends_s}");

    let of = |name: &str| metric(&agent.ready, &format!("sealcast_{name}_total{{group=\"hsu0001\"}}")).unwrap();
    let (sealed, bytes, opened) = (of("sealed_messages"), of("sealed_payload_bytes"), of("opened_messages"));
    let mut reader = agent.subscribe("hsu0001/t", &["-i", "panel"]);
    until("the panel is counted", || metric(&agent.ready, "sealcast_clients") >= Some(1.0));
    agent.publish("hsu0001/t", "12345", &[]);
    assert_eq!(reader.message(PATIENCE).as_deref(), Some("hsu0001/t 12345"));
    assert_eq!((of("sealed_messages") - sealed, of("sealed_payload_bytes") - bytes), (1.0, 5.0));
    assert_eq!(of("opened_messages") - opened, 1.0);
    let refused = "sealcast_refused_total{code=\"topic-no-group\"}";
    assert_eq!(metric(&agent.ready, refused), Some(0.0));
    agent.refusal("elsewhere/t", "x", &["-q", "1"]);
    assert_eq!(metric(&agent.ready, refused), Some(1.0));

    // Its health is its own.
    hub.kill();
    until("the hub is missed", || get(&agent.ready, "/readyz").0 == 503);
    assert_eq!(get(&agent.ready, "/healthz").0, 200);
}

#[test]
fn a_hub_counts_what_it_serves() {
    let mut hub = Hub::start();
    hub.configure(METRICS);
    assert_eq!(get(&hub.ready, "/readyz"), (200, "ready\n".into()));
    let is = |hub: &Hub, name: &str| metric(&hub.ready, &format!("sealcast_{name}"));
    let enrolled = "enrolments_total{kind=\"enrol\",outcome=\"done\"}";
    assert_eq!((is(&hub, enrolled), is(&hub, "devices"), is(&hub, "groups")), (Some(0.0), Some(0.0), Some(0.0)));
    let (entries, calls) = (is(&hub, "ledger_entries").unwrap(), is(&hub, "relay_calls_total").unwrap());
    let agent = Agent::start(&hub.enroll("1111"), &[]);
    hub.group("hsu0001", "hsu0001/#", &["1111"]);
    agent.log.until(&["keys agreed", "hsu0001"]);
    assert_eq!((is(&hub, enrolled), is(&hub, "devices"), is(&hub, "groups")), (Some(1.0), Some(1.0), Some(1.0)));
    until("the commit is on the ledger", || is(&hub, "ledger_entries").unwrap() >= entries + 5.0);
    assert!(is(&hub, "relay_calls_total").unwrap() > calls);
    until("the agent is connected", || is(&hub, "broker_connections") == Some(1.0));
    agent.publish("hsu0001/t", "kept", &["-r"]);
    until("it is retained", || is(&hub, "broker_retained_messages") >= Some(1.0));
    for certificate in ["server", "issuing"] {
        let name = format!("certificate_expiry_timestamp_seconds{{certificate=\"{certificate}\"}}");
        assert!(is(&hub, &name) > Some(1e9), "{certificate}");
    }
    assert_eq!(is(&hub, "refused_total{code=\"hub-banned\"}"), Some(0.0));
    hub.operate(&["device", "revoke", "1111"]);
    until("it may not come back", || is(&hub, "refused_total{code=\"hub-banned\"}") >= Some(1.0));
    assert_eq!(is(&hub, "devices"), Some(0.0));
}

/// A broker that is up is not enough for an agent, nor is a hub that lives without one.
#[test]
fn a_hub_waits_for_somebody_elses_broker_and_an_agent_for_the_hub_at_it() {
    let mut broker = Mosquitto::plain();
    let mut hub = Hub::at_with(&broker.url(), |dir| std::fs::write(dir.join("hub.toml"), METRICS).unwrap());
    let ready = |of: &Value| get(of, "/readyz") == (200, "ready\n".into());
    until("the hub is connected", || ready(&hub.ready));
    assert_eq!(metric(&hub.ready, "sealcast_broker_connection_up"), Some(1.0));
    let dir = hub.enroll("1111");
    configure(&dir, METRICS);
    let agent = Agent::start(&dir, &[]);
    until("the agent hears the hub", || ready(&agent.ready));

    broker.kill();
    until("the hub misses the broker", || {
        get(&hub.ready, "/readyz").1.contains("the connection to the broker is down")
    });
    assert_eq!(metric(&hub.ready, "sealcast_broker_connection_up"), Some(0.0));
    assert_eq!(get(&hub.ready, "/healthz").0, 200);
    broker.restart();
    until("the hub is connected again", || ready(&hub.ready));
    until("and so is the agent", || ready(&agent.ready));

    hub.kill();
    until("the agent misses the hub", || get(&agent.ready, "/readyz").1.contains("no control connection to the hub"));
    agent.log.until(&["but no hub answers on it"]);
    assert_eq!(metric(&agent.ready, "sealcast_control_connection_up"), Some(0.0));
}

#[test]
fn metrics_beyond_loopback_are_asked_for() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    configure(&dir, "[metrics]\nlisten = '0.0.0.0:9464'\n");
    let refused = refuse(["agent", "--check", "--dir", dir.to_str().unwrap()]);
    assert!(refused.contains("metrics.listen_beyond_loopback"), "{refused}");
}
