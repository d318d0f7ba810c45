//! A node's own MQTT connection to the broker: keys, ledger, inbox and JSON-RPC, apart from the messages of its clients.
//!
//! It keeps no session at the broker. Whatever it may have missed while it was away is retained there (keys, inbox) or
//! asked for again (ledger), so a connection that comes back subscribes anew and its owner catches up on
//! [`LinkEvent::Up`]. A publish or a call that a broken connection swallowed fails, and its owner repeats it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use rumqttc::{
    NetworkOptions, TlsConfiguration, Transport,
    v5::{
        AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, MqttState,
        mqttbytes::{
            QoS,
            v5::{
                ConnectProperties, ConnectReturnCode, Filter, Packet, PubAckReason, Publish, PublishProperties,
                SubscribeReasonCode,
            },
        },
    },
};
use sealcast_ledger_client::{Channel, ChannelError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{tasks::Tasks, tls::Upstream};

/// Largest control message, in bytes: a page of ledger records with full commits.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// What the client identifier of a control connection begins with, before the node's name: the hub's broker reserves
/// places for these.
pub const CLIENT_ID_PREFIX: &str = "sealcast-";
const MAX_CALLS: usize = 1024;
/// Events that wait for their owner: what does not fit waits at the broker.
const MAX_EVENTS: usize = 64;
const MAX_OUTGOING: usize = 16_384;
/// Publishes that wait for their PUBACK at a time. rumqttc keeps a slot of 200 bytes for each packet id that this allows.
const MAX_INFLIGHT: u16 = 256;
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// What happens on a [`Link`].
#[derive(Debug)]
pub enum LinkEvent {
    /// Connected and subscribed.
    Up,
    /// The connection is gone, or cannot be made for another reason than before; the link tries again by itself.
    Down(String),
    /// The broker refused something that was published.
    Refused {
        /// The topic, where the broker names it, as the hub's does.
        topic: Option<String>,
        /// Why, in its words or by the name of its reason code.
        reason: String,
    },
    /// A message on one of the subscribed topics.
    Message {
        /// The topic.
        topic: String,
        /// The bytes.
        payload: Bytes,
        /// The broker had kept it.
        retain: bool,
        /// At QoS 1, whether it may have come before; `None` at QoS 0.
        dup: Option<bool>,
    },
}

/// Why a call or publish did not go through.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    #[error("the connection to the broker is down: {0}")]
    Down(String),
    #[error("no answer from the hub within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
    #[error("too much is waiting to be sent to the hub")]
    Busy,
}

type Calls = Arc<Mutex<HashMap<[u8; 16], oneshot::Sender<Result<Vec<u8>, LinkError>>>>>;

/// A handle to publish and to call; cloned freely.
#[derive(Clone)]
pub struct Link {
    client: AsyncClient,
    node: Arc<str>,
    outgoing: mpsc::Sender<(String, bool, Vec<u8>)>,
    calls: Calls,
    state: Arc<Mutex<Result<(), String>>>,
    cuts: Arc<AtomicU64>,
    upstream: Upstream,
}

