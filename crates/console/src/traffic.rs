//! What passes through the hub's own broker: counts, the last messages, and which links light up.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use sealcast_broker::Sighting;
use sealcast_identity::{HUB_NAME, OPERATOR_NAME};
use sealcast_ledger::Replica;
use sealcast_seal::Header;
use sealcast_topic::{ControlTopic, TopicName};

use crate::model::{LinkCount, LinksEvent, Wire, WireEvent};

/// Messages that are kept.
const MAX_KEPT: usize = 512;
/// Messages of one event.
const MAX_SHOWN: usize = 20;
/// Links of one event.
const MAX_LINKS: usize = 200;
/// Characters of a topic that are shown.
const MAX_TOPIC: usize = 256;

/// Counts of one sender or one group.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// Application messages.
    pub messages: u64,
    /// When anything came last, Unix ms.
    pub seen: Option<u64>,
    /// Messages a second, smoothed.
    pub per_second: f64,
    /// `messages` at the last look.
    looked: u64,
}

/// See the module. It must keep up with the broker, so what a message shows is made only when somebody looks at it.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Of all.
    pub all: Count,
    nodes: BTreeMap<Arc<str>, Count>,
    groups: BTreeMap<Arc<str>, Count>,
    kept: VecDeque<Kept>,
    next: u64,
    /// Ids of those that no event has told yet begin here.
    untold: u64,
    links: BTreeMap<Arc<Link>, u64>,
    last: Option<Origin>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    /// A device.
    from: Option<Arc<str>>,
    group: Option<Arc<str>>,
    /// As much of it as is shown.
    topic: String,
}

/// What is the same for all that one sender publishes on one topic: messages often come in a row.
#[derive(Debug, Clone)]
struct Origin {
    topic: TopicName,
    sender: Option<Arc<str>>,
    /// The replica's version that it is of.
    rights: u64,
    link: Arc<Link>,
    /// Sealcast's own messages show that the device lives, and are no traffic of its.
    is_control: bool,
}

#[derive(Debug)]
struct Kept {
    id: u64,
    at: u64,
    link: Arc<Link>,
    bytes: usize,
    /// The payload's first bytes.
    start: Box<[u8]>,
    sealed: bool,
    retained: bool,
    read: Option<BTreeMap<String, Option<String>>>,
}

impl Origin {
    fn of(replica: &Replica, sighting: &Sighting) -> Self {
        let topic = sighting.topic.as_str();
        let from = sighting.sender.clone().filter(|name| ![HUB_NAME, OPERATOR_NAME].contains(&&**name));
        let group = replica.group_for_topic(topic).and_then(|number| replica.group(number));
        let group = group.map(|group| Arc::from(group.name.as_str()));
        Self {
            topic: sighting.topic.clone(),
            sender: sighting.sender.clone(),
            rights: replica.rights_version(),
            link: Arc::new(Link { from, group, topic: topic.chars().take(MAX_TOPIC).collect() }),
            is_control: ControlTopic::parse(topic).is_some(),
        }
    }

    fn is_of(&self, replica: &Replica, sighting: &Sighting) -> bool {
        self.topic == sighting.topic && self.sender == sighting.sender && self.rights == replica.rights_version()
    }
}

impl Kept {
    fn shown(&self) -> Wire {
        let Link { from, group, topic } = &*self.link;
        Wire {
            id: self.id,
            at: self.at,
            from: from.as_deref().map(str::to_owned),
            topic: topic.clone(),
            bytes: self.bytes,
            hex: hex::encode(&self.start),
            sealed: self.sealed,
            group: group.as_deref().map(str::to_owned),
            retained: self.retained,
            read: self.read.clone(),
        }
    }
}

impl Traffic {
    /// Takes a message of the broker's.
    pub fn take(&mut self, replica: &Replica, sighting: &Sighting, now_ms: u64) {
        let known = self.last.take().filter(|last| last.is_of(replica, sighting));
        let origin = known.unwrap_or_else(|| Origin::of(replica, sighting));
        self.count(&origin, now_ms);
        if !origin.is_control {
            self.keep(&origin.link, sighting, now_ms);
        }
        self.last = Some(origin);
    }

    fn count(&mut self, origin: &Origin, now_ms: u64) {
        let (link, messages) = (&origin.link, u64::from(!origin.is_control));
        self.all.messages += messages;
        if let Some(from) = &link.from {
            let count = self.nodes.entry(from.clone()).or_default();
            count.messages += messages;
            count.seen = Some(now_ms);
        }
        if let Some(group) = &link.group {
            self.groups.entry(group.clone()).or_default().messages += messages;
        }
    }

