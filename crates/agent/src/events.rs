//! What an agent tells of messages that it did not let through: to its log, and to whoever listens.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sealcast_agent_core::{
    Cause, Weight, Why,
    session::{ClientEvent, Refused},
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::incidents::Kept;

/// The same line is logged at most this often.
const QUIET: Duration = Duration::from_secs(10);
/// The same for why a connection ended, and for what a client goes on doing: it may connect again each second.
const QUIET_ABOUT_CLIENT: Duration = Duration::from_secs(3600);
/// A broker that stays away is told of again after so long.
const REMINDER: Duration = Duration::from_secs(60);
const MAX_LINES: usize = 1024;

/// Where events go.
pub struct Events {
    sender: broadcast::Sender<ClientEvent>,
    said: Mutex<HashMap<String, Said>>,
    broker: Mutex<BrokerAway>,
    incidents: Kept,
    /// How often each cause was met.
    counts: [AtomicU64; Cause::ALL.len()],
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
    /// For the agent of the device in `dir`. Nobody listens yet.
    pub fn new(dir: &Path) -> Self {
        Self {
            sender: broadcast::Sender::new(1024),
            said: Mutex::default(),
            broker: Mutex::default(),
            incidents: Kept::open(dir),
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<ClientEvent> {
        self.sender.subscribe()
    }

    /// How often `cause` was met since the agent was started.
    pub fn count(&self, cause: Cause) -> u64 {
        self.counts.get(cause as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Keeps on disk what was refused, until `stop`.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        self.incidents.keep(stop).await;
    }

    /// The same, at the end.
    pub fn save(&self) {
        self.incidents.save();
    }

    /// Takes note of what the log has of the ledger.
    pub fn alarm(&self, why: &Why) {
        if let Some(count) = self.counts.get(why.cause as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.incidents.note_alarm(why);
    }

    /// Logs what the client with this id met, unless the same was logged a moment ago, and takes note of it.
    pub fn put(&self, id: &str, event: ClientEvent) {
        let ClientEvent { what, client, topic, why } = &event;
        let (code, reason) = (why.cause, &why.text);
        let about = Some(topic).filter(|topic| !topic.is_empty());
        let (what, quiet) = match what {
            Refused::Delivery { .. } => ("delivery refused", QUIET),
            Refused::Deletion => ("retained message deleted", QUIET),
            Refused::Subscription => ("subscription refused", QUIET),
            Refused::Uncovered => ("subscription brings nothing", QUIET_ABOUT_CLIENT),
            Refused::Publish => ("publish refused", QUIET),
            Refused::Connection => ("connection closed", QUIET_ABOUT_CLIENT),
        };
        match code.weight() {
            Weight::Warning => match self.due(what, id, topic, code, quiet) {
                Some(before) => warn!(client, topic = about, %code, reason, unlogged = before, "{what}"),
                None => debug!(client, topic = about, %code, reason, "{what}"),
            },
            // Nothing is wrong, so the line does not say so.
            Weight::Note if self.due(reason, id, topic, code, QUIET_ABOUT_CLIENT).is_some() => {
                info!(client, topic = about, %code, "{reason}");
            }
            Weight::Note | Weight::Routine => debug!(client, topic = about, %code, reason, "{what}"),
        }
        self.note(&event);
        // An error says that nobody listens.
        let _ = self.sender.send(event);
    }

    /// Takes note of what the log has already, or of what the agent met by itself.
    pub fn note(&self, event: &ClientEvent) {
        if let Some(count) = self.counts.get(event.why.cause as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.incidents.note(event);
    }

    /// Logs that a client's connection ends because the broker cannot be reached: at once if that is news, and then once a
    /// minute, however many clients try.
    pub fn broker_away(&self, client: &str, reason: &str) {
        let code = Cause::BrokerAway;
        let told = self.broker.lock().unwrap_or_else(PoisonError::into_inner).note_failure(reason, Instant::now());
        match told {
            Some(0) => warn!(
                %code,
                reason,
                "no connection to the broker: clients' connections are closed until it is back; keys stay as they are"
            ),
            Some(attempts) => warn!(%code, reason, attempts, "still no connection to the broker"),
            None => debug!(client, %code, reason, "connection closed: the broker is away"),
        }
        self.note(&ClientEvent::of_connection(client, Why::new(code, reason)));
    }

    /// Logs that the broker can be reached again, if it could not.
    pub fn broker_back(&self) {
        if let Some(away) = self.broker.lock().unwrap_or_else(PoisonError::into_inner).note_success() {
            info!(away_s = away.elapsed().as_secs(), "the broker is back: clients' connections are served again");
        }
    }

    /// Whether a line may be logged now, and how often it was not since the last time.
    fn due(&self, what: &str, id: &str, topic: &str, code: Cause, quiet: Duration) -> Option<u64> {
        // A connection can end for several causes, each of which is news. Of a topic the first is told: one follows from
        // the other.
        let line = if topic.is_empty() { format!("{what} {id} {code}") } else { format!("{what} {id} {topic}") };
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
