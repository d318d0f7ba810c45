//! One way through the proxy: frames in their order, some of which wait for the driver; and its topic aliases.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sealcast_topic::TopicName;

use super::types::{CloseReason, PublishRefusal};
use crate::packets::{EncodeError, PacketId, ParseError, Properties, Property, Publish, Version};

/// A place in the order.
pub(super) enum Slot {
    /// Passes as it is.
    Frame(Bytes),
    /// Passes, and the connection ends with it.
    Last(Bytes, CloseReason),
    /// Waits for its answer.
    Held(Box<Held>),
}

impl Slot {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(bytes) | Self::Last(bytes, _) => bytes.len(),
            Self::Held(held) => held.frame.len(),
        }
    }

    fn is_ready(&self) -> bool {
        !matches!(self, Self::Held(held) if matches!(held.answer, None | Some(Answer::Announced)))
    }
}

/// A PUBLISH that waits for its answer.
pub(super) struct Held {
    pub(super) id: u64,
    pub(super) frame: Bytes,
    pub(super) publish: Publish,
    pub(super) topic: TopicName,
    pub(super) answer: Option<Answer>,
}

/// What becomes of a held PUBLISH.
pub(super) enum Answer {
    Pass,
    /// As `Pass`, but without the user properties that are the agent's to set.
    PassUntrusted,
    Replace {
        payload: Bytes,
        /// Take the place of the properties that belong inside the seal.
        inner: Vec<Property>,
        /// Added last; left out if the frame only fits without them.
        extra: Vec<Property>,
    },
    Withhold(Option<PublishRefusal>),
    /// This goes before it, in a message of its own.
    Announce(Bytes),
    /// That has gone, and the broker has not acknowledged it.
    Announced,
    /// Withheld, and acknowledged to its sender as if the broker had it.
    Acknowledge,
}

/// A frame in its final form, or its size if it exceeds the limit.
pub(super) enum Rendered {
    Fits(Bytes),
    TooLarge(usize),
}

/// What to do next with a lane.
pub(super) enum Ready {
    Frame(Bytes),
    Last(Bytes, CloseReason),
    Held(Box<Held>, Answer),
}

#[derive(Default)]
pub(super) struct Lane {
    slots: VecDeque<Slot>,
    bytes: usize,
    /// Topics by alias as the sending side has set them.
    heard: Aliases,
    /// Topics by alias as the receiving side knows them. Differs once a message that sets one was withheld.
    told: Aliases,
}

#[derive(Default)]
struct Aliases(BTreeMap<u16, TopicName>);

impl Lane {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, slot: Slot) {
        self.bytes += slot.bytes();
        self.slots.push_back(slot);
    }

    /// Puts back what was taken.
    pub(super) fn push_front(&mut self, slot: Slot) {
        self.bytes += slot.bytes();
        self.slots.push_front(slot);
    }

    pub(super) fn extend(&mut self, slots: impl IntoIterator<Item = Slot>) {
        slots.into_iter().for_each(|slot| self.push(slot));
    }

    pub(super) fn answer(&mut self, id: u64, answer: Answer) -> bool {
        let waiting = self.slots.iter_mut().find_map(|slot| match slot {
            Slot::Held(held) if held.id == id && held.answer.is_none() => Some(held),
            _ => None,
        });
        let Some(held) = waiting else { return false };
        held.answer = Some(answer);
        true
    }

    pub(super) fn is_waiting(&self, id: u64) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Held(held) if held.id == id && held.answer.is_none()))
    }

    /// Takes the first slot if it waits for the broker to acknowledge its announcement under this packet identifier.
    pub(super) fn take_announced(&mut self, packet_id: PacketId) -> Option<Box<Held>> {
        let slot = self.slots.pop_front_if(|slot| {
            matches!(slot, Slot::Held(held)
                if matches!(held.answer, Some(Answer::Announced)) && held.publish.packet_id == Some(packet_id))
        })?;
        self.bytes -= slot.bytes();
        if let Slot::Held(held) = slot { Some(held) } else { None }
    }

    /// Takes the first slot if nothing holds it up.
    pub(super) fn next_ready(&mut self) -> Option<Ready> {
        let slot = self.slots.pop_front_if(|slot| slot.is_ready())?;
        self.bytes -= slot.bytes();
        match slot {
            Slot::Frame(bytes) => Some(Ready::Frame(bytes)),
            Slot::Last(bytes, reason) => Some(Ready::Last(bytes, reason)),
            Slot::Held(mut held) => held.answer.take().map(|answer| Ready::Held(held, answer)),
        }
    }

    /// The topic of a PUBLISH as it comes in; remembers the alias it sets.
    pub(super) fn resolve(&mut self, publish: &Publish, max_alias: u16) -> Result<TopicName, ParseError> {
        let alias = publish.properties.topic_alias();
        if let Some(alias) = alias.filter(|alias| *alias > max_alias) {
            return Err(ParseError::Alias(alias));
        }
        match (&publish.topic, alias) {
            (Some(topic), Some(alias)) => {
                self.heard.0.insert(alias, topic.clone());
                Ok(topic.clone())
            }
            (Some(topic), None) => Ok(topic.clone()),
            (None, alias) => {
                let alias = alias.unwrap_or_default();
                self.heard.0.get(&alias).cloned().ok_or(ParseError::Alias(alias))
            }
        }
    }

    /// The sender has set `alias` to something that is no topic.
    pub(super) fn forget_alias(&mut self, alias: u16) {
        self.heard.0.remove(&alias);
    }

    /// The frame to send for `held`. Where the receiver does not know the alias the topic is put beside it.
    pub(super) fn render(&mut self, held: Held, answer: Answer, version: Version, max: usize) -> Rendered {
        let Held { frame, mut publish, topic, .. } = held;
        let alias = publish.properties.topic_alias();
        let unknown = publish.topic.is_none() && alias.and_then(|alias| self.told.0.get(&alias)) != Some(&topic);
        if unknown {
            publish.topic = Some(topic.clone());
        }
        let rendered = match answer {
            Answer::Replace { payload, inner, extra } => {
                let (_, outside) = publish.properties.partition_sealed();
                let base: Properties = outside.iter().cloned().chain(inner).collect();
                let with_extra: Properties = base.iter().cloned().chain(extra).collect();
                publish.payload = payload;
                publish.properties = with_extra;
                let rendered = fit(publish.encode(version), max);
                if matches!(rendered, Rendered::TooLarge(_)) {
                    publish.properties = base;
                    fit(publish.encode(version), max)
                } else {
                    rendered
                }
            }
            Answer::PassUntrusted if publish.properties.iter().any(Property::is_agents) => {
                publish.properties = publish.properties.without_agents();
                fit(publish.encode(version), max)
            }
            _ if unknown => fit(publish.encode(version), max),
            _ => fit(Ok(frame), max),
        };
        if let (Rendered::Fits(_), Some(alias)) = (&rendered, alias) {
            self.told.0.insert(alias, topic);
        }
        rendered
    }
}

fn fit(encoded: Result<Bytes, EncodeError>, max: usize) -> Rendered {
    match encoded {
        Ok(bytes) if bytes.len() <= max => Rendered::Fits(bytes),
        Ok(bytes) => Rendered::TooLarge(bytes.len()),
        Err(EncodeError::TooLarge(size)) => Rendered::TooLarge(size),
        // A parsed PUBLISH encodes; properties added by the driver may be too long for their field.
        Err(_) => Rendered::TooLarge(usize::MAX),
    }
}