impl Link {
    /// Connects `node` to the broker and subscribes to `filters`; events arrive on the receiver until `tasks` end.
    pub fn open(
        upstream: &Upstream,
        node: &str,
        filters: &[String],
        tasks: &Tasks,
    ) -> Result<(Self, mpsc::Receiver<LinkEvent>)> {
        // Two processes of one node (two shells of the operator) must not take each other's connection.
        let client_id = format!("{CLIENT_ID_PREFIX}{node}-{}", hex::encode(random::<4>()?));
        let mut options = MqttOptions::new(client_id, upstream.host(), upstream.port());
        options
            .set_transport(match upstream.tls() {
                Some(config) => Transport::tls_with_config(TlsConfiguration::Rustls(config)),
                None => Transport::Tcp,
            })
            .set_keep_alive(Duration::from_secs(20))
            .set_clean_start(true)
            .set_connection_timeout(5)
            .set_outgoing_inflight_upper_limit(MAX_INFLIGHT)
            .set_connect_properties(ConnectProperties {
                max_packet_size: Some(MAX_MESSAGE_BYTES as u32),
                ..ConnectProperties::new()
            });
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        let (client, events) = AsyncClient::new(options, 256);
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        let (outgoing, mut messages) = mpsc::channel::<(String, bool, Vec<u8>)>(MAX_OUTGOING);
        let link = Self {
            client,
            node: node.into(),
            outgoing,
            calls: Calls::default(),
            state: Arc::new(Mutex::new(Err("not connected yet".into()))),
            cuts: Arc::default(),
            upstream: upstream.clone(),
        };
        let mut wanted: Vec<Filter> =
            filters.iter().map(|filter| Filter::new(filter.clone(), QoS::AtLeastOnce)).collect();
        wanted.push(Filter::new(link.response_topic(), QoS::AtLeastOnce));
        let driving = link.clone().drive(events, wanted, sender, tasks.stop().clone());
        let publishing = {
            let client = link.client.clone();
            async move {
                while let Some((topic, retain, payload)) = messages.recv().await {
                    if client.publish(topic, QoS::AtLeastOnce, retain, payload).await.is_err() {
                        return;
                    }
                }
            }
        };
        tasks.keep("the connection to the hub", async move {
            tokio::select! {
                () = driving => {}
                () = publishing => {}
            }
        });
        Ok((link, receiver))
    }

    /// Hands a message over to be published with QoS 1, after those before it. Never waits: the task that calls this is
    /// the one that takes in what the broker sends, and the two must not wait for each other.
    pub fn publish(&self, topic: String, retain: bool, payload: Vec<u8>) -> Result<(), LinkError> {
        self.up()?;
        self.outgoing.try_send((topic, retain, payload)).map_err(|_| LinkError::Busy)
    }

    /// How often the connection was lost, or could not be made. What was published before the last time may not have arrived.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    /// One JSON-RPC call to the hub's relay, over MQTT 5 request/response.
    pub async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, LinkError> {
        self.up()?;
        let id = random::<16>().map_err(|error| LinkError::Down(error.to_string()))?;
        let (sender, receiver) = oneshot::channel();
        {
            let mut calls = lock(&self.calls);
            if calls.len() >= MAX_CALLS {
                return Err(LinkError::Busy);
            }
            calls.insert(id, sender);
        }
        let _forget = Forget { calls: &self.calls, id };
        let properties = PublishProperties {
            response_topic: Some(self.response_topic()),
            correlation_data: Some(Bytes::copy_from_slice(&id)),
            ..PublishProperties::default()
        };
        let topic = format!("sealcast/v1/rpc/{}/request", self.node);
        self.client
            .publish_with_properties(topic, QoS::AtLeastOnce, false, request, properties)
            .await
            .map_err(|_| LinkError::Down("the link is closed".into()))?;
        match tokio::time::timeout(CALL_TIMEOUT, receiver).await {
            Err(_) => Err(LinkError::Timeout),
            Ok(Err(_)) => Err(LinkError::Down("the link is closed".into())),
            Ok(Ok(answer)) => answer,
        }
    }

    fn response_topic(&self) -> String {
        format!("sealcast/v1/rpc/{}/response", self.node)
    }

    fn up(&self) -> Result<(), LinkError> {
        lock(&self.state).clone().map_err(LinkError::Down)
    }

