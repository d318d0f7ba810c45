//! A configuration file in which every key stands and none is set, as `init` writes it.
//!
//! A line `#key = value` is a key that can be set by taking the `#` off, `#[table]` is the table above it, and `# words` explains
//! what follows. The value is the default, unless the line ends with [`EXAMPLE`] or [`NEEDED`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::{
    files::{self, Mode},
    output,
};

/// Behind a value that is no default.
const EXAMPLE: &str = "# example";
/// Behind one that has to be given where its table is.
const NEEDED: &str = "# needed";
/// A key that nothing knows.
const UNKNOWN: &str = "zzz";

/// Writes `text` as the configuration file `name` of the role whose folder is `dir`, unless there is one.
///
/// # Errors
/// There is one, or it cannot be written.
pub fn write_template(dir: &Path, name: &str, text: &str) -> Result<()> {
    let path = dir.join(name);
    ensure!(
        !path.exists(),
        "{} is there, and is not overwritten: move it away first, or compare by eye with one for another folder (--dir)",
        path.display()
    );
    files::write_new(&path, text.as_bytes(), Mode::Public)?;
    output::line(&format!("{}: every key is in it, and none is set", path.display()))
}

/// What is wrong with such a text for the configuration `T`, whose reference is `docs`: a key that is missing, unknown or not in
/// the reference, a value that is not the default. For tests.
pub fn faults<T: DeserializeOwned + Default + Debug>(text: &str, docs: &str) -> Vec<String> {
    let attempt = || -> Result<Vec<String>> {
        let of = |text: &str| toml::from_str::<T>(text).map(|file| format!("{file:?}"));
        let mut faults = Vec::new();
        if of(text)? != format!("{:?}", T::default()) {
            faults.push("as it is written, it sets something".to_owned());
        }
        let all = set(text, |_| true);
        of(&all).context("with every key set")?;
        let tables = of(&set(text, |line| line.ends_with(NEEDED))).context("with what is needed")?;
        let defaults = of(&set(text, |line| !line.ends_with(EXAMPLE))).context("with all defaults set")?;
        if tables != defaults {
            faults.push(format!("a value is not the default:\n{}", difference(&tables, &defaults)));
        }
        faults.extend(missing::<T>(toml::from_str(&all)?, docs));
        Ok(faults)
    };
    attempt().unwrap_or_else(|error| vec![format!("{error:#}")])
}

