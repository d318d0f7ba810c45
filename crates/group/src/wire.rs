//! Framing of what travels beside MLS: key broadcasts, inboxes, and the ledger head in a commit.

use mls_rs::{
    MlsMessage, MlsMessageDescription,
    group::{ContentType, GroupInfo, Sender},
    mls_rs_codec::{self, MlsDecode, MlsEncode, MlsSize},
};

use sealcast_ledger::KeysPublished;

use crate::GroupRefusal;

/// Longest key broadcast or inbox payload that is read.
const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;
/// Most parts of a frame: a key package and a chain of 8.
const MAX_PARTS: usize = KeysPublished::MAX_PARTS;
const INBOX_VERSION: u8 = 1;
/// Length of a MAC in suite 2, and the length byte in front of it.
const MAC_BYTES: usize = 32;
const MAC_PREFIX: u8 = 0x20;

/// Parts, each behind its length (u32, big-endian).
fn join(first: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut out = first.to_vec();
    for part in parts {
        // A part is a certificate, a key package, a Welcome or a tree: far below 4 GB.
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn split(mut bytes: &[u8]) -> Result<Vec<&[u8]>, GroupRefusal> {
    const TRUNCATED: GroupRefusal =
        GroupRefusal::Malformed("the payload is cut off: a part is shorter than its length says");
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(GroupRefusal::Malformed("the payload is longer than 16 MiB"));
    }
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        if parts.len() == MAX_PARTS {
            return Err(GroupRefusal::Malformed("the payload has more than 9 parts"));
        }
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or(TRUNCATED)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| TRUNCATED)?;
        let (part, rest) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
        parts.push(part);
        bytes = rest;
    }
    Ok(parts)
}

/// Payload of `sealcast/v1/keys/<device>`: the KeyPackage message, then the certificate chain, leaf first.
pub(crate) fn write_keys(key_package: &[u8], chain: &[Vec<u8>]) -> Vec<u8> {
    let mut parts = vec![key_package];
    parts.extend(chain.iter().map(Vec::as_slice));
    join(&[], &parts)
}

/// Reads [`write_keys`]: the KeyPackage message and the chain.
pub(crate) fn read_keys(bytes: &[u8]) -> Result<(&[u8], Vec<&[u8]>), GroupRefusal> {
    let parts = split(bytes)?;
    match parts.split_first() {
        Some((key_package, chain)) if !chain.is_empty() => Ok((key_package, chain.to_vec())),
        _ => Err(GroupRefusal::Malformed("the key broadcast lacks the key package or the certificate chain")),
    }
}

/// A Welcome (RFC 9420 section 12.4.3.1) as an MLS message.
#[derive(MlsSize, MlsDecode)]
struct WelcomeMessage {
    /// mls10, mls_welcome
    _head: [u8; 4],
    _suite: u16,
    secrets: Vec<EncryptedGroupSecrets>,
}

#[derive(MlsSize, MlsDecode)]
struct EncryptedGroupSecrets {
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    _new_member: Vec<u8>,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    _kem_output: Vec<u8>,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    ciphertext: Vec<u8>,
}

/// Whether each receiver of a Welcome gets a path secret: the ciphertext's length tells it. Whoever fills the room with
/// something else changes the key schedule, and MLS does not take the Welcome.
pub(crate) fn has_path_secret(welcome: &[u8]) -> Result<bool, GroupRefusal> {
    /// The joiner secret, the path secret's presence and the path secret, no pre-shared keys, and AES-GCM's tag.
    const BYTES: usize = (1 + 32) + 1 + (1 + 32) + 1 + 16;
    let message = WelcomeMessage::mls_decode(&mut &*welcome)?;
    Ok(message.secrets.iter().all(|secrets| secrets.ciphertext.len() == BYTES))
}

/// Payload of `sealcast/v1/inbox/<device>/<group>/<committer>`: version, Welcome message, ratchet tree.
pub(crate) fn write_inbox(welcome: &[u8], tree: &[u8]) -> Vec<u8> {
    join(&[INBOX_VERSION], &[welcome, tree])
}

/// Reads [`write_inbox`].
pub(crate) fn read_inbox(bytes: &[u8]) -> Result<(&[u8], &[u8]), GroupRefusal> {
    match bytes.split_first() {
        Some((&INBOX_VERSION, rest)) => match split(rest)?.as_slice() {
            [welcome, tree] => Ok((welcome, tree)),
            _ => Err(GroupRefusal::Malformed("the inbox payload does not have two parts, Welcome and tree")),
        },
        _ => Err(GroupRefusal::Malformed("the inbox payload has an unknown version: update this device")),
    }
}

