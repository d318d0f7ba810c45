//! Somebody else's broker: mosquitto on a port of the test's own.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration};

use super::{Hub, Port, Process, succeed, until};

/// A mosquitto that keeps nothing on disk.
pub struct Mosquitto {
    process: Option<Process>,
    scheme: &'static str,
    port: Port,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    /// One that lets anybody in over plain TCP.
    pub fn plain() -> Self {
        Self::with("mqtt", |_| "allow_anonymous true\n".to_owned())
    }

    /// One whose listener has the lines that `listener` gives, which may put files into the folder that it gets. Clients reach it
    /// by `scheme`.
    pub fn with(scheme: &'static str, listener: impl FnOnce(&Path) -> String) -> Self {
        let lines = |dir: &Path, port: &Port| {
            format!("listener {} 127.0.0.1\nset_tcp_nodelay true\n{}", port.number(), listener(dir))
        };
        Self::configured(scheme, lines, Port::reserve())
    }

    /// One that listens where the hub's broker did, with its certificate, and beside that without TLS for anybody.
    pub fn in_place_of(hub: &Hub) -> Self {
        let file = |name: &str| hub.path().join(name).display().to_string();
        let (certificate, key, tls) = (file("server.pem"), file("server.key"), hub.mqtt_port());
        Self::with("mqtt", |_| {
            format!(
                "allow_anonymous true\nmax_queued_messages 0\n\
                 listener {tls} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n"
            )
        })
    }

    /// One with this as the essence of its `mosquitto.conf`.
    pub fn configured(scheme: &'static str, config: impl FnOnce(&Path, &Port) -> String, port: Port) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!("user root\nlog_type all\nlog_dest stdout\n{}", config(dir.path(), &port));
        std::fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Self { process: None, scheme, port, dir };
        broker.restart();
        broker
    }

    /// Has it read its rules again.
    pub fn reload(&self) {
        self.signal("-HUP");
    }

    /// Sends it a signal, such as `-STOP`.
    pub fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        succeed(Command::new("kill").args([name, &id]));
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Starts it on the same port.
    pub fn restart(&mut self) {
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(self.dir.path().join("mosquitto.conf"));
        self.process = Some(Process::start(&mut command));
        let address = self.address();
        until("mosquitto listens", || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok());
    }

    /// `mqtt://127.0.0.1:PORT`, or another scheme.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.port.address())
    }

    /// Whoever is at the broker itself publishes.
    pub fn publish(&self, topic: &str, payload: &str, extra: &[&str]) {
        let port = self.port();
        let options = ["-h", "127.0.0.1", "-p", &port, "-t", topic, "-m", payload, "-q", "1"];
        succeed(Command::new("mosquitto_pub").args(options).args(extra));
    }

    /// A stranger puts something of its own where a message is retained.
    pub fn overwrite(&self, topic: &str) {
        self.publish(topic, "garbage", &["-r"]);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address().parse().unwrap()
    }

    /// Its port, as an argument.
    pub fn port(&self) -> String {
        self.port.number()
    }
}

/// `broker.pem` and `broker.key`, for a name that no address here has; the lines of a listener with them.
pub fn own_certificate(dir: &Path) -> String {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    command.args(["-subj", "/CN=broker", "-addext", "subjectAltName=DNS:broker.example"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.args(["-keyout", &file("broker.key"), "-out", &file("broker.pem")]);
    succeed(&mut command);
    format!("certfile {}\nkeyfile {}\n", file("broker.pem"), file("broker.key"))
}

/// Writes a password or a token into a file that only its owner may read.
pub fn secret_file(path: &Path, secret: &str) {
    std::fs::write(path, format!("{secret}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
