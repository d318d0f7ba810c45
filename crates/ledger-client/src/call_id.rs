//! What names a call in its request and in its answer: the `id` of JSON-RPC 2.0.

use std::{borrow::Cow, fmt};

use serde::Deserialize;

use crate::ChannelError;

/// The `id` of a request, which its answer repeats: 16 random bytes in hex. So an answer finds its call whatever carries
/// it, and nobody who has not read the request can answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId([u8; 16]);

impl CallId {
    /// A new one.
    ///
    /// # Errors
    /// [`ChannelError::Random`]
    pub fn random() -> Result<Self, ChannelError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ChannelError::Random)?;
        Ok(Self(bytes))
    }

    /// That of a request or an answer; `None` if the message has another id, or is not JSON-RPC.
    pub fn of(message: &[u8]) -> Option<Self> {
        let Envelope { id } = serde_json::from_slice(message).ok()?;
        let mut bytes = [0; 16];
        hex::decode_to_slice(&*id, &mut bytes).ok()?;
        // One id has one form.
        let id_read = Self(bytes);
        (id_read.to_string() == *id).then_some(id_read)
    }
}

/// What is read of a message; the rest is skipped.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_off_requests_and_answers() {
        let id = CallId::random().unwrap();
        assert_ne!(id, CallId::random().unwrap());
        for message in [
            format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"m","params":[{{"id":"x"}}]}}"#),
            format!(r#"{{"result":{{"id":1}},"id":"{id}","jsonrpc":"2.0"}}"#),
        ] {
            assert_eq!(CallId::of(message.as_bytes()), Some(id), "{message}");
        }
    }

    #[test]
    fn nothing_else_is_one() {
        for message in [
            "",
            "[]",
            "null",
            "{}",
            r#"{"id":7}"#,
            r#"{"id":null}"#,
            r#"{"id":"00"}"#,
            r#"{"id":"000102030405060708090A0B0C0D0E0F"}"#,
            r#"{"id":"000102030405060708090a0b0c0d0e0f","id":"000102030405060708090a0b0c0d0e0f"}"#,
            r#"{"id":"000102030405060708090a0b0c0d0e0f"} x"#,
        ] {
            assert_eq!(CallId::of(message.as_bytes()), None, "{message}");
        }
    }
}
