//! Sealing: content in, frame out.

mod batch;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aws_lc_rs::rand;
use sealcast_identity::{Signature, SigningKey};
use sframe::crypto::EncryptionBufferView;

use crate::{
    backend::{EncryptionKey, SUITE},
    content::{Content, Purpose},
    epoch::{Authenticity, EpochId},
    header::{GroupNumber, Header, KeyId, MAX_HEADER_BYTES, PREAMBLE_BYTES, Start, TAG_BYTES, ctr, write_header},
    keys::GroupKeys,
    plaintext::{Flags, MAX_PATH_BYTES, MAX_VARINT, ProofKind, SIGNATURE_BYTES, write_aad, write_varint},
    report::{Distance, Piece, Place, RawReport},
    statement::Context,
};

/// Most bytes that a frame without properties is longer than its payload, where nothing is signed.
pub const MAX_OVERHEAD_UNSIGNED: usize = MAX_HEADER_BYTES + PREAMBLE_BYTES + TAG_BYTES;
/// Most bytes that it is longer if it is signed alone.
pub const MAX_OVERHEAD_SIGNED: usize = MAX_OVERHEAD_UNSIGNED + SIGNATURE_BYTES;
/// Most bytes that it is longer if it is signed in a batch.
pub const MAX_OVERHEAD_BATCH: usize = MAX_OVERHEAD_SIGNED + MAX_PATH_BYTES;
/// Longest MQTT topic, in bytes.
const MAX_TOPIC_BYTES: usize = 65_535;
/// How often a start is drawn before there are taken to be none left. Even if a million were used, none of so many draws
/// would be new once in 2^64.
const MAX_DRAWS: usize = 16;

/// Why nothing was sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Nothing can be sealed without a key.
    #[error("cannot seal for {group}: {device} is not a member of it; grant it, or wait until it has joined")]
    NotMember {
        /// The group's name.
        group: Arc<str>,
        /// This device.
        device: String,
    },
    /// The epoch turned since this sealer was made: make one for the current epoch.
    #[error("cannot seal for group {group} under epoch {epoch}: that epoch has ended; use the current epoch's sealer")]
    EpochEnded {
        /// The group's number.
        group: GroupNumber,
        /// The sealer's epoch.
        epoch: EpochId,
    },
    /// All 16,777,216 counters of this start are used: make another sealer.
    #[error("the sealer {start} of group {group}, epoch {epoch} has sealed its last message: make another one")]
    NeedStart {
        /// The group's number.
        group: GroupNumber,
        /// The sealer's epoch.
        epoch: EpochId,
        /// The start that is used up.
        start: Start,
    },
    /// This process has used up the starts of this epoch: nothing can be sealed before the epoch turns.
    #[error("epoch {epoch} of group {group} has no starts left for another sealer: start a new epoch")]
    NeedEpoch {
        /// The group's number.
        group: GroupNumber,
        /// The epoch that is used up.
        epoch: EpochId,
    },
    /// A sealer for this start was made before.
    #[error("start {start} of group {group} was already used in this epoch: take another one")]
    StartUsed {
        /// The group's number.
        group: GroupNumber,
        /// The one asked for.
        start: Start,
    },
    /// The roster has another key on this device's leaf.
    #[error("this device's key is not the one that group {group} has for it: publish the key again and rejoin")]
    Key {
        /// The group's number.
        group: GroupNumber,
    },
    /// MQTT cannot carry the topic.
    #[error("a topic has 1 to 65,535 bytes, this one has {0}")]
    Topic(usize),
    /// MQTT cannot carry the frame.
    #[error("a message of {0} bytes is too long for one MQTT packet once it is sealed")]
    TooLarge(usize),
    /// A tombstone says nothing but that a message is gone.
    #[error("a tombstone has no payload and is not retained itself")]
    Tombstone,
    /// The crypto library refused, which it does only when it is out of memory or entropy.
    #[error("the crypto library failed")]
    Library,
}

