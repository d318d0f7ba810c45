//! The driver: listeners, the core's event loop, and the rule that nothing leaves before its records are durable.

mod driver;
mod event;
mod shared;
mod strangers;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use sealcast_broker_core::{
    Cause, ConnId, Core, Credential, HubMessage, Interceptor, PeerCertificate, Policy, Received, Stats, TopicError,
    parse_topic, validate_filter,
};
use sealcast_mqtt::Qos;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::config::{BrokerConfig, ListenerConfig};
use crate::connection;
use crate::journal::{Journal, JournalError};
use crate::sighting::Sighting;
use crate::tls::TlsError;
pub(crate) use event::ServerEvent;
pub(crate) use shared::Shared;
pub use strangers::{MaxStrangers, Stranger, Strangers, host};

/// Packets from all connections that wait for the core.
const EVENTS: usize = 1024;

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing to listen on.
    #[error("the broker has no address to listen on")]
    NoListener,
    /// An address that cannot be bound.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Why a call to a running broker fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// It has stopped, by [`Running::shutdown`] or because its journal could not be written.
    #[error("the broker has stopped")]
    Stopped,
    /// Not a topic name or filter.
    #[error("not a valid topic or filter: {0}")]
    Topic(#[from] TopicError),
}

/// Starts brokers.
pub struct Broker;

impl Broker {
    /// Opens the journal, restores sessions and retained messages, binds every listener and serves. Sessions are there
    /// before the first connection is accepted. Must be called in a tokio runtime with time and I/O enabled.
    pub async fn start(
        config: BrokerConfig,
        policy: Arc<dyn Policy>,
        interceptor: Option<Arc<dyn Interceptor>>,
    ) -> Result<Running, StartError> {
        if config.listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        let mut sockets = Vec::new();
        let mut addrs = Vec::new();
        for listener in &config.listeners {
            let (addr, acceptor) = match listener {
                ListenerConfig::Tls { addr, identity } => {
                    (*addr, Some(TlsAcceptor::from(Arc::new(identity.server_config()?))))
                }
                ListenerConfig::Tcp { addr } => (*addr, None),
            };
            let bind = |source| StartError::Bind { addr, source };
            let socket = TcpListener::bind(addr).await.map_err(bind)?;
            addrs.push(socket.local_addr().map_err(bind)?);
            sockets.push((socket, acceptor));
        }
        let mut core = Core::new(config.limits.clone(), policy, interceptor);
        let (durable_tx, durable) = mpsc::unbounded_channel();
        let journal = match &config.data_dir {
            Some(dir) => {
                let (journal, restored) = Journal::open(dir, durable_tx)?;
                tracing::info!(
                    sessions = restored.sessions.len(),
                    retained = restored.retained.len(),
                    "the broker has read its journal"
                );
                core.restore(restored, driver::now_ms());
                Some(journal)
            }
            None => None,
        };
        let (events_tx, events) = mpsc::channel(EVENTS);
        let stop = Arc::new(watch::channel(false).0);
        let shared = Arc::new(Shared::new(events_tx.clone(), config.limits.clone()));
        let connections = Arc::new(Semaphore::new(config.limits.max_connections.min(Semaphore::MAX_PERMITS)));
        let driver = driver::Driver::new(core, journal, config.limits);
        let failure = Arc::new(OnceLock::new());
        let vital = |what| Vital { what, stop: stop.clone(), failure: failure.clone() };
        let driver = tokio::spawn({
            let (vital, run) = (vital("the broker"), driver.run(events, durable, stop.clone(), failure.clone()));
            async move {
                run.await;
                drop(vital);
            }
        });
        let listeners = sockets
            .into_iter()
            .map(|(socket, acceptor)| {
                let vital = vital("a listener of the broker");
                let accept = accept(socket, acceptor, shared.clone(), connections.clone(), stop.subscribe());
                tokio::spawn(async move {
                    accept.await;
                    drop(vital);
                })
            })
            .collect();
        tracing::info!(?addrs, "the broker is listening");
        Ok(Running { addrs, handle: Handle { events: events_tx }, stop, failure, driver, listeners })
    }
}

/// Stops the broker when a task that it needs ends, also by a panic: nobody waits for the task itself before the end.
struct Vital {
    what: &'static str,
    stop: Arc<watch::Sender<bool>>,
    failure: Arc<OnceLock<String>>,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.failure.set(format!("{} panicked, which is a fault of Sealcast: please report it", self.what));
        }
        self.stop.send_replace(true);
    }
}

/// A broker at work. Dropping it stops the broker without waiting.
pub struct Running {
    addrs: Vec<SocketAddr>,
    handle: Handle,
    stop: Arc<watch::Sender<bool>>,
    failure: Arc<OnceLock<String>>,
    driver: JoinHandle<()>,
    listeners: Vec<JoinHandle<()>>,
}

impl Running {
    /// The bound addresses, in the order of [`BrokerConfig::listeners`].
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// For the hub's own messages; cheap to clone.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns once the broker has stopped, be it that its journal could not be written or that one of its tasks panicked.
    pub async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // An error means that the sender is gone: stopped too.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Why it has stopped by itself, once [`Self::stopped`] has returned.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Stops: no new connections, clients are told (MQTT 5) and closed, the journal is written out. What has not
    /// ended by the deadline is cut off; stored state is complete either way. Returns whether all ended in time.
    pub async fn shutdown(mut self, deadline: Duration) -> bool {
        self.stop.send_replace(true);
        let all = async {
            let _ = (&mut self.driver).await;
            for listener in &mut self.listeners {
                let _ = listener.await;
            }
        };
        tokio::time::timeout(deadline, all).await.is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for listener in &self.listeners {
            listener.abort();
        }
    }
}

