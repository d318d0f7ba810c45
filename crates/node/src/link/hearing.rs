//! Whether a link hears the hub. A broker may have acknowledged a subscription that is dead: a cluster of which a node was
//! killed keeps the connection up, and brings neither the hub's answers nor what it pushes.
//!
//! What a link sees of that is calls without answers, as when no hub runs, which is far more common. So it asks for its
//! subscriptions again first, and connects again only if that does not help; each time it waits twice as long as before,
//! at most [`MAX_PATIENCE`]. A hub that is away for a night costs a broker four connections of each node in an hour.

use std::time::Duration;

use tokio::time::Instant;

/// How often all filters are asked for again at most.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(60);
/// How long calls stay without an answer after that until the first new connection is made.
const PATIENCE: Duration = Duration::from_secs(30);
/// And how long at most until another one is.
const MAX_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Ask for all filters again on this connection. `first`: calls had answers until now.
    Subscribe { first: bool },
    /// Make another connection. `unheard`: for so long no call had an answer.
    Reconnect { unheard: Duration },
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    unheard: Option<Unheard>,
    /// When all filters were last asked for again.
    subscribed: Option<Instant>,
}

/// Calls have no answers.
#[derive(Debug)]
struct Unheard {
    since: Instant,
    /// Until then this connection is kept.
    reconnect: Instant,
    /// How long the next one is kept at least.
    patience: Duration,
}

impl Hearing {
    /// A new connection has subscribed to all filters.
    pub(super) fn handle_up(&mut self, now: Instant) {
        if let Some(unheard) = &mut self.unheard {
            unheard.reconnect = now + unheard.patience;
            self.subscribed = Some(now);
        }
    }

    /// The hub has answered a call. `true` if the one before had no answer.
    pub(super) fn handle_answered(&mut self) -> bool {
        self.unheard.take().is_some()
    }

    /// A call had no answer, while the connection was up.
    pub(super) fn handle_unanswered(&mut self, now: Instant) -> Option<Remedy> {
        let first = self.unheard.is_none();
        let unheard = self.unheard.get_or_insert(Unheard { since: now, reconnect: now + PATIENCE, patience: PATIENCE });
        if now >= unheard.reconnect {
            unheard.patience = (2 * unheard.patience).min(MAX_PATIENCE);
            // Calls may wait on a connection that is on its way, too.
            unheard.reconnect = now + unheard.patience;
            return Some(Remedy::Reconnect { unheard: now - unheard.since });
        }
        if self.subscribed.is_some_and(|subscribed| now < subscribed + SUBSCRIBE_AGAIN) {
            return None;
        }
        self.subscribed = Some(now);
        Some(Remedy::Subscribe { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Calls without an answer every 10 s until `end`, each new connection up at once. What is done, and when.
    fn unheard(hearing: &mut Hearing, start: Instant, end: u64) -> Vec<(u64, Remedy)> {
        let mut done = Vec::new();
        for at in (0..end).step_by(10) {
            let now = start + s(at);
            let remedy = hearing.handle_unanswered(now);
            if matches!(remedy, Some(Remedy::Reconnect { .. })) {
                hearing.handle_up(now);
            }
            done.extend(remedy.map(|remedy| (at, remedy)));
        }
        done
    }

    fn reconnects(done: &[(u64, Remedy)]) -> Vec<u64> {
        done.iter().filter(|(_, remedy)| matches!(remedy, Remedy::Reconnect { .. })).map(|(at, _)| *at).collect()
    }

    #[test]
    fn it_subscribes_anew_and_then_connects_anew() {
        let (mut hearing, start) = (Hearing::default(), Instant::now());
        hearing.handle_up(start);
        let done = unheard(&mut hearing, start, 40);
        assert_eq!(done, [(0, Remedy::Subscribe { first: true }), (30, Remedy::Reconnect { unheard: s(30) })]);
    }

    /// As if no hub ran: four connections in an hour in the end, and a SUBSCRIBE each minute.
    #[test]
    fn each_connection_is_kept_twice_as_long_up_to_a_quarter_of_an_hour() {
        let (mut hearing, start) = (Hearing::default(), Instant::now());
        let done = unheard(&mut hearing, start, 2 * 3600);
        let at = reconnects(&done);
        let pauses: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!((at[0], &pauses[..6]), (30, &[60, 120, 240, 480, 900, 900][..]));
        assert!(pauses[4..].iter().all(|pause| *pause == 900));
        let subscribed = done.iter().filter(|(_, remedy)| matches!(remedy, Remedy::Subscribe { .. }));
        let times: Vec<u64> = subscribed.map(|(at, _)| *at).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{times:?}");
        assert!(!done.iter().skip(1).any(|(_, remedy)| *remedy == Remedy::Subscribe { first: true }));
    }

    #[test]
    fn an_answer_ends_it_and_the_next_time_begins_anew() {
        let (mut hearing, start) = (Hearing::default(), Instant::now());
        assert!(!hearing.handle_answered());
        assert_eq!(reconnects(&unheard(&mut hearing, start, 300)), [30, 90, 210]);
        assert!(hearing.handle_answered() && !hearing.handle_answered());
        assert_eq!(reconnects(&unheard(&mut hearing, start + s(1000), 100)), [30, 90]);
    }

    /// A hub that is slow now and then.
    #[test]
    fn calls_of_which_some_are_answered_cost_a_subscribe_each_minute_at_most() {
        let (mut hearing, start) = (Hearing::default(), Instant::now());
        let mut times = Vec::new();
        for at in (0..600).step_by(10) {
            match hearing.handle_unanswered(start + s(at)) {
                Some(Remedy::Subscribe { .. }) => times.push(at),
                other => assert_eq!(other, None),
            }
            hearing.handle_answered();
        }
        assert_eq!(times, (0..600).step_by(60).collect::<Vec<_>>());
    }

    /// The connection may be away for long after it was given up, and what waits there says nothing of the next one.
    #[test]
    fn the_time_of_a_connection_begins_when_it_is_up() {
        let (mut hearing, start) = (Hearing::default(), Instant::now());
        assert_eq!(reconnects(&unheard(&mut hearing, start, 40)), [30]);
        hearing.handle_up(start + s(500));
        assert_eq!(hearing.handle_unanswered(start + s(559)), None);
        let reconnect = hearing.handle_unanswered(start + s(560));
        assert_eq!(reconnect, Some(Remedy::Reconnect { unheard: s(560) }));
    }
}
