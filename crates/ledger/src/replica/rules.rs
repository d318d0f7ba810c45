//! The contract's rules, in its order: `contracts/SealcastLedger.sol` and this file change together.

use sealcast_identity::PublicKey;

use super::{Event, FaultOutcome, Former, Group, Replica, Signatures, state::Report};
use crate::{
    Body, Epoch, Generation, GroupNumber, KeyRotated, Kind, Number, REPORT_LIFE_S, Refusal, Reporters, SignedEntry,
    topic::is_reserved,
};

impl Replica {
    /// Whether the contract takes the entry in a block of this time, and what it does.
    pub(super) fn decide(&self, entry: &SignedEntry, time_s: u64, signatures: Signatures) -> Result<Event, Refusal> {
        if time_s < self.last_time_s {
            return Err(Refusal::ClockWentBack { last_s: self.last_time_s, block_time_s: time_s });
        }
        let by = entry.originator();
        let key = self.signer(by)?;
        let expected = self.next_nonce(by);
        // The contract's arithmetic is checked: the last nonce of all cannot be used.
        if entry.nonce() != expected || expected == u64::MAX {
            return Err(Refusal::BadNonce { expected, got: entry.nonce() });
        }
        if signatures == Signatures::Check && !entry.is_signed_by(key, &self.current) {
            return Err(Refusal::BadSignature);
        }
        self.permit(entry.body(), by, time_s)
    }

    /// The current key of an originator that may sign.
    pub(super) fn signer(&self, originator: Number) -> Result<&PublicKey, Refusal> {
        if let Some(key) = self.built_in.get(&originator) {
            return Ok(key);
        }
        let device = self.devices.get(&originator).ok_or(Refusal::UnknownDevice { device: originator })?;
        if device.is_active() { Ok(&device.key) } else { Err(Refusal::NotActive { device: originator }) }
    }

