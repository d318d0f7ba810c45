//! The proof, and its form in a file. docs/audit.md describes each byte.

use sealcast_identity::{Certificate, CertificateError, KeyError, PublicKey};
use sealcast_ledger::{CodecError, LedgerId, Reader, Record};
use sealcast_seal::merkle::Node;

use crate::{
    SentKind,
    leaf::{Blinding, Commitment, Leaf},
};

/// What each file begins with.
const MAGIC: &[u8; 8] = b"SCPROOF\n";
const VERSION: u8 = 1;
/// Most anchors of one proof.
pub const MAX_ANCHORS: usize = 10_000;
/// Most messages of one proof.
pub const MAX_MESSAGES: usize = 1_000_000;
/// A path from one anchor to the next has no more hashes: two for each level of a tree of 2^32 leaves.
const MAX_PATH: usize = 64;

const TOPIC_HIDDEN: u8 = 0;
const TOPIC_SHOWN: u8 = 1;
const PAYLOAD_HIDDEN: u8 = 0;
const PAYLOAD_DIGEST: u8 = 1;
const PAYLOAD_SHOWN: u8 = 2;

/// Why bytes are not a proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Something else.
    #[error("this is not a proof: it does not begin with SCPROOF")]
    Magic,
    /// Too short, too long, of a later version, or with a record that is none.
    #[error(transparent)]
    Form(#[from] CodecError),
    /// No certificate.
    #[error("its certificate number {place}")]
    Certificate {
        /// Counted from 1.
        place: usize,
        /// Why not.
        source: CertificateError,
    },
    /// No public key.
    #[error("its first key of the {whose}")]
    Key {
        /// Of whom.
        whose: &'static str,
        /// Why not.
        source: KeyError,
    },
    /// A number that nothing has.
    #[error("{got} is no {what}")]
    Number {
        /// What was expected.
        what: &'static str,
        /// What is there.
        got: u64,
    },
    /// The messages are not in the order of their places.
    #[error("its messages are not in order: {next} comes after {last}")]
    Order {
        /// A place.
        last: u64,
        /// The one after it.
        next: u64,
    },
    /// A topic that is no text.
    #[error("a topic is not UTF-8")]
    Text,
}

/// What is shown of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// Nothing.
    Hidden,
    /// The topic.
    Shown {
        /// What it was hidden by.
        blinding: Blinding,
        /// The topic.
        topic: String,
    },
}

/// What is shown of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing.
    Hidden,
    /// Its SHA-256: who has the payload sees that it is this one.
    Digest {
        /// What it was hidden by.
        blinding: Blinding,
        /// SHA-256.
        digest: [u8; 32],
    },
    /// The payload.
    Shown {
        /// What it was hidden by.
        blinding: Blinding,
        /// The bytes.
        payload: Vec<u8>,
    },
}

/// A message of a proof: its leaf, and what is shown of what is hidden in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its record in the series.
    pub leaf: Leaf,
    /// Its topic.
    pub topic: Topic,
    /// Its payload.
    pub payload: Payload,
}

/// All that somebody needs beside the root certificate and the ledger. Nothing in it is to be believed until
/// [`verify()`](crate::verify()) has taken it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Which ledger.
    pub ledger: LedgerId,
    /// The issuing CA's key that the ledger began with.
    pub first_ca: PublicKey,
    /// The operator's key that the ledger began with.
    pub first_operator: PublicKey,
    /// The device's certificate.
    pub device: Certificate,
    /// That of the CA which issued it.
    pub issuing: Certificate,
    /// The ledger's record that registers the device with that certificate.
    pub registration: Record,
    /// The device's anchors of the group, in the order of the ledger: the last one that has none of the messages, if there is
    /// one, and those after it up to the first that has all of them.
    pub anchors: Vec<Record>,
    /// From each anchor to the next: the consistency proof (RFC 9162, section 2.1.4).
    pub paths: Vec<Vec<Node>>,
    /// The messages, by their places.
    pub messages: Vec<Message>,
    /// What leads from the messages to the root of the last anchor: see [`Leaves::cover`](crate::Leaves::cover).
    pub cover: Vec<Node>,
}

