//! What the hub keeps for devices that are away: the newest key package of each device, its checkpoint, the Welcomes for new
//! members, and the operator's word on the ledger. Whoever comes asks for it.
//!
//! A broker may let anybody publish anything, so only what proves its author by its content is kept. What somebody else
//! writes to the same topic takes nobody's place.
//!
//! [`Kept::judge`] decides, [`Kept::apply`] does it. What was decided is on disk before it is applied, so that the hub has it
//! again after a crash.

use std::collections::BTreeMap;

use bytes::Bytes;
use sealcast_identity::DeviceId;
use sealcast_ledger::{
    AttestedHead, Checkpoint, Device, GroupNumber, Hash, KeysPublished, LedgerId, Replica, WelcomeRoute,
};
use sealcast_topic::ControlTopic;

/// Longest key package with its certificates.
const MAX_KEYS_BYTES: usize = 72 << 10;
/// Longest Welcome: with a tree of 1,000 members it has about 1.5 MiB. As hex it fits into one message.
const MAX_WELCOME_BYTES: usize = 1_900 << 10;
/// All Welcomes together.
const MAX_WELCOMES_BYTES: usize = 64 << 20;
/// Key packages that the ledger does not name yet, one of a device.
const MAX_EARLY: usize = 1_024;
/// About the longest answer, in bytes of messages. One message is always given, however long.
const MAX_PAGE_BYTES: usize = 192 << 10;

/// See the module.
#[derive(Debug, Default)]
pub struct Kept {
    places: BTreeMap<String, Place>,
    /// The topics in the order of their messages.
    order: BTreeMap<u64, String>,
    /// What may be named by the ledger's next record.
    early: BTreeMap<DeviceId, Bytes>,
    welcome_bytes: usize,
    last: u64,
}

/// A message that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its topic.
    pub topic: String,
    /// The later one has the greater number.
    pub sequence: u64,
    /// The message.
    pub payload: Bytes,
}

/// What becomes of the places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This is kept, in the place of what was kept of its topic.
    Put(Place),
    /// What is kept of this topic gives way to others.
    Drop(String),
}

/// Part of what is kept for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order in which they came.
    pub messages: Vec<Place>,
    /// What comes later has a greater number than this.
    pub next: u64,
    /// There are more messages behind it.
    pub more: bool,
}

impl Kept {
    /// As it was stored.
    pub fn restored(places: impl IntoIterator<Item = Place>) -> Self {
        let mut kept = Self::default();
        places.into_iter().for_each(|place| kept.apply(Change::Put(place)));
        kept
    }

    /// What follows from a message that came.
    pub fn judge(&mut self, replica: &Replica, topic: &str, payload: Bytes) -> Vec<Change> {
        let id = &replica.genesis().id;
        let is_new = match ControlTopic::parse(topic) {
            Some(ControlTopic::Head) => self.is_newer_head(replica, topic, &payload),
            Some(ControlTopic::Checkpoint { device }) => {
                device_of(replica, device).is_some_and(|device| self.is_newer_checkpoint(device, id, topic, &payload))
            }
            Some(ControlTopic::Keys { device }) => {
                let Some(device) = device_of(replica, device) else { return Vec::new() };
                let is_new = self.is_newer_keys(replica, device, topic, &payload);
                if !is_new {
                    self.note_early(replica, device, &payload);
                }
                is_new
            }
            Some(ControlTopic::Inbox { device, group, committer }) => {
                return self.judge_welcome(replica, topic, payload, (device, group, committer));
            }
            _ => false,
        };
        let put = is_new.then(|| Change::Put(Place { topic: topic.to_owned(), sequence: self.last + 1, payload }));
        put.into_iter().collect()
    }

