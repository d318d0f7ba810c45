//! The MLS library, set up once: suite, rules, identity and storage; and the operations on one MLS group.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use mls_rs::{
    CipherSuite, Client, CryptoProvider, ExtensionList, Group, KeyPackage, MlsMessage, MlsRules,
    client_builder::{
        BaseConfig, PaddingMode, WithCryptoProvider, WithGroupStateStorage, WithIdentityProvider, WithKeyPackageRepo,
        WithMlsRules,
    },
    crypto::{SignaturePublicKey, SignatureSecretKey},
    extension::recommended::LastResortKeyPackageExt,
    group::{CommitEffect, CommitSecrets, ExportedTree, GroupContext, GroupInfo, ReceivedMessage, Roster},
    identity::{Credential, SigningIdentity, x509::CertificateChain},
    mls_rs_codec::MlsEncode,
    mls_rules::{CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle},
    storage_provider::KeyPackageData,
};
use sealcast_identity::SigningKey;
use zeroize::Zeroizing;

#[cfg(not(test))]
use crate::crypto::Crypto;
#[cfg(test)]
use crate::sabotage::Crypto;
use crate::{
    GroupRefusal, Number,
    crypto::no_secret,
    storage::Memory,
    stored::sha256,
    trust::{Trust, leaf_der, mls_time},
};

/// MLS_128_DHKEMP256_AES128GCM_SHA256_P256.
const SUITE: CipherSuite = CipherSuite::P256_AES128;
/// Key packages are backdated so that a member whose clock is behind does not refuse them.
pub(crate) const BACKDATE_S: u64 = 24 * 3600;
/// The ledger bounds a leaf's life by its certificate. Whoever adds a device demands that the key package lives as long;
/// afterwards nobody looks at it again.
const LIFETIME: Duration = Duration::from_secs(50 * 365 * 24 * 3600);
/// RFC 9605 section 5.2.
const EXPORTER_LABEL: &[u8] = b"SFrame 1.0 Base Key";

type Config = WithMlsRules<
    Rules,
    WithGroupStateStorage<
        Memory,
        WithKeyPackageRepo<Memory, WithIdentityProvider<Trust, WithCryptoProvider<Crypto, BaseConfig>>>,
    >,
>;

/// What this network's commits look like. Who may be in them is judged outside, where the ledger is at hand.
#[derive(Clone, Copy)]
pub(crate) struct Rules;

impl MlsRules for Rules {
    type Error = Infallible;

    fn filter_proposals(
        &self,
        _direction: CommitDirection,
        _source: CommitSource,
        _roster: &Roster<'_>,
        _context: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Infallible> {
        Ok(proposals)
    }

    fn commit_options(
        &self,
        _roster: &Roster<'_>,
        context: &GroupContext,
        _proposals: &ProposalBundle,
    ) -> Result<CommitOptions, Infallible> {
        // The tree goes beside the Welcome, and each new member has an inbox of its own. The founding commit has a path,
        // which shows everybody the founder's leaf; later adds have none, or a thousand members would not fit into a
        // ledger entry.
        Ok(CommitOptions::new()
            .with_path_required(context.epoch <= 1)
            .with_ratchet_tree_extension(false)
            .with_single_welcome_message(false))
    }

    fn encryption_options(
        &self,
        _roster: &Roster<'_>,
        _context: &GroupContext,
    ) -> Result<EncryptionOptions, Infallible> {
        // Public control messages without padding: the ledger is their audit.
        Ok(EncryptionOptions::new(false, PaddingMode::None))
    }
}

/// One MLS group in memory.
pub(crate) type MlsGroup = Group<Config>;

/// A member of an MLS group.
pub(crate) struct Leaf {
    pub index: u32,
    /// SHA-256 of its certificate.
    pub certificate: [u8; 32],
    /// Its signature key, uncompressed SEC1.
    pub key: Vec<u8>,
}

/// A commit that waits for the ledger.
pub(crate) struct Built {
    pub commit: Vec<u8>,
    pub secrets: Zeroizing<Vec<u8>>,
    pub tree: Vec<u8>,
    pub welcomes: Vec<(Number, Vec<u8>)>,
}

/// A key package of ours.
pub(crate) struct OwnPackage {
    /// KeyPackageRef (RFC 9420 section 5.2).
    pub id: Vec<u8>,
    /// The KeyPackage as an MLS message.
    pub message: Vec<u8>,
    pub private: KeyPackageData,
}

/// A Welcome that could be decrypted.
pub(crate) struct Opened {
    pub message: MlsMessage,
    pub info: GroupInfo,
    /// The key packages that it was made for.
    pub references: Vec<Vec<u8>>,
}

pub(crate) struct Engine {
    client: Client<Config>,
    identity: SigningIdentity,
    signer: SignatureSecretKey,
    memory: Memory,
    crypto: Crypto,
}

impl Engine {
    pub fn new(key: &SigningKey, chain: &[Vec<u8>], trust: Trust) -> Result<Self, GroupRefusal> {
        Self::with_lifetime(key, chain, trust, LIFETIME)
    }