    async fn drive(
        self,
        mut events: EventLoop,
        filters: Vec<Filter>,
        sender: mpsc::Sender<LinkEvent>,
        stop: CancellationToken,
    ) {
        let mut failures = 0;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.poll() => event,
            };
            let out = match event {
                Ok(Event::Incoming(packet)) => self.handle_packet(packet, &filters),
                Ok(Event::Outgoing(_)) => None,
                Err(error) => {
                    let reason = describe(&error);
                    let before = std::mem::replace(&mut *lock(&self.state), Err(reason.clone()));
                    // Each state once: a refusal must not hide behind a cut that came before it.
                    let changed = before.err().is_none_or(|before| before != reason);
                    for (_, call) in lock(&self.calls).drain() {
                        let _ = call.send(Err(LinkError::Down(reason.clone())));
                    }
                    // What waited to be sent is its owner's to repeat: resending it here would only make it twice.
                    events.clean();
                    events.pending.clear();
                    // The next connection begins with packet id 1: rumqttc goes on where it was, beyond its slots if the broker
                    // now allows fewer at a time.
                    let arrived = std::mem::take(&mut events.state.events);
                    events.state = MqttState::new(MAX_INFLIGHT, false);
                    events.state.events = arrived;
                    // After that: who published before it sees that this was a later cut.
                    self.cuts.fetch_add(1, Ordering::SeqCst);
                    if changed && sender.send(LinkEvent::Down(reason)).await.is_err() {
                        return;
                    }
                    let pause = BACKOFF[failures.min(BACKOFF.len() - 1)];
                    failures += 1;
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    continue;
                }
            };
            if matches!(out, Some(LinkEvent::Up)) {
                failures = 0;
                *lock(&self.state) = Ok(());
            }
            if let Some(event) = out
                && sender.send(event).await.is_err()
            {
                return;
            }
        }
    }

    fn handle_packet(&self, packet: Packet, filters: &[Filter]) -> Option<LinkEvent> {
        match packet {
            Packet::ConnAck(connack) => {
                self.upstream.note_max_packet_bytes(connack.properties.and_then(|given| given.max_packet_size));
                if self.client.try_subscribe_many(filters.to_vec()).is_err() {
                    warn!("cannot subscribe: too many requests are waiting");
                }
                None
            }
            Packet::SubAck(ack) => {
                for (filter, code) in filters.iter().zip(&ack.return_codes) {
                    if !matches!(code, SubscribeReasonCode::Success(_)) {
                        warn!(filter = filter.path, ?code, "the broker refused a control subscription");
                    }
                }
                Some(LinkEvent::Up)
            }
            Packet::PubAck(ack)
                if !matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers) =>
            {
                let (reason, user) = ack.properties.map(|p| (p.reason_string, p.user_properties)).unwrap_or_default();
                let topic = user.into_iter().find_map(|(name, value)| (name == "topic").then_some(value));
                Some(LinkEvent::Refused { topic, reason: reason.unwrap_or_else(|| format!("{:?}", ack.reason)) })
            }
            Packet::Publish(publish) => self.handle_publish(publish),
            Packet::Disconnect(disconnect) => {
                debug!(?disconnect, "the broker ended the control connection");
                None
            }
            _ => None,
        }
    }

    fn handle_publish(&self, publish: Publish) -> Option<LinkEvent> {
        let topic = String::from_utf8(publish.topic.to_vec()).ok()?;
        if topic != self.response_topic() {
            let dup = (publish.qos != QoS::AtMostOnce).then_some(publish.dup);
            return Some(LinkEvent::Message { topic, payload: publish.payload, retain: publish.retain, dup });
        }
        let id: [u8; 16] = publish.properties?.correlation_data?.as_ref().try_into().ok()?;
        if let Some(call) = lock(&self.calls).remove(&id) {
            let _ = call.send(Ok(publish.payload.to_vec()));
        }
        None
    }
}

/// Takes a call that is given up out of the table.
struct Forget<'a> {
    calls: &'a Calls,
    id: [u8; 16],
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.calls).remove(&self.id);
    }
}

impl Channel for Link {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        Link::call(self, request).await.map_err(|error| match error {
            LinkError::Timeout => ChannelError::Timeout { waited_ms: CALL_TIMEOUT.as_millis() as u64 },
            error => ChannelError::Down(error.to_string()),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow!("no randomness from the system")).context("random id")?;
    Ok(bytes)
}

fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(ConnectReturnCode::QuotaExceeded) => {
            "the broker refused the connection: quota exceeded, this device has as many sessions there as it may, online \
             and offline (limits.max_device_sessions in hub.toml)"
                .into()
        }
        ConnectionError::ConnectionRefused(code) => format!("the broker refused the connection: {code:?}"),
        ConnectionError::Timeout(_) => "the broker does not answer".into(),
        other => other.to_string(),
    }
}
