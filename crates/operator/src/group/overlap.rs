//! Topics that two groups' filters match: whose they are, and what creating a group takes away from another one.

use anyhow::{Result, bail};
use sealcast_ledger::{Group, GroupName, TopicFilter};
use sealcast_node::output;

/// The filters of a group that is to be created, beside those of the groups that exist.
#[derive(Debug, Default)]
pub struct Overlaps {
    /// What other groups' members lose, a sentence each.
    taken: Vec<String>,
    /// What stays another group's, a sentence each.
    left: Vec<String>,
}

impl Overlaps {
    /// Of `filters` for the group `name`.
    pub fn new<'a>(name: &GroupName, filters: &[TopicFilter], groups: impl Iterator<Item = &'a Group>) -> Self {
        let mut overlaps = Self::default();
        for old in groups {
            let pairs = filters.iter().flat_map(|ours| old.filters.iter().map(move |theirs| (ours, theirs)));
            for (ours, theirs) in pairs.filter(|(ours, theirs)| ours.overlaps(theirs)) {
                let old = &old.name;
                if ours.compare_specificity(theirs).is_lt() {
                    overlaps.taken.push(format!(
                        "{ours} takes topics from {theirs} of group {old}: members of {old} that are not granted {name} can \
                         no longer publish or read there"
                    ));
                } else {
                    overlaps.left.push(format!(
                        "topics that {theirs} of group {old} matches stay with {old}, although {ours} matches them too"
                    ));
                }
            }
        }
        overlaps
    }

    /// Says what will happen, and refuses to take topics away unless `allowed`.
    pub fn check(&self, allowed: bool) -> Result<()> {
        self.left.iter().for_each(|note| output::complain(&format!("note: {note}")));
        if !allowed && !self.taken.is_empty() {
            bail!(
                "{}\nnothing was created: no group can be deleted or changed later. Choose another filter, or repeat the \
                 command with --overlap if that is what you want",
                self.taken.join("\n")
            );
        }
        self.taken.iter().for_each(|note| output::complain(&format!("note: {note}")));
        Ok(())
    }
}
