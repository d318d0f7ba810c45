//! SenML (RFC 8428): packs in JSON and CBOR, and what they resolve to.
//!
//! A [`Pack`] holds the records as they were sent, base fields and all; [`Pack::resolve`] applies the base fields (§4.6).
//! Numbers keep their digits in both representations: CBOR's decimal fractions are read as such, and written for a number
//! whose digits no float gives back.
//!
//! Not kept: the notation of a number (`1.2e+09` is written as `1200000000`, unless [`JsonStyle`] asks otherwise), labels
//! that this crate does not know (§4.4 lets a reader pass over them, except those that end in `_`, which are refused).
//!
//! Narrower than §4.3, which wants the range of a double: numbers of more than 38 digits before the point, or more than 255
//! after it, are refused. No sensor measures them, and exactness for all others is worth it.

mod labels;
mod record;
mod resolve;
mod write;

use crate::fault::{DecodeError, Fault, Position};
use crate::tree::{Kind, Node};
use crate::{cbor, json};
use labels::Form;

pub(crate) use labels::{BASE64, BASE64_STANDARD};
pub use record::PackRecord;
pub(crate) use resolve::check_name;
pub use resolve::{ResolveError, ResolvedRecord};
pub use write::{JsonStyle, WriteError};

/// How many records a pack may have.
pub const MAX_RECORDS: usize = 4096;

/// The version of RFC 8428, which a pack has that names none.
pub const VERSION: u64 = 10;

/// The version of a pack that uses secondary units (RFC 9100: feature 4, `10 + 2^4`).
pub const VERSION_SECONDARY_UNITS: u64 = 26;

/// A pack as it was sent: records in order, base fields not yet applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pack {
    /// The records.
    pub records: Vec<PackRecord>,
}

impl Pack {
    /// Reads a pack in JSON (`application/senml+json`, §5).
    ///
    /// # Errors
    /// [`DecodeError`] with byte and record.
    pub fn from_json(payload: &[u8]) -> Result<Self, DecodeError> {
        Self::from_tree(&json::parse(payload)?, Form::Json)
    }

    /// Reads a pack in CBOR (`application/senml+cbor`, §6). Indefinite lengths are read too.
    ///
    /// # Errors
    /// [`DecodeError`] with byte and record.
    pub fn from_cbor(payload: &[u8]) -> Result<Self, DecodeError> {
        Self::from_tree(&cbor::parse(payload)?, Form::Cbor)
    }

    fn from_tree(root: &Node<'_>, form: Form) -> Result<Self, DecodeError> {
        let Kind::Array(elements) = &root.kind else {
            return Err(Position::byte(root.at).error(root.mismatch("a SenML pack, an array of records")));
        };
        if elements.is_empty() {
            return Err(Position::byte(root.at).error(Fault::Senml("the pack has no records")));
        }
        if elements.len() > MAX_RECORDS {
            return Err(Position::byte(root.at).error(Fault::TooMany { what: "records", limit: MAX_RECORDS }));
        }
        let records = elements.iter().enumerate();
        let records = records.map(|(index, node)| {
            labels::read_record(node, form).map_err(|mut error| {
                error.position.record = Some(index);
                error
            })
        });
        Ok(Self { records: records.collect::<Result<_, _>>()? })
    }
}
