//! One local MQTT client: moves the bytes of its connection and of its own connection to the broker. What becomes of them
//! is decided in [`Session`].

use std::{cell::RefCell, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::BytesMut;
use sealcast_agent_core::{
    Cause, Why,
    session::{self, Annotate, ClientEvent, DRAIN_MS, Effect, NotOpened, Opened, Session},
    values::Local,
};
use sealcast_ledger_client::NetworkLedger;
use sealcast_mqtt::Credentials;
use sealcast_node::{connection::see_off, tls::Stream, upstream::Upstream};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf},
    sync::{OwnedSemaphorePermit, broadcast},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    clock::{instant_of, now},
    counts::Counts,
    data::DataPlane,
    events::Events,
    readings::Readings,
    refusals::{self, Refusals},
    sessions::{Held, Sessions},
    store::Store,
    values::Values,
};
use crate::{config, listeners::Login};

/// As many bytes wait for a side before nothing more is taken from the other.
const BUFFER: usize = 64 << 10;
/// As many bytes wait for a side, beyond what the other side may have sent to it, before nothing more is taken from that
/// side itself: they answer what it sent, and it does not read them. A side that reads is never so far behind.
const UNREAD: usize = 1 << 20;

/// What all clients of an agent share.
pub struct Shared {
    /// Keys and topics.
    pub data: Arc<DataPlane>,
    /// What goes to the ledger.
    pub readings: Arc<Readings>,
    /// The disk.
    pub store: Arc<Store>,
    /// Values.
    pub values: Arc<Values>,
    /// The broker.
    pub upstream: Upstream,
    /// The endpoints of the ledger's network, if the agent reads the ledger there.
    pub network: Option<Arc<NetworkLedger>>,
    /// The agent's configuration.
    pub config: Arc<config::Agent>,
    /// What is told of refused messages.
    pub events: Arc<Events>,
    /// Sessions by client id, while the agent runs.
    pub sessions: Sessions,
    /// What nobody else counts.
    pub counts: Arc<Counts>,
    /// Clients whose connection the broker refused.
    pub refusals: Refusals,
    /// The agent's end.
    pub stop: CancellationToken,
}

impl Shared {
    /// Has a session do something with what all sessions share.
    fn with<T>(&self, act: impl FnOnce(&mut session::Shared<'_>) -> T) -> T {
        let disk_fails = self.store.is_failing();
        // Always in this order.
        self.values.with(|values| {
            let keyring = &mut *self.data.keyring();
            let retained = &mut *self.store.retained_topics();
            act(&mut session::Shared { keyring, values, retained, record: &self.config.record, disk_fails })
        })
    }

    /// Makes the writes of one step durable.
    fn commit(&self, writes: &[session::Write]) -> anyhow::Result<()> {
        if writes.contains(&session::Write::Values) {
            self.values.persist()?;
        }
        if writes.iter().all(|write| *write == session::Write::Values) {
            return Ok(());
        }
        self.readings.commit(writes)
    }
}

/// How a client is let in and treated.
pub struct Terms {
    /// Where it connects from, for the log.
    pub address: String,
    /// What it is told of the messages that it gets, if it speaks MQTT 5.
    pub annotate: Annotate,
    /// A message that several of its filters match comes once for each of them, as far as the broker sends it so.
    pub copies: bool,
    /// What it must give.
    pub login: Option<Arc<Login>>,
    /// Its place among those that are not let in yet.
    pub stranger: Option<OwnedSemaphorePermit>,
}

impl Terms {
    /// The doors' own client. It has no place for what is said of a message, and hands each one to all who want it.
    pub fn within() -> Self {
        let address = "within the agent".to_owned();
        Self { address, annotate: Annotate::None, copies: false, login: None, stranger: None }
    }
}

/// Serves `socket` until either side is done.
pub async fn serve(shared: Arc<Shared>, socket: Box<dyn Stream>, terms: Terms) {
    let Terms { address, annotate, copies, login, stranger } = terms;
    let settings = session::Settings {
        connection: shared.values.with(|values| values.next_client()),
        address,
        annotate,
        login: login.is_some(),
        copies,
        max_packet_bytes: shared.config.max_packet_bytes,
        key_wait_ms: u64::try_from(shared.config.key_wait.as_millis()).unwrap_or(u64::MAX),
    };
    // Boxed: else it takes its space twice, before and while it runs.
    let client = Box::new(Client {
        session: Session::new(settings, shared.values.rules(), now()),
        socket,
        login,
        stranger,
        broker: None,
        to_client: BytesMut::new(),
        to_broker: BytesMut::new(),
        held: None,
        taken_over: CancellationToken::new(),
        local: shared.values.local(),
        closed: false,
        shared,
    });
    let counts = client.shared.counts.clone();
    let _present = counts.enter();
    client.run().await;
}

struct Client {
    shared: Arc<Shared>,
    session: Session,
    socket: Box<dyn Stream>,
    login: Option<Arc<Login>>,
    stranger: Option<OwnedSemaphorePermit>,
    broker: Option<Box<dyn Stream>>,
    to_client: BytesMut,
    to_broker: BytesMut,
    /// The client's place among the sessions, once it has said who it is.
    held: Option<Held>,
    /// Cancelled when another connection of the same client takes over.
    taken_over: CancellationToken,
    /// Messages of the agent's own.
    local: broadcast::Receiver<Arc<Local>>,
    /// The connection is over.
    closed: bool,
}

/// Why a connection is to end once what its client has sent so far has gone out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Ending {
    None,
    TakeOver,
    Shutdown,
}

