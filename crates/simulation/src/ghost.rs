//! What nobody in the system knows as a whole, and what must hold of it.

mod leaving;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sealcast_agent_core::{Keyring, Now};
use sealcast_broker_core::ConnId;
use sealcast_group::{EpochKeys, Notice};
use sealcast_ledger::{AttestedHead, Epoch, Generation, Hash};
use sealcast_mqtt::{Publish, Qos};
use sealcast_seal::EpochId;

use crate::{
    cast::Cast,
    event::{CLIENTS, Kind},
    hub::FIRST_FOREIGN_ID,
    spy::Spy,
};

/// Oldest message on a [`Kind::Live`] topic, ms.
pub const LIVE_MS: u64 = 60_000;
/// By how much clocks may differ, ms.
pub const TOLERANCE_MS: u64 = 1_000;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// How it shows.
    pub what: String,
}

/// A message that a client has published.
#[derive(Debug)]
struct Message {
    client: usize,
    topic: String,
    kind: Kind,
    qos: Qos,
    /// When it was sealed last.
    sealed_ms: Option<u64>,
    /// A client that got no acknowledgement sends it again, and it is sealed once more.
    frames: u32,
    acknowledged: bool,
    /// Clients that must get it, and how often their devices and the publisher's had been disrupted when it was sealed.
    owed: BTreeMap<usize, [u64; 2]>,
}

/// What is known of a client.
#[derive(Debug, Default)]
struct Log {
    /// It has had a SUBACK, and its session has not been lost for a reason since.
    subscribed: bool,
    got: BTreeSet<u32>,
    /// Frames that its agent may not give it again, whatever happens, by number.
    settled: BTreeMap<u32, BTreeSet<Hash>>,
    /// What it was handed at QoS 0, and whose windows are not on disk yet.
    handed: BTreeSet<u32>,
    last: BTreeMap<(usize, String, u8), u32>,
    /// The broker has changed the order of what it gets.
    disordered: bool,
    in_flight: HashMap<(ConnId, u16), (u32, Hash)>,
}

impl Log {
    /// Whether all frames of a message are.
    fn is_settled(&self, number: u32, frames: u32) -> bool {
        self.settled.get(&number).is_some_and(|settled| settled.len() as u64 >= frames.into())
    }
}

/// See the module.
pub struct Ghost {
    /// What does not hold.
    pub violations: Vec<Violation>,
    messages: BTreeMap<u32, Message>,
    numbers: HashMap<Hash, u32>,
    /// Devices and topics whose retained message they have said to delete.
    announced: BTreeSet<(usize, String)>,
    /// By epoch, KID and SFrame's counter, which the nonce is made of.
    nonces: HashMap<(EpochId, u64, u64), Hash>,
    epochs: BTreeMap<(Generation, Epoch), EpochKeys>,
    spies: Vec<Spy>,
    logs: Vec<Log>,
    disruptions: Vec<u64>,
    /// Devices whose folder was replaced by a copy, which has not been noticed yet.
    copies: BTreeSet<usize>,
    /// Of each such device, the group's epoch at that time.
    past: BTreeMap<usize, EpochId>,
    /// Since when a device is not granted the group, Unix ms.
    revoked_ms: Vec<Option<u64>>,
    /// What the operator said of the ledger, in order.
    words: Vec<AttestedHead>,
    /// The generation in which a device has keys.
    member: Vec<Option<Generation>>,
    /// Messages that were handed to clients.
    pub delivered: u64,
    /// Messages that were sealed.
    pub sealed: u64,
    /// How often an agent noticed that its folder is a copy.
    pub noticed: u64,
}

impl Ghost {
    /// Before anything happens.
    pub fn new(cast: &Cast) -> Self {
        let devices = cast.devices.len();
        Self {
            violations: Vec::new(),
            messages: BTreeMap::new(),
            numbers: HashMap::new(),
            announced: BTreeSet::new(),
            nonces: HashMap::new(),
            epochs: BTreeMap::new(),
            spies: cast
                .devices
                .iter()
                .map(|device| Spy::new(cast.ledger.replica().genesis().id, cast.group, &device.id))
                .collect(),
            logs: (0..CLIENTS).map(|_| Log::default()).collect(),
            disruptions: vec![0; devices],
            copies: BTreeSet::new(),
            past: BTreeMap::new(),
            revoked_ms: vec![None; devices],
            words: Vec::new(),
            member: vec![None; devices],
            delivered: 0,
            sealed: 0,
            noticed: 0,
        }
    }

    /// Notes that an invariant does not hold.
    pub fn violated(&mut self, invariant: &'static str, what: String) {
        self.violations.push(Violation { invariant, what });
    }

    /// How many messages were published and acknowledged, QoS 0 left out.
    pub fn acknowledged(&self) -> usize {
        self.messages.values().filter(|message| message.acknowledged).count()
    }