/// The text with all tables, and with the keys that are `wanted`.
fn set(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with('[') || key.starts_with(|c: char| c.is_ascii_lowercase()) && wanted(key) => {
            format!("{key}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Around the first place where two texts differ.
fn difference(one: &str, other: &str) -> String {
    let at = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let around = |text: &str| text.chars().skip(at.saturating_sub(60)).take(120).collect::<String>();
    format!("{}\n{}", around(one), around(other))
}

/// The keys that `T` knows and `all` does not have, and those that `docs` does not name.
fn missing<T: DeserializeOwned + Debug>(all: Table, docs: &str) -> Vec<String> {
    let mut paths = Vec::new();
    tables(&all, &mut Vec::new(), &mut paths);
    // Tables of one name may be of several kinds, and each key of a kind has to be in one of them.
    let mut kinds: BTreeMap<(String, Vec<String>), BTreeSet<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    for path in paths {
        let mut changed = Value::Table(all.clone());
        let Some(table) =
            path.iter().try_fold(&mut changed, |value, step| step.of(value)).and_then(Value::as_table_mut)
        else {
            continue;
        };
        let keys: BTreeSet<String> = table.keys().cloned().collect();
        table.insert(UNKNOWN.to_owned(), Value::Boolean(true));
        let said = changed.try_into::<T>().map_or_else(|error| error.to_string(), |_| String::new());
        let name = path.iter().filter_map(Step::name).collect::<Vec<_>>().join(".");
        match expected(&said) {
            Some(known) => kinds.entry((name, known)).or_default().extend(keys),
            None => faults.push(format!("[{name}] takes unknown keys: {said}")),
        }
    }
    for ((name, known), keys) in kinds {
        let lacks = known.iter().filter(|key| !keys.contains(*key));
        faults.extend(lacks.map(|key| format!("[{name}] lacks the key {key}")));
        let told = known.iter().filter(|key| !docs.contains(key.as_str()));
        faults.extend(told.map(|key| format!("docs/configuration.md lacks the key {key} of [{name}]")));
    }
    faults
}

/// The keys in what serde says of [`UNKNOWN`].
fn expected(said: &str) -> Option<Vec<String>> {
    let known = said.lines().next()?.strip_prefix(&format!("unknown field `{UNKNOWN}`, expected "))?;
    Some(known.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// From a value to one in it.
#[derive(Clone)]
enum Step {
    Key(String),
    Place(usize),
}

impl Step {
    fn of<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        match self {
            Self::Key(key) => value.get_mut(key),
            Self::Place(at) => value.get_mut(*at),
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::Place(_) => None,
        }
    }
}

/// The ways to a table and to all tables in it.
fn tables(table: &Table, here: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    found.push(here.clone());
    for (key, value) in table {
        here.push(Step::Key(key.clone()));
        match value {
            Value::Table(inner) => tables(inner, here, found),
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    if let Value::Table(inner) = item {
                        here.push(Step::Place(at));
                        tables(inner, here, found);
                        here.pop();
                    }
                }
            }
            _ => {}
        }
        here.pop();
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct File {
        port: u16,
        name: Option<String>,
        inner: Inner,
        list: Vec<Item>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        wait_ms: u64,
        user: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "they are read by Debug")]
    struct Item {
        filter: String,
        most: Option<u8>,
    }

    impl Default for File {
        fn default() -> Self {
            Self { port: 7, name: None, inner: Inner::default(), list: Vec::new() }
        }
    }

    const GOOD: &str = "# A port.\n#port = 7\n#name = \"a\"  # example\n#[inner]\n#wait_ms = 0\n#user = \"u\"  # example\n\
                        #[[list]]\n#filter = \"a\"  # needed\n#most = 9  # example\n";
    const DOCS: &str = "`port` `name` `inner` `list` `wait_ms` `user` `filter` `most`";

    #[test]
    fn a_text_that_does_not_say_what_is_so_is_found_out() {
        assert_eq!(faults::<File>(GOOD, DOCS), Vec::<String>::new());
        for (from, to, said) in [
            ("#port = 7", "#port = 8", "a value is not the default"),
            ("#port = 7\n", "", "[] lacks the key port"),
            ("#user = \"u\"  # example\n", "", "[inner] lacks the key user"),
            ("#most = 9  # example\n", "", "[list] lacks the key most"),
            ("#wait_ms = 0", "#wait_s = 0", "wait_s"),
            ("#filter = \"a\"  # needed\n", "", "filter"),
            ("#name = \"a\"  # example", "#name = \"a\"", "a value is not the default"),
            ("#port = 7", "port = 9", "it sets something"),
        ] {
            let changed = GOOD.replace(from, to);
            assert_ne!(changed, GOOD);
            let found = faults::<File>(&changed, DOCS).join("\n");
            assert!(found.contains(said), "{to}: {found}");
        }
        let undocumented = faults::<File>(GOOD, &DOCS.replace("most", "")).join("\n");
        assert!(undocumented.contains("lacks the key most of [list]"), "{undocumented}");
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        write_template(dir.path(), "agent.toml", GOOD).unwrap();
        std::fs::write(dir.path().join("agent.toml"), "mine").unwrap();
        let refused = format!("{:#}", write_template(dir.path(), "agent.toml", GOOD).unwrap_err());
        assert!(refused.contains("is not overwritten"), "{refused}");
        assert_eq!(std::fs::read_to_string(dir.path().join("agent.toml")).unwrap(), "mine");
        let missing = format!("{:#}", write_template(&dir.path().join("none"), "agent.toml", GOOD).unwrap_err());
        assert!(missing.contains("agent.toml"), "{missing}");
    }
}
