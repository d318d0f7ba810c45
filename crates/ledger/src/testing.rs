//! A ledger in memory, for tests of what is built on one: the contract's rules without an EVM.

use crate::{Genesis, Record, Refusal, Replica, SignedEntry};

/// Takes entries as the contract does, and keeps the records.
#[derive(Debug, Clone)]
pub struct MemoryLedger {
    replica: Replica,
    records: Vec<Record>,
}

impl MemoryLedger {
    /// A ledger without entries.
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        Self { replica: Replica::new(genesis), records: Vec::new() }
    }

    /// Submits an entry in a block of this time (seconds since 1970; taken as the last record's if before that).
    pub fn submit(&mut self, entry: &SignedEntry, time_s: u64) -> Result<Record, Refusal> {
        self.replica.check(entry)?;
        let index = self.replica.height();
        let time_s = time_s.max(self.replica.last_time_s());
        let id = self.replica.genesis().id;
        let head = Record::next_head(&self.replica.head(), index, time_s, entry, &id);
        let record = Record { index, time_s, entry: entry.clone(), head };
        match self.replica.apply_without_signature_check(&record) {
            Ok(_) => {
                self.records.push(record.clone());
                Ok(record)
            }
            Err(crate::ReplicaError::Refused { source, .. }) => Err(source),
            Err(other) => unreachable!("a record made by the rules breaks them: {other}"),
        }
    }

    /// All records, in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The state after them.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }
}
