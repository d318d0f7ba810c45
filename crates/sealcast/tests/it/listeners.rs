//! Where MQTT clients connect to an agent: TLS, a password, Unix sockets, WebSocket, and several at once.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    harness::{
        Agent, Hub, PATIENCE, Process, configure, mosquitto_sub_at, output, refuse, sealcast, succeed, until,
        until_joined,
    },
    python::python,
    raw::{Client, Connect},
};

/// A hub and two members of a group with all topics below `home`. The first one has these listeners beside its plain one.
fn site(listeners: &str) -> (Hub, Agent, Agent) {
    let hub = Hub::start();
    let [agent, other] = hub.pair("home", [listeners, ""]);
    (hub, agent, other)
}

/// Where the agent's listener number `at` is, as it said itself.
fn url(agent: &Agent, at: usize) -> &str {
    agent.ready["listeners"][at].as_str().unwrap_or_else(|| panic!("{}", agent.ready))
}

fn port(agent: &Agent, at: usize) -> &str {
    url(agent, at).rsplit_once(':').unwrap().1
}

/// What is published by `mosquitto_pub` with these options comes out of the other agent, and back in the same way.
fn goes_both_ways(options: &[&str], other: &Agent) {
    let mut inside = mosquitto_sub_at(options, "home/down", &[]);
    let mut outside = other.subscribe("home/up", &[]);
    assert!(publishes(options), "{options:?}");
    assert_eq!(outside.message(PATIENCE).as_deref(), Some("home/up 21.5"), "{options:?}");
    other.publish("home/down", "open", &[]);
    assert_eq!(inside.message(PATIENCE).as_deref(), Some("home/down open"), "{options:?}");
}

fn publishes(options: &[&str]) -> bool {
    let mut command = Command::new("mosquitto_pub");
    command.args(options).args(["-t", "home/up", "-m", "21.5", "-q", "1"]);
    output(&mut command).status.success()
}

/// Certificates as a user would make them.
struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let made = Self { dir: tempfile::tempdir().unwrap() };
        made.make("ca", &["-addext", "basicConstraints=critical,CA:TRUE"]);
        made.issue("server", "subjectAltName=IP:127.0.0.1,DNS:localhost");
        made.issue("client", "extendedKeyUsage=clientAuth");
        made
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn issue(&self, name: &str, extension: &str) {
        let (ca, key) = (self.path("ca.pem"), self.path("ca.key"));
        self.make(name, &["-CA", &ca, "-CAkey", &key, "-addext", extension, "-addext", "basicConstraints=CA:FALSE"]);
    }

    fn make(&self, name: &str, options: &[&str]) {
        let (pem, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &format!("/CN={name}")]);
        succeed(command.args(["-out", &pem, "-keyout", &key]).args(options));
        // openssl writes keys for their owner alone.
        assert_eq!(fs::metadata(key).unwrap().mode() & 0o077, 0);
    }

    fn listener(&self, scheme: &str, more: &str) -> String {
        let (certificate, key) = (self.path("server.pem"), self.path("server.key"));
        let place = format!("[[listener]]\nlisten = '{scheme}://127.0.0.1:0'\n");
        format!("{place}certificate = '{certificate}'\nkey = '{key}'\n{more}\n")
    }
}

#[test]
fn clients_connect_over_tls_and_show_a_certificate_where_one_is_asked_for() {
    let made = Certificates::new();
    let ca = made.path("ca.pem");
    let config = made.listener("mqtts", "") + &made.listener("mqtts", &format!("client_ca = '{ca}'"));
    let (_hub, agent, other) = site(&config);
    let server = ["-h", "127.0.0.1", "--cafile", &ca, "-p"];
    goes_both_ways(&[&server[..], &[port(&agent, 0)]].concat(), &other);
    let (cert, key) = (made.path("client.pem"), made.path("client.key"));
    let shown = [&server[..], &[port(&agent, 1), "--cert", &cert, "--key", &key]].concat();
    goes_both_ways(&shown, &other);
    assert!(!publishes(&[&server[..], &[port(&agent, 1)]].concat()), "without a certificate");
    agent.log.until(&[" WARN ", "connection closed", "no TLS handshake", "127.0.0.1"]);

    // Renewed on disk: from the next connection on. The key comes second, so for a moment they do not fit.
    let renewed = Certificates::new();
    for name in ["server.pem", "server.key"] {
        fs::copy(renewed.path(name), made.path(name)).unwrap();
    }
    let new_ca = renewed.path("ca.pem");
    let with_new = ["-h", "127.0.0.1", "--cafile", &new_ca, "-p", port(&agent, 0)];
    until("the new certificate is used", || publishes(&with_new));
    assert!(!publishes(&[&server[..], &[port(&agent, 0)]].concat()), "the old one is not");
    // One that cannot be read does not end the listener.
    fs::write(made.path("server.pem"), "nothing").unwrap();
    assert!(publishes(&with_new));
    agent.log.until(&[" WARN ", "the old certificate stays", "server.pem"]);
}

