//! The CA as one of the ledger's originators.

use anyhow::Result;
use sealcast_chain::Ledger;
use sealcast_identity::Authority;
use sealcast_ledger::{Body, Refusal};
use sealcast_ledger_client::SubmitError;
use tokio::sync::Mutex;

/// The CA with its place on the ledger.
pub struct Registrar {
    /// The issuing CA.
    pub authority: Authority,
    ledger: Ledger,
    /// The CA's entries go one after the other: each has the nonce after the last.
    submitting: Mutex<()>,
}

impl Registrar {
    /// `authority`, whose entries go to `ledger`.
    pub fn new(authority: Authority, ledger: Ledger) -> Self {
        Self { authority, ledger, submitting: Mutex::new(()) }
    }

    /// Signs `body` as the CA and waits until the ledger has it.
    pub async fn submit(&self, body: Body) -> Result<()> {
        let _turn = self.submitting.lock().await;
        let id = self.ledger.id();
        let nonce = self.ledger.nonce_of(id.ca()).await?;
        let entry = body.sign(self.authority.key(), id.ca(), nonce, &id)?;
        match self.ledger.submit(&entry).await {
            Ok(_) => Ok(()),
            Err(SubmitError::Refused(refusal @ Refusal::BadNonce { .. })) => {
                Err(anyhow::Error::new(refusal).context("does another process use the CA's key?"))
            }
            Err(error) => Err(anyhow::Error::new(error).context("the ledger did not take the registration")),
        }
    }
}
