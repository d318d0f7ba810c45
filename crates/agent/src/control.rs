//! Drives the control plane of an agent ([`Control`]): what the connection to the hub brings goes in, what comes out is
//! written and then done.
//!
//! One task owns it. What takes time (a call to the hub) runs beside it and comes back as an [`Input`].

mod commit;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use sealcast_agent_core::{
    Cause, SyncId, Why,
    control::{Control, Effect, Input, KeptMessages, KeysSeen, Question, Submitted},
    values::{Brought, Unsent},
};
use sealcast_ledger::{Anchor, Body, GroupNumber, Record, Replica, SignedEntry};
use sealcast_ledger_client::{
    ChannelError, Head, KeptPage, KeptQuery, NetworkLedger, NodeError, RemoteLedger, SubmitError,
};
use sealcast_node::{HubChannel, Link, LinkEvent, Tasks, now_ms, upstream::Upstream};
use sealcast_topic::is_control;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{data::DataPlane, events::Events, readings::Readings, store::Store, values::Values};

/// The longest sleep: the wall clock, by which the control plane waits, may be set back meanwhile.
const TICK: Duration = Duration::from_secs(1);
/// Events that wait and are handled together, so that what they change is written at once.
const MAX_TOGETHER: usize = 64;

/// That no hub answers is told again after so long.
const TELL_SILENT: Duration = Duration::from_secs(60);

/// What a call to the hub came to.
struct Done {
    input: Input,
    hub: Hub,
}

/// What a call says of the hub.
enum Hub {
    Answers,
    /// Nobody answers, for this reason.
    Silent(String),
    /// Nothing: the broker is away, or somebody else was called.
    Away,
}

impl Hub {
    fn by<T>(outcome: &Result<T, NodeError>) -> Self {
        outcome.as_ref().err().map_or(Self::Answers, Self::of)
    }

    fn of(error: &NodeError) -> Self {
        let NodeError::Transport { source, .. } = error else { return Self::Answers };
        match source.downcast_ref() {
            Some(error @ (ChannelError::Timeout { .. } | ChannelError::Unanswered(_))) => {
                Self::Silent(error.to_string())
            }
            _ => Self::Away,
        }
    }
}

/// What the control task reaches.
pub struct Parts {
    /// What the clients' connections use.
    pub data: Arc<DataPlane>,
    /// The disk.
    pub store: Arc<Store>,
    /// Values that need no client.
    pub values: Arc<Values>,
    /// What waits for the ledger beside the groups' entries.
    pub readings: Arc<Readings>,
    /// The broker.
    pub link: Link,
    /// Where it is.
    pub upstream: Upstream,
    /// The ledger, by the hub.
    pub ledger: RemoteLedger<HubChannel>,
    /// The ledger, by the endpoints of its network, if the agent reads it there.
    pub network: Option<Arc<NetworkLedger>>,
    /// What is told of the ledger, too.
    pub events: Arc<Events>,
    /// What was broadcast.
    pub keys_seen: Arc<Mutex<KeysSeen>>,
    /// New certificates of this device.
    pub renewed: mpsc::Receiver<Input>,
    /// What runs beside the control task.
    pub tasks: Tasks,
}

/// Records that are asked for before their turn: the hub reads them while this device verifies those before.
struct Ahead {
    from: u64,
    records: oneshot::Receiver<Vec<Record>>,
}

/// See the module.
pub struct Driver {
    control: Control,
    parts: Parts,
    stop: CancellationToken,
    /// What calls to the hub came to.
    done: mpsc::UnboundedSender<Done>,
    /// Whether the broker was ever reached.
    was_up: bool,
    /// Whether the hub has answered the last call, on this connection.
    hub_answers: bool,
    /// When it was told that it does not.
    told_silent: Option<Instant>,
    results: mpsc::UnboundedReceiver<Done>,
    ahead: Option<Ahead>,
}

