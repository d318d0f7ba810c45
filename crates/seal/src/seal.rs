//! Sealing: content in, frame out.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sealcast_identity::SigningKey;
use sframe::crypto::EncryptionBufferView;

use crate::{
    backend::{EncryptionKey, SUITE},
    content::{Content, Purpose},
    epoch::{Authenticity, EpochId},
    header::{GroupNumber, Header, KeyId, MAX_HEADER_BYTES, PREAMBLE_BYTES, TAG_BYTES},
    keys::GroupKeys,
    plaintext::{Context, Flags, MAX_TIME_MS, MAX_VARINT, SIGNATURE_BYTES, write_aad, write_varint},
};

/// Most bytes that a signed frame without properties is longer than its payload.
pub const MAX_OVERHEAD_SIGNED: usize = MAX_OVERHEAD_UNSIGNED + SIGNATURE_BYTES;
/// Most bytes that an unsigned frame without properties is longer than its payload.
pub const MAX_OVERHEAD_UNSIGNED: usize = MAX_HEADER_BYTES + PREAMBLE_BYTES + TAG_BYTES;
/// Longest MQTT topic, in bytes.
const MAX_TOPIC_BYTES: usize = 65_535;

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
    /// All 16,777,216 counters of this boot are used: take another boot, and a sealer for it.
    #[error("boot {boot} of group {group}, epoch {epoch} has sealed its last message: use the next boot")]
    NeedBoot {
        /// The group's number.
        group: GroupNumber,
        /// The sealer's epoch.
        epoch: EpochId,
        /// The boot that is used up.
        boot: u16,
    },
    /// All 16,384 boots of this epoch are used: nothing can be sealed before the epoch turns.
    #[error("epoch {epoch} of group {group} has no boot numbers left for another restart: start a new epoch")]
    NeedEpoch {
        /// The group's number.
        group: GroupNumber,
        /// The epoch that is used up.
        epoch: EpochId,
    },
    /// A sealer for this boot or a later one was made before.
    #[error(
        "boot {boot} of group {group} was already used (boot {used} is in use): the stored boot number is out of date"
    )]
    BootUsed {
        /// The group's number.
        group: GroupNumber,
        /// The one asked for.
        boot: u16,
        /// Largest one in use.
        used: u16,
    },
    /// The boot was counted for another group or epoch.
    #[error("that boot was counted for group {group}, epoch {epoch}, which is not the current one")]
    BootOfOther {
        /// The boot's group.
        group: GroupNumber,
        /// The boot's epoch.
        epoch: EpochId,
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
    /// The clock is beyond what 48 bits hold.
    #[error("a frame cannot carry the time {0} ms: check this machine's clock")]
    Time(u64),
    /// The crypto library refused, which it does only when it is out of memory or entropy.
    #[error("the crypto library failed")]
    Library,
}

/// A boot that was counted but not yet stored. Neither `Clone` nor `Copy`.
#[derive(Debug)]
#[must_use]
pub struct PendingBoot {
    group: GroupNumber,
    epoch: EpochId,
    number: u16,
}

impl PendingBoot {
    /// What to store for this group and epoch before going on, and to give to [`GroupKeys::next_boot`] after a restart.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The group it counts in.
    pub fn group(&self) -> GroupNumber {
        self.group
    }

    /// The epoch it counts in.
    pub fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// Says that [`Self::number`] is on disk, synced. Saying so falsely lets a restart use a nonce twice, which gives
    /// away the messages sealed under it and lets others be forged.
    pub fn stored(self) -> Boot {
        Boot(self)
    }
}

/// A boot whose number is stored: good for one sealer.
#[derive(Debug)]
#[must_use]
pub struct Boot(PendingBoot);

impl Boot {
    /// The group whose boot it is.
    pub fn group(&self) -> GroupNumber {
        self.0.group
    }

    /// The epoch it counts in.
    pub fn epoch(&self) -> EpochId {
        self.0.epoch
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.0.number
    }
}

