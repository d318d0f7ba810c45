//! What can be done to MQTT packets by whoever carries them: messages come changed, moved, twice, late, or again.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::{MutexGuard, PoisonError},
};

use sealcast_mqtt::{Ack, Connect, Frame, PacketId, PacketType, Properties, Publish, Qos, Splitter, Version};

use super::{Armed, Connection, Fate, Fault, Subject, Units, Way};

const MAX_FRAME_BYTES: usize = 16 << 20;
/// Older messages, of all lines, that can come again.
const KEPT: usize = 64;
/// Packet identifiers from here on are those of what is added: clients and brokers begin at 1.
const OWN_IDS: u16 = 0xF000;
const CONTROL: &str = "sealcast/";

/// The packets of one way of a connection.
pub struct Packets(Splitter);

impl Default for Packets {
    fn default() -> Self {
        Self(Splitter::new(MAX_FRAME_BYTES))
    }
}

/// Messages that passed, the newest last.
#[derive(Default)]
pub struct Passed {
    messages: VecDeque<Publish>,
    control: VecDeque<Publish>,
}

/// What has to be known of a connection.
#[derive(Default)]
pub struct Numbers {
    version: Option<Version>,
    /// Packet identifiers of which one acknowledgement is the stand-in's own, by the way on which it comes.
    own: [BTreeSet<u16>; 2],
    next: u16,
}

impl Units for Packets {
    fn feed(&mut self, bytes: &[u8], on: &Connection<'_>, way: Way) -> io::Result<Vec<Fate>> {
        self.0.feed(bytes);
        let mut fates = Vec::new();
        while let Some(frame) = self.0.next_frame().map_err(io::Error::other)? {
            fates.extend(on.judge(&frame, way).map_err(io::Error::other)?);
        }
        Ok(fates)
    }
}

impl Connection<'_> {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing becomes of an acknowledgement that the stand-in itself has asked for.
    fn judge(&self, frame: &Frame, way: Way) -> Result<Option<Fate>, Box<dyn std::error::Error + Send + Sync>> {
        let as_it_is = || Some(Fate::Pass(frame.bytes().to_vec()));
        let version = self.numbers().version.unwrap_or(Version::V5);
        match frame.packet() {
            PacketType::Connect => {
                self.numbers().version = Some(Connect::parse_version(frame)?);
                Ok(as_it_is())
            }
            PacketType::Puback => {
                let id = Ack::parse(frame, version)?.packet_id.value();
                let is_own = self.numbers().own[way as usize].remove(&id);
                Ok(if is_own { None } else { as_it_is() })
            }
            PacketType::Publish => {
                let publish = Publish::parse(frame, version)?;
                let Some(subject) = subject(&publish) else { return Ok(as_it_is()) };
                let armed = self.line.take(subject, way);
                let fate = match armed {
                    Some(armed) => self.suffer(frame, &publish, armed, version)?,
                    None => Fate::Pass(frame.bytes().to_vec()),
                };
                self.line.passed(|passed| keep(passed.of(subject), publish));
                Ok(Some(fate))
            }
            _ => Ok(as_it_is()),
        }
    }

    fn suffer(
        &self,
        frame: &Frame,
        publish: &Publish,
        armed: Armed,
        version: Version,
    ) -> Result<Fate, sealcast_mqtt::EncodeError> {
        let Armed { fault, subject, way, salt } = armed;
        let whole = frame.bytes().to_vec();
        let older = self.line.passed(|passed| {
            let kept = passed.of(subject);
            kept.get(salt as usize % kept.len().max(1)).cloned().unwrap_or_else(|| publish.clone())
        });
        // Whoever loses a control message gets it again without being told, and a client's message when its connection ends.
        let in_place = |publish: Publish| {
            let bytes = publish.encode(version)?.to_vec();
            Ok(if subject == Subject::Control { Fate::Pass(bytes) } else { Fate::Deafen(bytes) })
        };
        let beside = |added: Publish| {
            let added = self.added(added, way, salt).encode(version)?.to_vec();
            Ok(Fate::Pass(if salt >> 40 & 1 == 0 { [added, whole.clone()] } else { [whole.clone(), added] }.concat()))
        };
        match fault {
            Fault::Duplicate => {
                if let Some(id) = publish.packet_id {
                    self.numbers().own[way.back() as usize].insert(id.value());
                }
                let dup = publish.qos != Qos::AtMostOnce && salt & 1 == 1;
                let copy = Publish { dup, ..publish.clone() }.encode(version)?;
                Ok(Fate::Pass([&whole[..], &copy].concat()))
            }
            Fault::Reorder => Ok(Fate::Hold(whole)),
            Fault::Truncate => Ok(Fate::End(whole[..salt as usize % whole.len()].to_vec())),
            Fault::Rewrite => in_place(altered(publish, salt)),
            Fault::Exchange => in_place(Publish { payload: older.payload, ..publish.clone() }),
            Fault::Forge => beside(altered(publish, salt)),
            Fault::Move => beside(Publish { topic: older.topic, ..publish.clone() }),
            Fault::Replay => beside(Publish { topic: older.topic, payload: older.payload, ..publish.clone() }),
        }
    }

    /// As a message of the stand-in's own, which nobody waits for to be acknowledged.
    fn added(&self, publish: Publish, way: Way, salt: u64) -> Publish {
        let plain = Publish { properties: Properties::new(), retain: false, ..publish };
        if salt >> 41 & 1 == 0 {
            return Publish { qos: Qos::AtMostOnce, dup: false, packet_id: None, ..plain };
        }
        let mut numbers = self.numbers();
        let id = OWN_IDS | numbers.next;
        numbers.next = (numbers.next + 1) % (u16::MAX - OWN_IDS);
        numbers.own[way.back() as usize].insert(id);
        Publish { qos: Qos::AtLeastOnce, dup: salt >> 42 & 1 == 1, packet_id: PacketId::new(id), ..plain }
    }
}

impl super::State {
    fn passed<T>(&self, with: impl FnOnce(&mut Passed) -> T) -> T {
        with(&mut self.passed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Passed {
    fn of(&mut self, subject: Subject) -> &mut VecDeque<Publish> {
        if subject == Subject::Control { &mut self.control } else { &mut self.messages }
    }
}

fn subject(publish: &Publish) -> Option<Subject> {
    let topic = publish.topic.as_ref()?.as_str();
    Some(if topic.starts_with(CONTROL) { Subject::Control } else { Subject::Message })
}

fn keep(kept: &mut VecDeque<Publish>, publish: Publish) {
    kept.push_back(publish);
    if kept.len() > KEPT {
        kept.pop_front();
    }
}

/// The same with one bit changed, without its end, with something behind it, or with nothing in it.
fn altered(publish: &Publish, salt: u64) -> Publish {
    let mut payload = publish.payload.to_vec();
    let at = salt as usize % payload.len().max(1);
    match salt >> 44 & 7 {
        0 => payload.truncate(at),
        1 => payload.push(salt as u8),
        2 => payload.clear(),
        3 => payload = b"not sealed at all".to_vec(),
        _ => {
            if let Some(byte) = payload.get_mut(at) {
                *byte ^= 1 << (salt >> 32 & 7);
            }
        }
    }
    Publish { payload: payload.into(), ..publish.clone() }
}
