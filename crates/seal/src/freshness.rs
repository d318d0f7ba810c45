//! How old a message may be, judged by the time that its sender sealed into it.
//!
//! A broker can hold a message back, but cannot make it fresh again. A sender's clock is its own: these limits hold as far
//! as the members' clocks agree within the tolerance.

/// How a message reached the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryKind {
    /// As it was published.
    Live,
    /// As a topic's retained message, on subscribing (RETAIN set by the broker).
    Retained,
    /// From the queue that the broker kept while the client's session was offline.
    Offline,
}

/// A topic's limits on age. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Oldest live message, ms. Exempt are wills, which are sealed when their client connects, and what is sealed again,
    /// which a client gets as retained only.
    pub live_max_age_ms: Option<u64>,
    /// Oldest retained message, ms. Counts from the first sealing, also for messages sealed again.
    pub retained_max_age_ms: Option<u64>,
    /// Oldest message from an offline session's queue, ms. The same are exempt.
    pub offline_max_age_ms: Option<u64>,
    /// By how much members' clocks may differ, ms: added to every limit, and the most that a message may be from the
    /// future.
    pub clock_tolerance_ms: u64,
    /// How long after an epoch ended its members may still seal under it, ms, having not yet heard of the next one.
    pub epoch_grace_ms: Option<u64>,
}

impl Freshness {
    /// No limit on age, and `clock_tolerance_ms` on messages from the future.
    pub fn unlimited(clock_tolerance_ms: u64) -> Self {
        Self {
            live_max_age_ms: None,
            retained_max_age_ms: None,
            offline_max_age_ms: None,
            clock_tolerance_ms,
            epoch_grace_ms: None,
        }
    }

    /// The limit for `kind`.
    pub fn max_age_ms(&self, kind: DeliveryKind) -> Option<u64> {
        match kind {
            DeliveryKind::Live => self.live_max_age_ms,
            DeliveryKind::Retained => self.retained_max_age_ms,
            DeliveryKind::Offline => self.offline_max_age_ms,
        }
    }

    pub(crate) fn judge(&self, kind: DeliveryKind, may_come_late: bool, sealed_ms: u64, now_ms: u64) -> AgeVerdict {
        let ahead_ms = sealed_ms.saturating_sub(now_ms);
        if ahead_ms > self.clock_tolerance_ms {
            return AgeVerdict::Future { ahead_ms };
        }
        let age_ms = now_ms.saturating_sub(sealed_ms);
        let exempt = may_come_late && kind != DeliveryKind::Retained;
        match self.max_age_ms(kind) {
            Some(limit_ms) if !exempt && age_ms > limit_ms.saturating_add(self.clock_tolerance_ms) => {
                AgeVerdict::TooOld { age_ms, limit_ms }
            }
            _ => AgeVerdict::Fresh { age_ms },
        }
    }

    /// Whether a message sealed at `sealed_ms` came too late for an epoch that ended at `ended_ms`.
    pub(crate) fn is_after_end(&self, sealed_ms: u64, ended_ms: u64) -> bool {
        self.epoch_grace_ms.is_some_and(|grace_ms| {
            sealed_ms > ended_ms.saturating_add(grace_ms).saturating_add(self.clock_tolerance_ms)
        })
    }
}

pub(crate) enum AgeVerdict {
    Fresh { age_ms: u64 },
    TooOld { age_ms: u64, limit_ms: u64 },
    Future { ahead_ms: u64 },
}
