//! Makes a proof of what a device keeps of its series.

use sealcast_identity::{Certificate, PublicKey};
use sealcast_ledger::{LedgerId, Record};

use crate::{
    Message, Payload, Proof, SentKind, Topic,
    leaf::{Part, SeriesSecret, payload_digest},
    proof::{MAX_ANCHORS, MAX_MESSAGES},
    tree::{Frontier, Leaves},
    verify::anchor_of,
};

/// Why there is no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    /// Nothing is to be shown.
    #[error("no message was selected")]
    Nothing,
    /// One proof has so many at most.
    #[error("the proof would have {got} {what}, and may have {max}: select fewer messages")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        got: usize,
        /// How many at most.
        max: usize,
    },
    /// The series does not reach so far.
    #[error("the folder has not all messages from {from} to {to} of the series")]
    Missing {
        /// The first place.
        from: u64,
        /// Behind the last place.
        to: u64,
    },
    /// What the folder has does not lead to the root on the ledger.
    #[error("what the folder has of the series does not lead to the anchor in entry {entry}: the folder is damaged")]
    OtherRoot {
        /// Its place on the ledger.
        entry: u64,
    },
}

/// A message as the device keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// When it was sealed, Unix ms.
    pub time_ms: u64,
    /// What it is.
    pub kind: SentKind,
    /// Its topic.
    pub topic: String,
    /// SHA-256 of its payload.
    pub digest: [u8; 32],
    /// Its payload, if it was kept.
    pub payload: Option<Vec<u8>>,
}

impl Sent {
    /// With its payload.
    #[must_use]
    pub fn whole(time_ms: u64, kind: SentKind, topic: String, payload: Vec<u8>) -> Self {
        Self { time_ms, kind, topic, digest: payload_digest(&payload), payload: Some(payload) }
    }
}

/// What a proof shows of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// That it is there: its place in the order, and nothing else.
    Nothing,
    /// Its time and its topic.
    Topic,
    /// All of it, as far as it was kept.
    All,
}

/// A part of a series, from one anchor to a later one.
#[derive(Debug, Clone)]
pub struct Series {
    /// On which ledger.
    pub ledger: LedgerId,
    /// The issuing CA's key that the ledger began with.
    pub first_ca: PublicKey,
    /// The operator's key that the ledger began with.
    pub first_operator: PublicKey,
    /// The device's certificate and that of the CA which issued it.
    pub chain: [Certificate; 2],
    /// The record of the ledger that registers it.
    pub registration: Record,
    /// The anchors, of one series: the first one's tree is `base`, unless that has no leaves.
    pub anchors: Vec<Record>,
    /// What hides the messages.
    pub secret: SeriesSecret,
    /// The tree before `sent`.
    pub base: Frontier,
    /// All messages after `base`, up to the last anchor.
    pub sent: Vec<Sent>,
}

/// Makes a proof; `shown` says of each of the series' messages what the proof shows of it.
///
/// # Errors
/// There is nothing to show, or the series does not lead to the anchors.
pub fn prove(series: &Series, shown: &[Shown]) -> Result<Proof, ProveError> {
    let Series { secret, base, sent, anchors, .. } = series;
    let from = base.size();
    let leaves: Vec<_> = (from..)
        .zip(sent)
        .map(|(index, sent)| secret.leaf(index, sent.time_ms, sent.kind, &sent.topic, &sent.digest))
        .collect();
    let selected: Vec<_> = leaves.iter().zip(sent).zip(shown).filter(|(_, shown)| **shown != Shown::Nothing).collect();
    if selected.is_empty() {
        return Err(ProveError::Nothing);
    }
    for (what, got, max) in [("messages", selected.len(), MAX_MESSAGES), ("anchors", anchors.len(), MAX_ANCHORS)] {
        if got > max {
            return Err(ProveError::TooMany { what, got, max });
        }
    }
    let known = Leaves::new(base.clone(), leaves.iter().map(crate::Leaf::hash).collect());
    let sizes = sizes(anchors, &known, from)?;
    let to = sizes.last().copied().unwrap_or(from);
    let missing = || ProveError::Missing { from, to };
    let paths = sizes
        .windows(2)
        .map(|pair| known.consistency(*pair.first()?, *pair.get(1)?))
        .collect::<Option<_>>()
        .ok_or_else(missing)?;
    let opened: Vec<u64> = selected.iter().map(|((leaf, _), _)| leaf.index).collect();
    let cover = known.cover(to, &opened).ok_or_else(missing)?;
    let messages = selected.into_iter().map(|((leaf, sent), shown)| Message {
        leaf: *leaf,
        topic: Topic::Shown { blinding: secret.blinding(Part::Topic, leaf.index), topic: sent.topic.clone() },
        payload: payload(secret, leaf.index, sent, *shown),
    });
    let [device, issuing] = series.chain.clone();
    Ok(Proof {
        ledger: series.ledger,
        first_ca: series.first_ca,
        first_operator: series.first_operator,
        device,
        issuing,
        registration: series.registration.clone(),
        anchors: anchors.clone(),
        paths,
        messages: messages.collect(),
        cover,
    })
}

/// The sizes of the anchors' trees, whose roots are those on the ledger.
fn sizes(anchors: &[Record], known: &Leaves, from: u64) -> Result<Vec<u64>, ProveError> {
    let size = |record: &Record| {
        let other = || ProveError::OtherRoot { entry: record.index };
        let anchor = anchor_of(record).ok_or_else(other)?;
        let size = u64::from(anchor.count);
        let root = known.root(size).ok_or(ProveError::Missing { from, to: size })?;
        if root == *anchor.root.as_bytes() { Ok(size) } else { Err(other()) }
    };
    anchors.iter().map(size).collect()
}

fn payload(secret: &SeriesSecret, index: u64, sent: &Sent, shown: Shown) -> Payload {
    let blinding = secret.blinding(Part::Payload, index);
    match (&sent.payload, shown) {
        (Some(payload), Shown::All) => Payload::Shown { blinding, payload: payload.clone() },
        (None, Shown::All) => Payload::Digest { blinding, digest: sent.digest },
        _ => Payload::Hidden,
    }
}
