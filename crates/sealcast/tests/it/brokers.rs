//! Sealed end to end, with one and the same test: over the hub's broker, and over brokers that others make.

mod printed;

use std::{path::Path, process::Command};

use crate::{
    PATIENCE,
    harness::{
        Agent, Cluster, Hub, Mosquitto, Process, mosquitto_sub_at, output, own_certificate, secret_file, succeed,
        until, until_joined,
    },
    raw::{Client, Connect},
};

/// What stands in `agent.toml` of each of the three devices: in all of them, topics that nobody seals.
const CLEAR: &str = "clear = ['open/#']\n";

/// Where a hub and its agents are.
struct Place {
    hub: Hub,
    /// Lines of `agent.toml` of 1111, 1112 and 1113.
    agents: [String; 3],
    /// Whoever subscribes at the broker itself to what is below `room`, if strangers can.
    stranger: Option<Process>,
    /// A retained message is at the node that took it only, and a message of QoS 2 is acknowledged as one of QoS 1.
    is_rabbitmq: bool,
}

impl Place {
    fn of(hub: Hub) -> Self {
        Self { hub, agents: [const { String::new() }; 3], stranger: None, is_rabbitmq: false }
    }

    /// All agents have these lines.
    fn with(mut self, lines: &str) -> Self {
        self.agents = [0, 1, 2].map(|_| lines.to_owned());
        self
    }

    /// Grant, revocation, a retained message, an offline session, QoS 2 and a will. While a client of 1112 is away, `meanwhile`
    /// happens, which may give the agent of 1112 other lines. `granted` happens after each change of who is granted. At the end
    /// 1111 and 1113 are.
    fn show_it_sealed_end_to_end(mut self, granted: impl Fn(&Hub), meanwhile: impl FnOnce() -> Option<String>) -> Hub {
        let hub = &self.hub;
        let dirs = ["1111", "1112", "1113"].map(|device| hub.enroll(device));
        for (dir, lines) in dirs.iter().zip(&self.agents) {
            configure(dir, lines);
        }
        granted(hub);
        hub.group("room", "room/#", &["1111", "1112"]);
        granted(hub);
        let (first, mut second) = (Agent::start(&dirs[0], &[]), Agent::start(&dirs[1], &[]));
        until_joined(&first, &second, "room/probe");

        let mut reader = second.subscribe("room/value", &[]);
        first.publish("room/value", "27.5 degrees", &[]);
        assert_eq!(reader.message(PATIENCE).as_deref(), Some("room/value 27.5 degrees"));
        if let Some(stranger) = &mut self.stranger {
            let carried = stranger.message(PATIENCE).expect("the broker carries the bytes");
            assert!(carried.starts_with("room/") && !carried.ends_with(" probe"), "{carried}");
        }

        first.publish("room/kept", "retained", &["-r"]);
        let at = if self.is_rabbitmq { &first } else { &second };
        assert_eq!(at.subscribe("room/kept", &[]).message(PATIENCE).as_deref(), Some("room/kept retained"));

        let mut reader = second.subscribe("room/two", &["-q", "2"]);
        first.publish("room/two", "exactly once", &["-q", if self.is_rabbitmq { "1" } else { "2" }]);
        assert_eq!(reader.message(PATIENCE).as_deref(), Some("room/two exactly once"));

        let mut reader = second.subscribe("room/will", &[]);
        let will = Some(("room/will", &b"gone"[..], 1, false, 0));
        drop(Client::connect(first.address(), &Connect { id: "fragile", clean: true, will, ..Connect::default() }));
        assert_eq!(reader.message(PATIENCE).as_deref(), Some("room/will gone"));

        let session = ["-c", "-i", "sleeper"];
        drop(second.subscribe("room/away", &session));
        first.publish("room/away", "while away", &[]);
        if let Some(lines) = meanwhile() {
            second.end();
            configure(&dirs[1], &lines);
            second.restart();
        }
        let mut sleeper = second.subscribe("room/away", &session);
        assert_eq!(sleeper.message(PATIENCE).as_deref(), Some("room/away while away"));

        for change in [["revoke", "room", "1112"], ["grant", "room", "1113"]] {
            // A cluster of which a node has died may answer nobody for half a minute.
            until(change[0], || output(&mut hub.command(&[&["group"], &change[..]].concat())).status.success());
        }
        granted(hub);
        let third = Agent::start(&dirs[2], &[]);
        until_joined(&first, &third, "room/probe");
        let mut member = third.subscribe("room/away", &[]);
        first.publish("room/away", "not for 1112", &[]);
        assert_eq!(member.message(PATIENCE).as_deref(), Some("room/away not for 1112"));
        // The broker may hand it on, but 1112 has no key for it, and reads what is published in the clear behind it.
        let mut clear = second.subscribe("open/done", &[]);
        second.publish("open/done", "all of it", &[]);
        assert_eq!(clear.message(PATIENCE).as_deref(), Some("open/done all of it"));
        assert!(sleeper.pending().iter().all(|line| !line.contains("not for 1112")));
        self.hub
    }
}

fn configure(dir: &Path, lines: &str) {
    crate::harness::configure(dir, &format!("{CLEAR}{lines}"));
}

