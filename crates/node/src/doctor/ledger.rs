//! What the ledger says of a fleet: devices, groups, and the operator's word on how far it is.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use sealcast_group::PublicGroups;
use sealcast_ledger::{AttestedHead, DeviceState, Genesis, Group, Hash, Number, Record, Replica, ReplicaError};

use super::Report;
use crate::output::utc;

/// What the members of a group may take to let a device in, or to take one out, before somebody should look.
const PATIENCE_S: u64 = 60;
/// Names in one line.
const MAX_NAMES: usize = 5;
const START_AGENTS: &str = "start the agents of the group's devices: the members let others in and take them out. Their \
                            logs say what is in the way";
const ATTEST: &str = "run `sealcast operator` where the operator's folder is, all the time";

/// A device, and what tells whether it holds the keys of a group.
type OwnKeys<'a> = (Number, &'a dyn Fn(&Group) -> bool);

/// What records come to.
pub struct Known {
    /// Devices, groups and grants.
    pub replica: Replica,
    /// The last record.
    pub last: Option<Record>,
    groups: PublicGroups,
    /// When each record was written, Unix seconds.
    times_s: Vec<u64>,
}

impl Known {
    /// Applies records from the first one on. Each head is computed anew; signatures are not verified again.
    ///
    /// # Errors
    /// One of them does not continue the ledger.
    pub fn new(genesis: Genesis, records: impl IntoIterator<Item = Result<Record>>) -> Result<Self> {
        let mut known = Self::begun(genesis);
        for record in records {
            let record = record?;
            let applied = known.replica.apply_without_signature_check(&record);
            known.handle_applied(&record, applied.map(drop))?;
        }
        Ok(known)
    }

    /// A ledger that has no records yet.
    pub fn begun(genesis: Genesis) -> Self {
        Self { replica: Replica::new(genesis), last: None, groups: PublicGroups::default(), times_s: Vec::new() }
    }

    /// Verifies the next record, its signature as well, and applies it: where it comes from somebody else.
    ///
    /// # Errors
    /// It does not continue the ledger.
    pub fn apply(&mut self, record: &Record) -> Result<()> {
        let applied = self.replica.apply(record);
        self.handle_applied(record, applied.map(drop))
    }

    fn handle_applied(&mut self, record: &Record, applied: Result<(), ReplicaError>) -> Result<()> {
        applied.with_context(|| format!("entry {} does not continue the ledger", record.index))?;
        self.groups.handle_record(&self.replica, record);
        self.times_s.push(record.time_s);
        self.last = Some(record.clone());
        Ok(())
    }

    /// How far the ledger is.
    pub fn check(&self, report: &mut Report) {
        let replica = &self.replica;
        let found = match replica.height() {
            0 => "no entry yet".to_owned(),
            1 => format!("1 entry, of {}, head {}", utc(replica.last_time_s()), short(replica.head())),
            height => {
                format!("{height} entries, the last of {}, head {}", utc(replica.last_time_s()), short(replica.head()))
            }
        };
        report.ok("ledger", found);
    }

    /// Compares with how far somebody else is, called `who`. `is_live`: this copy should be as new.
    pub fn check_other(&self, report: &mut Report, who: &str, height: u64, head: Hash, is_live: bool) {
        let own = self.replica.height();
        match self.replica.head_at(height) {
            Some(known) if known != head => report.fail(
                "ledger",
                format!("{who} shows another ledger: its entry {} is not the one here", height.saturating_sub(1)),
                "one of both was replaced or restored from a backup: compare with `sealcast ledger verify` at the \
                 operator's, and see docs/recovery.md",
            ),
            Some(_) if height < own => report.warn(
                "ledger",
                format!("{who} has {height} entries, and here are {own}"),
                "if it stays so, the ledger was restored from an old backup, or its newest entries are withheld: \
                 docs/recovery.md",
            ),
            Some(_) => report.ok("ledger", format!("{who} has the same {own} entries")),
            None if is_live => report.warn(
                "ledger",
                format!("{who} has {height} entries, and here are {own}"),
                "it should have them in seconds: run this again, and see the log if it stays so",
            ),
            None => report
                .ok("ledger", format!("{who} has {height} entries: a start reads the {} missing ones", height - own)),
        }
    }

