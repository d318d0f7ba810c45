//! `agent.keys`: two slots for the master key, each of which is overwritten in its place.
//!
//! Where the agent has a passphrase, a slot holds the master key wrapped: sealed with AES-256-GCM under a key that scrypt (RFC
//! 7914) derives from the passphrase. A slot says itself how it is to be read:
//!
//! ```text
//! bare     0  master key (32)  zeros
//! wrapped  1  log2 N (1)  r (2)  p (2)  salt (16)  nonce (12)  master key, sealed (32 + 16)
//! ```

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use aws_lc_rs::{error::Unspecified, rand};
use sealcast_identity::{KeyError, Passphrase, Work};
use sealcast_node::files::{self, Mode, Source};
use zeroize::Zeroizing;

use super::aead::{self, KEY_BYTES, Key, OVERHEAD_BYTES, fresh_key};

/// Its name.
pub const FILE: &str = "agent.keys";
/// Where the second slot begins: in another block than the first one, so that a write that a power cut tears spares the other.
const SECOND: u64 = 4096;
const SALT_BYTES: usize = 16;
const HEAD_BYTES: usize = 6 + SALT_BYTES;
const SLOT_BYTES: usize = HEAD_BYTES + KEY_BYTES + OVERHEAD_BYTES;
const BARE: u8 = 0;
const WRAPPED: u8 = 1;

pub type Bytes = Zeroizing<[u8; SLOT_BYTES]>;

/// One of the places of the master key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    First,
    Second,
}

impl Slot {
    pub fn other(self) -> Self {
        if self == Self::First { Self::Second } else { Self::First }
    }

    fn offset(self) -> u64 {
        if self == Self::First { 0 } else { SECOND }
    }

    pub fn of_row(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::First),
            1 => Some(Self::Second),
            _ => None,
        }
    }

    pub fn to_row(self) -> i64 {
        i64::from(self == Self::Second)
    }
}

/// Why a master key cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{FILE}: {0}")]
    Disk(#[from] io::Error),
    #[error(
        "{FILE} is encrypted: give the file that holds the passphrase (--passphrase-file, or passphrase_file in agent.toml)"
    )]
    Locked,
    #[error("{FILE} is encrypted with another passphrase, or damaged")]
    Passphrase,
    #[error("{FILE} is damaged: it does not say how it is to be read")]
    Form,
    #[error(transparent)]
    Derivation(#[from] KeyError),
}

impl From<Unspecified> for KeyFileError {
    fn from(_: Unspecified) -> Self {
        Self::Disk(io::Error::other("no randomness from the system"))
    }
}

/// The file, opened.
pub struct KeyFile {
    file: File,
    wrap: Option<Wrap>,
}

impl KeyFile {
    /// Makes the file, with new keys.
    pub fn make(dir: &Path, passphrase: Option<&Passphrase>) -> Result<()> {
        let wrap = passphrase.map(Wrap::new).transpose()?;
        let first = encode(&fresh_key()?, wrap.as_ref())?;
        let mut content = Zeroizing::new(vec![0; SECOND as usize - SLOT_BYTES]);
        content.splice(..0, first.iter().copied());
        content.extend_from_slice(&*encode(&fresh_key()?, wrap.as_ref())?);
        files::write(&dir.join(FILE), &content, Mode::Secret)
    }

    /// Opens the file to change it.
    pub fn open(dir: &Path, passphrase: Option<&Passphrase>) -> Result<Self> {
        Self::with(|path| Ok(OpenOptions::new().read(true).write(true).open(path)?), dir, passphrase)
    }

    /// Opens the file to read it.
    pub fn open_to_read(dir: &Path, passphrase: Option<&Passphrase>) -> Result<Self> {
        Self::with(|path| files::open(path, Source::File), dir, passphrase)
    }

