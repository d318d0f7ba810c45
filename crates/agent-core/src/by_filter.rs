//! Tables that are each for a topic filter: of those that match a topic, the most specific one counts.

use sealcast_quality::RuleFilter;

/// All tables of one kind, the most specific first.
#[derive(Debug, Clone)]
pub struct ByFilter<T>(Vec<(RuleFilter, T)>);

impl<T> ByFilter<T> {
    /// In any order.
    pub fn new(mut tables: Vec<(RuleFilter, T)>) -> Self {
        tables.sort_by(|(a, _), (b, _)| a.compare_specificity(b));
        Self(tables)
    }

    /// The table that counts for `topic`.
    pub fn find(&self, topic: &str) -> Option<&T> {
        self.0.iter().find(|(filter, _)| filter.matches(topic)).map(|(_, table)| table)
    }

    /// All of them, the most specific first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, table)| table)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for ByFilter<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}
