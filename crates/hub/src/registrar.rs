//! The CA as one of the ledger's originators.

use anyhow::Result;
use sealcast_chain::Ledger;
use sealcast_identity::Authority;
use sealcast_ledger::{Body, Refusal};
use sealcast_ledger_client::SubmitError;
use tokio::sync::Mutex;

use crate::follower::Known;

/// An entry whose request was dropped while it waited may reach the ledger first, with the same nonce: then the next one is
/// taken, at most so often.
const TRIES: u32 = 4;

/// The CA with its place on the ledger.
pub struct Registrar {
    /// The issuing CA.
    pub authority: Authority,
    ledger: Ledger,
    known: Known,
    /// The CA's entries go one after the other: each has the nonce after the last.
    submitting: Mutex<()>,
}

impl Registrar {
    /// `authority`, whose entries go to `ledger`. `known` is the height of the hub's replica.
    pub fn new(authority: Authority, ledger: Ledger, known: Known) -> Self {
        Self { authority, ledger, known, submitting: Mutex::new(()) }
    }

    /// Holds up whatever is to be submitted, until it is dropped.
    #[cfg(test)]
    pub(crate) async fn hold_up(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.submitting.lock().await
    }

    /// Signs `body` as the CA and waits until the ledger has it, and the hub's replica too.
    pub async fn submit(&self, body: Body) -> Result<()> {
        let _turn = self.submitting.lock().await;
        let (id, ca) = (self.ledger.id(), self.ledger.first_id().ca());
        let mut tries = 0;
        loop {
            tries += 1;
            let nonce = self.ledger.nonce_of(ca).await?;
            let entry = body.clone().sign(self.authority.key(), ca, nonce, &id)?;
            return match self.ledger.submit(&entry).await {
                Ok(record) => {
                    self.known.reach(record.index + 1).await;
                    Ok(())
                }
                Err(SubmitError::Refused(Refusal::BadNonce { .. })) if tries < TRIES => continue,
                Err(SubmitError::Refused(refusal @ Refusal::BadNonce { .. })) => {
                    Err(anyhow::Error::new(refusal).context("does another process use the CA's key?"))
                }
                Err(error) => Err(anyhow::Error::new(error).context("the ledger did not take the registration")),
            };
        }
    }
}
