//! Where MQTT clients of the device connect: TCP, TLS, Unix sockets and WebSocket.
//!
//! A listener makes a stream of MQTT's bytes of whatever comes to it, and refuses whom it does not let in. What the
//! bytes mean, [`client`] has decided.

mod login;
mod tls;
mod unix;
mod web_socket;

use std::{collections::BTreeSet, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use sealcast_agent_core::{
    Cause, Why,
    session::{Annotate, ClientEvent},
};
use sealcast_node::{Tasks, accepted, tls::Stream};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

pub use self::login::Login;
use self::{tls::Tls, web_socket::Pages};
use crate::{
    client::{self, Shared, Terms},
    config::{
        self,
        listener::{Listener, Place},
    },
};

/// How long TLS and WebSocket may take until MQTT can be spoken.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// One in so many of all clients may be one that its listener has not let in yet, and more wait. Else whoever reaches one
/// listener and proves nothing would keep the clients of all others out.
const STRANGERS: usize = 4;

/// A listener with what its files say, before it is bound.
pub struct Prepared {
    listener: Listener,
    gate: Gate,
}

/// Who gets in, and how.
struct Gate {
    users: Option<BTreeSet<u32>>,
    tls: Option<Tls>,
    web_socket: Option<Pages>,
    login: Option<Arc<Login>>,
    annotate: Annotate,
}

/// A listener that is bound.
pub struct Bound {
    /// Where it is.
    pub listener: Listener,
    socket: Socket,
    gate: Arc<Gate>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(unix::Socket),
}

/// Whoever has come.
struct Guest {
    stream: Box<dyn Stream>,
    /// For the log.
    from: String,
    /// The number of the user whose process it is; known at a Unix socket.
    user: Option<u32>,
}

/// What a guest takes.
struct Places {
    /// Of all clients, to its end.
    client: OwnedSemaphorePermit,
    /// Of those that are not let in yet.
    stranger: OwnedSemaphorePermit,
}

/// Reads the files of all listeners.
pub fn prepare(config: &config::Agent) -> Result<Vec<Prepared>> {
    let plain = config.listen.map(|address| Listener::plain(address, config.annotate));
    plain.into_iter().chain(config.listeners.iter().cloned()).map(Prepared::new).collect()
}

impl Prepared {
    fn new(listener: Listener) -> Result<Self> {
        let gate = || -> Result<Gate> {
            let users = match &listener.place {
                Place::Unix(unix) => unix.users.as_deref().map(unix::numbers).transpose()?,
                Place::Tcp(_) => None,
            };
            let login = listener.login.as_ref().map(Login::read).transpose()?.map(Arc::new);
            let tls = listener.tls.clone().map(Tls::read).transpose()?;
            let web_socket = listener.web_socket.clone().map(|socket| Pages::new(socket.origins, login.is_some()));
            Ok(Gate { users, tls, web_socket, login, annotate: listener.annotate })
        };
        let gate = gate().with_context(|| format!("the listener {listener}"))?;
        Ok(Self { listener, gate })
    }

    /// Binds it.
    pub async fn bind(self) -> Result<Bound> {
        let Self { listener, gate } = self;
        let (socket, listener) = match &listener.place {
            Place::Tcp(address) => {
                let socket =
                    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {listener}"))?;
                let address = socket.local_addr()?;
                (Socket::Tcp(socket), listener.bound(address))
            }
            Place::Unix(place) => (Socket::Unix(unix::Socket::bind(place).await?), listener),
        };
        Ok(Bound { listener, socket, gate: Arc::new(gate) })
    }
}

impl Bound {
    /// Its address, unless it is a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.listener.place {
            Place::Tcp(address) => Some(address),
            Place::Unix(_) => None,
        }
    }

    /// Serves clients until the agent ends. Each takes one of `places`.
    pub async fn serve(self, shared: Arc<Shared>, places: Arc<Semaphore>, tasks: Tasks) {
        let who = format!("the listener {}", self.listener);
        let strangers = Arc::new(Semaphore::new(shared.config.max_clients.div_ceil(STRANGERS)));
        loop {
            let next = async {
                let stranger = strangers.clone().acquire_owned().await;
                (stranger, accepted(&who, || self.socket.accept()).await)
            };
            let (stranger, guest) = tokio::select! {
                () = shared.stop.cancelled() => return,
                next = next => next,
            };
            let Ok(stranger) = stranger else { return };
            let Ok(client) = places.clone().try_acquire_owned() else {
                let most = shared.config.max_clients;
                let reason = format!("refused: as many are connected as max_clients in agent.toml allows, {most}");
                refuse(&shared, &guest.from, Why::new(Cause::TooManyClients, reason));
                continue;
            };
            let places = Places { client, stranger };
            tasks.spawn(receive(guest, self.gate.clone(), shared.clone(), places));
        }
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Guest> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, "TCP_NODELAY");
                }
                Ok(Guest { stream: Box::new(stream), from: peer.to_string(), user: None })
            }
            Self::Unix(socket) => {
                let (stream, user) = socket.accept().await?;
                Ok(Guest { stream: Box::new(stream), from: format!("user {user}"), user: Some(user) })
            }
        }
    }
}

/// Lets a guest in, and serves it to its end.
async fn receive(guest: Guest, gate: Arc<Gate>, shared: Arc<Shared>, places: Places) {
    let Places { client: _place, stranger } = places;
    let (from, max_packet_bytes) = (guest.from.clone(), shared.config.max_packet_bytes);
    let admitted = tokio::select! {
        () = shared.stop.cancelled() => return,
        admitted = timeout(HANDSHAKE, Box::pin(gate.admit(guest, max_packet_bytes))) => admitted,
    };
    match admitted.unwrap_or_else(|_| Err(anyhow!("no handshake within {} s", HANDSHAKE.as_secs()))) {
        Ok(stream) => {
            let terms = Terms {
                address: from,
                annotate: gate.annotate,
                copies: true,
                login: gate.login.clone(),
                stranger: Some(stranger),
            };
            client::serve(shared, stream, terms).await;
        }
        Err(error) => {
            refuse(&shared, &from, Why::new(Cause::ClientRefused, format!("{error:#}")));
        }
    }
}

/// Says why a guest was not let in.
fn refuse(shared: &Shared, from: &str, why: Why) {
    // A new port is no other client.
    let host = from.parse::<SocketAddr>().map_or_else(|_| from.to_owned(), |peer| peer.ip().to_string());
    shared.events.put(&host, ClientEvent::of_connection(from, why));
}

impl Gate {
    /// The stream of MQTT's bytes.
    async fn admit(&self, guest: Guest, max_packet_bytes: usize) -> Result<Box<dyn Stream>> {
        let Guest { mut stream, user, .. } = guest;
        if let (Some(users), Some(user)) = (&self.users, user) {
            ensure!(users.contains(&user), "this user may not connect: see `users` of the listener in agent.toml");
        }
        if let Some(tls) = &self.tls {
            stream = match TlsAcceptor::from(tls.config()).accept(stream).await {
                Ok(stream) => Box::new(stream),
                Err(error) => bail!("no TLS handshake: {error}"),
            };
        }
        if let Some(pages) = &self.web_socket {
            let admit = |headers: &_| pages.admit(headers);
            stream = Box::new(sealcast_node::web_socket::accept(stream, max_packet_bytes, admit).await?);
        }
        Ok(stream)
    }
}