    pub(super) fn permit(&self, body: &Body, by: Number, time_s: u64) -> Result<Event, Refusal> {
        let kind = body.kind();
        match body {
            Body::DeviceRegistered(b) => {
                if by != self.ca {
                    return Err(not_authorized(kind, by));
                }
                let device = self.genesis.id.number_of(&b.device);
                let known = self.devices.get(&device);
                if let Some(other) = known.filter(|known| known.id != b.device) {
                    return Err(Refusal::NumberTaken { device, name: other.id.to_string() });
                }
                Ok(Event::DeviceRegistered {
                    device,
                    id: b.device.clone(),
                    former: match known {
                        None => Former::Nothing,
                        Some(known) if known.key == b.public_key => Former::SameKey,
                        Some(_) => Former::OtherKey,
                    },
                    certificate: b.certificate,
                    not_after_s: b.not_after_s,
                })
            }
            Body::DeviceRevoked(b) => {
                if by != self.ca && by != self.operator {
                    return Err(not_authorized(kind, by));
                }
                match self.devices.get(&b.device) {
                    None => Err(Refusal::UnknownDevice { device: b.device }),
                    Some(device) if !device.is_active() => Err(Refusal::AlreadyRevoked { device: b.device }),
                    Some(_) => Ok(Event::DeviceRevoked { device: b.device, reason: b.reason.clone() }),
                }
            }
            Body::KeysPublished(b) => {
                let Some(device) = self.devices.get(&by) else { return Err(not_authorized(kind, by)) };
                if b.certificate != device.certificate {
                    return Err(Refusal::WrongCertificate { expected: device.certificate, got: b.certificate });
                }
                if let Some(taken) = self.keys.get(&b.key_package) {
                    return Err(Refusal::KeyPackageTaken { key_package: b.key_package, device: taken.device });
                }
                Ok(Event::KeysPublished { device: by, key_package: b.key_package, rejoin: b.rejoin })
            }
            Body::GroupCreated(b) => {
                if by != self.operator {
                    return Err(not_authorized(kind, by));
                }
                if let Some(taken) = self.group_names.get(&b.name) {
                    return Err(Refusal::NameTaken { name: b.name.to_string(), group: taken.get() });
                }
                let group = u16::try_from(self.groups.len() + 1).ok().and_then(GroupNumber::new);
                let group = group.ok_or(Refusal::TooManyGroups)?;
                for (i, filter) in b.filters.iter().enumerate() {
                    let twice = b.filters.iter().take(i).any(|earlier| earlier == filter);
                    if let Some(taken) = self.filters.get(filter).or(twice.then_some(&group)) {
                        return Err(Refusal::FilterTaken { filter: filter.to_string(), group: taken.get() });
                    }
                }
                Ok(Event::GroupCreated { group, name: b.name.clone() })
            }
            Body::Granted(b) => {
                self.administered(kind, b.group, by)?;
                match self.devices.get(&b.device) {
                    None => Err(Refusal::UnknownDevice { device: b.device }),
                    Some(device) if !device.is_active() => Err(Refusal::NotActive { device: b.device }),
                    Some(_) if self.is_granted(b.group, b.device) => {
                        Err(Refusal::AlreadyGranted { group: b.group.get(), device: b.device })
                    }
                    Some(_) => Ok(Event::Granted { group: b.group, device: b.device }),
                }
            }
            Body::Revoked(b) => {
                self.administered(kind, b.group, by)?;
                if !self.is_granted(b.group, b.device) {
                    return Err(Refusal::NotGranted { group: b.group.get(), device: b.device });
                }
                Ok(Event::Revoked { group: b.group, device: b.device, reason: b.reason.clone() })
            }
            Body::Commit(b) => {
                let group = self.joined(kind, b.group, by)?;
                // The contract's arithmetic is checked: the last epoch of all cannot be ended.
                if (b.generation, b.epoch) != (group.generation, group.epoch) || b.epoch == Epoch(u64::MAX) {
                    return Err(wrong_epoch(group, b.generation, b.epoch));
                }
                Ok(Event::Committed {
                    group: b.group,
                    generation: b.generation,
                    epoch: b.epoch,
                    commit_bytes: b.commit.len(),
                })
            }
            Body::Reading(b) => {
                let group = self.joined(kind, b.group, by)?;
                let limits = group
                    .limits
                    .get(&b.topic)
                    .ok_or_else(|| Refusal::NoLimits { group: b.group.get(), topic: b.topic.to_string() })?;
                let (verdict, _) = limits.judge(&self.stream(by, b.group, &b.topic), by, b);
                Ok(Event::Reading {
                    group: b.group,
                    topic: b.topic.clone(),
                    value: b.value,
                    decimals: b.decimals,
                    unit: limits.limits.unit.clone(),
                    time_ms: b.time_ms,
                    sequence: b.sequence,
                    verdict,
                })
            }
            Body::Anchor(b) => {
                self.joined(kind, b.group, by)?;
                Ok(Event::Anchored { group: b.group, root: b.root, count: b.count })
            }
            Body::GroupReset(b) => {
                let group = self.administered(kind, b.group, by)?;
                let generation = group.generation.0.checked_add(1).map(Generation);
                let generation = generation.ok_or(Refusal::BadValue {
                    field: "generation".into(),
                    value: u64::from(u32::MAX) + 1,
                    min: 0,
                    max: u32::MAX.into(),
                })?;
                Ok(Event::GroupReset { group: b.group, generation, reason: b.reason.clone() })
            }
            Body::FaultReported(b) => {
                let group = self.joined(kind, b.group, by)?;
                let commit = group.commit(b.epoch).filter(|_| b.generation == group.generation);
                let Some(commit) = commit else { return Err(wrong_epoch(group, b.generation, b.epoch)) };
                let report = Report { author: commit.by, time_s, kept_out: b.kept_out };
                Ok(Event::FaultReported {
                    group: b.group,
                    generation: b.generation,
                    epoch: b.epoch,
                    author: commit.by,
                    kept_out: b.kept_out,
                    outcome: outcome(group, by, report),
                })
            }
            Body::KeyRotated(b) => self.rotate(kind, b, by),
            Body::Moved(b) => {
                if by != self.operator {
                    return Err(not_authorized(kind, by));
                }
                Ok(Event::Moved { to: b.to })
            }
            Body::LimitsSet(b) => {
                let group = self.administered(kind, b.group, by)?;
                let topic = b.topic.as_str();
                if is_reserved(topic) || !group.filters.iter().any(|filter| filter.matches(topic)) {
                    return Err(Refusal::TopicOutside { group: b.group.get(), topic: topic.to_owned() });
                }
                if let Reporters::Listed(devices) = &b.limits.reporters
                    && let Some(device) = devices.iter().find(|device| !self.devices.contains_key(device))
                {
                    return Err(Refusal::UnknownDevice { device: *device });
                }
                let version = group.limits.get(&b.topic).map_or(0, |limits| limits.version) + 1;
                Ok(Event::LimitsSet { group: b.group, topic: b.topic.clone(), version })
            }
        }
    }

