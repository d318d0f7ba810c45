//! The embedded EVM, the ledger client and its transports, the relay.
