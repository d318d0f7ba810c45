//! Sealing several messages under one signature.

use sealcast_identity::Signature;

use super::{SealError, Sealer, sign};
use crate::{
    content::Content,
    merkle::{Tree, leaf},
    plaintext::{MAX_BATCH, ProofKind, write_path},
    statement::write_leaf,
};

impl Sealer {
    /// Seals messages that wait, each with its topic, and gives their frames in the same order. One signature covers up to
    /// [`MAX_BATCH`] of them; one that is alone is sealed as [`Self::seal`] does it. Each frame proves its
    /// sender by itself, whatever becomes of the others.
    ///
    /// A message that cannot be sealed does not hold up the others.
    pub fn seal_batch(&mut self, now_ms: u64, messages: &[(&str, Content<'_>)]) -> Vec<Result<Vec<u8>, SealError>> {
        messages.chunks(MAX_BATCH).flat_map(|batch| self.seal_together(now_ms, batch)).collect()
    }

    /// Seals no more messages than a batch.
    fn seal_together(&mut self, now_ms: u64, batch: &[(&str, Content<'_>)]) -> Vec<Result<Vec<u8>, SealError>> {
        let mut drafts: Vec<_> =
            batch.iter().map(|(topic, content)| Ok((*topic, self.draft(now_ms, topic, content)?))).collect();
        let ready = drafts.iter().flatten().count();
        if ready < 2 || self.signing.is_none() {
            let alone = drafts.into_iter().map(|drafted| drafted.and_then(|(topic, draft)| self.finish(topic, draft)));
            return alone.collect();
        }
        let mut leaves = Vec::with_capacity(ready);
        for (topic, draft) in drafts.iter_mut().flatten() {
            draft.set_proof(ProofKind::Batch);
            write_leaf(draft.ctr, topic, draft.inside(), &mut self.statement);
            leaves.push(leaf(&self.statement));
        }
        let tree = Tree::new(leaves);
        let signature = self.sign_tree(&tree);
        let mut places = 0..tree.size();
        let together = drafts.into_iter().map(|drafted| {
            let (topic, mut draft) = drafted?;
            let index = places.next().ok_or(SealError::Library)?;
            write_path(tree.path(index.into()), index, tree.size(), &mut draft.frame);
            draft.frame.extend_from_slice(signature.as_ref().map_err(Clone::clone)?);
            self.encrypt(topic, draft)
        });
        together.collect()
    }

    fn sign_tree(&mut self, tree: &Tree) -> Result<Signature, SealError> {
        let key = self.signing.as_ref().ok_or(SealError::Library)?;
        self.context.write_batch(tree.size(), &tree.root(), &mut self.statement);
        sign(key, &self.statement)
    }
}
