//! Ledger entries, their signatures, the head chain and the replica.