    /// A client's next message: its number and payload.
    pub fn publish(&mut self, client: usize, topic: &str, kind: Kind, qos: Qos) -> (u32, String) {
        let number = self.messages.len() as u32 + 1;
        let (topic, owed) = (topic.to_owned(), BTreeMap::new());
        let message = Message { client, topic, kind, qos, sealed_ms: None, frames: 0, acknowledged: false, owed };
        self.messages.insert(number, message);
        let value = if matches!(kind, Kind::Blocked | Kind::Flagged) { 85 } else { 21 };
        (number, format!("{value}.{number:06}"))
    }

    /// The broker has taken a message, by what its client was told.
    pub fn acknowledged_to(&mut self, number: u32) {
        if let Some(message) = self.messages.get_mut(&number) {
            message.acknowledged = true;
        }
    }

    /// A client has subscribed to everything in the group.
    pub fn subscribed(&mut self, client: usize) {
        self.logs[client].subscribed = true;
    }

    /// A client hears that the broker has no session of it.
    pub fn no_session(&mut self, client: usize) {
        if std::mem::take(&mut self.logs[client].subscribed) {
            self.violated(
                "a session outlives everything but its device",
                format!("client {client} has lost its session"),
            );
        }
    }

    /// A device can no longer rely on anything that was under way.
    pub fn disrupted(&mut self, device: usize) {
        self.disruptions[device] += 1;
    }

    /// A device is granted the group.
    pub fn granted(&mut self, device: usize) {
        self.revoked_ms[device] = None;
        self.disrupted(device);
    }

    /// A device is not granted the group any more.
    pub fn revoked(&mut self, device: usize, now_ms: u64) {
        self.revoked_ms[device].get_or_insert(now_ms);
        self.disrupted(device);
    }

    /// The operator has said how far the ledger is.
    pub fn attested(&mut self, said: AttestedHead) {
        self.words.push(said);
    }

    /// A device was revoked: the broker ends the sessions of its clients.
    pub fn sessions_end(&mut self, clients: impl IntoIterator<Item = usize>) {
        clients.into_iter().for_each(|client| self.logs[client].subscribed = false);
    }

    /// A device has left the group, or lost its place.
    pub fn left(&mut self, device: usize) {
        self.member[device] = None;
        self.disrupted(device);
    }

    /// A device's folder is replaced by a copy.
    pub fn put_back(&mut self, device: usize, cast: &Cast) {
        self.copies.insert(device);
        if let Some(group) = cast.ledger.replica().group(cast.group) {
            self.past.insert(device, EpochId { generation: group.generation.0, epoch: group.epoch.0 });
        }
        self.left(device);
    }

    /// An agent has noticed that its folder is a copy.
    pub fn notices(&mut self, device: usize, notice: &Notice) {
        self.noticed += 1;
        if !self.copies.remove(&device) {
            self.violated("only a copy is taken for one", format!("device {device}: {notice}"));
        }
    }

    /// A device has agreed on an epoch.
    pub fn agreed(&mut self, device: usize, keys: &EpochKeys) {
        self.member[device] = Some(keys.generation);
        let known = self.epochs.entry((keys.generation, keys.epoch)).or_insert_with(|| keys.clone());
        if known.secret != keys.secret || known.roster != keys.roster {
            let what =
                format!("device {device} has other keys of generation {:?}, epoch {:?}", keys.generation, keys.epoch);
            self.violated("members agree on an epoch's keys", what);
        }
        if let Err(error) = self.spies[device].insert(keys) {
            self.violated("an epoch's keys can be used", format!("{error:#}"));
        }
    }

    /// A message has left its agent for the first time.
    fn sealed_message(&mut self, cast: &Cast, device: usize, keyring: &Keyring, number: u32, sealed_ms: u64) {
        let Some(message) = self.messages.get_mut(&number) else { return };
        message.frames += 1;
        let first = message.sealed_ms.replace(sealed_ms).is_none();
        if !first || message.qos == Qos::AtMostOnce || message.kind == Kind::Live {
            return;
        }
        let members = keyring.members(cast.group);
        let generation = cast.ledger.replica().group(cast.group).map(|group| group.generation);
        for (client, log) in self.logs.iter().enumerate() {
            let of = device_of(client);
            let is_member = cast.is_granted(of) && members.contains(&cast.devices[of].id);
            if log.subscribed && is_member && self.member[of] == generation {
                message.owed.insert(client, [self.disruptions[of], self.disruptions[device]]);
            }
        }
    }

    /// A frame is on its way from the broker to an agent's client.
    pub fn arrives(&mut self, client: usize, conn: ConnId, publish: &Publish) {
        let hash = Hash::of(&publish.payload);
        // What the broker meddled with may be refused and acknowledged all the same.
        let own = publish.packet_id.filter(|id| id.value() < FIRST_FOREIGN_ID);
        if let (Some(number), Some(id)) = (self.numbers.get(&hash), own) {
            self.logs[client].in_flight.insert((conn, id.value()), (*number, hash));
        }
    }

