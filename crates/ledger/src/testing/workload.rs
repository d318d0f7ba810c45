//! Entries at random: most are good, many break one rule.

use sealcast_identity::{KeyError, SigningKey};

use super::Cast;
use crate::{
    Anchor, Authenticity, Body, Commit, DeviceRevoked, Epoch, FaultReported, Generation, Granted, Group, GroupCreated,
    GroupName, GroupNumber, GroupReset, Hash, KeyRotated, KeysPublished, Limits, LimitsSet, Number, Policy, Reading,
    ReadingTopic, Reason, Replica, Reporters, Revoked, SequenceRule, SignError, SignedEntry, TopicFilter,
};

/// A source of entries for one ledger. The same seed gives the same kinds of entries in the same order, for ledgers
/// that answer alike; keys and signatures differ.
#[derive(Debug)]
pub struct Workload {
    /// Everybody who may originate entries.
    pub cast: Cast,
    /// Keys that originators had before: theirs still if the entry was refused that gives them another.
    replaced: Vec<SigningKey>,
    random: u64,
}

impl Workload {
    /// With this cast, from this seed.
    #[must_use]
    pub fn new(cast: Cast, seed: u64) -> Self {
        Self { cast, replaced: Vec::new(), random: seed ^ 0x9e37_79b9_7f4a_7c15 }
    }

    /// SplitMix64, so that this needs no crate and its sequence never changes.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `bound - 1`.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// An entry for a ledger in the state of `replica`.
    pub fn entry(&mut self, replica: &Replica) -> Result<SignedEntry, SignError> {
        let (likely, body) = self.body(replica)?;
        let originator = if self.one_in(8) { self.anyone() } else { likely };
        let next = replica.next_nonce(originator);
        let nonce = if self.one_in(20) { next.wrapping_add(self.next() % 3).wrapping_sub(1) } else { next };
        let mut ledger = *replica.current_id();
        if self.one_in(40) {
            ledger.chain_id ^= 1;
        }
        let signer = if self.one_in(30) { self.anyone() } else { originator };
        body.sign(self.key(replica, signer), originator, nonce, &ledger)
    }

    /// The key that the ledger knows; the newest if it knows none.
    ///
    /// # Panics
    /// If the signer is not in the cast.
    #[must_use]
    pub fn key(&self, replica: &Replica, signer: Number) -> &SigningKey {
        let newest = &self.cast.keys[&signer];
        let known = replica.key_of(signer);
        std::iter::once(newest).chain(&self.replaced).find(|key| Some(key.public()) == known).unwrap_or(newest)
    }

    fn anyone(&mut self) -> Number {
        let at = self.below(self.cast.keys.len());
        self.cast.keys.keys().nth(at).copied().unwrap_or_else(|| self.cast.genesis.id.ca())
    }

    fn device(&mut self) -> usize {
        self.below(self.cast.devices.len())
    }

    /// Mostly one that exists.
    fn group(&mut self, replica: &Replica) -> GroupNumber {
        let beyond = usize::from(self.one_in(12));
        let number = self.below(replica.groups().count() + beyond) + 1;
        u16::try_from(number).ok().and_then(GroupNumber::new).unwrap_or_else(|| unreachable!("from 1 on"))
    }

    fn hash(&mut self) -> Hash {
        Hash::of(&self.next().to_be_bytes())
    }

    fn reason(&mut self) -> Reason {
        parsed(["", "lost", "décommissionné", "電池"][self.below(4)])
    }

