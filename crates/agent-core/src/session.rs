//! One connection of a local MQTT client: what becomes of what it publishes and of what the broker delivers to it, and in
//! what order with the disk.
//!
//! [`Session`] is fed with bytes of both sides and with the time. [`Session::poll`] gives [`Step`]s: what has to be on disk
//! (replay windows, retained messages, readings, what is remembered of values), and the bytes and other effects that
//! depend on it. What becomes of what the client publishes is decided in `publishing`, what of a delivery in
//! `delivering`; whether a message may be sealed or opened at all, in [`Keyring::seal`] and [`Keyring::open`].

mod annotate;
mod batch;
mod connecting;
mod copies;
mod delivering;
mod effect;
mod ending;
mod memory;
mod output;
mod publishing;
mod state;
mod subscribing;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use sealcast_mqtt::{Proxy, ProxyConfig, Version};
use sealcast_seal::QosClass;
use tracing::debug;

use self::state::{Batch, Draining, State, Unsaved, Until, Waiting};
pub use self::{
    annotate::Annotate,
    connecting::{NotOpened, Opened},
    copies::{Copies, FrameId},
    effect::{ClientEvent, Effect, Refused, Write},
    ending::{DRAIN_MS, TAKE_OVER_MS},
    memory::{Memory, Turn},
    state::Settings,
};
use crate::{
    Away, Denied, Keyring, Now, RecordRules, Retained, RetainedTopics, Step, Why,
    values::{Local, MAX_CHECK_BYTES, Restored, ValueRules, Values},
};

/// How long a client may take from opening its connection to CONNECT.
const CONNECT_PATIENCE_MS: u64 = 10_000;
/// What a QoS 0 delivery marked as seen may wait before it is written to disk.
const SAVE_DELAY_MS: u64 = 200;
/// Why a connection ends if nothing can be written.
const DISK_FAILS: &str = "the agent's disk cannot be written";

/// What all sessions of an agent share.
pub struct Shared<'a> {
    /// The ledger's replica and the group keys.
    pub keyring: &'a mut Keyring,
    /// The checks, reports and fail-safes.
    pub values: &'a mut Values,
    /// Topics with a retained message.
    pub retained: &'a mut RetainedTopics,
    /// What goes to the ledger.
    pub record: &'a RecordRules,
    /// The last write to disk failed: what cannot be sealed now is not to be waited for.
    pub disk_fails: bool,
}

/// See the module.
pub struct Session {
    proxy: Proxy,
    settings: Settings,
    /// Until when CONNECT has to come.
    connect_by_ms: u64,
    state: State,
    /// Set once the connection is to end when what the client has sent has gone out.
    draining: Option<Draining>,
    /// The client id; empty until CONNECT, and if the client has none.
    name: String,
    /// The client in the log: its id, the one that the broker gave it, or its address.
    label: String,
    version: Version,
    /// What is remembered of the client; `None` until the session was opened.
    memory: Option<Memory>,
    keep_session: bool,
    /// Until when the client was known to be here, if this connection goes on with what it had.
    seen_ms: Option<u64>,
    /// While it was away, if the broker had kept the session.
    away: Option<Away>,
    /// How often the client was given a message once more on this connection, not having acknowledged it before.
    repeated: HashMap<FrameId, usize>,
    /// Messages that wait for a key, each until its deadline.
    waiting: VecDeque<(Waiting, Until)>,
    /// Messages that are about to be sealed together; none between one call of [`Session::poll`] and the next.
    batch: Option<Batch>,
    unsaved: Unsaved,
    /// What the client is subscribed to is not on disk.
    resubscribed: bool,
    /// The retained will that the broker publishes at once if the client does not take leave.
    will: Option<Retained>,
    /// The broker has accepted the connection, and with it the will.
    accepted: bool,
    /// Values were judged, and what is remembered of them is not yet on disk.
    judged: bool,
    /// The client said that it goes.
    clean: bool,
    /// The client has subscribed, and has not been told what stands.
    greet: bool,
    /// Filters that the client has subscribed to, and of which it is not known yet whether anything can come.
    subscribed: Vec<Box<str>>,
    /// Fixed cycles for this client.
    restored: Option<Restored>,
    writes: Vec<Write>,
    effects: Vec<Effect>,
}

