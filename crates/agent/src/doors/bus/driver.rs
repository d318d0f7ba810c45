//! The doors' MQTT client itself: connects again and again, and hands on what comes.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use sealcast_agent_core::{Cause, values::Local};
use sealcast_mqtt::{
    Connect, Properties, Property, Publish, Qos, Text, Version,
    client::{CloseReason, Config, Message, Outcome, Output, Reason, RequestError},
};
use sealcast_node::{Tasks, connection};
use tokio::{
    io::DuplexStream,
    sync::{broadcast, mpsc, oneshot},
    time::Instant,
};
use tracing::{debug, warn};

use super::{
    listeners::Listeners,
    message::{Incoming, Outgoing, Refused, Request},
    subscriptions::Subscriptions,
};
use crate::client::{self, Shared, Terms};

/// Messages on their way, each direction.
const MAX_IN_FLIGHT: u16 = 64;
const DUPLEX_BYTES: usize = 64 << 10;
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_S: u16 = 60;
const SESSION_EXPIRY_S: u32 = 3600;
/// Listeners whose owner has gone are looked for so often.
const SWEEP: Duration = Duration::from_secs(20);
const BACKOFF: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(3)];

type Answer = oneshot::Sender<Result<(), Refused>>;
/// A publish has its answer for token, SUBSCRIBE and PINGREQ the listener that they are for, UNSUBSCRIBE its number.
type Connection = connection::Connection<Answer, u64>;

