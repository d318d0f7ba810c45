//! One group as this device holds it, and how that is stored.

use std::collections::BTreeMap;

use mls_rs::mls_rs_codec::{self, MlsDecode, MlsEncode, MlsSize};
use sealcast_ledger::{GroupNumber, Number};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    mls::{Engine, Leaf, MlsGroup, leaves},
    refusal::GroupRefusal,
    stored::{Changes, RestoreError, Stored, decode, encode, sha256},
};

/// How long a Welcome may take after the commit that it belongs to.
pub(crate) const WELCOME_WAIT_MS: u64 = 60_000;

/// Facts about that many last commits are kept, to check Welcomes against.
const COMMITS: usize = 64;
/// That many commits, and bytes of them, are kept for a group that a Welcome is awaited to.
const BACKLOG: usize = 128;
const BACKLOG_BYTES: usize = 4 * 1024 * 1024;
/// That many commits of our own wait for the ledger's word.
const CANDIDATES: usize = 4;

/// What the ledger said about a commit.
#[derive(Clone, MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct CommitInfo {
    /// Index of its entry.
    pub entry: u64,
    pub time_s: u64,
    /// Number of entries that its maker had.
    pub count: u64,
    pub tag: [u8; 32],
    pub originator: [u8; 20],
}

/// A commit of ours that the ledger may or may not have.
#[derive(MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct Candidate {
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    pub commit: Vec<u8>,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    pub secrets: Vec<u8>,
    pub welcomes: Vec<Letter>,
    pub epoch: u64,
    pub submitted_ms: u64,
    /// Whether the ledger said no to it; kept all the same, in case it had taken an earlier copy.
    pub refused: bool,
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.secrets.zeroize();
    }
}

/// An inbox payload for one device.
#[derive(Clone, MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct Letter {
    pub to: [u8; 20],
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    pub payload: Vec<u8>,
}

