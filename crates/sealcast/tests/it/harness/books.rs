//! What an application published and what another one got, and whether that is what QoS 1 promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The accounts of a writer and a reader.
#[derive(Default)]
pub struct Books {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How often each message was sent, by its number.
    sent: Vec<u32>,
    acknowledged: usize,
    received: BTreeMap<u32, Received>,
    /// Acknowledged, and not here yet.
    missing: BTreeSet<u32>,
    /// How often the reader had its subscription acknowledged.
    subscribed: usize,
    /// What must not have come.
    wrong: Vec<String>,
    /// Deliveries of what the reader had got before.
    repeats: usize,
    /// Those before this one may be lost: a broker took them that has forgotten all since.
    forgiven_below: u32,
    lost_with_broker: usize,
}

/// Deliveries of one message.
#[derive(Default)]
struct Received {
    /// The reader's latest connection on which it came.
    connection: u32,
    /// How often it came on that one as a first delivery, and as a repeated one.
    deliveries: [u32; 2],
    /// The latest connection on which it was acknowledged, and the agent had read that.
    settled_on: Option<u32>,
    /// On how many connections it was.
    settled: u32,
}

/// What there was at the end.
pub struct Totals {
    pub acknowledged: usize,
    pub received: usize,
    pub sent_again: usize,
    pub repeats: usize,
    pub lost_with_broker: usize,
}

/// Topic and payload of a message: they follow from its number.
pub fn message(number: u32) -> (String, String) {
    let topic = format!("room/{}", ["a", "b/c", "d"][number as usize % 3]);
    let payload = format!("{number} on {topic} {}", "x".repeat(number as usize * 7 % 200));
    (topic, payload)
}

impl Books {
    /// The next message is sent for the first time. Its number.
    pub fn first(&self) -> u32 {
        let mut state = self.state();
        state.sent.push(1);
        u32::try_from(state.sent.len() - 1).unwrap()
    }

    pub fn again(&self, number: u32) {
        self.state().sent[number as usize] += 1;
    }

    pub fn acknowledged(&self, number: u32) {
        let mut state = self.state();
        state.acknowledged += 1;
        if !state.received.contains_key(&number) {
            if number < state.forgiven_below {
                state.lost_with_broker += 1;
            } else {
                state.missing.insert(number);
            }
        }
        self.changed.notify_all();
    }

    pub fn subscribed(&self) {
        self.state().subscribed += 1;
        self.changed.notify_all();
    }

    /// Something came, on this connection of the reader's. Its number, if it is one of the messages.
    pub fn received(&self, topic: &str, payload: &[u8], dup: bool, connection: u32) -> Option<u32> {
        let mut state = self.state();
        let number = std::str::from_utf8(payload).ok().and_then(|text| text.split(' ').next()?.parse::<u32>().ok());
        let is_sent = |number: &u32| {
            let (own_topic, own_payload) = message(*number);
            (*number as usize) < state.sent.len() && own_topic == topic && own_payload.as_bytes() == payload
        };
        let Some(number) = number.filter(is_sent) else {
            let payload = String::from_utf8_lossy(payload);
            state.wrong.push(format!("nobody published on {topic}: {payload:?}"));
            self.changed.notify_all();
            return None;
        };
        let sent = state.sent[number as usize];
        state.missing.remove(&number);
        state.repeats += usize::from(state.received.contains_key(&number));
        let received = state.received.entry(number).or_default();
        if received.connection != connection {
            (received.connection, received.deliveries) = (connection, [0; 2]);
        }
        received.deliveries[usize::from(dup)] += 1;
        let [firsts, repeated] = received.deliveries;
        // A broker may send once more what was not acknowledged, and an agent lets that pass.
        if firsts > sent || firsts + repeated > 2 * sent {
            state.wrong.push(format!(
                "{number} was sent {sent} times, and came {firsts} times and {repeated} with DUP on connection {connection}"
            ));
        }
        self.changed.notify_all();
        Some(number)
    }

    /// The reader's agent has read, on this connection, that the reader acknowledged this message.
    pub fn settled(&self, number: u32, connection: u32) {
        let mut state = self.state();
        let sent = state.sent[number as usize];
        let received = state.received.entry(number).or_default();
        if received.settled_on == Some(connection) {
            return;
        }
        received.settled_on = Some(connection);
        received.settled += 1;
        let settled = received.settled;
        if settled > sent {
            let text = format!("{number} was sent {sent} times, and acknowledged for good on {settled} connections");
            state.wrong.push(text);
            self.changed.notify_all();
        }
    }

    /// The broker has forgotten all that it had, and the reader has subscribed again: what was sent before need not arrive.
    pub fn forgive(&self) {
        let mut state = self.state();
        state.forgiven_below = u32::try_from(state.sent.len()).unwrap();
        let missing = std::mem::take(&mut state.missing);
        state.lost_with_broker += missing.len();
    }

    /// How often the reader had its subscription acknowledged so far.
    pub fn subscriptions(&self) -> usize {
        self.state().subscribed
    }

    /// Waits until it is acknowledged more often than that.
    pub fn until_subscribed(&self, more_than: usize, patience: Duration) -> Result<(), String> {
        self.wait(patience, |state| match state.subscribed > more_than {
            true => Ok(()),
            false => Err("the reader has no subscription".to_owned()),
        })
    }

    /// Waits until so many more are acknowledged.
    pub fn goes_on(&self, more: usize, patience: Duration) -> Result<(), String> {
        let goal = self.state().acknowledged + more;
        self.wait(patience, |state| match state.acknowledged {
            count if count < goal => Err(format!("{count} messages are acknowledged, and no more follow")),
            _ => Ok(()),
        })
    }

    /// Waits until all that was acknowledged when this began has come, and so many more are acknowledged.
    pub fn settle(&self, more: usize, patience: Duration) -> Result<(), String> {
        let expected = self.state().missing.clone();
        self.goes_on(more, patience)?;
        self.wait(patience, |state| {
            let missing: Vec<_> = expected.intersection(&state.missing).take(20).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("acknowledged, and not here: {missing:?}")) }
        })
    }

    pub fn totals(&self) -> Totals {
        let state = self.state();
        Totals {
            acknowledged: state.acknowledged,
            received: state.received.len(),
            sent_again: state.sent.iter().map(|times| *times as usize - 1).sum(),
            repeats: state.repeats,
            lost_with_broker: state.lost_with_broker,
        }
    }

    /// Until `reached`, or something came that must not have come.
    fn wait(&self, patience: Duration, reached: impl Fn(&State) -> Result<(), String>) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        loop {
            if !state.wrong.is_empty() {
                return Err(state.wrong.join("\n"));
            }
            let Err(lacking) = reached(&state) else { return Ok(()) };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("after {patience:?}: {lacking}"));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