impl Session {
    /// For a client that has just connected.
    pub fn new(settings: Settings, rules: &Arc<ValueRules>, now: Now) -> Self {
        let config = ProxyConfig {
            max_frame_bytes: u32::try_from(settings.max_packet_bytes).unwrap_or(u32::MAX),
            max_waiting_bytes: settings.max_packet_bytes,
            ..ProxyConfig::default()
        };
        // The verdict is sealed too.
        let check = if rules.is_empty() { 0 } else { MAX_CHECK_BYTES };
        let config = ProxyConfig {
            seal_overhead_bytes: config.seal_overhead_bytes + check,
            open_overhead_bytes: config.open_overhead_bytes + check,
            ..config
        };
        Self {
            proxy: Proxy::new(config),
            connect_by_ms: now.run_ms.saturating_add(CONNECT_PATIENCE_MS),
            state: State::New,
            draining: None,
            name: String::new(),
            label: format!("no id, from {}", settings.address),
            version: Version::V311,
            memory: None,
            keep_session: false,
            seen_ms: None,
            away: None,
            repeated: HashMap::new(),
            waiting: VecDeque::new(),
            batch: None,
            unsaved: Unsaved::No,
            resubscribed: false,
            will: None,
            accepted: false,
            judged: false,
            clean: false,
            greet: false,
            subscribed: Vec::new(),
            restored: Restored::new(rules),
            writes: Vec::new(),
            effects: Vec::new(),
            settings,
        }
    }

    /// The client id; empty if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client as a person finds it: its id, the one that the broker gave it, or its address.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its version of MQTT.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Bytes from the client.
    pub fn handle_client(&mut self, bytes: &[u8]) {
        self.proxy.handle_client(bytes);
    }

    /// The client has closed its side.
    pub fn handle_client_eof(&mut self) {
        self.proxy.handle_client_eof();
    }

    /// Bytes from the broker.
    pub fn handle_broker(&mut self, bytes: &[u8]) {
        self.proxy.handle_broker(bytes);
    }

    /// The broker has closed its side.
    pub fn handle_broker_eof(&mut self) {
        self.proxy.handle_broker_eof();
    }

    /// Whether bytes of the client are to be read.
    pub fn wants_client_bytes(&self) -> bool {
        self.proxy.wants_client_bytes()
    }

    /// Whether bytes of the broker are to be read.
    pub fn wants_broker_bytes(&self) -> bool {
        self.proxy.wants_broker_bytes()
    }

    /// A message of the agent's own for its local clients.
    pub fn handle_local(&mut self, message: &Local) {
        inject(&mut self.proxy, self.settings.annotate, message);
    }

    /// Messages of the agent's own were lost, because the client is too slow.
    pub fn handle_local_lost(&mut self) {
        // A fail-safe value may be among them, and is not given a second time.
        self.greet = true;
    }

    /// When [`Self::poll`] has to be called again although nothing came, by [`Now::run_ms`], if the client may be given
    /// `room` more bytes.
    pub fn poll_timeout(&self, now: Now, room: usize) -> Option<u64> {
        let connect = (self.state == State::New && self.waiting.is_empty()).then_some(self.connect_by_ms);
        let save = match self.unsaved {
            Unsaved::By(then_ms) => Some(then_ms),
            Unsaved::No | Unsaved::Now => None,
        };
        let drained = self.draining.map(|draining| draining.until_ms);
        // A client that takes nothing gets no more of them.
        let repeat = self.restored.as_ref().filter(|_| room > 0).and_then(Restored::poll_timeout);
        let repeat = repeat.map(|at_ms| now.run_ms.saturating_add(at_ms.saturating_sub(now.unix_ms)));
        let waiting = self.waiting.iter().map(|(_, until)| until.deadline_ms).min();
        [connect, save, drained, repeat, waiting].into_iter().flatten().min()
    }

