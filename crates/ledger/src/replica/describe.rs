//! Records in words.

use super::{
    Replica,
    event::{Event, FaultOutcome, Former, Summary},
};
use crate::{Epoch, GroupNumber, LimitVerdict, Number, Reason, Refusal, limits::decimal};

impl Replica {
    /// One line for people, with names for numbers: `operator granted hsu0001 to 1111`.
    #[must_use]
    pub fn describe(&self, summary: &Summary) -> String {
        let who = |number: &Number| self.who(*number);
        let which = |number: &GroupNumber| self.which(*number);
        let by = who(&summary.originator);
        match &summary.event {
            Event::DeviceRegistered { id, former, .. } => match former {
                Former::Nothing => format!("{by} registered {id}"),
                Former::SameKey => format!("{by} renewed {id}"),
                Former::OtherKey => format!("{by} registered {id} again, with another key"),
            },
            Event::DeviceRevoked { device, reason } => format!("{by} revoked {}{}", who(device), because(reason)),
            Event::KeysPublished { rejoin: false, .. } => format!("{by} published a key package"),
            Event::KeysPublished { rejoin: true, .. } => format!("{by} published a key package to rejoin its groups"),
            Event::GroupCreated { group, name } => format!("{by} created group {name} ({group})"),
            Event::Granted { group, device } => format!("{by} granted {} to {}", which(group), who(device)),
            Event::Revoked { group, device, reason } => {
                format!("{by} revoked {} from {}{}", which(group), who(device), because(reason))
            }
            Event::Committed { group, epoch: Epoch(0), commit_bytes, .. } => {
                format!("{by} founded {} ({commit_bytes} bytes)", which(group))
            }
            Event::Committed { group, epoch, commit_bytes, .. } => {
                format!("{by} ended epoch {epoch} of {} ({commit_bytes} bytes)", which(group))
            }
            Event::Reading { group, topic, value, decimals, unit, verdict, .. } => {
                let space = if unit.as_str().is_empty() { "" } else { " " };
                let value = decimal(*value, *decimals);
                match verdict {
                    LimitVerdict::Accepted => {
                        format!("{by} wrote {value}{space}{unit} for {topic} in {}", which(group))
                    }
                    LimitVerdict::Refused(breach) => {
                        format!("{by}'s {value}{space}{unit} for {topic} in {} is refused: {breach}", which(group))
                    }
                }
            }
            Event::Anchored { group, count, .. } => format!("{by} anchored {count} messages of {}", which(group)),
            Event::GroupReset { group, generation, reason } => {
                format!("{by} reset {} to generation {generation}{}", which(group), because(reason))
            }
            Event::FaultReported { group, epoch, author, kept_out, outcome, .. } => {
                let what = if *kept_out { "got no keys since" } else { "cannot follow" };
                let then = match outcome {
                    FaultOutcome::Noted => String::new(),
                    FaultOutcome::FoundedAnew => ", as more than half say: it is founded anew".to_owned(),
                    FaultOutcome::AuthorOut => {
                        format!(", as more than half say: it is founded anew, without {}", who(author))
                    }
                };
                format!("{by} {what} the commit of {} that ended epoch {epoch} of {}{then}", who(author), which(group))
            }
            Event::KeyRotated { whose, public_key } => {
                let fingerprint = hex::encode(public_key.fingerprint());
                format!("{by} gave {} the key {}", who(whose), fingerprint.get(..16).unwrap_or(&fingerprint))
            }
            Event::Moved { to } => format!("{by} moved the ledger to {to}"),
            Event::LimitsSet { group, topic, version } => {
                let again = if *version > 1 { "new " } else { "" };
                format!("{by} set {again}limits for {topic} in {}", which(group))
            }
        }
    }

    /// Why the ledger refuses an entry, with names for numbers: `1112 is already granted hsu0001`.
    #[must_use]
    pub fn explain(&self, refusal: &Refusal) -> String {
        let which = |group: u16| GroupNumber::new(group).map_or_else(|| format!("group {group}"), |it| self.which(it));
        match refusal {
            Refusal::NotActive { device } => format!("{} is revoked: enrol it again", self.who(*device)),
            Refusal::AlreadyRevoked { device } => format!("{} is already revoked", self.who(*device)),
            Refusal::AlreadyGranted { group, device } => {
                format!("{} is already granted {}", self.who(*device), which(*group))
            }
            Refusal::NotGranted { group, device } => format!("{} is not granted {}", self.who(*device), which(*group)),
            Refusal::FilterTaken { filter, group } => format!("the filter {filter:?} is taken by {}", which(*group)),
            other => other.to_string(),
        }
    }

    fn who(&self, number: Number) -> String {
        self.name_of(number).map_or_else(|| number.to_string(), str::to_owned)
    }

    fn which(&self, number: GroupNumber) -> String {
        self.group(number).map_or_else(|| format!("group {number}"), |group| group.name.to_string())
    }
}

fn because(reason: &Reason) -> String {
    if reason.as_str().is_empty() { String::new() } else { format!(": {reason}") }
}
