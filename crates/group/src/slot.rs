//! One group as this device holds it, and how that is stored.

use std::collections::BTreeMap;

use mls_rs::mls_rs_codec::{self, MlsDecode, MlsEncode, MlsSize};
use sealcast_ledger::{Epoch, Generation, GroupNumber, Number};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    epochs,
    mls::{Engine, Leaf, MlsGroup, leaves},
    public::{BACKLOG, Public},
    refusal::GroupRefusal,
    stored::{Changes, RestoreError, Stored, decode, encode, sha256},
};

/// How long a Welcome may take after the commit that it belongs to.
pub(crate) const WELCOME_WAIT_MS: u64 = 60_000;

/// So many bytes of commits are kept for a group that a Welcome is awaited to.
const BACKLOG_BYTES: usize = 4 * 1024 * 1024;
/// That many commits of our own wait for the ledger's word.
const CANDIDATES: usize = 4;

/// The commit that gave this device its leaf: the one Welcome that is accepted belongs to it.
#[derive(Clone, MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct Invitation {
    /// The MLS epoch that it leads to.
    pub epoch: u64,
    /// Its confirmation tag.
    pub tag: [u8; 32],
    /// Who made it.
    pub author: [u8; 20],
    /// Whether the Welcome must bring a secret of the tree's path: without it this device could not follow other members.
    pub has_path: bool,
}

/// What keeps this device without keys of the group, for the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct Fault {
    /// The ledger's epoch that the commit was made in which it cannot follow, or since which it gets no keys.
    pub epoch: u64,
    pub kept_out: bool,
    /// It is to be said in a record of at least this index.
    pub since: u64,
}

/// A commit of ours that the ledger may or may not have.
#[derive(MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct Candidate {
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    pub commit: Vec<u8>,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    pub secrets: Vec<u8>,
    pub welcomes: Vec<Letter>,
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
    public: Public,
    invitation: Option<Invitation>,
    fault: Option<Fault>,
}

/// A commit that counts and that we cannot follow yet.
#[derive(MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct Later {
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    pub commit: Vec<u8>,
    /// The ledger's epoch that it was made in.
    pub on_ledger: u64,
    pub author: [u8; 20],
}

/// See the module.
pub(crate) struct Slot {
    /// What everybody knows.
    pub public: Public,
    /// The MLS group. At epoch 0 it is one that we would found, if the ledger lets us.
    pub group: Option<MlsGroup>,
    /// Its members by leaf index.
    pub leaves: BTreeMap<u32, Leaf>,
    /// What our Welcome must fit to, while we have a leaf and not the group.
    pub invitation: Option<Invitation>,
    /// Why we have no keys of the group.
    pub fault: Option<Fault>,
    /// When it was last submitted.
    pub fault_submitted_ms: Option<u64>,
    /// How often it was said.
    pub faults_said: u32,
    /// By the MLS epoch that they were made in.
    pub backlog: BTreeMap<u64, Later>,
    pub candidates: BTreeMap<[u8; 32], Candidate>,
    pub letters: Option<Letters>,
    /// Whether they may not have gone out before a restart.
    letters_due: bool,
    /// Since when there is something to commit.
    pub work_since_ms: Option<u64>,
    /// When we last followed a commit.
    pub followed_ms: u64,
    /// Not to commit before.
    pub retry_ms: u64,
    /// How often in a row the ledger has refused.
    pub refusals: u32,
    /// When to stop waiting for keys and say so on the ledger, again if need be; `None` while we may not be in the group.
    pub welcome_due_ms: Option<u64>,
    pub update_requested: bool,
    /// MLS epochs whose keys are stored.
    pub epochs: Vec<u64>,
}

impl Slot {
    pub fn new(public: Public) -> Self {
        Self {
            public,
            group: None,
            leaves: BTreeMap::new(),
            invitation: None,
            fault: None,
            fault_submitted_ms: None,
            faults_said: 0,
            backlog: BTreeMap::new(),
            candidates: BTreeMap::new(),
            letters: None,
            letters_due: false,
            work_since_ms: None,
            followed_ms: 0,
            retry_ms: 0,
            refusals: 0,
            welcome_due_ms: None,
            update_requested: false,
            epochs: Vec::new(),
        }
    }

    pub fn generation(&self) -> Generation {
        Generation(self.public.generation)
    }

    /// The generation, and the MLS epoch by the ledger.
    pub fn present(&self) -> (Generation, u64) {
        (self.generation(), self.public.epoch)
    }

    /// The ledger's epoch.
    pub fn on_ledger(&self) -> Epoch {
        Epoch(self.public.on_ledger())
    }

    /// The group's MLS epoch, if we are a member.
    pub fn epoch(&self) -> Option<u64> {
        self.group.as_ref().map(|group| group.current_epoch())
    }

