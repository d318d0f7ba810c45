//! The control plane of an agent: its ledger replica, its groups, and what they say to the broker and the ledger.
//!
//! One task owns it all. What takes time (a call to the hub) runs beside it and comes back as a [`Done`].

mod outbox;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use sealcast_agent_core::SyncId;
use sealcast_group::{Groups, Output};
use sealcast_identity::{DeviceId, SigningKey};
use sealcast_ledger::{Body, GroupNumber, Hash, Number, Reading, ReadingTopic, Record, Refusal};
use sealcast_ledger_client::{RemoteLedger, SubmitError};
use sealcast_node::{Link, LinkEvent, Tasks, now_ms};
use sealcast_topic::{ControlTopic, is_control};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::outbox::Outbox;
use super::{
    data::DataPlane,
    readings::{Queued, Readings},
    store::Store,
    values::{Brought, Values},
};

/// Records asked for at a time.
const PAGE: usize = 256;
/// Events that wait and are handled together, so that what they change is written at once.
const MAX_TOGETHER: usize = 64;
/// A call that failed for a passing reason is made again after so long.
const RETRY: Duration = Duration::from_millis(500);
/// The ledger is asked for news at least this often, should a push have been lost.
const REFRESH: Duration = Duration::from_secs(15);
/// The agent looks after its groups at least this often.
const TICK: Duration = Duration::from_secs(1);
/// The same complaint is not repeated sooner.
const QUIET: Duration = Duration::from_secs(10);
/// Key broadcasts of so many devices are remembered.
const MAX_KEYS_SEEN: usize = 65_536;

/// SHA-256 of the key package that each device broadcasts, as seen on MQTT.
pub type KeysSeen = Arc<Mutex<BTreeMap<DeviceId, Hash>>>;

/// The control plane's parts.
pub struct Control {
    /// This device.
    pub device: DeviceId,
    /// Its number on the ledger.
    pub number: Number,
    /// Its key, for ledger entries.
    pub key: Arc<SigningKey>,
    /// Its groups.
    pub groups: Groups,
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
    /// The ledger, over the broker.
    pub ledger: RemoteLedger<Link>,
    /// What was broadcast.
    pub keys_seen: KeysSeen,
    /// What the groups wanted before the agent opened its door.
    pub early: VecDeque<Output>,
    /// What runs beside the control task.
    pub tasks: Tasks,
}

/// Something that ran beside the control task.
enum Done {
    Synced(SyncId, Result<Vec<Record>, String>),
    Submitted(Result<Box<Record>, Box<SubmitError>>),
}

struct Loop {
    parts: Control,
    done: mpsc::UnboundedSender<Done>,
    up: bool,
    syncing: bool,
    /// The ledger has news that the sync under way may have missed.
    stale: bool,
    submissions: VecDeque<Body>,
    submitting: bool,
    /// What is being submitted is a reading, not the first of `submissions`.
    submitting_reading: bool,
    /// Topics whose readings the ledger would not take now: the log says why, once.
    held: BTreeSet<ReadingTopic>,
    retry_at: Option<Instant>,
    refresh_at: Instant,
    outbox: Outbox,
    /// Groups whose retained messages have to be sealed again.
    reseal: BTreeSet<GroupNumber>,
    complained_at: Option<Instant>,
    /// What was to be done before the agent opened its door.
    early: VecDeque<Output>,
}

impl Control {
    /// Runs until `stop`. Fails only if the disk does.
    pub async fn run(mut self, mut events: mpsc::Receiver<LinkEvent>, stop: CancellationToken) -> Result<()> {
        let early = std::mem::take(&mut self.early);
        let (done, mut results) = mpsc::unbounded_channel();
        let data = self.data.clone();
        let mut control = Loop {
            parts: self,
            done,
            up: false,
            syncing: false,
            stale: false,
            submissions: VecDeque::new(),
            submitting: false,
            submitting_reading: false,
            held: BTreeSet::new(),
            retry_at: None,
            refresh_at: Instant::now() + REFRESH,
            outbox: Outbox::default(),
            reseal: BTreeSet::new(),
            complained_at: None,
            early,
        };
        let readings = control.parts.readings.clone();
        control.drain().await?;
        control.look_back();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                event = events.recv() => match event {
                    Some(event) => {
                        let mut waiting = vec![event];
                        while waiting.len() < MAX_TOGETHER && let Ok(event) = events.try_recv() {
                            waiting.push(event);
                        }
                        control.handle_events(waiting)?;
                    }
                    None => return Ok(()),
                },
                Some(result) = results.recv() => control.handle_done(result)?,
                () = readings.news() => if control.retry_at.is_none() {
                    control.submit_next()?;
                },
                () = data.news_wanted() => control.sync(),
                () = tokio::time::sleep_until(control.wake()) => control.handle_timeout()?,
            }
            control.drain().await?;
            control.look_back();
        }
    }
}

