//! A group as everybody sees it who reads the ledger: who has a seat in it, and which of its commits count.
//!
//! Each device follows all groups in this way, whether it is a member or not, and so does the hub. It takes nothing but
//! the ledger, so all have the same: the same commits are void, and the MLS epoch is behind the ledger's by the same
//! number.

use std::collections::BTreeMap;

use mls_rs::mls_rs_codec::{self, MlsDecode, MlsEncode, MlsSize};
use sealcast_ledger::{Generation, Number};

/// So many commits are kept for a group that a Welcome is awaited to.
pub(crate) const BACKLOG: usize = 128;

/// A commit's record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its index.
    pub entry: u64,
    /// Its time, seconds since 1970.
    pub time_s: u64,
    /// Who put it on the ledger.
    pub author: Number,
}

/// A member's leaf.
#[derive(Debug, Clone, PartialEq, Eq, MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct Seat {
    /// SHA-256 of its certificate.
    pub certificate: [u8; 32],
    /// The MLS epoch of the commit that gave it this leaf.
    pub epoch: u64,
    /// The time of that commit, seconds since 1970.
    pub since_s: u64,
    /// The index of that commit's record.
    pub at: u64,
    /// Index of the record that published the key package which it was added with. The founder has none: the height of
    /// the ledger that it knew.
    pub keys_at: u64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct Public {
    pub generation: u32,
    /// The MLS epoch: how many commits count.
    pub epoch: u64,
    /// How many commits were void.
    pub voids: u64,
    /// When the epoch began, seconds since 1970: the time of its commit's record, or of the record that the generation
    /// begins with.
    pub since_s: u64,
    /// The next commit's author knew at least so many records: all up to the last commit.
    pub least_height: u64,
    /// How many entries the ledger had with the commits that began the newest epochs, by epoch: as many as a new member
    /// may have to catch up with.
    pub began_at: BTreeMap<u64, u64>,
    /// By leaf.
    pub seats: BTreeMap<u32, Seat>,
}

impl Public {
    /// A generation that begins with the record of this index and time.
    pub fn begin(generation: Generation, entry: u64, since_s: u64) -> Self {
        let generation = generation.0;
        Self {
            generation,
            epoch: 0,
            voids: 0,
            since_s,
            least_height: entry + 1,
            began_at: BTreeMap::new(),
            seats: BTreeMap::new(),
        }
    }

    /// The ledger's epoch.
    pub fn on_ledger(&self) -> u64 {
        self.epoch + self.voids
    }

    /// A commit that does not count.
    pub fn pass_over(&mut self, place: &Place) {
        self.voids += 1;
        self.least_height = place.entry + 1;
    }

    /// A commit that counts.
    pub fn advance(&mut self, place: &Place, seats: BTreeMap<u32, Seat>) {
        self.epoch += 1;
        (self.since_s, self.least_height, self.seats) = (place.time_s, place.entry + 1, seats);
        self.began_at.insert(self.epoch, place.entry + 1);
        while self.began_at.len() > BACKLOG + 1 {
            self.began_at.pop_first();
        }
    }
}
