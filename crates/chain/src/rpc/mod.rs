//! JSON-RPC 2.0 over bytes: envelopes, batches, errors. The methods are in [`eth`].
//!
//! Requests come from processes that are not trusted: their size, their batches and their answers are bounded, and no
//! JSON makes this panic.

mod eth;
mod logs;

use sealcast_ledger_client::rpc_code;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::engine::{Engine, PoolError, ReadError, StateError};

/// The longest request, in bytes: a transaction with the longest commit, in hex, twice over.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Requests in a batch.
const MAX_BATCH: usize = 128;
/// Where a batch's answers stop.
const MAX_BATCH_RESPONSE_BYTES: usize = 32 << 20;

/// An error as JSON-RPC sends it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message} (code {code})")]
pub(crate) struct RpcFault {
    pub(crate) code: i64,
    pub(crate) message: String,
    /// For a revert what the contract said, in hex; for a quota when to come again.
    pub(crate) data: Option<Value>,
}

impl RpcFault {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(crate) fn server(message: impl Into<String>) -> Self {
        Self::new(rpc_code::SERVER, message)
    }

    pub(crate) fn reverted(output: &[u8]) -> Self {
        Self {
            code: rpc_code::REVERTED,
            message: "execution reverted".into(),
            data: Some(Value::String(alloy::hex::encode_prefixed(output))),
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (Some(data), Some(error)) = (&self.data, error.as_object_mut()) {
            error.insert("data".into(), data.clone());
        }
        error
    }
}

impl From<ReadError> for RpcFault {
    fn from(error: ReadError) -> Self {
        Self::new(rpc_code::INTERNAL, error.to_string())
    }
}

impl From<rusqlite::Error> for RpcFault {
    fn from(error: rusqlite::Error) -> Self {
        ReadError::from(error).into()
    }
}

impl From<StateError> for RpcFault {
    fn from(error: StateError) -> Self {
        ReadError::from(error.0).into()
    }
}

impl From<PoolError> for RpcFault {
    fn from(error: PoolError) -> Self {
        Self::server(error.to_string())
    }
}

/// The parameters of a request, by position.
pub(crate) struct Params(Vec<Value>);

impl Params {
    fn from_value(value: Option<Value>) -> Result<Self, RpcFault> {
        match value {
            None | Some(Value::Null) => Ok(Self(Vec::new())),
            Some(Value::Array(values)) => Ok(Self(values)),
            Some(_) => Err(RpcFault::new(rpc_code::INVALID_PARAMS, "parameters must be an array")),
        }
    }

    pub(crate) fn optional<T: DeserializeOwned>(&mut self, at: usize, name: &str) -> Result<Option<T>, RpcFault> {
        match self.0.get_mut(at).map(Value::take) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|error| {
                RpcFault::new(rpc_code::INVALID_PARAMS, format!("parameter {} ({name}): {error}", at + 1))
            }),
        }
    }

    pub(crate) fn required<T: DeserializeOwned>(&mut self, at: usize, name: &str) -> Result<T, RpcFault> {
        self.optional(at, name)?
            .ok_or_else(|| RpcFault::new(rpc_code::INVALID_PARAMS, format!("parameter {} ({name}) is missing", at + 1)))
    }
}

/// One request that passed the envelope's checks. Without an id it is a notification, which is not answered.
pub(crate) struct Request {
    pub(crate) id: Option<Value>,
    pub(crate) method: String,
    pub(crate) params: Params,
}

