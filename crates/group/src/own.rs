//! This device's own key packages, with their private parts.

use mls_rs::{
    mls_rs_codec::{self, MlsDecode, MlsEncode, MlsSize},
    storage_provider::KeyPackageData,
};

use crate::{
    mls::Engine,
    refusal::GroupRefusal,
    stored::{Changes, RestoreError, Stored, decode, encode, sha256},
};

/// Private parts of at most so many key packages are kept.
const KEPT: usize = 8;

#[derive(MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct OwnKey {
    sequence: u64,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    id: Vec<u8>,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    pub message: Vec<u8>,
    private: KeyPackageData,
    /// SHA-256 of the certificate that it was made with.
    pub certificate: [u8; 32],
    pub rejoin: bool,
}

impl OwnKey {
    pub fn hash(&self) -> [u8; 32] {
        sha256(&self.message)
    }

    pub fn is(&self, reference: &[u8]) -> bool {
        self.id == reference
    }

    /// Its place among all that this device ever made.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    fn key(sequence: u64) -> String {
        format!("own/{sequence:020}")
    }
}

/// All of them, oldest first.
#[derive(Default)]
pub(crate) struct OwnKeys {
    keys: Vec<OwnKey>,
    /// When the newest was last submitted to the ledger.
    pub submitted_ms: Option<u64>,
    /// That this device must say that it holds no group state.
    pub rejoin_wanted: bool,
    /// Not to say so before.
    pub rejoin_after_ms: u64,
    /// How often it has been said.
    pub rejoins: u32,
}

impl OwnKeys {
    pub fn restore(stored: &Stored, engine: &Engine) -> Result<Self, RestoreError> {
        let mut own = Self::default();
        for (key, bytes) in stored.under("own/") {
            let found: OwnKey = decode(key, bytes)?;
            engine.memory().put_key_package(found.id.clone(), found.private.clone());
            own.keys.push(found);
        }
        Ok(own)
    }

    pub fn current(&self) -> Option<&OwnKey> {
        self.keys.last()
    }

    pub fn iter(&self) -> impl Iterator<Item = &OwnKey> {
        self.keys.iter()
    }

    /// Makes a new one. Of too many it forgets the oldest.
    pub fn make(
        &mut self,
        engine: &Engine,
        certificate: [u8; 32],
        rejoin: bool,
        now_s: u64,
        changes: &mut Changes,
    ) -> Result<(), GroupRefusal> {
        let made = engine.new_key_package(now_s)?;
        let sequence = self.current().map_or(0, |key| key.sequence + 1);
        let key = OwnKey { sequence, id: made.id, message: made.message, private: made.private, certificate, rejoin };
        changes.put(OwnKey::key(sequence), encode(&key));
        self.keys.push(key);
        self.submitted_ms = None;
        self.rejoin_wanted &= !rejoin;
        while self.keys.len() > KEPT
            && let Some(oldest) = self.keys.first().map(OwnKey::sequence)
        {
            self.forget(oldest, engine, changes);
        }
        Ok(())
    }

    /// Forgets all of them, and wants to say so.
    pub fn lose(&mut self, engine: &Engine, changes: &mut Changes) {
        while let Some(first) = self.keys.first().map(OwnKey::sequence) {
            self.forget(first, engine, changes);
        }
        (self.submitted_ms, self.rejoin_wanted) = (None, true);
    }

    /// Forgets one, on disk and in memory.
    pub fn forget(&mut self, sequence: u64, engine: &Engine, changes: &mut Changes) {
        for gone in self.keys.extract_if(.., |key| key.sequence == sequence) {
            engine.memory().forget_key_package(&gone.id);
            changes.delete(OwnKey::key(sequence));
        }
    }
}