/// Welcomes of the last commit if it was ours, to send them again after a restart.
#[derive(Clone, MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct Letters {
    /// The epoch that they lead to.
    pub epoch: u64,
    pub letters: Vec<Letter>,
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct SlotRow {
    generation: u32,
    joined: u64,
    added: BTreeMap<u32, u64>,
    commits: BTreeMap<u64, CommitInfo>,
    stopped: Option<String>,
    waiting: bool,
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct BacklogRow {
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    commit: Vec<u8>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Slot {
    pub generation: u32,
    /// The MLS group. At epoch 0 it is one that we would found, if the ledger lets us.
    pub group: Option<MlsGroup>,
    /// Its members by leaf index.
    pub leaves: BTreeMap<u32, Leaf>,
    /// Entry of the commit that added us.
    pub joined: u64,
    /// Entries that published the keys by which others were added, where they came after us.
    pub added: BTreeMap<u32, u64>,
    /// By the epoch that they were made in.
    pub commits: BTreeMap<u64, CommitInfo>,
    /// Commits that we cannot follow yet, by the epoch that they were made in.
    pub backlog: BTreeMap<u64, Vec<u8>>,
    pub candidates: BTreeMap<[u8; 32], Candidate>,
    pub letters: Option<Letters>,
    /// Whether they may not have gone out before a restart.
    letters_due: bool,
    /// Why we no longer follow this generation.
    pub stopped: Option<String>,
    /// Since when there is something to commit.
    pub work_since_ms: Option<u64>,
    /// When we last followed a commit.
    pub followed_ms: u64,
    /// Not to commit before.
    pub retry_ms: u64,
    /// How often in a row the ledger has refused.
    pub refusals: u32,
    /// Whether others take us for a member, so that only a Welcome or a new key package of ours helps.
    pub waiting: bool,
    /// When to stop waiting for the Welcome and ask to be added again; `None` while we may not be in the group.
    pub welcome_due_ms: Option<u64>,
    pub update_requested: bool,
    /// Epochs whose keys are stored.
    pub epochs: Vec<u64>,
}

impl Slot {
    pub fn new(generation: u32) -> Self {
        Self { generation, ..Self::default() }
    }

    /// The group's MLS epoch, if we are a member.
    pub fn epoch(&self) -> Option<u64> {
        self.group.as_ref().map(|group| group.current_epoch())
    }

    /// Entry that published the keys of this leaf, or a later one: whoever was there before us is taken as fresh.
    pub fn added_at(&self, leaf: u32) -> u64 {
        self.added.get(&leaf).copied().unwrap_or(self.joined)
    }

    pub fn restore(
        number: GroupNumber,
        row: &[u8],
        engine: &Engine,
        group_id: impl Fn(u32) -> Vec<u8>,
        stored: &Stored,
    ) -> Result<Self, RestoreError> {
        let row: SlotRow = decode(&format!("slot/{number}"), row)?;
        let mut slot = Self {
            joined: row.joined,
            added: row.added,
            commits: row.commits,
            stopped: row.stopped,
            waiting: row.waiting,
            ..Self::new(row.generation)
        };
        if let Some(snapshot) = stored.get(&format!("mls/{number}")) {
            let mut group = engine.load(&group_id(row.generation), Zeroizing::new(snapshot.to_vec()))?;
            group.clear_pending_commit();
            slot.set_group(group)?;
        }
        for (key, bytes) in stored.under(&format!("candidate/{number}/")) {
            let candidate: Candidate = decode(key, bytes)?;
            slot.candidates.insert(sha256(&candidate.commit), candidate);
        }
        for (key, bytes) in stored.under(&format!("backlog/{number}/")) {
            let epoch = key.rsplit('/').next().and_then(|text| text.parse().ok());
            let row: BacklogRow = decode(key, bytes)?;
            slot.backlog.insert(epoch.ok_or_else(|| RestoreError::corrupt(key))?, row.commit);
        }
        let key = format!("letters/{number}");
        slot.letters = stored.get(&key).map(|bytes| decode(&key, bytes)).transpose()?;
        slot.letters_due = slot.letters.as_ref().is_some_and(|letters| Some(letters.epoch) == slot.epoch());
        Ok(slot)
    }

    /// Takes up a group's new state in memory.
    pub fn set_group(&mut self, group: MlsGroup) -> Result<(), GroupRefusal> {
        self.leaves = leaves(&group)?.into_iter().map(|leaf| (leaf.index, leaf)).collect();
        self.added.retain(|leaf, _| self.leaves.contains_key(leaf));
        self.group = Some(group);
        Ok(())
    }

    /// Forgets the MLS group.
    pub fn drop_group(&mut self, number: GroupNumber, changes: &mut Changes) {
        self.group = None;
        self.leaves.clear();
        self.added.clear();
        changes.delete(format!("mls/{number}"));
    }

    pub fn save(&self, number: GroupNumber, changes: &mut Changes) {
        let row = SlotRow {
            generation: self.generation,
            joined: self.joined,
            added: self.added.clone(),
            commits: self.commits.clone(),
            stopped: self.stopped.clone(),
            waiting: self.waiting,
        };
        changes.put(format!("slot/{number}"), encode(&row));
    }

    /// Saves the MLS group as well.
    pub fn save_group(
        &mut self,
        number: GroupNumber,
        engine: &Engine,
        changes: &mut Changes,
    ) -> Result<(), GroupRefusal> {
        if let Some(group) = &mut self.group {
            changes.put(format!("mls/{number}"), engine.save(group)?);
        }
        self.save(number, changes);
        Ok(())
    }

    /// Others take us for a member: their Welcome must be here by then.
    pub fn await_welcome(&mut self, due_ms: u64) {
        (self.waiting, self.welcome_due_ms) = (true, Some(due_ms));
    }

    pub fn note_commit(&mut self, epoch: u64, info: CommitInfo) {
        self.commits.insert(epoch, info);
        while self.commits.len() > COMMITS {
            self.commits.pop_first();
        }
    }

    /// Keeps a commit for the time when the Welcome comes.
    pub fn keep_for_later(&mut self, number: GroupNumber, epoch: u64, commit: &[u8], changes: &mut Changes) {
        self.backlog.insert(epoch, commit.to_vec());
        changes.put(format!("backlog/{number}/{epoch}"), encode(&BacklogRow { commit: commit.to_vec() }));
        let mut bytes: usize = self.backlog.values().map(Vec::len).sum();
        while self.backlog.len() > BACKLOG || bytes > BACKLOG_BYTES {
            let Some((epoch, commit)) = self.backlog.pop_first() else { break };
            bytes -= commit.len();
            changes.delete(format!("backlog/{number}/{epoch}"));
        }
    }

    pub fn clear_backlog(&mut self, number: GroupNumber, changes: &mut Changes) {
        for epoch in std::mem::take(&mut self.backlog).into_keys() {
            changes.delete(format!("backlog/{number}/{epoch}"));
        }
    }

    pub fn add_candidate(&mut self, number: GroupNumber, candidate: Candidate, changes: &mut Changes) {
        let hash = sha256(&candidate.commit);
        changes.put(candidate_key(number, &hash), encode(&candidate));
        self.candidates.insert(hash, candidate);
    }

    /// Whether there are so many commits of ours for this epoch that no other may be made. None is ever dropped before
    /// the epoch is over: a commit that was refused may be the second copy of one that was taken.
    pub fn is_full(&self) -> bool {
        self.candidates.len() >= CANDIDATES
    }

    /// Makes the last candidate one that is to be submitted again.
    pub fn revive(&mut self) {
        if self.candidates.values().all(|candidate| candidate.refused)
            && let Some(newest) = self.candidates.values_mut().max_by_key(|candidate| candidate.submitted_ms)
        {
            (newest.refused, newest.submitted_ms) = (false, 0);
        }
    }

    /// Takes out the candidate that the ledger took, and forgets the others.
    pub fn settle(&mut self, number: GroupNumber, commit: &[u8], changes: &mut Changes) -> Option<Candidate> {
        let mut candidates = std::mem::take(&mut self.candidates);
        for hash in candidates.keys() {
            changes.delete(candidate_key(number, hash));
        }
        (self.work_since_ms, self.retry_ms, self.refusals) = (None, 0, 0);
        candidates.remove(&sha256(commit))
    }

    /// Notes that the ledger refused a candidate; `false` if it is none of this epoch's.
    pub fn refuse(&mut self, number: GroupNumber, commit: &[u8], changes: &mut Changes) -> bool {
        let hash = sha256(commit);
        let Some(candidate) = self.candidates.get_mut(&hash) else { return false };
        candidate.refused = true;
        changes.put(candidate_key(number, &hash), encode(candidate));
        true
    }

    /// The Welcomes that may not have gone out before a restart, once.
    pub fn take_letters_due(&mut self) -> Option<Letters> {
        std::mem::take(&mut self.letters_due).then(|| self.letters.clone()).flatten()
    }

    pub fn set_letters(&mut self, number: GroupNumber, letters: Option<Letters>, changes: &mut Changes) {
        let key = format!("letters/{number}");
        match &letters {
            Some(letters) => changes.put(key, encode(letters)),
            None if self.letters.is_some() => changes.delete(key),
            None => (),
        }
        (self.letters, self.letters_due) = (letters, false);
    }
}

fn candidate_key(number: GroupNumber, hash: &[u8; 32]) -> String {
    format!("candidate/{number}/{}", hex::encode(hash))
}

impl Letter {
    pub fn recipient(&self) -> Number {
        Number::from(self.to)
    }
}
