//! The key that pays for and signs the relay's transactions. It says nothing about entries, which carry their own.

use std::fmt;

use alloy::{
    consensus::{SignableTransaction, Signed, TxEnvelope},
    primitives::{Address, Signature},
};
use k256::{ecdsa::SigningKey, elliptic_curve::rand_core::OsRng};
use zeroize::Zeroizing;

/// Not a secp256k1 private key: zero, or not below the curve's order.
#[derive(Debug, thiserror::Error)]
#[error("not a secp256k1 private key: delete the file, and a new key is made (the account holds nothing of value)")]
pub struct WalletError;

/// A secp256k1 key and its account.
pub struct Wallet {
    key: SigningKey,
}

impl Wallet {
    /// A new key.
    pub fn generate() -> Self {
        Self { key: SigningKey::random(&mut OsRng) }
    }

    /// From the 32 bytes that [`Wallet::secret`] gave.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, WalletError> {
        Ok(Self { key: SigningKey::from_slice(secret).map_err(|_| WalletError)? })
    }

    /// The private key, 32 bytes big-endian, for a file that only its owner can read.
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes().into())
    }

    /// The account's address.
    pub fn address(&self) -> [u8; 20] {
        Address::from_private_key(&self.key).into_array()
    }

    /// The address of the contract that the account's first transaction deploys.
    pub fn first_contract(&self) -> [u8; 20] {
        Address::from_private_key(&self.key).create(0).into_array()
    }

    pub(crate) fn sign<T>(&self, tx: T) -> Result<TxEnvelope, WalletError>
    where
        T: SignableTransaction<Signature>,
        TxEnvelope: From<Signed<T>>,
    {
        let signature = self.key.sign_prehash_recoverable(tx.signature_hash().as_slice()).map_err(|_| WalletError)?;
        Ok(tx.into_signed(Signature::from(signature)).into())
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet").field("address", &Address::from_private_key(&self.key)).finish_non_exhaustive()
    }
}
