//! The error codes of JSON-RPC 2.0 (section 5.1) and of Ethereum's nodes (EIP-1474).

/// The message is not JSON.
pub const PARSE: i64 = -32700;
/// It is JSON, but not a request.
pub const INVALID_REQUEST: i64 = -32600;
/// There is no such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters are not those of the method.
pub const INVALID_PARAMS: i64 = -32602;
/// The server failed.
pub const INTERNAL: i64 = -32603;
/// The request is well formed, but this server cannot or will not do it.
pub const SERVER: i64 = -32000;
/// The server refuses a transaction that the contract might take (EIP-1474).
pub const REJECTED: i64 = -32003;
/// More than the server gives out or takes at once (EIP-1474).
pub const LIMIT: i64 = -32005;
/// The contract reverted; `data` has its words.
pub const REVERTED: i64 = 3;
