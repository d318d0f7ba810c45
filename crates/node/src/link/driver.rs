//! The link's task: connects again and again, and hands on what comes.

mod publishing;
mod subscribing;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sealcast_ledger_client::{AnswerVerifier, CallId};
use sealcast_mqtt::{
    Connect, Publish, Qos, Text, TopicName, Version,
    client::{CloseReason, Config, Connected, Outcome, Output},
};
use sealcast_parts::{Assembler, Limits};
use sealcast_topic::is_control;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    calls::{Call, Calls},
    capabilities::Capabilities,
    ending::{describe, greeting_of},
    event::{LinkError, LinkEvent, MAX_EVENTS, MAX_MESSAGE_BYTES},
    hearing::{Hearing, Remedy},
    sending::Sending,
    state::State,
    subscription::{Subscription, Why},
    version::{Greeting, Known},
};
use crate::{clock::now_ms, connection, tls::Stream, upstream::Upstream};

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_S: u16 = 20;
/// How long the broker may take to close a connection that this side has ended.
const FAREWELL: Duration = Duration::from_secs(2);
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
];
const CONFIG: Config = Config {
    max_packet_bytes: MAX_MESSAGE_BYTES as u32,
    receive_maximum: MAX_EVENTS as u16,
    max_in_flight: 256,
    // The rest waits in the link's own queues, where calls overtake.
    max_queued: 64,
    max_queued_bytes: MAX_MESSAGE_BYTES,
    connect_patience: CONNECT_PATIENCE,
    ping_patience: Duration::from_secs(20),
};

/// How long after a subscription was refused it is asked for once more. A cluster of which a node has died refuses some, and
/// takes them half a minute later.
const SUBSCRIBE_REFUSED: Duration = Duration::from_secs(10);
/// Parts of messages. More than one long message of a topic may be on its way.
const PARTS: Limits = Limits {
    message_bytes: MAX_MESSAGE_BYTES,
    topic_bytes: 2 * MAX_MESSAGE_BYTES,
    total_bytes: 4 * MAX_MESSAGE_BYTES,
    age_ms: 60_000,
};

/// A message to be published.
pub(super) struct Publication {
    pub(super) topic: TopicName,
    pub(super) retain: bool,
    pub(super) payload: Bytes,
    /// For somebody who wants to know what became of it.
    pub(super) answer: Option<oneshot::Sender<Result<(), String>>>,
    /// Given back when it waits no more.
    pub(super) _room: OwnedSemaphorePermit,
}

/// Whose message was taken or refused.
enum Owner {
    Message { topic: TopicName, answer: Option<oneshot::Sender<Result<(), String>>> },
    Call(CallId),
}

/// A publish's token names the whole message in [`Sending`]. The only other requests are SUBSCRIBEs.
type Connection = connection::Connection<u64, Subscription>;

/// See the module.
pub(super) struct Driver {
    pub(super) node: Arc<str>,
    pub(super) client_id: Text,
    pub(super) upstream: Upstream,
    pub(super) filters: Vec<String>,
    /// Those that the broker has refused on this connection.
    pub(super) refused: Vec<String>,
    pub(super) response_topic: TopicName,
    pub(super) answers: Option<AnswerVerifier>,
    pub(super) ledger_topic: TopicName,
    pub(super) publications: mpsc::Receiver<Publication>,
    pub(super) requests: mpsc::Receiver<Call>,
    pub(super) calls: Calls,
    pub(super) state: State,
    pub(super) events: mpsc::Sender<LinkEvent>,
    pub(super) stop: CancellationToken,
    /// A call had no answer.
    pub(super) unanswered: Arc<Notify>,
    pub(super) broker: Broker,
}

/// What is known of the broker, and what is on its way from and to it.
pub(super) struct Broker {
    known: Known,
    /// What it said last, on this connection or an earlier one.
    capabilities: Option<Capabilities>,
    sending: Sending<Owner>,
    parts: Assembler,
    /// By which [`Self::parts`] counts time.
    start: Instant,
    /// When a SUBSCRIBE was last sent.
    subscribed: Instant,
    hearing: Hearing,
    /// It was told on this connection that the broker refuses calls.
    told_refused: bool,
}

impl Default for Broker {
    fn default() -> Self {
        let (parts, start) = (Assembler::new(PARTS), Instant::now());
        let (known, sending) = (Known::default(), Sending::default());
        Self {
            known,
            capabilities: None,
            sending,
            parts,
            start,
            subscribed: start,
            hearing: Hearing::default(),
            told_refused: false,
        }
    }
}

/// Why a connection ended.
enum End {
    /// For this reason; the next one is made.
    Cut(String),
    /// The node ends, or nobody takes the events any more.
    Over,
}

/// Why a connection is not served any more.
enum Served {
    /// The broker or the stream ended it.
    Closed(CloseReason),
    /// This side gives it up: the broker cannot do what is needed, or brings nothing any more.
    Unusable(String),
    /// This side ends.
    Over,
}