impl Loop {
    fn wake(&self) -> Instant {
        let now = Instant::now();
        let groups =
            self.parts.groups.poll_timeout().map(|at_ms| now + Duration::from_millis(at_ms.saturating_sub(now_ms())));
        [groups, self.retry_at, self.outbox.poll_timeout(), Some(self.refresh_at)]
            .into_iter()
            .flatten()
            .fold(now + TICK, Instant::min)
    }

    fn handle_timeout(&mut self) -> Result<()> {
        let (now, time_ms) = (Instant::now(), now_ms());
        self.publish_retained_again();
        self.publish_refused_again();
        if self.parts.groups.poll_timeout().is_some_and(|at_ms| at_ms <= time_ms) {
            self.parts.groups.handle_timeout(&self.parts.data.replica(), time_ms);
        }
        for group in self.parts.data.worn_out() {
            self.parts.groups.request_update(&self.parts.data.replica(), group, time_ms);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.sync();
            self.submit_next()?;
        }
        if self.refresh_at <= now {
            self.refresh_at = now + REFRESH;
            self.sync();
            self.submit_next()?;
        }
        Ok(())
    }

    /// Events in their order; ledger records that come one behind the other are taken together.
    fn handle_events(&mut self, events: Vec<LinkEvent>) -> Result<()> {
        let mut records = Vec::new();
        for event in events {
            match event {
                LinkEvent::Message { topic, payload, .. } if is_ledger(&topic) => match Record::decode(&payload) {
                    Ok(record) => records.push(record),
                    Err(error) => warn!(%error, "the hub pushed a ledger record that cannot be read: it is ignored"),
                },
                event => {
                    self.handle_records(std::mem::take(&mut records))?;
                    self.handle_link(event)?;
                }
            }
        }
        self.handle_records(records)
    }

    fn handle_link(&mut self, event: LinkEvent) -> Result<()> {
        match event {
            LinkEvent::Up => {
                info!("the control connection to the hub is up");
                self.up = true;
                self.sync();
                self.publish_again();
                self.parts.values.link_up();
                self.submit_next()?;
            }
            LinkEvent::Down(reason) => {
                warn!(reason, "the control connection to the hub is lost: the agent keeps its keys and connects again");
                self.up = false;
                self.parts.groups.set_live(&self.parts.data.replica(), false, now_ms());
            }
            LinkEvent::Refused { topic, reason } if is_control(&topic) => {
                self.outbox.handle_refused(&topic, &reason, Instant::now());
                self.tell_undelivered();
            }
            LinkEvent::Refused { .. } => self.parts.values.link_refused(),
            LinkEvent::Message { topic, payload, .. } if is_control(&topic) => {
                self.handle_message(&topic, &payload);
            }
            LinkEvent::Message { topic, payload, retain, dup } => {
                self.parts.values.brought(&self.parts.data, Brought { topic, payload, retain, dup });
            }
        }
        Ok(())
    }

    fn handle_message(&mut self, topic: &str, payload: &Bytes) {
        let now = now_ms();
        match ControlTopic::parse(topic) {
            Some(ControlTopic::Keys { device }) => {
                let Ok(device) = device.parse::<DeviceId>() else { return };
                self.see_keys(&device, payload);
                self.parts.groups.handle_keys(&self.parts.data.replica(), &device, payload, now);
            }
            Some(ControlTopic::Inbox { group, .. }) => {
                let Ok(group) = group.parse::<GroupNumber>() else { return };
                self.parts.groups.handle_inbox(&self.parts.data.replica(), group, payload, now);
            }
            _ => {}
        }
    }