impl Client {
    async fn run(mut self: Box<Self>) {
        let mut changed = self.shared.data.changed();
        // A write that failed says nothing of what the other side has sent: it is read to its end first.
        let (mut client_deaf, mut broker_deaf) = (false, false);
        // The stream may still hold bytes that were written.
        let (mut client_holds, mut broker_holds) = (false, false);
        let mut ending = Ending::None;
        loop {
            changed.mark_unchanged();
            self.advance().await;
            if self.closed {
                break;
            }
            if client_deaf {
                self.to_client.clear();
                client_holds = false;
            }
            if broker_deaf {
                self.to_broker.clear();
                broker_holds = false;
            }
            // A client that takes nothing gets no more of its repeats: there is nothing to wake up for.
            let timeout = self.session.poll_timeout(now(), self.room());
            let (shared, taken_over) = (self.shared.clone(), self.taken_over.clone());
            let Self { session, socket, broker, to_client, to_broker, local, .. } = &mut *self;
            let waits = session.is_waiting();
            let (mut client_reader, mut client_writer) = tokio::io::split(socket);
            let (mut broker_reader, mut broker_writer) = match broker {
                Some(stream) => {
                    let (reader, writer) = tokio::io::split(stream);
                    (Some(reader), Some(writer))
                }
                None => (None, None),
            };
            // What one side does not take holds up the other.
            let room = |buffer: &BytesMut| buffer.len() < BUFFER;
            // And one that does not read its answers is not asked for more. What the other side sends may be a large frame
            // and those that waited with it.
            let reads = |buffer: &BytesMut| buffer.len() < 2 * shared.config.max_packet_bytes + UNREAD;
            let read_client = session.wants_client_bytes() && room(to_broker) && reads(to_client);
            let read_broker = session.wants_broker_bytes() && room(to_client) && reads(to_broker);
            tokio::select! {
                () = shared.stop.cancelled(), if ending < Ending::Shutdown => {
                    ending = Ending::Shutdown;
                    take_arrived(&mut client_reader, session).await;
                    session.handle_shutdown(now());
                }
                () = taken_over.cancelled(), if ending < Ending::TakeOver => {
                    ending = Ending::TakeOver;
                    take_arrived(&mut client_reader, session).await;
                    session.handle_take_over(now());
                }
                read = read_arrived(&mut client_reader), if read_client => match read.is_empty() {
                    false => session.handle_client(&read),
                    true => session.handle_client_eof(),
                },
                read = read_some(&mut broker_reader), if read_broker => match read.is_empty() {
                    false => session.handle_broker(&read),
                    true => session.handle_broker_eof(),
                },
                written = write_some(&mut client_writer, to_client, &mut client_holds),
                    if client_holds || !to_client.is_empty() => client_deaf = written.is_err(),
                written = write_to(&mut broker_writer, to_broker, &mut broker_holds),
                    if broker_holds || !to_broker.is_empty() => broker_deaf = written.is_err(),
                _ = changed.changed(), if waits => {}
                message = local.recv(), if room(to_client) => match message {
                    Ok(message) => session.handle_local(&message),
                    Err(error) => {
                        let client = session.label();
                        let code = Cause::ClientSlow;
                        warn!(%code, client, %error, "messages of the agent's own were lost: the client is too slow");
                        session.handle_local_lost();
                    }
                },
                () = sleep_until(timeout.map(instant_of)), if timeout.is_some() => {}
            }
        }
        Box::pin(self.finish()).await;
    }