    /// A body, and who would say it.
    fn body(&mut self, replica: &Replica) -> Result<(Number, Body), KeyError> {
        let id = self.cast.genesis.id;
        let (ca, operator) = (id.ca(), id.operator());
        let at = self.device();
        let device = self.cast.number(at);
        let group = self.group(replica);
        let of = replica.group(group);
        let administrator = if self.one_in(8) { device } else { operator };
        let member = match of.map(|group| group.grants.len()) {
            Some(n) if n > 0 && !self.one_in(6) => {
                let at = self.below(n);
                of.and_then(|group| group.grants.keys().nth(at)).copied().unwrap_or(device)
            }
            _ => device,
        };
        Ok(match self.below(104) {
            100.. => self.rotation()?,
            0..14 => {
                if replica.device(device).is_some() && self.one_in(3) {
                    self.replaced.extend(self.cast.keys.insert(device, SigningKey::generate()?));
                }
                let certificate = self.hash();
                (ca, self.cast.registration(at, certificate))
            }
            14..18 => {
                let by = if self.one_in(2) { ca } else { operator };
                (by, Body::DeviceRevoked(DeviceRevoked { device, reason: self.reason() }))
            }
            18..30 => {
                let registered = replica.device(device).map(|device| device.certificate);
                let certificate = if self.one_in(8) { None } else { registered };
                let certificate = certificate.unwrap_or_else(|| self.hash());
                let used = replica.latest_keys(device).map(|keys| keys.key_package);
                let key_package = if self.one_in(8) { used } else { None };
                let key_package = key_package.unwrap_or_else(|| self.hash());
                (device, Body::KeysPublished(KeysPublished { key_package, certificate, rejoin: self.one_in(4) }))
            }
            30..40 => {
                let by = if self.one_in(8) { device } else { operator };
                (by, Body::GroupCreated(self.new_group()))
            }
            40..55 => (administrator, Body::Granted(Granted { group, device })),
            55..61 => {
                let reason = self.reason();
                (administrator, Body::Revoked(Revoked { group, device: member, reason }))
            }
            61..72 => {
                let (mut generation, mut epoch) = of.map_or_else(Default::default, |g| (g.generation, g.epoch));
                match self.below(12) {
                    0 => epoch = Epoch(epoch.0 + 1),
                    1 => epoch = Epoch(epoch.0.saturating_sub(1)),
                    2 => generation = Generation(generation.0 + 1),
                    _ => {}
                }
                let commit = vec![0x5a; self.below(700) + 1];
                (member, Body::Commit(Commit { group, generation, epoch, commit }))
            }
            72..77 => {
                let set = LimitsSet { group, topic: self.topic(of), limits: self.limits() };
                (administrator, Body::LimitsSet(set))
            }
            77..91 => {
                let limited = of.map_or(0, |group| group.limits.len());
                let topic = if limited == 0 || self.one_in(6) { self.topic(of) } else { self.limited(of, limited) };
                let last = replica.last_sequence(member, group, &topic).unwrap_or(0);
                let sequence = match self.below(8) {
                    0 => last,
                    1 => last.saturating_add(self.next() % 4),
                    _ => last.saturating_add(1),
                };
                let (value, decimals) = self.value();
                let reading = Reading { group, topic, time_ms: self.next(), sequence, value, decimals };
                (member, Body::Reading(reading))
            }
            91..94 => {
                let root = self.hash();
                (member, Body::Anchor(Anchor { group, root, count: self.below(1000) as u32 + 1 }))
            }
            94..98 => {
                let generation = of.map_or_else(Default::default, |group| group.generation);
                let ended = of.map_or(0, |group| group.epoch.0);
                let beyond = u64::from(self.one_in(6));
                let epoch = Epoch(self.next() % (ended + beyond).max(1));
                let report = FaultReported { group, generation, epoch, kept_out: self.one_in(3) };
                (member, Body::FaultReported(report))
            }
            _ => (administrator, Body::GroupReset(GroupReset { group, reason: self.reason() })),
        })
    }

    /// A new key for the CA or the operator, or for somebody who gets none so.
    fn rotation(&mut self) -> Result<(Number, Body), KeyError> {
        let id = self.cast.genesis.id;
        let (by, whose) = [(id.root(), id.ca()), (id.operator(), id.operator())][self.below(2)];
        let (by, whose) = if self.one_in(4) { (self.anyone(), self.anyone()) } else { (by, whose) };
        // One that somebody has already, or a new one.
        let mut key = SigningKey::generate()?;
        if self.one_in(4) {
            let other = self.anyone();
            key = self.cast.keys[&other].clone();
        }
        let mut rotated = KeyRotated::to(&key, if self.one_in(6) { self.anyone() } else { whose }, &id)?;
        rotated.whose = whose;
        self.replaced.extend(self.cast.keys.insert(whose, key));
        Ok((by, Body::KeyRotated(rotated)))
    }

