//! Private keys in tokens: smart cards, TPMs and HSMs, over PKCS#11 (OASIS PKCS #11 2.40 and later). The key signs in the token
//! and never leaves it.
//!
//! A program that calls [`install`] can read key files that hold a `pkcs11:` URI in the place of a key.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod key;
mod module;
mod uri;

use anyhow::{Context as _, Result};
use sealcast_identity::{Passphrase, SigningKey};
use sealcast_node::{IfMissing, KeyFiles};

use self::{key::TokenKey, uri::TokenUri};

/// From now on this process reads keys in tokens.
pub fn install() {
    KeyFiles::install_tokens(open);
}

/// The key that `uri` names. The token's PIN is in the URI's `pin-source`, else it is `passphrase`.
pub fn open(uri: &str, passphrase: Option<&Passphrase>, if_missing: IfMissing) -> Result<SigningKey> {
    let attempt = || -> Result<SigningKey> {
        let place: TokenUri = uri.parse()?;
        let pin = match &place.pin_source {
            Some(file) => KeyFiles::new(Some(file)).context("pin-source")?.passphrase().cloned(),
            None => passphrase.cloned(),
        };
        let (public, key) = TokenKey::open(place, pin, if_missing)?;
        Ok(SigningKey::in_token(public, Box::new(key))?)
    };
    attempt().with_context(|| format!("the key {uri}"))
}