impl GroupKeys {
    /// Counts the next boot of the current epoch, given the one stored last for this group, generation and epoch.
    pub fn next_boot(&self, stored: Option<u16>) -> Result<PendingBoot, SealError> {
        let group = self.group();
        let Some(held) = self.front() else {
            return Err(SealError::NotMember { group: self.label(), device: self.device().to_string() });
        };
        let number = match stored.max(held.last_boot) {
            None => 0,
            Some(last) if last < KeyId::MAX_BOOT => last + 1,
            Some(_) => return Err(SealError::NeedEpoch { group, epoch: held.id }),
        };
        Ok(PendingBoot { group, epoch: held.id, number })
    }

    /// The sealer of the current epoch for `boot`, signing with this device's `key`. One boot gives one sealer.
    pub fn sealer(&mut self, boot: Boot, key: &Arc<SigningKey>) -> Result<Sealer, SealError> {
        let Boot(PendingBoot { group: boot_group, epoch, number: boot }) = boot;
        let (group, label, device) = (self.group(), self.label(), self.device().to_string());
        let Some(held) = self.front_mut() else {
            return Err(SealError::NotMember { group: label, device });
        };
        if (boot_group, epoch) != (group, held.id) {
            return Err(SealError::BootOfOther { group: boot_group, epoch });
        }
        if let Some(used) = held.last_boot.filter(|used| *used >= boot) {
            return Err(SealError::BootUsed { group, boot, used });
        }
        if held.sender(held.own_leaf).is_none_or(|own| own.key.public() != key.public()) {
            return Err(SealError::Key { group });
        }
        let key_id = KeyId::new(boot, held.own_leaf, epoch.epoch);
        let frame_key =
            EncryptionKey::derive_from(SUITE, key_id.bits(), held.secret.bytes()).map_err(|_| SealError::Library)?;
        held.last_boot = Some(boot);
        Ok(Sealer {
            group,
            epoch,
            key_id,
            next: 0,
            frame_key,
            signing: match held.authenticity {
                Authenticity::Signature => Some(Arc::clone(key)),
                Authenticity::Group => None,
            },
            current: Arc::clone(&held.current),
            aad: Vec::new(),
            transcript: Vec::new(),
        })
    }
}

/// Seals what this device publishes in one group, epoch and boot.
///
/// It owns its (epoch, boot) and its counter only grows, so that no nonce can be used twice; it stops by itself when the
/// epoch turns.
pub struct Sealer {
    group: GroupNumber,
    epoch: EpochId,
    key_id: KeyId,
    /// Next counter; `Header::MAX_COUNTER + 1` when all are used.
    next: u32,
    frame_key: EncryptionKey,
    signing: Option<Arc<SigningKey>>,
    current: Arc<AtomicBool>,
    aad: Vec<u8>,
    transcript: Vec<u8>,
}

