//! Somebody else's broker: mosquitto on a port of the test's own.

use std::{process::Command, time::Duration};

use super::{Port, Process, succeed, until};

/// A mosquitto that keeps nothing on disk.
pub struct Mosquitto {
    process: Option<Process>,
    port: Port,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    /// One that lets anybody in over plain TCP.
    pub fn plain() -> Self {
        let (port, dir) = (Port::reserve(), tempfile::tempdir().unwrap());
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_type all\nlog_dest stdout\n",
            port.number()
        );
        std::fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Self { process: None, port, dir };
        broker.restart();
        broker
    }

    /// Starts it on the same port.
    pub fn restart(&mut self) {
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(self.dir.path().join("mosquitto.conf"));
        self.process = Some(Process::start(&mut command));
        let address = self.port.address().parse().unwrap();
        until("mosquitto listens", || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok());
    }

    /// `mqtt://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.port.address())
    }

    /// A stranger puts something of its own where a message is retained.
    pub fn overwrite(&self, topic: &str) {
        let port = self.port();
        let options = ["-h", "127.0.0.1", "-p", &port, "-t", topic, "-m", "garbage", "-r", "-q", "1"];
        succeed(Command::new("mosquitto_pub").args(options));
    }

    /// Its port, as an argument.
    pub fn port(&self) -> String {
        self.port.number()
    }
}
