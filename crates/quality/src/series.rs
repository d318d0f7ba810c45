//! What is remembered for each topic (and name within its messages), with a bound, and its bytes.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::{Reader, StateError, Writer};

/// Most topics and names that one engine keeps state for. Beyond it the one unused for the longest is forgotten.
pub const MAX_SERIES: usize = 8192;

/// First byte of each stored value.
const VERSION: u8 = 1;

/// What to store for one topic and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The topic, and after a NUL the name within its messages if there is one.
    pub key: Box<str>,
    /// What to store under it; `None` to delete it.
    pub value: Option<Vec<u8>>,
}

/// State of one series that can be stored.
pub(crate) trait Stored: Sized {
    fn write(&self, out: &mut Writer);
    fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError>;
}

/// The bound map. `T`'s are stored row by row.
#[derive(Debug)]
pub(crate) struct SeriesMap<T> {
    entries: BTreeMap<Box<str>, Entry<T>>,
    dirty: BTreeSet<Box<str>>,
    limit: usize,
    uses: u64,
}

#[derive(Debug)]
struct Entry<T> {
    state: T,
    used: u64,
    dirty: bool,
}

/// The key of a topic and name.
pub(crate) fn key(topic: &str, name: &str) -> Box<str> {
    if name.is_empty() { topic.into() } else { format!("{topic}\0{name}").into() }
}

/// The topic of a key.
pub(crate) fn topic_of(key: &str) -> &str {
    key.split('\0').next().unwrap_or(key)
}

/// The name of a key.
pub(crate) fn name_of(key: &str) -> &str {
    key.split_once('\0').map_or("", |(_, name)| name)
}

impl<T> SeriesMap<T> {
    pub fn new() -> Self {
        Self { entries: BTreeMap::new(), dirty: BTreeSet::new(), limit: MAX_SERIES, uses: 0 }
    }

    /// The state, made if there is none; marked as changed.
    pub fn touch(&mut self, topic: &str, name: &str, make: impl FnOnce() -> T) -> &mut T {
        // Keys with a name are rare enough to allocate for.
        let owned;
        let wanted = if name.is_empty() {
            topic
        } else {
            owned = key(topic, name);
            &owned
        };
        self.uses += 1;
        if !self.entries.contains_key(wanted) {
            if self.entries.len() >= self.limit {
                self.forget_oldest();
            }
            self.entries.insert(wanted.into(), Entry { state: make(), used: 0, dirty: false });
        }
        let dirty = &mut self.dirty;
        let uses = self.uses;
        match self.entries.get_mut(wanted) {
            Some(entry) => {
                entry.used = uses;
                if !entry.dirty {
                    entry.dirty = true;
                    dirty.insert(wanted.into());
                }
                &mut entry.state
            }
            None => unreachable!("inserted above"),
        }
    }

    pub fn peek(&self, topic: &str, name: &str) -> Option<&T> {
        let entry = if name.is_empty() { self.entries.get(topic) } else { self.entries.get(&key(topic, name)) };
        entry.map(|entry| &entry.state)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.entries.iter().map(|(key, entry)| (&**key, &entry.state))
    }

    /// Runs over all states; those for which `change` says so count as changed.
    pub fn sweep(&mut self, mut change: impl FnMut(&str, &mut T) -> bool) {
        for (key, entry) in &mut self.entries {
            if change(key, &mut entry.state) && !entry.dirty {
                entry.dirty = true;
                self.dirty.insert(key.clone());
            }
        }
    }

    fn insert(&mut self, key: &str, state: T) {
        if self.entries.len() >= self.limit {
            self.forget_oldest();
        }
        self.entries.insert(key.into(), Entry { state, used: 0, dirty: false });
    }

    fn forget_oldest(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.entries.remove(&key);
            // What is dirty and gone is deleted from the store.
            self.dirty.insert(key);
        }
        // The set of forgotten keys must not grow if the driver never asks for changes.
        if self.dirty.len() > 4 * self.limit {
            self.dirty.retain(|key| self.entries.contains_key(key));
        }
    }
}

impl<T: Stored> SeriesMap<T> {
    /// The rows that changed since the last call.
    pub fn changes(&mut self) -> Vec<Row> {
        let mut rows = Vec::with_capacity(self.dirty.len());
        for key in std::mem::take(&mut self.dirty) {
            let value = self.entries.get_mut(&key).map(|entry| {
                entry.dirty = false;
                encode(&entry.state)
            });
            rows.push(Row { key, value });
        }
        rows
    }

    /// Reads stored rows, in any order.
    pub fn from_rows<'a>(rows: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, StateError> {
        let mut map = Self::new();
        for (key, value) in rows {
            map.restore(key, value)?;
        }
        Ok(map)
    }

    /// Reads one row.
    fn restore(&mut self, key: &str, value: &[u8]) -> Result<(), StateError> {
        let mut reader = Reader(value);
        if reader.u8()? != VERSION {
            return Err(StateError);
        }
        let state = T::read(&mut reader)?;
        reader.end()?;
        self.insert(key, state);
        Ok(())
    }

    /// Everything, as one piece.
    pub fn export(&self) -> Vec<u8> {
        let mut out = Writer::default();
        for (key, entry) in &self.entries {
            out.bytes(key.as_bytes());
            out.bytes(&encode(&entry.state));
        }
        out.0
    }

    /// Reads what [`Self::export`] wrote.
    pub fn import(bytes: &[u8]) -> Result<Self, StateError> {
        let mut map = Self::new();
        let mut reader = Reader(bytes);
        while !reader.0.is_empty() {
            let key = reader.text()?;
            let value = reader.bytes()?;
            map.restore(key, value)?;
        }
        Ok(map)
    }
}

fn encode<T: Stored>(state: &T) -> Vec<u8> {
    let mut out = Writer::default();
    out.u8(VERSION);
    state.write(&mut out);
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Stored for u64 {
        fn write(&self, out: &mut Writer) {
            out.varint(*self);
        }

        fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError> {
            bytes.varint()
        }
    }

    #[test]
    fn forgets_the_oldest() {
        let mut map = SeriesMap::<u64>::new();
        map.limit = 2;
        *map.touch("a", "", || 1) += 1;
        map.touch("b", "x", || 5);
        map.touch("a", "", || 9);
        map.touch("c", "", || 7);
        assert_eq!(map.peek("a", ""), Some(&2));
        assert_eq!(map.peek("b", "x"), None);
        let rows = map.changes();
        let deleted: Vec<_> = rows.iter().filter(|row| row.value.is_none()).map(|row| &*row.key).collect();
        assert_eq!(deleted, ["b\0x"]);
        assert!(map.changes().is_empty());

        let mut again = SeriesMap::<u64>::new();
        for row in rows {
            if let Some(value) = row.value {
                again.restore(&row.key, &value).unwrap();
            }
        }
        assert_eq!(again.export(), map.export());
        assert_eq!(SeriesMap::<u64>::import(&map.export()).unwrap().export(), map.export());
        assert!(SeriesMap::<u64>::import(&map.export()[1..]).is_err());
    }
}