impl Sealer {
    /// Seals `content` for `topic`, the one it is published to, character for character as other members receive it.
    pub fn seal(&mut self, now_ms: u64, topic: &str, content: &Content<'_>) -> Result<Vec<u8>, SealError> {
        let &Content { purpose, props, payload, .. } = content;
        if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES {
            return Err(SealError::Topic(topic.len()));
        }
        let time_ms = match purpose {
            Purpose::Reseal { sealed_ms } => sealed_ms,
            Purpose::Message | Purpose::Will => now_ms,
        };
        if time_ms > MAX_TIME_MS {
            return Err(SealError::Time(time_ms));
        }
        let capacity = MAX_OVERHEAD_SIGNED.saturating_add(4).saturating_add(props.len()).saturating_add(payload.len());
        if capacity.saturating_add(topic.len()) > MAX_VARINT {
            return Err(SealError::TooLarge(payload.len()));
        }
        let counter = self.take_counter()?;
        let flags = Flags::of(content, self.signing.is_some());

        let mut frame = Vec::with_capacity(capacity);
        Header::write(self.group, self.key_id, counter, &mut frame);
        let header_bytes = frame.len();
        let [_, preamble @ ..] = (u64::from(flags.0) << 48 | time_ms).to_be_bytes();
        frame.extend_from_slice(&preamble);
        if flags.has_props() {
            write_varint(props.len(), &mut frame);
            frame.extend_from_slice(props);
        }
        frame.extend_from_slice(payload);
        write_aad(&frame, header_bytes, topic, &mut self.aad);
        if let Some(key) = &self.signing {
            let context = Context { group: self.group, epoch: self.epoch, key_id: self.key_id, counter, topic };
            context.transcript(flags, time_ms, props, payload, &mut self.transcript);
            frame.extend_from_slice(&key.sign(&self.transcript).map_err(|_| SealError::Library)?);
        }
        let mut tag = [0; TAG_BYTES];
        let data = frame.get_mut(header_bytes..).ok_or(SealError::Library)?;
        self.frame_key
            .encrypt(EncryptionBufferView { aad: &mut self.aad, data, tag: &mut tag }, counter.into())
            .map_err(|_| SealError::Library)?;
        frame.extend_from_slice(&tag);
        Ok(frame)
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

    /// A counter, once. It is used up even if sealing fails afterwards.
    fn take_counter(&mut self) -> Result<u32, SealError> {
        if !self.current.load(Ordering::Acquire) {
            return Err(SealError::EpochEnded { group: self.group, epoch: self.epoch });
        }
        if self.next > Header::MAX_COUNTER {
            return Err(SealError::NeedBoot { group: self.group, epoch: self.epoch, boot: self.key_id.boot() });
        }
        self.next += 1;
        Ok(self.next - 1)
    }
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, error::Error};

    use super::*;
    use crate::{
        Delivery, DeliveryKind, Epoch, EpochSecret, Freshness, HandOver, LeafIndex, Member, OpenError, Opened, Opener,
        QosClass,
    };

    const TOPIC: &str = "a/b";
    const FRESHNESS: Freshness = Freshness {
        live_max_age_ms: None,
        retained_max_age_ms: None,
        offline_max_age_ms: None,
        clock_tolerance_ms: 0,
        epoch_grace_ms: None,
    };
    const LIVE: Delivery<'static> =
        Delivery { kind: DeliveryKind::Live, hand_over: HandOver::AtMostOnce, freshness: &FRESHNESS };

