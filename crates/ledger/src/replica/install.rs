//! How a permitted record changes what the replica knows.

use std::collections::BTreeMap;

use super::{
    HEADS_KEPT, Replica, Subject,
    event::{Event, FaultOutcome, Summary},
    state::{CommitMade, Device, DeviceState, Group, PublishedKeys, Registration, Report, Revocation, RevocationCause},
};
use crate::{
    Body, DeviceRegistered, Epoch, Generation, GroupName, GroupNumber, Number, ReadingTopic, Record, Stream,
    TopicFilter, TopicLimits,
};

impl Replica {
    /// Makes a record that was decided on part of the state. Cannot fail.
    pub(super) fn install(&mut self, record: &Record, event: &Event) {
        let originator = record.entry.originator();
        self.height = record.index + 1;
        self.last_time_s = record.time_s;
        self.head = record.head;
        if self.heads.len() == HEADS_KEPT {
            self.heads.pop_front();
        }
        self.heads.push_back(record.head);
        self.nonces.insert(originator, record.entry.nonce() + 1);
        self.install_body(record, event, originator);
        self.rights_version += u64::from(event.changes_rights());

        self.remember(&Summary { index: record.index, time_s: record.time_s, originator, event: event.clone() });
    }

    /// Tells whom a record is about, and who signed it.
    pub(super) fn remember(&mut self, summary: &Summary) {
        let Summary { originator, event, .. } = summary;
        let about = event.device().filter(|device| device != originator).map(Subject::Originator);
        let by = Some(Subject::Originator(*originator));
        for subject in [by, about, event.group().map(Subject::Group)].into_iter().flatten() {
            self.histories.entry(subject).or_default().push(summary.clone());
        }
    }

    fn install_body(&mut self, record: &Record, event: &Event, originator: Number) {
        let index = record.index;
        match record.entry.body() {
            Body::DeviceRegistered(b) => self.register(b, index),
            Body::DeviceRevoked(b) => {
                if let Some(device) = self.devices.get_mut(&b.device) {
                    device.state = DeviceState::Revoked { reason: b.reason.clone(), at: index };
                    device.latest_keys = None;
                    let cause = RevocationCause::DeviceRevoked;
                    device.end_certificates(Revocation { at: index, time_s: self.last_time_s, cause });
                }
                self.void_grants(b.device, index);
            }
            Body::KeysPublished(b) => {
                let keys = PublishedKeys {
                    device: originator,
                    key_package: b.key_package,
                    certificate: b.certificate,
                    rejoin: b.rejoin,
                    at: index,
                    time_s: self.last_time_s,
                };
                self.keys.insert(b.key_package, keys);
                if let Some(device) = self.devices.get_mut(&originator) {
                    device.publish(b.key_package, b.rejoin, index);
                }
            }
            Body::GroupCreated(b) => {
                if let Event::GroupCreated { group: number, .. } = event {
                    self.index_group(&b.name, &b.filters, *number);
                    self.groups.push(Group {
                        number: *number,
                        name: b.name.clone(),
                        filters: b.filters.clone(),
                        policy: b.policy,
                        owner: originator,
                        generation: Generation(0),
                        epoch: Epoch(0),
                        grants: BTreeMap::new(),
                        limits: BTreeMap::new(),
                        created_at: index,
                        ended: BTreeMap::new(),
                        commits: Vec::new(),
                        reports: BTreeMap::new(),
                        distrusted: None,
                    });
                }
            }
            Body::Granted(b) => self.change_group(b.group, |group| group.grant(b.device, index)),
            Body::Revoked(b) => self.change_group(b.group, |group| group.revoke(b.device, index)),
            Body::Commit(b) => self.change_group(b.group, |group| {
                group.epoch = Epoch(b.epoch.0 + 1);
                group.commits.push(CommitMade { at: index, by: originator });
            }),
            Body::Reading(b) => {
                let stream = self.stream(originator, b.group, &b.topic);
                let limits = self.group(b.group).and_then(|group| group.limits.get(&b.topic));
                let Some((verdict, stream)) = limits.map(|limits| limits.judge(&stream, originator, b)) else { return };
                self.streams.insert((originator, b.group, b.topic.clone()), stream);
                let counts = self.counts.entry(originator).or_default();
                let counter = if verdict.is_accepted() { &mut counts.accepted } else { &mut counts.refused };
                *counter = counter.saturating_add(1);
            }
            Body::Anchor(_) => {}
            Body::KeyRotated(b) => {
                self.built_in.insert(b.whose, b.public_key);
            }
            Body::Moved(b) => self.current = b.to,
            Body::LimitsSet(b) => self.change_group(b.group, |group| {
                let version = group.limits.get(&b.topic).map_or(0, |limits| limits.version) + 1;
                let limits = TopicLimits { limits: b.limits.clone(), version, set_at: index };
                group.limits.insert(b.topic.clone(), limits);
            }),
            Body::GroupReset(b) => self.change_group(b.group, |group| group.found_anew(None)),
            Body::FaultReported(b) => {
                let Event::FaultReported { author, outcome, .. } = event else { return };
                let report = Report { author: *author, time_s: record.time_s, kept_out: b.kept_out };
                self.change_group(b.group, |group| {
                    group.reports.entry(originator).or_default().push((index, report));
                    if *outcome == FaultOutcome::AuthorOut {
                        group.revoke(*author, index);
                    }
                    if *outcome != FaultOutcome::Noted {
                        group.found_anew(Some(*author));
                    }
                });
            }
        }
    }

    /// What finds a group by its name, its filters and its topics.
    pub(super) fn index_group(&mut self, name: &GroupName, filters: &[TopicFilter], number: GroupNumber) {
        self.group_names.insert(name.clone(), number);
        self.filters.extend(filters.iter().map(|filter| (filter.clone(), number)));
        filters.iter().for_each(|filter| self.topics.insert(filter, number));
    }

    fn register(&mut self, b: &DeviceRegistered, index: u64) {
        let number = self.genesis.id.number_of(&b.device);
        let mut device = Device {
            id: b.device.clone(),
            number,
            key: b.public_key,
            certificate: b.certificate,
            serial: b.serial.clone(),
            not_after_s: b.not_after_s,
            state: DeviceState::Active,
            registered_at: index,
            latest_keys: None,
            has_published: false,
            rejoins: Vec::new(),
            registrations: vec![Registration {
                at: index,
                key: b.public_key,
                certificate: b.certificate,
                serial: b.serial.clone(),
                not_after_s: b.not_after_s,
                revocation: None,
            }],
        };
        if let Some(mut before) = self.devices.remove(&number) {
            if before.key != b.public_key {
                let cause = RevocationCause::OtherKey;
                before.end_certificates(Revocation { at: index, time_s: self.last_time_s, cause });
                // What it was granted was granted to whoever holds the key before.
                self.void_grants(number, index);
            }
            device.succeed(before);
        }
        self.certificates.insert(b.certificate, number);
        self.devices.insert(number, device);
    }

    fn void_grants(&mut self, device: Number, index: u64) {
        for group in &mut self.groups {
            group.revoke(device, index);
        }
    }

    pub(super) fn stream(&self, device: Number, group: GroupNumber, topic: &ReadingTopic) -> Stream {
        self.streams.get(&(device, group, topic.clone())).copied().unwrap_or_default()
    }

    fn change_group(&mut self, number: GroupNumber, change: impl FnOnce(&mut Group)) {
        if let Some(group) = self.groups.get_mut(usize::from(number.get()) - 1) {
            change(group);
        }
    }
}
