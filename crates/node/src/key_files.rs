//! Private keys on disk: for their owner only, and encrypted where a passphrase is given. In the place of a key a file may hold
//! the `pkcs11:` URI (RFC 7512) of one that is in a token.

use std::{
    env,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, ensure};
use sealcast_identity::{
    MAX_PASSPHRASE_BYTES, MAX_PEM_BYTES, Passphrase, SigningKey, is_encrypted, key_from_pem, key_to_pem,
};
use tracing::warn;
use zeroize::Zeroizing;

use crate::files::{self, Mode, Source};

/// The credential's name, see `LoadCredential=` and `LoadCredentialEncrypted=` in systemd.exec(5).
const CREDENTIAL: &str = "sealcast-passphrase";
/// Where systemd has put a service's credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// What the URI of a key in a token begins with.
const PKCS11: &str = "pkcs11:";

/// Where a command finds the passphrase.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct PassphraseArgs {
    /// File with the passphrase of the private keys, which are written encrypted [default: the systemd credential
    /// sealcast-passphrase, if there is one].
    #[arg(long, env = "SEALCAST_PASSPHRASE_FILE", value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// Reads it.
    pub fn key_files(&self) -> Result<KeyFiles> {
        KeyFiles::new(self.passphrase_file.as_deref())
    }
}

/// What is done about a key that a token does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// It is an error.
    Refuse,
    /// The token makes it.
    Make,
}

/// Opens the key that a `pkcs11:` URI names. The passphrase is the token's PIN, unless the URI names another.
pub type OpenInToken = fn(&str, Option<&Passphrase>, IfMissing) -> Result<SigningKey>;

/// Programs without PKCS#11 have none.
static TOKENS: OnceLock<OpenInToken> = OnceLock::new();

/// How a role's private keys are read and written.
#[derive(Debug, Clone, Default)]
pub struct KeyFiles {
    passphrase: Option<Passphrase>,
}

impl KeyFiles {
    /// With the passphrase in `file`, which may be a pipe, else with systemd's credential, else without any.
    pub fn new(file: Option<&Path>) -> Result<Self> {
        Self::of(file.map(|file| (file, Reader::Caller)))
    }

    /// With the passphrase in `file`, which a configuration names and which is a regular file.
    pub fn configured(file: &Path) -> Result<Self> {
        Self::of(Some((file, Reader::Owner)))
    }

    fn of(file: Option<(&Path, Reader)>) -> Result<Self> {
        let credential = env::var_os(CREDENTIALS).map(|dir| Path::new(&dir).join(CREDENTIAL));
        let passphrase = match (file, credential.filter(|path| path.exists())) {
            (Some((file, reader)), _) => Some(passphrase(file, reader)?),
            (None, Some(credential)) => Some(passphrase(&credential, Reader::Service)?),
            (None, None) => None,
        };
        Ok(Self { passphrase })
    }

    /// From now on this process reads keys in tokens by `open`.
    pub fn install_tokens(open: OpenInToken) {
        // A second call is of the same program.
        let _ = TOKENS.set(open);
    }

    /// The passphrase, if there is one.
    pub fn passphrase(&self) -> Option<&Passphrase> {
        self.passphrase.as_ref()
    }

    /// The private key of a PEM file.
    pub fn read(&self, path: &Path) -> Result<SigningKey> {
        let text = secret(path, MAX_PEM_BYTES, Reader::Owner)?;
        let text = str::from_utf8(&text).with_context(|| format!("{} is not a PEM file", path.display()))?;
        if text.starts_with(PKCS11) {
            return self.in_token(text.trim_end(), IfMissing::Refuse).with_context(|| path.display().to_string());
        }
        let key =
            key_from_pem(text, self.passphrase()).with_context(|| format!("{} cannot be used", path.display()))?;
        if self.passphrase.is_some() && !is_encrypted(text) {
            warn!(
                "{0} is not encrypted, although a passphrase is given. Encrypt it: openssl pkcs8 -topk8 -scrypt -in {0} -out \
                 {0}.pem -passout file:PASSPHRASE_FILE && mv {0}.pem {0}",
                path.display()
            );
        }
        Ok(key)
    }

    /// Makes a new key and puts it into `path`. Where `token` is the `pkcs11:` URI of a key, the token makes it, unless it has
    /// it already.
    pub fn make(&self, path: &Path, token: Option<&str>) -> Result<SigningKey> {
        match token {
            None => {
                let key = SigningKey::generate()?;
                self.write(path, &key)?;
                Ok(key)
            }
            Some(uri) => {
                let key = self.in_token(uri, IfMissing::Make)?;
                files::write(path, format!("{uri}\n").as_bytes(), Mode::Secret)?;
                Ok(key)
            }
        }
    }

