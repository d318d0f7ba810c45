//! An entry in its place on the ledger.

use crate::{Body, CodecError, Hash, LedgerId, SignedEntry, codec::Reader};

/// Version of the binary form.
const VERSION: u8 = 1;

/// An entry that the ledger took: what its event says. Nothing in it is to be believed until a
/// [`Replica`](crate::Replica) has applied it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place: 0 for the first.
    pub index: u64,
    /// The time of its block, seconds since 1970.
    pub time_s: u64,
    /// What was signed.
    pub entry: SignedEntry,
    /// The ledger's head with this entry in it.
    pub head: Hash,
}

impl Record {
    /// The head after `entry` at `index`, when `previous` was the one before.
    #[must_use]
    pub fn next_head(previous: &Hash, index: u64, time_s: u64, entry: &SignedEntry, ledger: &LedgerId) -> Hash {
        let digest = entry.digest(ledger);
        Hash::of_parts(&[previous.as_ref(), &index.to_be_bytes(), &time_s.to_be_bytes(), digest.as_ref()])
    }

    /// The contract that the entry `index` was signed for, by the records of the ledger `first` from its beginning on.
    /// A [`Replica`](crate::Replica) that has applied them verifies that.
    #[must_use]
    pub fn contract_at(records: &[Self], first: LedgerId, index: u64) -> LedgerId {
        let before = records.iter().take_while(|record| record.index < index);
        before.fold(first, |contract, record| match record.entry.body() {
            Body::Moved(moved) => moved.to,
            _ => contract,
        })
    }

    /// The binary form, for MQTT and for storage: version 1 (u8), index (u64), time (u64), head (32), then the entry's
    /// own binary form; integers big-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + 8 + 8 + 32 + 98 + self.entry.encoded_body().len());
        out.push(VERSION);
        out.extend(self.index.to_be_bytes());
        out.extend(self.time_s.to_be_bytes());
        out.extend(self.head.as_bytes());
        self.entry.encode_into(&mut out);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote, all of it. Allocates no more than a small multiple of
    /// [`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES), whatever it is given.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let index = reader.u64()?;
        let time_s = reader.u64()?;
        let head = Hash::from(reader.array()?);
        let entry = SignedEntry::decode_from(&mut reader)?;
        reader.end()?;
        Ok(Self { index, time_s, entry, head })
    }
}
