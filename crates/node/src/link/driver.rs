//! The link's task: connects again and again, and hands on what comes.

use std::time::Duration;

use bytes::Bytes;
use sealcast_ledger_client::CallId;
use sealcast_mqtt::{
    Connect, Properties, Publish, Qos, Text, TopicName, Version,
    client::{CloseReason, Config, Message, Outcome, Output, Reason},
    reason,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    calls::{Call, Calls},
    event::{LinkError, LinkEvent, MAX_EVENTS, MAX_MESSAGE_BYTES},
    state::State,
};
use crate::{
    connection,
    tls::{Stream, Upstream},
};

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

/// A message to be published.
pub(super) struct Publication {
    pub(super) topic: TopicName,
    pub(super) retain: bool,
    pub(super) payload: Bytes,
    /// For somebody who wants to know what became of it.
    pub(super) answer: Option<oneshot::Sender<Result<(), String>>>,
}

/// Whose PUBACK it is.
enum Owner {
    Message { topic: TopicName, answer: Option<oneshot::Sender<Result<(), String>>> },
    Call(CallId),
}

/// The only other requests are SUBSCRIBEs, one at a time.
type Connection = connection::Connection<Owner, Subscription>;

/// What a SUBSCRIBE asks for.
struct Subscription {
    filters: Vec<String>,
    /// It is the first of its connection, for all filters.
    first: bool,
}

/// See the module.
pub(super) struct Driver {
    pub(super) client_id: Text,
    pub(super) upstream: Upstream,
    pub(super) filters: Vec<String>,
    /// Those that the broker has refused on this connection.
    pub(super) refused: Vec<String>,
    pub(super) response_topic: TopicName,
    pub(super) ledger_topic: TopicName,
    pub(super) publications: mpsc::Receiver<Publication>,
    pub(super) requests: mpsc::Receiver<Call>,
    pub(super) calls: Calls,
    pub(super) state: State,
    pub(super) events: mpsc::Sender<LinkEvent>,
    pub(super) stop: CancellationToken,
}

/// Why a connection ended.
enum End {
    /// For this reason; the next one is made.
    Cut(String),
    /// The node ends, or nobody takes the events any more.
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
        while self.requests.try_recv().is_ok() {}
        self.calls.fail(&LinkError::Down(reason.clone()));
        // Each state once: a refusal must not hide behind a cut that came before it.
        let changed = before.err().is_none_or(|before| before != reason);
        changed.then_some(LinkEvent::Down(reason))
    }

    async fn connection(&mut self, failures: &mut usize) -> End {
        let opened = tokio::select! {
            () = self.stop.cancelled() => return End::Over,
            opened = timeout(CONNECT_PATIENCE, self.upstream.connect()) => opened,
        };
        let connection = match opened {
            Err(_) => return End::Cut(describe(&CloseReason::Silent)),
            Ok(opened) => opened.and_then(|stream| self.greet(stream)),
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(error) => return End::Cut(format!("{error:#}")),
        };
        let deadline = || Instant::now() + FAREWELL;
        match self.serve(&mut connection, failures).await {
            None => {
                connection.client().disconnect(0);
                connection.finish(deadline()).await;
                End::Over
            }
            Some(reason) => {
                // A broker that ended the connection itself, or is silent, hears nothing more.
                if matches!(reason, CloseReason::Protocol(_)) {
                    connection.finish(deadline()).await;
                }
                End::Cut(describe(&reason))
            }
        }
    }

    fn greet(&self, stream: Box<dyn Stream>) -> anyhow::Result<Connection> {
        let connect = Connect {
            version: Version::V5,
            bridge: false,
            clean_start: true,
            keep_alive_s: KEEP_ALIVE_S,
            properties: Properties::new(),
            client_id: self.client_id.clone(),
            will: None,
            username: None,
            password: None,
        };
        Connection::new(stream, connect, CONFIG)
    }

    /// Why the broker or the stream ended the connection; `None` if this side does.
    async fn serve(&mut self, connection: &mut Connection, failures: &mut usize) -> Option<CloseReason> {
        loop {
            let room = connection.has_room();
            let output = tokio::select! {
                () = self.stop.cancelled() => return None,
                output = connection.next() => output,
                Some(call) = self.requests.recv(), if room => {
                    self.send_call(connection, call);
                    continue;
                }
                Some(publication) = self.publications.recv(), if room => {
                    if let Some(refused) = send(connection, publication)
                        && !self.tell(connection, refused).await
                    {
                        return None;
                    }
                    continue;
                }
            };
            if matches!(&output, Output::Message(publish, _) if publish.topic.as_ref() == Some(&self.ledger_topic)) {
                self.subscribe_again(connection);
            }
            let (event, receipt) = match output {
                Output::Closed(reason) => return Some(reason),
                Output::Message(publish, receipt) => (self.handle_publish(publish), receipt),
                output => (self.handle_output(connection, output), None),
            };
            if matches!(event, Some(LinkEvent::Up)) {
                *failures = 0;
                *self.state.lock() = Ok(());
            }
            if let Some(event) = event
                && !self.tell(connection, event).await
            {
                return None;
            }
            if let Some(receipt) = receipt {
                connection.client().acknowledge(receipt);
            }
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

    fn handle_output(&mut self, connection: &mut Connection, output: Output<Owner, Subscription>) -> Option<LinkEvent> {
        match output {
            Output::Connected(connected) => {
                self.upstream.note_max_packet_bytes(connected.limits.max_packet_bytes);
                self.refused.clear();
                self.subscribe(connection, Subscription { filters: self.filters.clone(), first: true });
                None
            }
            Output::Subscribed(subscription, results) => self.handle_subscribed(subscription, results),
            Output::Published(owner, Outcome::Taken) => taken(owner),
            Output::Published(owner, Outcome::Refused(reason)) => self.handle_refused(owner, &reason),
            // The cut that is about to be told says so to their owners.
            Output::Published(_, Outcome::Unknown | Outcome::Unsent) => None,
            Output::Unsubscribed(..) | Output::Pong(_) | Output::Message(..) | Output::Closed(_) => None,
        }
    }

    fn subscribe(&mut self, connection: &mut Connection, subscription: Subscription) {
        let filters = subscription.filters.clone();
        let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), Qos::AtLeastOnce)).collect();
        if let Err(rejected) = connection.client().subscribe(&filters, subscription) {
            warn!(error = %rejected.error, "cannot subscribe");
            self.refused = rejected.token.filters;
        }
    }

    fn handle_subscribed(
        &mut self,
        subscription: Subscription,
        results: Vec<Result<Qos, Reason>>,
    ) -> Option<LinkEvent> {
        let Subscription { filters, first } = subscription;
        for (filter, result) in filters.into_iter().zip(results) {
            match result {
                Ok(_) if first => {}
                Ok(_) => info!(filter, "subscribed: the broker refused it before"),
                Err(reason) => {
                    if first {
                        warn!(
                            filter, %reason,
                            "the broker refused a subscription of this node: it asks again at each record of the ledger, \
                             such as a grant of the group that has these topics"
                        );
                    }
                    self.refused.push(filter);
                }
            }
        }
        first.then_some(LinkEvent::Up)
    }

    /// A record may have given this node the right to what the broker has refused.
    fn subscribe_again(&mut self, connection: &mut Connection) {
        if !self.refused.is_empty() {
            let filters = std::mem::take(&mut self.refused);
            self.subscribe(connection, Subscription { filters, first: false });
        }
    }

    fn handle_refused(&self, owner: Owner, reason: &Reason) -> Option<LinkEvent> {
        match owner {
            Owner::Message { topic, answer } => Some(refused(&topic, answer, reason.to_string())),
            Owner::Call(id) => {
                self.calls.answer(&id, Err(LinkError::Refused(reason.to_string())));
                None
            }
        }
    }

    fn handle_publish(&self, publish: Publish) -> Option<LinkEvent> {
        let topic = publish.topic?;
        if topic != self.response_topic {
            let dup = (publish.qos != Qos::AtMostOnce).then_some(publish.dup);
            let (topic, retain) = (topic.as_str().to_owned(), publish.retain);
            return Some(LinkEvent::Message { topic, payload: publish.payload, retain, dup });
        }
        if let Some(id) = CallId::of(&publish.payload) {
            self.calls.answer(&id, Ok(publish.payload.into()));
        }
        None
    }

    fn send_call(&self, connection: &mut Connection, call: Call) {
        let message = Message {
            topic: call.topic,
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: Properties::new(),
            payload: call.request,
        };
        if let Err(rejected) = connection.client().publish(&message, Owner::Call(call.id)) {
            self.calls.answer(&call.id, Err(LinkError::Refused(rejected.error.to_string())));
        }
    }
}

