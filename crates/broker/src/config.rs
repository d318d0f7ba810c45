//! What a broker is told before it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use sealcast_broker_core::Limits;

use crate::tls::TlsIdentity;

/// One address to listen on.
#[derive(Clone, Debug)]
pub enum ListenerConfig {
    /// TLS 1.2 or 1.3; a client without a certificate that chains to the configured roots is refused in the handshake.
    Tls {
        /// Where to bind; port 0 lets the system choose (see [`crate::Running::addrs`]).
        addr: SocketAddr,
        /// Certificate, key and client roots.
        identity: TlsIdentity,
    },
    /// Plain TCP: tests and the demo. [`crate::Policy::connect`] sees no certificate.
    Tcp {
        /// Where to bind; port 0 lets the system choose.
        addr: SocketAddr,
    },
}

/// Everything a broker needs to start.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The addresses to listen on, in the order in which [`crate::Running::addrs`] reports them.
    pub listeners: Vec<ListenerConfig>,
    /// Folder of the journal (`broker.db`), created if missing. `None` keeps everything in memory: nothing survives.
    pub data_dir: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
}