impl Driver {
    /// Until the node ends.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        while let End::Cut(reason) = self.connection(&mut failures).await {
            if let Some(event) = self.down(reason)
                && self.events.send(event).await.is_err()
            {
                return;
            }
            let pause = BACKOFF[failures.min(BACKOFF.len() - 1)];
            failures += 1;
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The connection is gone, or was not made. What waited to be sent is its owner's to repeat: sending it on the next
    /// connection would only make it twice.
    fn down(&mut self, reason: String) -> Option<LinkEvent> {
        let before = std::mem::replace(&mut *self.state.lock(), Err(reason.clone()));
        while self.publications.try_recv().is_ok() {}
        self.broker.sending = Sending::default();
        while self.requests.try_recv().is_ok() {}
        self.calls.fail(&LinkError::Down(reason.clone()));
        // Each state once: a refusal must not hide behind a cut that came before it.
        let changed = before.err().is_none_or(|before| before != reason);
        changed.then_some(LinkEvent::Down(reason))
    }

    /// One connection, or why there is none. A broker that does not take the first version is asked in the other one.
    async fn connection(&mut self, failures: &mut usize) -> End {
        let mut version = self.broker.known.first();
        loop {
            let connected = tokio::select! {
                () = self.stop.cancelled() => return End::Over,
                opened = timeout(CONNECT_PATIENCE, self.upstream.connect()) => opened,
            };
            let connection = match connected {
                Err(_) => return End::Cut(describe(&CloseReason::Silent, &self.upstream)),
                Ok(opened) => opened.and_then(|stream| self.greet(stream, version)),
            };
            let mut connection = match connection {
                Ok(connection) => connection,
                Err(error) => return End::Cut(format!("{error:#}")),
            };
            let (greeting, served) = self.serve(&mut connection, version, failures).await;
            let end = finish(connection, served, &self.upstream).await;
            match self.broker.known.note(version, greeting) {
                Some(other) if matches!(end, End::Cut(_)) => {
                    info!(broker = %self.upstream, "the broker does not take MQTT 5: MQTT 3.1.1 is tried");
                    version = other;
                }
                _ => return end,
            }
        }
    }

    fn greet(&self, stream: Box<dyn Stream>, version: Version) -> anyhow::Result<Connection> {
        let credentials = self.upstream.credentials()?.unwrap_or_default();
        let connect = Connect {
            keep_alive_s: KEEP_ALIVE_S,
            username: credentials.username,
            password: credentials.password,
            ..Connect::new(version, self.client_id.clone())
        };
        Connection::new(stream, connect, CONFIG)
    }

    /// How the broker took the CONNECT, and how the connection ended.
    async fn serve(
        &mut self,
        connection: &mut Connection,
        version: Version,
        failures: &mut usize,
    ) -> (Greeting, Served) {
        let mut greeting = Greeting::Closed;
        loop {
            if let Some(refused) = self.hand_over(connection)
                && !self.tell(connection, refused).await
            {
                return (greeting, Served::Over);
            }
            let room = connection.has_room() && !self.broker.sending.is_waiting();
            let output = tokio::select! {
                () = self.stop.cancelled() => return (greeting, Served::Over),
                output = connection.next() => output,
                () = tokio::time::sleep_until(self.broker.subscribed + SUBSCRIBE_REFUSED), if !self.refused.is_empty() => {
                    self.subscribe_refused(connection);
                    continue;
                }
                Some(call) = self.requests.recv(), if room => {
                    self.take_call(call);
                    continue;
                }
                Some(publication) = self.publications.recv(), if room => {
                    if let Some(refused) = self.take_publication(publication)
                        && !self.tell(connection, refused).await
                    {
                        return (greeting, Served::Over);
                    }
                    continue;
                }
                () = self.unanswered.notified(), if greeting == Greeting::Answered => {
                    if let Some(deaf) = self.handle_unanswered(connection) {
                        return (greeting, deaf);
                    }
                    continue;
                }
            };
            let (event, receipt) = match output {
                Output::Closed(reason) => return (greeting_of(greeting, &reason), Served::Closed(reason)),
                Output::Message(publish, receipt) => (self.handle_publish(connection, publish), receipt),
                Output::Connected(connected) => {
                    greeting = Greeting::Answered;
                    if let Some(why) = self.handle_connected(connection, version, &connected) {
                        return (greeting, Served::Unusable(why));
                    }
                    continue;
                }
                output => (self.handle_output(output), None),
            };
            if matches!(event, Some(LinkEvent::Up)) {
                *failures = 0;
                self.broker.hearing.handle_up(Instant::now());
                *self.state.lock() = Ok(());
            }
            if let Some(event) = event
                && !self.tell(connection, event).await
            {
                return (greeting, Served::Over);
            }
            if let Some(receipt) = receipt {
                connection.client().acknowledge(receipt);
            }
        }
    }

