//! The doors' one MQTT client: it connects inside the process to [`client::serve`](crate::client::serve), so
//! that routing, checks, sealing, replay windows and the broker's session are those of any other client.
//!
//! A publish is done when the broker has acknowledged it (QoS 1), or refused with the reason that came back (MQTT 5).
//! Deliveries go to every listener whose filter matches; a listener that does not take them is let go. The session at the
//! broker begins with the process: what was sent to a valve while no agent ran is not done hours later, unless retained.
//!
//! While there is no broker, listeners still get the agent's own messages: a fail-safe is for just that time.

mod driver;
mod listeners;
mod message;
mod subscriptions;

use std::{sync::Arc, time::Duration};

use sealcast_ledger::TopicFilter;
use sealcast_node::Tasks;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

pub use self::message::{Incoming, Item, Outgoing, Refused};
use self::{driver::Driver, message::Request};
use crate::client::Shared;

/// Publishes and subscriptions that wait to be sent.
const MAX_REQUESTS: usize = 256;
/// Messages that wait for a listener.
const MAX_QUEUED: usize = 64;
/// A publish may wait for a key, and for the broker.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(15);
/// Retained messages may come a little after the answer to a ping that was sent behind the subscription.
const GRACE: Duration = Duration::from_millis(200);
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// A handle to publish and to listen; cloned freely.
#[derive(Clone)]
pub struct Bus {
    requests: mpsc::Sender<Request>,
    next_listener: Arc<std::sync::atomic::AtomicU64>,
    max_payload_bytes: usize,
}

/// A subscription; ends when dropped.
pub struct Listener {
    id: u64,
    items: mpsc::Receiver<Item>,
    requests: mpsc::Sender<Request>,
}

impl Listener {
    /// The next item; `None` if it was too slow or the agent ends.
    pub async fn next(&mut self) -> Option<Item> {
        self.items.recv().await
    }

    /// The same, for a hand-written future.
    pub fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Item>> {
        self.items.poll_recv(context)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // If there is no room, the driver finds the closed queue by itself.
        let _ = self.requests.try_send(Request::Leave(self.id));
    }
}

impl Bus {
    /// Starts the client; it ends with the agent.
    pub fn open(shared: Arc<Shared>, tasks: &Tasks) -> Self {
        let (requests, receiver) = mpsc::channel(MAX_REQUESTS);
        let max_payload_bytes = shared.config.max_packet_bytes.saturating_sub(1024);
        tasks.keep("the doors' MQTT client", Driver::new(shared, tasks.clone()).run(receiver));
        Self { requests, next_listener: Arc::default(), max_payload_bytes }
    }

    /// Largest payload that [`Bus::publish`] takes.
    pub fn max_payload_bytes(&self) -> usize {
        self.max_payload_bytes
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    ///
    /// # Errors
    /// [`Refused`]. After [`Refused::Unavailable`] the message may have arrived or not.
    pub async fn publish(&self, message: Outgoing) -> Result<(), Refused> {
        if message.payload.len() > self.max_payload_bytes {
            let (size, max) = (message.payload.len(), self.max_payload_bytes);
            return Err(Refused::TooLarge(format!("{size} bytes; at most {max} (max_packet_bytes)")));
        }
        let (sender, receiver) = oneshot::channel();
        self.requests.try_send(Request::Publish(message, sender)).map_err(|_| busy())?;
        match tokio::time::timeout(PUBLISH_PATIENCE, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ending()),
            Err(_) => Err(Refused::Unavailable(format!(
                "not acknowledged within {} s; it may still arrive",
                PUBLISH_PATIENCE.as_secs()
            ))),
        }
    }

    /// Subscribes with QoS 1: what the broker has kept, [`Item::Current`], then what is published.
    ///
    /// # Errors
    /// [`Refused`]: too many listeners, or the broker refused. While the broker is away the listener waits for it.
    pub async fn listen(&self, filter: TopicFilter) -> Result<Listener, Refused> {
        let id = self.next_listener.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (sender, items) = mpsc::channel(MAX_QUEUED);
        let (done, answer) = oneshot::channel();
        let listener = Listener { id, items, requests: self.requests.clone() };
        self.requests.try_send(Request::Listen { id, filter, sender, done }).map_err(|_| busy())?;
        answer.await.unwrap_or_else(|_| Err(ending()))?;
        Ok(listener)
    }

    /// The same for somebody who does not wait for a broker that is away.
    ///
    /// # Errors
    /// [`Refused`], soon.
    pub async fn listen_soon(&self, filter: TopicFilter) -> Result<Listener, Refused> {
        tokio::time::timeout(LAST_PATIENCE, self.listen(filter)).await.unwrap_or_else(|_| Err(no_answer()))
    }

    /// The last retained message of a topic.
    ///
    /// # Errors
    /// [`Refused`]; `Ok(None)` if there is none.
    pub async fn last(&self, filter: TopicFilter) -> Result<Option<Incoming>, Refused> {
        let mut listener = self.listen_soon(filter).await?;
        let deadline = Instant::now() + LAST_PATIENCE;
        let mut until = deadline;
        loop {
            match tokio::time::timeout_at(until, listener.next()).await {
                Ok(Some(Item::Message(message))) => return Ok(Some(message)),
                Ok(Some(Item::Current)) => until = Instant::now() + GRACE,
                Ok(None) => return Err(ending()),
                Err(_) if until == deadline => return Err(no_answer()),
                Err(_) => return Ok(None),
            }
        }
    }
}

fn busy() -> Refused {
    Refused::Unavailable(format!("{MAX_REQUESTS} requests of the doors are waiting: slow down"))
}

fn no_answer() -> Refused {
    Refused::Unavailable("the broker does not answer".into())
}

fn ending() -> Refused {
    Refused::Unavailable("the agent is ending".into())
}
