//! What passes through the hub's own broker: counts, the last messages, and which links light up.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use sealcast_broker::Received;
use sealcast_identity::{HUB_NAME, OPERATOR_NAME};
use sealcast_ledger::Replica;
use sealcast_seal::Header;
use sealcast_topic::ControlTopic;
use serde::Serialize;

use crate::model::{Wire, WireEvent};

/// Messages that are kept.
const MAX_KEPT: usize = 512;
/// Messages of one event.
const MAX_SHOWN: usize = 20;
/// Links of one event.
const MAX_LINKS: usize = 200;
/// Bytes of a payload, and characters of a topic, that are shown.
const MAX_PAYLOAD: usize = 256;
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

/// See the module.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Of all.
    pub all: Count,
    nodes: BTreeMap<String, Count>,
    groups: BTreeMap<String, Count>,
    kept: VecDeque<Wire>,
    next: u64,
    /// Ids of those that no event has told yet begin here.
    untold: u64,
    links: BTreeMap<Link, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Link {
    from: Option<String>,
    group: Option<String>,
    topic: String,
}

/// The data of an event `links`.
#[derive(Debug, Serialize)]
pub struct LinksEvent {
    at: u64,
    links: Vec<LinkCount>,
}

#[derive(Debug, Serialize)]
struct LinkCount {
    #[serde(flatten)]
    link: Link,
    count: u64,
}

impl Traffic {
    /// Takes a message of the broker's.
    pub fn take(&mut self, replica: &Replica, received: &Received, now_ms: u64) {
        let sender = received.sender.as_ref().map(|sender| sender.device.to_string());
        let from = sender.filter(|name| name != HUB_NAME && name != OPERATOR_NAME);
        if let Some(from) = &from {
            self.nodes.entry(from.clone()).or_default().seen = Some(now_ms);
        }
        let topic = received.topic.as_str();
        // Sealcast's own messages: they show that the device lives, and are no traffic of its.
        if ControlTopic::parse(topic).is_some() {
            return;
        }
        let group = replica.group_for_topic(topic).and_then(|number| replica.group(number));
        let group = group.map(|group| group.name.to_string());
        self.all.messages += 1;
        if let Some(from) = &from {
            self.nodes.entry(from.clone()).or_default().messages += 1;
        }
        if let Some(group) = &group {
            self.groups.entry(group.clone()).or_default().messages += 1;
        }
        let topic: String = topic.chars().take(MAX_TOPIC).collect();
        let link = Link { from: from.clone(), group: group.clone(), topic: topic.clone() };
        if self.links.len() < MAX_LINKS || self.links.contains_key(&link) {
            *self.links.entry(link).or_default() += 1;
        }
        let payload = &received.payload;
        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Wire {
            id: self.next,
            at: now_ms,
            from,
            topic,
            bytes: payload.len(),
            hex: hex::encode(payload.get(..MAX_PAYLOAD).unwrap_or(payload)),
            sealed: Header::parse(payload).is_ok(),
            group,
            retained: received.retain,
            read: None,
        });
        self.next += 1;
    }

    /// What this node's application got of the newest message on `topic`; gives that message as it is now.
    pub fn read(&mut self, topic: &str, node: &str, text: Option<String>) -> Option<Wire> {
        let wire = self.kept.iter_mut().rev().find(|wire| wire.topic == topic)?;
        wire.read.get_or_insert_default().insert(node.to_owned(), text);
        Some(wire.clone())
    }

    /// The newest messages, newest first.
    pub fn newest(&self, most: usize) -> Vec<Wire> {
        self.kept.iter().rev().take(most).cloned().collect()
    }

    /// What came since the last call, if anything did.
    pub fn news(&mut self, now_ms: u64) -> Option<(WireEvent, LinksEvent)> {
        if self.untold == self.next {
            return None;
        }
        let new = self.kept.iter().filter(|wire| wire.id >= self.untold);
        let skip = new.clone().count().saturating_sub(MAX_SHOWN);
        let messages = new.skip(skip).cloned().collect();
        self.untold = self.next;
        let links = std::mem::take(&mut self.links);
        let links = links.into_iter().map(|(link, count)| LinkCount { link, count }).collect();
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
    use bytes::Bytes;
    use sealcast_broker::{Peer, Properties, Qos};
    use sealcast_ledger::{LedgerId, testing::Cast};
    use sealcast_mqtt::TopicName;

    use super::*;

    fn received(topic: &str, sender: Option<&str>, payload: &'static [u8]) -> Received {
        Received {
            topic: TopicName::new(topic).unwrap(),
            payload: Bytes::from_static(payload),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: Properties::new(),
            sender: sender.map(Peer::from),
        }
    }

    fn replica() -> Replica {
        Replica::new(Cast::new(LedgerId { chain_id: 1, address: [1; 20] }, 0).unwrap().genesis)
    }

    #[test]
    fn messages_are_counted_and_told_once() {
        let (mut traffic, replica) = (Traffic::default(), replica());
        for _ in 0..2 * MAX_SHOWN {
            traffic.take(&replica, &received("a/b", Some("1111"), b"27.0"), 5);
        }
        traffic.take(&replica, &received("sealcast/v1/keys/1112", Some("1112"), b""), 6);
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
    fn what_is_kept_is_bounded() {
        let (mut traffic, replica) = (Traffic::default(), replica());
        for at in 0..MAX_KEPT + 5 {
            traffic.take(&replica, &received(&format!("a/{at}"), None, &[7; 1000]), 5);
        }
        assert_eq!((traffic.kept.len(), traffic.links.len()), (MAX_KEPT, MAX_LINKS));
        assert_eq!((traffic.kept[0].hex.len(), traffic.kept[0].bytes), (2 * MAX_PAYLOAD, 1000));
    }
}
