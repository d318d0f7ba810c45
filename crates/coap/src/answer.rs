//! Answers, and the datagrams that they are put in.

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, ResponseType};

use crate::{Refused, block::MAX_BLOCK_BYTES};

const MAX_REASON_BYTES: usize = 400;

/// An answer before it is put in a message.
pub(crate) struct Answer {
    pub code: ResponseType,
    pub options: Vec<(CoapOption, Vec<u8>)>,
    pub payload: Vec<u8>,
}

impl Answer {
    pub fn new(code: ResponseType) -> Self {
        Self { code, options: Vec::new(), payload: Vec::new() }
    }

    /// With a diagnostic payload (RFC 7252 §5.5.2).
    pub fn refusal(code: ResponseType, reason: &str) -> Self {
        let mut end = reason.len().min(MAX_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self { code, options: Vec::new(), payload: reason.get(..end).unwrap_or_default().as_bytes().to_vec() }
    }

    pub fn with(mut self, option: CoapOption, value: Vec<u8>) -> Self {
        self.options.push((option, value));
        self
    }

    pub fn refused(refused: &Refused) -> Self {
        let (code, reason) = match refused {
            Refused::Forbidden(reason) => (ResponseType::Forbidden, reason),
            Refused::Conflict(reason) => (ResponseType::Conflict, reason),
            Refused::TooLarge(reason) => (ResponseType::RequestEntityTooLarge, reason),
            Refused::BadRequest(reason) => (ResponseType::BadRequest, reason),
            Refused::Unavailable(reason) => (ResponseType::ServiceUnavailable, reason),
        };
        Self::refusal(code, reason)
    }
}

/// The first bytes of a hash: what is equal has the same.
pub(crate) fn etag(payload: &[u8]) -> Vec<u8> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload);
    digest.as_ref().get(..4).unwrap_or_default().to_vec()
}

/// A message of code 0.00 (RFC 7252 §4.1).
pub(crate) fn empty(kind: MessageType, id: u16) -> Vec<u8> {
    let kind = match kind {
        MessageType::Reset => 0x70,
        _ => 0x60,
    };
    let [high, low] = id.to_be_bytes();
    vec![kind, 0, high, low]
}

/// `None` if it is larger than any answer is to be.
pub(crate) fn message(kind: MessageType, id: u16, token: &[u8], answer: Answer) -> Option<Vec<u8>> {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    packet.header.set_type(kind);
    packet.header.message_id = id;
    packet.header.code = MessageClass::Response(answer.code);
    packet.set_token(token.to_vec());
    for (option, value) in answer.options {
        packet.add_option(option, value);
    }
    packet.payload = answer.payload;
    packet.to_bytes_with_limit(2 * MAX_BLOCK_BYTES).ok()
}
