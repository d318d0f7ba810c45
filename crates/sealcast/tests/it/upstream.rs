//! Logins at somebody else's broker: passwords, certificates, TLS under another authority, WebSockets.

use std::{path::Path, process::Command};

use crate::harness::{
    Agent, Hub, Port, Process, configure, mosquitto_sub_at, output, own_certificate, secret_file, succeed, unique,
};

const CLEAR: &str = "clear = ['open/#']\n";
/// It must be in no log.
const PASSWORD: &str = "correct-horse";

/// A mosquitto with a listener of each kind.
struct Broker {
    password: Port,
    /// With a certificate of its own authority, for the name `broker.example`.
    tls: Port,
    /// For certificates of the hub's network.
    mtls: Port,
    web_socket: Port,
    secure_web_socket: Port,
    process: Process,
}

impl Broker {
    fn start(hub: &Hub, dir: &Path) -> Self {
        let ports: [Port; 5] = std::array::from_fn(|_| Port::reserve());
        let file = |name: &str| dir.join(name).display().to_string();
        secret_file(&dir.join("password"), PASSWORD);
        succeed(Command::new("mosquitto_passwd").args(["-c", "-b", &file("users"), "gateway", PASSWORD]));
        succeed(Command::new("mosquitto_passwd").args(["-b", &file("users"), "sensor", "its-own"]));
        let of_hub = |name: &str| hub.path().join(name).display().to_string();
        let own = own_certificate(dir);
        let networks = format!(
            "certfile {}\nkeyfile {}\ncafile {}\nrequire_certificate true\nuse_identity_as_username true\n",
            of_hub("server.pem"),
            of_hub("server.key"),
            of_hub("root.pem")
        );
        let users = format!("allow_anonymous false\npassword_file {}\n", file("users"));
        let kinds = [
            users.clone(),
            format!("{own}{users}"),
            networks,
            format!("protocol websockets\n{users}"),
            format!("protocol websockets\n{own}{users}"),
        ];
        let mut config = "user root\nper_listener_settings true\nlog_type all\nlog_dest stderr\n".to_owned();
        for (port, kind) in ports.iter().zip(kinds) {
            config += &format!("listener {} 127.0.0.1\nset_tcp_nodelay true\n{kind}", port.number());
        }
        std::fs::write(file("mosquitto.conf"), config).unwrap();
        let process = Process::start(Command::new("/usr/sbin/mosquitto").arg("-c").arg(file("mosquitto.conf")));
        process.log.until(&[" running"]);
        let [password, tls, mtls, web_socket, secure_web_socket] = ports;
        Self { password, tls, mtls, web_socket, secure_web_socket, process }
    }
}

/// Starts the agent with this table. It connects itself and a client, which the broker lets in as `user`.
fn reaches(agent: &mut Agent, broker: &Broker, table: &str, login: &[&str], user: &str) {
    agent.end();
    configure(&agent.dir, &format!("{CLEAR}[upstream]\n{table}"));
    agent.restart();
    let id = unique("client");
    let _subscribed = agent.subscribe("open/1", &[&["-i", &id], login].concat());
    broker.process.log.until(&["New client connected", &id, &format!("u'{user}'")]);
    let url = table.split('\'').nth(1).unwrap();
    agent.log.until(&["connected to the broker", url]);
}