    /// Whether `path` names the key in a token that `uri` does.
    pub fn is_for(path: &Path, uri: &str) -> bool {
        secret(path, MAX_PEM_BYTES, Reader::Owner).is_ok_and(|text| text.trim_ascii_end() == uri.as_bytes())
    }

    /// Refuses the key in `path`, which is to be replaced, as the one in its place.
    pub fn check_other(path: &Path, uri: Option<&str>) -> Result<()> {
        ensure!(
            uri.is_none_or(|uri| !Self::is_for(path, uri)),
            "{} is the key that --key names: name another one",
            path.display()
        );
        Ok(())
    }

    /// Replaces `path` by `key`.
    pub fn write(&self, path: &Path, key: &SigningKey) -> Result<()> {
        files::write(path, key_to_pem(key, self.passphrase())?.as_bytes(), Mode::Secret)
    }

    fn in_token(&self, uri: &str, if_missing: IfMissing) -> Result<SigningKey> {
        let open = TOKENS.get().with_context(|| {
            format!("the key {uri} is in a token, and this program was built without PKCS#11 (`--features pkcs11`)")
        })?;
        open(uri, self.passphrase(), if_missing)
    }
}

/// Longest password in CONNECT (MQTT 5, 3.1.3.6).
const MAX_PASSWORD_BYTES: usize = 65_535;

/// The password that is the one line of `path`, which only its owner may read. It may have any bytes but line ends.
pub fn read_password(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut content = read_secret(path, MAX_PASSWORD_BYTES + 2)?;
    let end = content.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(content.len());
    let rest = content.get(end..).unwrap_or_default();
    ensure!(end > 0, "{} holds no password in its first line", path.display());
    ensure!(matches!(rest, b"" | b"\n" | b"\r\n"), "{} has more than one line", path.display());
    content.truncate(end);
    Ok(content)
}

/// A secret's file, of at most `most` bytes, which only its owner may read.
pub fn read_secret(path: &Path, most: usize) -> Result<Zeroizing<Vec<u8>>> {
    secret(path, most, Reader::Owner)
}

/// Longest file with a token: of an enrolment, of the console, of a door. They have some hundred bytes at most.
const MAX_TOKEN_BYTES: usize = 4_096;

/// The text of the token in `path`, without the spaces and line ends around it, for its own type to parse. Only its owner may
/// read the file; `source` says whether it may be a pipe.
pub fn read_token(path: &Path, source: Source) -> Result<Zeroizing<String>> {
    let reader = match source {
        Source::File => Reader::Owner,
        Source::FileOrPipe => Reader::Caller,
    };
    let content = secret(path, MAX_TOKEN_BYTES, reader)?;
    let text = str::from_utf8(&content).with_context(|| format!("{} is not a text", path.display()))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Who may read a secret's file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Its owner alone.
    Owner,
    /// The same, who has named it on the command line: it may be a pipe.
    Caller,
    /// Whom systemd lets: by an access control list, which the file's mode does not show.
    Service,
}

fn passphrase(path: &Path, reader: Reader) -> Result<Passphrase> {
    let content = secret(path, MAX_PASSPHRASE_BYTES + 2, reader).context("the passphrase")?;
    Passphrase::from_file(&content).with_context(|| format!("the passphrase in {}", path.display()))
}

