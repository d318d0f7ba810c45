//! Tables of a configuration that are each for a topic filter: of those that match a topic, the most specific one counts,
//! as for `[[quality]]`.

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_quality::RuleFilter;

/// Most tables of one kind.
const MAX_TABLES: usize = 1024;

/// All tables of one kind, the most specific first.
#[derive(Debug, Clone)]
pub struct ByFilter<T>(Vec<(RuleFilter, T)>);

impl<T> ByFilter<T> {
    /// Checks each of `files`; `check` gives its filter and what is made of the rest. `key` is the tables' name.
    pub fn new<F>(key: &str, files: Vec<F>, check: impl Fn(F) -> Result<(String, T)>) -> Result<Self> {
        ensure!(files.len() <= MAX_TABLES, "{key}: more than {MAX_TABLES} tables");
        let mut tables: Vec<(RuleFilter, T)> = Vec::new();
        for (at, file) in files.into_iter().enumerate() {
            let (filter, table) = check(file).with_context(|| format!("[[{key}]] number {}", at + 1))?;
            let filter: RuleFilter =
                filter.parse().with_context(|| format!("[[{key}]] number {}: filter {filter:?}", at + 1))?;
            if tables.iter().any(|(other, _)| *other == filter) {
                bail!("[[{key}]] number {}: another one also has the filter {filter}: merge the two tables", at + 1);
            }
            tables.push((filter, table));
        }
        tables.sort_by(|(a, _), (b, _)| a.compare_specificity(b));
        Ok(Self(tables))
    }

    /// The table that counts for `topic`.
    pub fn find(&self, topic: &str) -> Option<&T> {
        self.0.iter().find(|(filter, _)| filter.matches(topic)).map(|(_, table)| table)
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
