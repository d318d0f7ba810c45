//! Fail-safe values: what the receiving side publishes locally when no good value comes, so that the valve opens. It never
//! overrides a good value, and a good value ends it.

use crate::{
    codec::{Reader, StateError, Writer},
    rules::{FailSafeRules, Fallback},
    verdict::Span,
};

/// Why a fail-safe value is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// No good value came.
    Silence,
    /// Values came, and were blocked.
    Blocked,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailSafeOutput {
    /// Publish the fallback locally, now.
    Publish {
        /// Why.
        trigger: Trigger,
        /// What and where.
        fallback: Fallback,
        /// For how long there was no good value.
        without_ms: u64,
    },
    /// A good value came: it stands again. Nothing is published for it.
    Ended {
        /// Why it was active.
        trigger: Trigger,
        /// For how long.
        active_ms: u64,
    },
}

impl std::fmt::Display for FailSafeOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Publish { trigger: Trigger::Silence, without_ms, .. } => {
                write!(f, "fail-safe value published: no good value for {}", Span(*without_ms))
            }
            Self::Publish { trigger: Trigger::Blocked, without_ms, .. } => {
                write!(f, "fail-safe value published: values are blocked, no good one for {}", Span(*without_ms))
            }
            Self::Ended { active_ms, .. } => {
                write!(f, "good value again, the fail-safe value stood for {}", Span(*active_ms))
            }
        }
    }
}

/// The state of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailSafe {
    rules: FailSafeRules,
    /// The last good value, or when this was started.
    good_ms: u64,
    /// The first blocked value since.
    blocked_ms: Option<u64>,
    active: Option<(Trigger, u64)>,
}

impl FailSafe {
    /// Waits for a first good value from now on.
    pub fn new(rules: FailSafeRules, now_ms: u64) -> Self {
        Self { rules, good_ms: now_ms, blocked_ms: None, active: None }
    }

    /// A good value is handed to the application at `now_ms`: one that was neither blocked, nor older than it may be. A
    /// flagged one is good unless the driver's policy holds it back.
    pub fn handle_good(&mut self, now_ms: u64) -> Option<FailSafeOutput> {
        self.good_ms = now_ms;
        self.blocked_ms = None;
        let (trigger, since_ms) = self.active.take()?;
        Some(FailSafeOutput::Ended { trigger, active_ms: now_ms.saturating_sub(since_ms) })
    }

    /// A value was blocked, here or (says its alarm) by the sender.
    pub fn handle_blocked(&mut self, now_ms: u64) -> Option<FailSafeOutput> {
        self.blocked_ms.get_or_insert(now_ms);
        self.handle_timeout(now_ms)
    }

    /// When a fail-safe value is due if no good value comes, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.active.is_some() {
            return None;
        }
        let silence = self.rules.on_silence.as_ref().map(|rule| self.good_ms.saturating_add(rule.after_ms));
        let blocked = self.rules.on_blocked.as_ref().zip(self.blocked_ms);
        let blocked = blocked.map(|(rule, since)| since.saturating_add(rule.after_ms));
        silence.into_iter().chain(blocked).min()
    }

    /// Publishes the fail-safe value if it is due, once. Hand good values that have come in first.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Option<FailSafeOutput> {
        if self.active.is_some() {
            return None;
        }
        let without_ms = now_ms.saturating_sub(self.good_ms);
        let blocked_for_ms = self.blocked_ms.map(|since| now_ms.saturating_sub(since));
        // The blocked values are the better explanation if both are due.
        let on_blocked = self.rules.on_blocked.as_ref();
        let on_silence = self.rules.on_silence.as_ref();
        let due = on_blocked
            .filter(|rule| blocked_for_ms.is_some_and(|ms| ms >= rule.after_ms))
            .map(|rule| (Trigger::Blocked, rule))
            .or_else(|| on_silence.filter(|rule| without_ms >= rule.after_ms).map(|rule| (Trigger::Silence, rule)));
        let (trigger, fallback) = due?;
        let fallback = fallback.clone();
        self.active = Some((trigger, now_ms));
        Some(FailSafeOutput::Publish { trigger, fallback, without_ms })
    }

    /// What stands in place of a good value now, for an application that connects meanwhile.
    pub fn active(&self) -> Option<&Fallback> {
        match self.active?.0 {
            Trigger::Silence => self.rules.on_silence.as_ref(),
            Trigger::Blocked => self.rules.on_blocked.as_ref(),
        }
    }

    /// The state as bytes, so that a restart does not begin the wait anew.
    pub fn export(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(1);
        out.varint(self.good_ms);
        out.option(self.blocked_ms, Writer::varint);
        out.option(self.active, |out, (trigger, since_ms)| {
            out.u8(u8::from(trigger == Trigger::Blocked));
            out.varint(since_ms);
        });
        out.0
    }

    /// Reads what [`FailSafe::export`] wrote. A fail-safe value that stood and whose rule is gone is dropped.
    ///
    /// # Errors
    /// [`StateError`] if the bytes are damaged.
    pub fn import(rules: FailSafeRules, bytes: &[u8]) -> Result<Self, StateError> {
        let mut bytes = Reader(bytes);
        if bytes.u8()? != 1 {
            return Err(StateError);
        }
        let good_ms = bytes.varint()?;
        let blocked_ms = bytes.option(Reader::varint)?;
        let active = bytes.option(|bytes| {
            let trigger = if bytes.bool()? { Trigger::Blocked } else { Trigger::Silence };
            Ok((trigger, bytes.varint()?))
        })?;
        bytes.end()?;
        let mut this = Self { rules, good_ms, blocked_ms, active };
        if this.active().is_none() {
            this.active = None;
        }
        Ok(this)
    }
}