    /// The broker has accepted the connection. Gives why it is of no use.
    fn handle_connected(
        &mut self,
        connection: &mut Connection,
        version: Version,
        connected: &Connected,
    ) -> Option<String> {
        let capabilities = Capabilities { version, limits: connected.limits };
        if version == Version::V5 {
            self.upstream.note_max_packet_bytes(connected.limits.max_packet_bytes);
        }
        if self.broker.capabilities.replace(capabilities) != Some(capabilities) {
            info!(broker = %self.upstream, "connected to the broker: {capabilities}");
        }
        if let Some(why) = capabilities.unusable() {
            return Some(format!("the broker at {} cannot be used: {why}", self.upstream));
        }
        self.refused.clear();
        self.broker.told_refused = false;
        self.subscribe(connection, Subscription { filters: self.filters.clone(), why: Why::First });
        None
    }

    /// A call had no answer. Perhaps this node is not subscribed to its answers, whatever the broker says. Gives why this
    /// connection is given up.
    fn handle_unanswered(&mut self, connection: &mut Connection) -> Option<Served> {
        match self.broker.hearing.handle_unanswered(Instant::now())? {
            Remedy::Subscribe { first } => {
                if first {
                    info!(
                        broker = %self.upstream,
                        "the hub has not answered a call over the broker: this node subscribes again, in case the broker has \
                         lost that, and connects again if no answer comes then"
                    );
                }
                self.subscribe(connection, Subscription { filters: self.filters.clone(), why: Why::NoAnswers });
                None
            }
            Remedy::Reconnect { unheard } => Some(Served::Unusable(format!(
                "the hub has not answered over the broker at {} for {} s, and to subscribe again did not help: no hub runs \
                 there, or the broker brings nothing to this connection",
                self.upstream,
                unheard.as_secs(),
            ))),
        }
    }

    /// Hands an event on, as soon as its owner takes it. `false` if nobody does any more.
    async fn tell(&self, connection: &mut Connection, event: LinkEvent) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            sent = self.events.send(event) => sent.is_ok(),
            never = connection.hold() => match never {},
        }
    }

    fn handle_output(&mut self, output: Output<u64, Subscription>) -> Option<LinkEvent> {
        match output {
            Output::Subscribed(subscription, results) => self.handle_subscribed(subscription, results),
            Output::Published(whole, Outcome::Taken) => self.handle_taken(whole),
            Output::Published(whole, Outcome::Refused(reason)) => self.handle_refused(whole, reason.to_string()),
            // The cut that is about to be told says so to their owners.
            Output::Published(_, Outcome::Unknown | Outcome::Unsent) => None,
            Output::Connected(_) | Output::Unsubscribed(..) | Output::Pong(_) | Output::Message(..) => None,
            Output::Closed(_) => None,
        }
    }

    fn handle_publish(&mut self, connection: &mut Connection, publish: Publish) -> Option<LinkEvent> {
        let topic = self.upstream.wire().inward(publish.topic.as_deref()?)?.into_owned();
        if topic == self.ledger_topic.as_str() {
            self.subscribe_refused(connection);
        }
        let payload = if is_control(&topic) { self.put_together(&topic, publish.payload)? } else { publish.payload };
        if topic != self.response_topic.as_str() {
            let dup = (publish.qos != Qos::AtMostOnce).then_some(publish.dup);
            return Some(LinkEvent::Message { topic, payload, retain: publish.retain, dup });
        }
        match self.answers.as_ref()?.verify(&payload, now_ms()) {
            Ok(answer) => {
                if self.broker.hearing.handle_answered() {
                    info!(broker = %self.upstream, "the hub answers over the broker again");
                }
                if let Some(id) = CallId::of(answer) {
                    self.calls.answer(&id, Ok(answer.to_vec()));
                }
            }
            // Its call waits for the hub's own.
            Err(error) => {
                debug!("what came as an answer of the hub is passed over: {:#}", anyhow::Error::new(error));
            }
        }
        None
    }

    fn put_together(&mut self, topic: &str, payload: Bytes) -> Option<Bytes> {
        let now_ms = u64::try_from(self.broker.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let taken = self.broker.parts.take(topic, payload, now_ms);
        taken.unwrap_or_else(|error| {
            debug!(topic, %error, "a message to this node was dropped");
            None
        })
    }
}

/// Ends a connection, and says why it ended.
async fn finish(mut connection: Connection, served: Served, upstream: &Upstream) -> End {
    let deadline = Instant::now() + FAREWELL;
    match served {
        Served::Over => {
            connection.client().disconnect(0);
            connection.finish(deadline).await;
            End::Over
        }
        Served::Unusable(reason) => {
            connection.client().disconnect(0);
            connection.finish(deadline).await;
            End::Cut(reason)
        }
        Served::Closed(reason) => {
            // A broker that ended the connection itself, or is silent, hears nothing more.
            if matches!(reason, CloseReason::Protocol(_)) {
                connection.finish(deadline).await;
            }
            End::Cut(describe(&reason, upstream))
        }
    }
}
