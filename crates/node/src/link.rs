//! A node's own MQTT connection to the broker: keys, ledger, inbox and JSON-RPC, apart from the messages of its clients.
//!
//! It keeps no session at the broker. Whatever it may have missed while it was away is retained there (keys, inbox) or
//! asked for again (ledger), so a connection that comes back subscribes anew and its owner catches up on
//! [`LinkEvent::Up`]. A publish or a call that a broken connection swallowed fails, and its owner repeats it.
//!
//! The broker may be anybody's. It speaks MQTT 5 or 3.1.1, and nothing here needs more than 3.1.1 has. Control messages
//! that are longer than it carries go in parts. Its acknowledgements prove little, so owners wait for answers.

mod calls;
mod capabilities;
mod driver;
mod ending;
mod event;
mod hearing;
mod sending;
mod state;
mod subscription;
mod version;

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use sealcast_identity::CLIENT_ID_PREFIX;
use sealcast_ledger_client::{AnswerVerifier, CallId, Channel, ChannelError};
use sealcast_mqtt::{Text, TopicName};
use sealcast_topic::ControlTopic;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

pub use self::event::{Answer, LinkError, LinkEvent, MAX_MESSAGE_BYTES};
use self::{
    calls::{Call, Calls},
    driver::{Broker, Driver, Publication},
    event::{CALL_TIMEOUT, MAX_EVENTS},
    state::State,
};
use crate::{tasks::Tasks, upstream::Upstream};

/// Messages that wait to be published, after the calls.
const MAX_OUTGOING: usize = 16_384;
/// And their payloads together. At somebody else's broker anybody can have the hub answer, and the broker need not take the
/// answers.
const MAX_OUTGOING_BYTES: usize = 256 << 20;

/// A handle to publish and to call; cloned freely.
#[derive(Clone)]
pub struct Link {
    node: Arc<str>,
    outgoing: mpsc::Sender<Publication>,
    /// One permit for each byte that may still wait.
    room: Arc<Semaphore>,
    calls: Calls,
    state: State,
    unanswered: Arc<Notify>,
}

impl Link {
    /// Connects `node` to the broker and subscribes to `filters`; events arrive on the receiver until `tasks` end. `answers`
    /// tells the hub's answers to calls from those that anybody else makes up; the hub itself calls nobody.
    pub fn open(
        upstream: &Upstream,
        node: &str,
        filters: &[String],
        answers: Option<AnswerVerifier>,
        tasks: &Tasks,
    ) -> Result<(Self, mpsc::Receiver<LinkEvent>)> {
        // Two processes of one node (two shells of the operator) must not take each other's connection.
        let wire = upstream.wire();
        let client_id = format!("{CLIENT_ID_PREFIX}{}-{}", wire.name(node), hex::encode(random::<4>()?));
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let (outgoing, publications) = mpsc::channel(MAX_OUTGOING);
        let (calls, requests) = Calls::new();
        let (state, unanswered) = (State::default(), Arc::default());
        let room = Arc::new(Semaphore::new(MAX_OUTGOING_BYTES));
        let link = Self { node: node.into(), outgoing, room, calls, state, unanswered };
        let response_topic = topic_of(ControlTopic::Response { node: &link.node })?;
        let filters = filters.iter().map(String::as_str).chain([response_topic.as_str()]);
        let driver = Driver {
            node: link.node.clone(),
            client_id: Text::new(&client_id)?,
            upstream: upstream.clone(),
            filters: filters.map(|filter| wire.outward(filter).into_owned()).collect(),
            refused: Vec::new(),
            response_topic,
            answers,
            ledger_topic: topic_of(ControlTopic::Ledger)?,
            publications,
            requests,
            calls: link.calls.clone(),
            state: link.state.clone(),
            events: sender,
            stop: tasks.stop().clone(),
            unanswered: link.unanswered.clone(),
            broker: Broker::default(),
        };
        tasks.keep("the connection to the hub", driver.run());
        Ok((link, events))
    }

    /// Hands a message over to be published with QoS 1, after those before it. Never waits: the task that calls this is
    /// the one that takes in what the broker sends, and the two must not wait for each other.
    pub fn publish(&self, topic: &str, retain: bool, payload: Vec<u8>) -> Result<(), LinkError> {
        self.publish_for(topic, retain, payload, None)
    }

    /// The same, for somebody who wants to know what the broker says of it.
    pub fn publish_told(&self, topic: &str, retain: bool, payload: Vec<u8>) -> Result<Answer, LinkError> {
        let (sender, answer) = oneshot::channel();
        self.publish_for(topic, retain, payload, Some(sender)).map(|()| answer)
    }

    fn publish_for(
        &self,
        topic: &str,
        retain: bool,
        payload: Vec<u8>,
        answer: Option<oneshot::Sender<Result<(), String>>>,
    ) -> Result<(), LinkError> {
        self.up()?;
        let topic = TopicName::new(topic).map_err(|error| LinkError::Refused(error.to_string()))?;
        let bytes = u32::try_from(payload.len()).map_err(|_| LinkError::Busy)?;
        let room = self.room.clone().try_acquire_many_owned(bytes).map_err(|_| LinkError::Busy)?;
        let publication = Publication { topic, retain, payload: payload.into(), answer, _room: room };
        self.outgoing.try_send(publication).map_err(|_| LinkError::Busy)
    }

    /// One JSON-RPC call to the hub's relay. The answer repeats the request's [`CallId`], which alone says that it is this
    /// call's: no property of MQTT 5 does.
    pub async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, LinkError> {
        self.up()?;
        let id = CallId::of(&request).ok_or(LinkError::Unnamed)?;
        let topic =
            topic_of(ControlTopic::Request { node: &self.node }).map_err(|error| LinkError::Down(error.to_string()))?;
        let call = Call { id, topic, request: request.into() };
        match tokio::time::timeout(CALL_TIMEOUT, self.calls.call(call)).await {
            Err(_) => {
                self.unanswered.notify_one();
                Err(LinkError::Timeout)
            }
            Ok(answer) => answer,
        }
    }

    /// Fails with the reason while there is no connection.
    pub fn up(&self) -> Result<(), LinkError> {
        self.state.now().map_err(LinkError::Down)
    }
}

fn topic_of(topic: ControlTopic<'_>) -> Result<TopicName> {
    TopicName::new(&topic.to_string()).context("the node's name")
}

impl Channel for Link {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        Link::call(self, request).await.map_err(|error| match error {
            LinkError::Timeout => ChannelError::Timeout { waited_ms: CALL_TIMEOUT.as_millis() as u64 },
            error => ChannelError::Down(error.to_string()),
        })
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow!("no randomness from the system")).context("random id")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