    /// What the ledger says of a device and of its certificate with this fingerprint.
    pub fn check_device(&self, report: &mut Report, number: Number, certificate: Hash) {
        let check = "registration";
        let Some(device) = self.replica.device(number) else {
            return report.warn(
                check,
                "the ledger, as far as it is known here, does not have this device",
                "nothing, if the agent was never started; else see its log for why it cannot read the ledger",
            );
        };
        let enrol = format!("if it is to go on, enrol it again in an empty folder: sealcast device add {}", device.id);
        if let DeviceState::Revoked { reason, .. } = &device.state {
            return report.fail(check, format!("{} is revoked on the ledger: {reason}", device.id), enrol);
        }
        match device.registration_of(&certificate) {
            None => report.warn(
                check,
                "the ledger, as far as it is known here, has another certificate of this device",
                "nothing, if it was renewed just now; else this folder was replaced by another one of the same device: \
                 use that one",
            ),
            Some(registration) => match registration.revocation {
                Some(revocation) => {
                    let found = format!("this certificate is revoked on the ledger since {}", utc(revocation.time_s));
                    report.fail(check, found, enrol);
                }
                None => report.ok(check, format!("the ledger has {} with this certificate", device.id)),
            },
        }
    }

    /// The groups: all of them, or those that a device is granted or a member of, with what tells whether it holds the keys.
    pub fn check_groups(&self, report: &mut Report, own: Option<OwnKeys<'_>>, now_s: u64) {
        let mut any = false;
        for group in self.replica.groups() {
            let members = self.groups.members(&self.replica, group.number);
            let granted: BTreeSet<Number> =
                self.replica.granted_devices(group.number).map(|device| device.number).collect();
            if let Some((own, has_keys)) = own {
                if !granted.contains(&own) && !members.contains(&own) {
                    continue;
                }
                if members.contains(&own) && granted.contains(&own) && !has_keys(group) {
                    report.warn(
                        "groups",
                        format!("{}: this device is a member, and has no keys here yet", group.name),
                        "start its agent, and that of another member: it sends the keys again. The log says what is in \
                         the way",
                    );
                }
            }
            any = true;
            self.check_group(report, group, &members, &granted, now_s);
        }
        if !any {
            let found = match own {
                None => "there is no group: sealcast group create makes one",
                Some(_) => "this device is granted no group, as far as the ledger is known here",
            };
            report.ok("groups", found);
        }
    }

    fn check_group(
        &self,
        report: &mut Report,
        group: &Group,
        members: &BTreeSet<Number>,
        granted: &BTreeSet<Number>,
        now_s: u64,
    ) {
        let what = format!(
            "{}: {} of {} granted devices are members, epoch {}",
            group.name,
            members.intersection(granted).count(),
            granted.len(),
            group.epoch.0
        );
        let since = |number: &&Number| {
            let index = group.grants.get(*number).copied().or_else(|| group.revoked_at(**number));
            index.and_then(|index| self.times_s.get(usize::try_from(index).ok()?)).copied().unwrap_or(0)
        };
        let is_late = |number: &&Number| now_s.saturating_sub(since(number)) > PATIENCE_S;
        let out: Vec<&Number> = granted.difference(members).filter(is_late).collect();
        let left: Vec<&Number> = members.difference(granted).filter(is_late).collect();
        if members.is_empty() && !out.is_empty() {
            report.fail("groups", format!("{what}: it has stopped, since nobody has its keys"), START_AGENTS);
        } else if !left.is_empty() {
            report.warn("groups", format!("{what}; {} still has its keys, or have", self.names(&left)), START_AGENTS);
        } else if !out.is_empty() {
            report.warn("groups", format!("{what}; {} wait to be let in", self.names(&out)), START_AGENTS);
        } else {
            report.ok("groups", what);
        }
    }

