//! The last messages of each topic, so that a redelivery is not judged again: it would be a repetition.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

/// Topics whose last messages are remembered.
const MAX_TOPICS: usize = 1024;
/// How many of each.
const MAX_MESSAGES: usize = 16;

/// See the module.
#[derive(Default)]
pub(super) struct Recent(HashMap<String, VecDeque<(u64, Option<String>)>>);

impl Recent {
    /// A message was judged; `check` is what was said of it.
    pub fn remember(&mut self, topic: &str, hash: u64, check: Option<String>) {
        if !self.0.contains_key(topic) && self.0.len() >= MAX_TOPICS {
            self.0.clear();
        }
        let recent = self.0.entry(topic.to_owned()).or_default();
        if recent.len() >= MAX_MESSAGES {
            recent.pop_front();
        }
        recent.push_back((hash, check));
    }

    /// What was said of a message, if it is known.
    pub fn recall(&self, topic: &str, hash: u64) -> Option<Option<String>> {
        let recent = self.0.get(topic)?;
        recent.iter().rev().find(|(known, _)| *known == hash).map(|(_, check)| check.clone())
    }
}

pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut recent = Recent::default();
        for at in 0..=MAX_MESSAGES as u64 {
            recent.remember("t", at, Some(at.to_string()));
        }
        assert_eq!(recent.recall("t", 0), None, "the oldest gave way");
        assert_eq!(recent.recall("t", 1), Some(Some("1".to_owned())));
        for topic in 0..MAX_TOPICS {
            recent.remember(&topic.to_string(), 1, None);
        }
        assert!(recent.0.len() <= MAX_TOPICS);
    }
}
