//! Building a commit, and bringing it to the ledger.

use sealcast_ledger::{GroupNumber, Number, Replica};

use crate::{
    GroupRefusal, Groups, MAX_COMMIT_BYTES, Notice,
    judge::judge,
    mls::Built,
    public::Place,
    slot::{Candidate, Letter, Slot},
    stored::sha256,
    wire,
};

/// After that time without an answer an entry is submitted again.
pub(crate) const RESUBMIT_MS: u64 = 30_000;

/// A device that a commit should add.
#[derive(Clone)]
pub(crate) struct Add {
    pub device: Number,
    pub package: Vec<u8>,
    /// The leaf that it has and has lost the keys of: removed in the same commit.
    pub lost: Option<u32>,
}

/// What a commit of this device should do.
pub(crate) struct Work {
    pub adds: Vec<Add>,
    pub removes: Vec<u32>,
    /// Our leaf gets our present certificate.
    pub renew: bool,
    /// Place among those who could do it.
    pub rank: u64,
}

impl Work {
    pub fn only_adds(&self) -> bool {
        !self.adds.is_empty()
            && self.removes.is_empty()
            && !self.renew
            && self.adds.iter().all(|add| add.lost.is_none())
    }
}

impl Groups {
    /// Builds a commit, stores it, and submits it.
    pub(crate) fn commit(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        work: Work,
        now_ms: u64,
    ) -> Result<(), GroupRefusal> {
        let time_s = self.ledger_now_s(replica, now_ms);
        let Some(built) = self.build(replica, number, slot, work, time_s)? else { return Ok(()) };
        // Everybody will judge it: what would be void is not submitted.
        let place = Place { entry: replica.height(), time_s, author: self.number };
        judge(replica, number, &slot.public, &built.commit, &place)?;
        let letter = |(to, welcome): (Number, Vec<u8>)| Letter {
            to: to.into(),
            payload: wire::write_inbox(&welcome, &built.tree),
        };
        let candidate = Candidate {
            commit: built.commit.clone(),
            secrets: built.secrets.to_vec(),
            welcomes: built.welcomes.into_iter().map(letter).collect(),
            submitted_ms: now_ms,
            refused: false,
        };
        slot.add_candidate(number, candidate, &mut self.changes);
        slot.save(number, &mut self.changes);
        self.submit_commit(number, slot, built.commit);
        self.wake_at(now_ms + RESUBMIT_MS);
        Ok(())
    }

    /// A commit that does as much of the work as fits, if any of it can be done.
    fn build(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        mut work: Work,
        time_s: u64,
    ) -> Result<Option<Built>, GroupRefusal> {
        let head = wire::write_ledger_head(replica.height(), replica.head().as_bytes());
        let founding = slot.public.epoch == 0;
        loop {
            let Some(group) = &mut slot.group else { return Ok(None) };
            let mut build = |adds: &[Add]| {
                let removes = work.removes.iter().copied().chain(adds.iter().filter_map(|add| add.lost));
                let adds: Vec<_> = adds.iter().map(|add| (add.device, add.package.clone())).collect();
                self.engine.commit(group, &adds, &removes.collect::<Vec<_>>(), work.renew, head.clone(), time_s)
            };
            match build(&work.adds) {
                Ok(built) if built.commit.len() <= MAX_COMMIT_BYTES => return Ok(Some(built)),
                Ok(built) if work.adds.is_empty() => {
                    return Err(GroupRefusal::TooLarge { group: number, bytes: built.commit.len() });
                }
                Ok(_) => work.adds.truncate(work.adds.len() / 2),
                Err(refusal) if work.adds.is_empty() => return Err(refusal),
                Err(_) => {
                    // One of the key packages is at fault: each shows alone whether it is.
                    let tried: Vec<_> =
                        work.adds.drain(..).map(|add| (build(std::slice::from_ref(&add)), add)).collect();
                    for (outcome, add) in tried {
                        match outcome {
                            Ok(_) => work.adds.push(add),
                            Err(refusal) => {
                                self.mark_bad(sha256(&add.package));
                                let device = replica.device(add.device).map(|device| device.id.clone());
                                self.notice(device, Some(number), Notice::Refused(refusal));
                            }
                        }
                    }
                    if work.adds.is_empty() && work.removes.is_empty() && !work.renew && !founding {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The ledger refused a commit of ours.
    pub(crate) fn commit_refused(&mut self, number: GroupNumber, commit: &[u8], now_ms: u64) {
        let Some(mut slot) = self.slots.remove(&number) else { return };
        if slot.refuse(number, commit, &mut self.changes) {
            self.back_off(&mut slot, now_ms);
        }
        self.slots.insert(number, slot);
    }
}