/// Nothing has to be told to a broker that asks nobody who he is.
fn nothing(_: &Hub) {}

fn stranger(port: &str, login: &[&str]) -> Option<Process> {
    Some(mosquitto_sub_at(&[&["-h", "127.0.0.1", "-p", port], login].concat(), "room/#", &[]))
}

/// A hub whose own connection, like that of the operator's commands, needs these lines in the table `broker`.
pub fn hub_at(url: &str, lines: &str) -> Hub {
    let table = format!("[broker]\n{lines}");
    Hub::at_with(url, |hub| {
        std::fs::write(hub.join("hub.toml"), &table).unwrap();
        let operator = hub.with_file_name("hub-operator");
        std::fs::create_dir(&operator).unwrap();
        std::fs::write(operator.join("operator.toml"), &table).unwrap();
    })
}

/// The lines of a login whose password is in a file of `dir`.
pub fn login(user: &str, dir: &Path, password: &str) -> String {
    let file = dir.join("password");
    secret_file(&file, password);
    format!("user = '{user}'\npassword_file = '{}'\n", file.display())
}

#[test]
fn the_hubs_broker() {
    Place::of(Hub::start()).show_it_sealed_end_to_end(nothing, || None);
}

#[test]
fn mosquitto_plain() {
    let broker = Mosquitto::plain();
    let place = Place { stranger: stranger(&broker.port(), &[]), ..Place::of(Hub::at(&broker.url())) };
    place.show_it_sealed_end_to_end(nothing, || None);
}

/// It asks for a user and a password.
#[test]
fn mosquitto_with_passwords() {
    let broker = Mosquitto::with("mqtt", |dir| {
        let users = dir.join("users").display().to_string();
        succeed(Command::new("mosquitto_passwd").args(["-c", "-b", &users, "gateway", "secret"]));
        format!("allow_anonymous false\npassword_file {users}\n")
    });
    let lines = login("gateway", broker.dir(), "secret");
    let place = Place {
        stranger: stranger(&broker.port(), &["-u", "gateway", "-P", "secret"]),
        ..Place::of(hub_at(&broker.url(), &lines)).with(&format!("[upstream]\n{lines}"))
    };
    place.show_it_sealed_end_to_end(nothing, || None);
}

/// Its certificate is of another authority than the network's, for another name than its address.
#[test]
fn mosquitto_with_tls() {
    let broker = Mosquitto::with("mqtts", |dir| format!("allow_anonymous true\n{}", own_certificate(dir)));
    let ca = broker.dir().join("broker.pem");
    let lines = format!("ca_file = '{}'\nserver_name = 'broker.example'\ncertificate = false\n", ca.display());
    let place = Place::of(hub_at(&broker.url(), &lines)).with(&format!("[upstream]\n{lines}"));
    place.show_it_sealed_end_to_end(nothing, || None);
}

#[test]
fn mosquitto_over_web_socket() {
    // It does not start with a WebSocket alone.
    let broker = Mosquitto::with("ws", |dir| {
        format!("protocol websockets\nallow_anonymous true\nlistener 0 {}\n", dir.join("socket").display())
    });
    Place::of(Hub::at(&broker.url())).show_it_sealed_end_to_end(nothing, || None);
}

#[test]
fn mochi() {
    let Some(broker) = Cluster::mochi() else { return };
    let place = Place { stranger: stranger(&broker.port(0), &[]), ..Place::of(Hub::at(&broker.url(0))) };
    place.show_it_sealed_end_to_end(nothing, || None);
}

/// The publisher's agent is at one node, the subscriber's at another.
#[test]
fn a_nats_cluster() {
    let Some(cluster) = Cluster::nats() else { return };
    nats(&cluster).show_it_sealed_end_to_end(nothing, || None);
}

/// And that one dies.
#[test]
fn a_nats_cluster_that_loses_a_node() {
    let Some(mut cluster) = Cluster::nats() else { return };
    let (place, elsewhere) = (nats(&cluster), format!("upstream = '{}'", cluster.url(1)));
    place.show_it_sealed_end_to_end(nothing, || {
        cluster.kill(2);
        Some(elsewhere)
    });
}

fn nats(cluster: &Cluster) -> Place {
    let at = |node: usize| format!("upstream = '{}'", cluster.url(node));
    let stranger = stranger(&cluster.port(1), &[]);
    Place { agents: [at(0), at(2), at(0)], stranger, ..Place::of(Hub::at(&cluster.url(0))) }
}

/// The publisher's agent is at one node, the subscriber's at another, and that one dies.
#[test]
fn a_rabbitmq_cluster() {
    let mut cluster = Cluster::rabbitmq();
    let dir = tempfile::tempdir().unwrap();
    let login = login("sc", dir.path(), "sc");
    let at = |node: usize| format!("[upstream]\nurl = '{}'\n{login}", cluster.url(node));
    let place = Place {
        agents: [at(0), at(2), at(0)],
        stranger: stranger(&cluster.port(1), &["-u", "sc", "-P", "sc"]),
        is_rabbitmq: true,
        ..Place::of(hub_at(&cluster.url(0), &login))
    };
    let elsewhere = at(1);
    place.show_it_sealed_end_to_end(nothing, || {
        cluster.kill(2);
        Some(elsewhere)
    });
}
