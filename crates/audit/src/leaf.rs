//! What the tree has of a message.

use std::fmt;

use aws_lc_rs::{digest, error::Unspecified, hmac, rand};
use sealcast_seal::merkle::{self, Node};
use zeroize::Zeroizing;

/// What of a message is hidden, each with a blinding of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its topic.
    Topic,
    /// Its payload.
    Payload,
}

impl Part {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Topic => b"sealcast-series-topic-v1",
            Self::Payload => b"sealcast-series-payload-v1",
        }
    }
}

/// What was sent. The numbers are the leaf's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SentKind {
    /// A message.
    Message = 0,
    /// A message that the broker keeps for those who subscribe later.
    Retained = 1,
    /// The deletion of a retained message.
    Deletion = 2,
    /// The will of a client: the broker sends it only if that client's connection breaks.
    Will = 3,
}

impl SentKind {
    /// The number in a leaf.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// `None` for a number that no kind has.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        [Self::Message, Self::Retained, Self::Deletion, Self::Will].into_iter().find(|kind| kind.number() == number)
    }
}

impl fmt::Display for SentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message => "message",
            Self::Retained => "retained message",
            Self::Deletion => "deletion of the retained message",
            Self::Will => "will",
        })
    }
}

/// 32 bytes that nobody guesses, without which a [`Commitment`] says nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Blinding(pub [u8; 32]);

impl fmt::Debug for Blinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blinding(..)")
    }
}

/// SHA-256 of a [`Blinding`] and what it hides: a topic, or the SHA-256 of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment(pub [u8; 32]);

impl Commitment {
    /// To a topic.
    #[must_use]
    pub fn to_topic(blinding: &Blinding, topic: &str) -> Self {
        Self(sha256(&[&blinding.0, topic.as_bytes()]))
    }

    /// To a payload, by its [`payload_digest`].
    #[must_use]
    pub fn to_payload(blinding: &Blinding, digest: &[u8; 32]) -> Self {
        Self(sha256(&[&blinding.0, digest]))
    }
}

/// SHA-256 of a payload.
#[must_use]
pub fn payload_digest(payload: &[u8]) -> [u8; 32] {
    sha256(&[payload])
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// A message's record in its series: 81 bytes, integers big-endian. Its hash in the tree is SHA-256 of `0x00` and these
/// (RFC 9162, section 2.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Its place in the series, from 0.
    pub index: u64,
    /// When it was sealed, Unix ms by the device's clock.
    pub time_ms: u64,
    /// What it is.
    pub kind: SentKind,
    /// Its topic, hidden.
    pub topic: Commitment,
    /// Its payload, hidden.
    pub payload: Commitment,
}

impl Leaf {
    /// Its hash in the tree.
    #[must_use]
    pub fn hash(&self) -> Node {
        let parts: [&[u8]; 6] = [
            &[merkle::LEAF],
            &self.index.to_be_bytes(),
            &self.time_ms.to_be_bytes(),
            &[self.kind.number()],
            &self.topic.0,
            &self.payload.0,
        ];
        merkle::leaf(&parts.concat())
    }
}

/// What a series' blindings are derived from: it stays in the device's folder. Each proof has the blindings of what it opens,
/// which say nothing of the others.
#[derive(Clone)]
pub struct SeriesSecret(Zeroizing<[u8; 32]>);

impl fmt::Debug for SeriesSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeriesSecret(..)")
    }
}

impl From<[u8; 32]> for SeriesSecret {
    fn from(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl SeriesSecret {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> Result<Self, Unspecified> {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::fill(&mut *bytes)?;
        Ok(Self(bytes))
    }

    /// To be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// HMAC-SHA256 of the part's label and the index.
    #[must_use]
    pub fn blinding(&self, part: Part, index: u64) -> Blinding {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &*self.0));
        context.update(part.label());
        context.update(&index.to_be_bytes());
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        Blinding(out)
    }

    /// The leaf of a message.
    #[must_use]
    pub fn leaf(&self, index: u64, time_ms: u64, kind: SentKind, topic: &str, payload_digest: &[u8; 32]) -> Leaf {
        Leaf {
            index,
            time_ms,
            kind,
            topic: Commitment::to_topic(&self.blinding(Part::Topic, index), topic),
            payload: Commitment::to_payload(&self.blinding(Part::Payload, index), payload_digest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by a program that shares no code with this one: see docs/audit.md.
    #[test]
    fn a_leaf_is_made_as_the_document_says() {
        let secret = SeriesSecret::from([7; 32]);
        let leaf = secret.leaf(3, 1_700_000_000_000, SentKind::Retained, "plant/pump", &payload_digest(b"21.5"));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&leaf.hash()), "f421fd5868b01efc7e371f343215a11ad79003dc0d95f07a9e2e28190abe45cf");
    }

    #[test]
    fn each_part_of_each_leaf_has_a_blinding_of_its_own() {
        let secret = SeriesSecret::generate().unwrap();
        let one = secret.blinding(Part::Topic, 1);
        assert!(one != secret.blinding(Part::Topic, 2) && one != secret.blinding(Part::Payload, 1));
        assert_eq!(one, secret.clone().blinding(Part::Topic, 1));
    }
}
