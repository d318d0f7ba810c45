//! A token and its verifier.
//!
//! Whoever signs in shows a proof that is made from the token. A server keeps the proof's SHA-256, so what it has on disk
//! signs nobody in.

use std::{fmt, path::Path};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::{constant_time, digest, hmac};
use sealcast_node::{
    files::{self, Mode, Source},
    read_token,
};
use zeroize::Zeroizing;

const SIGN_IN: &[u8] = b"sealcast console: sign in";
/// Random bytes of a token: nobody guesses them.
const TOKEN_BYTES: usize = 20;

/// What a person types in.
pub struct Token(Zeroizing<String>);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut()).ok().context("no randomness from the system")?;
        Ok(Self(Zeroizing::new(hex::encode(*bytes))))
    }

    /// The one in a file, which only its owner may read; `source` says whether it may be a pipe.
    ///
    /// # Errors
    /// The file cannot be read, or has none.
    pub fn read(path: &Path, source: Source) -> Result<Self> {
        Self::parse(&read_token(path, source)?).with_context(|| path.display().to_string())
    }

    /// The one that a person has copied: spaces and line ends around it do not matter.
    ///
    /// # Errors
    /// That is none.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let is_token = text.len() == 2 * TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(is_token, "no token of the console's, which is {} hex digits", 2 * TOKEN_BYTES);
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Writes it to a file that its owner alone can read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write(path, self.0.as_bytes(), Mode::Secret)
    }

    /// The token itself, for a person.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it by whoever checks sign-ins.
    pub fn verifier(&self) -> Verifier {
        Verifier::of_proof(self.sign_in().as_ref())
    }

    /// The proof for a sign-in.
    pub fn sign_in(&self) -> impl AsRef<[u8]> {
        hmac::sign(&self.key(), SIGN_IN)
    }

    /// The proof for a text of another kind than a sign-in.
    pub fn prove(&self, text: &str) -> impl AsRef<[u8]> {
        hmac::sign(&self.key(), text.as_bytes())
    }

    /// Whether `proof` is [`Self::prove`] of this text.
    pub fn is_proof(&self, text: &str, proof: &[u8]) -> bool {
        hmac::verify(&self.key(), text.as_bytes(), proof).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// SHA-256 of the proof that a token's owner shows at a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verifier([u8; 32]);

impl Verifier {
    fn of_proof(proof: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, proof).as_ref());
        Self(bytes)
    }

    /// Whether this is the proof, in a time that does not tell how much of it is right.
    pub fn admits(&self, proof: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &Self::of_proof(proof).0).is_ok()
    }

    /// The one in a file, if there is the file.
    ///
    /// # Errors
    /// It cannot be read, or has none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = files::read(path)?;
        Self::from_hex(text.trim()).map(Some).with_context(|| format!("{} holds no verifier", path.display()))
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write(path, self.to_hex().as_bytes(), Mode::Secret)
    }

    /// As text.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// From [`Self::to_hex`].
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_admits_its_tokens_proof_and_nothing_else() -> Result<()> {
        let (token, other) = (Token::generate()?, Token::generate()?);
        let verifier = token.verifier();
        assert!(verifier.admits(token.sign_in().as_ref()));
        assert!(!verifier.admits(other.sign_in().as_ref()) && !verifier.admits(b""));
        // What is kept does not sign in.
        assert!(!verifier.admits(&verifier.0));
        assert_eq!(Verifier::from_hex(&verifier.to_hex()), Some(verifier));
        assert_eq!(Verifier::from_hex("00"), None);
        Ok(())
    }

    /// What a browser computes by WebCrypto, checked with `openssl dgst -sha256 -hmac`.
    #[test]
    fn the_proof_is_hmac_sha256_by_the_tokens_characters() {
        let token = Token(Zeroizing::new("00112233445566778899aabbccddeeff00112233".to_owned()));
        assert_eq!(hex::encode(token.sign_in()), "7784d0fce175a56a94b2e1ca0e1f299975dfe0474b513dd98f5aac0bf723d4b0");
    }

    #[test]
    fn a_token_comes_back_from_its_file() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("console.token");
        let token = Token::generate()?;
        token.write(&path)?;
        assert_eq!(Token::read(&path, Source::File)?.reveal(), token.reveal());
        std::fs::write(&path, "short")?;
        assert!(Token::read(&path, Source::File).is_err());
        let verifier = dir.path().join("console.verifier");
        assert_eq!(Verifier::read(&verifier)?, None);
        token.verifier().write(&verifier)?;
        assert_eq!(Verifier::read(&verifier)?, Some(token.verifier()));
        std::fs::write(&verifier, "zz")?;
        assert!(Verifier::read(&verifier).is_err());
        Ok(())
    }
}