    fn keep(&mut self, link: &Arc<Link>, sighting: &Sighting, now_ms: u64) {
        if self.links.len() < MAX_LINKS || self.links.contains_key(link) {
            *self.links.entry(link.clone()).or_default() += 1;
        }
        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept {
            id: self.next,
            at: now_ms,
            link: link.clone(),
            bytes: sighting.bytes,
            sealed: Header::parse(&sighting.start).is_ok(),
            start: sighting.start.clone(),
            retained: sighting.retain,
            read: None,
        });
        self.next += 1;
    }

    /// What this node's application got of the newest message on `topic`; gives that message as it is now.
    pub fn read(&mut self, topic: &str, node: &str, text: Option<String>) -> Option<Wire> {
        let kept = self.kept.iter_mut().rev().find(|kept| kept.link.topic == topic)?;
        kept.read.get_or_insert_default().insert(node.to_owned(), text);
        Some(kept.shown())
    }

    /// The newest messages, newest first.
    pub fn newest(&self, most: usize) -> Vec<Wire> {
        self.kept.iter().rev().take(most).map(Kept::shown).collect()
    }

    /// What came since the last call, if anything did.
    pub fn news(&mut self, now_ms: u64) -> Option<(WireEvent, LinksEvent)> {
        if self.untold == self.next {
            return None;
        }
        let new = self.kept.iter().filter(|kept| kept.id >= self.untold);
        let skip = new.clone().count().saturating_sub(MAX_SHOWN);
        let messages = new.skip(skip).map(Kept::shown).collect();
        self.untold = self.next;
        let links = std::mem::take(&mut self.links);
        let told = |(link, count): (Arc<Link>, u64)| LinkCount {
            from: link.from.as_deref().map(str::to_owned),
            group: link.group.as_deref().map(str::to_owned),
            topic: link.topic.clone(),
            count,
        };
        let links = links.into_iter().map(told).collect();
        Some((WireEvent { messages }, LinksEvent { at: now_ms, links }))
    }

    /// Forgets what nobody was there to be told.
    pub fn pass_over(&mut self) {
        self.untold = self.next;
        self.links.clear();
    }

    /// Looks at how many came in the time since the last look.
    pub fn look(&mut self, since: Duration) {
        let seconds = since.as_secs_f64().max(0.001);
        let counts = self.nodes.values_mut().chain(self.groups.values_mut());
        for count in counts.chain([&mut self.all]) {
            let rate = (count.messages - count.looked) as f64 / seconds;
            count.looked = count.messages;
            let next = f64::midpoint(count.per_second, rate);
            // It does not go on falling for ever.
            count.per_second = if next < 0.01 { 0.0 } else { (next * 100.0).round() / 100.0 };
        }
    }

    /// Of this device.
    pub fn of_node(&self, id: &str) -> Count {
        self.nodes.get(id).copied().unwrap_or_default()
    }

    /// On this group's topics.
    pub fn of_group(&self, name: &str) -> Count {
        self.groups.get(name).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use sealcast_ledger::{
        Authenticity, Body, GroupCreated, LedgerId, Policy,
        testing::{Cast, MemoryLedger},
    };

    use super::*;

    fn message(topic: &str, sender: Option<&str>, payload: &[u8]) -> Sighting {
        Sighting {
            topic: TopicName::new(topic).unwrap(),
            sender: sender.map(Arc::from),
            retain: false,
            bytes: payload.len(),
            start: payload.get(..Sighting::MAX_START).unwrap_or(payload).into(),
        }
    }

    fn replica() -> Replica {
        Replica::new(Cast::new(LedgerId { chain_id: 1, address: [1; 20] }, 0).unwrap().genesis)
    }

    #[test]
    fn messages_are_counted_and_told_once() {
        let (mut traffic, replica) = (Traffic::default(), replica());
        for _ in 0..2 * MAX_SHOWN {
            traffic.take(&replica, &message("a/b", Some("1111"), b"27.0"), 5);
        }
        traffic.take(&replica, &message("sealcast/v1/keys/1112", Some("1112"), b""), 6);
        traffic.look(Duration::from_secs(1));
        assert_eq!((traffic.all.messages, traffic.all.per_second), (40, 20.0));
        assert_eq!((traffic.of_node("1111").messages, traffic.of_node("1112").seen), (40, Some(6)));
        let (wire, links) = traffic.news(7).unwrap();
        assert_eq!((wire.messages.len(), links.links.len(), links.links[0].count), (MAX_SHOWN, 1, 40));
        assert!(!wire.messages[0].sealed && wire.messages[0].hex == "32372e30");
        assert!(traffic.news(8).is_none());
        let read = traffic.read("a/b", "1112", Some("27.0".into())).unwrap();
        assert_eq!((read.id, read.read.unwrap()["1112"].as_deref()), (39, Some("27.0")));
        assert_eq!(traffic.newest(1)[0].id, 39);
    }

    #[test]
    fn a_topic_is_counted_for_its_group_from_the_groups_beginning_on() -> anyhow::Result<()> {
        let cast = Cast::new(LedgerId { chain_id: 1, address: [1; 20] }, 0)?;
        let (mut traffic, mut replica) = (Traffic::default(), Replica::new(cast.genesis));
        let message = message("a/b", None, b"27.0");
        traffic.take(&replica, &message, 5);
        let policy = Policy {
            epoch_max_age_s: None,
            epoch_max_messages: None,
            retention: 4,
            authenticity: Authenticity::Group,
            ledger_max_age_s: None,
        };
        let group = GroupCreated { name: "hsu0001".parse()?, filters: vec!["a/#".parse()?], policy };
        let entry = cast.sign(&replica, cast.genesis.id.operator(), &Body::GroupCreated(group))?;
        replica.apply(&MemoryLedger::new(cast.genesis).submit(&entry, 1)?)?;
        traffic.take(&replica, &message, 6);
        traffic.look(Duration::from_secs(1));
        assert_eq!((traffic.all.messages, traffic.of_group("hsu0001").messages), (2, 1));
        Ok(())
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut traffic, replica) = (Traffic::default(), replica());
        for at in 0..MAX_KEPT + 5 {
            traffic.take(&replica, &message(&format!("a/{at}"), None, &[7; 1000]), 5);
        }
        assert_eq!((traffic.kept.len(), traffic.links.len()), (MAX_KEPT, MAX_LINKS));
        let oldest = &traffic.newest(MAX_KEPT)[MAX_KEPT - 1];
        assert_eq!((oldest.id, oldest.hex.len(), oldest.bytes), (5, 2 * Sighting::MAX_START, 1000));
    }
}
