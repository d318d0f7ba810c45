//! The key of the Ethereum account that pays for entries: 64 hex digits, or a keystore of version 3 (Web3 Secret Storage), as
//! geth, cast and wallets write it.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use eth_keystore::{EthKeystore, KdfparamsType, KeystoreError};
use sealcast_node::{read_password, read_secret};
use zeroize::Zeroizing;

/// The longest file of either kind.
const MAX_BYTES: usize = 4 << 10;
/// What scrypt may need: 1 GiB is four times what geth asks for.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
/// The only cipher that wallets use.
const CIPHER: &str = "aes-128-ctr";

/// Reads the key in `path`, whose password, if it is a keystore, is the line of `password_file`.
///
/// # Errors
/// The file cannot be read, is for others than its owner too, or holds no key that this password opens.
pub fn read(path: &Path, password_file: Option<&Path>) -> Result<Zeroizing<[u8; 32]>> {
    let content = read_secret(path, MAX_BYTES)?;
    let text = content.trim_ascii();
    if text.starts_with(b"{") {
        return open(path, text, password_file).with_context(|| format!("the keystore {}", path.display()));
    }
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.strip_prefix(b"0x").unwrap_or(text), key.as_mut())
        .with_context(|| format!("{} holds neither 64 hex digits nor a keystore", path.display()))?;
    Ok(key)
}

fn open(path: &Path, text: &[u8], password_file: Option<&Path>) -> Result<Zeroizing<[u8; 32]>> {
    check(&serde_json::from_slice(text).context("it is not one of version 3")?)?;
    let password_file = password_file.context("it has a password: set ledger.key_password_file in hub.toml")?;
    let password = read_password(password_file)?;
    let opened = eth_keystore::decrypt_key(path, &*password).map_err(|error| match error {
        KeystoreError::MacMismatch => anyhow!("the password in {} does not open it", password_file.display()),
        other => anyhow!(other),
    })?;
    let opened = Zeroizing::new(opened);
    let key = <[u8; 32]>::try_from(opened.as_slice()).context("it holds no key of 32 bytes")?;
    Ok(Zeroizing::new(key))
}

/// The library takes these for granted.
fn check(keystore: &EthKeystore) -> Result<()> {
    let crypto = &keystore.crypto;
    ensure!(keystore.version == 3, "it is of version {}, not 3", keystore.version);
    ensure!(crypto.cipher == CIPHER, "it is encrypted by {}, not by {CIPHER}", crypto.cipher);
    ensure!(crypto.cipherparams.iv.len() == 16, "its IV has {} bytes, not 16", crypto.cipherparams.iv.len());
    let key_bytes = match &crypto.kdfparams {
        KdfparamsType::Pbkdf2 { dklen, prf, .. } => {
            ensure!(prf == "hmac-sha256", "its password is hashed by {prf}, not by hmac-sha256");
            *dklen
        }
        KdfparamsType::Scrypt { dklen, n, r, .. } => {
            let memory = 128 * u64::from(*n) * u64::from(*r);
            ensure!(n.is_power_of_two() && *n > 1, "its scrypt has n = {n}, which is no power of two");
            ensure!(
                memory <= MAX_SCRYPT_BYTES,
                "its scrypt asks for {memory} bytes, at most {MAX_SCRYPT_BYTES} are given"
            );
            *dklen
        }
    };
    ensure!(key_bytes == 32, "its derived key has {key_bytes} bytes, not 32");
    Ok(())
}

#[cfg(test)]
mod tests {
    use sealcast_node::files::{self, Mode};
    use serde_json::{Value, json};

    use super::*;

    /// The test vector of the format's specification.
    const PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
        "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
        "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
    /// Of the same key and password, made by Node's crypto module and js-sha3. The specification's own has an n that is too
    /// large for its r (RFC 7914 §2).
    const SCRYPT: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"83838383838383838383838383838383"},
        "ciphertext":"d7368f85ad7f47da4bb8327328a07db4dda55d9ad8681bf6707600d912b5b1f4","kdf":"scrypt",
        "kdfparams":{"dklen":32,"n":8192,"p":1,"r":8,
        "salt":"abababababababababababababababababababababababababababababababab"},
        "mac":"4ee87766d933fd58f652fc38e4ef4e03a7baf9bf497401b16dcfa6c5429f2148"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
    const KEY: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
    const PASSWORD: &str = "testpassword\n";

    fn read_with(keystore: &str, password: Option<&str>) -> Result<Zeroizing<[u8; 32]>> {
        let dir = tempfile::tempdir()?;
        let (path, password_file) = (dir.path().join("key"), dir.path().join("password"));
        files::write(&path, keystore.as_bytes(), Mode::Secret)?;
        files::write(&password_file, password.unwrap_or_default().as_bytes(), Mode::Secret)?;
        read(&path, password.map(|_| &*password_file))
    }

    #[test]
    fn keystores_and_plain_keys_are_read() -> Result<()> {
        for keystore in [PBKDF2, SCRYPT] {
            assert_eq!(hex::encode(*read_with(keystore, Some(PASSWORD))?), KEY);
        }
        for plain in [KEY.to_owned(), format!("0x{KEY}\n")] {
            assert_eq!(hex::encode(*read_with(&plain, None)?), KEY);
        }
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_named() -> Result<()> {
        let with = |pointer: &str, value: Value| -> Result<String> {
            let mut keystore: Value = serde_json::from_str(PBKDF2)?;
            *keystore.pointer_mut(pointer).context("a place in it")? = value;
            Ok(keystore.to_string())
        };
        let scrypt = |n| json!({ "dklen": 32, "n": n, "p": 1, "r": 8, "salt": "00" });
        for (keystore, password, part) in [
            (PBKDF2.to_owned(), None, "set ledger.key_password_file"),
            (PBKDF2.to_owned(), Some("wrong"), "does not open it"),
            (with("/version", json!(4))?, Some(PASSWORD), "of version 4, not 3"),
            (with("/crypto/cipher", json!("aes-256-gcm"))?, Some(PASSWORD), "encrypted by aes-256-gcm"),
            (with("/crypto/cipherparams/iv", json!("00"))?, Some(PASSWORD), "its IV has 1 bytes"),
            (with("/crypto/kdfparams/dklen", json!(16))?, Some(PASSWORD), "its derived key has 16 bytes"),
            (with("/crypto/kdfparams/prf", json!("hmac-sha1"))?, Some(PASSWORD), "hashed by hmac-sha1"),
            (with("/crypto/kdfparams", scrypt(1000))?, Some(PASSWORD), "no power of two"),
            (with("/crypto/kdfparams", scrypt(1 << 30))?, Some(PASSWORD), "its scrypt asks for"),
            (with("/crypto", json!({}))?, Some(PASSWORD), "not one of version 3"),
            ("5a5a".to_owned(), None, "neither 64 hex digits nor a keystore"),
        ] {
            let error = read_with(&keystore, password).map_or_else(|error| format!("{error:#}"), |_| "opened".into());
            assert!(error.contains(part), "{part}: {error}");
        }
        Ok(())
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("relay.key");
        files::write(&path, KEY.as_bytes(), Mode::Public)?;
        let error = read(&path, None).map_or_else(|error| format!("{error:#}"), |_| String::new());
        assert!(error.contains("chmod 600"), "{error}");
        Ok(())
    }
}
