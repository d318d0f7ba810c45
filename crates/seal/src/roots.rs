//! The batches of one sender whose signature was verified: a batch costs its receiver one verification, however many of its
//! messages come, and in whatever order.

use sealcast_identity::Signature;

use crate::{
    merkle::{Node, Way},
    plaintext::BatchProof,
};

/// Batches of one start that are remembered. Their messages come one after the other, so few are in progress at a time; a
/// batch that was forgotten costs another verification, and nothing else.
const MAX_ROOTS: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    verified: Vec<VerifiedBatch>,
    /// Which one the next takes the place of.
    oldest: usize,
}

/// A batch whose signature holds. Another signature of the same root is verified anew, as if it were another batch: what is
/// accepted always bears its proof.
#[derive(Debug)]
struct VerifiedBatch {
    signature: Signature,
    /// Of its message that came last: the next one's way meets it soon.
    way: Way,
}

impl Roots {
    /// Whether the message with this hash is of a batch whose very signature was verified.
    #[inline]
    pub(crate) fn cover(&mut self, proof: &BatchProof<'_>, leaf: Node) -> bool {
        let size = usize::from(proof.size);
        let same = |batch: &&mut VerifiedBatch| batch.way.size() == size && batch.signature == *proof.signature;
        self.verified.iter_mut().filter(same).any(|batch| batch.way.turn_to(leaf, proof.index.into(), proof.path))
    }

    /// The signature of `proof` holds, for the root of `way`.
    pub(crate) fn insert(&mut self, proof: &BatchProof<'_>, way: Way) {
        let verified = VerifiedBatch { signature: *proof.signature, way };
        match self.verified.get_mut(self.oldest) {
            Some(oldest) => *oldest = verified,
            None => self.verified.push(verified),
        }
        self.oldest = (self.oldest + 1) % MAX_ROOTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{LEAF, Tree, leaf};

    #[test]
    fn remembers_the_last_few_and_no_other_signature() {
        let (signature, another) = ([1; 64], [2; 64]);
        let leaves = |batch: u8| [0, 1, 2].map(|place| leaf(&[LEAF, batch, place]));
        let trees: Vec<Tree> = (0..20).map(|batch| Tree::new(leaves(batch).to_vec())).collect();
        let path = |batch: u8, place: u8| trees[usize::from(batch)].path(place.into()).copied().collect::<Vec<_>>();
        let mut roots = Roots::default();
        let mut covers = |batch, place, size, signature: &Signature, insert: bool| {
            let (path, leaf) = (path(batch, place), leaves(batch)[usize::from(place)]);
            let proof = BatchProof { path: &path, index: place, size, signature };
            if insert {
                roots.insert(&proof, proof.way(leaf));
            }
            roots.cover(&proof, leaf)
        };
        for i in 0..20 {
            assert!(!covers(i, 0, 3, &signature, false));
            assert!(covers(i, 0, 3, &signature, true));
            for j in 0..20 {
                let remembered = j <= i && usize::from(i - j) < MAX_ROOTS;
                for place in [2, 0, 1] {
                    assert_eq!(covers(j, place, 3, &signature, false), remembered, "message {place} of {j}, after {i}");
                }
            }
        }
        assert!(!covers(19, 0, 3, &another, false));
        assert!(!covers(19, 0, 4, &signature, false));
    }
}