    fn names(&self, numbers: &[&Number]) -> String {
        let name = |number: &&Number| self.replica.name_of(**number).map_or_else(|| number.to_string(), str::to_owned);
        let mut names: Vec<String> = numbers.iter().take(MAX_NAMES).map(name).collect();
        if numbers.len() > MAX_NAMES {
            names.push(format!("{} others", numbers.len() - MAX_NAMES));
        }
        names.join(", ")
    }

    /// How old the operator's newest word on the ledger is: `bytes` are what the broker keeps, if it keeps any. Where there
    /// is a limit, it may be so many ms old.
    pub fn check_word(&self, report: &mut Report, bytes: Option<&[u8]>, limit_ms: Option<u64>, now_ms: u64) {
        let check = "operator";
        let needs = |group: &&Group| group.policy.ledger_max_age_s.is_some();
        let needing = self.replica.groups().find(needs).map(|group| group.name.to_string());
        let genesis = self.replica.genesis();
        let Some(bytes) = bytes else {
            return match needing {
                Some(group) => {
                    report.fail(
                        check,
                        format!("there is no word of the operator, which {group} needs to seal"),
                        ATTEST,
                    );
                }
                None => report.ok(
                    check,
                    "there is no word of the operator on how far the ledger is (sealcast operator gives it, so that \
                     agents notice what is withheld)",
                ),
            };
        };
        let said = self.replica.key_of(genesis.id.operator()).context("the ledger has no operator");
        let said = said.and_then(|key| Ok(AttestedHead::verify(bytes, key, &genesis.id)?));
        let Some(said) = report.attempt(check, said.context("what the broker keeps as the operator's word"), ATTEST)
        else {
            return;
        };
        let age_ms = now_ms.saturating_sub(said.time_ms);
        let found = format!("the operator's last word is of {}: {} entries", utc(said.time_ms / 1000), said.height);
        match limit_ms {
            Some(limit_ms) if age_ms > limit_ms => report.warn(check, format!("{found}. That is too long ago"), ATTEST),
            _ => report.ok(check, found),
        }
    }
}

