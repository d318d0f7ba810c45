//! Opening: frame in, content out, or the reason why not.

mod message;
mod refusal;

use std::sync::Arc;

use sframe::crypto::DecryptionBufferView;

pub use self::message::{Delivery, HandOver, Message, Opened, Receipt};
use self::{
    message::SeenBy,
    refusal::{OpenRefusal, not_decrypted},
};
use crate::{
    epoch::Authenticity,
    error::OpenError,
    freshness::{AgeVerdict, DeliveryKind},
    header::{Header, TAG_BYTES},
    keys::{GroupKeys, HeldEpoch, NotOpened, Started},
    merkle::leaf,
    plaintext::{Flags, Plaintext, Proof, write_aad},
    replay::{Full, MarkOf, Marks, Order, Seen, SenderKey, Windows},
    report::Place,
    statement::write_leaf,
};

/// Which delivery of a frame it is to its client.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// The one that is not to have been seen.
    First,
    /// One beside it.
    Further,
}

/// Opens what one local client receives, and remembers what that client has seen.
///
/// Memory is bounded ([`MAX_WINDOWS`](crate::MAX_WINDOWS) and the like), and what does not fit is refused.
#[derive(Debug, Default)]
pub struct Opener {
    pub(crate) windows: Windows,
    pub(crate) marks: Marks,
    aad: Vec<u8>,
    statement: Vec<u8>,
}

impl Opener {
    /// For a client that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens `frame`, which arrived on `topic`; `keys` are those of the group that the topic belongs to.
    ///
    /// Changes nothing of what is remembered: call [`Self::mark_delivered`] once the message was handed to the client.
    /// Never panics, whatever the bytes are.
    pub fn open(
        &mut self,
        keys: &GroupKeys,
        topic: &str,
        frame: &[u8],
        delivery: &Delivery<'_>,
        now_ms: u64,
    ) -> Result<Opened, OpenError> {
        self.open_as(Turn::First, keys, topic, frame, delivery, now_ms)
    }

    /// Opens another copy of a frame that was handed to the client before, which several of the client's subscriptions ask
    /// for. To what is remembered it would be a replay: whoever calls this has to bound the copies.
    pub fn open_copy(
        &mut self,
        keys: &GroupKeys,
        topic: &str,
        frame: &[u8],
        delivery: &Delivery<'_>,
        now_ms: u64,
    ) -> Result<Opened, OpenError> {
        self.open_as(Turn::Further, keys, topic, frame, delivery, now_ms)
    }

    #[inline]
    fn open_as(
        &mut self,
        turn: Turn,
        keys: &GroupKeys,
        topic: &str,
        frame: &[u8],
        delivery: &Delivery<'_>,
        now_ms: u64,
    ) -> Result<Opened, OpenError> {
        let header = Header::parse(frame)?;
        let (held, from, plaintext) = self.decrypt(keys, topic, frame, header)?;
        let sender = &*from.sender;
        let refused = move |refusal: OpenRefusal| refusal.explain(keys, held, header, topic, delivery);
        if keys.is_removed(&sender.name, held.id) {
            return Err(refused(OpenRefusal::Removed));
        }
        let parsed = Plaintext::parse(&plaintext).map_err(OpenRefusal::from).map_err(refused)?;
        let Plaintext { flags, report, props, payload, proof, proven } = parsed;

        // The window before the signature: a replay then costs no verification.
        let Header { key_id, counter, .. } = header;
        let key = SenderKey { group: keys.group(), epoch: held.id, leaf: key_id.leaf(), class: flags.class() };
        let order = Order { time_ms: header.sealed_ms(now_ms), epoch: held.id, start: key_id.start(), counter };
        let receipt = Receipt::new(key, order, sender, flags, topic, delivery);
        if turn == Turn::First {
            self.check_seen(&receipt, delivery).map_err(refused)?;
        }
        self.check_retained(&receipt, flags, delivery).map_err(refused)?;
        self.check_proof(held, &from, header, topic, proven, proof).map_err(refused)?;
        let age_ms = check_time(held.ended_ms, flags, receipt.order.time_ms, delivery, now_ms).map_err(refused)?;
        if flags.is_reseal() && delivery.kind != DeliveryKind::Retained {
            return Ok(Opened::SealedAgain { sender: sender.name.clone() });
        }

        let place = Place::of(key_id.start(), counter);
        let report = held.began_at.and_then(|began_at| report.read(began_at, place));
        let payload_end = proven.len();
        let payload_start = payload_end - payload.len();
        let props_start = payload_start - props.len();
        let message =
            Message { from, age_ms, flags, report, plaintext, props_start, payload_start, payload_end, receipt };
        Ok(if flags.is_tombstone() { Opened::Tombstone(message) } else { Opened::Message(message) })
    }

    /// The message was handed to the client. At QoS 0 it is done with.
    #[inline]
    pub fn mark_delivered(&mut self, receipt: &Receipt) {
        self.mark(receipt, receipt.hand_over == HandOver::AtMostOnce);
    }

    /// The client acknowledged the message (PUBACK, PUBREC): another delivery of it is a replay.
    #[inline]
    pub fn mark_acknowledged(&mut self, receipt: &Receipt) {
        self.mark(receipt, true);
    }

    /// Forgets the windows of the epochs of `keys`' group that `keys` does not hold any more. Call after each turn.
    pub fn retain_epochs(&mut self, keys: &GroupKeys) {
        self.windows.retain(|sender| sender.group != keys.group() || keys.held().any(|held| held == sender.epoch));
    }