#[test]
fn a_password_is_asked_for_and_guesses_are_slow() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let secret = dir.join("app.password");
    fs::write(&secret, "right one\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    configure(&dir, "[[listener]]\nlisten = 'mqtt://127.0.0.1:0'\nuser = 'app'\npassword_file = 'app.password'");
    let other = hub.enroll("1112");
    hub.group("home", "home/#", &["1111", "1112"]);
    let (agent, other) = (Agent::start(&dir, &[]), Agent::start(&other, &[]));
    until_joined(&agent, &other, "home/probe");

    let guarded = ["-h", "127.0.0.1", "-p", port(&agent, 0)];
    goes_both_ways(&[&guarded[..], &["-u", "app", "-P", "right one"]].concat(), &other);
    for wrong in [&["-u", "app", "-P", "wrong"][..], &["-u", "app"], &["-u", "other", "-P", "right one"], &[]] {
        assert!(!publishes(&[&guarded[..], wrong].concat()), "{wrong:?}");
    }
    agent.log.until(&[" WARN ", "connection closed", "bad user name or password, from 127.0.0.1"]);
    let address: SocketAddr = url(&agent, 0).strip_prefix("mqtt://").unwrap().parse().unwrap();
    for (v5, expected) in [(false, 4), (true, 0x86)] {
        let options = Connect { id: "guess", v5, user: Some("app"), ..Connect::default() };
        let (refused, _, code) = Client::try_connect(address, &options).unwrap();
        assert_eq!((code, refused.closed()), (expected, None));
    }
    // The plain listener asks for nothing, and hands on what it gets.
    assert!(publishes(&["-h", "127.0.0.1", "-p", agent.port(), "-u", "any", "-P", "thing"]));
}

#[test]
fn the_system_vouches_for_the_clients_of_a_unix_socket() {
    let own = fs::metadata("/proc/self").unwrap().uid();
    let socket = |name: &str, more: &str| format!("[[listener]]\nlisten = 'unix:{name}'\n{more}\n");
    let config =
        socket("open.sock", &format!("users = [{own}]")) + &socket("other.sock", &format!("users = [{}]", own + 1));
    let (hub, mut agent, other) = site(&config);
    let path = |name: &str| agent.dir.join(name).display().to_string();
    let (open, closed) = (path("open.sock"), path("other.sock"));
    assert_eq!([url(&agent, 0), url(&agent, 1)], [format!("unix:{open}"), format!("unix:{closed}")]);
    goes_both_ways(&["--unix", &open], &other);
    assert!(!publishes(&["--unix", &closed]));
    agent.log.until(&[" WARN ", "connection closed", &format!("user {own}"), "`users`"]);

    // Another agent may not take the place of one that runs.
    let stranger = hub.enroll("1113");
    configure(&stranger, &socket(&open, ""));
    let said = refuse([Path::new("agent"), "--dir".as_ref(), &stranger, "--listen".as_ref(), "127.0.0.1:0".as_ref()]);
    assert!(said.contains(&open) && said.contains("another process listens"), "{said}");
    // What one that was killed has left behind is in nobody's way.
    agent.kill();
    assert!(Path::new(&open).exists());
    agent.restart();
    until("the agent is back", || publishes(&["--unix", &open]));
    agent.end();
    assert!(!Path::new(&open).exists());
}

/// A paho client over WebSocket, in this version of MQTT.
fn paho(version: &str, url: &str, ca: &str, action: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/paho_client.py");
    let mut command = Command::new(python());
    command.env("SSL_CERT_FILE", ca).arg(script).args([version, url]).args(action);
    command
}