impl Driver {
    /// Does what is to be done at the start: among other things the data plane gets all epochs that are kept. Before that no
    /// client may seal or open anything, because an old epoch would look like the current one.
    pub async fn start(control: Control, parts: Parts) -> Result<Self> {
        let (done, results) = mpsc::unbounded_channel();
        let stop = parts.tasks.stop().clone();
        let mut driver = Self {
            control,
            parts,
            stop,
            done,
            was_up: false,
            hub_answers: false,
            told_silent: None,
            results,
            ahead: None,
        };
        driver.settle().await?;
        Ok(driver)
    }

    /// Runs until the agent ends. Fails only if the disk does.
    pub async fn run(mut self, mut events: mpsc::Receiver<LinkEvent>) -> Result<()> {
        let Parts { data, readings, .. } = &self.parts;
        let (data, readings, stop) = (data.clone(), readings.clone(), self.stop.clone());
        let series = readings.series().clone();
        loop {
            let next = Duration::from_millis(self.control.poll_timeout().saturating_sub(now_ms())).min(TICK);
            tokio::select! {
                // What the broker keeps was sent before the ledger's last answer, and is judged before it: it may show that
                // the folder is an old copy, and with that answer clients may seal again.
                biased;
                () = stop.cancelled() => return Ok(()),
                event = events.recv() => {
                    let Some(event) = event else { return Ok(()) };
                    self.handle_event(event).await?;
                    for _ in 1..MAX_TOGETHER {
                        let Ok(event) = events.try_recv() else { break };
                        self.handle_event(event).await?;
                    }
                }
                Some(done) = self.results.recv() => self.handle_done(done),
                Some(renewed) = self.parts.renewed.recv() => self.control.handle(renewed),
                () = series.news() => self.control.handle(Input::SeriesChanged),
                () = readings.news() => self.control.handle(Input::ReadingQueued),
                () = data.news_wanted() => self.control.handle(Input::NewsWanted),
                () = tokio::time::sleep(next) => {}
            }
            self.settle().await?;
        }
    }

    async fn handle_event(&mut self, event: LinkEvent) -> Result<()> {
        match event {
            LinkEvent::Up => {
                (self.was_up, self.hub_answers) = (true, false);
                self.control.handle(Input::Up);
                self.parts.values.with(|values| values.link_up());
            }
            LinkEvent::Down(reason) => {
                self.parts.data.set_hub_answers(false);
                match self.was_up {
                    true => {
                        warn!(reason, "no control connection to the hub: the agent keeps its keys and connects again")
                    }
                    false => warn!(reason, "no control connection to the hub yet: the agent tries again"),
                }
                self.control.handle(Input::Down);
            }
            LinkEvent::Taken { topic } if is_control(&topic) => self.control.handle(Input::Taken { topic }),
            LinkEvent::Taken { .. } => {}
            LinkEvent::Refused { topic, reason } if is_control(&topic) => {
                self.control.handle(Input::Refused { topic, reason });
            }
            LinkEvent::Refused { .. } => self.parts.values.with(|values| values.link_refused()),
            LinkEvent::Message { topic, payload, .. } if is_control(&topic) => {
                self.control.handle(Input::Message { topic, payload });
            }
            LinkEvent::Message { topic, payload, retain, dup } => {
                // What came before it may be its key.
                self.settle().await?;
                self.parts.values.brought(&self.parts.data, Brought { topic, payload, retain, dup });
            }
        }
        Ok(())
    }

    /// A connection to the broker is none to the hub: the hub has to answer.
    fn handle_done(&mut self, Done { input, hub }: Done) {
        match hub {
            Hub::Answers if !self.hub_answers => {
                info!("the control connection to the hub is up");
                (self.hub_answers, self.told_silent) = (true, None);
                self.parts.data.set_hub_answers(true);
                self.ask_height();
            }
            Hub::Answers | Hub::Away => {}
            Hub::Silent(reason) => {
                self.hub_answers = false;
                self.parts.data.set_hub_answers(false);
                if self.told_silent.is_none_or(|told| told.elapsed() >= TELL_SILENT) {
                    self.told_silent = Some(Instant::now());
                    warn!(
                        reason,
                        "connected to the broker at {}, but no hub answers on it: is the hub running, with `[broker] url` of \
                         this broker in hub.toml if it is not the hub's own?",
                        self.parts.upstream
                    );
                }
            }
        }
        self.control.handle(input);
    }

