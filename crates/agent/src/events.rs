//! What an agent tells of messages that it did not let through: to its log, and to whoever listens.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sealcast_agent_core::session::ClientEvent;
use tokio::sync::broadcast;
use tracing::{debug, info, warn};

/// The same line is logged at most this often.
const QUIET: Duration = Duration::from_secs(10);
/// The same for why a connection ended, and for what a client goes on doing: it may connect again each second.
const QUIET_ABOUT_CLIENT: Duration = Duration::from_secs(3600);
/// A broker that stays away is told of again after so long.
const REMINDER: Duration = Duration::from_secs(60);
const MAX_LINES: usize = 1024;

/// A client, for the log.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    /// What it calls itself. Those without an id share the empty one: what they do is logged as one client's.
    pub id: &'a str,
    /// As a person finds it: its id, the one that the broker gave it, or its address.
    pub client: &'a str,
}

/// Where events go.
pub struct Events {
    sender: broadcast::Sender<ClientEvent>,
    said: Mutex<HashMap<String, Said>>,
    broker: Mutex<BrokerAway>,
}

/// Whether the broker can be reached, as the clients' connections show it.
#[derive(Default)]
struct BrokerAway(Option<Away>);

struct Away {
    since: Instant,
    told: Instant,
    reason: String,
    /// Attempts that were not told.
    attempts: u64,
}

impl BrokerAway {
    /// What to log of an attempt that failed: 0 if it is news, the number of attempts since the last line once a minute.
    fn note_failure(&mut self, reason: &str, now: Instant) -> Option<u64> {
        match &mut self.0 {
            Some(away) if away.reason == reason => {
                away.attempts += 1;
                let due = now.duration_since(away.told) >= REMINDER;
                due.then(|| {
                    away.told = now;
                    std::mem::take(&mut away.attempts)
                })
            }
            away => {
                let since = away.as_ref().map_or(now, |away| away.since);
                *away = Some(Away { since, told: now, reason: reason.to_owned(), attempts: 0 });
                Some(0)
            }
        }
    }

    /// Since when it was away, if it was.
    fn note_success(&mut self) -> Option<Instant> {
        self.0.take().map(|away| away.since)
    }
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
        Self { sender: broadcast::Sender::new(1024), said: Mutex::default(), broker: Mutex::default() }
    }

    /// Events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<ClientEvent> {
        self.sender.subscribe()
    }

    /// Logs the event, unless the same was logged a moment ago of the client with this id, and tells whoever listens.
    pub fn put(&self, id: &str, event: ClientEvent) {
        let unsealed = "no member has sealed that: the broker did it, or an empty will, or a client that has no agent";
        let unsealed = unsealed.to_owned();
        let (what, client, topic, reason) = match &event {
            ClientEvent::DeliveryRefused { client, topic, reason, .. } => ("delivery refused", client, topic, reason),
            ClientEvent::Deleted { client, topic } => ("retained message deleted", client, topic, &unsealed),
            ClientEvent::NotSubscribed { client, topic, reason } => ("subscription refused", client, topic, reason),
            ClientEvent::PublishRefused { client, topic, reason } => ("publish refused", client, topic, reason),
        };
        match self.due(format!("{what} {id} {topic}"), QUIET) {
            Some(before) => warn!(client, topic, reason, unlogged = before, "{what}"),
            None => debug!(client, topic, reason, "{what}"),
        }
        // An error says that nobody listens.
        let _ = self.sender.send(event);
    }

    /// Logs why a client's connection ended, unless it was logged for the same `kind` of reason within the hour.
    pub fn connection_closed(&self, Who { id, client }: Who<'_>, kind: &str, reason: &str) {
        match self.due(format!("closed {id} {kind}"), QUIET_ABOUT_CLIENT) {
            Some(before) => warn!(client, reason, unlogged = before, "connection closed"),
            None => debug!(client, reason, "connection closed"),
        }
    }

    /// Logs that a client's connection ends because the broker cannot be reached: at once if that is news, and then once a
    /// minute, however many clients try.
    pub fn broker_away(&self, client: &str, reason: &str) {
        let told = self.broker.lock().unwrap_or_else(PoisonError::into_inner).note_failure(reason, Instant::now());
        match told {
            Some(0) => warn!(
                reason,
                "no connection to the broker: clients' connections are closed until it is back; keys stay as they are"
            ),
            Some(attempts) => warn!(reason, attempts, "still no connection to the broker"),
            None => debug!(client, reason, "connection closed: the broker is away"),
        }
    }

    /// Logs that the broker can be reached again, if it could not.
    pub fn broker_back(&self) {
        if let Some(away) = self.broker.lock().unwrap_or_else(PoisonError::into_inner).note_success() {
            info!(away_s = away.elapsed().as_secs(), "the broker is back: clients' connections are served again");
        }
    }

    /// Logs something that a client does and that needs nobody's attention, once an hour.
    pub fn note(&self, Who { id, client }: Who<'_>, topic: &str, what: &str) {
        match self.due(format!("{what} {id} {topic}"), QUIET_ABOUT_CLIENT) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_stays_away_is_told_of_once_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut broker = BrokerAway::default();
        assert_eq!(broker.note_success(), None);
        assert_eq!(broker.note_failure("refused", start), Some(0));
        // Two clients that try once a second.
        let told: Vec<(u64, u64)> = (1..130)
            .flat_map(|second| [second, second])
            .filter_map(|second| Some((second, broker.note_failure("refused", at(second))?)))
            .collect();
        assert_eq!(told, [(60, 119), (120, 120)]);
        // Another reason is news, of the same absence.
        assert_eq!(broker.note_failure("timed out", at(131)), Some(0));
        assert_eq!(broker.note_success(), Some(start));
        assert_eq!((broker.note_success(), broker.note_failure("timed out", at(140))), (None, Some(0)));
    }
}