#[test]
fn clients_connect_over_websocket() {
    let made = Certificates::new();
    let ca = made.path("ca.pem");
    let plain = "[[listener]]\nlisten = 'ws://127.0.0.1:0'\n";
    let (_hub, agent, other) = site(&(plain.to_owned() + &made.listener("wss", "")));
    for at in [0, 1] {
        for version in ["3.1", "3.1.1", "5"] {
            let inside = Process::start(&mut paho(version, url(&agent, at), &ca, &["subscribe", "home/down"]));
            assert_eq!(inside.line(), r#"{"subscribed": true}"#);
            let mut outside = other.subscribe("home/up", &["-F", "%t %l"]);
            let large = "x".repeat(100_000);
            for value in ["21.5", &large] {
                let said = succeed(&mut paho(version, url(&agent, at), &ca, &["publish", "home/up", "1", value]));
                assert!(said.contains(r#""code": 0"#), "{version}: {said}");
                assert_eq!(outside.message(PATIENCE), Some(format!("home/up {}", value.len())));
                other.publish("home/down", value, &[]);
                assert!(inside.line().contains(&format!(r#""payload": "{value}""#)), "{version}");
            }
        }
    }
}

#[test]
fn whoever_proves_nothing_keeps_nobody_else_out() {
    let (_hub, agent, _other) = site("max_clients = 8\n[[listener]]\nlisten = 'mqtt://127.0.0.1:0'");
    let address: SocketAddr = url(&agent, 0).strip_prefix("mqtt://").unwrap().parse().unwrap();
    let silent: Vec<_> = (0..20).map(|_| Client::open(address, false).unwrap()).collect();
    assert!(publishes(&["-h", "127.0.0.1", "-p", agent.port()]), "at the other listener");
    assert!(agent.log.lines(&["max_clients"]).is_empty());
    // Whoever waits gets in when they are gone.
    let options = Connect { id: "late", clean: true, ..Connect::default() };
    drop(silent);
    Client::connect(address, &options);
}

#[test]
fn whoever_is_one_too_many_is_told_of_with_a_code() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    configure(&dir, "max_clients = 1");
    let agent = Agent::start(&dir, &[]);
    let _first = Client::connect(agent.address(), &Connect { id: "first", clean: true, ..Connect::default() });
    let second = Client::open(agent.address(), false).unwrap();
    agent.log.until(&[" WARN ", "max_clients in agent.toml allows, 1", "code=client-too-many"]);
    assert_eq!(second.closed(), None);
}

#[test]
fn each_listener_tells_its_clients_as_much_as_they_want() {
    let table = |annotate: &str| format!("[[listener]]\nlisten = 'mqtt://127.0.0.1:0'\nannotate = '{annotate}'\n");
    let (_hub, agent, other) = site(&(table("none") + &table("all")));
    let reader = |at| {
        let place = ["-h", "127.0.0.1", "-p", port(&agent, at)];
        mosquitto_sub_at(&place, "home/told", &["-V", "mqttv5", "-F", "%p;%P"])
    };
    let mut readers = [reader(0), reader(1)];
    other.publish("home/told", "21.5", &[]);
    let told = readers.each_mut().map(|reader| reader.message(PATIENCE).unwrap());
    assert_eq!(told[0], "21.5;");
    assert!(told[1].contains("sealcast-sender:1112"), "{told:?}");
}

#[test]
fn a_check_reads_what_the_listeners_need() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let check = || output(sealcast().args(["agent", "--check", "--dir"]).arg(&dir));
    let said = |config: &str| {
        configure(&dir, config);
        let said = check();
        assert!(!said.status.success(), "{config}");
        String::from_utf8_lossy(&said.stderr).into_owned()
    };
    let password = "[[listener]]\nlisten = 'mqtt://127.0.0.1:0'\nuser = 'app'\npassword_file = 'no such file'";
    for (config, parts) in [
        (password, ["the listener mqtt://127.0.0.1:0", "no such file"]),
        (
            "[[listener]]\nlisten = 'mqtts://127.0.0.1:0'\ncertificate = 'device.pem'\nkey = 'none'",
            ["mqtts://", "none"],
        ),
        ("[[listener]]\nlisten = 'unix:s'\nusers = ['no such user']", ["unix:", "no such user"]),
        ("\n[[listener]]\nlisten = 'ws://0.0.0.0:0'", ["agent.toml, line 2", "beyond_loopback"]),
    ] {
        let said = said(config);
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
    configure(&dir, "[[listener]]\nlisten = 'unix:s'\nusers = ['root']");
    assert!(check().status.success());
    assert!(!PathBuf::from(&dir).join("s").exists(), "nothing is bound");
}