impl GroupKeys {
    /// A sealer of the current epoch that signs with this device's `key`, under a start drawn for it alone.
    pub fn sealer(&mut self, key: &Arc<SigningKey>) -> Result<Sealer, SealError> {
        for _ in 0..MAX_DRAWS {
            let mut drawn = [0; 4];
            rand::fill(&mut drawn[1..]).map_err(|_| SealError::Library)?;
            let Some(start) = Start::new(u32::from_be_bytes(drawn)) else { continue };
            match self.sealer_at(start, key) {
                Err(SealError::StartUsed { .. }) => {}
                made => return made,
            }
        }
        let epoch = self.current().unwrap_or(EpochId { generation: 0, epoch: 0 });
        Err(SealError::NeedEpoch { group: self.group(), epoch })
    }

    /// A sealer with a start that the caller has chosen: for test vectors, whose frames must not change. An agent that
    /// chose its starts would use nonces twice if its folder were copied.
    pub fn sealer_at(&mut self, start: Start, key: &Arc<SigningKey>) -> Result<Sealer, SealError> {
        let (group, label, device) = (self.group(), self.label(), self.device().to_string());
        let Some(held) = self.front() else {
            return Err(SealError::NotMember { group: label, device });
        };
        if held.starts.contains(&start) {
            return Err(SealError::StartUsed { group, start });
        }
        if held.sender(held.own_leaf).is_none_or(|own| own.key.public() != key.public()) {
            return Err(SealError::Key { group });
        }
        let key_id = KeyId::new(start, held.own_leaf, held.id.epoch);
        let frame_key =
            EncryptionKey::derive_from(SUITE, key_id.bits(), held.secret.bytes()).map_err(|_| SealError::Library)?;
        let sealer = Sealer {
            group,
            epoch: held.id,
            key_id,
            context: self.context(held.id, key_id),
            next: 0,
            frame_key,
            signing: match held.authenticity {
                Authenticity::Signature => Some(Arc::clone(key)),
                Authenticity::Group => None,
            },
            current: Arc::clone(&held.current),
            ledger: OwnLedger { began_at: held.began_at, height: None, seen: None },
            aad: Vec::new(),
            statement: Vec::new(),
        };
        if let Some(held) = self.front_mut() {
            held.starts.insert(start);
        }
        Ok(sealer)
    }
}

/// Seals what this device publishes in one group, epoch and start.
///
/// It owns its start and its counter only grows, so that no nonce is used twice; it stops by itself when the epoch turns.
pub struct Sealer {
    group: GroupNumber,
    epoch: EpochId,
    key_id: KeyId,
    context: Context,
    /// Next counter; `Header::MAX_COUNTER + 1` when all are used.
    next: u32,
    frame_key: EncryptionKey,
    signing: Option<Arc<SigningKey>>,
    current: Arc<AtomicBool>,
    ledger: OwnLedger,
    aad: Vec<u8>,
    statement: Vec<u8>,
}

/// What is reported of this device's ledger.
struct OwnLedger {
    began_at: Option<u64>,
    /// How far the ledger was read when it was looked at last.
    height: Option<u64>,
    /// What to report: a height that can be told, and the head at it.
    seen: Option<(Distance, [u8; 32])>,
}

/// A message on its way: header and plaintext without its proof.
struct Draft {
    frame: Vec<u8>,
    header_bytes: usize,
    ctr: u64,
}

impl Draft {
    /// The plaintext.
    fn inside(&self) -> &[u8] {
        self.frame.get(self.header_bytes..).unwrap_or_default()
    }

    fn set_proof(&mut self, kind: ProofKind) {
        if let Some(flags) = self.frame.get_mut(self.header_bytes) {
            *flags = Flags(*flags).with(kind).0;
        }
    }
}

impl Sealer {
    /// Seals `content` for `topic`, the one it is published to, character for character as other members receive it.
    pub fn seal(&mut self, now_ms: u64, topic: &str, content: &Content<'_>) -> Result<Vec<u8>, SealError> {
        let draft = self.draft(now_ms, topic, content)?;
        self.finish(topic, draft)
    }

    /// Tells how far this device has read its ledger: every message reports it from now on. `head_at` gives the head that
    /// the ledger had at a height, if it is known.
    pub fn follow_ledger(&mut self, height: u64, head_at: impl FnOnce(u64) -> Option<[u8; 32]>) {
        let own = &mut self.ledger;
        if own.height.replace(height) == Some(height) {
            return;
        }
        let Some(began_at) = own.began_at else { return };
        let distance = height.checked_sub(began_at).map(Distance::up_to);
        if distance == own.seen.map(|(distance, _)| distance) {
            return;
        }
        own.seen = distance.and_then(|distance| Some((distance, head_at(began_at + distance.entries())?)));
    }

