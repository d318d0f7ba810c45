//! What an agent tells of messages that it did not let through: to its log, and to whoever listens.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::broadcast;
use tracing::{debug, info, warn};

/// The same line is logged at most this often.
const QUIET: Duration = Duration::from_secs(10);
/// The same for why a connection ended, and for what a client goes on doing: it may connect again each second.
const QUIET_ABOUT_CLIENT: Duration = Duration::from_secs(3600);
const MAX_LINES: usize = 1024;

/// Something that a person may have to know.
#[derive(Debug, Clone)]
pub enum Event {
    /// A delivery from the broker was not given to the client.
    DeliveryRefused {
        /// The local client.
        client: String,
        /// The topic it came on.
        topic: String,
        /// How many bytes came.
        bytes: usize,
        /// Why.
        reason: String,
    },
    /// A filter of the client was not subscribed to.
    NotSubscribed {
        /// The local client.
        client: String,
        /// The filter.
        topic: String,
        /// Why.
        reason: String,
    },
    /// A message of the client was not sent.
    PublishRefused {
        /// The local client.
        client: String,
        /// The topic.
        topic: String,
        /// Why.
        reason: String,
    },
}

/// Where events go.
pub struct Events {
    sender: broadcast::Sender<Event>,
    said: Mutex<HashMap<String, Said>>,
}

/// A line that was logged.
struct Said {
    at: Instant,
    quiet: Duration,
    /// How often it was not logged since.
    unlogged: u64,
}

impl Events {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self { sender: broadcast::Sender::new(1024), said: Mutex::default() }
    }

    /// Events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    /// Logs the event, unless the same was logged a moment ago, and tells who listens.
    pub fn put(&self, event: Event) {
        let (what, client, topic, reason) = match &event {
            Event::DeliveryRefused { client, topic, reason, .. } => ("delivery refused", client, topic, reason),
            Event::NotSubscribed { client, topic, reason } => ("subscription refused", client, topic, reason),
            Event::PublishRefused { client, topic, reason } => ("publish refused", client, topic, reason),
        };
        match self.due(format!("{what} {client} {topic}"), QUIET) {
            Some(before) => warn!(client, topic, reason, unlogged = before, "{what}"),
            None => debug!(client, topic, reason, "{what}"),
        }
        // An error says that nobody listens.
        let _ = self.sender.send(event);
    }

    /// Logs why a client's connection ended, unless it was logged for the same `kind` of reason within the hour.
    pub fn connection_closed(&self, client: &str, kind: &str, reason: &str) {
        match self.due(format!("closed {client} {kind}"), QUIET_ABOUT_CLIENT) {
            Some(before) => warn!(client, reason, unlogged = before, "connection closed"),
            None => debug!(client, reason, "connection closed"),
        }
    }

    /// Logs something that a client does and that needs nobody's attention, once an hour.
    pub fn note(&self, client: &str, topic: &str, what: &str) {
        match self.due(format!("{what} {client} {topic}"), QUIET_ABOUT_CLIENT) {
            Some(_) => info!(client, topic, "{what}"),
            None => debug!(client, topic, "{what}"),
        }
    }

    /// Whether a line may be logged now, and how often it was not since the last time.
    fn due(&self, line: String, quiet: Duration) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if said.len() >= MAX_LINES {
            said.retain(|_, line| now.duration_since(line.at) < line.quiet);
            if said.len() >= MAX_LINES {
                said.clear();
            }
        }
        match said.get_mut(&line) {
            Some(line) if now.duration_since(line.at) < line.quiet => {
                line.unlogged += 1;
                None
            }
            Some(line) => {
                line.at = now;
                Some(std::mem::take(&mut line.unlogged))
            }
            None => {
                said.insert(line, Said { at: now, quiet, unlogged: 0 });
                Some(0)
            }
        }
    }
}
