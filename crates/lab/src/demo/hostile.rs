//! The attackers of the experiment: a broker that changes what it carries, and a member that speaks in another's name.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use sealcast_agent::{Folder, Store};
use sealcast_broker::{Intercepted, Interception, Interceptor};
use sealcast_group::{EpochKeys, Groups, Me, Output};
use sealcast_identity::DeviceId;
use sealcast_ledger::GroupNumber;
use sealcast_node::{KeyFiles, now_ms};
use sealcast_seal::{
    Authenticity, Content, Epoch, EpochId, EpochSecret, GroupKeys, LeafIndex, Ledger, Member, Purpose, QosClass,
};
use sealcast_topic::is_control;

/// What the broker does to messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Carries them.
    Honest,
    /// Takes 5 degrees off each value that it can read.
    Lower,
    /// Keeps them to itself.
    Hold,
    /// Of three messages of a topic puts [`FORGED`] in the place of the first and changes the second.
    Forge,
}

/// What the attacker would like others to believe.
pub const FORGED: &str = "20.0";

/// The broker in the attacker's hand.
pub struct Hostile(Mutex<State>);

struct State {
    mode: Mode,
    held: Vec<Intercepted>,
    seen: BTreeMap<String, u64>,
}

impl Hostile {
    /// Honest at first.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { mode: Mode::Honest, held: Vec::new(), seen: BTreeMap::new() })))
    }

    /// What it does from now on.
    pub fn set(&self, mode: Mode) {
        self.state().mode = mode;
    }

    /// What it has kept, oldest first.
    pub fn take_held(&self) -> Vec<Intercepted> {
        std::mem::take(&mut self.state().held)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interceptor for Hostile {
    fn publish(&self, _sender: Option<&str>, message: &mut Intercepted) -> Interception {
        if is_control(&message.topic) {
            return Interception::Forward;
        }
        let mut state = self.state();
        match state.mode {
            Mode::Honest => Interception::Forward,
            Mode::Lower => {
                if let Some(lower) = lowered(&message.payload) {
                    message.payload = lower.into();
                }
                Interception::Forward
            }
            Mode::Hold => {
                state.held.push(message.clone());
                Interception::Drop
            }
            Mode::Forge => {
                let seen = state.seen.entry(message.topic.clone()).or_default();
                match *seen % 3 {
                    0 => message.payload = FORGED.into(),
                    1 => message.payload = flipped(&message.payload).into(),
                    _ => {}
                }
                *seen += 1;
                Interception::Forward
            }
        }
    }
}

/// The number in `payload`, 5 less. Nothing if there is none to be read.
pub fn lowered(payload: &[u8]) -> Option<String> {
    let value: f64 = std::str::from_utf8(payload).ok()?.trim().parse().ok()?;
    Some(format!("{:.1}", value - 5.0))
}

/// `payload` with bits of its middle changed.
pub fn flipped(payload: &[u8]) -> Vec<u8> {
    let mut flipped = payload.to_vec();
    if let Some(byte) = flipped.get_mut(payload.len() / 2) {
        *byte ^= 0x05;
    }
    flipped
}

/// A frame in `victim`'s name, made with what lies in the folder of another member's device: the group's keys, but not
/// the victim's private key.
pub fn forge(thief: &Path, victim: &DeviceId, group: GroupNumber, topic: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let folder = Folder::open(thief)?;
    let EpochKeys { generation, epoch, secret, roster, .. } = newest_epoch(thief, &folder, group)?;
    let (victim_leaf, _) =
        roster.iter().find(|(_, (device, _))| device == victim).context("the victim is not a member")?;
    let leaf = LeafIndex::new(*victim_leaf).context("the victim's leaf")?;
    let own_key = Arc::new(folder.key(&KeyFiles::default())?);
    let id = folder.genesis().id;
    let ledger = Ledger { chain_id: id.chain_id, contract: id.address };
    let mut keys = GroupKeys::new(ledger, sealcast_seal::GroupNumber(group.get()), "forged", victim.clone(), 0);
    keys.insert_epoch(Epoch {
        id: EpochId { generation: generation.0, epoch: epoch.0 },
        secret: EpochSecret::new(*secret),
        own_leaf: leaf,
        roster: BTreeMap::from([(leaf, Member { name: victim.clone(), key: *own_key.public() })]),
        authenticity: Authenticity::Signature,
        since_ms: now_ms(),
        began_at: None,
    })?;
    let content =
        Content { purpose: Purpose::Message, class: QosClass::Acknowledged, retain: false, props: &[], payload };
    Ok(keys.sealer(&own_key)?.seal(now_ms(), topic, &content)?)
}

fn newest_epoch(dir: &Path, folder: &Folder, group: GroupNumber) -> Result<EpochKeys> {
    let me = Me {
        device: folder.device.clone(),
        key: folder.key(&KeyFiles::default())?,
        chain: folder.chain_der(),
        anchors: vec![folder.anchor.clone()],
    };
    let mut groups = Groups::new(me, &folder.genesis(), Store::read_state(dir, None)?, now_ms())?;
    let mut newest: Option<EpochKeys> = None;
    while let Some(output) = groups.poll_output() {
        match output {
            Output::Epoch(keys) if keys.group == group => newest = Some(keys),
            _ => {}
        }
    }
    newest.context("the device holds no keys of the group")
}
