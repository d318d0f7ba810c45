//! What an agent tells of messages that it did not let through: to its log, and to whoever listens.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::broadcast;
use tracing::{debug, warn};

/// The same line is logged at most this often.
const QUIET: Duration = Duration::from_secs(10);
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
    said: Mutex<HashMap<String, (Instant, u64)>>,
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
            Event::PublishRefused { client, topic, reason } => ("publish refused", client, topic, reason),
        };
        match self.due(format!("{what} {client} {topic}")) {
            Some(before) => warn!(client, topic, reason, unlogged = before, "{what}"),
            None => debug!(client, topic, reason, "{what}"),
        }
        // An error says that nobody listens.
        let _ = self.sender.send(event);
    }

    /// Whether a line may be logged now, and how often it was not since the last time.
    fn due(&self, line: String) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if said.len() >= MAX_LINES {
            said.retain(|_, (last, _)| now.duration_since(*last) < QUIET);
            if said.len() >= MAX_LINES {
                said.clear();
            }
        }
        match said.get_mut(&line) {
            Some((last, count)) if now.duration_since(*last) < QUIET => {
                *count += 1;
                None
            }
            Some((last, count)) => {
                *last = now;
                Some(std::mem::take(count))
            }
            None => {
                said.insert(line, (now, 0));
                Some(0)
            }
        }
    }
}