    fn rotate(&self, kind: Kind, b: &KeyRotated, by: Number) -> Result<Event, Refusal> {
        let id = &self.genesis.id;
        let may_be_given = [(id.root(), self.ca), (self.operator, self.operator)].contains(&(by, b.whose));
        if !may_be_given {
            return Err(not_authorized(kind, by));
        }
        for originator in [id.root(), self.ca, self.operator] {
            if self.built_in.get(&originator) == Some(&b.public_key) {
                return Err(Refusal::KeyInUse { originator });
            }
        }
        if !b.is_proven(id) {
            return Err(Refusal::BadProof);
        }
        Ok(Event::KeyRotated { whose: b.whose, public_key: b.public_key })
    }

    fn existing(&self, group: GroupNumber) -> Result<&Group, Refusal> {
        self.group(group).ok_or(Refusal::UnknownGroup { group: group.get() })
    }

    /// The group, if `by` may say who is in it.
    fn administered(&self, kind: Kind, group: GroupNumber, by: Number) -> Result<&Group, Refusal> {
        let group = self.existing(group)?;
        if by == group.owner { Ok(group) } else { Err(not_authorized(kind, by)) }
    }

    /// The group, if `by` is a device that may be in it.
    fn joined(&self, kind: Kind, group: GroupNumber, by: Number) -> Result<&Group, Refusal> {
        if self.built_in.contains_key(&by) {
            return Err(not_authorized(kind, by));
        }
        let found = self.existing(group)?;
        if self.is_granted(group, by) { Ok(found) } else { Err(Refusal::NotGranted { group: group.get(), device: by }) }
    }
}

/// What comes of a report by a device, with what the others have said.
fn outcome(group: &Group, by: Number, report: Report) -> FaultOutcome {
    let (members, mut say, mut blame) = (group.grants.len(), 0, 0);
    for member in group.grants.keys() {
        let said = if *member == by { Some(&report) } else { group.report(*member).map(|(_, report)| report) };
        let Some(said) = said.filter(|said| said.author == report.author) else { continue };
        if said.time_s + REPORT_LIFE_S >= report.time_s {
            say += 1;
            blame += usize::from(!said.kept_out);
        }
    }
    match (say * 2 > members, blame * 2 > members) {
        (_, true) => FaultOutcome::AuthorOut,
        (true, false) => FaultOutcome::FoundedAnew,
        (false, false) => FaultOutcome::Noted,
    }
}

fn wrong_epoch(group: &Group, generation: Generation, epoch: Epoch) -> Refusal {
    Refusal::WrongEpoch {
        expected_generation: group.generation.0,
        expected_epoch: group.epoch.0,
        got_generation: generation.0,
        got_epoch: epoch.0,
    }
}

fn not_authorized(kind: Kind, originator: Number) -> Refusal {
    Refusal::NotAuthorized { kind: kind.number(), originator }
}
