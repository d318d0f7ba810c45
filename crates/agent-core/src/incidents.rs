//! What did not get through lately, topic by topic, for a person who asks why: [`Incidents`].

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{
    Cause, Why,
    session::{ClientEvent, Refused},
};

/// Topics that are kept; beyond, the one is forgotten whose last incident is oldest.
const MAX_TOPICS: usize = 64;
/// Incidents that are kept of one topic; beyond, the oldest is forgotten.
const MAX_PER_TOPIC: usize = 8;
/// A text from outside is cut to so many bytes.
const MAX_TEXT_BYTES: usize = 512;

/// Which way a message was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From a local client.
    Out,
    /// To a local client.
    In,
    /// A client could not subscribe, or nothing can come by its subscription.
    Subscription,
    /// A client could not connect, or its connection ended.
    Connection,
    /// No message: something is wrong with the ledger.
    Ledger,
}

/// The same thing, as often as it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The topic, or the filter; none where it is about a connection.
    pub topic: Option<String>,
    /// Which way.
    pub way: Way,
    /// The local client's name; empty where it is about the ledger.
    pub client: String,
    /// Why.
    #[serde(serialize_with = "put_code", deserialize_with = "take_code")]
    pub code: Cause,
    /// In whose name the message was, if that is known.
    pub sender: Option<String>,
    /// In words, the last time.
    pub detail: String,
    /// How often it happened since the first time.
    pub count: u64,
    /// The first time, Unix ms.
    pub first_ms: u64,
    /// The last time, Unix ms.
    pub last_ms: u64,
}

/// See the module.
#[derive(Default)]
pub struct Incidents {
    /// Of each topic, the newest last. Those about connections and the ledger have the empty topic, which MQTT
    /// does not have.
    topics: BTreeMap<String, VecDeque<Incident>>,
    changed: bool,
}

impl Incidents {
    /// With those of before.
    pub fn new(before: impl IntoIterator<Item = Incident>) -> Self {
        let mut incidents = Self::default();
        for incident in before {
            incidents.topics.entry(incident.topic.clone().unwrap_or_default()).or_default().push_back(incident);
        }
        incidents
    }

    /// A message of a client was refused.
    pub fn note(&mut self, event: &ClientEvent, now_ms: u64) {
        let ClientEvent { what, client, topic, why } = event;
        let way = match what {
            Refused::Publish => Way::Out,
            Refused::Delivery { .. } | Refused::Deletion => Way::In,
            Refused::Subscription | Refused::Uncovered => Way::Subscription,
            Refused::Connection => Way::Connection,
        };
        self.put(way, client, topic, why, now_ms);
    }

    /// Something is wrong with the ledger.
    pub fn note_alarm(&mut self, why: &Why, now_ms: u64) {
        self.put(Way::Ledger, "", "", why, now_ms);
    }

    fn put(&mut self, way: Way, client: &str, topic: &str, why: &Why, now_ms: u64) {
        let topic = cut(topic);
        self.changed = true;
        if !self.topics.contains_key(topic) {
            self.make_room();
            self.topics.insert(topic.to_owned(), VecDeque::new());
        }
        let Some(of_topic) = self.topics.get_mut(topic) else { return };
        let sender = why.sender.as_ref().map(|sender| sender.as_str());
        let same = |known: &Incident| {
            (known.way, known.code, known.client.as_str(), known.sender.as_deref())
                == (way, why.cause, cut(client), sender)
        };
        let mut incident = match of_topic.iter().position(same).and_then(|at| of_topic.remove(at)) {
            Some(known) => known,
            None => Incident {
                topic: (!topic.is_empty()).then(|| topic.to_owned()),
                way,
                client: cut(client).to_owned(),
                code: why.cause,
                sender: sender.map(str::to_owned),
                detail: String::new(),
                count: 0,
                first_ms: now_ms,
                last_ms: now_ms,
            },
        };
        incident.count += 1;
        incident.last_ms = now_ms;
        incident.detail.clear();
        incident.detail.push_str(cut(&why.text));
        if of_topic.len() >= MAX_PER_TOPIC {
            of_topic.pop_front();
        }
        of_topic.push_back(incident);
    }

