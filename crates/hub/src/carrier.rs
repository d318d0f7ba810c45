//! What carries the hub's messages: its own broker, or a connection to somebody else's, at which the hub is a client like
//! any other.
//!
//! Whatever the hub does needs no more than publish and subscribe. Only its own broker can end connections, too.

use std::{
    result::Result as StdResult,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use sealcast_broker::{Handle, HandleError, Peer, Qos, Received, Stats};
use sealcast_hub_core::Barred;
use sealcast_identity::{HUB_NAME, OPERATOR_NAME};
use sealcast_node::{Link, LinkEvent, MAX_MESSAGE_BYTES, Tasks, upstream::Upstream};
use sealcast_parts::{Assembler, Limits};
use sealcast_topic::ControlTopic;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// Messages of one kind that wait for the hub. What is beyond is dropped: whoever sent it sends it again.
const MAX_WAITING: usize = 4096;

/// Messages in parts, by topic, over each of the subscriptions.
const PARTS: Limits = Limits {
    message_bytes: MAX_MESSAGE_BYTES,
    topic_bytes: 2 * MAX_MESSAGE_BYTES,
    total_bytes: 8 * MAX_MESSAGE_BYTES,
    age_ms: 60_000,
};

/// Whoever rotates the operator's key hears of it over a connection by the former one.
const ROTATION: Duration = Duration::from_secs(5);

/// A message on one of Sealcast's own topics.
pub struct Carried {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Bytes,
    /// Whose connection it came by, as the hub's own broker knows.
    pub sender: Option<Peer>,
}

/// What comes from the nodes. Another broker does not say who sent a message: its content has to show it.
pub struct Arrivals {
    /// Calls of the relay.
    pub calls: mpsc::Receiver<Carried>,
    /// What the hub keeps for those that were away.
    pub kept: mpsc::Receiver<Carried>,
}

/// Where arriving messages go.
#[derive(Clone)]
struct Sorter {
    calls: mpsc::Sender<Carried>,
    kept: mpsc::Sender<Carried>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub enum Carrier {
    /// The hub's own broker.
    Own(Handle),
    /// A connection to another one.
    Foreign(Link),
}

impl Carrier {
    /// By the hub's own broker.
    pub async fn own(broker: Handle, tasks: &Tasks) -> Result<(Self, Arrivals)> {
        let (sorter, arrivals) = sorter();
        for filter in filters() {
            let arriving = broker.subscribe(filter, MAX_WAITING).await?;
            tasks.keep("the hub's subscription", sort_own(arriving, sorter.clone(), tasks.clone()));
        }
        Ok((Self::Own(broker), arrivals))
    }

    /// By another broker. It is connected to again and again, and none of this waits for it.
    pub fn foreign(upstream: &Upstream, tasks: &Tasks) -> Result<(Self, Arrivals)> {
        let (link, events) = Link::open(upstream, HUB_NAME, &filters(), None, tasks)?;
        let (sorter, arrivals) = sorter();
        tasks.keep("the hub's connection to the broker", sort_foreign(events, sorter, upstream.clone()));
        Ok((Self::Foreign(link), arrivals))
    }

    /// Whether it is the hub's own broker, which lets each device use its own topics only.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Publishes with QoS 1. What a lost connection swallows is not missed: the nodes ask for it.
    pub async fn publish(&self, topic: &str, payload: Vec<u8>) -> Result<()> {
        match self {
            Self::Own(broker) => broker.publish(topic, payload, Qos::AtLeastOnce, false).await?,
            Self::Foreign(link) => link.publish(topic, false, payload)?,
        }
        Ok(())
    }

    /// What it counts, if it is the hub's own broker.
    ///
    /// # Errors
    /// Why it carries nothing now.
    pub async fn stats(&self) -> Result<Option<Stats>> {
        match self {
            Self::Own(broker) => Ok(Some(broker.stats().await.context("the broker does not answer")?)),
            Self::Foreign(link) => {
                link.up()?;
                Ok(None)
            }
        }
    }

    /// Ends the connections of whoever may no longer be connected, as far as the hub can.
    pub async fn bar(&self, barred: Barred, tasks: &Tasks) {
        let Self::Own(broker) = self else { return };
        let ended = match barred {
            Barred::Device(name) => broker.disconnect_device(name).await,
            Barred::FormerDevice { device, credential } => broker.replace_credential(device, credential).await,
            Barred::FormerOperator { credential } => {
                let broker = broker.clone();
                tasks.beside("the end of connections by the operator's former key", async move {
                    tokio::time::sleep(ROTATION).await;
                    note(broker.replace_credential(OPERATOR_NAME, credential).await);
                });
                return;
            }
        };
        note(ended);
    }
}

impl Sorter {
    fn sort(&self, message: Carried) {
        let receiver = match ControlTopic::parse(&message.topic) {
            Some(ControlTopic::Request { .. }) => &self.calls,
            _ => &self.kept,
        };
        if let Err(error) = receiver.try_send(message) {
            let topic = error.into_inner().topic;
            debug!(topic, "a message was dropped: {MAX_WAITING} others wait for the hub");
        }
    }
}

fn sorter() -> (Sorter, Arrivals) {
    let ((calls, calls_of), (kept, kept_of)) = (mpsc::channel(MAX_WAITING), mpsc::channel(MAX_WAITING));
    (Sorter { calls, kept }, Arrivals { calls: calls_of, kept: kept_of })
}

/// What the hub takes.
fn filters() -> Vec<String> {
    let topics = [
        ControlTopic::Request { node: "+" },
        ControlTopic::Head,
        ControlTopic::Keys { device: "+" },
        ControlTopic::Checkpoint { device: "+" },
        ControlTopic::Inbox { device: "+", group: "+", committer: "+" },
    ];
    topics.iter().map(ToString::to_string).collect()
}

/// What comes over the hub's own broker may be cut into parts, as at any other.
async fn sort_own(mut arriving: mpsc::Receiver<Received>, sorter: Sorter, tasks: Tasks) {
    let (mut parts, start) = (Assembler::new(PARTS), Instant::now());
    loop {
        let received = tokio::select! {
            () = tasks.stop().cancelled() => return,
            received = arriving.recv() => received,
        };
        // The broker has stopped, and says why.
        let Some(Received { topic, payload, sender, .. }) = received else { return tasks.stop().cancelled().await };
        let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        match parts.take(&topic, payload, now_ms) {
            Ok(Some(payload)) => sorter.sort(Carried { topic: topic.to_string(), payload, sender }),
            Ok(None) => {}
            Err(error) => debug!(%topic, %error, "part of a message was dropped"),
        }
    }
}

async fn sort_foreign(mut events: mpsc::Receiver<LinkEvent>, sorter: Sorter, upstream: Upstream) {
    while let Some(event) = events.recv().await {
        match event {
            LinkEvent::Up => info!(broker = %upstream, "the hub is connected to the broker"),
            LinkEvent::Down(reason) => warn!(
                broker = %upstream, reason,
                "the hub has no connection to the broker, and tries again: no agent reaches it over the broker meanwhile"
            ),
            LinkEvent::Refused { topic, reason } => {
                warn!(
                    topic,
                    reason, "the broker refuses what the hub publishes: it must let the hub use Sealcast's topics"
                );
            }
            LinkEvent::Taken { .. } => {}
            LinkEvent::Message { topic, payload, .. } => sorter.sort(Carried { topic, payload, sender: None }),
        }
    }
}

fn note(ended: StdResult<usize, HandleError>) {
    if let Err(error) = ended {
        warn!(%error, "whoever is revoked or has another key could not be disconnected");
    }
}
