//! One local MQTT client: its connection, its own connection to the broker, and the state machine between them.

mod bounds;
mod closed;
mod connect;
mod delivery;
mod ending;
mod publish;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use sealcast_agent_core::{
    Away, Denied, SyncId,
    values::{Local, MAX_CHECK_BYTES, Restored},
};
use sealcast_mqtt::{CloseReason, ConnectRequest, Delivery, Output, Proxy, ProxyConfig, PublishRequest, Version};
use sealcast_node::{
    connection::see_off,
    now_ms,
    tls::{Stream, Upstream},
};
use sealcast_seal::QosClass;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::broadcast,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub use self::bounds::{DRAIN, TAKE_OVER};
use self::{
    bounds::{BUFFER, CHUNK},
    ending::Ending,
};
use super::{
    data::DataPlane,
    events::{Event, Events, Who},
    readings::Readings,
    refusals::Refusals,
    sessions::{FrameId, Held, Sessions},
    store::{DiskFails, Retained, Store},
    values::Values,
};
use crate::config;

/// How long a client may take from opening its connection to CONNECT.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// What a QoS 0 delivery marked as seen may wait before it is written to disk.
const SAVE_DELAY: Duration = Duration::from_millis(200);
const CONTROL_TOPIC: &str = "topics below sealcast/ are for the agents themselves";
const BROKERS_TOPIC: &str = "not sent: topics that begin with $ are the broker's own";
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
    /// The agent's configuration.
    pub config: Arc<config::Agent>,
    /// What is told of refused messages.
    pub events: Events,
    /// Sessions by client id, while the agent runs.
    pub sessions: Sessions,
    /// Clients whose connection the broker refused.
    pub refusals: Refusals,
    /// The agent's end.
    pub stop: CancellationToken,
}

/// Serves `socket` until either side is done. `sees_flags`: its MQTT 5 clients see what the agent says of a value.
pub async fn serve(shared: Arc<Shared>, socket: Box<dyn Stream>, sees_flags: bool) {
    serve_at("within the agent".to_owned(), shared, socket, sees_flags).await;
}

/// The same for a client whose address is `address`.
pub async fn serve_at(address: String, shared: Arc<Shared>, socket: Box<dyn Stream>, sees_flags: bool) {
    let config = ProxyConfig {
        max_frame_bytes: u32::try_from(shared.config.max_packet_bytes).unwrap_or(u32::MAX),
        max_waiting_bytes: shared.config.max_packet_bytes,
        ..ProxyConfig::default()
    };
    let config = if shared.values.rules().is_empty() {
        config
    } else {
        // The verdict is sealed too.
        ProxyConfig { seal_overhead_bytes: config.seal_overhead_bytes + MAX_CHECK_BYTES, ..config }
    };
    let client = Client {
        proxy: Proxy::new(config),
        socket,
        broker: None,
        to_client: BytesMut::new(),
        to_broker: BytesMut::new(),
        name: String::new(),
        label: format!("no id, from {address}"),
        version: Version::V311,
        sees_flags,
        session: None,
        keep_session: false,
        taken_over: CancellationToken::new(),
        seen_ms: None,
        away: None,
        repeated: HashSet::new(),
        waiting: VecDeque::new(),
        dirty: Dirty::No,
        give_up: None,
        will: None,
        accepted: false,
        number: shared.values.next_client(),
        judged: false,
        clean: false,
        greet: false,
        local: shared.values.local(),
        restored: Restored::new(shared.values.rules()),
        shared,
    };
    client.run().await;
}

struct Client {
    shared: Arc<Shared>,
    proxy: Proxy,
    socket: Box<dyn Stream>,
    broker: Option<Box<dyn Stream>>,
    to_client: BytesMut,
    to_broker: BytesMut,
    /// The client id; empty until CONNECT, and if the client has none.
    name: String,
    /// The client in the log: its id, the one that the broker gave it, or its address.
    label: String,
    version: Version,
    /// What is behind it reads user properties, if it speaks MQTT 5.
    sees_flags: bool,
    session: Option<Held>,
    /// Cancelled when another connection of the same client takes over.
    taken_over: CancellationToken,
    keep_session: bool,
    /// Until when the client was known to be here, if this connection goes on with what it had.
    seen_ms: Option<u64>,
    /// While it was away, if the broker had kept the session.
    away: Option<Away>,
    /// Deliveries that the client was given a second time on this connection, not having acknowledged the first.
    repeated: HashSet<FrameId>,
    /// Messages that wait for a key, each until its deadline.
    waiting: VecDeque<(Waiting, Until)>,
    dirty: Dirty,
    /// Why the connection is to be closed without a word.
    give_up: Option<String>,
    /// The retained will that the broker publishes at once if the client does not take leave.
    will: Option<Retained>,
    /// The broker has accepted the connection, and with it the will.
    accepted: bool,
    /// Names this connection where values are judged.
    number: u64,
    /// Values were judged, and what is remembered of them is not yet on disk.
    judged: bool,
    /// The client said that it goes.
    clean: bool,
    /// The client has subscribed, and has not been told what stands.
    greet: bool,
    /// Messages of the agent's own.
    local: broadcast::Receiver<Arc<Local>>,
    /// Fixed cycles for this client.
    restored: Option<Restored>,
}