    /// The hostile broker sends a client a frame by itself: what is on the way besides may be taken for its copy.
    pub fn meddled(&mut self, client: usize, payload: &[u8]) {
        self.logs[client].disordered = true;
        if let Some(message) = self.numbers.get(&Hash::of(payload)).and_then(|number| self.messages.get_mut(number)) {
            message.owed.remove(&client);
        }
    }

    /// The broker keeps something back from a client.
    pub fn disordered(&mut self, client: usize) {
        self.logs[client].disordered = true;
    }

    /// An agent acknowledges a message to the broker, which may forget it.
    pub fn settles(&mut self, client: usize, conn: ConnId, id: u16) {
        let log = &mut self.logs[client];
        if let Some((number, frame)) = log.in_flight.remove(&(conn, id))
            && log.handed.contains(&number)
        {
            log.settled.entry(number).or_default().insert(frame);
        }
    }

    /// A client's replay windows are on disk: what it was handed at QoS 0 is done with.
    pub fn windows_stored(&mut self, client: usize) {
        let log = &mut self.logs[client];
        let done = |number: &&u32| self.messages.get(number).is_some_and(|message| message.qos == Qos::AtMostOnce);
        // It was sealed once, whatever its frame.
        let frame = || BTreeSet::from([Hash::of(&[])]);
        log.settled.extend(log.handed.iter().filter(done).map(|number| (*number, frame())));
    }

    /// An agent hands a message to its client.
    pub fn handed(&mut self, cast: &Cast, client: usize, publish: &Publish, sender: Option<&str>, now: Now) {
        let topic = publish.topic.as_deref().unwrap_or_default();
        let Some(number) = number(&publish.payload) else {
            if !topic.starts_with("plant/alarm/") {
                self.violated("nothing forged is delivered", format!("client {client} gets {publish:?}"));
            }
            return;
        };
        self.delivered += 1;
        let Some(message) = self.messages.get(&number) else {
            return self.violated(
                "nothing forged is delivered",
                format!("client {client} gets {number}, which nobody published"),
            );
        };
        let device = &cast.devices[device_of(message.client)].id;
        if message.topic != topic || sender.is_some_and(|sender| sender != device.as_str()) {
            let what = format!("client {client} gets {number} on {topic} from {sender:?}, not {}", message.topic);
            self.violated("nothing forged is delivered", what);
        } else if message.kind == Kind::Blocked {
            self.violated("a value that is blocked goes nowhere", format!("client {client} gets {number}"));
        } else if !publish.retain && self.logs[client].is_settled(number, message.frames) {
            self.violated("nothing replayed is delivered", format!("client {client} gets {number} once more"));
        } else if !publish.retain && message.kind == Kind::Live {
            let age_ms = now.unix_ms.saturating_sub(message.sealed_ms.unwrap_or(0));
            if age_ms > LIVE_MS + TOLERANCE_MS {
                self.violated("nothing stale is delivered", format!("client {client} gets {number}, {age_ms} ms old"));
            }
        }
        if !publish.retain {
            self.logs[client].handed.insert(number);
        }
    }

    /// A client has got a message.
    pub fn got(&mut self, client: usize, publish: &Publish) {
        let Some(number) = number(&publish.payload) else { return };
        let Some(message) = self.messages.get(&number) else { return };
        let log = &mut self.logs[client];
        if !log.got.insert(number) || publish.retain || log.disordered {
            return;
        }
        let line = (message.client, message.topic.clone(), message.qos as u8);
        let last = log.last.entry(line).or_insert(0);
        let before = std::mem::replace(last, number.max(*last));
        if before > number {
            let what = format!("client {client} gets {number} of {} after {before}", message.topic);
            self.violated("a publisher's messages keep their order", what);
        }
    }

    /// Everything is quiet: what was acknowledged has arrived.
    pub fn check_arrived(&mut self) {
        let mut lost = Vec::new();
        for (number, message) in self.messages.iter().filter(|(_, message)| message.acknowledged) {
            let sender = device_of(message.client);
            for (client, disruptions) in &message.owed {
                let now = [self.disruptions[device_of(*client)], self.disruptions[sender]];
                if now == *disruptions && !self.logs[*client].got.contains(number) {
                    lost.push(format!("client {client} never got {number} ({message:?})"));
                }
            }
        }
        lost.into_iter().for_each(|what| self.violated("nothing that was acknowledged is lost", what));
        self.messages.values_mut().for_each(|message| message.owed.clear());
    }
}

/// The device behind whose agent a client is.
pub fn device_of(client: usize) -> usize {
    client % crate::event::DEVICES
}

/// The number in a payload of [`Ghost::publish`].
fn number(payload: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(payload).ok()?;
    let (value, digits) = text.split_once('.')?;
    (matches!(value, "21" | "85") && digits.len() == 6).then(|| digits.parse().ok())?
}