    /// Notes which key package a device broadcasts: `u32 length || KeyPackage || certificates`.
    fn see_keys(&self, device: &DeviceId, payload: &[u8]) {
        let key_package = payload
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?));
        let mut seen = self.parts.keys_seen.lock().unwrap_or_else(PoisonError::into_inner);
        match key_package {
            Some(key_package) if seen.len() < MAX_KEYS_SEEN || seen.contains_key(device) => {
                seen.insert(device.clone(), Hash::of(key_package));
            }
            _ => {
                seen.remove(device);
            }
        }
    }

    /// Checks records in their order and acts on those that are new. The groups take each before the replica takes the
    /// next. They are stored together, before anything comes of them.
    fn handle_records(&mut self, records: Vec<Record>) -> Result<()> {
        let mut taken: Vec<Record> = Vec::with_capacity(records.len());
        for record in records {
            let height = self.parts.data.with_replica(|replica| replica.height());
            match record.index.cmp(&height) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => {
                    if self.verify(&record) {
                        self.parts
                            .groups
                            .handle_record(&self.parts.data.replica(), &record, now_ms())
                            .context("the groups' state does not fit the agent's copy of the ledger")?;
                        taken.push(record);
                    }
                }
                std::cmp::Ordering::Greater => self.sync(),
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        let rows: Vec<(u64, Vec<u8>)> = taken.iter().map(|record| (record.index, record.encode())).collect();
        self.parts.store.add_records(&rows)?;
        taken.iter().try_for_each(|record| self.act_on(record))
    }

    /// Gives a record to the replica. What does not verify is reported and goes no further.
    fn verify(&mut self, record: &Record) -> bool {
        let Err(error) = self.parts.data.update_replica(|replica| replica.apply(record)) else { return true };
        if self.complained_at.is_none_or(|at| at.elapsed() > QUIET) {
            self.complained_at = Some(Instant::now());
            error!(
                "the hub sent a ledger record that does not verify: {:#}; this agent ignores it and asks again",
                anyhow::Error::new(error)
            );
        }
        false
    }

    fn act_on(&mut self, record: &Record) -> Result<()> {
        if record.entry.originator() == self.parts.number {
            self.parts.readings.handle_own(record.entry.body())?;
        }
        match record.entry.body() {
            Body::Reading(_) | Body::Commit(_) | Body::Anchor(_) => Ok(()),
            // What readings waited for may have come.
            _ if self.retry_at.is_none() => self.submit_next(),
            _ => Ok(()),
        }
    }

    fn handle_done(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Synced(sync, Ok(records)) => {
                self.syncing = false;
                let height = || self.parts.data.with_replica(|replica| replica.height());
                let (before, empty) = (height(), records.is_empty());
                self.handle_records(records)?;
                let grew = self.parts.data.with_replica(|replica| replica.height()) > before;
                if grew || empty && std::mem::take(&mut self.stale) {
                    self.sync();
                } else if empty && self.parts.data.set_caught_up(sync) {
                    self.parts.groups.set_live(&self.parts.data.replica(), true, now_ms());
                    self.publish_retained_again();
                    self.submit_next()?;
                } else {
                    // Nothing that can be true came: do not ask in a circle.
                    self.retry_at = Some(Instant::now() + RETRY);
                }
            }
            Done::Synced(_, Err(reason)) => {
                self.syncing = false;
                debug!(reason, "the ledger did not answer");
                self.retry_at = Some(Instant::now() + RETRY);
            }
            Done::Submitted(result) => {
                self.submitting = false;
                self.handle_submitted(result.map(|record| *record).map_err(|error| *error))?;
            }
        }
        Ok(())
    }

    fn handle_submitted(&mut self, result: Result<Record, SubmitError>) -> Result<()> {
        let reading = std::mem::take(&mut self.submitting_reading);
        match result {
            // A reading leaves its queue when the replica has its record; until then the next has no nonce.
            Ok(record) if reading => {
                let index = record.index;
                self.handle_records(vec![record])?;
                if self.parts.data.with_replica(|replica| replica.height()) > index {
                    self.submit_next()?;
                }
            }
            Ok(record) => {
                self.submissions.pop_front();
                self.handle_records(vec![record])?;
                self.submit_next()?;
            }
            // Our own replica was behind: look, then sign anew.
            Err(SubmitError::Refused(Refusal::BadNonce { .. })) => {
                self.sync();
                self.retry_at = Some(Instant::now() + RETRY);
            }
            // It stays in its queue: once the replica knows why, it waits until that has changed.
            Err(SubmitError::Refused(refusal)) if reading => {
                debug!(reason = %refusal, "a reading was refused");
                self.sync();
                self.retry_at = Some(Instant::now() + RETRY);
            }
            Err(SubmitError::Refused(refusal)) => {
                self.sync();
                if let Some(body) = self.submissions.pop_front() {
                    info!(kind = %body.kind(), reason = %refusal, "the ledger took another entry first");
                    self.parts.groups.handle_refused(&self.parts.data.replica(), &body, &refusal.to_string(), now_ms());
                }
                self.submit_next()?;
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                warn!("an entry did not reach the ledger, and is sent again: {error:#}");
                self.sync();
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
        Ok(())
    }

    /// After a wait for the disk: what the hub has pushed meanwhile is late, or lost with the connection.
    fn look_back(&mut self) {
        if self.parts.data.note_wait() {
            self.sync();
        }
    }

    /// Asks for what the ledger has beyond the replica.
    fn sync(&mut self) {
        if !self.up {
            return;
        }
        if self.syncing {
            self.stale = true;
            return;
        }
        self.syncing = true;
        let from = self.parts.data.with_replica(|replica| replica.height());
        let sync = self.parts.data.begin_sync();
        let (ledger, done) = (self.parts.ledger.clone(), self.done.clone());
        self.parts.tasks.beside("a call to the ledger", async move {
            let records = ledger.records(from, PAGE).await.map_err(|error| format!("{:#}", anyhow::Error::new(error)));
            let _ = done.send(Done::Synced(sync, records));
        });
    }

    /// Submits the next entry, one at a time: each has the nonce after the last. Readings come after what the groups need.
    fn submit_next(&mut self) -> Result<()> {
        if self.submitting || !self.up {
            return Ok(());
        }
        let body = match self.submissions.front() {
            Some(body) => body.clone(),
            None => match self.next_reading()? {
                Some(body) => {
                    self.submitting_reading = true;
                    body
                }
                None => return Ok(()),
            },
        };
        let (number, key) = (self.parts.number, self.parts.key.clone());
        let (nonce, id) = self.parts.data.with_replica(|replica| (replica.next_nonce(number), replica.genesis().id));
        let entry = match body.sign(&key, number, nonce, &id) {
            Ok(entry) => entry,
            Err(error) => {
                error!(kind = %body.kind(), %error, "an entry cannot be signed");
                if !std::mem::take(&mut self.submitting_reading) {
                    self.submissions.pop_front();
                }
                return Ok(());
            }
        };
        self.submitting = true;
        let (ledger, done) = (self.parts.ledger.clone(), self.done.clone());
        self.parts.tasks.beside("a call to the ledger", async move {
            let _ = done.send(Done::Submitted(ledger.submit(&entry).await.map(Box::new).map_err(Box::new)));
        });
        Ok(())
    }

    /// The oldest reading that the ledger would take. One that it would not, for want of limits or of a grant, waits, and
    /// with it the later ones of its topic.
    fn next_reading(&mut self) -> Result<Option<Body>> {
        for Queued { topic, time_ms, sequence, value, decimals } in self.parts.readings.next()? {
            let number = self.parts.number;
            let body = self.parts.data.with_replica(|replica| {
                let group = replica
                    .group_for_topic(topic.as_str())
                    .ok_or_else(|| format!("no group of the ledger covers {topic}"))?;
                let topic = topic.clone();
                let body = Body::Reading(Reading { group, topic, time_ms, sequence, value, decimals });
                replica.preview(number, &body).map(|_| body).map_err(|refusal| refusal.to_string())
            });
            match body {
                Ok(body) => {
                    self.held.remove(&topic);
                    return Ok(Some(body));
                }
                Err(reason) => {
                    if self.held.insert(topic.clone()) {
                        warn!(%topic, reason, "readings wait on disk, because the ledger would refuse them");
                    }
                }
            }
        }
        Ok(None)
    }

    /// Does what the groups ask for, in their order: what they persist is on disk before anything after it goes out.
    async fn drain(&mut self) -> Result<()> {
        while let Some(output) = self.early.pop_front().or_else(|| self.parts.groups.poll_output()) {
            match output {
                Output::Persist(writes) => self.parts.store.write_state(&writes)?,
                Output::Submit(body) => {
                    // The groups ask again after a while; an entry that still waits does not wait twice.
                    if !self.submissions.contains(&body) {
                        self.submissions.push_back(body);
                    }
                    self.submit_next()?;
                }
                Output::PublishKeys { bytes } => {
                    let topic = keys_topic(&self.parts.device);
                    self.outbox.put(topic.clone(), bytes.clone(), None);
                    self.see_keys(&self.parts.device, &bytes);
                    self.publish(topic, bytes);
                }
                Output::PublishInbox { device, group, bytes } => {
                    let topic = inbox(&device, group);
                    self.outbox.put(topic.clone(), bytes.clone(), Some(group));
                    self.publish(topic, bytes);
                }
                Output::ClearInbox { group } => self.publish(inbox(&self.parts.device, group), Vec::new()),
                Output::Epoch(keys) => {
                    let group = keys.group;
                    // A Welcome is for one epoch: once that is over it would only be in the way of a newer one.
                    self.outbox.forget(group);
                    self.tell_undelivered();
                    self.parts.data.insert_epoch(&keys, now_ms());
                    self.reseal.insert(group);
                    self.publish_retained_again();
                }
                Output::Left { group, reason } => {
                    // The broker takes no Welcome from whoever is not a member.
                    self.outbox.forget(group);
                    self.tell_undelivered();
                    self.parts.data.leave(group, &reason);
                }
                Output::Notice { device, group, notice } => {
                    let group = group.map(|group| self.parts.data.name_of(group));
                    let device = device.map(|device| device.to_string());
                    warn!(group, device, "{notice}");
                }
            }
        }
        Ok(())
    }

    fn publish_again(&self) {
        let keys = keys_topic(&self.parts.device);
        for (topic, payload) in self.outbox.messages() {
            if topic == keys {
                self.see_keys(&self.parts.device, payload);
            }
            self.publish(topic.to_owned(), payload.to_vec());
        }
    }

    fn publish_refused_again(&mut self) {
        for (topic, payload) in self.outbox.due(Instant::now(), self.up) {
            self.publish(topic, payload);
        }
        self.tell_undelivered();
    }

    /// While the broker refuses a Welcome, this device adds nobody to its group: each try would be a new epoch with a
    /// Welcome that does not arrive either.
    fn tell_undelivered(&mut self) {
        self.parts.groups.set_undelivered(&self.parts.data.replica(), self.outbox.undelivered(), now_ms());
    }

    /// Seals retained messages again whose group has a new epoch; those that cannot be now keep their turn.
    fn publish_retained_again(&mut self) {
        if !self.up {
            return;
        }
        for group in std::mem::take(&mut self.reseal) {
            match self.parts.data.seal_retained_again(group, now_ms()) {
                Ok(Some(frames)) => frames.into_iter().for_each(|(topic, frame)| self.publish(topic, frame)),
                Ok(None) => {
                    self.reseal.insert(group);
                }
                Err(error) => warn!(%group, "retained messages could not be sealed under the new epoch: {error:#}"),
            }
        }
    }

    /// Publishes retained. If the link is down, it is done again when it comes back.
    fn publish(&self, topic: String, payload: Vec<u8>) {
        if let Err(error) = self.parts.link.publish(&topic, true, payload) {
            debug!(%error, "not published");
        }
    }
}

/// Whether the hub pushes records there.
fn is_ledger(topic: &str) -> bool {
    ControlTopic::parse(topic) == Some(ControlTopic::Ledger)
}

fn keys_topic(device: &DeviceId) -> String {
    ControlTopic::Keys { device: device.as_str() }.to_string()
}

fn inbox(device: &DeviceId, group: GroupNumber) -> String {
    ControlTopic::Inbox { device: device.as_str(), group: &group.to_string() }.to_string()
}
