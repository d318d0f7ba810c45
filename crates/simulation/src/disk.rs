//! An agent's disk in memory: what is on it, and how its writes fail.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use sealcast_agent_core::{
    Retained,
    control::{FolderPast, Write},
    session,
    values::ValueWrite,
};
use zeroize::Zeroizing;

use crate::event::Death;

/// When a client was last here, Unix ms, its replay windows, and what it is subscribed to.
#[derive(Clone, Default)]
pub struct Seen {
    /// When.
    pub ms: u64,
    /// Their rows.
    pub windows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Its subscriptions.
    pub filters: Vec<String>,
}

/// What an agent's folder holds. A transaction is a change of it as a whole.
#[derive(Clone, Default)]
pub struct Files {
    /// Of the ledger, in order.
    pub records: Vec<Vec<u8>>,
    /// Of the groups.
    pub state: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Of each client.
    pub clients: BTreeMap<String, Seen>,
    /// What it says of its own past.
    pub past: FolderPast,
    /// Of the replica.
    pub snapshot: Option<Vec<u8>>,
    /// Retained messages, by topic.
    pub retained: BTreeMap<String, Retained>,
    /// What is remembered of values.
    pub values: BTreeMap<(u8, String), Vec<u8>>,
}

/// The writes of one step.
pub enum Writes<'a> {
    /// The control plane's.
    Control(&'a [Write]),
    /// A session's, without [`session::Write::Values`].
    Session(&'a [session::Write]),
    /// Of values.
    Values(&'a [ValueWrite]),
}

/// Why a write did not succeed.
#[derive(Debug)]
pub enum Failed {
    /// The disk fails. The agent goes on.
    Disk,
    /// The agent is dead.
    Died,
    /// The agent wrote what no agent may.
    Broken(anyhow::Error),
}

/// See the module.
#[derive(Default)]
pub struct Disk {
    /// What is on it.
    pub files: Files,
    /// Until when writes fail ([`sealcast_agent_core::Now::run_ms`]), and whether they are there all the same.
    fails: Option<(u64, bool)>,
    /// As it was when somebody copied it.
    copy: Option<Files>,
    /// At which write the agent dies.
    trap: Option<(usize, Death)>,
    /// The agent dies after so many more effects.
    dying: Option<usize>,
    /// The last write failed.
    is_failing: bool,
    /// Writes that succeeded, failed, and failed although they are there.
    pub counts: [u64; 3],
}

impl Disk {
    /// No writes are taken until then.
    pub fn fail_until(&mut self, run_ms: u64, persisted: bool) {
        self.fails = Some((run_ms, persisted));
    }

    /// The agent dies at the write after so many more.
    pub fn set_trap(&mut self, writes: usize, death: Death) {
        self.trap = Some((writes, death));
    }

    /// Somebody copies what is on it.
    pub fn copy(&mut self) {
        self.copy = Some(self.files.clone());
    }

    /// What the last copy says of its past.
    pub fn copied(&self) -> Option<&FolderPast> {
        self.copy.as_ref().map(|files| &files.past)
    }

    /// Somebody puts the last copy back.
    pub fn put_back(&mut self) {
        if let Some(files) = &self.copy {
            self.files = files.clone();
        }
    }

    /// Everything works.
    pub fn mend(&mut self) {
        let (files, copy) = (std::mem::take(&mut self.files), self.copy.take());
        *self = Self { files, copy, counts: self.counts, ..Self::default() };
    }

    /// The agent that starts now has no death before it, but the disk is as it is.
    pub fn reborn(&mut self) {
        (self.trap, self.dying, self.is_failing) = (None, None, false);
    }

    /// Whether the last write failed.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Whether the disk takes writes: if the last one failed, by trying another.
    pub fn probe(&mut self, run_ms: u64) -> bool {
        if self.is_failing {
            self.is_failing = self.fails.is_some_and(|(until_ms, _)| run_ms < until_ms);
        }
        !self.is_failing
    }

    /// One transaction.
    pub fn commit(&mut self, writes: &Writes<'_>, run_ms: u64) -> Result<(), Failed> {
        let death = self.next_death();
        let failure = self.fails.filter(|(until_ms, _)| run_ms < *until_ms);
        let stored = match (death, failure) {
            (Some(Death::Lost), _) => false,
            (Some(_), _) => true,
            (None, Some((_, persisted))) => persisted,
            (None, None) => true,
        };
        if stored {
            self.files.apply(writes).map_err(Failed::Broken)?;
        }
        self.is_failing = failure.is_some();
        self.counts[if failure.is_none() { 0 } else { 1 + usize::from(stored) }] += 1;
        match death {
            Some(Death::Lost | Death::Persisted) => Err(Failed::Died),
            Some(Death::Effects(effects)) => {
                self.dying = Some(effects);
                Ok(())
            }
            None if failure.is_some() => Err(Failed::Disk),
            None => Ok(()),
        }
    }

    fn next_death(&mut self) -> Option<Death> {
        let (writes, death) = self.trap?;
        self.trap = writes.checked_sub(1).map(|left| (left, death));
        self.trap.is_none().then_some(death)
    }

    /// An effect is about to happen.
    ///
    /// # Errors
    /// The agent dies before it.
    pub fn before_effect(&mut self) -> Result<(), Failed> {
        match &mut self.dying {
            Some(0) => Err(Failed::Died),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Files {
    fn apply(&mut self, writes: &Writes<'_>) -> Result<()> {
        match writes {
            Writes::Control(writes) => writes.iter().try_for_each(|write| self.control(write)),
            Writes::Session(writes) => {
                writes.iter().for_each(|write| self.session(write));
                Ok(())
            }
            Writes::Values(writes) => {
                writes.iter().for_each(|write| self.value(write));
                Ok(())
            }
        }
    }

    fn control(&mut self, write: &Write) -> Result<()> {
        match write {
            Write::Record { index, bytes } => match self.records.get(usize::try_from(*index)?) {
                Some(known) if known == bytes => {}
                Some(_) => bail!("record {index} is replaced by another"),
                None if self.records.len() as u64 == *index => self.records.push(bytes.clone()),
                None => bail!("record {index} comes after {} records", self.records.len()),
            },
            Write::Snapshot { height, bytes } => {
                ensure!(self.records.len() as u64 == *height, "a snapshot at {height} stands for other records");
                self.snapshot = Some(bytes.clone());
            }
            Write::State(sealcast_group::Write { key, value: Some(value) }) => {
                self.state.insert(key.clone(), value.clone());
            }
            Write::State(sealcast_group::Write { key, value: None }) => drop(self.state.remove(key)),
            Write::ReadingOnLedger { .. } | Write::DrawAnchor { .. } | Write::Anchored { .. } => {}
            Write::Submitted { nonce, digest } => {
                let entry = (*nonce, *digest);
                if !self.past.submitted.contains(&entry) {
                    self.past.submitted.push(entry);
                }
            }
            Write::Answered { nonce } => self.past.submitted.retain(|(other, _)| other > nonce),
            Write::Checkpoint(checkpoint) => self.past.checkpoint = Some(*checkpoint),
            Write::BeginAnew { before_ms } => {
                self.past.checkpoint = None;
                self.retained.retain(|_, kept| kept.time_ms >= *before_ms);
            }
        }
        Ok(())
    }

    fn session(&mut self, write: &session::Write) {
        match write {
            session::Write::Client { id, changes, seen_ms } => {
                let Seen { ms, windows, .. } = self.clients.entry(id.clone()).or_default();
                *ms = *seen_ms;
                if changes.replace_all {
                    windows.clear();
                }
                for row in &changes.rows {
                    match &row.value {
                        Some(value) => drop(windows.insert(row.key.clone(), value.clone())),
                        None => drop(windows.remove(&row.key)),
                    }
                }
            }
            session::Write::Subscriptions { id, filters } => {
                self.clients.entry(id.clone()).or_default().filters.clone_from(filters);
            }
            session::Write::Retained(message) if message.payload.is_empty() => {
                self.retained.remove(&message.topic);
            }
            session::Write::Retained(message) => {
                self.retained.insert(message.topic.clone(), message.clone());
            }
            session::Write::Readings { .. } | session::Write::Sent { .. } | session::Write::Values => {}
        }
    }

    fn value(&mut self, write: &ValueWrite) {
        if let ValueWrite::Row(row) = write {
            let key = (row.kind, row.key.clone());
            match &row.value {
                Some(value) => drop(self.values.insert(key, value.clone())),
                None => drop(self.values.remove(&key)),
            }
        }
    }
}
