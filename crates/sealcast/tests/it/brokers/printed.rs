//! Brokers that ask for client certificates, run with the settings and rules that `sealcast broker config` prints.

use std::process::Command;

use super::{Place, hub_at, login};
use crate::harness::{
    Agent, Cluster, Hub, Mosquitto, Port, Process, configure, output, own_certificate, succeed, until,
};

/// What is there before a broker that asks for client certificates: it is set up by what the hub prints for it.
struct Certified {
    port: Port,
    /// Of the broker's files: `broker.pem` and `broker.key`.
    dir: tempfile::TempDir,
    /// How hub and agents know the broker's certificate.
    lines: String,
    hub: Hub,
}

impl Certified {
    fn new() -> Self {
        let (port, dir) = (Port::reserve(), tempfile::tempdir().unwrap());
        own_certificate(dir.path());
        let ca = dir.path().join("broker.pem");
        let lines = format!("ca_file = '{}'\nserver_name = 'broker.example'\n", ca.display());
        let hub = hub_at(&format!("mqtts://{}", port.address()), &lines);
        Self { port, dir, lines, hub }
    }
}

/// With what `sealcast broker config mosquitto` prints, and the list of revoked certificates.
#[test]
fn mosquitto_with_client_certificates_and_the_printed_rules() {
    let Certified { port, dir, lines, hub } = Certified::new();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let print = |hub: &Hub, more: &[&str]| {
        hub.operate(&[&["broker", "config", "mosquitto", "--out", &file("printed")], more].concat());
        // What nobody seals is not the ledger's to allow.
        let rules = std::fs::read_to_string(file("printed/sealcast.acl")).unwrap();
        std::fs::write(file("sealcast.acl"), format!("pattern readwrite open/#\n{rules}")).unwrap();
    };
    print(&hub, &["--no-groups"]);
    let root = hub.path().join("root.pem").display().to_string();
    fetch_revoked(&hub, &file("crl.pem"));
    let settings = std::fs::read_to_string(file("printed/mosquitto.conf")).unwrap();
    let config = here(
        settings,
        &[
            (&*format!("listener {}", port.number()), format!("listener {} 127.0.0.1", port.number())),
            ("/etc/mosquitto/certs/root.pem", root),
            ("/etc/mosquitto/certs/broker.pem", file("broker.pem")),
            ("/etc/mosquitto/certs/broker.key", file("broker.key")),
            ("/etc/mosquitto/sealcast.acl", file("sealcast.acl")),
            ("/etc/mosquitto/certs/sealcast.crl", file("crl.pem")),
        ],
    );
    let broker =
        Mosquitto::configured("mqtts", |dir, _| format!("persistence_location {}/\n{config}", dir.display()), port);
    let granted = |hub: &Hub| {
        print(hub, &[]);
        broker.reload();
    };
    Place::of(hub).with(&format!("[upstream]\n{lines}")).show_it_sealed_end_to_end(granted, || None);
}

/// With the lines that `sealcast broker config mosquitto` prints for passwords. An agent with another user than its device's
/// name is told what is wrong.
#[test]
fn mosquitto_with_passwords_and_the_printed_rules() {
    const NAMES: [&str; 6] = ["hub", "operator", "1111", "1112", "1113", "lab"];
    let broker = Mosquitto::with("mqtt", |dir| {
        let (users, acl) = (dir.join("users").display().to_string(), dir.join("acl").display().to_string());
        std::fs::write(&acl, "").unwrap();
        for (at, name) in NAMES.iter().enumerate() {
            succeed(Command::new("mosquitto_passwd").args(if at == 0 { &["-c", "-b"][..] } else { &["-b"] }).args([
                users.as_str(),
                *name,
                "secret",
            ]));
        }
        format!("allow_anonymous false\npassword_file {users}\nacl_file {acl}\n")
    });
    let of = |user: &str| login(user, broker.dir(), "secret");
    let hub = hub_at(&broker.url(), &of("hub"));
    std::fs::write(hub.operator().join("operator.toml"), format!("[broker]\n{}", of("operator"))).unwrap();
    let print = |hub: &Hub, more: &[&str]| {
        let printed = broker.dir().join("printed").display().to_string();
        hub.operate(&[&["broker", "config", "mosquitto", "--out", &printed], more].concat());
        let settings = std::fs::read_to_string(format!("{printed}/mosquitto.conf")).unwrap();
        assert!(settings.contains("\n#   allow_anonymous false\n#   password_file /etc/"), "{settings}");
        // What nobody seals is not the ledger's to allow.
        let rules = std::fs::read_to_string(format!("{printed}/sealcast.acl")).unwrap();
        std::fs::write(broker.dir().join("acl"), format!("pattern readwrite open/#\n{rules}")).unwrap();
        broker.reload();
    };
    print(&hub, &["--no-groups"]);
    let agents = ["1111", "1112", "1113"].map(|device| format!("[upstream]\n{}", of(device)));
    let place = Place { agents, ..Place::of(hub) };
    let hub = place.show_it_sealed_end_to_end(|hub| print(hub, &[]), || None);

    let dir = hub.dir.path().join("agents/1113");
    configure(&dir, &format!("[upstream]\n{}", of("lab")));
    let stranger = Agent::start(&dir, &[]);
    stranger.log.until(&[" WARN ", "refuses what 1113 says to the hub", "the broker's user of 1113 has to be 1113"]);
}

