//! The MLS control plane: group keys agreed between members, ordered by the ledger.