/// See the module.
pub(super) struct Driver {
    shared: Arc<Shared>,
    tasks: Tasks,
    listeners: Listeners,
    subscriptions: Subscriptions,
    /// Whose messages may have arrived or not when the connection ended.
    unknown: Vec<Answer>,
    /// Whose messages did not leave.
    unsent: Vec<Answer>,
    /// Messages of the agent's own. Those that come on a connection come over it.
    local: broadcast::Receiver<Arc<Local>>,
    /// The broker has accepted the connection.
    connected: bool,
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
            listeners: Listeners::default(),
            subscriptions: Subscriptions::default(),
            unknown: Vec::new(),
            unsent: Vec::new(),
            first: true,
        }
    }

    /// Until the agent ends.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let stop = self.shared.stop.clone();
        let mut failures = 0;
        loop {
            let (near, far) = tokio::io::duplex(DUPLEX_BYTES);
            self.tasks.spawn(client::serve(self.shared.clone(), Box::new(far), Terms::within()));
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
            self.ended(&reason);
            let pause = BACKOFF.get(failures).or(BACKOFF.last()).copied().unwrap_or_default();
            failures += 1;
            let pause = tokio::time::sleep(pause);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = &mut pause => break,
                    message = self.local.recv() => self.handle_local(message),
                    request = requests.recv() => match request {
                        Some(request) => self.handle_request_while_away(request, &reason),
                        None => return,
                    },
                }
            }
        }
    }

    /// One connection, until it ends; gives the reason.
    async fn connection(&mut self, stream: DuplexStream, requests: &mut mpsc::Receiver<Request>) -> String {
        let mut connection = match self.connect(stream) {
            Ok(connection) => connection,
            Err(error) => return format!("{error:#}"),
        };
        let mut sweep = tokio::time::interval_at(Instant::now() + SWEEP, SWEEP);
        loop {
            let room = connection.has_room();
            tokio::select! {
                output = connection.next() => {
                    if let Some(reason) = self.handle_output(&mut connection, output) {
                        return reason;
                    }
                }
                request = requests.recv(), if room => match request {
                    None => return "the agent is ending".into(),
                    Some(request) => self.handle_request(&mut connection, request),
                },
                _ = sweep.tick() => {
                    self.listeners.gone().into_iter().for_each(|id| self.listeners.remove(id));
                    self.unsubscribe(&mut connection);
                }
                message = self.local.recv() => self.handle_local(message),
            }
        }
    }

    fn connect(&self, stream: DuplexStream) -> Result<Connection> {
        let config = Config {
            max_packet_bytes: u32::try_from(self.shared.config.max_packet_bytes)?,
            receive_maximum: MAX_IN_FLIGHT,
            max_in_flight: MAX_IN_FLIGHT,
            // The rest waits in the bus's own queue.
            max_queued: 1,
            max_queued_bytes: DUPLEX_BYTES,
            connect_patience: CONNECT_PATIENCE,
            ping_patience: Duration::from_secs(KEEP_ALIVE_S.into()),
        };
        let connect = Connect {
            clean_start: self.first || self.subscriptions.are_too_many(&self.listeners.filters()),
            keep_alive_s: KEEP_ALIVE_S,
            properties: [Property::SessionExpiry(SESSION_EXPIRY_S)].into_iter().collect(),
            ..Connect::new(Version::V5, Text::new(&format!("sealcast-doors-{}", self.shared.data.device()))?)
        };
        Connection::new(Box::new(stream), connect, config)
    }

    /// The reason if the connection is over.
    fn handle_output(&mut self, connection: &mut Connection, output: Output<Answer, u64>) -> Option<String> {
        match output {
            Output::Connected(connected) => {
                self.connected = true;
                self.first = false;
                debug!(resumed = connected.session_present, "the doors are connected");
                self.subscriptions.begin(connected.session_present);
                for id in self.listeners.begin(connected.session_present) {
                    self.subscribe(connection, id);
                }
                self.unsubscribe(connection);
            }
            Output::Message(publish, receipt) => {
                self.hand_out(connection, &publish);
                receipt.into_iter().for_each(|receipt| connection.client().acknowledge(receipt));
            }
            Output::Published(answer, outcome) => self.handle_outcome(answer, outcome),
            Output::Subscribed(id, results) => self.handle_subscribed(connection, id, results),
            Output::Pong(id) => self.listeners.current(id),
            Output::Unsubscribed(number, results) => {
                if results.iter().all(Result::is_ok) {
                    self.subscriptions.unsubscribed(number);
                }
            }
            // The agent closes its side when the broker is gone.
            Output::Closed(CloseReason::Eof | CloseReason::Broken(_)) => return Some("the broker is away".into()),
            Output::Closed(reason) => return Some(reason.to_string()),
        }
        None
    }

    fn handle_outcome(&mut self, answer: Answer, outcome: Outcome) {
        match outcome {
            Outcome::Taken => drop(answer.send(Ok(()))),
            Outcome::Refused(reason) => drop(answer.send(Err(Refused::by_code(reason.code, &said(&reason))))),
            Outcome::Unknown => self.unknown.push(answer),
            Outcome::Unsent => self.unsent.push(answer),
        }
    }

    fn handle_subscribed(&mut self, connection: &mut Connection, id: u64, results: Vec<Result<Qos, Reason>>) {
        match results.into_iter().find_map(Result::err) {
            None => {
                if self.listeners.granted(id) {
                    connection.ping(id);
                }
            }
            Some(Reason { code, .. }) => {
                let Some(filter) = self.listeners.filter(id).map(ToString::to_string) else { return };
                let (cause, hex) = (Cause::BrokerRefused, format!("{code:#04x}"));
                warn!(code = %cause, filter, mqtt_code = hex, "the broker refused a subscription of the doors");
                let refused = format!("the broker refused the subscription to {filter}: reason code {hex}");
                self.listeners.refuse(id, Refused::by_code(code, &refused));
            }
        }
    }

    /// The connection is gone.
    fn ended(&mut self, reason: &str) {
        if std::mem::take(&mut self.connected) {
            // One may have been lost with the connection.
            self.hand_out_standing(None);
        }
        for answer in self.unknown.drain(..) {
            let _ = answer.send(Err(Refused::Unavailable(format!("{reason}; the message may have arrived or not"))));
        }
        for answer in self.unsent.drain(..) {
            let _ = answer.send(Err(Refused::Unavailable(reason.to_owned())));
        }
    }

    fn handle_request_while_away(&mut self, request: Request, reason: &str) {
        match request {
            Request::Publish(_, answer) => {
                let _ = answer.send(Err(Refused::Unavailable(reason.to_owned())));
            }
            Request::Listen { id, filter, sender, done } => {
                if self.listeners.enter(id, filter, sender, done) {
                    self.hand_out_standing(Some(id));
                }
            }
            Request::Leave(id) => self.listeners.remove(id),
        }
    }

    fn handle_request(&mut self, connection: &mut Connection, request: Request) {
        match request {
            Request::Publish(message, answer) => publish(connection, message, answer),
            Request::Listen { id, filter, sender, done } => {
                if self.listeners.enter(id, filter, sender, done) {
                    self.subscribe(connection, id);
                }
            }
            Request::Leave(id) => {
                self.listeners.remove(id);
                self.unsubscribe(connection);
            }
        }
    }

    /// With QoS 1. Also for a filter that others listen to: the broker sends what it keeps once more.
    fn subscribe(&mut self, connection: &mut Connection, id: u64) {
        let Some(filter) = self.listeners.filter(id).map(ToString::to_string) else { return };
        match connection.client().subscribe(&[(&filter, Qos::AtLeastOnce)], id) {
            Ok(()) => self.subscriptions.subscribe(filter),
            Err(rejected) => {
                warn!(code = %Cause::TopicUnfit, filter, error = %rejected.error, "the doors cannot subscribe");
                self.listeners.refuse(id, refused(rejected.error));
            }
        }
    }

    /// From what nobody listens to any more.
    fn unsubscribe(&mut self, connection: &mut Connection) {
        for filter in self.subscriptions.unwanted(&self.listeners.filters()) {
            match connection.client().unsubscribe(&[&filter], self.subscriptions.next_unsubscribe()) {
                Ok(()) => self.subscriptions.unsubscribe(&filter),
                // Tried again with the next one.
                Err(rejected) => {
                    debug!(filter, error = %rejected.error, "not unsubscribed yet");
                    break;
                }
            }
        }
    }

    fn hand_out(&mut self, connection: &mut Connection, publish: &Publish) {
        let Some(topic) = &publish.topic else { return };
        let message = Incoming {
            topic: topic.clone(),
            payload: publish.payload.clone(),
            content_type: publish.properties.find(|p| match p {
                Property::ContentType(text) => Some(text.clone()),
                _ => None,
            }),
        };
        let gone = self.listeners.hand_out(&message, publish.retain);
        if !gone.is_empty() {
            gone.into_iter().for_each(|id| self.listeners.remove(id));
            self.unsubscribe(connection);
        }
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
        for message in self.shared.values.with(|values| values.standing()) {
            self.hand_out_local(&message, to);
        }
    }

    fn hand_out_local(&mut self, message: &Local, to: Option<u64>) {
        let message = Incoming { topic: message.topic.clone(), payload: message.payload.clone(), content_type: None };
        for id in self.listeners.hand_out_local(&message, to) {
            self.listeners.remove(id);
        }
    }
}

fn publish(connection: &mut Connection, message: Outgoing, answer: Answer) {
    if answer.is_closed() {
        return;
    }
    let content_type = message.content_type.map(Property::ContentType);
    let message = Message {
        topic: message.topic,
        qos: Qos::AtLeastOnce,
        retain: message.retain,
        properties: content_type.into_iter().collect::<Properties>(),
        payload: message.payload,
    };
    if let Err(rejected) = connection.client().publish(&message, answer) {
        let _ = rejected.token.send(Err(refused(rejected.error)));
    }
}

fn refused(error: RequestError) -> Refused {
    let reason = error.to_string();
    match error {
        RequestError::TooLarge { .. } | RequestError::Encode(_) => Refused::TooLarge(reason),
        RequestError::Filter(_) => Refused::Invalid(reason),
        RequestError::Retain | RequestError::Qos(_) => Refused::Content(reason),
        RequestError::NotConnected | RequestError::Full => Refused::Unavailable(reason),
    }
}

/// The broker's own words, or the code.
fn said(reason: &Reason) -> String {
    reason.text.as_ref().map_or_else(|| format!("reason code {:#04x}", reason.code), |text| text.as_str().to_owned())
}
