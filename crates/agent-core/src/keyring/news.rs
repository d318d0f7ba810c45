//! What others say of the ledger, compared with what the hub shows this device: its members in each message, and its operator
//! from time to time. Whoever carries the records can withhold the newest ones, or show a ledger of its own making.
//!
//! A member is trusted to read, and for nothing else: what it says makes this device ask the hub and tell a person, and stops
//! nothing.

use std::{collections::BTreeMap, fmt};

use sealcast_identity::DeviceId;
use sealcast_ledger::{GroupNumber, Replica};
use tracing::{error, warn};

use super::sync::SyncId;
use crate::deadline::Deadline;

/// Whoever says again and again that there is more makes this device ask no sooner again.
const ASK_EVERY_MS: u64 = 10_000;
/// So long the hub has to show what somebody has read, whether it answers or not.
const SHOW_WITHIN_MS: u64 = 60_000;
/// The same is told again after so long.
pub(super) const QUIET_MS: u64 = 600_000;
/// As many speakers are remembered.
const MAX_SPEAKERS: usize = 1024;

/// Who says something of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaker {
    /// By a statement that it has signed.
    Operator,
    /// In a message.
    Member(DeviceId),
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("the operator"),
            Self::Member(device) => write!(f, "{device}"),
        }
    }
}

/// What does not fit what the hub shows. For a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// The hub has not shown as much as somebody has read, though it was asked for all or has had the time.
    Withheld {
        /// Who has read more.
        speaker: Speaker,
        /// So many entries.
        read: u64,
        /// The hub has shown so many.
        shown: u64,
    },
    /// Somebody has read another ledger.
    OtherLedger {
        /// Who.
        speaker: Speaker,
        /// With so many entries the heads differ.
        height: u64,
    },
}

impl Doubt {
    fn tell(&self) {
        match self {
            Self::Withheld { speaker, read, shown } => warn!(
                read,
                shown,
                "the ledger may be withheld from this agent: {speaker} has read more entries than the hub shows. Until they \
                 come, this agent does not know who was revoked. {}",
                or_else(speaker)
            ),
            Self::OtherLedger { speaker, height } => error!(
                height,
                "{speaker} has read another ledger than this agent: with so many entries the heads differ, so the hub shows \
                 different ones to different devices. {}",
                or_else(speaker)
            ),
        }
    }

    fn speaker(&self) -> &Speaker {
        match self {
            Self::Withheld { speaker, .. } | Self::OtherLedger { speaker, .. } => speaker,
        }
    }
}

/// What else may be the matter, and what to do.
fn or_else(speaker: &Speaker) -> String {
    let check = "`sealcast ledger verify` shows what the operator gets";
    match speaker {
        Speaker::Operator => format!("Look at the hub: {check}"),
        Speaker::Member(device) => format!("Or {device} says what is not so. {check}"),
    }
}

/// Whose limit is passed: on the hub's silence, or on the age of the operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Limited {
    /// This agent's own, on the hub's silence: after it nothing is sealed or opened.
    Hub,
    /// This agent's own, on the operator's word: after it a person is told.
    Agent,
    /// A group's, by its policy: after it nothing is sealed.
    Group(GroupNumber),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct News {
    ahead: BTreeMap<Speaker, Ahead>,
    /// Of whom something was told, and until when nothing more is.
    quiet: BTreeMap<Speaker, Deadline>,
    /// When the operator signed the newest head that this device has too, Unix ms.
    pub attested_ms: Option<u64>,
    /// The operator's last statement, if more of the ledger has to be read before it can be judged.
    pub pending: Option<Vec<u8>>,
    /// The limits on its age that were told to be passed, and when each is told again.
    pub passed: BTreeMap<Limited, Deadline>,
}

/// Somebody has read more than this device.
#[derive(Debug)]
struct Ahead {
    /// What the hub has to show first. What is said later does not put that off.
    first: Claim,
    /// What was said last.
    last: Claim,
    /// The hub is not asked again before.
    again: Deadline,
}

