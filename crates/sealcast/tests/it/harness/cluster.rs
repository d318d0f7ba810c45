//! Brokers that others make, beside mosquitto: RabbitMQ and NATS as clusters of three nodes, and mochi. Each on ports of the
//! test's own, with nothing left behind when the test lets go of it.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Port, Process, output, succeed, until};

const NATS: &str = "github.com/nats-io/nats-server/v2@v2.15.3";
const MOCHI: &str = "github.com/mochi-mqtt/server/v2/cmd@v2.7.9";
const NODES: usize = 3;

/// A broker of one or more nodes.
pub struct Cluster {
    nodes: Vec<Node>,
    /// Helpers of the nodes, such as Erlang's port mapper.
    _beside: Vec<Process>,
    ports: Vec<Port>,
    dir: tempfile::TempDir,
}

struct Node {
    process: Option<Process>,
    mqtt: Port,
}

impl Cluster {
    /// RabbitMQ as Debian has it, with quorum queues. User and password are both `sc`.
    pub fn rabbitmq() -> Self {
        let mut cluster = Self::rabbitmq_without_nodes();
        for number in 1..=NODES {
            let mqtt = Port::reserve();
            let mut text = format!(
                "mqtt.listeners.tcp.1 = {}\nmqtt.allow_anonymous = false\nmqtt.subscription_ttl = 600000\n\
                 mqtt.durable_queue_type = quorum\ndefault_user = sc\ndefault_pass = sc\n\
                 cluster_formation.peer_discovery_backend = classic_config\n",
                mqtt.address()
            );
            for other in 1..=NODES {
                text += &format!("cluster_formation.classic_config.nodes.{other} = r{other}@localhost\n");
            }
            // The first one is what the others join.
            cluster.add_rabbitmq(number, &text, mqtt);
        }
        cluster
    }

    /// One node of RabbitMQ with this as its two files of settings, which name the port.
    pub fn rabbitmq_configured(settings: &str, advanced: &str, mqtt: Port) -> Self {
        let mut cluster = Self::rabbitmq_without_nodes();
        std::fs::write(cluster.dir.path().join("advanced.config"), advanced).unwrap();
        cluster.add_rabbitmq(1, settings, mqtt);
        cluster
    }

