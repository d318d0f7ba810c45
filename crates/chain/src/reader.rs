//! The ledger of a network, for whoever only reads it: without an account, and with a proof of the head where nodes give one.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U256, keccak256},
    rpc::types::{EIP1186AccountProofResponse, Header},
};
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use sealcast_ledger::{Hash, LedgerId, Record};
use sealcast_ledger_client::{NodeError, Places};

use crate::{
    agreement::agreed,
    contract::SealcastLedger as abi,
    ledger::{AttachError, deployed},
    node::Node,
};

/// Records that are asked for at once.
const PAGE: usize = 64;
/// Where the contract keeps its head: it is the first of its variables.
const HEAD_SLOT: U256 = U256::ZERO;
const METHOD: &str = "eth_getProof";

/// A ledger that is read and not written.
#[derive(Debug)]
pub struct LedgerReader {
    node: Node,
    address: Address,
    places: Places,
}

/// The head in the state that a block's header commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenHead {
    /// The block's number.
    pub block: u64,
    /// Its hash, which is that of the header. Whoever gets the same from a source of their own need not believe the node.
    pub block_hash: [u8; 32],
    /// The contract's head in that state.
    pub head: Hash,
}

impl LedgerReader {
    /// The ledger that is called `name`, at the contract `at`, by a node of that contract's network. They are the same unless
    /// the ledger has moved.
    ///
    /// # Errors
    /// The node is of another network, or has no such ledger there.
    pub async fn open(node: Node, at: LedgerId, name: LedgerId) -> Result<Self, AttachError> {
        let (chain_id, address) = (node.chain_id().await?, Address::from(at.address));
        if chain_id != at.chain_id {
            return Err(AttachError::OtherNetwork { chain_id, wanted: at.chain_id });
        }
        let (first, deployed_at) = deployed(&node, at).await?;
        if first != name {
            return Err(AttachError::OtherLedger { at, name, first });
        }
        Ok(Self { node, address, places: Places::new(at.address, deployed_at) })
    }

    /// All records, from the first on.
    ///
    /// # Errors
    /// The node does not give them.
    pub async fn records(&self) -> Result<Vec<Record>, NodeError> {
        let height: u64 = self.node.view(self.address, abi::heightCall {}).await?;
        let mut records = Vec::new();
        while (records.len() as u64) < height {
            let left = usize::try_from(height).unwrap_or(usize::MAX).saturating_sub(records.len());
            let from = records.len() as u64;
            records.extend(agreed(&self.node, &self.places, from, left.min(PAGE)).await?);
        }
        Ok(records)
    }

    /// The head with a proof (EIP-1186) that leads to the header of the newest final block. `None` where the node gives none.
    ///
    /// # Errors
    /// The node does not answer, or its proof is none.
    pub async fn proven_head(&self) -> Result<Option<ProvenHead>, NodeError> {
        let Some(number) = self.node.endpoints().final_number().await? else { return Ok(None) };
        let block = BlockNumberOrTag::Number(number);
        let slots = [B256::from(HEAD_SLOT)];
        let proof: EIP1186AccountProofResponse = match self.node.request(METHOD, (self.address, slots, block)).await {
            Err(NodeError::Refused { .. }) => return Ok(None),
            other => other?,
        };
        let header: Header = self.node.request("eth_getBlockByNumber", (block, false)).await?;
        let block_hash = header.inner.hash_slow();
        if header.inner.number != number || header.hash != block_hash {
            return Err(NodeError::answer("eth_getBlockByNumber", "the header is not that of its hash and number"));
        }
        let head = head_of(self.address, header.inner.state_root, &proof)?;
        Ok(Some(ProvenHead { block: number, block_hash: block_hash.0, head }))
    }
}

/// The head in the account of `contract`, below a state root.
fn head_of(contract: Address, state_root: B256, proof: &EIP1186AccountProofResponse) -> Result<Hash, NodeError> {
    let wrong = |what: &str| NodeError::answer(METHOD, what);
    let mut account = TrieAccount::default();
    (account.nonce, account.balance) = (proof.nonce, proof.balance);
    (account.storage_root, account.code_hash) = (proof.storage_hash, proof.code_hash);
    let of = |key: &[u8]| Nibbles::unpack(keccak256(key));
    let encoded = alloy_rlp::encode(account);
    verify_proof(state_root, of(contract.as_slice()), Some(encoded), proof.account_proof.iter())
        .map_err(|error| wrong(&format!("the contract's account is not in the state of the block: {error}")))?;
    let [slot] = &proof.storage_proof[..] else { return Err(wrong("it has not the one slot that was asked for")) };
    let value: Vec<u8> = alloy_rlp::encode(slot.value);
    let key = B256::from(HEAD_SLOT);
    let nodes: Vec<Bytes> = slot.proof.clone();
    verify_proof(proof.storage_hash, of(key.as_slice()), Some(value), nodes.iter())
        .map_err(|error| wrong(&format!("the head is not in the contract's storage: {error}")))?;
    Ok(Hash::from(slot.value.to_be_bytes::<32>()))
}