/// Talks to a running broker from inside the process.
#[derive(Clone)]
pub struct Handle {
    events: mpsc::Sender<ServerEvent>,
}

impl Handle {
    /// Publishes as the hub itself: no policy, no sender. Returns when the message is stored for every persistent
    /// session that matches and has room for it, and handed to the connections.
    pub async fn publish(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Bytes>,
        qos: Qos,
        retain: bool,
    ) -> Result<(), HandleError> {
        let (topic, payload) = (parse_topic(&topic.into())?, payload.into());
        self.send(HubMessage { topic, payload, qos, retain, intercept: true }).await
    }

    /// Publishes past the [`Interceptor`]: what a hostile broker makes up or plays again.
    pub async fn inject(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Bytes>,
        qos: Qos,
        retain: bool,
    ) -> Result<(), HandleError> {
        let (topic, payload) = (parse_topic(&topic.into())?, payload.into());
        self.send(HubMessage { topic, payload, qos, retain, intercept: false }).await
    }

    async fn send(&self, message: HubMessage) -> Result<(), HandleError> {
        self.ask(|done| ServerEvent::Publish { message: Box::new(message), done }).await
    }

    /// Subscribes in process: retained messages first, then all that match, each with the device that sent it. A
    /// message that finds `capacity` messages waiting is lost to this subscriber (and logged): keep up, or let senders
    /// ask again. Ends when the receiver is dropped.
    pub async fn subscribe(
        &self,
        filter: impl Into<String>,
        capacity: usize,
    ) -> Result<mpsc::Receiver<Received>, HandleError> {
        let filter = filter.into();
        validate_filter(&filter)?;
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        self.ask(|done| ServerEvent::Subscribe { filter, sender, done }).await?;
        Ok(receiver)
    }

    /// Watches all that is published from now on. It is no subscription: what is retained already does not come, and a
    /// message that finds `capacity` messages waiting is lost to the watcher. Ends when the receiver is dropped.
    pub async fn tap(&self, capacity: usize) -> Result<mpsc::Receiver<Sighting>, HandleError> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        self.ask(|done| ServerEvent::Tap { sender, done }).await?;
        Ok(receiver)
    }

    /// The devices that are connected, each as often as it has connections, in no order.
    pub async fn connected(&self) -> Result<Vec<String>, HandleError> {
        self.ask(|done| ServerEvent::Connected { done }).await
    }

    /// Ends all connections and sessions of a device, as after its revocation: subscriptions and waiting messages go,
    /// wills are not sent. Returns how many connections there were.
    pub async fn disconnect_device(&self, device: impl Into<String>) -> Result<usize, HandleError> {
        let device = device.into();
        self.ask(|done| ServerEvent::DisconnectDevice { device, done }).await
    }

    /// A device has this credential now: ends its connections and sessions by another one; wills are not sent. Returns how
    /// many connections there were.
    pub async fn replace_credential(
        &self,
        device: impl Into<String>,
        credential: Credential,
    ) -> Result<usize, HandleError> {
        let device = device.into();
        self.ask(|done| ServerEvent::NewCredential { device, credential, done }).await
    }

    /// Current figures.
    pub async fn stats(&self) -> Result<Stats, HandleError> {
        self.ask(|done| ServerEvent::Stats { done }).await
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> ServerEvent) -> Result<T, HandleError> {
        let (done, answer) = oneshot::channel();
        self.events.send(event(done)).await.map_err(|_| HandleError::Stopped)?;
        answer.await.map_err(|_| HandleError::Stopped)
    }
}

async fn accept(
    socket: TcpListener,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    connections: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    // Dropped with this task, which cuts off whoever is left.
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = clients.join_next(), if !clients.is_empty() => continue,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually out of file descriptors.
                tracing::warn!(%error, "the broker cannot accept a connection, and tries again in 200 ms (are there file descriptors \
                     left?)");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            let code = Cause::Connections;
            shared.note_refused(code);
            tracing::warn!(%code, %peer, "connection refused: the broker has as many connections as it may \
                 (limits.max_connections)");
            continue;
        };
        let Some(stranger) = shared.strangers.admit(peer.ip()) else {
            shared.note_refused(Cause::Strangers);
            continue;
        };
        let conn = shared.next_conn.fetch_add(1, Ordering::Relaxed);
        let (shared, acceptor) = (shared.clone(), acceptor.clone());
        clients.spawn(async move {
            client(stream, peer, stranger, acceptor, conn, shared).await;
            drop(permit);
        });
    }
    drop(socket);
    while clients.join_next().await.is_some() {}
}

async fn client(
    stream: TcpStream,
    peer: SocketAddr,
    stranger: Stranger,
    acceptor: Option<TlsAcceptor>,
    conn: ConnId,
    shared: Arc<Shared>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY: small packets may be late");
    }
    let Some(acceptor) = acceptor else {
        connection::serve(stream, None, stranger, conn, shared).await;
        return;
    };
    let code = Cause::Handshake;
    match tokio::time::timeout(shared.limits.connect_timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = leaf.map(|leaf| PeerCertificate::from_leaf(leaf));
            connection::serve(stream, certificate, stranger, conn, shared).await;
        }
        Ok(Err(error)) => {
            shared.note_refused(code);
            tracing::debug!(%code, %peer, %error, "connection closed: the TLS handshake failed");
        }
        Err(_) => {
            shared.note_refused(code);
            tracing::debug!(%code, %peer, "connection closed: the TLS handshake took too long");
        }
    }
}