/// Publishes a message. Tells if it cannot be.
fn send(connection: &mut Connection, publication: Publication) -> Option<LinkEvent> {
    let Publication { topic, retain, payload, answer } = publication;
    let owner = Owner::Message { topic: topic.clone(), answer };
    let message = Message { topic, qos: Qos::AtLeastOnce, retain, properties: Properties::new(), payload };
    let rejected = connection.client().publish(&message, owner).err()?;
    let Owner::Message { topic, answer } = rejected.token else { return None };
    Some(refused(&topic, answer, rejected.error.to_string()))
}

fn taken(owner: Owner) -> Option<LinkEvent> {
    match owner {
        Owner::Message { answer: Some(answer), .. } => {
            let _ = answer.send(Ok(()));
            None
        }
        Owner::Message { topic, answer: None } => Some(LinkEvent::Taken { topic: topic.as_str().to_owned() }),
        // Its answer comes as a message.
        Owner::Call(_) => None,
    }
}

fn refused(topic: &TopicName, answer: Option<oneshot::Sender<Result<(), String>>>, reason: String) -> LinkEvent {
    if let Some(answer) = answer {
        let _ = answer.send(Err(reason.clone()));
    }
    LinkEvent::Refused { topic: topic.as_str().to_owned(), reason }
}

fn describe(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Refused(Reason { code: reason::QUOTA_EXCEEDED, .. }) => {
            "the broker refused the connection: quota exceeded, this device has as many sessions there as it may, online \
             and offline (limits.max_device_sessions in hub.toml)"
                .into()
        }
        CloseReason::Refused(Reason { code: reason::BANNED, .. }) => {
            "the broker refused the connection: this device is revoked; to let it in again, the operator runs `sealcast \
             device add` for it, it enrols with the new token, and its groups are granted again"
                .into()
        }
        CloseReason::Refused(Reason { code: reason::NOT_AUTHORIZED, .. }) => {
            "the broker refused the connection: not authorized, the hub does not know this certificate, or the device has a \
             newer one: use the folder that was enrolled last, or enrol again"
                .into()
        }
        other => other.to_string(),
    }
}
