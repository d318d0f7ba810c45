//! Who takes part: a CA, an operator, a ledger in memory, and devices.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use sealcast_agent_core::Own;
use sealcast_group::Me;
use sealcast_identity::{Authority, DeviceId, Root, SigningKey, TrustAnchor};
use sealcast_ledger::{
    AttestedHead, Authenticity, Body, DeviceRegistered, DeviceRevoked, Genesis, Granted, GroupCreated, GroupNumber,
    GroupReset, LedgerId, Number, Policy, Refusal, Revoked, testing::MemoryLedger,
};

/// When a run begins, Unix ms.
pub const START_MS: u64 = 1_767_225_600_000;
const DAY: Duration = Duration::from_secs(86_400);
/// Old epochs that members keep: so many that nothing in a run is lost for want of its key.
const RETENTION: u16 = 64;
/// Members seal nothing when the operator's word on the ledger is older, seconds.
pub const WORD_MAX_AGE_S: u32 = 15;

/// A device's identity.
pub struct Device {
    /// Its name.
    pub id: DeviceId,
    /// Its number on the ledger.
    pub number: Number,
    key: Arc<SigningKey>,
    registration: DeviceRegistered,
    /// Its certificate and the CA's, DER.
    pub chain: Vec<Vec<u8>>,
}

/// See the module.
pub struct Cast {
    root: Root,
    authority: Authority,
    operator: SigningKey,
    /// What the ledger starts from.
    pub genesis: Genesis,
    /// The ledger.
    pub ledger: MemoryLedger,
    /// The devices.
    pub devices: Vec<Device>,
    /// The one group, which covers `plant/#`.
    pub group: GroupNumber,
}

impl Cast {
    /// So many devices, registered and granted one group.
    pub fn new(devices: usize) -> Result<Self> {
        let root = Root::create("simulation", START_MS, 3650 * DAY)?;
        let authority = root.create_authority("simulation", START_MS, 3000 * DAY)?;
        let operator = SigningKey::generate()?;
        let id = LedgerId { chain_id: 5318, address: [7; 20] };
        let (root_key, ca_key) = (*root.certificate().public_key(), *authority.key().public());
        let genesis = Genesis { id, root: root_key, ca: ca_key, operator: *operator.public() };
        let group = GroupNumber::new(1).context("a group's number")?;
        let ledger = MemoryLedger::new(genesis);
        let mut cast = Self { root, authority, operator, genesis, ledger, devices: Vec::new(), group };
        let policy = Policy {
            epoch_max_age_s: None,
            epoch_max_messages: None,
            retention: RETENTION,
            authenticity: Authenticity::Signature,
            ledger_max_age_s: NonZeroU32::new(WORD_MAX_AGE_S),
        };
        let created = GroupCreated { name: "plant".parse()?, filters: vec!["plant/#".parse()?], policy };
        cast.operate(&Body::GroupCreated(created), START_MS)?;
        for place in 0..devices {
            let device = cast.device(&(1111 + place).to_string())?;
            cast.devices.push(device);
            cast.register(place, START_MS)?;
            cast.grant(place, START_MS)?;
        }
        Ok(cast)
    }

    fn device(&self, name: &str) -> Result<Device> {
        let id: DeviceId = name.parse()?;
        let key = SigningKey::generate()?;
        let issued = self.authority.issue_device(&id, key.public(), START_MS, 365 * DAY)?;
        let registration = DeviceRegistered::new(id.clone(), &issued.certificate)?;
        let chain = vec![issued.certificate.der().to_vec(), issued.issuer.der().to_vec()];
        Ok(Device { number: self.genesis.id.number_of(&id), id, key: Arc::new(key), registration, chain })
    }

    /// The CA registers a device, or does so again.
    pub fn register(&mut self, device: usize, now_ms: u64) -> Result<()> {
        let body = Body::DeviceRegistered(self.devices[device].registration.clone());
        let entry =
            body.sign(self.authority.key(), self.genesis.id.ca(), self.nonce(self.genesis.id.ca()), &self.genesis.id)?;
        Ok(self.ledger.submit(&entry, now_ms / 1000).map(drop)?)
    }

    /// The operator grants the group to a device.
    pub fn grant(&mut self, device: usize, now_ms: u64) -> Result<(), Refusal> {
        let device = self.devices[device].number;
        self.operate(&Body::Granted(Granted { group: self.group, device }), now_ms)
    }

    /// The operator takes the grant back.
    pub fn revoke(&mut self, device: usize, now_ms: u64) -> Result<(), Refusal> {
        let device = self.devices[device].number;
        self.operate(&Body::Revoked(Revoked { group: self.group, device, reason: reason() }), now_ms)
    }

    /// The operator revokes a device.
    pub fn revoke_device(&mut self, device: usize, now_ms: u64) -> Result<(), Refusal> {
        let device = self.devices[device].number;
        self.operate(&Body::DeviceRevoked(DeviceRevoked { device, reason: reason() }), now_ms)
    }

    /// The operator resets the group.
    pub fn reset(&mut self, now_ms: u64) -> Result<(), Refusal> {
        self.operate(&Body::GroupReset(GroupReset { group: self.group, reason: reason() }), now_ms)
    }

    /// The operator's word on how far the ledger is, and the statement of it.
    pub fn attest(&self, now_ms: u64) -> Result<(AttestedHead, Vec<u8>)> {
        let replica = self.ledger.replica();
        let said = AttestedHead { time_ms: now_ms, height: replica.height(), head: replica.head() };
        Ok((said, said.sign(&self.operator, &self.genesis.id)?))
    }

    /// Whether a device is granted the group, by the ledger.
    pub fn is_granted(&self, device: usize) -> bool {
        let replica = self.ledger.replica();
        let number = self.devices[device].number;
        replica.is_granted(self.group, number) && replica.device(number).is_some_and(sealcast_ledger::Device::is_active)
    }

    fn nonce(&self, originator: Number) -> u64 {
        self.ledger.replica().next_nonce(originator)
    }

    fn operate(&mut self, body: &Body, now_ms: u64) -> Result<(), Refusal> {
        let originator = self.genesis.id.operator();
        let signed = body.sign(&self.operator, originator, self.nonce(originator), &self.genesis.id);
        let entry = signed.unwrap_or_else(|error| unreachable!("the operator's key signs: {error}"));
        self.ledger.submit(&entry, now_ms / 1000).map(drop)
    }

    /// A device's place, by its name.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.devices.iter().position(|device| device.id.as_str() == name)
    }

    /// A device as its keyring has it.
    pub fn own(&self, device: usize) -> Own {
        let Device { id, number, key, registration, .. } = &self.devices[device];
        Own { device: id.clone(), number: *number, certificate: registration.certificate, key: key.clone() }
    }

    /// A device as its groups have it.
    pub fn me(&self, device: usize) -> Result<Me> {
        let Device { id, key, chain, .. } = &self.devices[device];
        let key = SigningKey::clone(key);
        let anchor = TrustAnchor::new(self.root.certificate().clone())?;
        Ok(Me { device: id.clone(), key, chain: chain.clone(), anchors: vec![anchor] })
    }
}

fn reason() -> sealcast_ledger::Reason {
    "simulated".parse().unwrap_or_else(|error| unreachable!("a reason: {error}"))
}
