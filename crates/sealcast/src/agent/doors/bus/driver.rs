//! The doors' MQTT client itself: connects again and again, and hands on what comes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use sealcast_ledger::TopicFilter;
use sealcast_mqtt::{
    Ack, AckKind, Connack, Connect, Disconnect, Frame, PacketId, PacketType, Properties, Property, Publish, Qos,
    Splitter, Text, Version,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::{broadcast, mpsc, oneshot},
    time::Instant,
};
use tracing::{debug, warn};

use super::{Incoming, Item, Refused, Request};
use crate::{
    agent::{
        client::{self, Shared},
        values::Local,
    },
    tasks::Tasks,
};

/// Messages on their way, each direction.
const MAX_IN_FLIGHT: u16 = 64;
/// Listeners of all doors together.
const MAX_LISTENERS: usize = 512;
const DUPLEX_BYTES: usize = 64 << 10;
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
const PING: Duration = Duration::from_secs(20);
const KEEP_ALIVE_S: u16 = 60;
const SESSION_EXPIRY_S: u32 = 3600;
const BACKOFF: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(3)];

struct Entry {
    filter: TopicFilter,
    sender: mpsc::Sender<Item>,
    /// What the broker had kept is still to come.
    initial: bool,
    done: Option<oneshot::Sender<Result<(), Refused>>>,
}