    /// The next record of the ledger may name a key package that came before it.
    pub fn judge_early(&mut self, replica: &Replica) -> Vec<Change> {
        let named = |_: &DeviceId, payload: &mut Bytes| {
            KeysPublished::hashes_of(payload).is_some_and(|(package, _)| replica.keys(&package).is_some())
        };
        let due: Vec<(DeviceId, Bytes)> = self.early.extract_if(.., named).collect();
        let mut changes = Vec::new();
        for (device, payload) in due {
            let topic = ControlTopic::Keys { device: device.as_str() }.to_string();
            for mut change in self.judge(replica, &topic, payload) {
                if let Change::Put(place) = &mut change {
                    place.sequence += changes.len() as u64;
                }
                changes.push(change);
            }
        }
        changes
    }

    /// Does what was decided.
    pub fn apply(&mut self, change: Change) {
        let topic = match &change {
            Change::Put(place) => &place.topic,
            Change::Drop(topic) => topic,
        };
        if let Some(before) = self.places.remove(topic) {
            self.order.remove(&before.sequence);
            self.welcome_bytes -= welcome_bytes(&before);
        }
        if let Change::Put(place) = change {
            self.last = self.last.max(place.sequence);
            self.welcome_bytes += welcome_bytes(&place);
            self.order.insert(place.sequence, place.topic.clone());
            self.places.insert(place.topic.clone(), place);
        }
    }

    /// What concerns a node, and came after `after`.
    pub fn page(&self, node: &str, after: u64) -> Page {
        let mut page = Page { messages: Vec::new(), next: after, more: false };
        let mut bytes = 0;
        let later = self.order.range(after.saturating_add(1)..).filter_map(|(_, topic)| self.places.get(topic));
        for place in later {
            if concerns(&place.topic, node) {
                bytes += place.payload.len();
                if bytes > MAX_PAGE_BYTES && !page.messages.is_empty() {
                    page.more = true;
                    return page;
                }
                page.messages.push(place.clone());
            }
            page.next = place.sequence;
        }
        page
    }

    /// Whether this message is kept, or waits for the ledger to name it.
    pub fn has(&self, topic: &str, message: &Hash) -> bool {
        let is_kept = self.places.get(topic).is_some_and(|place| Hash::of(&place.payload) == *message);
        let is_early = || match ControlTopic::parse(topic) {
            Some(ControlTopic::Keys { device }) => device
                .parse()
                .is_ok_and(|device: DeviceId| self.early.get(&device).is_some_and(|early| Hash::of(early) == *message)),
            _ => false,
        };
        is_kept || is_early()
    }

    fn payload(&self, topic: &str) -> Option<&[u8]> {
        self.places.get(topic).map(|place| &*place.payload)
    }

    fn is_newer_head(&self, replica: &Replica, topic: &str, payload: &[u8]) -> bool {
        let id = &replica.genesis().id;
        let Some(key) = replica.key_of(id.operator()) else { return false };
        let time = |bytes: &[u8]| AttestedHead::verify(bytes, key, id).ok().map(|head| head.time_ms);
        // What a former key of the operator signed is older than anything of the present one.
        time(payload).is_some_and(|new| self.payload(topic).and_then(time).is_none_or(|old| new > old))
    }

    fn is_newer_checkpoint(&self, device: &Device, id: &LedgerId, topic: &str, payload: &[u8]) -> bool {
        let read = |bytes: &[u8]| Checkpoint::verify(bytes, device.number, &device.key, id).ok();
        read(payload).is_some_and(|new| self.payload(topic).and_then(read).is_none_or(|old| new.number > old.number))
    }

    fn is_newer_keys(&self, replica: &Replica, device: &Device, topic: &str, payload: &[u8]) -> bool {
        let at = |bytes: &[u8]| {
            let (package, certificate) = KeysPublished::hashes_of(bytes)?;
            let keys = replica.keys(&package)?;
            let is_own = keys.device == device.number && keys.certificate == certificate;
            is_own.then_some(keys.at)
        };
        let is_newer = |new| self.payload(topic).and_then(at).is_none_or(|old| new > old);
        payload.len() <= MAX_KEYS_BYTES && at(payload).is_some_and(is_newer)
    }

