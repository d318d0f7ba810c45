//! A port that stays this test's own.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A TCP port on loopback. It is bound here, without listening, as long as this value lives.
///
/// A server that sets SO_REUSEADDR before it binds (ours, mosquitto, asyncio's) can listen on it, as often as it is
/// started again. The system gives it to nobody else meanwhile, neither to a server that asks for any port nor to a
/// client's end of a connection. Whoever looks for a free port and binds it later has no such promise.
pub struct Port {
    address: SocketAddr,
    _reserved: TcpSocket,
}

impl Port {
    pub fn reserve() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { address: socket.local_addr().unwrap(), _reserved: socket }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its number, as an argument.
    pub fn number(&self) -> String {
        self.address.port().to_string()
    }
}
