//! AES-256-GCM, with the nonce before what is sealed.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    error::Unspecified,
    rand,
};
use zeroize::Zeroizing;

pub const KEY_BYTES: usize = 32;
/// By how much a value grows.
pub const OVERHEAD_BYTES: usize = NONCE_LEN + 16;

/// A key.
pub type Key = Zeroizing<[u8; KEY_BYTES]>;

pub fn fresh_key() -> Result<Key, Unspecified> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(&mut *key)?;
    Ok(key)
}

/// `value` under `key`. Only with the same `context` does it open again.
pub fn seal(key: &Key, context: &[u8], value: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let aead = RandomizedNonceKey::new(&AES_256_GCM, &**key)?;
    let mut sealed = Zeroizing::new(Vec::with_capacity(value.len() + AES_256_GCM.tag_len()));
    sealed.extend_from_slice(value);
    let nonce = aead.seal_in_place_append_tag(Aad::from(context), &mut *sealed)?;
    Ok([nonce.as_ref().as_slice(), &sealed].concat())
}

pub fn open(key: &Key, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let aead = RandomizedNonceKey::new(&AES_256_GCM, &**key)?;
    let (nonce, sealed) = sealed.split_first_chunk_mut::<NONCE_LEN>().ok_or(Unspecified)?;
    let opened = aead.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), sealed)?;
    Ok(Zeroizing::new(opened.to_vec()))
}