    /// How many bytes the client may be given now.
    fn room(&self) -> usize {
        BUFFER.saturating_sub(self.to_client.len())
    }

    /// Takes all steps that can be taken without more bytes.
    async fn advance(&mut self) {
        loop {
            let (room, now) = (self.room(), now());
            let Some(step) = self.shared.with(|shared| self.session.poll(shared, room, now)) else { return };
            match step.commit(|writes| self.shared.commit(writes)) {
                Ok(effects) => {
                    for effect in effects {
                        self.apply(effect).await;
                    }
                }
                Err(uncommitted) => {
                    if !self.shared.store.is_failing() {
                        let code = Cause::DiskFails;
                        warn!(%code, client = self.session.label(), "connection closed: {:#}", uncommitted.error);
                    }
                    self.closed |= self.session.handle_uncommitted();
                }
            }
        }
    }

    async fn apply(&mut self, effect: Effect) {
        let (shared, client) = (&self.shared, self.session.label());
        match effect {
            Effect::ToClient(bytes) => self.to_client.extend_from_slice(&bytes),
            Effect::ToBroker(bytes) => self.to_broker.extend_from_slice(&bytes),
            // Apart, so that a connection does not keep the space that these take.
            Effect::CheckLogin { credentials } => Box::pin(self.check_login(credentials)).await,
            Effect::Open { id } => Box::pin(self.open(&id)).await,
            Effect::AskForNews => shared.data.ask_for_news(),
            Effect::Connected { resumed } => {
                shared.refusals.note_accepted(self.session.name());
                info!(client, version = ?self.session.version(), resumed, "client connected");
            }
            Effect::Refused { code } => self.say_refused(code),
            Effect::Tell(event) => shared.events.put(self.session.name(), event),
            Effect::Close { reason } => {
                debug!(client, reason, "client gone");
                self.closed = true;
            }
        }
    }

    async fn check_login(&mut self, credentials: Credentials) {
        let is_right = match &self.login {
            Some(login) => login.admits(&credentials).await,
            None => false,
        };
        self.session.login_checked(is_right, now());
    }

    /// Takes the client's memory from the connection that has it, and connects to the broker.
    async fn open(&mut self, id: &str) {
        self.stranger = None;
        let shared = self.shared.clone();
        if !shared.store.probe() {
            return self.session.not_opened(NotOpened::Disk);
        }
        let held = match shared.sessions.open(id).await {
            Ok(held) => held,
            Err(error) => return self.session.not_opened(NotOpened::Memory(format!("{error:#}"))),
        };
        let opened = match shared.upstream.credentials_of_clients() {
            Ok(credentials) => shared.upstream.connect().await.map(|stream| (stream, credentials)),
            Err(error) => Err(error),
        };
        match opened {
            Ok((stream, credentials)) => {
                shared.events.broker_back();
                let memory = match held.take_memory(id, &shared.store) {
                    Ok(memory) => memory,
                    Err(error) => {
                        shared.sessions.leave(id, held);
                        return self.session.not_opened(NotOpened::Memory(format!("{error:#}")));
                    }
                };
                self.broker = Some(stream);
                self.taken_over = held.ended.clone();
                self.held = Some(held);
                let max_packet_bytes = shared.upstream.max_packet_bytes();
                let opened = Opened { memory, max_packet_bytes, credentials };
                shared.with(|shared| self.session.opened(opened, shared.keyring));
            }
            Err(error) => {
                shared.events.broker_away(self.session.label(), &format!("{error:#}"));
                shared.sessions.leave(id, held);
                self.session.not_opened(NotOpened::BrokerAway);
            }
        }
    }