/// So much somebody has read.
#[derive(Debug, Clone, Copy)]
struct Claim {
    read: u64,
    /// The last sync that was begun before that was heard.
    heard: SyncId,
    /// It has to be shown until then.
    due: Deadline,
}

impl Ahead {
    /// The hub has shown so many entries. `false` if that is all that was claimed.
    fn handle_shown(&mut self, shown: u64) -> bool {
        if self.first.read <= shown {
            self.first = self.last;
        }
        self.first.read > shown
    }
}

impl News {
    /// Compares what `speaker` has read with the replica. `true` if the hub is to be asked for more.
    pub fn compare(
        &mut self,
        speaker: impl FnOnce() -> Speaker,
        height: u64,
        agrees: impl Fn(&[u8; 32]) -> bool,
        replica: &Replica,
        heard: SyncId,
        now_ms: u64,
    ) -> Result<bool, Doubt> {
        if height > replica.height() {
            return Ok(self.note_ahead(speaker(), height, heard, now_ms));
        }
        // Of very old ones nothing is known any more.
        match replica.head_at(height) {
            Some(head) if !agrees(head.as_bytes()) => Err(Doubt::OtherLedger { speaker: speaker(), height }),
            _ => Ok(false),
        }
    }

    fn note_ahead(&mut self, speaker: Speaker, read: u64, heard: SyncId, now_ms: u64) -> bool {
        let again = Deadline::after(now_ms, ASK_EVERY_MS);
        let claim = Claim { read, heard, due: Deadline::after(now_ms, SHOW_WITHIN_MS) };
        let is_full = self.ahead.len() >= MAX_SPEAKERS;
        match self.ahead.get_mut(&speaker) {
            Some(known) if !known.again.is_due(now_ms) => return false,
            Some(known) => (known.last, known.again) = (claim, again),
            None if is_full => return false,
            None => _ = self.ahead.insert(speaker, Ahead { first: claim, last: claim, again }),
        }
        true
    }

    /// The ledger was read to its end by `sync`.
    pub fn settle(&mut self, shown: u64, sync: SyncId) -> Vec<Doubt> {
        self.unshown(shown, |claim| sync > claim.heard)
    }

    /// What has not been shown in time, though the ledger was not read to its end either: whoever withholds it carries the
    /// answers, too.
    pub fn overdue(&mut self, shown: u64, now_ms: u64) -> Vec<Doubt> {
        self.unshown(shown, |claim| claim.due.is_due(now_ms))
    }

    fn unshown(&mut self, shown: u64, is_late: impl Fn(&Claim) -> bool) -> Vec<Doubt> {
        self.ahead.retain(|_, ahead| ahead.handle_shown(shown));
        let late = self.ahead.iter().filter(|(_, ahead)| is_late(&ahead.first));
        late.map(|(speaker, ahead)| Doubt::Withheld { speaker: speaker.clone(), read: ahead.first.read, shown })
            .collect()
    }

    /// Whether [`Self::overdue`] may have something that is not told yet.
    pub fn is_overdue(&self, now_ms: u64) -> bool {
        let is_quiet = |speaker| self.quiet.get(speaker).is_some_and(|quiet| !quiet.is_due(now_ms));
        self.ahead.iter().any(|(speaker, ahead)| ahead.first.due.is_due(now_ms) && !is_quiet(speaker))
    }

    /// Tells it, unless something was told of the same speaker a while ago. `true` if it did.
    pub fn tell(&mut self, doubt: &Doubt, now_ms: u64) -> bool {
        if self.quiet.len() >= MAX_SPEAKERS {
            self.quiet.retain(|_, quiet| !quiet.is_due(now_ms));
        }
        let speaker = doubt.speaker();
        let is_due = self.quiet.get(speaker).map_or(self.quiet.len() < MAX_SPEAKERS, |quiet| quiet.is_due(now_ms));
        if is_due {
            self.quiet.insert(speaker.clone(), Deadline::after(now_ms, QUIET_MS));
            doubt.tell();
        }
        is_due
    }

    /// How old the newest news are.
    pub fn age_ms(&self, now_ms: u64) -> Option<u64> {
        self.attested_ms.map(|at_ms| now_ms.saturating_sub(at_ms))
    }
}
