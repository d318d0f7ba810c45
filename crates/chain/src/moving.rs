//! A ledger that moves to another network: the contract there gets all its entries.

use alloy::primitives::TxKind;
use sealcast_ledger::{LedgerId, Record};
use sealcast_ledger_client::{NodeError, SubmitError};

use crate::{
    batch,
    contract::{self, SealcastLedger as abi},
    ledger::Ledger,
};

impl Ledger {
    /// The contract that the ledger's next entry is for, as the node says it: this one, unless the ledger has moved on, or
    /// has not come here yet.
    pub async fn current_id(&self) -> Result<LedgerId, NodeError> {
        match self.view(abi::currentCall {}).await {
            Ok(current) => Ok(LedgerId { chain_id: current.chainId, address: current.ledger.into_array() }),
            // One of an earlier version, which cannot be left.
            Err(NodeError::Refused { .. }) if self.is_embedded() => Ok(self.id()),
            Err(error) => Err(error),
        }
    }

    /// The account that may [`replay`](Self::replay) entries, as the node says it. `None` if nobody may: this contract
    /// succeeds no other, or has all entries.
    pub async fn replayer(&self) -> Result<Option<String>, NodeError> {
        let replayer = self.view(abi::replayerCall {}).await?;
        Ok((!replayer.is_zero()).then(|| replayer.to_string()))
    }

    /// Brings the first of these entries here in one transaction, as many as fit, and waits until it is final. They are those
    /// of the ledger that this contract succeeds, from this contract's height on. Gives how many they were: all of them are
    /// here, or none.
    pub async fn replay(&self, records: &[Record]) -> Result<usize, SubmitError> {
        let most = batch::fits(records.iter().map(|record| &record.entry));
        match self.replay_together(records.get(..most).unwrap_or_default()).await {
            // The gas may not have sufficed for all.
            Err(SubmitError::Reverted(_) | SubmitError::Node(NodeError::Refused { .. })) if most > 1 => {
                self.replay_together(records.get(..1).unwrap_or_default()).await
            }
            other => other,
        }
    }

    async fn replay_together(&self, records: &[Record]) -> Result<usize, SubmitError> {
        let (node, sender) = (self.node(), self.sender());
        let data = contract::replay(records);
        let mut ticker = node.ticker();
        let sent = sender.send(node, TxKind::Call(self.address()), data.into()).await?;
        let receipt = sender.wait(node, &mut ticker, sent).await?;
        if receipt.status.is_zero() {
            return Err(SubmitError::reverted(&receipt.revert_reason.unwrap_or_default()));
        }
        Ok(records.len())
    }
}
