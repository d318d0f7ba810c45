//! What a device's signature says: bytes that no other signature of the same key has.

use crate::{
    epoch::{EpochId, Ledger},
    header::{GroupNumber, KeyId},
    merkle::{LEAF, Node},
};

/// Begins the statement about one message.
const ALONE: &[u8; 16] = b"sealcast alone 2";
/// Begins the statement about a batch: as long as the other, and different from it.
const BATCH: &[u8; 16] = b"sealcast batch 2";

/// What all messages of one sealer have in common: `chain id u64 | contract (20) | group u16 | generation u32 | epoch u64 |
/// KID u64`. So a signature is of one ledger, one group and one epoch, and of one start of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context([u8; 50]);

impl Context {
    pub(crate) fn new(ledger: &Ledger, group: GroupNumber, epoch: EpochId, key_id: KeyId) -> Self {
        let mut bytes = [0; 50];
        let mut rest = &mut bytes[..];
        let parts: [&[u8]; 6] = [
            &ledger.chain_id.to_be_bytes(),
            &ledger.contract,
            &group.0.to_be_bytes(),
            &epoch.generation.to_be_bytes(),
            &epoch.epoch.to_be_bytes(),
            &key_id.bits().to_be_bytes(),
        ];
        for part in parts {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        Self(bytes)
    }

    /// Puts what is signed for one message into `out`, emptied first.
    pub(crate) fn write_alone(&self, ctr: u64, topic: &str, inside: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(ALONE);
        out.extend_from_slice(&self.0);
        append_message(ctr, topic, inside, out);
    }

    /// Puts what is signed for a batch into `out`, emptied first.
    pub(crate) fn write_batch(&self, size: u8, root: &Node, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(BATCH);
        out.extend_from_slice(&self.0);
        out.push(size);
        out.extend_from_slice(root);
    }
}

/// Puts a message into `out`, emptied first, as it is hashed in a batch: `0x00 | CTR u64 | topic length u32 | topic | inside`,
/// where `inside` is the plaintext without its proof.
pub(crate) fn write_leaf(ctr: u64, topic: &str, inside: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(LEAF);
    append_message(ctr, topic, inside, out);
}

fn append_message(ctr: u64, topic: &str, inside: &[u8], out: &mut Vec<u8>) {
    out.reserve(12 + topic.len() + inside.len());
    out.extend_from_slice(&ctr.to_be_bytes());
    // MQTT's topics have no more than 65,535 bytes.
    out.extend_from_slice(&(topic.len() as u32).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(inside);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{LeafIndex, Start};

    /// Everything that two statements can differ in makes them differ.
    #[test]
    fn a_statement_names_all_that_it_is_about() {
        let ledger = Ledger { chain_id: 1, contract: [2; 20] };
        let key_id = |start, leaf| KeyId::new(Start::new(start).unwrap(), LeafIndex::new(leaf).unwrap(), 7);
        let epoch = EpochId { generation: 0, epoch: 7 };
        let context = |ledger: Ledger, group, epoch, key_id| Context::new(&ledger, GroupNumber(group), epoch, key_id);
        let contexts = [
            context(ledger, 1, epoch, key_id(5, 3)),
            context(Ledger { chain_id: 9, ..ledger }, 1, epoch, key_id(5, 3)),
            context(Ledger { contract: [9; 20], ..ledger }, 1, epoch, key_id(5, 3)),
            context(ledger, 9, epoch, key_id(5, 3)),
            context(ledger, 1, EpochId { generation: 9, ..epoch }, key_id(5, 3)),
            context(ledger, 1, EpochId { epoch: 9, ..epoch }, key_id(5, 3)),
            context(ledger, 1, epoch, key_id(9, 3)),
            context(ledger, 1, epoch, key_id(5, 9)),
        ];
        let mut statements = Vec::new();
        for context in contexts {
            let mut out = Vec::new();
            for (ctr, topic, inside) in [(1, "ab", "cd"), (2, "ab", "cd"), (1, "a", "bcd"), (1, "ab", "ce")] {
                context.write_alone(ctr, topic, inside.as_bytes(), &mut out);
                statements.push(out.clone());
            }
            for (size, root) in [(2, [1; 32]), (3, [1; 32]), (2, [2; 32])] {
                context.write_batch(size, &root, &mut out);
                statements.push(out.clone());
            }
        }
        let count = statements.len();
        statements.sort();
        statements.dedup();
        assert_eq!(statements.len(), count);
    }
}
