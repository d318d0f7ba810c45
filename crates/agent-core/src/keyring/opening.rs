//! Whether a message may be opened, and what it is then.

use sealcast_ledger::GroupNumber;
use sealcast_seal::{Delivery, DeliveryKind, Freshness, HandOver, Message, OpenError, Opened, Opener};

use super::{Denied, Keyring};
use crate::Stale;

/// After an epoch ended, messages that were sealed under it are taken for so long: members hear of the next one at
/// different times.
const EPOCH_GRACE_MS: u64 = 60_000;

/// What sealed bytes turned out to be.
#[derive(Debug)]
pub enum Received {
    /// A message for the client.
    Message(Message),
    /// A retained message that was sealed again: the client had it when it was live.
    Repeated,
    /// Its sender says that it deletes the topic's retained message.
    Deleted(Message),
}

/// How a message came from the broker.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Its quality of service, and whether the broker says that it is a second try.
    pub hand_over: HandOver,
    /// As a retained message.
    pub retain: bool,
    /// While the client was away, if the broker had kept the session: what was sealed then waited there.
    pub away: Option<Away>,
    /// It is another copy of what the client was given, for another of its subscriptions. Whoever says so counts them.
    pub copy: bool,
}

/// When a client was away, by this agent's own notes.
#[derive(Debug, Clone, Copy)]
pub struct Away {
    /// When it was last here, Unix ms.
    pub since_ms: u64,
    /// When it came back, Unix ms.
    pub until_ms: u64,
}

impl Keyring {
    /// Opens what came from the broker for one client, whose `opener` remembers what it has seen.
    ///
    /// # Errors
    /// Why the client must not have it, now or at all.
    pub fn open(
        &self,
        opener: &mut Opener,
        group: GroupNumber,
        topic: &str,
        frame: &[u8],
        arrival: Arrival,
        now_ms: u64,
    ) -> Result<Received, Denied> {
        let Some(own) = self.groups.get(&group) else { return Err(self.why_no_key(group)) };
        if self.caught_up.is_none() {
            return Err(self.why_not_yet(group));
        }
        self.check_hub(now_ms)?;
        let age = self.freshness.of(topic);
        let freshness = Freshness {
            live_max_age_ms: age.live_ms,
            retained_max_age_ms: age.retained_ms,
            offline_max_age_ms: age.offline_ms,
            clock_tolerance_ms: self.freshness.clock_tolerance_ms,
            epoch_grace_ms: Some(EPOCH_GRACE_MS),
        };
        let mut attempt = |kind, freshness| {
            let delivery = Delivery { kind, hand_over: arrival.hand_over, freshness };
            if arrival.copy {
                opener.open_copy(&own.keys, topic, frame, &delivery, now_ms)
            } else {
                opener.open(&own.keys, topic, frame, &delivery, now_ms)
            }
        };
        let kind = if arrival.retain { DeliveryKind::Retained } else { DeliveryKind::Live };
        let outcome = match (attempt(kind, &freshness), arrival.away) {
            // Too old for a live message. It waited in the session's queue if it was sealed while the client was away;
            // what was sealed before that it should have had then.
            (Err(OpenError::TooOld { age_ms, .. }), Some(away)) if !arrival.retain => {
                let sealed_ms = now_ms.saturating_sub(age_ms);
                let on_its_way_ms = age.live_ms.unwrap_or(u64::MAX).saturating_add(self.freshness.clock_tolerance_ms);
                let waited = away.since_ms.saturating_sub(on_its_way_ms)..=away.until_ms;
                let kind = if waited.contains(&sealed_ms) { DeliveryKind::Offline } else { DeliveryKind::Live };
                attempt(kind, &freshness)
            }
            // What the broker kept may be handed on although it is too old, where it is marked so.
            (Err(OpenError::TooOld { .. }), _) if arrival.retain && age.stale == Stale::Flag => {
                attempt(DeliveryKind::Retained, &Freshness { retained_max_age_ms: None, ..freshness })
            }
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(Opened::Message(message)) => Ok(Received::Message(message)),
            Ok(Opened::SealedAgain { .. }) => Ok(Received::Repeated),
            Ok(Opened::Tombstone(message)) => Ok(Received::Deleted(message)),
            Err(OpenError::NotMember { .. }) => Err(self.why_no_key(group)),
            Err(error) if error.is_worth_waiting() => Err(match self.why_no_key(group) {
                // No commit has removed it yet, so it may have been granted again.
                Denied::Refused(why) if own.keys.current().is_some() => Denied::Behind(why),
                Denied::Refused(why) => Denied::Refused(why),
                Denied::NotYet(_) | Denied::Behind(_) => Denied::Behind(error.into()),
            }),
            Err(error) => Err(Denied::Refused(error.into())),
        }
    }
}