impl Request {
    /// Reads one envelope; a refusal comes with the id to answer to.
    pub(crate) fn from_value(value: Value) -> Result<Self, (Value, RpcFault)> {
        let invalid = |message: &str| RpcFault::new(rpc_code::INVALID_REQUEST, message);
        let Value::Object(mut object) = value else {
            return Err((Value::Null, invalid("a request must be an object")));
        };
        let id = object.remove("id");
        let answer_to = id.clone().unwrap_or(Value::Null);
        if !matches!(answer_to, Value::Null | Value::String(_) | Value::Number(_)) {
            return Err((Value::Null, invalid("the id must be a string, a number or null")));
        }
        if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err((answer_to, invalid("jsonrpc must be \"2.0\"")));
        }
        let Some(Value::String(method)) = object.remove("method") else {
            return Err((answer_to, invalid("the method must be a string")));
        };
        match Params::from_value(object.remove("params")) {
            Ok(params) => Ok(Self { id, method, params }),
            Err(fault) => Err((answer_to, fault)),
        }
    }
}

/// Parses a whole message, within its bound.
pub(crate) fn parse(request: &[u8], max_bytes: usize) -> Result<Value, RpcFault> {
    if request.len() > max_bytes {
        let message = format!("the request has {} bytes, {max_bytes} are allowed", request.len());
        return Err(RpcFault::new(rpc_code::INVALID_REQUEST, message));
    }
    serde_json::from_slice(request).map_err(|error| RpcFault::new(rpc_code::PARSE, format!("not JSON: {error}")))
}

/// An answer, as an object.
pub(crate) fn response(id: Value, outcome: Result<Value, RpcFault>) -> Value {
    let mut object = Map::new();
    object.insert("jsonrpc".into(), "2.0".into());
    object.insert("id".into(), id);
    match outcome {
        Ok(result) => object.insert("result".into(), result),
        Err(fault) => object.insert("error".into(), fault.to_value()),
    };
    Value::Object(object)
}

/// An answer, as bytes.
pub(crate) fn encode(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// A value that must become JSON; every type here does.
pub(crate) fn to_json<T: serde::Serialize>(value: T) -> Result<Value, RpcFault> {
    serde_json::to_value(value).map_err(|error| RpcFault::new(rpc_code::INTERNAL, error.to_string()))
}

impl Engine {
    /// Answers a JSON-RPC request or batch. Never fails: what is wrong is in the answer, which is empty only if nothing
    /// but notifications came. Needs a tokio runtime.
    ///
    /// At most 1 MiB a request and 128 requests a batch. `eth_sendRawTransaction` returns when the transaction waits
    /// for its block; it is durable once its receipt is returned.
    pub async fn handle(&self, request: &[u8]) -> Vec<u8> {
        match parse(request, MAX_REQUEST_BYTES) {
            Err(fault) => encode(&response(Value::Null, Err(fault))),
            Ok(Value::Array(batch)) => self.handle_batch(batch).await,
            Ok(single) => self.handle_one(single).await.map(|answer| encode(&answer)).unwrap_or_default(),
        }
    }

    async fn handle_batch(&self, batch: Vec<Value>) -> Vec<u8> {
        if batch.is_empty() || batch.len() > MAX_BATCH {
            let message = format!("a batch has 1 to {MAX_BATCH} requests, this one {}", batch.len());
            return encode(&response(Value::Null, Err(RpcFault::new(rpc_code::INVALID_REQUEST, message))));
        }
        let mut answers = Vec::new();
        for request in batch {
            let answer = if answers.len() > MAX_BATCH_RESPONSE_BYTES {
                let id = request.get("id").cloned().unwrap_or_default();
                Some(response(
                    id,
                    Err(RpcFault::new(rpc_code::LIMIT, "the batch's answers are too long: ask for less at once")),
                ))
            } else {
                self.handle_one(request).await
            };
            if let Some(answer) = answer {
                answers.push(if answers.is_empty() { b'[' } else { b',' });
                answers.extend(encode(&answer));
            }
        }
        if !answers.is_empty() {
            answers.push(b']');
        }
        answers
    }

    async fn handle_one(&self, request: Value) -> Option<Value> {
        match Request::from_value(request) {
            Err((id, fault)) => Some(response(id, Err(fault))),
            Ok(request) => {
                let outcome = self.dispatch(&request.method, request.params).await;
                request.id.map(|id| response(id, outcome))
            }
        }
    }
}