    fn rabbitmq_without_nodes() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cookie = dir.path().join(".erlang.cookie");
        std::fs::write(&cookie, "sealcast").unwrap();
        succeed(Command::new("chmod").arg("400").arg(&cookie));
        let epmd = Port::reserve();
        let mapper = Process::start(Command::new("epmd").args(["-port", &epmd.number(), "-address", "127.0.0.1"]));
        Self { nodes: Vec::new(), _beside: vec![mapper], ports: vec![epmd], dir }
    }

    /// Starts one more node, and waits for it.
    fn add_rabbitmq(&mut self, number: usize, settings: &str, mqtt: Port) {
        let file = |name: &str| self.dir.path().join(format!("{name}{number}"));
        let (config, distribution) = (file("config").with_extension("conf"), Port::reserve());
        std::fs::write(&config, format!("listeners.tcp = none\nlog.console = true\n{settings}")).unwrap();
        std::fs::write(file("plugins"), "[rabbitmq_mqtt].").unwrap();
        let mut command = self.beside_rabbitmq(number, "rabbitmq-server");
        // As under systemd the script becomes the node, instead of starting it: whoever ends the process ends the node.
        command.env("RUNNING_UNDER_SYSTEMD", "1");
        command.env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+S 2:2 +sbwt none -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        );
        command.env("RABBITMQ_NODE_PORT", "0").env("RABBITMQ_CONFIG_FILE", config);
        command.env("RABBITMQ_DIST_PORT", distribution.number()).env("RABBITMQ_PID_FILE", file("pid"));
        let at = |name: &str| self.dir.path().join(name);
        command.env("RABBITMQ_MNESIA_BASE", at("db")).env("RABBITMQ_LOG_BASE", at("log"));
        command.env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"));
        if at("advanced.config").exists() {
            command.env("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config"));
        }
        let node = Node { process: Some(Process::start(&mut command)), mqtt };
        node.wait();
        self.nodes.push(node);
        self.ports.push(distribution);
    }

    /// Whether its first node has said this so far.
    pub fn said(&self, text: &str) -> bool {
        self.nodes[0].process.as_ref().unwrap().log.count(text) > 0
    }

    /// Runs a script of commands for its first node, which is RabbitMQ.
    pub fn rabbitmq_script(&self, script: &str) {
        succeed(self.beside_rabbitmq(1, "sh").arg(script));
    }

    /// What finds RabbitMQ's programs and this node.
    fn beside_rabbitmq(&self, number: usize, program: &str) -> Command {
        let path = format!("{}:{}", rabbitmq_folder().display(), std::env::var("PATH").unwrap());
        // The program itself is not looked for in a path that the child alone has.
        let mut command = Command::new("env");
        command.arg(program).env("PATH", path).env("HOME", self.dir.path());
        command.env("ERL_EPMD_PORT", self.ports[0].number()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODENAME", format!("r{number}@localhost"));
        command
    }

    /// NATS with JetStream, each message on all nodes. `None` where there is no Go to install it by.
    pub fn nats() -> Option<Self> {
        let program = installed(NATS, "nats-server")?;
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<Port> = (0..2 * NODES).map(|_| Port::reserve()).collect();
        let (own, routes) = ports.split_at(NODES);
        let all: Vec<String> = routes.iter().map(|port| format!("nats://{}", port.address())).collect();
        let start = |(number, (own, route)): (usize, (&Port, &Port))| {
            let mqtt = Port::reserve();
            let store = dir.path().join(number.to_string());
            let config = dir.path().join(format!("{number}.conf"));
            std::fs::write(
                &config,
                format!(
                    "server_name: n{number}\nlisten: {}\njetstream {{ store_dir: {store:?}, max_mem: 256M, max_file: 2G }}\n\
                     cluster {{ name: sc, listen: {}, routes: [{}] }}\n\
                     mqtt {{ host: 127.0.0.1, port: {}, stream_replicas: {NODES}, ack_wait: \"3s\" }}\nmax_payload: 8MB\n",
                    own.address(),
                    route.address(),
                    all.join(", "),
                    mqtt.number(),
                ),
            )
            .unwrap();
            let process = Process::start(Command::new(&program).arg("-c").arg(config));
            Node { process: Some(process), mqtt }
        };
        let nodes: Vec<Node> = own.iter().zip(routes).enumerate().map(start).collect();
        nodes.iter().for_each(Node::wait);
        Some(Self { nodes, _beside: Vec::new(), ports, dir })
    }

    /// One node of NATS with this as its configuration, which names the port, in `folder`, which it includes files from. `None`
    /// where there is no Go.
    pub fn nats_configured(folder: &Path, config: &str, mqtt: Port) -> Option<Self> {
        let program = installed(NATS, "nats-server")?;
        let dir = tempfile::tempdir().unwrap();
        let (own, file) = (Port::reserve(), folder.join("nats.conf"));
        std::fs::write(&file, format!("server_name: n1\nlisten: {}\n{config}", own.address())).unwrap();
        let node = Node { process: Some(Process::start(Command::new(program).arg("-c").arg(file))), mqtt };
        node.wait();
        Some(Self { nodes: vec![node], _beside: Vec::new(), ports: vec![own], dir })
    }

    /// Has its first node read its configuration again.
    pub fn reload(&self) {
        let id = self.nodes[0].process.as_ref().unwrap().id().to_string();
        succeed(Command::new("kill").args(["-HUP", &id]));
    }

    /// mochi, which keeps all in memory. `None` where there is no Go to install it by.
    pub fn mochi() -> Option<Self> {
        let program = installed(MOCHI, "cmd")?;
        let (mqtt, web, info) = (Port::reserve(), Port::reserve(), Port::reserve());
        let mut command = Command::new(program);
        command.args(["-tcp", &mqtt.address(), "-ws", &web.address(), "-info", &info.address()]);
        let node = Node { process: Some(Process::start(&mut command)), mqtt };
        node.wait();
        Some(Self { nodes: vec![node], _beside: Vec::new(), ports: vec![web, info], dir: tempfile::tempdir().unwrap() })
    }

    /// `mqtt://127.0.0.1:PORT` of a node.
    pub fn url(&self, node: usize) -> String {
        format!("mqtt://{}", self.nodes[node].mqtt.address())
    }

    /// A node's port, as an argument.
    pub fn port(&self, node: usize) -> String {
        self.nodes[node].mqtt.number()
    }

    /// kill -9.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].process.take().unwrap().kill();
    }
}

impl Node {
    fn wait(&self) {
        until("a node takes MQTT clients", || TcpStream::connect(self.mqtt.address()).is_ok());
    }
}

/// Where Debian keeps the programs behind its wrappers, which insist on a user of their own.
fn rabbitmq_folder() -> PathBuf {
    let all = std::fs::read_dir("/usr/lib/rabbitmq/lib").expect("rabbitmq-server is installed");
    let mut folders = all.map(|entry| entry.unwrap().path().join("sbin")).filter(|folder| folder.is_dir());
    folders.next().expect("a folder of programs")
}

/// A program that Go installs, where there is Go, into a folder that runs of the tests share.
pub(super) fn installed(package: &str, program: &str) -> Option<PathBuf> {
    if output(Command::new("sh").args(["-c", "command -v go"])).stdout.is_empty() {
        return None;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    std::fs::create_dir_all(&dir).unwrap();
    let lock = std::fs::File::create(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    // By version, so that another one is installed beside it.
    let bin = dir.join(package.replace(['/', '@'], "-"));
    if !bin.join(program).exists() {
        succeed(Command::new("go").arg("install").arg(package).env("GOBIN", &bin));
    }
    Some(bin.join(program))
}