/// See the module.
pub(super) struct Driver {
    shared: Arc<Shared>,
    tasks: Tasks,
    listeners: BTreeMap<u64, Entry>,
    publishes: BTreeMap<u16, oneshot::Sender<Result<(), Refused>>>,
    subscribes: BTreeMap<u16, u64>,
    /// Whose retained messages have come when the answer to this ping does.
    pings: VecDeque<Option<u64>>,
    /// Messages of the agent's own. Those that come on a connection come over it.
    local: broadcast::Receiver<Arc<Local>>,
    /// The broker has accepted the connection.
    connected: bool,
    out: BytesMut,
    next_id: u16,
    /// How many publishes the broker takes at once.
    room: u16,
    /// The first connection of this process: the broker forgets what it had.
    first: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, tasks: Tasks) -> Self {
        Self {
            local: shared.values.local(),
            connected: false,
            shared,
            tasks,
            listeners: BTreeMap::new(),
            publishes: BTreeMap::new(),
            subscribes: BTreeMap::new(),
            pings: VecDeque::new(),
            out: BytesMut::new(),
            next_id: 0,
            room: MAX_IN_FLIGHT,
            first: true,
        }
    }

    /// Until the agent ends.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let stop = self.shared.stop.clone();
        let mut failures = 0;
        loop {
            let (near, far) = tokio::io::duplex(DUPLEX_BYTES);
            // What a door hands on has no place for a verdict.
            self.tasks.spawn(client::serve(self.shared.clone(), Box::new(far), false));
            let started = Instant::now();
            let reason = tokio::select! {
                () = stop.cancelled() => return,
                reason = self.connection(near, &mut requests) => reason,
            };
            if started.elapsed() > Duration::from_secs(10) {
                failures = 0;
            }
            if failures == 0 {
                warn!(reason, "the doors have no connection to the broker");
            }
            if std::mem::take(&mut self.connected) {
                // One may have been lost with the connection.
                self.hand_out_standing(None);
            }
            self.out.clear();
            self.subscribes.clear();
            self.pings.clear();
            for (_, publish) in std::mem::take(&mut self.publishes) {
                let _ =
                    publish.send(Err(Refused::Unavailable(format!("{reason}; the message may have arrived or not"))));
            }
            let pause = BACKOFF.get(failures).or(BACKOFF.last()).copied().unwrap_or_default();
            failures += 1;
            let pause = tokio::time::sleep(pause);
            tokio::pin!(pause);
            loop {
                let request = tokio::select! {
                    () = stop.cancelled() => return,
                    () = &mut pause => break,
                    message = self.local.recv() => {
                        self.handle_local(message);
                        continue;
                    }
                    request = requests.recv() => request,
                };
                match request {
                    None => return,
                    Some(Request::Publish(_, answer)) => {
                        let _ = answer.send(Err(Refused::Unavailable(reason.clone())));
                    }
                    Some(Request::Listen { id, filter, sender, done }) => {
                        if self.enter(id, filter, sender, done) {
                            self.hand_out_standing(Some(id));
                        }
                    }
                    Some(Request::Leave(id)) => {
                        self.listeners.remove(&id);
                    }
                }
            }
        }
    }

    /// One connection, until it ends; gives the reason.
    async fn connection(&mut self, stream: DuplexStream, requests: &mut mpsc::Receiver<Request>) -> String {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut splitter = Splitter::new(self.shared.config.max_packet_bytes);
        match self.connect() {
            Ok(frame) => self.out.put_slice(&frame),
            Err(error) => return error.to_string(),
        }
        let deadline = Instant::now() + CONNECT_PATIENCE;
        let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
        let mut bytes = BytesMut::with_capacity(16 << 10);
        loop {
            let room = self.connected && self.publishes.len() < usize::from(self.room) && self.out.len() < DUPLEX_BYTES;
            tokio::select! {
                read = reader.read_buf(&mut bytes) => {
                    if !matches!(read, Ok(1..)) {
                        return "the broker is away".into();
                    }
                    splitter.feed(&bytes.split());
                    loop {
                        match splitter.next_frame() {
                            Ok(None) => break,
                            Ok(Some(frame)) => match self.handle_frame(&frame) {
                                Ok(()) => {}
                                Err(reason) => return reason,
                            },
                            Err(error) => return error.to_string(),
                        }
                    }
                }
                written = writer.write_buf(&mut self.out), if !self.out.is_empty() => {
                    if written.is_err() {
                        return "the broker is away".into();
                    }
                }
                request = requests.recv(), if room => match request {
                    None => return "the agent is ending".into(),
                    Some(request) => self.handle_request(request),
                },
                _ = ping.tick() => {
                    self.sweep();
                    if self.pings.len() >= MAX_LISTENERS {
                        return "the broker does not answer".into();
                    }
                    self.ping(None);
                }
                message = self.local.recv() => self.handle_local(message),
                () = tokio::time::sleep_until(deadline), if !self.connected => return "the broker does not answer".into(),
            }
        }
    }

    fn connect(&self) -> Result<Bytes, anyhow::Error> {
        let mut properties = Properties::new();
        properties.push(Property::SessionExpiry(SESSION_EXPIRY_S));
        properties.push(Property::ReceiveMaximum(MAX_IN_FLIGHT));
        let name = format!("sealcast-doors-{}", self.shared.data.device());
        let connect = Connect {
            version: Version::V5,
            bridge: false,
            clean_start: self.first,
            keep_alive_s: KEEP_ALIVE_S,
            properties,
            client_id: Text::new(&name)?,
            will: None,
            username: None,
            password: None,
        };
        Ok(connect.encode()?)
    }

    fn handle_frame(&mut self, frame: &Frame) -> Result<(), String> {
        let unreadable = |error: sealcast_mqtt::ParseError| error.to_string();
        match frame.packet() {
            PacketType::Connack => {
                let connack = Connack::parse(frame, Version::V5).map_err(unreadable)?;
                if connack.code != 0 {
                    return Err(format!(
                        "the broker refused the connection: {}",
                        reason(&connack.properties, connack.code)
                    ));
                }
                let room = connack.properties.find(|p| match p {
                    Property::ReceiveMaximum(room) => Some(*room),
                    _ => None,
                });
                self.room = room.unwrap_or(MAX_IN_FLIGHT).clamp(1, MAX_IN_FLIGHT);
                self.connected = true;
                self.first = false;
                debug!(resumed = connack.session_present, "the doors are connected");
                let all: Vec<u64> = self.listeners.keys().copied().collect();
                for id in all {
                    if let Some(entry) = self.listeners.get_mut(&id)
                        && (!connack.session_present || entry.done.is_some() || entry.initial)
                    {
                        entry.initial = true;
                        self.subscribe(id);
                    }
                }
            }
            PacketType::Publish => {
                let publish = Publish::parse(frame, Version::V5).map_err(unreadable)?;
                self.hand_out(&publish);
                if let (Qos::AtLeastOnce, Some(id)) = (publish.qos, publish.packet_id) {
                    let ack = Ack::success(AckKind::Puback, id).encode(Version::V5).map_err(|e| e.to_string())?;
                    self.out.put_slice(&ack);
                }
            }
            PacketType::Puback => {
                let ack = Ack::parse(frame, Version::V5).map_err(unreadable)?;
                if let Some(answer) = self.publishes.remove(&ack.packet_id.value()) {
                    let refused = || Refused::by_code(ack.code, &reason(&ack.properties, ack.code));
                    let _ = answer.send(if ack.is_error() { Err(refused()) } else { Ok(()) });
                }
            }
            PacketType::Suback => self.handle_suback(frame),
            PacketType::Pingresp => {
                if let Some(Some(id)) = self.pings.pop_front()
                    && let Some(entry) = self.listeners.get_mut(&id)
                {
                    entry.initial = false;
                    let _ = entry.sender.try_send(Item::Current);
                }
            }
            PacketType::Disconnect => {
                let disconnect = Disconnect::parse(frame, Version::V5).map_err(unreadable)?;
                return Err(reason(&disconnect.properties, disconnect.code));
            }
            _ => {}
        }
        Ok(())
    }

    /// SUBACK (MQTT 5 3.9): packet identifier, properties, one code for each filter; ours have one.
    fn handle_suback(&mut self, frame: &Frame) {
        let content = frame.content();
        let (Some(&[high, low]), Some(&code)) = (content.first_chunk::<2>(), content.last()) else { return };
        let Some(id) = self.subscribes.remove(&u16::from_be_bytes([high, low])) else { return };
        let Some(entry) = self.listeners.get_mut(&id) else { return };
        let done = entry.done.take();
        if code >= 0x80 {
            let filter = entry.filter.to_string();
            warn!(filter, code, "the broker refused a subscription of the doors");
            self.listeners.remove(&id);
            if let Some(done) = done {
                let refused = format!("the broker refused the subscription to {filter}: reason code {code:#04x}");
                let _ = done.send(Err(Refused::by_code(code, &refused)));
            }
            return;
        }
        if let Some(done) = done {
            let _ = done.send(Ok(()));
        }
        self.ping(Some(id));
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            Request::Publish(message, answer) => {
                if answer.is_closed() {
                    return;
                }
                let id = self.packet_id();
                let mut properties = Properties::new();
                if let Some(content_type) = message.content_type {
                    properties.push(Property::ContentType(content_type));
                }
                let publish = Publish {
                    dup: false,
                    qos: Qos::AtLeastOnce,
                    retain: message.retain,
                    topic: Some(message.topic),
                    packet_id: Some(id),
                    properties,
                    payload: message.payload,
                };
                match publish.encode(Version::V5) {
                    Ok(frame) => {
                        self.out.put_slice(&frame);
                        self.publishes.insert(id.value(), answer);
                    }
                    Err(error) => {
                        let _ = answer.send(Err(Refused::TooLarge(error.to_string())));
                    }
                }
            }
            Request::Listen { id, filter, sender, done } => {
                if self.enter(id, filter, sender, done) {
                    self.subscribe(id);
                }
            }
            Request::Leave(id) => self.leave(id),
        }
    }

    fn enter(
        &mut self,
        id: u64,
        filter: TopicFilter,
        sender: mpsc::Sender<Item>,
        done: oneshot::Sender<Result<(), Refused>>,
    ) -> bool {
        if self.listeners.len() >= MAX_LISTENERS {
            let _ = done.send(Err(Refused::Unavailable(format!("the limit of {MAX_LISTENERS} listeners is reached"))));
            return false;
        }
        self.listeners.insert(id, Entry { filter, sender, initial: true, done: Some(done) });
        true
    }

    fn leave(&mut self, id: u64) {
        let Some(gone) = self.listeners.remove(&id) else { return };
        if !self.connected || self.listeners.values().any(|entry| entry.filter == gone.filter) {
            return;
        }
        let mut body = BytesMut::new();
        body.put_u16(self.packet_id().value());
        body.put_u8(0);
        put_text(&mut body, &gone.filter.to_string());
        put_frame(&mut self.out, 0xA2, &body);
    }

    /// SUBSCRIBE (MQTT 5 3.8), QoS 1. Also for a filter that others listen to: the broker sends what it keeps once more.
    fn subscribe(&mut self, id: u64) {
        let Some(filter) = self.listeners.get(&id).map(|entry| entry.filter.to_string()) else { return };
        let packet = self.packet_id().value();
        let mut body = BytesMut::new();
        body.put_u16(packet);
        body.put_u8(0);
        put_text(&mut body, &filter);
        body.put_u8(1);
        put_frame(&mut self.out, 0x82, &body);
        self.subscribes.insert(packet, id);
    }

    fn ping(&mut self, after: Option<u64>) {
        self.pings.push_back(after);
        put_frame(&mut self.out, 0xC0, &[]);
    }

    fn hand_out(&mut self, publish: &Publish) {
        let Some(topic) = &publish.topic else { return };
        let message = Incoming {
            topic: topic.clone(),
            payload: publish.payload.clone(),
            content_type: publish.properties.find(|p| match p {
                Property::ContentType(text) => Some(text.clone()),
                _ => None,
            }),
        };
        // What the broker had kept comes again with each subscription, and is new to that listener alone.
        self.hand_to(&message, |_, entry| !publish.retain || entry.initial);
    }

    fn handle_local(&mut self, message: Result<Arc<Local>, broadcast::error::RecvError>) {
        if self.connected {
            return;
        }
        match message {
            Ok(message) => self.hand_out_local(&message, None),
            // The agent's values live as long as this.
            Err(_) => self.hand_out_standing(None),
        }
    }

    /// Fail-safe values that stand, to one listener or to all.
    fn hand_out_standing(&mut self, to: Option<u64>) {
        for message in self.shared.values.standing() {
            self.hand_out_local(&message, to);
        }
    }

    fn hand_out_local(&mut self, message: &Local, to: Option<u64>) {
        let message = Incoming { topic: message.topic.clone(), payload: message.payload.clone(), content_type: None };
        for (id, entry) in &mut self.listeners {
            // Whoever still waits for the broker begins without it.
            if to.is_none_or(|to| to == *id)
                && entry.filter.matches(message.topic.as_str())
                && let Some(done) = entry.done.take()
            {
                let _ = done.send(Ok(()));
            }
        }
        self.hand_to(&message, |id, _| to.is_none_or(|to| to == id));
    }

    fn hand_to(&mut self, message: &Incoming, wanted: impl Fn(u64, &Entry) -> bool) {
        let mut gone = Vec::new();
        for (id, entry) in &self.listeners {
            if wanted(*id, entry)
                && entry.filter.matches(message.topic.as_str())
                && let Err(error) = entry.sender.try_send(Item::Message(message.clone()))
            {
                if matches!(error, mpsc::error::TrySendError::Full(_)) {
                    warn!(filter = %entry.filter, "a listener was dropped: it does not read its messages");
                }
                gone.push(*id);
            }
        }
        gone.into_iter().for_each(|id| self.leave(id));
    }

    fn sweep(&mut self) {
        let gone: Vec<u64> =
            self.listeners.iter().filter(|(_, entry)| entry.sender.is_closed()).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.leave(id));
    }

    fn packet_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if !self.publishes.contains_key(&self.next_id)
                && !self.subscribes.contains_key(&self.next_id)
                && let Some(id) = PacketId::new(self.next_id)
            {
                return id;
            }
        }
    }
}

fn reason(properties: &Properties, code: u8) -> String {
    properties
        .find(|p| if let Property::ReasonString(text) = p { Some(text.as_str().to_owned()) } else { None })
        .unwrap_or_else(|| format!("reason code {code:#04x}"))
}

/// A filter has at most 65,535 bytes, as [`TopicFilter`] checked.
fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    out.put_slice(text.as_bytes());
}

fn put_frame(out: &mut BytesMut, first: u8, body: &[u8]) {
    out.put_u8(first);
    let mut left = body.len();
    loop {
        let byte = (left & 0x7F) as u8;
        left >>= 7;
        out.put_u8(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            break;
        }
    }
    out.put_slice(body);
}