    // Into its caller, which then need not copy the receipt out of its message.
    #[inline]
    fn mark(&mut self, receipt: &Receipt, done: bool) {
        match receipt.seen_by {
            SeenBy::Window => self.windows.mark(receipt.sender, &receipt.order, done),
            SeenBy::Will(key) => self.marks.mark(key, receipt.mark(MarkOf::Will, done)),
            SeenBy::Retained => {}
        }
        if let Some(key) = receipt.retained {
            self.marks.mark(key, receipt.mark(MarkOf::Retained, done));
        }
    }

    /// Decrypts under the held epoch that the key id means. After a reset of the group two may be meant; the tag decides.
    #[inline]
    fn decrypt<'k>(
        &mut self,
        keys: &'k GroupKeys,
        topic: &str,
        frame: &[u8],
        header: Header,
    ) -> Result<(&'k HeldEpoch, Arc<Started>, Vec<u8>), OpenError> {
        let Some(sealed) = frame.get(header.header_bytes()..) else {
            return Err(OpenError::Library);
        };
        write_aad(frame, header.header_bytes(), keys.group(), topic, &mut self.aad);
        for held in keys.tagged(header.key_id.epoch_tag()) {
            // The one copy: decrypted in place, it becomes the message.
            let mut plaintext = sealed.to_vec();
            let buffer = DecryptionBufferView { aad: &mut self.aad, data: &mut plaintext };
            let context = || keys.context(held.id, header.key_id);
            match held.open(header.key_id, context, |key| key.decrypt(buffer, header.ctr()).is_ok()) {
                Ok(from) => {
                    plaintext.truncate(plaintext.len().saturating_sub(TAG_BYTES));
                    return Ok((held, from, plaintext));
                }
                Err(NotOpened::Refused) => {}
                Err(NotOpened::Library) => return Err(OpenError::Library),
            }
        }
        Err(not_decrypted(keys, topic, header))
    }

    /// Whether the sender has signed what is `proven`, as far as the group wants that.
    #[inline]
    fn check_proof(
        &mut self,
        held: &HeldEpoch,
        from: &Started,
        header: Header,
        topic: &str,
        proven: &[u8],
        proof: Proof<'_>,
    ) -> Result<(), OpenRefusal> {
        let is_signed = match proof {
            Proof::Unsigned if held.authenticity == Authenticity::Signature => return Err(OpenRefusal::Unsigned),
            Proof::Unsigned => true,
            Proof::Alone(signature) => {
                from.context.write_alone(header.ctr(), topic, proven, &mut self.statement);
                from.sender.key.verifies(&self.statement, signature)
            }
            Proof::Batch(proof) => {
                write_leaf(header.ctr(), topic, proven, &mut self.statement);
                let leaf = leaf(&self.statement);
                from.has_verified(&proof, leaf) || {
                    let way = proof.way(leaf);
                    from.context.write_batch(proof.size, way.root(), &mut self.statement);
                    let holds = from.sender.key.verifies(&self.statement, proof.signature);
                    if holds {
                        from.note_verified(&proof, way);
                    }
                    holds
                }
            }
        };
        if is_signed { Ok(()) } else { Err(OpenRefusal::BadSignature) }
    }

    #[inline]
    fn check_seen(&self, receipt: &Receipt, delivery: &Delivery<'_>) -> Result<(), OpenRefusal> {
        let again = matches!(delivery.hand_over, HandOver::Acknowledged { dup: true });
        let seen = match &receipt.seen_by {
            SeenBy::Window => match self.windows.check(&receipt.sender, &receipt.order) {
                Ok(seen) => seen,
                Err(Full) => return Err(OpenRefusal::TooManySenders),
            },
            SeenBy::Will(key) => self.marks.check_will(key, &receipt.mark(MarkOf::Will, false)),
            SeenBy::Retained => Seen::New,
        };
        if seen == Seen::Done || seen == Seen::Delivered && !again {
            return Err(OpenRefusal::Replay);
        }
        Ok(())
    }

    /// Whether what comes as a retained message is one, and none older than the client has had.
    #[inline]
    fn check_retained(&self, receipt: &Receipt, flags: Flags, delivery: &Delivery<'_>) -> Result<(), OpenRefusal> {
        if delivery.kind != DeliveryKind::Retained {
            return Ok(());
        }
        let Some(key) = receipt.retained.as_ref().filter(|_| flags.is_retain()) else {
            return Err(OpenRefusal::NotRetained);
        };
        match self.marks.newer_than(key, &receipt.mark(MarkOf::Retained, false), delivery.freshness.clock_tolerance_ms)
        {
            None => Ok(()),
            Some(newest_ms) => Err(OpenRefusal::RetainedOlder { sealed_ms: receipt.order.time_ms, newest_ms }),
        }
    }
}

/// The message's age, if that is within the limits.
#[inline]
fn check_time(
    ended_ms: Option<u64>,
    flags: Flags,
    time_ms: u64,
    delivery: &Delivery<'_>,
    now_ms: u64,
) -> Result<u64, OpenRefusal> {
    let freshness = delivery.freshness;
    if let Some(ended_ms) = ended_ms.filter(|ended_ms| freshness.is_after_end(time_ms, *ended_ms)) {
        return Err(OpenRefusal::EpochEnded { late_ms: time_ms.saturating_sub(ended_ms) });
    }
    match freshness.judge(delivery.kind, flags.is_will() || flags.is_reseal(), time_ms, now_ms) {
        AgeVerdict::Fresh { age_ms } => Ok(age_ms),
        AgeVerdict::TooOld { age_ms, limit_ms } => Err(OpenRefusal::TooOld { age_ms, limit_ms }),
        AgeVerdict::Future { ahead_ms } => Err(OpenRefusal::Future { ahead_ms }),
    }
}
