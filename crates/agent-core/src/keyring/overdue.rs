//! What follows when the operator's word on the ledger does not come any more: a person is told, and groups whose policy
//! says so stop sealing.
//!
//! Only the operator's word counts. A member that was revoked could say for ever that there is nothing new, and it is the
//! one whose revocation would be withheld.

use std::collections::BTreeSet;

use sealcast_ledger::Group;
use tracing::{info, warn};

use super::{
    Denied, Keyring,
    news::{Limited, QUIET_MS},
};
use crate::{Cause, Why, deadline::Deadline};

const DO: &str = "Does `sealcast ledger attest` run, and does the hub's broker pass on what it says?";

impl Keyring {
    /// Whether the operator's word is as new as a group's policy asks for.
    ///
    /// # Errors
    /// It is not, so nothing may be sealed.
    pub(super) fn check_news(&self, group: &Group, now_ms: u64) -> Result<(), Denied> {
        let Some(limit_s) = group.policy.ledger_max_age_s else { return Ok(()) };
        let age_ms = self.news.age_ms(now_ms);
        if age_ms.is_some_and(|age_ms| age_ms <= 1000 * u64::from(limit_s.get())) {
            return Ok(());
        }
        let name = &group.name;
        let came = match age_ms {
            Some(age_ms) => format!("is {} s old", age_ms / 1000),
            None => "has not come since this agent was started".to_owned(),
        };
        Err(Denied::NotYet(Why::new(
            Cause::OperatorSilent,
            format!(
                "the operator's newest word on the ledger {came}, and members of {name} seal nothing when it is older \
                 than {limit_s} s: who was revoked meanwhile may be withheld from this agent. {DO}"
            ),
        )))
    }

    /// Whether [`Self::tell_news`] has something to tell.
    pub fn has_news_to_tell(&self, now_ms: u64) -> bool {
        let overdue = self.overdue(now_ms);
        let told = &self.news.passed;
        overdue.iter().any(|limited| told.get(limited).is_none_or(|again| again.is_due(now_ms)))
            || told.keys().any(|limited| !overdue.contains(limited))
            || self.news.is_overdue(now_ms)
    }

    /// Tells that the operator's word on the ledger does not come any more, or comes again, and which groups stop or go on
    /// because of it.
    pub fn tell_news(&mut self, now_ms: u64) {
        let overdue = self.overdue(now_ms);
        let mut told = std::mem::take(&mut self.news.passed);
        for limited in told.keys().filter(|limited| !overdue.contains(limited)) {
            self.tell_in_time(*limited, now_ms);
        }
        told.retain(|limited, _| overdue.contains(limited));
        for limited in overdue {
            if told.get(&limited).is_none_or(|again| again.is_due(now_ms)) {
                told.insert(limited, Deadline::after(now_ms, QUIET_MS));
                self.tell_overdue(limited, now_ms);
            }
        }
        self.news.passed = told;
        for doubt in self.news.overdue(self.replica.height(), now_ms) {
            self.news.tell(&doubt, now_ms);
        }
    }

    fn tell_in_time(&self, limited: Limited, now_ms: u64) {
        let age_s = self.news.age_ms(now_ms).map(|age_ms| age_ms / 1000);
        match limited {
            Limited::Hub => {
                let who = if self.reads_network() { "an endpoint of the ledger" } else { "the hub" };
                info!("{who} answers again: messages are sealed and opened again");
            }
            Limited::Agent => info!(age_s, "the operator's word on the ledger comes again"),
            Limited::Group(number) if self.has_keys(number) => info!(
                group = self.name(number),
                age_s,
                "the operator's word on the ledger is as new again as the group asks for: nothing is held back for want of it"
            ),
            Limited::Group(_) => {}
        }
    }

    fn tell_overdue(&self, limited: Limited, now_ms: u64) {
        let age_s = self.news.age_ms(now_ms).map(|age_ms| age_ms / 1000);
        match limited {
            Limited::Hub => {
                if let Err(reason) = self.check_hub(now_ms) {
                    warn!("{reason}");
                }
            }
            Limited::Agent => warn!(
                age_s,
                "the operator's newest word on the ledger is older than ledger.max_age_ms: what is newer may be withheld from \
                 this agent. {DO}"
            ),
            Limited::Group(number) => {
                let late = self.replica.group(number).and_then(|group| self.check_news(group, now_ms).err());
                if let Some(reason) = late {
                    warn!(group = self.name(number), "nothing is sealed for the group: {reason}");
                }
            }
        }
    }

    /// The limits that are passed.
    fn overdue(&self, now_ms: u64) -> BTreeSet<Limited> {
        // At a start the first word comes a moment later than the groups' keys.
        let groups = self.groups.keys().filter(|group| self.caught_up.is_some() && self.has_keys(**group));
        let stopped = groups.filter_map(|group| self.replica.group(*group));
        let stopped = stopped.filter(|group| self.check_news(group, now_ms).is_err());
        let stopped = stopped.map(|group| Limited::Group(group.number));
        let agent = self.is_news_late(now_ms).then_some(Limited::Agent);
        stopped.chain(agent).chain(self.silence(now_ms).map(|_| Limited::Hub)).collect()
    }

    /// An operator that has said nothing since this agent was started may never say anything.
    fn is_news_late(&self, now_ms: u64) -> bool {
        let limit_ms = self.freshness.ledger_ms;
        self.news.age_ms(now_ms).zip(limit_ms).is_some_and(|(age_ms, limit_ms)| age_ms > limit_ms)
    }
}