impl Proof {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        out.extend(self.ledger.chain_id.to_be_bytes());
        out.extend(self.ledger.address);
        out.extend(self.first_ca.xy());
        out.extend(self.first_operator.xy());
        put_bytes(&mut out, self.device.der());
        put_bytes(&mut out, self.issuing.der());
        put_bytes(&mut out, &self.registration.encode());
        put_count(&mut out, self.anchors.len());
        self.anchors.iter().for_each(|record| put_bytes(&mut out, &record.encode()));
        self.paths.iter().for_each(|path| put_nodes(&mut out, path));
        put_count(&mut out, self.messages.len());
        self.messages.iter().for_each(|message| message.encode_into(&mut out));
        put_nodes(&mut out, &self.cover);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote, all of it, and nothing else: one proof has one form. Allocates no more than a
    /// small multiple of what it is given.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(ProofError::Magic)?;
        let mut reader = Reader::new(rest);
        let reader = &mut reader;
        reader.version(VERSION)?;
        let ledger = LedgerId { chain_id: reader.u64()?, address: reader.array()? };
        let mut key = |whose| {
            PublicKey::from_xy(reader.array().map_err(ProofError::from)?)
                .map_err(|source| ProofError::Key { whose, source })
        };
        let (first_ca, first_operator) = (key("CA")?, key("operator")?);
        let mut certificate = |place| {
            Certificate::from_der(bytes_of(reader)?).map_err(|source| ProofError::Certificate { place, source })
        };
        let (device, issuing) = (certificate(1)?, certificate(2)?);
        let registration = Record::decode(bytes_of(reader)?)?;
        let count = count_of(reader, "number of anchors", 1, MAX_ANCHORS)?;
        let anchors =
            (0..count).map(|_| Ok(Record::decode(bytes_of(reader)?)?)).collect::<Result<Vec<_>, ProofError>>()?;
        let paths = (1..count).map(|_| nodes_of(reader, MAX_PATH)).collect::<Result<_, _>>()?;
        let messages = messages_of(reader)?;
        // At most one for each level and message.
        let cover = nodes_of(reader, MAX_PATH.saturating_mul(messages.len()))?;
        std::mem::replace(reader, Reader::new(&[])).end()?;
        Ok(Self { ledger, first_ca, first_operator, device, issuing, registration, anchors, paths, messages, cover })
    }
}

impl Message {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let Leaf { index, time_ms, kind, topic, payload } = &self.leaf;
        out.extend(index.to_be_bytes());
        out.extend(time_ms.to_be_bytes());
        out.push(kind.number());
        out.extend(topic.0);
        out.extend(payload.0);
        match &self.topic {
            Topic::Hidden => out.push(TOPIC_HIDDEN),
            Topic::Shown { blinding, topic } => {
                out.push(TOPIC_SHOWN);
                out.extend(blinding.0);
                put_bytes(out, topic.as_bytes());
            }
        }
        match &self.payload {
            Payload::Hidden => out.push(PAYLOAD_HIDDEN),
            Payload::Digest { blinding, digest } => {
                out.push(PAYLOAD_DIGEST);
                out.extend(blinding.0);
                out.extend(digest);
            }
            Payload::Shown { blinding, payload } => {
                out.push(PAYLOAD_SHOWN);
                out.extend(blinding.0);
                put_bytes(out, payload);
            }
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, ProofError> {
        let (index, time_ms, kind) = (reader.u64()?, reader.u64()?, reader.u8()?);
        let kind = SentKind::of(kind).ok_or(ProofError::Number { what: "kind of message", got: kind.into() })?;
        let (topic, payload) = (Commitment(reader.array()?), Commitment(reader.array()?));
        let leaf = Leaf { index, time_ms, kind, topic, payload };
        let topic = match reader.u8()? {
            TOPIC_HIDDEN => Topic::Hidden,
            TOPIC_SHOWN => {
                let blinding = Blinding(reader.array()?);
                let topic = std::str::from_utf8(bytes_of(reader)?).map_err(|_| ProofError::Text)?.to_owned();
                Topic::Shown { blinding, topic }
            }
            got => return Err(ProofError::Number { what: "way to show a topic", got: got.into() }),
        };
        let payload = match reader.u8()? {
            PAYLOAD_HIDDEN => Payload::Hidden,
            PAYLOAD_DIGEST => Payload::Digest { blinding: Blinding(reader.array()?), digest: reader.array()? },
            PAYLOAD_SHOWN => {
                Payload::Shown { blinding: Blinding(reader.array()?), payload: bytes_of(reader)?.to_vec() }
            }
            got => return Err(ProofError::Number { what: "way to show a payload", got: got.into() }),
        };
        Ok(Self { leaf, topic, payload })
    }
}

fn messages_of(reader: &mut Reader<'_>) -> Result<Vec<Message>, ProofError> {
    let count = count_of(reader, "number of messages", 1, MAX_MESSAGES)?;
    let mut messages: Vec<Message> = Vec::new();
    for _ in 0..count {
        let message = Message::decode_from(reader)?;
        if let Some(last) = messages.last().filter(|last| last.leaf.index >= message.leaf.index) {
            return Err(ProofError::Order { last: last.leaf.index, next: message.leaf.index });
        }
        messages.push(message);
    }
    Ok(messages)
}

/// Never more than 4 GiB: what is put has bounds far below.
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u32).to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend(bytes);
}

fn put_nodes(out: &mut Vec<u8>, nodes: &[Node]) {
    put_count(out, nodes.len());
    out.extend(nodes.as_flattened());
}

fn bytes_of<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], CodecError> {
    let length = reader.u32()?;
    reader.bytes(length as usize)
}

fn count_of(reader: &mut Reader<'_>, what: &'static str, min: usize, max: usize) -> Result<usize, ProofError> {
    let got = reader.u32()?;
    let count = got as usize;
    if (min..=max).contains(&count) { Ok(count) } else { Err(ProofError::Number { what, got: got.into() }) }
}

fn nodes_of(reader: &mut Reader<'_>, max: usize) -> Result<Vec<Node>, ProofError> {
    let count = count_of(reader, "number of hashes", 0, max)?;
    let bytes = reader.bytes(count.saturating_mul(size_of::<Node>()))?;
    Ok(bytes.as_chunks::<32>().0.to_vec())
}