    /// Mostly one that the group's first filter matches.
    fn topic(&mut self, group: Option<&Group>) -> ReadingTopic {
        match group.and_then(|group| group.filters.first()) {
            Some(filter) if !self.one_in(5) => {
                let topic = filter.as_str().replace('+', "x").replace('#', "y/z");
                topic.parse().unwrap_or_else(|_| parsed("/"))
            }
            _ => parsed(["hsu/1111/temp", "/", "ü/x", "a", "a/b", "sealcast/x", "$SYS/x"][self.below(7)]),
        }
    }

    /// One of the topics that have limits.
    fn limited(&mut self, group: Option<&Group>, count: usize) -> ReadingTopic {
        let at = self.below(count);
        let topic = group.and_then(|group| group.limits.keys().nth(at));
        topic.cloned().unwrap_or_else(|| parsed("/"))
    }

    /// Around the limits, so that each verdict comes, and now and then at the ends of what can be written.
    fn value(&mut self) -> (i128, u8) {
        match self.below(12) {
            0 => ([i128::MIN, i128::MAX, 0, 1][self.below(4)], [0, 1, 2, 38][self.below(4)]),
            1 => (i128::from(self.next() as i64) * 1_000_003, self.below(39) as u8),
            _ => {
                let decimals = self.below(4) as u8;
                // -30 to 130, in tenths or finer by zeros.
                (i128::from(self.next() % 1_600) - 300, 1).scaled(decimals)
            }
        }
    }

    fn limits(&mut self) -> Limits {
        let listed = (0..self.below(3)).map(|_| self.anyone()).collect();
        let decimals = [0, 1, 2, 38][self.below(4)];
        let (min, max) = if decimals > 2 || self.one_in(6) { (i128::MIN, i128::MAX) } else { (-100, 1_000) };
        Limits {
            min,
            max,
            max_step: std::num::NonZeroU128::new([0, 50, 500][self.below(3)]),
            decimals,
            unit: parsed(["", "Cel", "°", "m/s2"][self.below(4)]),
            sequence: if self.one_in(2) { SequenceRule::Gapless } else { SequenceRule::Increasing },
            reporters: if self.one_in(3) { Reporters::Listed(listed) } else { Reporters::Granted },
        }
    }

    fn new_group(&mut self) -> GroupCreated {
        let filters = (0..=self.below(3)).map(|_| self.filter()).collect();
        let name: GroupName = parsed(&format!("hsu{:04}", self.below(60)));
        let policy = Policy {
            epoch_max_age_s: std::num::NonZeroU32::new(self.below(2) as u32 * 3600),
            epoch_max_messages: std::num::NonZeroU32::new(self.below(2) as u32 * 100_000),
            retention: self.below(10) as u16,
            authenticity: if self.one_in(2) { Authenticity::Signature } else { Authenticity::Group },
            ledger_max_age_s: std::num::NonZeroU32::new(self.below(2) as u32 * 600),
        };
        GroupCreated { name, filters, policy }
    }

    fn filter(&mut self) -> TopicFilter {
        let levels: Vec<_> = (0..=self.below(3)).map(|_| ["a", "b", "c", "1111", "+", ""][self.below(6)]).collect();
        let end = if self.one_in(3) { "/#" } else { "" };
        let text = format!("{}{end}", levels.join("/"));
        if text.is_empty() { parsed("#") } else { parsed(&text) }
    }
}

/// The same number with other decimals, where that is exact; else with other digits.
trait Scaled {
    fn scaled(self, decimals: u8) -> (i128, u8);
}

impl Scaled for (i128, u8) {
    fn scaled(self, decimals: u8) -> (i128, u8) {
        let factor = 10_i128.pow(u32::from(decimals.saturating_sub(self.1)));
        (self.0 * factor, decimals)
    }
}

/// A text of this file's own, which is known to be good.
fn parsed<T: std::str::FromStr<Err = crate::Refusal>>(text: &str) -> T {
    text.parse().unwrap_or_else(|e| unreachable!("{text:?}: {e}"))
}
