//! One local MQTT client: its connection, its own connection to the broker, and the state machine between them.

mod ending;
mod publish;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use sealcast_mqtt::{
    CloseReason, ConnectCode, ConnectRequest, Delivery, DeliveryId, Output, Proxy, ProxyConfig, PublishRequest,
    SessionState, Version, WillAnswer, WillRequest,
};
use sealcast_seal::{Content, Purpose, QosClass};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::broadcast,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::ending::{Ending, read_arrived};
use super::{
    data::{Arrival, Away, DataPlane, Denied, ReadingId, Received, Route},
    events::{Event, Events},
    readings::Readings,
    refusals::{self, Refusals},
    sessions::{FrameId, Held, Sessions},
    store::{Retained, Store},
    values::{Arrived, Incoming, Local, MAX_CHECK_BYTES, Restored, Values},
};
use crate::{
    config, now_ms,
    tls::{Stream, Upstream},
};

/// How long a client may take from opening its connection to CONNECT.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long the rest of the bytes may take to go out once the connection is over.
const DRAIN: Duration = Duration::from_secs(2);
/// What a QoS 0 delivery marked as seen may wait before it is written to disk.
const SAVE_DELAY: Duration = Duration::from_millis(200);
/// The log says the rest, once.
const DISK: &str = "the agent's disk cannot be written";
/// How long a connection that another one takes over may take until what its client has sent has gone out.
const TAKE_OVER: Duration = Duration::from_secs(10);
const CONTROL_TOPIC: &str = "topics below sealcast/ are for the agents themselves";
const BROKERS_TOPIC: &str = "not sent: topics that begin with $ are the broker's own";
const CHUNK: usize = 16 << 10;
/// As many bytes wait for a side before nothing more is taken from the other.
const BUFFER: usize = 4 * CHUNK;

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
        number: shared.values.next_client(),
        judged: false,
        clean: false,
        greet: false,
        local: shared.values.local(),
        restored: Restored::new(&shared.values),
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
    /// The client id, as far as it is known.
    name: String,
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
    /// The last reading of the ledger that was begun when the message was found to need a later one.
    news: Option<ReadingId>,
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
                break DISK.to_owned();
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
            let Self { proxy, socket, broker, to_client, to_broker, local, greet, name, dirty, .. } = &mut self;
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
                () = shared.stop.cancelled(), if ending.as_ref().is_none_or(|ending| ending.code != 0x8B) => {
                    ending = Some(Ending::new(0x8B, "the agent is shutting down", DRAIN));
                    read_arrived(&mut client_reader, proxy).await;
                    proxy.close_when_drained(0x8B, "the agent is shutting down");
                }
                () = taken_over.cancelled(), if ending.is_none() => {
                    ending = Some(Ending::new(0x8E, "another connection of this client took over", TAKE_OVER));
                    read_arrived(&mut client_reader, proxy).await;
                    proxy.close_when_drained(0x8E, "another connection of this client took over");
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
                        warn!(client = *name, %error, "messages of the agent's own are lost");
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
        debug!(client = self.name, reason, "client gone");
        if !self.clean {
            self.shared.values.cut(self.number);
        }
        self.finish().await;
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
                ending::see_off("broker", broker, &self.to_broker, deadline).await;
            }
            // The broker has this connection's last bytes: the client's next one may begin, whether the client has closed
            // this one or not.
            if let Some(session) = self.session {
                // What is not on disk is in memory alone.
                self.shared.sessions.close(&self.name, session, self.keep_session || unsaved);
            }
        };
        tokio::join!(broker, ending::see_off("client", self.socket, &self.to_client, deadline));
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
                warn!(client = self.name, "connection closed: {error:#}");
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
                    self.shared.values.not_sent(topic.as_str());
                    self.shared.events.put(Event::PublishRefused {
                        client: self.name.clone(),
                        topic: topic.as_str().to_owned(),
                        reason: format!("the broker refused it with reason code {code:#04x}"),
                    });
                }
                Output::PublishTooLarge { topic, size, max, .. } => {
                    self.shared.values.not_sent(topic.as_str());
                    let reason = format!(
                        "sealed it has {size} bytes, and the broker takes {max}: raise max_packet_bytes in hub.toml"
                    );
                    let (client, topic) = (self.name.clone(), topic.as_str().to_owned());
                    self.shared.events.put(Event::PublishRefused { client, topic, reason });
                }
                Output::PublishUnfit { topic, reason } => {
                    let (client, topic, reason) = (self.name.clone(), topic.into(), reason.into());
                    self.shared.events.put(Event::PublishRefused { client, topic, reason });
                }
                Output::FilterUnfit { filter, reason } => {
                    let (client, topic, reason) = (self.name.clone(), filter.into(), reason.into());
                    self.shared.events.put(Event::NotSubscribed { client, topic, reason });
                }
                Output::DeliveryTooLarge { size, max, .. } => {
                    warn!(client = self.name, size, max, "message dropped: larger than the client accepts");
                }
                Output::DeliveryOversized { topic, size, max } => {
                    let reason = format!(
                        "it has {size} bytes, and at most {max} are taken: raise max_packet_bytes in agent.toml"
                    );
                    let (client, topic) = (self.name.clone(), topic.into());
                    self.shared.events.put(Event::DeliveryRefused { client, topic, bytes: size, reason });
                }
                Output::DeliveryInvalid(error) => {
                    warn!(client = self.name, %error, "message dropped: the broker sent it malformed");
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
                Some(reading) => in_time && !self.shared.data.is_caught_up_after(reading),
            },
        }
    }

    async fn attend_connect(&mut self, request: Box<ConnectRequest>, until: &mut Until) -> Option<Waiting> {
        self.name = request.client_id.as_str().to_owned();
        self.version = request.version;
        self.keep_session = request.session_expiry_s > 0;
        if !self.shared.store.probe() {
            self.give_up = Some(DISK.to_owned());
            return None;
        }
        let will = match request.will.as_ref().map(|will| self.seal_will(will)) {
            None => WillAnswer::AsIs,
            Some(Ok(answer)) => answer,
            Some(Err(denied)) if self.may_wait(&denied, until) => return Some(Waiting::Connect(request)),
            Some(Err(denied)) => {
                let reason = format!("the will cannot be sealed: {denied}");
                self.refuse_connect(ConnectCode::NotAuthorized, &reason);
                return None;
            }
        };
        let shared = self.shared.clone();
        let session = match shared.sessions.open(&self.name, &shared.store, &shared.data).await {
            Ok(session) => session,
            Err(error) => {
                self.refuse_connect(ConnectCode::ServerUnavailable, &format!("{error:#}"));
                return None;
            }
        };
        match self.shared.upstream.connect().await {
            Ok(stream) => {
                self.broker = Some(stream);
                let mqtt = if request.clean_start {
                    SessionState::default()
                } else {
                    let state = session.state();
                    self.seen_ms = state.seen_ms;
                    state.mqtt.clone()
                };
                self.taken_over = session.ended.clone();
                self.session = Some(session);
                if let Some(max) = self.shared.upstream.max_packet_bytes() {
                    self.proxy.set_broker_max_bytes(max);
                }
                if let Err(error) = self.proxy.accept(will, mqtt) {
                    self.refuse_connect(ConnectCode::Unspecified, &error.to_string());
                }
            }
            // As if the broker itself were away: a client that is told "refused" may give up for good.
            Err(error) => {
                warn!(client = self.name, "connection closed: {error:#}");
                self.give_up = Some("the broker is away".to_owned());
            }
        }
        None
    }

    fn refuse_connect(&mut self, code: ConnectCode, reason: &str) {
        if let Err(error) = self.proxy.refuse_connect(code, reason) {
            debug!(%error);
        }
    }

    fn seal_will(&mut self, will: &WillRequest) -> Result<WillAnswer, Denied> {
        let topic = will.topic.as_str();
        match self.shared.data.route(topic) {
            Route::Clear => Ok(WillAnswer::AsIs),
            Route::Control => Err(Denied::Refused(CONTROL_TOPIC.into())),
            Route::Brokers => {
                let what = "its will is dropped: topics that begin with $ are the broker's own";
                self.shared.events.note(&self.name, topic, what);
                Ok(WillAnswer::Dropped)
            }
            Route::NotYet(reason) => Err(Denied::Behind(reason)),
            Route::Refused(reason) => Err(Denied::Refused(reason)),
            // It deletes what the broker keeps. Sealed, it would be kept itself.
            Route::Group(_) if will.retain && will.payload.is_empty() => {
                self.note_will(will, Bytes::new(), &Bytes::new(), now_ms());
                Ok(WillAnswer::Sealed(Bytes::new()))
            }
            Route::Group(group) => {
                let now = now_ms();
                let judged = self.shared.values.will(will, now).map_err(|blocked| Denied::Refused(blocked.reason))?;
                let content = Content {
                    purpose: Purpose::Will,
                    class: class(will.qos),
                    retain: will.retain,
                    props: &judged.props,
                    payload: &judged.payload,
                };
                let frame = self.shared.data.seal(group, topic, &content, now)?;
                if will.retain {
                    self.note_will(will, judged.payload, &judged.props, now);
                }
                Ok(WillAnswer::Sealed(frame.into()))
            }
        }
    }

    fn handle_connected(&mut self, connected: &sealcast_mqtt::Connected) {
        let news = self.shared.refusals.is_news(&self.name, connected.code);
        if connected.code != 0 {
            let (code, reason) = (format!("{:#04x}", connected.code), refusals::reason(self.version, connected.code));
            if news {
                warn!(client = self.name, code, reason, "the broker refused the client's connection");
            } else {
                debug!(client = self.name, code, reason, "the broker refused the client's connection again");
            }
            return;
        }
        if let Some(expiry_s) = connected.session_expiry_s {
            self.keep_session = expiry_s > 0;
        }
        // That the broker has kept the session is its word alone; since when the client was away is this agent's.
        let since_ms = self.seen_ms.filter(|_| connected.session_present);
        self.away = since_ms.map(|since_ms| Away { since_ms, until_ms: now_ms() });
        if let Some(session) = &self.session
            && !connected.session_present
        {
            session.state().receipts.clear();
        }
        if self.keep_session {
            self.dirty = Dirty::Now;
        }
        self.greet = connected.session_present;
        info!(client = self.name, version = ?self.version, resumed = connected.session_present, "client connected");
    }

    fn attend_delivery(&mut self, delivery: Delivery, until: &mut Until) -> Option<Waiting> {
        let topic = delivery.topic.as_str();
        let group = match self.shared.data.route(topic) {
            // It says that a retained message is gone, and anybody can: nothing to hand on, and nothing to report.
            Route::Group(_) if delivery.payload.is_empty() => {
                self.answered(|proxy| proxy.swallow(delivery.id));
                return None;
            }
            Route::Group(group) => group,
            Route::Clear => {
                self.answered(|proxy| proxy.pass(delivery.id));
                return None;
            }
            Route::Brokers => {
                let what = "not handed on: topics that begin with $ are the broker's own";
                self.shared.events.note(&self.name, topic, what);
                self.answered(|proxy| proxy.swallow(delivery.id));
                return None;
            }
            // A client that subscribes to `#` gets the agents' own messages too: not for it, and nothing to report.
            Route::Control => {
                self.answered(|proxy| proxy.swallow(delivery.id));
                return None;
            }
            Route::NotYet(reason) => return self.delivery_denied(delivery, &Denied::Behind(reason), until),
            Route::Refused(reason) => return self.delivery_denied(delivery, &Denied::Refused(reason), until),
        };
        let session = self.session.as_ref()?;
        let mut session = session.state();
        let arrival = Arrival {
            qos: match delivery.qos {
                sealcast_mqtt::Qos::AtMostOnce => sealcast_seal::Qos::AtMostOnce,
                _ => sealcast_seal::Qos::Acknowledged { dup: delivery.dup },
            },
            retain: delivery.retain,
            away: self.away,
        };
        let frame = FrameId::of(&delivery.payload);
        let opened = self.shared.data.open(&mut session.opener, group, topic, &delivery.payload, arrival, now_ms());
        match opened {
            // The broker says of its own accord that it sends something again: once on a connection it may.
            Ok(Received::Message(_)) if session.is_unacknowledged(frame) && !self.repeated.insert(frame) => {
                drop(session);
                self.withhold(&delivery, "replayed: the broker sends it again and again".to_owned());
            }
            Ok(Received::Message(message)) => {
                let sender = message.sender().to_string();
                let arrived = Arrived {
                    topic: &delivery.topic,
                    sender: message.sender(),
                    tolerance_ms: self.shared.config.freshness.clock_tolerance_ms,
                    frame: &delivery.payload,
                    payload: Bytes::copy_from_slice(message.payload()),
                    props: Bytes::copy_from_slice(message.props()),
                    sealed_ms: message.sealed_ms(),
                    age_ms: message.age_ms(),
                    retained: delivery.retain,
                    stale: self.shared.data.is_stale(topic, delivery.retain, message.age_ms()),
                };
                let sees_flags = self.sees_flags && self.version == Version::V5;
                let mut incoming = match self.shared.values.arrive(&arrived, sees_flags, now_ms()) {
                    Incoming::Deliver(deliver) => deliver,
                    refused => {
                        drop(session);
                        if let Some(restored) = &mut self.restored
                            && !matches!(refused, Incoming::Nothing)
                        {
                            restored.withheld(&delivery.topic);
                        }
                        match refused {
                            Incoming::Withhold(reason) => self.withhold(&delivery, format!("{sender}: {reason}")),
                            _ => self.answered(|proxy| proxy.swallow(delivery.id)),
                        }
                        return None;
                    }
                };
                incoming.extra.push(("sealcast-sender", sender.clone()));
                let rules = self.shared.values.rules();
                if let Some(restored) = &mut self.restored {
                    for message in restored.before(rules, &delivery.topic, &incoming) {
                        inject(&mut self.proxy, &message);
                    }
                }
                let extra: Vec<_> = incoming.extra.iter().map(|(name, value)| (*name, value.as_str())).collect();
                match self.proxy.deliver(delivery.id, incoming.payload.clone(), incoming.props.clone(), &extra) {
                    Ok(()) => {
                        if let Some(restored) = &mut self.restored {
                            restored.handed_on(rules, &delivery.topic, &incoming, now_ms());
                        }
                        let receipt = message.receipt();
                        session.opener.mark_delivered(&receipt);
                        match arrival.qos {
                            sealcast_seal::Qos::AtMostOnce if self.dirty == Dirty::No => {
                                self.dirty = Dirty::By(Instant::now() + SAVE_DELAY);
                            }
                            sealcast_seal::Qos::AtMostOnce => {}
                            sealcast_seal::Qos::Acknowledged { .. } => {
                                session.receipts.insert(delivery.id, (receipt, frame));
                            }
                        }
                    }
                    Err(error) => {
                        drop(session);
                        self.withhold(&delivery, format!("{sender}: {error}"));
                    }
                }
            }
            Ok(Received::Repeated) => {
                drop(session);
                self.answered(|proxy| proxy.swallow(delivery.id));
            }
            Err(denied) => {
                drop(session);
                return self.delivery_denied(delivery, &denied, until);
            }
        }
        None
    }

    fn delivery_denied(&mut self, delivery: Delivery, denied: &Denied, until: &mut Until) -> Option<Waiting> {
        if self.may_wait(denied, until) {
            return Some(Waiting::Delivery(delivery));
        }
        let heard = until.news.is_none_or(|reading| self.shared.data.is_caught_up_after(reading));
        if matches!(denied, Denied::Behind(_)) && !heard && delivery.qos != sealcast_mqtt::Qos::AtMostOnce {
            // Nobody can say whether it is for this client. Not acknowledged, it stays at the broker.
            warn!(client = self.name, topic = %delivery.topic, "connection closed: {denied}");
            self.give_up = Some("the ledger is out of reach".to_owned());
            return None;
        }
        self.withhold(&delivery, denied.to_string());
        None
    }

    /// Fails closed: the client never sees it, the broker has it acknowledged.
    fn withhold(&mut self, delivery: &Delivery, reason: String) {
        self.shared.events.put(Event::DeliveryRefused {
            client: self.name.clone(),
            topic: delivery.topic.as_str().to_owned(),
            bytes: delivery.payload.len(),
            reason,
        });
        self.answered(|proxy| proxy.swallow(delivery.id));
    }

    fn answered(&mut self, answer: impl FnOnce(&mut Proxy) -> Result<(), sealcast_mqtt::AnswerError>) {
        if let Err(error) = answer(&mut self.proxy) {
            debug!(%error);
        }
    }

    fn handle_acked(&mut self, id: DeliveryId) {
        let Some(session) = &self.session else { return };
        let mut session = session.state();
        if let Some((receipt, _)) = session.receipts.remove(&id) {
            session.opener.mark_acknowledged(&receipt);
            self.dirty = Dirty::Now;
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
            warn!(client = self.name, "replay windows not saved: {error:#}");
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
