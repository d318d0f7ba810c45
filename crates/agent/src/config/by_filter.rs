//! Tables of a configuration that are each for a topic filter.

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_agent_core::ByFilter;
use sealcast_node::config::TableAt;
use sealcast_quality::RuleFilter;

/// Most tables of one kind.
const MAX_TABLES: usize = 1024;

/// Checks each of `files`, whose filter is what `filter_of` gives. `key` is the tables' name.
pub fn by_filter<F, T>(
    key: &'static str,
    files: Vec<F>,
    filter_of: impl Fn(&F) -> &str,
    check: impl Fn(F) -> Result<T>,
) -> Result<ByFilter<T>> {
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
    Ok(ByFilter::new(tables))
}