    /// Has the control plane act on what it was told, step by step.
    async fn settle(&mut self) -> Result<()> {
        loop {
            let mut keyring = &*self.parts.data;
            let step = self.control.poll(&mut keyring, now_ms())?;
            self.parts.data.take_alarms().iter().for_each(|why| self.parts.events.alarm(why));
            let Some(step) = step else { return Ok(()) };
            let committed =
                commit::commit(&self.parts.store, &self.stop, step, || self.parts.data.keyring().stall()).await?;
            committed.effects.into_iter().try_for_each(|effect| self.perform(effect))?;
            if committed.waited {
                self.control.handle(Input::Resumed);
            }
        }
    }

    fn perform(&mut self, effect: Effect) -> Result<()> {
        let Parts { data, store, keys_seen, .. } = &self.parts;
        match effect {
            Effect::Publish { topic, payload } => self.publish(&topic, payload),
            Effect::Ask { sync, from, most } => self.ask(sync, from, most),
            Effect::AskKept { question, after, have } => self.ask_kept(question, KeptQuery { after, have }),
            Effect::Submit(entry) => self.submit(entry),
            Effect::ListSeries => {
                let series = self.parts.readings.series().list(|| store.series())?;
                self.control.handle(Input::Series(series));
            }
            Effect::ListReadings => self.control.handle(Input::Readings(store.oldest_readings()?)),
            Effect::InsertEpoch(keys) => data.insert_epoch(&keys, now_ms()),
            Effect::HoldEpoch { group, on_ledger } => data.hold_epoch(group, on_ledger),
            Effect::Leave { group, reason } => data.leave(group, &reason),
            Effect::SealRetained(group) => self.seal_retained_again(group),
            Effect::KeysSeen { device, key_package } => {
                keys_seen.lock().unwrap_or_else(PoisonError::into_inner).note(device, key_package);
            }
            Effect::Notice { device, group, notice } => {
                let device = device.map(|device| device.to_string());
                warn!(group, device, "{notice}");
            }
        }
        Ok(())
    }

    fn ask(&mut self, sync: SyncId, from: u64, most: usize) {
        if let Some(network) = &self.parts.network {
            return self.ask_network(network.clone(), sync, from, most);
        }
        let (ledger, done) = (self.parts.ledger.clone(), self.done.clone());
        let next = from + most as u64;
        let (early, records) = oneshot::channel();
        let before = self.ahead.replace(Ahead { from: next, records }).filter(|ahead| ahead.from == from);
        self.parts.tasks.beside("a call to the ledger", async move {
            let known = match before {
                Some(ahead) => ahead.records.await.ok(),
                None => None,
            };
            let answer = match known {
                Some(records) => Ok(records),
                None => ledger.records(from, most).await,
            };
            let hub = Hub::by(&answer);
            let is_full = answer.as_ref().is_ok_and(|records| records.len() == most);
            let answer = answer.map_err(|error| format!("{:#}", anyhow::Error::new(error)));
            let _ = done.send(Done { input: Input::Records { sync, answer }, hub });
            // That there are none yet is no answer to a question that is asked later.
            if is_full
                && let Ok(records) = ledger.records(next, most).await
                && !records.is_empty()
            {
                let _ = early.send(records);
            }
        });
    }

    /// How far the hub's ledger is, once for each connection. Who reads the network does not depend on it.
    fn ask_height(&self) {
        if self.parts.network.is_some() {
            return;
        }
        let (ledger, done) = (self.parts.ledger.clone(), self.done.clone());
        self.parts.tasks.beside("a question for the ledger's height", async move {
            if let Ok(Head { height, hash: head }) = ledger.head().await {
                let _ = done.send(Done { input: Input::HubLedger { height, head }, hub: Hub::Away });
            }
        });
    }

