//! The whole ledger in one file, to be handed to somebody: `"SCLEDGER" || 1`, and each record's binary form with its length
//! (u32, big-endian) before it, from the first on.

use crate::{CodecError, MAX_BODY_BYTES, Record, codec::Reader};

const MAGIC: &[u8; 8] = b"SCLEDGER";
const VERSION: u8 = 1;
/// Longest record: its body, and what is around it.
const MAX_RECORD_BYTES: usize = MAX_BODY_BYTES + 256;

/// Why bytes are not a ledger's records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Something else.
    #[error("this is no copy of a ledger: it does not begin with SCLEDGER")]
    Magic,
    /// Not the form.
    #[error("the copy of the ledger cannot be read after {records} records")]
    Record {
        /// How many could be read.
        records: usize,
        /// Why not.
        source: CodecError,
    },
}

impl Record {
    /// The file of these records.
    #[must_use]
    pub fn encode_all(records: &[Self]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        for record in records {
            let bytes = record.encode();
            // Never longer than `MAX_RECORD_BYTES`.
            out.extend((bytes.len() as u32).to_be_bytes());
            out.extend(bytes);
        }
        out
    }

    /// Reads what [`encode_all`](Self::encode_all) wrote. Whether the records are true is for a
    /// [`Replica`](crate::Replica) to decide.
    ///
    /// # Errors
    /// It is something else, or was cut.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, HistoryError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(HistoryError::Magic)?;
        let mut reader = Reader::new(rest);
        let mut records = Vec::new();
        reader.version(VERSION).map_err(|source| HistoryError::Record { records: 0, source })?;
        while !reader.is_empty() {
            let record = Self::next_of(&mut reader);
            records.push(record.map_err(|source| HistoryError::Record { records: records.len(), source })?);
        }
        Ok(records)
    }

    fn next_of(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let length = reader.u32()? as usize;
        Self::decode(reader.bytes(length.min(MAX_RECORD_BYTES))?)
    }
}