    /// With key packages that end so long after [`BACKDATE_S`] before they are made.
    pub fn with_lifetime(
        key: &SigningKey,
        chain: &[Vec<u8>],
        trust: Trust,
        lifetime: Duration,
    ) -> Result<Self, GroupRefusal> {
        let memory = Memory::default();
        let crypto = Crypto::new(key.clone());
        let public = SignaturePublicKey::from(key.public().to_uncompressed().to_vec());
        let identity = SigningIdentity::new(credential(chain), public);
        let signer = no_secret();
        let client = client(&identity, &signer, &memory, &crypto, trust, lifetime);
        Ok(Self { client, identity, signer, memory, crypto })
    }

    /// From now on leaves and key packages get this chain, which is for the same key. Groups that are loaded stay as they
    /// are.
    pub fn renew(&mut self, chain: &[Vec<u8>], trust: Trust) {
        self.identity.credential = credential(chain);
        self.client = client(&self.identity, &self.signer, &self.memory, &self.crypto, trust, LIFETIME);
    }

    #[cfg(test)]
    pub fn crypto(&self) -> &Crypto {
        &self.crypto
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// A new last-resort key package; its private part is in [`memory`](Self::memory) too.
    pub fn new_key_package(&self, now_s: u64) -> Result<OwnPackage, GroupRefusal> {
        let mut extensions = ExtensionList::new();
        extensions.set_from(LastResortKeyPackageExt).map_err(|error| GroupRefusal::Mls(error.to_string()))?;
        let time = mls_time(now_s.saturating_sub(BACKDATE_S));
        let message = self.client.generate_key_package_message(extensions, ExtensionList::new(), Some(time))?;
        let id = self.reference(&message)?;
        let private = self
            .memory
            .key_package(&id)
            .ok_or(GroupRefusal::Malformed("the new key package was not put into storage"))?;
        Ok(OwnPackage { id, message: message.to_bytes()?, private })
    }

    fn reference(&self, message: &MlsMessage) -> Result<Vec<u8>, GroupRefusal> {
        let suite =
            self.crypto.cipher_suite_provider(SUITE).ok_or(GroupRefusal::Malformed("suite 2 is not available"))?;
        let reference = message.key_package_reference(&suite)?.ok_or(GroupRefusal::Malformed("not a key package"))?;
        Ok(reference.to_vec())
    }

    pub fn found(&self, group_id: Vec<u8>, now_s: u64) -> Result<MlsGroup, GroupRefusal> {
        let time = mls_time(now_s);
        Ok(self.client.create_group_with_id(group_id, ExtensionList::new(), ExtensionList::new(), Some(time))?)
    }

    pub fn load(&self, group_id: &[u8], snapshot: Zeroizing<Vec<u8>>) -> Result<MlsGroup, GroupRefusal> {
        self.memory.put_group(group_id, snapshot);
        let group = self.client.load_group(group_id);
        self.memory.take_group(group_id);
        Ok(group?)
    }

    pub fn save(&self, group: &mut MlsGroup) -> Result<Zeroizing<Vec<u8>>, GroupRefusal> {
        group.write_to_storage()?;
        let snapshot = self.memory.take_group(group.group_id());
        snapshot.ok_or(GroupRefusal::Malformed("the group's snapshot was not put into storage"))
    }

    /// Builds a commit beside the group, which stays as it is until [`apply_own`]. `renew`: our leaf still has an older
    /// certificate of ours, and gets the present one.
    pub fn commit(
        &self,
        group: &mut MlsGroup,
        adds: &[(Number, Vec<u8>)],
        removes: &[u32],
        renew: bool,
        authenticated_data: Vec<u8>,
        now_s: u64,
    ) -> Result<Built, GroupRefusal> {
        let mut references = BTreeMap::new();
        // Without a time the library asks the system's clock.
        let mut builder = group.commit_builder().authenticated_data(authenticated_data).commit_time(mls_time(now_s));
        if renew {
            builder = builder.set_new_signing_identity(self.signer.clone(), self.identity.clone());
        }
        for leaf in removes {
            builder = builder.remove_member(*leaf)?;
        }
        for (number, package) in adds {
            let message = MlsMessage::from_bytes(package)?;
            references.insert(self.reference(&message)?, *number);
            builder = builder.add_member(message)?;
        }
        let (output, secrets) = builder.build_detached()?;
        let mut welcomes = Vec::with_capacity(adds.len());
        for welcome in &output.welcome_messages {
            let bytes = welcome.to_bytes()?;
            for reference in welcome.welcome_key_package_references() {
                if let Some(number) = references.get(reference.as_ref() as &[u8]) {
                    welcomes.push((*number, bytes.clone()));
                }
            }
        }
        let tree = output.ratchet_tree.as_ref().map(ExportedTree::to_bytes).transpose()?.unwrap_or_default();
        let commit = output.commit_message.to_bytes()?;
        Ok(Built { commit, secrets: Zeroizing::new(secrets.to_bytes()?), tree, welcomes })
    }

    pub fn open(&self, welcome: &[u8]) -> Result<Opened, GroupRefusal> {
        let message = MlsMessage::from_bytes(welcome)?;
        let info = self.client.examine_welcome_message(&message)?;
        let references = message.welcome_key_package_references().into_iter().map(|found| found.to_vec()).collect();
        Ok(Opened { message, info, references })
    }

    /// Without a time, so that no member's leaf is too old for somebody to join.
    pub fn join(&self, opened: &Opened, tree: &[u8]) -> Result<MlsGroup, GroupRefusal> {
        let tree = ExportedTree::from_bytes(tree)?;
        let (group, _) = self.client.join_group(Some(tree), &opened.message, None)?;
        Ok(group)
    }
}

fn credential(chain: &[Vec<u8>]) -> Credential {
    CertificateChain::from(chain.to_vec()).into_credential()
}

fn client(
    identity: &SigningIdentity,
    signer: &SignatureSecretKey,
    memory: &Memory,
    crypto: &Crypto,
    trust: Trust,
    lifetime: Duration,
) -> Client<Config> {
    Client::builder()
        .key_package_lifetime(lifetime)
        .crypto_provider(crypto.clone())
        .identity_provider(trust)
        .key_package_repo(memory.clone())
        .group_state_storage(memory.clone())
        .mls_rules(Rules)
        .signing_identity(identity.clone(), signer.clone(), SUITE)
        .build()
}

/// Applies a commit of our own that the ledger has taken.
pub(crate) fn apply_own(group: &mut MlsGroup, secrets: &[u8]) -> Result<(), GroupRefusal> {
    group.apply_detached_commit(CommitSecrets::from_bytes(secrets)?)?;
    Ok(())
}

/// Applies another member's commit that counts. Without a time: lifetimes were judged by the ledger's clock (`judge.rs`).
pub(crate) fn apply(group: &mut MlsGroup, message: MlsMessage) -> Result<(), GroupRefusal> {
    const NO_COMMIT: GroupRefusal = GroupRefusal::Malformed("MLS does not take the commit for one that goes on");
    let ReceivedMessage::Commit(commit) = group.process_incoming_message(message)? else { return Err(NO_COMMIT) };
    match commit.effect {
        CommitEffect::NewEpoch(_) => Ok(()),
        CommitEffect::Removed { .. } | CommitEffect::ReInit(_) => Err(NO_COMMIT),
    }
}

/// The members.
pub(crate) fn leaves(group: &MlsGroup) -> Result<Vec<Leaf>, GroupRefusal> {
    group
        .roster()
        .members_iter()
        .map(|member| {
            let certificate = sha256(leaf_der(&member.signing_identity)?);
            Ok(Leaf { index: member.index, certificate, key: member.signing_identity.signature_key.to_vec() })
        })
        .collect()
}

/// The data plane's secret of the current epoch.
pub(crate) fn exporter_secret(group: &MlsGroup) -> Result<Zeroizing<[u8; 32]>, GroupRefusal> {
    let secret = group.export_secret(EXPORTER_LABEL, b"", 32)?;
    let mut out = Zeroizing::new([0; 32]);
    if secret.as_bytes().len() != out.len() {
        return Err(GroupRefusal::Malformed("the exporter secret does not have 32 bytes"));
    }
    out.copy_from_slice(secret.as_bytes());
    Ok(out)
}

/// The hash by which the ledger knows a key package: SHA-256 of it as an MLS message.
pub(crate) fn key_package_hash(package: &KeyPackage) -> Result<[u8; 32], GroupRefusal> {
    // version mls10, wire format mls_key_package (RFC 9420 section 6)
    let mut message = vec![0, 1, 0, 5];
    message.extend_from_slice(&package.mls_encode_to_vec()?);
    Ok(sha256(&message))
}