/// A commit's authenticated data: how many ledger entries its committer had, and the head after them.
pub(crate) fn write_ledger_head(count: u64, head: &[u8; 32]) -> Vec<u8> {
    [count.to_be_bytes().as_slice(), head].concat()
}

fn read_ledger_head(bytes: &[u8]) -> Option<(u64, [u8; 32])> {
    let (count, head) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*count), head.try_into().ok()?))
}

/// What a commit says of itself before it is processed. Nothing of it is proven yet.
pub(crate) struct CommitHeader {
    pub group_id: Vec<u8>,
    pub epoch: u64,
    /// Leaf of the member that made it; `None` for an external commit.
    pub sender: Option<u32>,
    /// Number of ledger entries that its maker had.
    pub count: u64,
    /// The head after them.
    pub head: [u8; 32],
    /// The confirmation tag (RFC 9420 section 6.1), which names the epoch that it leads to.
    pub tag: [u8; 32],
}

/// Reads a commit, a PublicMessage (RFC 9420 section 6.2).
pub(crate) fn read_commit(bytes: &[u8]) -> Result<(MlsMessage, CommitHeader), GroupRefusal> {
    const NO_COMMIT: GroupRefusal =
        GroupRefusal::Malformed("the entry does not hold an MLS commit as a public message");
    let message = MlsMessage::from_bytes(bytes).map_err(|_| NO_COMMIT)?;
    // Nor anything behind it, or the tag would not be where it is looked for.
    if message.to_bytes().ok().as_deref() != Some(bytes) {
        return Err(NO_COMMIT);
    }
    let MlsMessageDescription::PublicProtocolMessage { group_id, epoch_id, content_type, sender, authenticated_data } =
        message.description()
    else {
        return Err(NO_COMMIT);
    };
    if content_type != ContentType::Commit {
        return Err(NO_COMMIT);
    }
    let sender = match sender {
        Sender::Member(leaf) => Some(leaf),
        _ => None,
    };
    let (count, head) = read_ledger_head(authenticated_data)
        .ok_or(GroupRefusal::Malformed("the commit does not name a ledger head"))?;
    // Behind the confirmation tag stands only the membership tag, which members alone write.
    let tail = if sender.is_some() { MAC_BYTES + 1 } else { 0 };
    let tag = bytes.len().checked_sub(tail).and_then(|end| bytes.get(..end)).and_then(last_mac).ok_or(NO_COMMIT)?;
    let header = CommitHeader { group_id: group_id.to_vec(), epoch: epoch_id, sender, count, head, tag };
    Ok((message, header))
}

fn last_mac(bytes: &[u8]) -> Option<[u8; 32]> {
    let (rest, mac) = bytes.split_last_chunk::<MAC_BYTES>()?;
    (rest.last() == Some(&MAC_PREFIX)).then_some(*mac)
}

/// The confirmation tag of a Welcome's GroupInfo (RFC 9420 section 12.4.3.1).
pub(crate) fn confirmation_tag(info: &GroupInfo) -> Result<[u8; 32], GroupRefusal> {
    const NO_TAG: GroupRefusal = GroupRefusal::Malformed("the Welcome's group info has no confirmation tag");
    let bytes = info.mls_encode_to_vec()?;
    let start = info.group_context().mls_encoded_len() + info.extensions().mls_encoded_len();
    let tag = bytes.get(start..start + 1 + MAC_BYTES).and_then(last_mac).ok_or(NO_TAG)?;
    Ok(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_round_trip(package: Vec<u8>, chain in prop::collection::vec(any::<Vec<u8>>(), 1..8)) {
            let bytes = write_keys(&package, &chain);
            let (read, certificates) = read_keys(&bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(read, package.as_slice());
            prop_assert!(certificates.iter().zip(&chain).all(|(a, b)| a == b));
            let bytes = write_inbox(&package, &chain[0]);
            let (welcome, tree) = read_inbox(&bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!((welcome, tree), (package.as_slice(), chain[0].as_slice()));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = read_keys(&bytes);
            let _ = read_inbox(&bytes);
            let _ = read_commit(&bytes).is_ok();
        }
    }
}
