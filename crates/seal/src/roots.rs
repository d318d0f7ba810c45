//! The batches of one sender whose signature was verified: a batch costs its receiver one verification, however many of its
//! messages come, and in whatever order.

use sealcast_identity::Signature;

use crate::{merkle::Node, plaintext::BatchProof};

/// Batches of one start that are remembered. Their messages come one after the other, so few are in progress at a time; a
/// batch that was forgotten costs another verification, and nothing else.
const MAX_ROOTS: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    verified: Vec<VerifiedRoot>,
    /// Which one the next takes the place of.
    oldest: usize,
}

/// A root, and the signature over it that holds. Another signature of the same root is verified anew, as if it were another
/// batch: what is accepted always bears its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
struct VerifiedRoot {
    root: Node,
    size: u8,
    signature: Signature,
}

impl VerifiedRoot {
    fn new(proof: &BatchProof<'_>, root: &Node) -> Self {
        Self { root: *root, size: proof.size, signature: *proof.signature }
    }
}

impl Roots {
    /// Whether this very signature was verified.
    #[inline]
    pub(crate) fn contains(&self, proof: &BatchProof<'_>, root: &Node) -> bool {
        self.verified.contains(&VerifiedRoot::new(proof, root))
    }

    pub(crate) fn insert(&mut self, proof: &BatchProof<'_>, root: &Node) {
        let verified = VerifiedRoot::new(proof, root);
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

    #[test]
    fn remembers_the_last_few_and_no_other_signature() {
        let (signature, another) = ([1; 64], [2; 64]);
        let proof = BatchProof { path: &[], index: 0, size: 2, signature: &signature };
        let mut roots = Roots::default();
        for i in 0..20 {
            assert!(!roots.contains(&proof, &[i; 32]));
            roots.insert(&proof, &[i; 32]);
            for j in 0..20 {
                assert_eq!(roots.contains(&proof, &[j; 32]), j <= i && usize::from(i - j) < MAX_ROOTS, "{j} of {i}");
            }
        }
        assert!(roots.contains(&BatchProof { index: 1, ..proof }, &[19; 32]), "the same batch, from another message");
        assert!(!roots.contains(&BatchProof { signature: &another, ..proof }, &[19; 32]));
        assert!(!roots.contains(&BatchProof { size: 3, ..proof }, &[19; 32]));
    }
}
