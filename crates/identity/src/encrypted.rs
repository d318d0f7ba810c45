//! Private keys under a passphrase: `EncryptedPrivateKeyInfo` of PKCS#8 (RFC 5958 section 3) with PBES2 (RFC 8018 section 6.2),
//! as OpenSSL writes and reads it.

use aws_lc_rs::rand;
use der::{
    Decode as _, Encode as _, Sequence, Tag, Tagged as _,
    asn1::{AnyRef, OctetStringRef},
};
use pkcs5::{
    EncryptionScheme,
    pbes2::{Kdf, Parameters},
};
use zeroize::Zeroizing;

use crate::{
    KeyError, SigningKey,
    passphrase::{Passphrase, Work},
};

const SALT_BYTES: usize = 16;
/// A block of AES.
const IV_BYTES: usize = 16;
/// Most rounds of PBKDF2: ten seconds.
const MAX_ITERATIONS: u32 = 10_000_000;

#[derive(Sequence)]
struct EncryptedPrivateKeyInfo<'a> {
    encryption_algorithm: EncryptionScheme<'a>,
    encrypted_data: OctetStringRef<'a>,
}

/// Why an encrypted key could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecryptError {
    /// Another passphrase, or a damaged file: these look alike.
    #[error("it is encrypted with another passphrase, or damaged")]
    Passphrase,
    /// An algorithm that is too weak, or not in use.
    #[error(
        "it is encrypted in a way that is not supported: {0}. Supported are AES with scrypt, or with PBKDF2 and HMAC-SHA-2; \
         `openssl pkcs8 -topk8 -scrypt -in <file> -out <new file>` encrypts a key so"
    )]
    Unsupported(String),
    /// Decrypted, and of another kind.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The key in an `EncryptedPrivateKeyInfo`.
pub(crate) fn decrypt(der: &[u8], passphrase: &Passphrase) -> Result<SigningKey, DecryptError> {
    let unsupported = |reason: &dyn std::fmt::Display| DecryptError::Unsupported(reason.to_string());
    let sealed = EncryptedPrivateKeyInfo::from_der(der).map_err(|e| unsupported(&e))?;
    match &sealed.encryption_algorithm {
        EncryptionScheme::Pbes2(Parameters { kdf: Kdf::Scrypt(params), .. }) => {
            let log_n = u8::try_from(params.cost_parameter.max(1).ilog2()).map_err(|_| KeyError::Work)?;
            Work { log_n, r: params.block_size, p: params.parallelization }.params()?;
        }
        EncryptionScheme::Pbes2(Parameters { kdf: Kdf::Pbkdf2(params), .. })
            if params.iteration_count > MAX_ITERATIONS =>
        {
            return Err(KeyError::Work.into());
        }
        _ => {}
    }
    let opened = sealed.encryption_algorithm.decrypt(passphrase.expose(), sealed.encrypted_data.as_bytes());
    let pkcs8 = Zeroizing::new(opened.map_err(|error| match error {
        // Of a padding that is wrong, the library says that encrypting failed.
        pkcs5::Error::DecryptFailed | pkcs5::Error::EncryptFailed => DecryptError::Passphrase,
        error => unsupported(&error),
    })?);
    // One wrong passphrase in 256 leaves a padding that looks right.
    match AnyRef::from_der(&pkcs8) {
        Ok(content) if content.tag() == Tag::Sequence => Ok(SigningKey::from_pkcs8_der(&pkcs8)?),
        _ => Err(DecryptError::Passphrase),
    }
}

/// `key` as an `EncryptedPrivateKeyInfo`: AES-256-CBC under a key that scrypt derives.
pub(crate) fn encrypt(key: &SigningKey, passphrase: &Passphrase) -> Result<Vec<u8>, KeyError> {
    let (mut salt, mut iv) = ([0; SALT_BYTES], [0; IV_BYTES]);
    rand::fill(&mut salt)?;
    rand::fill(&mut iv)?;
    let library = |_| KeyError::Library;
    let parameters = Parameters::scrypt_aes256cbc(Work::PRESENT.params()?, &salt, &iv).map_err(library)?;
    let encrypted_data = parameters.encrypt(passphrase.expose(), key.to_pkcs8_der()?).map_err(library)?;
    to_der(parameters, &encrypted_data).map_err(|_| KeyError::Library)
}