/// With what `sealcast broker config nats` prints.
#[test]
fn nats_with_client_certificates_and_the_printed_rules() {
    let Certified { port, dir, lines, hub } = Certified::new();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let print = |hub: &Hub, more: &[&str]| {
        hub.operate(&[&["broker", "config", "nats", "--out", &file("printed")], more].concat());
        // What nobody seals is not the ledger's to allow.
        let rules = std::fs::read_to_string(file("printed/sealcast-users.conf")).unwrap();
        let rules =
            rules.replace("publish: [", "publish: [\"open.>\", ").replace("subscribe: [", "subscribe: [\"open.>\", ");
        std::fs::write(file("sealcast-users.conf"), rules).unwrap();
    };
    print(&hub, &["--no-groups"]);
    let root = hub.path().join("root.pem").display().to_string();
    let settings = std::fs::read_to_string(file("printed/nats-server.conf")).unwrap();
    let config = here(
        settings,
        &[
            ("port: 8883", format!("host: 127.0.0.1, port: {}", port.number())),
            ("/var/lib/nats", file("store")),
            ("stream_replicas: 3", "stream_replicas: 1".into()),
            ("/etc/nats/root.pem", root),
            ("/etc/nats/broker.pem", file("broker.pem")),
            ("/etc/nats/broker.key", file("broker.key")),
        ],
    );
    let Some(broker) = Cluster::nats_configured(dir.path(), &config, port) else { return };
    let granted = |hub: &Hub| {
        print(hub, &[]);
        broker.reload();
    };
    let hub = Place::of(hub).with(&format!("[upstream]\n{lines}")).show_it_sealed_end_to_end(granted, || None);
    let of = |device: &str| said_to(&hub, device, &broker.port(0), &file("broker.pem"));
    assert!(of("1113").contains("Subscribed (mid: 1): 1"), "{}", of("1113"));
    assert!(of("1112").contains("Subscribed (mid: 1): 128"), "{}", of("1112"));
    hub.operate(&["device", "revoke", "1112"]);
    granted(&hub);
    until("a revoked device is not let in", || of("1112").contains("CONNACK (5)"));
    assert!(of("1113").contains("Subscribed (mid: 1): 1"), "{}", of("1113"));
}