#[test]
fn an_agent_logs_in_as_the_broker_wants_it() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let broker = Broker::start(&hub, &dir);
    configure(&dir, CLEAR);
    let mut agent = Agent::start(&dir, &[]);
    let user = "user = 'gateway'\npassword_file = 'password'\n";
    let own_ca = "ca_file = 'broker.pem'\nserver_name = 'broker.example'\nalpn = ['mqtt']\n";
    for (scheme, port, rest, known_as) in [
        ("mqtt", &broker.password, user.to_owned(), "gateway"),
        ("mqtts", &broker.tls, format!("{user}{own_ca}certificate = false\n"), "gateway"),
        ("mqtts", &broker.mtls, String::new(), "1111"),
        ("ws", &broker.web_socket, user.to_owned(), "gateway"),
        ("wss", &broker.secure_web_socket, format!("{user}{own_ca}"), "gateway"),
    ] {
        let table = format!("url = '{scheme}://{}'\n{rest}", port.address());
        reaches(&mut agent, &broker, &table, &[], known_as);
    }
    // The agent's user goes up in the place of a client's own, or the client's own does.
    let table = format!("url = 'mqtt://{}'\n{user}", broker.password.address());
    reaches(&mut agent, &broker, &table, &["-u", "nobody", "-P", "wrong"], "gateway");
    let passes = format!("{table}credentials = 'client'\n");
    reaches(&mut agent, &broker, &passes, &["-u", "sensor", "-P", "its-own"], "sensor");
    let refused = output(Command::new("mosquitto_sub").args(["-p", agent.port(), "-t", "open/1", "-q", "1"]));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("not authorised"), "a client without a user is refused: {said}");
    assert!(!agent.log.text().contains(PASSWORD));
}

#[test]
fn what_is_wrong_with_a_login_is_said() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let broker = Broker::start(&hub, &dir);
    secret_file(&dir.join("wrong"), "wrong-horse");
    configure(&dir, CLEAR);
    let mut agent = Agent::start(&dir, &[]);
    let mut says = |table: String, parts: &[&str]| {
        agent.end();
        configure(&agent.dir, &format!("[upstream]\n{table}"));
        agent.restart();
        agent.log.until(parts);
    };
    let (password, tls, web_socket) = (broker.password.address(), broker.tls.address(), broker.web_socket.address());
    says(format!("url = 'mqtt://{password}'"), &["refused the connection", "check `user`"]);
    let wrong = format!("url = 'ws://{web_socket}'\nuser = 'gateway'\npassword_file = 'wrong'");
    says(wrong, &["ws://", "refused the connection", "`password_file`"]);
    says(format!("url = 'mqtts://{tls}'"), &["mqtts://", "handshake", "`ca_file` or `public_roots`"]);
    let other_ca = format!("url = 'mqtts://{tls}'\nca_file = 'root.pem'");
    says(other_ca, &["handshake", "not from an authority in", "root.pem"]);
    assert!(!agent.log.text().contains("wrong-horse"));
}

#[test]
fn what_a_listener_asks_for_does_not_go_to_the_broker() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let broker = Broker::start(&hub, &dir);
    // The broker would take it.
    secret_file(&dir.join("local"), "its-own");
    let listener = "[[listener]]\nlisten = 'mqtt://127.0.0.1:0'\nuser = 'sensor'\npassword_file = 'local'\n";
    let url = format!("url = 'mqtt://{}'", broker.password.address());
    let upstream = format!("[upstream]\n{url}\nuser = 'gateway'\npassword_file = 'password'\n");
    configure(&dir, &format!("{CLEAR}{upstream}{listener}"));
    let mut agent = Agent::start(&dir, &[]);
    let place = |agent: &Agent| {
        let url = agent.ready["listeners"][0].as_str().unwrap();
        let port = url.rsplit_once(':').unwrap().1.to_owned();
        ["-h", "127.0.0.1", "-u", "sensor", "-P", "its-own", "-p"].map(str::to_owned).into_iter().chain([port])
    };
    let id = unique("client");
    let with_login: Vec<String> = place(&agent).collect();
    let with_login: Vec<&str> = with_login.iter().map(String::as_str).collect();
    let _subscribed = mosquitto_sub_at(&with_login, "open/1", &["-i", &id]);
    broker.process.log.until(&["New client connected", &id, "u'gateway'"]);

    agent.end();
    configure(&dir, &format!("{CLEAR}{upstream}credentials = 'client'\n{listener}"));
    agent.restart();
    let refused = output(Command::new("mosquitto_sub").args(place(&agent)).args(["-t", "open/1", "-q", "1", "-E"]));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("not authorised"), "the broker got no user name: {said}");
}