    /// Whether a message waits for a key: [`Self::poll`] is to be called when the key ring has changed.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// All that can be done now, as one step; `None` if there is nothing. The client may be given `room` more bytes.
    ///
    /// The last step has [`Effect::Close`].
    pub fn poll(&mut self, shared: &mut Shared<'_>, room: usize, now: Now) -> Option<Step<Write, Effect>> {
        match &self.state {
            State::Closed => return None,
            State::Closing { reason } => {
                let reason = reason.clone();
                return Some(self.close(shared, reason, now));
            }
            State::New if self.waiting.is_empty() && now.run_ms >= self.connect_by_ms => {
                self.give_up("no CONNECT in time");
                return self.poll(shared, room, now);
            }
            State::New | State::Login { .. } | State::Opening { .. } | State::Open => {}
        }
        if let Some(Draining { code, reason, .. }) = self.draining.take_if(|draining| now.run_ms >= draining.until_ms) {
            self.proxy.close(code, reason);
        }
        if let Some(restored) = &mut self.restored {
            for message in restored.due(shared.values.rules(), now.unix_ms, room) {
                inject(&mut self.proxy, self.settings.annotate, &message);
            }
        }
        self.work(shared, now);
        if std::mem::take(&mut self.greet) {
            for message in shared.values.standing() {
                inject(&mut self.proxy, self.settings.annotate, &message);
            }
            self.work(shared, now);
        }
        self.tell_uncovered(shared);
        if std::mem::take(&mut self.judged) {
            self.writes.push(Write::Values);
        }
        if self.unsaved == Unsaved::Now || matches!(self.unsaved, Unsaved::By(then_ms) if now.run_ms >= then_ms) {
            self.save(now);
        }
        let step = self.take_step();
        if !step.is_empty() {
            return Some(step);
        }
        // Its last bytes are on their way: only now the end.
        if self.is_ending() { self.poll(shared, room, now) } else { None }
    }

    /// The writes of the last step failed. Nothing of it has happened, so the connection ends: the broker keeps what was
    /// not acknowledged, and the client sends again what the agent has not acknowledged. `true` if that was the last step.
    pub fn handle_uncommitted(&mut self) -> bool {
        if let Some(memory) = &mut self.memory {
            memory.opener.changes_were_not_stored();
        }
        // Once more when the connection is closed.
        self.resubscribed = self.keep_session;
        if self.unsaved == Unsaved::No {
            self.unsaved = Unsaved::Now;
        }
        if self.state == State::Closed {
            return true;
        }
        self.give_up(DISK_FAILS);
        false
    }

    /// What is remembered of the client, when the connection is over, and whether it has to be kept in memory: because the
    /// client will go on with its session, or because it is not on disk.
    pub fn into_memory(self) -> Option<(Memory, bool)> {
        let keep = self.keep_session || self.unsaved != Unsaved::No;
        self.memory.map(|memory| (memory, keep))
    }

    fn take_step(&mut self) -> Step<Write, Effect> {
        Step::new(std::mem::take(&mut self.writes), std::mem::take(&mut self.effects))
    }

    fn work(&mut self, shared: &mut Shared<'_>, now: Now) {
        for (waiting, until) in std::mem::take(&mut self.waiting) {
            if self.is_ending() {
                return;
            }
            self.attend(shared, waiting, until, now);
        }
        while !self.is_ending() {
            match self.proxy.poll() {
                Some(output) => self.handle_output(shared, output, now),
                // No more messages came: nothing waits for others to be sealed with.
                None if self.batch.is_some() => self.seal_batch(shared, now),
                None => return,
            }
        }
    }

