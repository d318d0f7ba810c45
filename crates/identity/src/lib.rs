//! Who a node is: its P-256 key, its certificate, and the decisions of the CA that issues it.
//!
//! Sans-IO: nothing here opens a socket or a file or reads a clock. Times are passed in as milliseconds since the Unix
//! epoch, key material comes from aws-lc's generator.
//!
//! ```text
//! root CA ──▶ issuing CA (its key is the ledger's `ca`) ──▶ device      CN = device id, TLS client
//!                                                       ├─▶ operator    CN = operator,  TLS client
//!                                                       └─▶ hub         CN = hub,       TLS server, TLS client
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authority;
mod certificate;
mod crl;
mod encrypted;
pub mod est;
mod id;
mod key;
mod network;
mod passphrase;
mod pem;
mod request;
mod signed;
#[cfg(test)]
mod testing;
mod token;
mod trust;

pub use authority::{
    Authority, AuthorityError, CLIENT_ID_PREFIX, EnrolError, HUB_NAME, Issued, MAX_SERVER_NAMES, OPERATOR_NAME, Root,
};
pub use certificate::{BACKDATE_MS, Certificate, CertificateError, Fingerprint, FingerprintError};
pub use crl::{CRL_PATH, CRL_TYPE, Revoked};
pub use encrypted::DecryptError;
pub use id::{DeviceId, DeviceIdError};
pub use key::{KeyError, PublicKey, Signature, SigningKey, Token, VerifyingKey, other_form, signature_to_der};
pub use network::{MAX_DESCRIPTOR_BYTES, NETWORK_PATH, Network, NetworkError, RPC_PATH};
pub use passphrase::{MAX_PASSPHRASE_BYTES, Passphrase, PassphraseError, Work};
pub use pem::{
    MAX_CERTIFICATES, MAX_PEM_BYTES, PemError, certificates_from_pem, certificates_to_pem, is_encrypted, key_from_pem,
    key_to_pem,
};
pub use request::{CreateRequestError, MAX_REQUEST_BYTES, Request, RequestError, csr};
pub use token::{
    BasicCredentials, BootstrapError, CredentialsError, EnrolmentToken, PresentedError, StoredToken, TokenError,
};
pub use trust::{AnchorError, TrustAnchor, TrustError, VerifiedClient, VerifiedDevice};