    /// All of them, if there is something new since this was called last.
    pub fn take_changes(&mut self) -> Option<Vec<Incident>> {
        std::mem::take(&mut self.changed).then(|| self.topics.values().flatten().cloned().collect())
    }

    /// Whether there is something new since [`Self::take_changes`].
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    fn make_room(&mut self) {
        if self.topics.len() < MAX_TOPICS {
            return;
        }
        let last_ms = |of_topic: &VecDeque<Incident>| of_topic.back().map(|incident| incident.last_ms);
        let oldest = self.topics.iter().min_by_key(|(_, of_topic)| last_ms(of_topic)).map(|(topic, _)| topic.clone());
        if let Some(oldest) = oldest {
            self.topics.remove(&oldest);
        }
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or(text)
}

fn put_code<S: serde::Serializer>(cause: &Cause, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cause.code())
}

fn take_code<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Cause, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Why;

    fn refused(topic: &str, cause: Cause, text: &str) -> ClientEvent {
        ClientEvent {
            what: Refused::Delivery { bytes: 1 },
            client: "pump".into(),
            topic: topic.into(),
            why: Why::new(cause, text),
        }
    }

    #[test]
    fn the_same_is_counted_and_the_last_words_are_kept() {
        let mut incidents = Incidents::default();
        for (now_ms, text) in [(5, "first"), (9, "second")] {
            incidents.note(&refused("t", Cause::Replayed, text), now_ms);
        }
        incidents.note(&refused("t", Cause::TooOld, "old"), 7);
        let rows = incidents.take_changes().unwrap();
        let [replayed, old] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((replayed.count, replayed.first_ms, replayed.last_ms), (2, 5, 9));
        assert_eq!((replayed.detail.as_str(), old.code, old.count), ("second", Cause::TooOld, 1));
        assert_eq!(incidents.take_changes(), None);
    }

    #[test]
    fn they_outlive_the_process() {
        let mut incidents = Incidents::default();
        incidents.note(&refused("", Cause::BrokerAway, "refused"), 5);
        incidents.note(&refused("t", Cause::Replayed, "x"), 6);
        let rows = incidents.take_changes().unwrap();
        let stored = serde_json::to_vec(&rows).unwrap();
        let mut again = Incidents::new(serde_json::from_slice::<Vec<Incident>>(&stored).unwrap());
        assert!(!again.has_changed());
        again.note(&refused("t", Cause::Replayed, "y"), 8);
        let rows = again.take_changes().unwrap();
        assert_eq!(
            rows.iter().map(|row| (row.topic.as_deref(), row.count)).collect::<Vec<_>>(),
            [(None, 1), (Some("t"), 2)]
        );
    }

    #[test]
    fn whoever_sends_on_ever_new_topics_fills_no_memory() {
        let mut incidents = Incidents::default();
        let long = "é".repeat(MAX_TEXT_BYTES);
        for at in 0..10 * MAX_TOPICS as u64 {
            incidents.note(&refused(&format!("t/{at}"), Cause::NoGroup, &long), at);
        }
        for (at, cause) in Cause::ALL.iter().enumerate() {
            incidents.note(&refused("last", *cause, "x"), 10_000 + at as u64);
        }
        let rows = incidents.take_changes().unwrap();
        assert_eq!(rows.len(), MAX_TOPICS - 1 + MAX_PER_TOPIC);
        assert!(rows.iter().all(|row| row.detail.len() <= MAX_TEXT_BYTES));
        let newest = format!("t/{}", 10 * MAX_TOPICS - 1);
        assert!(rows.iter().any(|row| row.topic.as_deref() == Some(&newest)), "the oldest topics went");
        assert!(rows.iter().any(|row| row.topic.as_deref() == Some("last") && Some(&row.code) == Cause::ALL.last()));
    }
}
