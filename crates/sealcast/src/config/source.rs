//! Where in its file a value stands that can be read and is wrong all the same.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Error;
use sealcast_quality::RuleError;
use toml::de::{DeTable, DeValue};

/// A table of an array of tables, as an error names it.
#[derive(Debug)]
pub struct TableAt {
    /// The array's name.
    pub key: &'static str,
    /// From 1.
    pub number: usize,
    /// What tells a person which one it is: `filter = "a/#"`.
    pub which: String,
}

impl TableAt {
    /// Table number `at`, from 0, with its filter.
    pub fn new(key: &'static str, at: usize, filter: &str) -> Self {
        Self { key, number: at + 1, which: format!("filter = {filter:?}") }
    }
}

impl fmt::Display for TableAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[[{}]] table number {} ({})", self.key, self.number, self.which)
    }
}

/// A configuration file that was read.
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// From what stands in `path`.
    pub fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    /// Puts the file before an error about one of its values, and the line of the table or key that the error names. The
    /// values of the keys in `given` came from elsewhere: the line would mislead.
    pub fn locate(&self, error: Error, given: &[&str]) -> Error {
        let file = self.path.display();
        match self.line(&error, given) {
            Some(line) => error.context(format!("{file}, line {line}")),
            None if given.is_empty() => error.context(file.to_string()),
            None => error.context(format!("{file} and the options given beside it")),
        }
    }

    /// From 1.
    fn line(&self, error: &Error, given: &[&str]) -> Option<usize> {
        let document = DeTable::parse(&self.text).ok()?;
        let table = error.downcast_ref::<TableAt>().map(|at| (at.key, at.number));
        let rule = error.downcast_ref::<RuleError>().map(|rule| ("quality", rule.position));
        let start = match table.or(rule) {
            Some((key, number)) => match document.get_ref().get(key)?.get_ref() {
                DeValue::Array(tables) => tables.get(number.checked_sub(1)?)?.span().start,
                _ => return None,
            },
            // `limits.max_sessions: must be …`
            None => {
                let message = error.to_string();
                let key = message.split_once(": ").map_or("", |(key, _)| key);
                if given.contains(&key) {
                    return None;
                }
                place_of(document.get_ref(), key)?
            }
        };
        Some(self.text.get(..start)?.matches('\n').count() + 1)
    }
}

/// Where a key's name stands, a dotted one's last part.
fn place_of(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == first)?;
    match (rest, value.get_ref()) {
        (Some(rest), DeValue::Table(inner)) => place_of(inner, rest),
        _ => Some(name.span().start),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn tables_and_keys_have_their_line() {
        let text = "# one\nmax_clients = 0\n[http]\nlisten = 'x'\n[[topic]]\nfilter = 'a'\n\n[[topic]]\nfilter = 'b'\n";
        let source = Source::new(Path::new("dir/agent.toml"), text.to_owned());
        let check = |error: Error, given: &[&str], said: &str| {
            assert_eq!(format!("{:#}", source.locate(error, given)), said);
        };
        check(anyhow!("max_clients: must be"), &[], "dir/agent.toml, line 2: max_clients: must be");
        check(anyhow!("http.listen: no"), &["listen"], "dir/agent.toml, line 4: http.listen: no");
        let table = || TableAt { key: "topic", number: 2, which: "filter = \"b\"".into() };
        let error = anyhow!("why").context(table());
        check(error, &[], "dir/agent.toml, line 8: [[topic]] table number 2 (filter = \"b\"): why");
        let error = anyhow!("why").context(table()).context("outer");
        check(error, &[], "dir/agent.toml, line 8: outer: [[topic]] table number 2 (filter = \"b\"): why");
        // The value came from an option, or stands nowhere.
        let both = "dir/agent.toml and the options given beside it: max_clients: must be";
        check(anyhow!("max_clients: must be"), &["max_clients"], both);
        check(anyhow!("names: give one"), &[], "dir/agent.toml: names: give one");
    }
}
