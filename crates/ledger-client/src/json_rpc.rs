//! Requests and answers of JSON-RPC 2.0, one at a time.

use std::borrow::Cow;

use alloy_primitives::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{CallId, Channel, NodeError};

/// In the data of an error with the code [`LIMIT`](crate::rpc_code::LIMIT): after how many milliseconds there is room for
/// the same request.
pub const RETRY_AFTER_MS: &str = "retryAfterMs";

/// A JSON-RPC client over a channel.
#[derive(Debug)]
pub(crate) struct Caller<C> {
    channel: C,
}

/// Exactly one of `result` and `error` (JSON-RPC 2.0, 5). A null result is one too, of a method that gives none.
#[derive(Deserialize)]
struct Response {
    id: Value,
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    error: Option<ErrorObject>,
}

/// Why a request was refused.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ErrorObject {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl ErrorObject {
    pub(crate) fn refused(self, method: impl Into<Cow<'static, str>>) -> NodeError {
        let data = self.data;
        let wait = data.as_ref().and_then(|data| data.get(RETRY_AFTER_MS)).and_then(Value::as_u64);
        let mut error = NodeError::refused(method, self.code, self.message, || {
            data.as_ref().and_then(words).map(|words| words.to_vec())
        });
        if let NodeError::Refused { wait_ms, .. } = &mut error {
            *wait_ms = wait;
        }
        error
    }
}

impl<C: Channel> Caller<C> {
    pub(crate) fn new(channel: C) -> Self {
        Self { channel }
    }

    pub(crate) async fn request<R: DeserializeOwned>(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: impl Serialize,
    ) -> Result<R, NodeError> {
        let method = method.into();
        let failed = |error| NodeError::Transport { method: method.clone(), source: Box::new(error) };
        let id = CallId::random().map_err(failed)?.to_string();
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let answer = self.channel.call(request.to_string().into_bytes()).await.map_err(failed)?;
        let wrong = |what: String| NodeError::answer(method.clone(), what);
        let answer: Response = serde_json::from_slice(&answer).map_err(|error| wrong(error.to_string()))?;
        if answer.id != id {
            return Err(wrong(format!("the answer to request {} where {id} was asked", answer.id)));
        }
        match (answer.result, answer.error) {
            (Some(result), None) => serde_json::from_value(result).map_err(|error| wrong(error.to_string())),
            (None, Some(error)) => Err(error.refused(method.clone())),
            _ => Err(wrong("neither a result nor an error, or both".into())),
        }
    }
}

/// The contract's words in an error's data: hex, which some nodes put into an object with more in it.
fn words(data: &Value) -> Option<Bytes> {
    match data {
        Value::String(hex) => hex.parse().ok(),
        Value::Object(parts) => parts.values().find_map(words),
        _ => None,
    }
}

/// Tells `"result": null` from no result.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::ChannelError;

    /// Gives the same answer to each request, with `ID` replaced by the request's.
    struct Fixed(&'static str);

    impl Channel for Fixed {
        async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
            let request: Value = serde_json::from_slice(&request).unwrap();
            assert_eq!((&request["jsonrpc"], &request["method"]), (&json!("2.0"), &json!("method")));
            Ok(self.0.replace("ID", &request["id"].to_string()).into_bytes())
        }
    }

    fn ask<R: DeserializeOwned>(answer: &'static str) -> Result<R, NodeError> {
        let caller = Caller::new(Fixed(answer));
        let Poll::Ready(outcome) = pin!(caller.request("method", ())).poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("the channel does not wait")
        };
        outcome
    }

    #[test]
    fn results_are_read() {
        assert_eq!(ask::<u64>(r#"{"jsonrpc":"2.0","id":ID,"result":7}"#).unwrap(), 7);
        assert_eq!(ask::<Option<u64>>(r#"{"jsonrpc":"2.0","id":ID,"result":null}"#).unwrap(), None);
    }

    #[test]
    fn a_wrong_answer_is_an_error_that_names_the_method() {
        for answer in [
            "",
            "null",
            r#"{"jsonrpc":"2.0","id":ID}"#,
            r#"{"jsonrpc":"2.0","id":0,"result":7}"#,
            r#"{"jsonrpc":"2.0","id":ID,"result":"7"}"#,
            r#"{"jsonrpc":"2.0","id":ID,"result":7,"error":{"code":1,"message":"no"}}"#,
        ] {
            let error = ask::<u64>(answer).unwrap_err();
            assert!(matches!(&error, NodeError::Answer { method, .. } if method == "method"), "{answer}: {error:?}");
        }
    }

    #[test]
    fn a_revert_keeps_what_the_contract_said() {
        let revert = |answer| ask::<u64>(answer).unwrap_err().revert().map(<[u8]>::to_vec);
        let said = r#"{"jsonrpc":"2.0","id":ID,"error":{"code":3,"message":"execution reverted","data":"0x0102"}}"#;
        assert_eq!(revert(said), Some(vec![1, 2]));
        let within =
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":3,"message":"reverted","data":{"hash":7,"data":"0x0102"}}}"#;
        assert_eq!(revert(within), Some(vec![1, 2]));
        let older = r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"execution reverted"}}"#;
        assert_eq!(revert(older), Some(Vec::new()));
        let other = r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32005,"message":"too much","data":"0x01"}}"#;
        assert_eq!(revert(other), None);
        assert!(ask::<u64>(other).unwrap_err().is_limit());
        let wait = |answer| match ask::<u64>(answer).unwrap_err() {
            NodeError::Refused { wait_ms, .. } => wait_ms,
            error => panic!("{error:?}"),
        };
        assert_eq!(wait(other), None);
        let later =
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32005,"message":"too much","data":{"retryAfterMs":7}}}"#;
        assert_eq!(wait(later), Some(7));
    }
}