    /// The epoch it seals under.
    pub fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// The key id of its frames.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// How many messages it has sealed, for the policy's limit per epoch.
    pub fn sealed(&self) -> u32 {
        self.next
    }

    /// Whether any frame can carry it.
    fn check(topic: &str, content: &Content<'_>) -> Result<(), SealError> {
        if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES {
            return Err(SealError::Topic(topic.len()));
        }
        let capacity = capacity(content).saturating_add(topic.len());
        if capacity > MAX_VARINT {
            return Err(SealError::TooLarge(content.payload.len()));
        }
        if content.purpose == Purpose::Tombstone && (content.retain || !content.payload.is_empty()) {
            return Err(SealError::Tombstone);
        }
        Ok(())
    }

    fn draft(&mut self, now_ms: u64, topic: &str, content: &Content<'_>) -> Result<Draft, SealError> {
        Self::check(topic, content)?;
        let counter = self.take_counter()?;
        let time_ms = match content.purpose {
            Purpose::Reseal { sealed_ms } => sealed_ms,
            Purpose::Message | Purpose::Will | Purpose::Tombstone => now_ms,
        };
        let ctr = ctr(time_ms, counter);
        let flags = Flags::of(content);
        let mut frame = Vec::with_capacity(capacity(content));
        write_header(self.key_id, ctr, &mut frame);
        let header_bytes = frame.len();
        let RawReport([a, b, c]) = self.report(counter);
        frame.extend_from_slice(&[flags.0, a, b, c]);
        if flags.has_props() {
            write_varint(content.props.len(), &mut frame);
            frame.extend_from_slice(content.props);
        }
        frame.extend_from_slice(content.payload);
        Ok(Draft { frame, header_bytes, ctr })
    }

    fn report(&self, counter: u32) -> RawReport {
        let Some((distance, head)) = &self.ledger.seen else { return RawReport::UNSAID };
        RawReport::new(*distance, Piece::of(head, Place::of(self.key_id.start(), counter)))
    }

    /// Makes a frame of a message alone.
    fn finish(&mut self, topic: &str, mut draft: Draft) -> Result<Vec<u8>, SealError> {
        match &self.signing {
            Some(key) => {
                draft.set_proof(ProofKind::Alone);
                self.context.write_alone(draft.ctr, topic, draft.inside(), &mut self.statement);
                draft.frame.extend_from_slice(&sign(key, &self.statement)?);
            }
            None => draft.set_proof(ProofKind::Unsigned),
        }
        self.encrypt(topic, draft)
    }

    fn encrypt(&mut self, topic: &str, draft: Draft) -> Result<Vec<u8>, SealError> {
        let Draft { mut frame, header_bytes, ctr } = draft;
        write_aad(&frame, header_bytes, self.group, topic, &mut self.aad);
        let mut tag = [0; TAG_BYTES];
        let data = frame.get_mut(header_bytes..).ok_or(SealError::Library)?;
        self.frame_key
            .encrypt(EncryptionBufferView { aad: &mut self.aad, data, tag: &mut tag }, ctr)
            .map_err(|_| SealError::Library)?;
        frame.extend_from_slice(&tag);
        Ok(frame)
    }

    /// A counter, once. It is used up even if sealing fails afterwards.
    fn take_counter(&mut self) -> Result<u32, SealError> {
        if !self.current.load(Ordering::Acquire) {
            return Err(SealError::EpochEnded { group: self.group, epoch: self.epoch });
        }
        if self.next > Header::MAX_COUNTER {
            return Err(SealError::NeedStart { group: self.group, epoch: self.epoch, start: self.key_id.start() });
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

/// Room for any frame of `content`.
fn capacity(content: &Content<'_>) -> usize {
    MAX_OVERHEAD_BATCH.saturating_add(4).saturating_add(content.props.len()).saturating_add(content.payload.len())
}

fn sign(key: &SigningKey, statement: &[u8]) -> Result<Signature, SealError> {
    key.sign(statement).map_err(|_| SealError::Library)
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("group", &self.group)
            .field("epoch", &self.epoch)
            .field("key_id", &self.key_id)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
