//! An agent's own connection to the broker: keys, ledger, inbox and calls.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sealcast_agent_core::{
    Now, SyncId,
    control::{Input, Question, Submitted},
};
use sealcast_broker_core::ConnId;
use sealcast_mqtt::{
    Properties, Qos, TopicName,
    client::{self, Config, Message},
};
use sealcast_topic::ControlTopic;

use crate::{hub::named, net::MAX_FRAME};

/// How long an answer may take, ms.
const CALL_MS: u64 = 10_000;
/// How long after a connection was lost the next one is made, ms.
pub(super) const AGAIN_MS: u64 = 1_000;
pub(super) const CONFIG: Config = Config {
    max_packet_bytes: MAX_FRAME as u32,
    receive_maximum: 64,
    max_in_flight: 256,
    max_queued: 16_384,
    max_queued_bytes: MAX_FRAME,
    connect_patience: Duration::from_secs(15),
    ping_patience: Duration::from_secs(20),
};

/// Whose a publish is.
pub(super) enum Owner {
    Message(String),
    Call(u64),
}

pub(super) enum Call {
    Ask(SyncId),
    Submit,
    Kept(Question),
}

/// See the module.
pub struct Link {
    /// The moment at which [`Now::run_ms`] was 0. Only what lies between two moments counts.
    start: Instant,
    pub(super) connection: Option<(ConnId, client::Client<Owner, ()>)>,
    pub(super) up: bool,
    pub(super) again_ms: u64,
    pub(super) calls: BTreeMap<u64, (Call, u64)>,
    last_call: u64,
}

impl Default for Link {
    fn default() -> Self {
        let start = Instant::now();
        Self { start, connection: None, up: false, again_ms: 0, calls: BTreeMap::new(), last_call: 0 }
    }
}

impl Link {
    pub(super) fn instant(&self, now: Now) -> Instant {
        self.start + Duration::from_millis(now.run_ms)
    }

    /// When something is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let calls = self.calls.values().map(|(_, until_ms)| *until_ms);
        calls.chain(self.connection.is_none().then_some(self.again_ms)).min()
    }

    /// Publishes, retained or not, with QoS 1.
    ///
    /// # Errors
    /// There is no connection, or it takes nothing.
    pub fn publish(&mut self, topic: &str, retain: bool, payload: Vec<u8>) -> Result<(), String> {
        let (_, client) = self.connection.as_mut().filter(|_| self.up).ok_or("the link is down")?;
        let topic = TopicName::new(topic).map_err(|error| error.to_string())?;
        let owner = Owner::Message(topic.as_str().to_owned());
        let message =
            Message { topic, qos: Qos::AtLeastOnce, retain, properties: Properties::new(), payload: payload.into() };
        client.publish(&message, owner).map_err(|rejected| rejected.error.to_string())
    }

    pub(super) fn call(&mut self, node: &str, place: usize, call: Call, now: Now) -> Result<(), String> {
        let (_, client) = self.connection.as_mut().filter(|_| self.up).ok_or("the link is down")?;
        self.last_call += 1;
        let topic = TopicName::new(&ControlTopic::Request { node }.to_string()).map_err(|error| error.to_string())?;
        let message = Message {
            topic,
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: Properties::new(),
            payload: named(self.last_call, place),
        };
        client.publish(&message, Owner::Call(self.last_call)).map_err(|rejected| rejected.error.to_string())?;
        self.calls.insert(self.last_call, (call, now.run_ms + CALL_MS));
        Ok(())
    }
}

pub(super) fn failed(call: Call, reason: &str) -> Input {
    match call {
        Call::Ask(sync) => Input::Records { sync, answer: Err(reason.to_owned()) },
        Call::Kept(question) => Input::Kept { question, answer: Err(reason.to_owned()) },
        Call::Submit => Input::Submitted(Submitted::Failed(reason.to_owned())),
    }
}