/// How long a message waits.
#[derive(Clone, Copy)]
struct Until {
    deadline: Instant,
    /// The last sync with the ledger that was begun when the message was found to need a later one.
    news: Option<SyncId>,
}

enum Waiting {
    Connect(Box<ConnectRequest>),
    Publish(Box<Publishing>),
    Delivery(Delivery),
}

/// A message on its way up.
struct Publishing {
    request: PublishRequest,
    /// What the device wrote, before it was converted.
    original: Bytes,
    /// Its values were judged, and are not again.
    judged: bool,
}

/// Whether the replay windows have to be saved.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Dirty {
    No,
    /// By then.
    By(Instant),
    /// Before anything else goes to the broker.
    Now,
}

impl Client {
    async fn run(mut self) {
        let mut changed = self.shared.data.changed();
        let deadline = Instant::now() + CONNECT_PATIENCE;
        let mut from_client = BytesMut::with_capacity(CHUNK);
        let mut from_broker = BytesMut::with_capacity(CHUNK);
        // A write that failed says nothing of what the other side has sent: it is read to its end first.
        let (mut client_deaf, mut broker_deaf) = (false, false);
        let mut ending: Option<Ending> = None;
        let reason = loop {
            changed.mark_unchanged();
            if let Some(reason) = self.work().await {
                break reason;
            }
            if self.dirty == Dirty::Now && !self.save() {
                break DiskFails.to_string();
            }
            if client_deaf {
                self.to_client.clear();
            }
            if broker_deaf {
                self.to_broker.clear();
            }
            let repeat_at = self
                .restored
                .as_ref()
                // A client that takes nothing gets no more of them.
                .filter(|_| self.room() > 0)
                .and_then(Restored::poll_timeout)
                .map(|at_ms| Instant::now() + Duration::from_millis(at_ms.saturating_sub(now_ms())));
            let connecting = self.broker.is_none() && self.waiting.is_empty();
            let wake = [
                connecting.then_some(deadline),
                self.waiting.front().map(|(_, until)| until.deadline),
                match self.dirty {
                    Dirty::By(then) => Some(then),
                    _ => None,
                },
                repeat_at,
                ending.as_ref().map(|ending| ending.deadline),
            ];
            let wake = wake.into_iter().flatten().min();
            let (shared, taken_over) = (self.shared.clone(), self.taken_over.clone());
            let waits = !self.waiting.is_empty();
            let Self { proxy, socket, broker, to_client, to_broker, local, greet, label, dirty, .. } = &mut self;
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
            let read_client = proxy.wants_client_bytes() && room(to_broker);
            let read_broker = proxy.wants_broker_bytes() && room(to_client);
            tokio::select! {
                () = shared.stop.cancelled(), if ending.as_ref().is_none_or(|ending| !ending.is_shutdown()) => {
                    ending = Some(Ending::shutdown().begin(&mut client_reader, proxy).await);
                }
                () = taken_over.cancelled(), if ending.is_none() => {
                    ending = Some(Ending::take_over().begin(&mut client_reader, proxy).await);
                }
                read = client_reader.read_buf(&mut from_client), if read_client => match read {
                    Ok(1..) => proxy.handle_client(&from_client.split()),
                    _ => proxy.handle_client_eof(),
                },
                read = read_some(&mut broker_reader, &mut from_broker), if read_broker => match read {
                    Ok(1..) => proxy.handle_broker(&from_broker.split()),
                    _ => proxy.handle_broker_eof(),
                },
                written = client_writer.write_buf(to_client), if !to_client.is_empty() => {
                    if written.is_err() {
                        client_deaf = true;
                    }
                }
                written = write_some(&mut broker_writer, to_broker), if !to_broker.is_empty() => {
                    if written.is_err() {
                        broker_deaf = true;
                    }
                }
                _ = changed.changed(), if waits => {}
                message = local.recv(), if room(to_client) => match message {
                    Ok(message) => inject(proxy, &message),
                    Err(error) => {
                        warn!(client = *label, %error, "messages of the agent's own were lost: the client is too slow");
                        // A fail-safe value may be among them, and is not given a second time.
                        *greet = true;
                    }
                },
                () = sleep_until(wake), if wake.is_some() => {
                    if connecting && Instant::now() >= deadline {
                        break "no CONNECT in time".to_owned();
                    }
                    if matches!(*dirty, Dirty::By(then) if Instant::now() >= then) {
                        *dirty = Dirty::Now;
                    }
                    if let Some(ending) = ending.as_ref().filter(|ending| Instant::now() >= ending.deadline) {
                        proxy.close(ending.code, ending.reason);
                    }
                }
            }
        };
        debug!(client = self.label, reason, "client gone");
        if !self.clean {
            self.shared.values.cut(self.number);
        }
        self.finish().await;
    }