/// The file's content, wiped from memory when it is dropped.
fn secret(path: &Path, most: usize, reader: Reader) -> Result<Zeroizing<Vec<u8>>> {
    let attempt = || -> Result<_> {
        let source = if reader == Reader::Caller { Source::FileOrPipe } else { Source::File };
        let file = files::open(path, source)?;
        let mode = file.metadata()?.mode() & 0o777;
        ensure!(
            reader == Reader::Service || mode & 0o077 == 0,
            "others than its owner may use it (mode {mode:03o}): chmod 600 {}",
            path.display()
        );
        // Grown in steps it would leave copies in memory.
        let mut content = Zeroizing::new(Vec::with_capacity(most + 1));
        let read = file.take(most as u64 + 1).read_to_end(&mut content)?;
        ensure!(read <= most, "it is larger than {most} bytes");
        Ok(content)
    };
    attempt().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, thread};

    use rustix::fs::{CWD, Mode as Bits, mkfifoat};

    use super::*;

    fn file(dir: &Path, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn said<T>(outcome: Result<T>) -> String {
        outcome.map_or_else(|error| format!("{error:#}"), |_| "taken".to_owned())
    }

    #[test]
    fn a_key_is_written_under_the_passphrase_and_read_with_it_only() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("device.key"), SigningKey::generate().unwrap());
        let with = |text| KeyFiles::new(Some(&file(dir.path(), "passphrase", text, 0o600))).unwrap();
        let (right, wrong) = (with("correct-horse\n"), with("battery-staple\n"));
        right.write(&path, &key).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(right.read(&path).unwrap().public(), key.public());
        let refused = said(wrong.read(&path));
        assert!(refused.contains("device.key") && refused.contains("another passphrase"), "{refused}");
        let refused = said(KeyFiles::default().read(&path));
        assert!(refused.contains("device.key") && refused.contains("--passphrase-file"), "{refused}");
        // One that was there before is read, passphrase or not.
        KeyFiles::default().write(&path, &key).unwrap();
        assert_eq!(right.read(&path).unwrap().public(), key.public());
    }

    #[test]
    fn a_password_is_one_line_that_only_its_owner_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| read_password(&file(dir.path(), "password", text, 0o600));
        for text in ["a b", "a b\n", "a b\r\n"] {
            assert_eq!(read(text).unwrap().as_slice(), b"a b");
        }
        assert!(said(read("")).contains("no password") && said(read("\nx")).contains("no password"));
        assert!(said(read("a\nb")).contains("more than one line"));
        assert!(said(read_password(&file(dir.path(), "open", "x", 0o644))).contains("chmod 600"));
    }

    #[test]
    fn a_token_is_one_that_only_its_owner_may_read_and_a_pipe_where_the_user_names_it() {
        let dir = tempfile::tempdir().unwrap();
        for source in [Source::File, Source::FileOrPipe] {
            let read = |text: &str, mode| read_token(&file(dir.path(), "token", text, mode), source);
            assert_eq!(read(" a.b\r\n", 0o600).unwrap().as_str(), "a.b");
            assert_eq!(read("a.b", 0o400).unwrap().as_str(), "a.b");
            for mode in [0o644, 0o640, 0o620, 0o602] {
                let refused = said(read("a.b", mode));
                assert!(refused.contains("others than its owner") && refused.contains("chmod 600"), "{refused}");
            }
            assert!(said(read(&"x".repeat(MAX_TOKEN_BYTES + 1), 0o600)).contains("larger than"));
            fs::remove_file(dir.path().join("token")).unwrap();
        }
        let pipe = dir.path().join("pipe");
        mkfifoat(CWD, &pipe, Bits::RUSR | Bits::WUSR).unwrap();
        assert!(said(read_token(&pipe, Source::File)).contains("it is not a regular file"));
        assert!(said(KeyFiles::configured(&pipe)).contains("it is not a regular file"));
        assert!(said(KeyFiles::default().read(&pipe)).contains("it is not a regular file"));
        thread::scope(|scope| {
            scope.spawn(|| fs::write(&pipe, "a.b\n").unwrap());
            assert_eq!(read_token(&pipe, Source::FileOrPipe).unwrap().as_str(), "a.b");
        });
    }

    /// Nothing has installed tokens here.
    #[test]
    fn a_program_without_pkcs11_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let uri = "pkcs11:object=1111";
        let path = file(dir.path(), "device.key", "pkcs11:object=1111\n", 0o600);
        let refused = said(KeyFiles::default().read(&path));
        assert!(refused.contains("device.key") && refused.contains("--features pkcs11"), "{refused}");
        assert!(KeyFiles::is_for(&path, uri) && !KeyFiles::is_for(&path, "pkcs11:object=111"));
        let other = dir.path().join("other.key");
        assert!(said(KeyFiles::default().make(&other, Some(uri))).contains("--features pkcs11"));
        assert!(!other.exists() && !KeyFiles::is_for(&other, uri));
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_and_so_is_one_that_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let key = key_to_pem(&SigningKey::generate().unwrap(), None).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o755] {
            let path = file(dir.path(), "a.key", &key, mode);
            let refused = said(KeyFiles::default().read(&path));
            assert!(refused.contains("others than its owner") && refused.contains("chmod 600"), "{mode:o}: {refused}");
            let path = file(dir.path(), "passphrase", "x\n", mode);
            let refused = said(KeyFiles::new(Some(&path)));
            assert!(refused.contains("passphrase") && refused.contains("chmod 600"), "{mode:o}: {refused}");
        }
        for mode in [0o600, 0o400] {
            assert!(KeyFiles::default().read(&file(dir.path(), &format!("{mode:o}.key"), &key, mode)).is_ok());
        }
        let missing = dir.path().join("missing");
        assert!(
            said(KeyFiles::new(Some(&missing))).contains("missing: No such file"),
            "{}",
            said(KeyFiles::new(Some(&missing)))
        );
        assert!(said(KeyFiles::default().read(&missing)).contains("missing: No such file"));
        let empty = file(dir.path(), "empty", "\n", 0o600);
        assert!(said(KeyFiles::new(Some(&empty))).contains("empty"));
        let long = file(dir.path(), "long", &"x".repeat(MAX_PASSPHRASE_BYTES + 9), 0o600);
        assert!(said(KeyFiles::new(Some(&long))).contains("larger than"));
    }
}