    fn with(open: fn(&Path) -> Result<File>, dir: &Path, passphrase: Option<&Passphrase>) -> Result<Self> {
        let path = dir.join(FILE);
        let attempt = || -> Result<Self> {
            let file = open(&path)?;
            let Some(passphrase) = passphrase else { return Ok(Self { file, wrap: None }) };
            let slots = [bytes(&file, Slot::First)?, bytes(&file, Slot::Second)?];
            let wrap = match slots.iter().find(|slot| slot[0] == WRAPPED) {
                Some(wrapped) => Wrap::of(passphrase, head(wrapped))?,
                None => Wrap::new(passphrase)?,
            };
            Ok(Self { file, wrap: Some(wrap) })
        };
        attempt().with_context(|| format!("cannot use {}", path.display()))
    }

    /// The master key in `slot`.
    pub fn read(&self, slot: Slot) -> Result<Key, KeyFileError> {
        decode(&bytes(&self.file, slot)?, self.wrap.as_ref())
    }

    /// Whether the key in `slot` lies there bare, although there is a passphrase.
    pub fn is_to_be_wrapped(&self, slot: Slot) -> Result<bool, KeyFileError> {
        Ok(self.wrap.is_some() && bytes(&self.file, slot)?[0] == BARE)
    }

    /// What lies in `slot`.
    #[cfg(test)]
    pub fn raw(&self, slot: Slot) -> io::Result<Bytes> {
        bytes(&self.file, slot)
    }

    /// Overwrites what is in `slot` by a fresh key.
    pub fn renew(&self, slot: Slot) -> Result<(), KeyFileError> {
        self.file.write_all_at(&*encode(&fresh_key()?, self.wrap.as_ref())?, slot.offset())?;
        Ok(self.file.sync_data()?)
    }
}

/// What the keys of a file are sealed under.
struct Wrap {
    /// How the key is derived: what a slot begins with.
    head: [u8; HEAD_BYTES],
    key: Key,
}

impl Wrap {
    fn new(passphrase: &Passphrase) -> Result<Self, KeyFileError> {
        let mut head = [0; HEAD_BYTES];
        rand::fill(&mut head)?;
        let Work { log_n, r, p } = Work::PRESENT;
        head[..2].copy_from_slice(&[WRAPPED, log_n]);
        head[2..4].copy_from_slice(&r.to_be_bytes());
        head[4..6].copy_from_slice(&p.to_be_bytes());
        Self::of(passphrase, head)
    }

    fn of(passphrase: &Passphrase, head: [u8; HEAD_BYTES]) -> Result<Self, KeyFileError> {
        let [_, log_n, r1, r0, p1, p0, salt @ ..] = &head;
        let work = Work { log_n: *log_n, r: u16::from_be_bytes([*r1, *r0]), p: u16::from_be_bytes([*p1, *p0]) };
        Ok(Self { key: passphrase.derive(salt, work)?, head })
    }
}

fn bytes(file: &File, slot: Slot) -> io::Result<Bytes> {
    let mut bytes = Zeroizing::new([0; SLOT_BYTES]);
    file.read_exact_at(&mut *bytes, slot.offset())?;
    Ok(bytes)
}

fn head(slot: &Bytes) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head.copy_from_slice(&slot[..HEAD_BYTES]);
    head
}

fn encode(key: &Key, wrap: Option<&Wrap>) -> Result<Bytes, Unspecified> {
    let mut slot = Zeroizing::new([0; SLOT_BYTES]);
    let Some(wrap) = wrap else {
        slot[1..=KEY_BYTES].copy_from_slice(&**key);
        return Ok(slot);
    };
    slot[..HEAD_BYTES].copy_from_slice(&wrap.head);
    slot[HEAD_BYTES..].copy_from_slice(&aead::seal(&wrap.key, &wrap.head, &**key)?);
    Ok(slot)
}

fn decode(slot: &Bytes, wrap: Option<&Wrap>) -> Result<Key, KeyFileError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    match (slot[0], wrap) {
        (BARE, _) => key.copy_from_slice(&slot[1..=KEY_BYTES]),
        (WRAPPED, None) => return Err(KeyFileError::Locked),
        (WRAPPED, Some(wrap)) => {
            let (head, sealed) = slot.split_at(HEAD_BYTES);
            let opened = aead::open(&wrap.key, head, sealed).map_err(|_| KeyFileError::Passphrase)?;
            key.copy_from_slice(&opened);
        }
        _ => return Err(KeyFileError::Form),
    }
    Ok(key)
}