/// Enough of a head for a person to compare.
fn short(head: Hash) -> String {
    head.to_string().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, path::Path};

    use sealcast_ledger::{
        Authenticity, Body, DeviceRevoked, Granted, GroupCreated, LedgerId, Policy,
        testing::{Cast, MemoryLedger},
    };

    use super::*;
    use crate::doctor::CheckVerdict::{self, Failure, Ok as Fine, Warning};

    const NOW_S: u64 = 1_795_365_913;

    /// Two devices are registered, and the first is granted a group.
    struct World {
        cast: Cast,
        ledger: MemoryLedger,
    }

    impl World {
        fn new(ledger_max_age_s: Option<NonZeroU32>) -> Self {
            let cast = Cast::new(LedgerId { chain_id: 1, address: [7; 20] }, 2).unwrap();
            let mut world = Self { ledger: MemoryLedger::new(cast.genesis), cast };
            for device in 0..2 {
                let body = world.cast.registration(device, certificate(device));
                world.submit(world.cast.genesis.id.ca(), &body);
            }
            let policy = Policy {
                epoch_max_age_s: None,
                epoch_max_messages: None,
                retention: 1,
                authenticity: Authenticity::Signature,
                ledger_max_age_s,
            };
            let filters = vec!["plant/#".parse().unwrap()];
            world.operate(&Body::GroupCreated(GroupCreated { name: "plant".parse().unwrap(), filters, policy }));
            let group = world.ledger.replica().groups().next().unwrap().number;
            world.operate(&Body::Granted(Granted { group, device: world.cast.number(0) }));
            world
        }

        fn operate(&mut self, body: &Body) {
            self.submit(self.cast.genesis.id.operator(), body);
        }

        fn submit(&mut self, originator: Number, body: &Body) {
            let entry = self.cast.sign(self.ledger.replica(), originator, body).unwrap();
            self.ledger.submit(&entry, NOW_S).unwrap();
        }

        fn known(&self) -> Known {
            Known::new(self.cast.genesis, self.ledger.records().iter().cloned().map(Ok)).unwrap()
        }
    }

    fn certificate(device: usize) -> Hash {
        Hash::of(&[u8::try_from(device).unwrap()])
    }

    fn found(check: impl FnOnce(&mut Report)) -> (CheckVerdict, String) {
        let mut report = Report::new("agent", Path::new("."));
        check(&mut report);
        let [check] = report.checks() else { panic!("{:?}", report.checks()) };
        (check.verdict, check.found.clone())
    }

    #[test]
    fn a_group_stops_when_nobody_has_its_keys_for_a_minute() {
        let world = World::new(None);
        let known = world.known();
        let at = |now_s| found(|report| known.check_groups(report, None, now_s));
        assert_eq!(at(NOW_S + 60).0, Fine);
        let (verdict, text) = at(NOW_S + 61);
        assert_eq!(verdict, Failure);
        assert_eq!(
            text,
            "plant: 0 of 1 granted devices are members, epoch 0: it has stopped, since nobody has its keys"
        );
        // It is nothing to a device that is not granted.
        let of_other = |report: &mut Report| {
            known.check_groups(report, Some((world.cast.number(1), &|_| false)), NOW_S + 61);
        };
        assert_eq!(
            found(of_other),
            (Fine, "this device is granted no group, as far as the ledger is known here".into())
        );
    }

    #[test]
    fn a_device_is_registered_with_its_certificate_or_revoked() {
        let mut world = World::new(None);
        let of = |known: &Known, number, certificate| found(|report| known.check_device(report, number, certificate)).0;
        let (known, number) = (world.known(), world.cast.number(1));
        assert_eq!(of(&known, number, certificate(1)), Fine);
        assert_eq!(of(&known, number, certificate(0)), Warning);
        let unknown = world.cast.genesis.id.number_of(&"9999".parse().unwrap());
        assert_eq!(of(&known, unknown, certificate(1)), Warning);
        world.operate(&Body::DeviceRevoked(DeviceRevoked { device: number, reason: "sold".parse().unwrap() }));
        assert_eq!(of(&world.known(), number, certificate(1)), Failure);
    }

    #[test]
    fn another_copy_of_the_ledger_is_the_same_one_or_not() {
        let known = World::new(None).known();
        let (height, head) = (known.replica.height(), known.replica.head());
        let of = |height, head, is_live| found(|report| known.check_other(report, "the hub", height, head, is_live)).0;
        assert_eq!(of(height, head, true), Fine);
        assert_eq!(of(height, Hash::of(b"other"), true), Failure);
        assert_eq!(of(height - 1, known.replica.head_at(height - 1).unwrap(), true), Warning);
        assert_eq!(of(height + 1, Hash::of(b"newer"), false), Fine);
        assert_eq!(of(height + 1, Hash::of(b"newer"), true), Warning);
        let other = World::new(None);
        let records = known.replica.height();
        let foreign = Known::new(*known.replica.genesis(), other.ledger.records().iter().cloned().map(Ok));
        assert!(foreign.is_err() && records == 4, "a ledger of other keys is not taken");
    }

    #[test]
    fn the_operators_word_is_young_old_forged_or_missing() {
        let world = World::new(None);
        let (known, genesis) = (world.known(), world.cast.genesis);
        let now_ms = NOW_S * 1000;
        let word = |originator, time_ms| {
            let said = AttestedHead { time_ms, height: known.replica.height(), head: known.replica.head() };
            said.sign(&world.cast.keys[&originator], &genesis.id).unwrap()
        };
        let of = |bytes: Option<&[u8]>| found(|report| known.check_word(report, bytes, Some(900_000), now_ms)).0;
        assert_eq!(of(Some(&word(genesis.id.operator(), now_ms - 900_000))), Fine);
        assert_eq!(of(Some(&word(genesis.id.operator(), now_ms - 900_001))), Warning);
        assert_eq!(of(Some(&word(genesis.id.ca(), now_ms))), Failure);
        assert_eq!(of(Some(b"garbage")), Failure);
        assert_eq!(of(None), Fine);
        let needing = World::new(NonZeroU32::new(600)).known();
        assert_eq!(found(|report| needing.check_word(report, None, Some(900_000), now_ms)).0, Failure);
    }
}