/// With what `sealcast broker config rabbitmq` prints, and the list of revoked certificates.
#[test]
fn rabbitmq_with_client_certificates_and_the_printed_rules() {
    let Certified { port, dir, lines, hub } = Certified::new();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let print = |hub: &Hub, more: &[&str]| {
        hub.operate(&[&["broker", "config", "rabbitmq", "--out", &file("printed")], more].concat());
        // What nobody seals is not the ledger's to allow.
        let rules = std::fs::read_to_string(file("printed/sealcast-definitions.json")).unwrap();
        assert!(rules.contains("\"^(sealcast"), "{rules}");
        let rules = rules.replace("\"^(sealcast", "\"^(open\\\\..*|sealcast");
        std::fs::write(file("printed/sealcast-definitions.json"), rules).unwrap();
    };
    let fetch = |hub: &Hub| {
        let list = file("crl.pem");
        fetch_revoked(hub, &list);
        let name = succeed(Command::new("openssl").args(["crl", "-in", &list, "-noout", "-hash"]));
        std::fs::rename(list, file(&format!("crl/{}.r0", name.trim()))).unwrap();
    };
    print(&hub, &["--no-groups"]);
    std::fs::create_dir(file("crl")).unwrap();
    fetch(&hub);
    let settings = std::fs::read_to_string(file("printed/rabbitmq.conf")).unwrap();
    let settings = here(settings, &[("ssl.default = 8883", format!("ssl.default = {}", port.address()))]);
    let tls = here(
        std::fs::read_to_string(file("printed/advanced.config")).unwrap(),
        &[
            ("/etc/rabbitmq/root.pem", hub.path().join("root.pem").display().to_string()),
            ("/etc/rabbitmq/broker.pem", file("broker.pem")),
            ("/etc/rabbitmq/broker.key", file("broker.key")),
            ("/etc/rabbitmq/crl\"", format!("{}\"", file("crl"))),
        ],
    );
    let broker = Cluster::rabbitmq_configured(&settings, &tls, port);
    let script = file("printed/sealcast-rabbitmq.sh");
    broker.rabbitmq_script(&script);
    let granted = |hub: &Hub| {
        print(hub, &[]);
        broker.rabbitmq_script(&script);
    };
    let place = Place { is_rabbitmq: true, ..Place::of(hub).with(&format!("[upstream]\n{lines}")) };
    let hub = place.show_it_sealed_end_to_end(granted, || None);
    let of = |device: &str| said_to(&hub, device, &broker.port(0), &file("broker.pem"));
    assert!(of("1113").contains("Subscribed (mid: 1): 1"), "{}", of("1113"));
    // RabbitMQ cuts off whoever is refused, so nobody may be whose rules are right.
    let refused = |device: &str| broker.said(&format!("refused for user '{device}'"));
    assert!(!["hub", "operator", "1111", "1112", "1113"].into_iter().any(refused));
    is_cut_off(&mut said_by(&hub, "1112", &broker.port(0), &file("broker.pem")));
    hub.operate(&["device", "revoke", "1112"]);
    granted(&hub);
    assert!(of("1112").contains("CONNACK (4)"), "{}", of("1112"));
    fetch(&hub);
    assert!(of("1112").contains("certificate revoked"), "{}", of("1112"));
    assert!(of("1113").contains("Subscribed (mid: 1): 1"), "{}", of("1113"));
}

/// RabbitMQ has no answer for a subscription that it refuses: it closes the connection, and the client connects again.
fn is_cut_off(client: &mut Command) {
    let client = Process::start(client);
    let mut connections = 0;
    while connections < 2 {
        let line = client.line();
        assert!(!line.starts_with("Subscribed"), "{line}");
        connections += usize::from(line.contains("sending CONNECT"));
    }
}

/// The list of revoked certificates, as PEM.
fn fetch_revoked(hub: &Hub, file: &str) {
    let root = hub.path().join("root.pem").display().to_string();
    let der = format!("{file}.der");
    let url = format!("https://localhost:{}/crl.der", hub.est.rsplit_once(':').unwrap().1);
    succeed(Command::new("curl").args(["-s", "--fail", "--cacert", &root, &url, "-o", &der]));
    succeed(Command::new("openssl").args(["crl", "-inform", "DER", "-in", &der, "-out", file]));
}

/// What the broker says to whoever shows a device's certificate and subscribes to the group.
fn said_to(hub: &Hub, device: &str, port: &str, ca: &str) -> String {
    let said = output(&mut said_by(hub, device, port, ca));
    String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
}

/// See [`said_to`].
fn said_by(hub: &Hub, device: &str, port: &str, ca: &str) -> Command {
    let file = |name: &str| hub.dir.path().join("agents").join(device).join(name).display().to_string();
    // Its output is not a terminal: without stdbuf it comes in blocks.
    let mut command = Command::new("stdbuf");
    command.args([
        "-oL",
        "mosquitto_sub",
        "-h",
        "127.0.0.1",
        "-p",
        port,
        "-t",
        "room/away",
        "-q",
        "1",
        "-d",
        "-E",
        "-W",
        "60",
    ]);
    command.args(["--insecure", "--cafile", ca, "--cert", &file("device.pem"), "--key", &file("device.key")]);
    command
}

/// Printed settings with what is elsewhere in a test than they say.
fn here(settings: String, changes: &[(&str, String)]) -> String {
    changes.iter().fold(settings, |text, (printed, here)| {
        assert!(text.contains(printed), "{printed} in\n{text}");
        text.replace(printed, here)
    })
}
