//! Tables of a configuration that are each for a topic filter: of those that match a topic, the most specific one counts,
//! as for `[[quality]]`.

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_quality::RuleFilter;

use super::TableAt;

/// Most tables of one kind.
const MAX_TABLES: usize = 1024;

/// All tables of one kind, the most specific first.
#[derive(Debug, Clone)]
pub struct ByFilter<T>(Vec<(RuleFilter, T)>);

impl<T> ByFilter<T> {
    /// Checks each of `files`, whose filter is what `filter_of` gives. `key` is the tables' name.
    pub fn new<F>(
        key: &'static str,
        files: Vec<F>,
        filter_of: impl Fn(&F) -> &str,
        check: impl Fn(F) -> Result<T>,
    ) -> Result<Self> {
        ensure!(files.len() <= MAX_TABLES, "{key}: at most {MAX_TABLES} tables are allowed");
        let mut tables: Vec<(RuleFilter, T)> = Vec::new();
        for (at, file) in files.into_iter().enumerate() {
            let text = filter_of(&file).to_owned();
            let table = || -> Result<(RuleFilter, T)> {
                let filter: RuleFilter = text.parse().context("filter")?;
                if let Some(other) = tables.iter().position(|(other, _)| *other == filter) {
                    bail!("[[{key}]] table number {} has the same filter: merge the two tables", other + 1);
                }
                Ok((filter, check(file)?))
            };
            let table = table().with_context(|| TableAt::new(key, at, &text))?;
            tables.push(table);
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