    fn who(&self) -> Who<'_> {
        Who { id: &self.name, client: &self.label }
    }

    /// How many bytes the client may be given now.
    fn room(&self) -> usize {
        BUFFER.saturating_sub(self.to_client.len())
    }

    /// Writes what is left, saves what has to be, and lets go.
    async fn finish(mut self) {
        if let Some(session) = &self.session {
            session.state().mqtt = self.proxy.session().clone();
        }
        let unsaved = (self.dirty != Dirty::No || self.keep_session) && !self.save();
        self.keep_will();
        let deadline = Instant::now() + DRAIN;
        let broker = async {
            if let Some(broker) = self.broker {
                see_off("broker", broker, &self.to_broker, deadline).await;
            }
            // The broker has this connection's last bytes: the client's next one may begin, whether the client has closed
            // this one or not.
            if let Some(session) = self.session {
                // What is not on disk is in memory alone.
                self.shared.sessions.close(&self.name, session, self.keep_session || unsaved);
            }
        };
        tokio::join!(broker, see_off("client", self.socket, &self.to_client, deadline));
    }

    /// Does all that can be done without more bytes; gives the reason if the connection is over. What is remembered of the
    /// values that were judged is on disk when this returns, before anything that it led to is written to a socket.
    async fn work(&mut self) -> Option<String> {
        let room = self.room();
        if let Some(restored) = &mut self.restored {
            for message in restored.due(self.shared.values.rules(), now_ms(), room) {
                inject(&mut self.proxy, &message);
            }
        }
        let mut end = self.work_through().await;
        if end.is_none() && std::mem::take(&mut self.greet) {
            for message in self.shared.values.standing() {
                inject(&mut self.proxy, &message);
            }
            end = self.work_through().await;
        }
        if std::mem::take(&mut self.judged)
            && let Err(error) = self.shared.values.persist()
        {
            if !self.shared.store.is_failing() {
                warn!(client = self.label, "connection closed: {error:#}");
            }
            self.to_broker.clear();
            self.to_client.clear();
            return Some("what is remembered of values cannot be written".to_owned());
        }
        end
    }

    async fn work_through(&mut self) -> Option<String> {
        for (waiting, until) in std::mem::take(&mut self.waiting) {
            self.attend(waiting, until).await;
        }
        if let Some(reason) = self.give_up.take() {
            return Some(reason);
        }
        while let Some(output) = self.proxy.poll() {
            let until = Until { deadline: Instant::now() + self.shared.config.key_wait, news: None };
            match output {
                // It leaves in `run`, after what it depends on was saved.
                Output::ToBroker(bytes) => self.to_broker.extend_from_slice(&bytes),
                Output::ToClient(bytes) => self.to_client.extend_from_slice(&bytes),
                Output::Connect(request) => {
                    self.attend(Waiting::Connect(request), until).await;
                }
                Output::Connected(connected) => self.handle_connected(&connected),
                Output::Publish(request) => {
                    let original = request.payload.clone();
                    let publishing = Box::new(Publishing { request, original, judged: false });
                    self.attend(Waiting::Publish(publishing), until).await;
                }
                Output::Delivery(delivery) => self.attend(Waiting::Delivery(delivery), until).await,
                Output::Subscribed(_) => self.greet = true,
                Output::Acked(id) => self.handle_acked(id),
                Output::PublishRejected { topic, code } => {
                    self.not_sent(topic.as_str(), format!("the broker refused it with reason code {code:#04x}"));
                }
                Output::PublishTooLarge { topic, size, max, .. } => {
                    let reason = format!(
                        "it has {size} bytes once it is sealed, but the broker takes at most {max}: raise max_packet_bytes in hub.toml"
                    );
                    self.not_sent(topic.as_str(), reason);
                }
                Output::PublishUnfit { topic, reason } => self.publish_refused(&topic, reason.into()),
                Output::FilterUnfit { filter, reason } => {
                    let (client, topic, reason) = (self.label.clone(), filter.into(), reason.into());
                    self.shared.events.put(&self.name, Event::NotSubscribed { client, topic, reason });
                }
                Output::DeliveryTooLarge { size, max, .. } => {
                    warn!(client = self.label, size, max, "message dropped: larger than the client accepts");
                }
                Output::DeliveryOversized { topic, size, max } => {
                    let reason = format!(
                        "it has {size} bytes, but the agent takes at most {max}: raise max_packet_bytes in agent.toml"
                    );
                    let (client, topic) = (self.label.clone(), topic.into());
                    self.shared.events.put(&self.name, Event::DeliveryRefused { client, topic, bytes: size, reason });
                }
                Output::DeliveryInvalid(error) => {
                    warn!(client = self.label, %error, "message dropped: the broker sent a malformed one");
                }
                Output::Closed(reason) => {
                    self.clean = matches!(reason, CloseReason::ClientDisconnect);
                    self.say_why(&reason);
                    return Some(reason.to_string());
                }
            }
            if let Some(reason) = self.give_up.take() {
                return Some(reason);
            }
        }
        None
    }

    async fn attend(&mut self, waiting: Waiting, mut until: Until) {
        let left = match waiting {
            Waiting::Connect(request) => self.attend_connect(request, &mut until).await,
            Waiting::Publish(publishing) => self.attend_publish(publishing, &mut until),
            Waiting::Delivery(delivery) => self.attend_delivery(delivery, &mut until),
        };
        if let Some(waiting) = left {
            self.waiting.push_back((waiting, until));
        }
    }

    /// Whether what was denied for now may still come. News of the ledger are waited for only as long as it takes to get
    /// them: a frame that names an epoch which does not exist must not hold up those behind it.
    fn may_wait(&self, denied: &Denied, until: &mut Until) -> bool {
        let in_time = Instant::now() < until.deadline;
        match denied {
            Denied::Refused(_) => false,
            Denied::NotYet(_) => in_time,
            Denied::Behind(_) => match until.news {
                None => {
                    until.news = Some(self.shared.data.ask_for_news());
                    in_time
                }
                Some(sync) => in_time && !self.shared.data.is_caught_up_after(sync),
            },
        }
    }

    fn answered(&mut self, answer: impl FnOnce(&mut Proxy) -> Result<(), sealcast_mqtt::AnswerError>) {
        if let Err(error) = answer(&mut self.proxy) {
            debug!(%error);
        }
    }

    /// Writes the replay windows down. If that fails, what waits to be written to either side may depend on them and is
    /// dropped, and the connection has to end: the broker keeps what was not acknowledged. `false` then.
    fn save(&mut self) -> bool {
        let before = std::mem::replace(&mut self.dirty, Dirty::No);
        let Some(session) = &self.session else { return true };
        if self.name.is_empty() {
            return true;
        }
        let now = now_ms();
        let changes = {
            let mut state = session.state();
            state.seen_ms = Some(now);
            state.opener.changes()
        };
        let Err(error) = self.shared.store.save_client(&self.name, &changes, now) else { return true };
        if !self.shared.store.is_failing() {
            warn!(client = self.label, "replay windows not saved: {error:#}");
        }
        session.state().opener.changes_were_not_stored();
        if before != Dirty::No {
            self.to_broker.clear();
            self.to_client.clear();
        }
        // Once more when the connection is closed.
        self.dirty = before;
        false
    }
}

