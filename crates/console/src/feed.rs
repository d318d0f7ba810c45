//! The live feed: a ring of the newest events, which each reader walks at its own pace.
//!
//! Nothing is queued for a reader. Where the ring has gone on without it, or where it asks for events that another process
//! made, it gets the event `reset`, and loads everything again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::response::sse;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::model::{FeedEvent, RESET};

/// Events that are kept.
const MAX_EVENTS: usize = 4096;
/// Bytes of them.
const MAX_BYTES: usize = 8 << 20;
/// Events that a reader takes at a time.
const BATCH: usize = 64;
/// How often a reader that gets nothing is asked whether it may go on.
const CHECK: Duration = Duration::from_secs(5);

/// An event.
#[derive(Debug)]
struct Event {
    id: u64,
    name: &'static str,
    data: String,
}

/// See the module.
pub struct Feed {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

struct Ring {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    newest: u64,
}

impl Feed {
    /// An empty one. Its ids are greater than those of any that began earlier.
    pub fn new(now_ms: u64) -> Self {
        let newest = now_ms.saturating_mul(1000);
        let ring = Ring { events: VecDeque::new(), bytes: 0, newest };
        Self { ring: Mutex::new(ring), newest: watch::Sender::new(newest) }
    }

    /// Adds an event.
    pub fn push(&self, event: &FeedEvent) {
        let name = event.name();
        let data = match event.data() {
            Ok(data) => data,
            Err(error) => return error!(name, %error, "an event of the console could not be written"),
        };
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.newest += 1;
        ring.bytes += data.len();
        let id = ring.newest;
        ring.events.push_back(Arc::new(Event { id, name, data }));
        while ring.events.len() > MAX_EVENTS || ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.events.pop_front() else { break };
            ring.bytes -= oldest.data.len();
        }
        self.newest.send_replace(id);
    }

    /// The newest event's id.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// The next events behind `last`; `None` if some of them are gone, or it is no event of this feed.
    fn after(&self, last: u64) -> Option<Vec<Arc<Event>>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let first = ring.newest - ring.events.len() as u64;
        let skip = usize::try_from(last.checked_sub(first)?).ok()?;
        (last <= ring.newest).then(|| ring.events.iter().skip(skip).take(BATCH).cloned().collect())
    }

    /// The events behind `last`, or from now on, while `lives` and until `stop`.
    pub fn read(
        self: Arc<Self>,
        last: Option<u64>,
        stop: CancellationToken,
        lives: impl Fn() -> bool,
    ) -> impl Stream<Item = Result<sse::Event, axum::Error>> {
        let reader =
            Reader { last: last.unwrap_or_else(|| self.newest()), changes: self.newest.subscribe(), feed: self, stop };
        stream::unfold((reader, VecDeque::new(), lives), |(mut reader, mut waiting, lives)| async move {
            if waiting.is_empty() {
                waiting = reader.next(&lives).await?;
            }
            let event = waiting.pop_front()?;
            Some((Ok(event), (reader, waiting, lives)))
        })
    }
}

struct Reader {
    feed: Arc<Feed>,
    last: u64,
    changes: watch::Receiver<u64>,
    stop: CancellationToken,
}

impl Reader {
    async fn next(&mut self, lives: &impl Fn() -> bool) -> Option<VecDeque<sse::Event>> {
        loop {
            if self.stop.is_cancelled() || !lives() {
                return None;
            }
            self.changes.mark_unchanged();
            match self.feed.after(self.last) {
                None => {
                    self.last = self.feed.newest();
                    return Some(VecDeque::from([event(self.last, RESET, "{}")]));
                }
                Some(events) if !events.is_empty() => {
                    self.last = events.last().map_or(self.last, |event| event.id);
                    return Some(events.iter().map(|it| event(it.id, it.name, &it.data)).collect());
                }
                Some(_) => {
                    // Late is as good as an event: it is looked whether the reader may go on.
                    let change = tokio::time::timeout(CHECK, self.changes.changed());
                    let _ = self.stop.run_until_cancelled(change).await;
                }
            }
        }
    }
}

fn event(id: u64, name: &str, data: &str) -> sse::Event {
    sse::Event::default().id(id.to_string()).event(name).data(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::{Outcome, OutcomeState};

    fn outcome(text: String) -> FeedEvent {
        FeedEvent::Action(Outcome { id: String::new(), state: OutcomeState::Done, text })
    }

    fn ids(events: Option<Vec<Arc<Event>>>) -> Option<Vec<u64>> {
        events.map(|events| events.iter().map(|event| event.id).collect())
    }

    #[test]
    fn a_reader_resumes_where_it_was_or_is_told_that_it_cannot() {
        let feed = Feed::new(0);
        assert_eq!(ids(feed.after(0)), Some(vec![]));
        for at in 0..3 {
            feed.push(&outcome(at.to_string()));
        }
        assert_eq!(ids(feed.after(0)), Some(vec![1, 2, 3]));
        assert_eq!(ids(feed.after(2)), Some(vec![3]));
        assert_eq!(ids(feed.after(3)), Some(vec![]));
        assert_eq!(ids(feed.after(4)), None, "of another process");
        for at in 0..MAX_EVENTS {
            feed.push(&outcome(at.to_string()));
        }
        assert_eq!(ids(feed.after(2)), None, "gone");
        assert_eq!(ids(feed.after(3)).map(|ids| ids[0]), Some(4));
        assert!(Feed::new(1).after(4).is_none(), "the next process has greater ids");
    }

    #[test]
    fn the_ring_is_bounded_in_bytes() {
        let feed = Feed::new(0);
        let long = outcome("x".repeat(MAX_BYTES / 4));
        for _ in 0..8 {
            feed.push(&long);
        }
        let ring = feed.ring.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(ring.bytes <= MAX_BYTES && ring.events.len() == 3, "{}", ring.events.len());
    }
}