    fn is_ending(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Closed)
    }

    /// Whether nothing more is taken from the client, also where [`sealcast_mqtt::Output::Closed`] is still to be polled.
    fn is_over(&self) -> bool {
        self.is_ending() || self.proxy.is_closed()
    }

    fn attend(&mut self, shared: &mut Shared<'_>, waiting: Waiting, mut until: Until, now: Now) {
        let left = match waiting {
            Waiting::Connect(request) => self.attend_connect(shared, request, &mut until, now),
            Waiting::Publish(publishing) => {
                self.attend_publish(shared, publishing, until, now);
                None
            }
            Waiting::Delivery(delivery) => self.attend_delivery(shared, delivery, &mut until, now),
        };
        if let Some(waiting) = left {
            self.waiting.push_back((waiting, until));
        }
    }

    /// Whether what was denied for now may still come. News of the ledger are waited for only as long as it takes to get
    /// them: a frame that names an epoch which does not exist must not hold up those behind it.
    fn may_wait(&mut self, keyring: &Keyring, denied: &Denied, until: &mut Until, now: Now) -> bool {
        let in_time = now.run_ms < until.deadline_ms;
        match denied {
            Denied::Refused(_) => false,
            Denied::NotYet(_) => in_time,
            Denied::Behind(_) => match until.news {
                None => {
                    until.news = Some(keyring.last_sync());
                    self.effects.push(Effect::AskForNews);
                    in_time
                }
                Some(sync) => in_time && !keyring.is_caught_up_after(sync),
            },
        }
    }

    /// A session that goes on after a restart has to know what it is subscribed to.
    fn handle_resubscribed(&mut self) {
        if self.keep_session {
            self.resubscribed = true;
            self.unsaved = Unsaved::Now;
        }
    }

    /// Has the replay windows written with this step, before anything of it goes out.
    fn save(&mut self, now: Now) {
        self.unsaved = Unsaved::No;
        let Some(memory) = self.memory.as_mut().filter(|_| !self.name.is_empty()) else { return };
        memory.seen_ms = Some(now.unix_ms);
        let changes = memory.opener.changes();
        self.writes.push(Write::Client { id: self.name.clone(), changes, seen_ms: now.unix_ms });
        if std::mem::take(&mut self.resubscribed) {
            let filters = self.proxy.session().subscriptions.granted().map(str::to_owned).collect();
            self.writes.push(Write::Subscriptions { id: self.name.clone(), filters });
        }
    }

    fn give_up(&mut self, reason: &str) {
        // The client goes as it comes: nobody would use what is opened.
        if matches!(self.state, State::Opening { .. }) {
            self.effects.retain(|effect| !matches!(effect, Effect::Open { .. }));
        }
        self.state = State::Closing { reason: reason.to_owned() };
    }

    fn tell(&mut self, what: Refused, topic: &str, why: Why) {
        let (client, topic) = (self.label.clone(), topic.to_owned());
        self.effects.push(Effect::Tell(ClientEvent { what, client, topic, why }));
    }

    fn answered(&mut self, answer: impl FnOnce(&mut Proxy) -> Result<(), sealcast_mqtt::AnswerError>) {
        if let Err(error) = answer(&mut self.proxy) {
            debug!(%error);
        }
    }
}

fn inject(proxy: &mut Proxy, annotate: Annotate, message: &Local) {
    proxy.inject(&message.topic, message.payload.clone(), &annotate.of(&message.properties));
}

/// QoS 1 and 2 messages may wait in queues while QoS 0 ones overtake them: each class has its own order.
fn class(qos: sealcast_mqtt::Qos) -> QosClass {
    match qos {
        sealcast_mqtt::Qos::AtMostOnce => QosClass::AtMostOnce,
        _ => QosClass::Acknowledged,
    }
}
