//! When to ping, and when the server is given up (MQTT 5 3.1.2.10).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The clock of one connection. `R` are the tokens of the caller's own pings.
pub(super) struct KeepAlive<R> {
    /// `None`: no pings of our own.
    interval: Option<Duration>,
    patience: Duration,
    sent: Instant,
    heard: Instant,
    /// Without their answer, in order, with the time they were asked.
    pings: VecDeque<(Instant, Option<R>)>,
    /// How many of them, the last ones, wait to be sent.
    unsent: usize,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    GiveUp,
}

impl<R> KeepAlive<R> {
    /// Pings after three quarters of the keep alive, so that the server never waits for as long as it may.
    pub(super) fn new(keep_alive_s: u16, patience: Duration, now: Instant) -> Self {
        let interval = Duration::from_secs(keep_alive_s.into()) * 3 / 4;
        let interval = Some(interval).filter(|interval| !interval.is_zero());
        Self { interval, patience, sent: now, heard: now, pings: VecDeque::new(), unsent: 0 }
    }

    pub(super) fn note_sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Whatever comes shows that the server lives.
    pub(super) fn note_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    pub(super) fn pings(&self) -> usize {
        self.pings.len()
    }

    /// A PINGREQ is to be sent.
    pub(super) fn note_ping(&mut self, token: Option<R>, now: Instant) {
        self.pings.push_back((now, token));
        self.unsent += 1;
    }

    /// The first PINGREQ that waited to be sent has left.
    pub(super) fn note_ping_sent(&mut self) {
        self.unsent = self.unsent.saturating_sub(1);
    }

    /// A PINGRESP has come; `None` if it answers no ping, else the ping's token.
    pub(super) fn note_pong(&mut self) -> Option<Option<R>> {
        let (_, token) = if self.pings.len() > self.unsent { self.pings.pop_front() } else { None }?;
        Some(token)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.pings.front() {
            Some((asked, _)) => Some(self.heard.max(*asked) + self.patience),
            // Also while only one side speaks: a connection that is dead swallows what is sent for long.
            None => self.interval.map(|interval| self.heard.min(self.sent) + interval),
        }
    }

    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return None;
        }
        Some(if self.pings.is_empty() { Due::Ping } else { Due::GiveUp })
    }
}
