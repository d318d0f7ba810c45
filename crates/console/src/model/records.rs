//! The ledger's entries, as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An entry of the ledger, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// Its place, from 0 on.
    pub index: u64,
    /// The time of its block.
    pub at: u64,
    /// What kind it is, such as `granted`.
    pub kind: String,
    /// Who signed it: `operator`, `ca`, `root` or a device.
    pub by: String,
    /// The device that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The group that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// One line, as `sealcast ledger show` says it.
    pub text: String,
}

/// Entries, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EntryPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether there are older ones.
    pub more: bool,
}

/// An entry of the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub struct EntryDetail {
    /// In short.
    #[serde(flatten)]
    pub entry: Entry,
    /// What it says, by name, as text or numbers.
    #[schema(value_type = Object)]
    pub fields: serde_json::Value,
    /// Its signature.
    pub signature: EntrySignature,
    /// Its originator's count.
    pub nonce: u64,
    /// SHA-256 of what was signed.
    pub digest: String,
    /// The ledger's head before it.
    pub head_before: String,
    /// The ledger's head with it.
    pub head: String,
    /// Its binary form, hex.
    pub record: String,
}

/// An entry's signature.
#[derive(Debug, Serialize, ToSchema)]
pub struct EntrySignature {
    /// Hex.
    pub r: String,
    /// Hex.
    pub s: String,
    /// The key that the ledger has for its originator now, an uncompressed point on P-256, hex.
    pub key: Option<String>,
    /// Whether that key, or a former one of the originator's, has signed it.
    pub good: bool,
}

/// An epoch of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Epoch {
    /// Its number on the ledger.
    pub epoch: u64,
    /// The entry that began it.
    pub index: u64,
    /// Who made the commit.
    pub author: String,
    /// What the commit did.
    pub cause: String,
    /// When.
    pub at: u64,
}