    fn content(payload: &[u8]) -> Content<'_> {
        Content { purpose: Purpose::Message, retain: false, class: QosClass::AtMostOnce, props: &[], payload }
    }

    /// On the last leaf, in the last boot, in an epoch whose tag has all bits set: the widest key id.
    fn widest(authenticity: Authenticity) -> Result<(GroupKeys, Sealer), Box<dyn Error>> {
        let key = Arc::new(SigningKey::generate()?);
        let own_leaf = LeafIndex::new(LeafIndex::MAX.into()).ok_or("a leaf")?;
        let device: sealcast_identity::DeviceId = "1111".parse()?;
        let mut keys = GroupKeys::new(GroupNumber(u16::MAX), "hsu0001", device.clone(), 0);
        keys.insert_epoch(Epoch {
            id: EpochId { generation: u32::MAX, epoch: u64::MAX },
            secret: EpochSecret::new([7; 32]),
            own_leaf,
            roster: BTreeMap::from([(own_leaf, Member { name: device, key: *key.public() })]),
            authenticity,
            since_ms: 0,
        })?;
        let boot = keys.next_boot(Some(KeyId::MAX_BOOT - 1))?.stored();
        let sealer = keys.sealer(boot, &key)?;
        Ok((keys, sealer))
    }

    #[test]
    fn the_widest_header_adds_exactly_100_bytes_signed_and_36_unsigned() -> Result<(), Box<dyn Error>> {
        for (authenticity, overhead) in [(Authenticity::Signature, 100), (Authenticity::Group, 36)] {
            let (keys, mut sealer) = widest(authenticity)?;
            sealer.next = Header::MAX_COUNTER;
            let frame = sealer.seal(MAX_TIME_MS, TOPIC, &content(&[0; 50]))?;
            assert_eq!(frame.len() - 50, overhead);
            let _opened = Opener::new().open(&keys, TOPIC, &frame, &LIVE, MAX_TIME_MS)?;
        }
        Ok(())
    }

    #[test]
    fn asks_for_a_boot_after_the_last_counter_and_for_an_epoch_after_the_last_boot() -> Result<(), Box<dyn Error>> {
        let (keys, mut sealer) = widest(Authenticity::Group)?;
        sealer.next = Header::MAX_COUNTER;
        sealer.seal(1, TOPIC, &content(b"last"))?;
        for _ in 0..3 {
            let refused = sealer.seal(1, TOPIC, &content(b"more"));
            assert!(matches!(refused, Err(SealError::NeedBoot { boot: KeyId::MAX_BOOT, .. })));
        }
        assert!(matches!(keys.next_boot(None), Err(SealError::NeedEpoch { .. })));
        Ok(())
    }

    #[test]
    fn refuses_what_no_frame_can_carry() -> Result<(), Box<dyn Error>> {
        let (_keys, mut sealer) = widest(Authenticity::Group)?;
        assert_eq!(sealer.seal(1, "", &content(b"")), Err(SealError::Topic(0)));
        assert_eq!(sealer.seal(1, &"a".repeat(65_536), &content(b"")), Err(SealError::Topic(65_536)));
        assert_eq!(sealer.seal(MAX_TIME_MS + 1, TOPIC, &content(b"")), Err(SealError::Time(MAX_TIME_MS + 1)));
        let huge = vec![0; MAX_VARINT];
        assert_eq!(sealer.seal(1, TOPIC, &content(&huge)), Err(SealError::TooLarge(MAX_VARINT)));
        assert_eq!(sealer.sealed(), 0, "no counter is spent on them");
        Ok(())
    }

    /// Seals `plaintext` as it is, as a member that does not keep to the format could.
    fn seal_inside(sealer: &mut Sealer, plaintext: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
        let counter = sealer.take_counter()?;
        let mut frame = Vec::new();
        Header::write(sealer.group, sealer.key_id, counter, &mut frame);
        let mut aad = Vec::new();
        write_aad(&frame, frame.len(), TOPIC, &mut aad);
        let (mut data, mut tag) = (plaintext.to_vec(), [0; TAG_BYTES]);
        let buffer = EncryptionBufferView { aad: &mut aad, data: &mut data, tag: &mut tag };
        sealer.frame_key.encrypt(buffer, counter.into())?;
        Ok([&frame[..], &data, &tag].concat())
    }

    #[test]
    fn a_plaintext_has_one_form_and_no_unknown_flags() -> Result<(), Box<dyn Error>> {
        let (keys, mut sealer) = widest(Authenticity::Group)?;
        let mut open = |inside: &[u8]| -> Result<Result<Opened, OpenError>, Box<dyn Error>> {
            let frame = seal_inside(&mut sealer, &[&inside[..1], &[0; 6], &inside[1..]].concat())?;
            Ok(Opener::new().open(&keys, TOPIC, &frame, &LIVE, 0))
        };
        assert!(open(&[0x02])?.is_ok(), "empty payload");
        assert!(open(&[0x03, 2, 9, 9, 1])?.is_ok(), "two bytes of properties, one of payload");
        assert!(open(&[0x22])?.is_ok(), "published with QoS 1");
        for flag in [0x40, 0x80] {
            let expected = 0x02 | flag;
            assert!(matches!(open(&[expected])?, Err(OpenError::Flags { flags, .. }) if flags == expected));
        }
        let malformed: [&[u8]; 9] = [
            &[0x00],                            // signed, without room for a signature
            &[0x03],                            // properties announced, nothing there
            &[0x03, 0],                         // properties announced, none there
            &[0x03, 2, 9],                      // cut off
            &[0x03, 0x81, 0x00, 9],             // their length not in its shortest form
            &[0x03, 0xFF, 0xFF, 0xFF, 0xFF, 1], // nor longer than four bytes
            &[0x03, 0xFF],                      // cut off within the length
            &[0x0A],                            // sealed again, not retained
            &[0x1E],                            // sealed again, and a will
        ];
        for inside in malformed {
            assert!(matches!(open(inside)?, Err(OpenError::Malformed { .. })), "{inside:02x?}");
        }
        Ok(())
    }
}
