//! What others say of the ledger, compared with what this device is shown by the hub, or by the network's endpoints: its members in
//! each message, and its operator from time to time. Whoever shows the records can withhold the newest ones, or show a ledger of
//! its own making.
//!
//! A member is trusted to read, and for nothing else: what it says makes this device ask the hub and tell a person, and stops
//! nothing.

use std::{collections::BTreeMap, fmt};

use sealcast_identity::DeviceId;
use sealcast_ledger::{GroupNumber, Replica};
use tracing::{error, warn};

use super::{LedgerSource, sync::SyncId};
use crate::{Cause, Why, deadline::Deadline};

/// Whoever says again and again that there is more makes this device ask no sooner again.
const ASK_EVERY_MS: u64 = 10_000;
/// So long the hub has to show what somebody has read, whether it answers or not.
const SHOW_WITHIN_MS: u64 = 60_000;
/// So long another endpoint of the network may take to show what one has shown, and to call it final.
const SPREADS_WITHIN_MS: u64 = 10_000;
/// The same is told again after so long.
pub(super) const QUIET_MS: u64 = 600_000;
/// As many speakers are remembered.
const MAX_SPEAKERS: usize = 1024;
/// As many alarms wait to be taken.
const MAX_ALARMS: usize = 64;

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
        /// The first entry that may be another one there: with so many entries the heads were the same.
        agreed: u64,
        /// With so many entries the heads differ.
        height: u64,
    },
    /// The operator's word was heard, and then an older one in its place.
    Replayed {
        /// How much older, ms.
        older_ms: u64,
        /// The older word is of so many entries.
        height: u64,
    },
}

impl Doubt {
    /// Tells it, and gives it as others are told.
    fn tell(&self, source: LedgerSource) -> Why {
        let why = self.why(source);
        match self {
            Self::Withheld { read, shown, .. } => warn!(read, shown, code = %why.cause, "{why}"),
            Self::OtherLedger { agreed, height, .. } => error!(index = agreed, height, code = %why.cause, "{why}"),
            Self::Replayed { height, .. } => warn!(height, code = %why.cause, "{why}"),
        }
        why
    }

    fn why(&self, source: LedgerSource) -> Why {
        let other = match source {
            LedgerSource::Hub => "the hub shows different ones to different devices",
            LedgerSource::Network { .. } => {
                "the hub, or the endpoints in agent.toml, show different ones to different devices"
            }
        };
        let shows = match source {
            LedgerSource::Hub => "the hub shows",
            LedgerSource::Network { .. } => "the ledger's endpoints show",
        };
        let speaker = self.speaker();
        let what = or_else(speaker);
        match self {
            Self::Withheld { read, shown, .. } => Why::new(
                Cause::LedgerWithheld,
                format!(
                    "the ledger may be withheld from this agent: {speaker} has read more entries than {shows} ({read}, not {shown}). \
                     Until they come, this agent does not know who was revoked. {what}"
                ),
            ),
            Self::OtherLedger { agreed, height, .. } => {
                let place = match height - agreed {
                    1 => format!("from entry {agreed} on"),
                    _ => format!("from one of the entries {agreed} to {} on", height - 1),
                };
                Why::new(
                    Cause::LedgerParted,
                    format!(
                        "{speaker} has read another ledger than this agent: they part {place}, as the heads show, so {other}. {what}"
                    ),
                )
            }
            Self::Replayed { older_ms, height } => Why::new(
                Cause::LedgerReplayed,
                format!(
                    "an old word of the operator on the ledger, of {height} entries, came after one that is {} s newer: whoever \
                     carries it replays it, and it is not believed. {what}",
                    older_ms / 1000
                ),
            ),
        }
    }