fn inject(proxy: &mut Proxy, message: &Local) {
    let properties: Vec<_> = message.properties.iter().map(|(name, value)| (*name, value.as_str())).collect();
    proxy.inject(&message.topic, message.payload.clone(), &properties);
}

/// QoS 1 and 2 messages may wait in queues while QoS 0 ones overtake them: each class has its own order.
fn class(qos: sealcast_mqtt::Qos) -> QosClass {
    match qos {
        sealcast_mqtt::Qos::AtMostOnce => QosClass::AtMostOnce,
        _ => QosClass::Acknowledged,
    }
}

async fn sleep_until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

async fn read_some(
    reader: &mut Option<tokio::io::ReadHalf<&mut Box<dyn Stream>>>,
    into: &mut BytesMut,
) -> std::io::Result<usize> {
    match reader {
        Some(reader) => reader.read_buf(into).await,
        None => std::future::pending().await,
    }
}

async fn write_some(
    writer: &mut Option<tokio::io::WriteHalf<&mut Box<dyn Stream>>>,
    from: &mut BytesMut,
) -> std::io::Result<usize> {
    match writer {
        Some(writer) => {
            let written = writer.write_buf(from).await?;
            writer.flush().await?;
            Ok(written)
        }
        None => std::future::pending().await,
    }
}