    fn ask_network(&self, network: Arc<NetworkLedger>, sync: SyncId, from: u64, most: usize) {
        let (data, done, events) = (self.parts.data.clone(), self.done.clone(), self.parts.events.clone());
        self.parts.tasks.beside("a question to the ledger's network", async move {
            let verified = |records: &[Record]| {
                let mut replica = data.with_replica(Replica::clone);
                records.iter().take_while(|record| replica.apply(record).is_ok()).count()
            };
            let was_parted = network.parted().is_some();
            let answer = network.records(from, most, now_ms(), verified).await;
            if let Some(index) = network.parted().filter(|_| !was_parted) {
                let what =
                    format!("the endpoints of the ledger's network show different ledgers from entry {index} on");
                events.alarm(&Why::new(Cause::LedgerParted, what));
            }
            let here = data.with_replica(|replica| *replica.current_id());
            let answer = match answer {
                Ok(records) if records.is_empty() && network.id() != here => Err(network.note_left(here)),
                answer => answer.map_err(|error| format!("{:#}", anyhow::Error::new(error))),
            };
            let _ = done.send(Done { input: Input::Records { sync, answer }, hub: Hub::Away });
        });
    }

    fn ask_kept(&self, question: Question, query: KeptQuery) {
        let (ledger, done) = (self.parts.ledger.clone(), self.done.clone());
        self.parts.tasks.beside("a call to the hub", async move {
            let answer = ledger.kept(&query).await;
            let hub = Hub::by(&answer);
            let answer = match answer {
                Ok(KeptPage { messages, next, more, lacks }) => {
                    let messages = messages.into_iter().map(|(topic, payload)| (topic, payload.0)).collect();
                    Ok(KeptMessages { messages, next, more, lacks })
                }
                Err(error) => Err(format!("{:#}", anyhow::Error::new(error))),
            };
            let _ = done.send(Done { input: Input::Kept { question, answer }, hub });
        });
    }

    fn submit(&self, entry: Box<SignedEntry>) {
        let (ledger, done) = (self.parts.ledger.clone(), self.done.clone());
        self.parts.tasks.beside("a call to the ledger", async move {
            let submitted = ledger.submit(&entry).await;
            let hub = match &submitted {
                Err(SubmitError::Node(error)) => Hub::of(error),
                _ => Hub::Answers,
            };
            let submitted = match submitted {
                Ok(record) => {
                    if let Body::Anchor(Anchor { group, count, .. }) = record.entry.body() {
                        let entry = record.index;
                        info!(%group, entry, "what was sent can be proven up to message {count}: it is anchored on the ledger");
                    }
                    Submitted::Taken(Box::new(record))
                }
                Err(SubmitError::Refused(refusal)) => Submitted::Refused(refusal),
                Err(SubmitError::Rejected { reason }) => Submitted::Rejected(reason),
                Err(SubmitError::Busy { reason, wait_ms }) => Submitted::Later { reason, wait_ms },
                Err(error) => Submitted::Failed(format!("{:#}", anyhow::Error::new(error))),
            };
            let _ = done.send(Done { input: Input::Submitted(submitted), hub });
        });
    }

    fn seal_retained_again(&mut self, group: GroupNumber) {
        match self.parts.data.seal_retained_again(group, |topic, frame| self.publish(topic, frame.payload)) {
            // Refused: this device is no longer a member.
            Ok(Ok(()) | Err(Unsent::Refused(_))) => {}
            Ok(Err(Unsent::NotYet(_) | Unsent::NoKeyYet(_))) => self.control.handle(Input::NotSealed(group)),
            Err(error) => warn!(%group, "retained messages could not be sealed under the new epoch: {error:#}"),
        }
    }

    /// Publishes retained. The link never waits: it may itself be waiting for this task.
    fn publish(&self, topic: &str, payload: Vec<u8>) {
        if let Err(error) = self.parts.link.publish(topic, true, payload) {
            debug!(%error, "not published");
        }
    }
}
