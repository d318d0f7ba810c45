//! What is remembered of values on disk, and what a disk that failed did not take.

use std::collections::BTreeMap;

use bytes::Bytes;

/// What the rows are of.
pub(super) mod kind {
    pub const CHECK: u8 = 0;
    pub const REPORT: u8 = 1;
    pub const ALARM: u8 = 2;
    pub const ARCHIVE: u8 = 3;
}

/// One row of what is remembered of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueRow {
    /// Of what: a number of this crate's own.
    pub kind: u8,
    /// Its topic, and name within the message.
    pub key: String,
    /// `None` deletes it.
    pub value: Option<Vec<u8>>,
}

/// A message for an archive, as it waits on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveMessage {
    /// Greater than that of each message before it.
    pub id: i64,
    /// Its topic.
    pub topic: String,
    /// Properties to be sealed.
    pub props: Bytes,
    /// A SenML pack.
    pub payload: Vec<u8>,
}

/// Messages for archives, and bytes of their payloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub messages: u64,
    /// How long their payloads are together.
    pub bytes: u64,
}

impl Amount {
    /// Of a message whose payload has so many bytes.
    pub fn of_one(bytes: u64) -> Self {
        Self { messages: 1, bytes }
    }

    /// Adds what came.
    pub fn add(&mut self, more: Self) {
        self.messages = self.messages.saturating_add(more.messages);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    /// Takes off what is gone.
    pub(super) fn remove(&mut self, gone: Self) {
        self.messages = self.messages.saturating_sub(gone.messages);
        self.bytes = self.bytes.saturating_sub(gone.bytes);
    }
}

/// Messages for archives, as the last run left them on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveOnDisk {
    /// So many wait.
    pub waiting: Amount,
    /// The greatest id that a message has had, whether it still waits or not; 0 if there was none.
    pub last_id: i64,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueWrite {
    /// Replaces the row of the same kind and key.
    Row(ValueRow),
    /// Adds a message behind those that wait, unless one with this id or a greater one was ever added: then it is a second try
    /// of a write that only seemed to fail.
    Archive(ArchiveMessage),
}

/// Writes that failed, in their order. Of rows the newest counts.
#[derive(Default)]
pub(super) struct Unwritten {
    rows: BTreeMap<(u8, String), Option<Vec<u8>>>,
    archive: Vec<ArchiveMessage>,
}

impl Unwritten {
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.archive.is_empty()
    }

    /// These failed too, after those that are here.
    pub fn put_back(&mut self, writes: Vec<ValueWrite>) {
        for write in writes {
            match write {
                ValueWrite::Row(row) => drop(self.rows.insert((row.kind, row.key), row.value)),
                ValueWrite::Archive(message) => self.archive.push(message),
            }
        }
    }

    /// All of them, and then these.
    pub fn take_with(&mut self, rows: Vec<ValueRow>, archive: Vec<ArchiveMessage>) -> Vec<ValueWrite> {
        let mut all = std::mem::take(&mut self.rows);
        all.extend(rows.into_iter().map(|row| ((row.kind, row.key), row.value)));
        let rows = all.into_iter().map(|((kind, key), value)| ValueWrite::Row(ValueRow { kind, key, value }));
        let archive = std::mem::take(&mut self.archive).into_iter().chain(archive).map(ValueWrite::Archive);
        rows.chain(archive).collect()
    }
}

/// The keys and values of the rows of one kind.
pub(super) fn of(rows: &[ValueRow], kind: u8) -> impl Iterator<Item = (&str, &[u8])> {
    rows.iter().filter(move |row| row.kind == kind).filter_map(|row| Some((row.key.as_str(), row.value.as_deref()?)))
}