    pub fn restore(
        number: GroupNumber,
        row: &[u8],
        engine: &Engine,
        group_id: impl Fn(u32) -> Vec<u8>,
        stored: &Stored,
    ) -> Result<Self, RestoreError> {
        let row: SlotRow = decode(&format!("slot/{number}"), row)?;
        let generation = row.public.generation;
        let mut slot = Self { invitation: row.invitation, fault: row.fault, ..Self::new(row.public) };
        if let Some(snapshot) = stored.get(&format!("mls/{number}")) {
            let mut group = engine.load(&group_id(generation), Zeroizing::new(snapshot.to_vec()))?;
            group.clear_pending_commit();
            slot.set_group(group)?;
        }
        for (key, bytes) in stored.under(&format!("candidate/{number}/")) {
            let candidate: Candidate = decode(key, bytes)?;
            slot.candidates.insert(sha256(&candidate.commit), candidate);
        }
        for (key, bytes) in stored.under(&format!("backlog/{number}/")) {
            let epoch = key.rsplit('/').next().and_then(|text| text.parse().ok());
            let epoch = epoch.ok_or_else(|| RestoreError::corrupt(key))?;
            slot.backlog.insert(epoch, decode(key, bytes)?);
        }
        let key = format!("letters/{number}");
        slot.letters = stored.get(&key).map(|bytes| decode(&key, bytes)).transpose()?;
        slot.letters_due = slot.letters.as_ref().is_some_and(|letters| Some(letters.epoch) == slot.epoch());
        Ok(slot)
    }

    /// Takes up a group's new state in memory.
    pub fn set_group(&mut self, group: MlsGroup) -> Result<(), GroupRefusal> {
        self.leaves = leaves(&group)?.into_iter().map(|leaf| (leaf.index, leaf)).collect();
        self.group = Some(group);
        Ok(())
    }

    /// Forgets the MLS group.
    pub fn drop_group(&mut self, number: GroupNumber, changes: &mut Changes) {
        self.group = None;
        self.leaves.clear();
        changes.delete(format!("mls/{number}"));
    }

    /// Forgets all that only this device knows: its keys, and what it would do with them.
    pub fn forget(&mut self, number: GroupNumber, changes: &mut Changes) {
        self.settle(number, &[], changes);
        self.set_letters(number, None, changes);
        self.clear_backlog(number, changes);
        self.drop_group(number, changes);
        epochs::forget(number, &mut self.epochs, changes);
        self.invitation = None;
        self.set_fault(None);
    }

    pub fn save(&self, number: GroupNumber, changes: &mut Changes) {
        let row = SlotRow { public: self.public.clone(), invitation: self.invitation.clone(), fault: self.fault };
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

    /// Keeps a commit for the time when the Welcome comes.
    pub fn keep_for_later(&mut self, number: GroupNumber, epoch: u64, later: Later, changes: &mut Changes) {
        changes.put(format!("backlog/{number}/{epoch}"), encode(&later));
        self.backlog.insert(epoch, later);
        let mut bytes: usize = self.backlog.values().map(|later| later.commit.len()).sum();
        while self.backlog.len() > BACKLOG || bytes > BACKLOG_BYTES {
            let Some((epoch, later)) = self.backlog.pop_first() else { break };
            bytes -= later.commit.len();
            changes.delete(format!("backlog/{number}/{epoch}"));
        }
    }

    pub fn clear_backlog(&mut self, number: GroupNumber, changes: &mut Changes) {
        for epoch in std::mem::take(&mut self.backlog).into_keys() {
            changes.delete(format!("backlog/{number}/{epoch}"));
        }
    }

    /// Whether we have no keys of the group, for this reason from now on.
    pub fn set_fault(&mut self, fault: Option<Fault>) {
        (self.fault, self.fault_submitted_ms) = (fault, None);
        if fault.is_none() {
            (self.welcome_due_ms, self.faults_said) = (None, 0);
        }
    }

    pub fn add_candidate(&mut self, number: GroupNumber, candidate: Candidate, changes: &mut Changes) {
        let hash = sha256(&candidate.commit);
        changes.put(candidate_key(number, &hash), encode(&candidate));
        self.candidates.insert(hash, candidate);
    }

    /// The epoch is over, and what was to be done in it.
    pub fn rest(&mut self, now_ms: u64) {
        (self.work_since_ms, self.retry_ms, self.refusals) = (None, 0, 0);
        (self.update_requested, self.followed_ms) = (false, now_ms);
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

    /// Takes out the candidate that the ledger took, and forgets the others: they were made for the ledger's last epoch.
    pub fn settle(&mut self, number: GroupNumber, commit: &[u8], changes: &mut Changes) -> Option<Candidate> {
        let mut candidates = std::mem::take(&mut self.candidates);
        for hash in candidates.keys() {
            changes.delete(candidate_key(number, hash));
        }
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