    /// A device publishes a key package a moment before the ledger has it.
    fn note_early(&mut self, replica: &Replica, device: &Device, payload: &Bytes) {
        let is_unnamed = KeysPublished::hashes_of(payload).is_some_and(|(package, _)| replica.keys(&package).is_none());
        let has_room = self.early.len() < MAX_EARLY || self.early.contains_key(&device.id);
        if is_unnamed && has_room && payload.len() <= MAX_KEYS_BYTES {
            self.early.insert(device.id.clone(), payload.clone());
        }
    }

    fn judge_welcome(
        &self,
        replica: &Replica,
        topic: &str,
        payload: Bytes,
        (device, group, committer): (&str, &str, &str),
    ) -> Vec<Change> {
        let id = &replica.genesis().id;
        let (Some(addressee), Some(committer)) = (device_of(replica, device), device_of(replica, committer)) else {
            return Vec::new();
        };
        let Some(group) = group.parse::<GroupNumber>().ok().filter(|number| number.to_string() == group) else {
            return Vec::new();
        };
        let route = WelcomeRoute { group, addressee: addressee.number, committer: committer.number };
        let may_be = |device: &Device| replica.is_granted(group, device.number);
        if payload.len() > MAX_WELCOME_BYTES
            || self.payload(topic) == Some(&payload)
            || !may_be(addressee)
            || !may_be(committer)
        {
            return Vec::new();
        }
        let height = |bytes: &[u8]| route.verify(bytes, &committer.key, id).ok().map(|dated| dated.height);
        // Two of one height lead to one epoch: after a restart its committer signs a Welcome again. Nobody else could have
        // made either, and the later one is what the committer asks for, so that is kept.
        let is_newer = |new| self.payload(topic).and_then(height).is_none_or(|old| new >= old);
        if !height(&payload).is_some_and(is_newer) {
            return Vec::new();
        }
        let mut changes = self.make_room(topic, committer.id.as_str(), payload.len());
        changes.push(Change::Put(Place { topic: topic.to_owned(), sequence: self.last + 1, payload }));
        changes
    }

    /// While there is no room for another Welcome, the oldest one of whoever has the most gives way: one member cannot push
    /// out those of the others.
    fn make_room(&self, topic: &str, committer: &str, bytes: usize) -> Vec<Change> {
        let freed = self.places.get(topic).map_or(0, |place| place.payload.len());
        let mut total = self.welcome_bytes + bytes - freed;
        if total <= MAX_WELCOMES_BYTES {
            return Vec::new();
        }
        let mut of: BTreeMap<&str, Vec<&Place>> = BTreeMap::new();
        for place in self.order.values().filter_map(|topic| self.places.get(topic)).filter(|place| place.topic != topic)
        {
            if let Some(ControlTopic::Inbox { committer, .. }) = ControlTopic::parse(&place.topic) {
                of.entry(committer).or_default().push(place);
            }
        }
        let mut dropped = Vec::new();
        while total > MAX_WELCOMES_BYTES {
            let size = |name: &str, places: &[&Place]| {
                places.iter().map(|place| place.payload.len()).sum::<usize>()
                    + if name == committer { bytes } else { 0 }
            };
            let most =
                of.iter_mut().filter(|(_, places)| !places.is_empty()).max_by_key(|(name, places)| size(name, places));
            let Some((_, places)) = most else { break };
            let oldest = places.remove(0);
            total -= oldest.payload.len();
            dropped.push(Change::Drop(oldest.topic.clone()));
        }
        dropped
    }
}

fn welcome_bytes(place: &Place) -> usize {
    match ControlTopic::parse(&place.topic) {
        Some(ControlTopic::Inbox { .. }) => place.payload.len(),
        _ => 0,
    }
}

fn concerns(topic: &str, node: &str) -> bool {
    match ControlTopic::parse(topic) {
        Some(ControlTopic::Head) => true,
        Some(ControlTopic::Keys { device }) => device != node,
        Some(ControlTopic::Checkpoint { device } | ControlTopic::Inbox { device, .. }) => device == node,
        _ => false,
    }
}

fn device_of<'a>(replica: &'a Replica, name: &str) -> Option<&'a Device> {
    let id: DeviceId = name.parse().ok()?;
    replica.device_by_id(&id).filter(|device| device.is_active())
}

#[cfg(test)]
mod tests;