    fn speaker(&self) -> &Speaker {
        match self {
            Self::Withheld { speaker, .. } | Self::OtherLedger { speaker, .. } => speaker,
            Self::Replayed { .. } => &Speaker::Operator,
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
    /// Who shows the ledger to this device.
    pub source: LedgerSource,
    ahead: BTreeMap<Speaker, Ahead>,
    compared: BTreeMap<Speaker, Compared>,
    /// When the newest word of the operator was signed that was heard, Unix ms.
    heard_ms: Option<u64>,
    /// What was told, for those who ask later.
    alarms: Vec<Why>,
    /// Of whom something was told, and until when nothing more is.
    quiet: BTreeMap<Speaker, Deadline>,
    /// When the operator signed the newest head that this device has too, Unix ms.
    pub attested_ms: Option<u64>,
    /// The operator's last statement, if more of the ledger has to be read before it can be judged.
    pub pending: Option<Vec<u8>>,
    /// The limits on its age that were told to be passed, and when each is told again.
    pub passed: BTreeMap<Limited, Deadline>,
}

/// With how many entries somebody has the same head as this device, and another one.
#[derive(Debug, Default)]
struct Compared {
    /// The most, and the most before that: by chance a piece of a head may be the same.
    agreed: [u64; 2],
    /// The least, while they differ.
    differed: Option<u64>,
}

impl Compared {
    fn note_same(&mut self, height: u64) {
        if height > self.agreed[0] {
            self.agreed = [height, self.agreed[0]];
        }
        // It reads this ledger again.
        self.differed = self.differed.filter(|differed| height < *differed);
    }

    /// The most entries with which they agreed before they differed, and the least with which they differ.
    fn note_other(&mut self, height: u64) -> (u64, u64) {
        let differed = self.differed.map_or(height, |known| known.min(height));
        self.differed = Some(differed);
        (self.agreed.into_iter().find(|agreed| *agreed < differed).unwrap_or_default(), differed)
    }
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
        let Some(head) = replica.head_at(height) else { return Ok(false) };
        let speaker = speaker();
        let is_same = agrees(head.as_bytes());
        if self.compared.len() >= MAX_SPEAKERS && !self.compared.contains_key(&speaker) {
            return if is_same { Ok(false) } else { Err(Doubt::OtherLedger { speaker, agreed: 0, height }) };
        }
        let compared = self.compared.entry(speaker.clone()).or_default();
        if is_same {
            compared.note_same(height);
            return Ok(false);
        }
        let (agreed, height) = compared.note_other(height);
        Err(Doubt::OtherLedger { speaker, agreed, height })
    }

    /// The operator has signed this word then. An older one than the newest is replayed.
    pub fn note_word(&mut self, signed_ms: u64, height: u64, tolerance_ms: u64) -> Result<(), Doubt> {
        let newest_ms = *self.heard_ms.get_or_insert(signed_ms);
        self.heard_ms = Some(newest_ms.max(signed_ms));
        match newest_ms.saturating_sub(signed_ms) {
            older_ms if older_ms > tolerance_ms => Err(Doubt::Replayed { older_ms, height }),
            _ => Ok(()),
        }
    }

    fn note_ahead(&mut self, speaker: Speaker, read: u64, heard: SyncId, now_ms: u64) -> bool {
        let again = Deadline::after(now_ms, ASK_EVERY_MS);
        let within_ms = match self.source {
            LedgerSource::Hub => SHOW_WITHIN_MS,
            LedgerSource::Network { final_after_ms } => SPREADS_WITHIN_MS + final_after_ms,
        };
        let claim = Claim { read, heard, due: Deadline::after(now_ms, within_ms) };
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
    pub fn settle(&mut self, shown: u64, sync: SyncId, now_ms: u64) -> Vec<Doubt> {
        // Somebody else's endpoint may be ahead, or call final what is not final here yet.
        let at_once = self.source == LedgerSource::Hub;
        self.unshown(shown, |claim| sync > claim.heard && (at_once || claim.due.is_due(now_ms)))
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
            let why = doubt.tell(self.source);
            self.note_alarm(why);
        }
        is_due
    }

    /// Keeps what was told until it is asked for.
    pub fn note_alarm(&mut self, why: Why) {
        if self.alarms.len() < MAX_ALARMS {
            self.alarms.push(why);
        }
    }

    /// What was told since this was asked last.
    pub fn take_alarms(&mut self) -> Vec<Why> {
        std::mem::take(&mut self.alarms)
    }

    /// How many speakers have read more than is shown, and between which numbers of entries this device's ledger and that of
    /// others part, as near as is known.
    pub fn doubted(&self, now_ms: u64) -> (usize, Option<(u64, u64)>) {
        let late = self.ahead.values().filter(|ahead| ahead.first.due.is_due(now_ms)).count();
        let parted = self.compared.values().filter_map(|compared| {
            let differed = compared.differed?;
            Some((compared.agreed.into_iter().find(|agreed| *agreed < differed).unwrap_or_default(), differed))
        });
        (late, parted.min_by_key(|(_, differed)| *differed))
    }

    /// How old the newest news are.
    pub fn age_ms(&self, now_ms: u64) -> Option<u64> {
        self.attested_ms.map(|at_ms| now_ms.saturating_sub(at_ms))
    }
}