fn to_der(parameters: Parameters<'_>, encrypted_data: &[u8]) -> der::Result<Vec<u8>> {
    let encrypted_data = OctetStringRef::new(encrypted_data)?;
    EncryptedPrivateKeyInfo { encryption_algorithm: parameters.into(), encrypted_data }.to_der()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PemError, key_from_pem, key_to_pem, testing::openssl};

    /// Made by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`, then for each of the others by
    /// `openssl pkcs8 -topk8 -in plain.pem -passout pass:correct-horse` with the options that stand beside it.
    const PLAIN: &str = include_str!("encrypted/plain.pem");
    const FIXTURES: [(&str, &str); 4] = [
        ("-v2 aes-256-cbc", include_str!("encrypted/aes256.pem")),
        ("-v2 aes-128-cbc -v2prf hmacWithSHA512 -iter 100000", include_str!("encrypted/sha512.pem")),
        ("-scrypt", include_str!("encrypted/scrypt.pem")),
        ("-scrypt -scrypt_N 1024 -scrypt_r 4 -scrypt_p 16", include_str!("encrypted/scrypt4.pem")),
    ];

    const UNSUPPORTED: [(&str, &str); 3] = [
        ("-v2 des3", include_str!("encrypted/des3.pem")),
        ("-v1 PBE-SHA1-3DES", include_str!("encrypted/pbes1.pem")),
        ("-v2 aes-256-cbc -v2prf hmacWithSHA1", include_str!("encrypted/sha1.pem")),
    ];

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::from_file(text.as_bytes()).unwrap()
    }

    fn refusal(pem: &str, passphrase: Option<&Passphrase>) -> String {
        let error = key_from_pem(pem, passphrase).unwrap_err();
        format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default())
    }

    #[test]
    fn reads_what_openssl_has_encrypted() {
        let plain = key_from_pem(PLAIN, None).unwrap();
        for (options, pem) in FIXTURES {
            let key = key_from_pem(pem, Some(&passphrase("correct-horse\n"))).expect(options);
            assert_eq!(key.public(), plain.public(), "{options}");
        }
        // A passphrase that is not needed does no harm.
        assert_eq!(key_from_pem(PLAIN, Some(&passphrase("other"))).unwrap().public(), plain.public());
    }

    #[test]
    fn says_what_is_wrong_with_passphrase_and_file() {
        for (options, pem) in FIXTURES {
            assert!(refusal(pem, None).contains("--passphrase-file"), "{options}");
            let refused = refusal(pem, Some(&passphrase("correct-horse-2")));
            assert!(refused.contains("another passphrase"), "{options}: {refused}");
        }
        for (options, pem) in UNSUPPORTED {
            let refused = refusal(pem, Some(&passphrase("correct-horse")));
            assert!(refused.contains("not supported") && refused.contains("-topk8 -scrypt"), "{options}: {refused}");
        }
        let twice = PLAIN.to_owned() + FIXTURES[0].1;
        assert!(matches!(key_from_pem(&twice, None), Err(PemError::TooMuch { .. })));
    }

    /// Whatever a wrong passphrase decrypts to, it is called a wrong passphrase: one in 256 leaves a padding that looks right.
    #[test]
    fn no_wrong_passphrase_is_taken_for_another_fault() {
        let weak = Parameters::pbkdf2_sha256_aes256cbc(1, b"salt", &[7; IV_BYTES]).unwrap();
        let encrypted_data = weak.encrypt("right", SigningKey::generate().unwrap().to_pkcs8_der().unwrap()).unwrap();
        let der = to_der(weak.clone(), &encrypted_data).unwrap();
        assert!(decrypt(&der, &passphrase("right")).is_ok());
        let wrong = (0..4_000).map(|number: u32| passphrase(&number.to_string()));
        let mut padded = 0;
        for wrong in wrong {
            padded += u32::from(weak.decrypt(wrong.expose(), &encrypted_data).is_ok());
            assert!(matches!(decrypt(&der, &wrong), Err(DecryptError::Passphrase)));
        }
        assert!(padded > 0, "none has such a padding");
    }

    #[test]
    fn work_without_bound_is_refused_before_it_is_done() {
        let refused = |parameters: Parameters<'_>| {
            let outcome = decrypt(&to_der(parameters, &[0; 160]).unwrap(), &passphrase("x"));
            assert!(matches!(outcome, Err(DecryptError::Key(KeyError::Work))), "{outcome:?}");
        };
        refused(Parameters::pbkdf2_sha256_aes256cbc(100_000_000, b"salt", &[7; IV_BYTES]).unwrap());
        let params = scrypt::Params::new(40, 8, 1, 32).unwrap();
        refused(Parameters::scrypt_aes256cbc(params, b"salt", &[7; IV_BYTES]).unwrap());
    }

    #[test]
    fn openssl_reads_what_we_encrypt() {
        let (key, correct) = (SigningKey::generate().unwrap(), passphrase("correct-horse"));
        let pem = key_to_pem(&key, Some(&correct)).unwrap();
        assert_ne!(pem, key_to_pem(&key, Some(&correct)).unwrap(), "salt and IV are new each time");
        assert!(refusal(&pem, Some(&passphrase("correct-horse-2"))).contains("another passphrase"));
        assert_eq!(key_from_pem(&pem, Some(&correct)).unwrap().public(), key.public());
        let Some(plain) = openssl(&["pkcs8", "-passin", "pass:correct-horse"], pem.as_bytes()) else { return };
        let plain = key_from_pem(&String::from_utf8(plain).unwrap(), None).unwrap();
        assert_eq!(plain.public(), key.public());
    }
}