    fn say_refused(&self, code: u8) {
        let (client, version) = (self.session.label(), self.session.version());
        let (hex, reason) = (format!("{code:#04x}"), refusals::reason(version, code));
        let why = Why::new(Cause::BrokerRefusedClient, format!("reason code {hex}: {reason}"));
        let cause = why.cause;
        self.shared.events.note(&ClientEvent::of_connection(client, why));
        if self.shared.refusals.is_news(self.session.name(), code) {
            warn!(code = %cause, client, mqtt_code = hex, reason, "the broker refused the client's connection");
        } else {
            debug!(code = %cause, client, mqtt_code = hex, reason, "the broker refused the client's connection again");
        }
    }

    /// Writes what is left, and lets go.
    async fn finish(self) {
        let deadline = Instant::now() + Duration::from_millis(DRAIN_MS);
        let broker = async {
            if let Some(broker) = self.broker {
                see_off("broker", broker, &self.to_broker, deadline).await;
            }
            // The broker has this connection's last bytes: the client's next one may begin, whether the client has closed
            // this one or not.
            let name = self.session.name().to_owned();
            if let (Some(held), Some((memory, keep))) = (self.held, self.session.into_memory()) {
                self.shared.sessions.close(&name, held, memory, keep);
            }
        };
        tokio::join!(broker, see_off("client", self.socket, &self.to_client, deadline));
    }
}

/// Takes in what the client has sent and nobody has read.
async fn take_arrived<R: AsyncRead + Unpin>(reader: &mut R, session: &mut Session) {
    if session.wants_client_bytes() {
        let nothing = std::future::ready(Vec::new());
        let arrived = tokio::select! {
            biased;
            arrived = read_arrived(reader) => arrived,
            nothing = nothing => nothing,
        };
        session.handle_client(&arrived);
    }
}

/// Waits until bytes arrive, and reads all that have, up to [`BUFFER`]: what is taken in at once is sealed, opened and written
/// together. Nothing at the stream's end. A connection that waits holds no memory for what it waits for.
async fn read_arrived<R: AsyncRead + Unpin>(reader: &mut R) -> Vec<u8> {
    thread_local! {
        static ARRIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
    }
    let read = poll_fn(|context| {
        ARRIVED.with_borrow_mut(|arrived| {
            let mut arrived = ReadBuf::new(arrived);
            loop {
                let before = arrived.filled().len();
                let poll = Pin::new(&mut *reader).poll_read(context, &mut arrived);
                let has_more = arrived.filled().len() > before && arrived.remaining() > 0;
                match poll {
                    Poll::Pending if arrived.filled().is_empty() => return Poll::Pending,
                    Poll::Ready(Ok(())) if has_more => {}
                    // The end, or what went wrong, is met again.
                    _ => return Poll::Ready(arrived.filled().to_vec()),
                }
            }
        })
    });
    tokio::task::unconstrained(read).await
}

async fn sleep_until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

async fn read_some(reader: &mut Option<ReadHalf<&mut Box<dyn Stream>>>) -> Vec<u8> {
    match reader {
        Some(reader) => read_arrived(reader).await,
        None => std::future::pending().await,
    }
}

async fn write_to(
    writer: &mut Option<WriteHalf<&mut Box<dyn Stream>>>,
    from: &mut BytesMut,
    holds: &mut bool,
) -> std::io::Result<()> {
    match writer {
        Some(writer) => write_some(writer, from, holds).await,
        None => std::future::pending().await,
    }
}

/// Writes what the stream takes now, and has it send that. `holds` stays set while it may still hold some: this may be given
/// up after the writing.
async fn write_some<W: AsyncWrite + Unpin>(
    writer: &mut W,
    from: &mut BytesMut,
    holds: &mut bool,
) -> std::io::Result<()> {
    if !from.is_empty() {
        writer.write_buf(from).await?;
        *holds = true;
    }
    writer.flush().await?;
    *holds = false;
    Ok(())
}
