//! What the overview shows: devices, groups and alarms, made from the replica and from what the hub has seen since it began.

use std::collections::{BTreeMap, BTreeSet};

use sealcast_group::PublicGroups;
use sealcast_ledger::{Authenticity as Signatures, Device, GroupNumber, Number, Replica};

use crate::{
    log::Log,
    model::{Alarm, Authenticity, Group, GroupState, Level, Node, NodeState},
    names::name,
    reports::Report,
    traffic::Traffic,
};

/// A device that has been away for so long, or waits for its keys for so long, needs a person.
const PATIENCE_MS: u64 = 5 * 60 * 1000;

/// What the ledger says, taken in a moment: its lock is not held for longer.
pub struct Snapshot {
    devices: Vec<Known>,
    groups: Vec<KnownGroup>,
}

struct Known {
    id: String,
    number: Number,
    revoked: bool,
    certificate_ends: u64,
}

struct KnownGroup {
    number: GroupNumber,
    name: String,
    filters: Vec<String>,
    epoch: u64,
    authenticity: Authenticity,
    /// Index of the grant, by device.
    granted: BTreeMap<Number, u64>,
    joined: BTreeSet<Number>,
    /// Of all in it.
    names: BTreeMap<Number, String>,
}

impl Snapshot {
    /// Reads all devices and groups.
    pub fn take(replica: &Replica, groups: &PublicGroups) -> Self {
        let devices = replica.devices().map(|device| Known {
            id: device.id.to_string(),
            number: device.number,
            revoked: !device.is_active(),
            certificate_ends: device.not_after_s.saturating_mul(1000),
        });
        let groups = replica.groups().map(|group| {
            let joined = groups.members(replica, group.number);
            let all = group.grants.keys().chain(&joined);
            KnownGroup {
                number: group.number,
                name: group.name.to_string(),
                filters: group.filters.iter().map(ToString::to_string).collect(),
                epoch: group.epoch.0,
                authenticity: match group.policy.authenticity {
                    Signatures::Signature => Authenticity::Signed,
                    Signatures::Group => Authenticity::Group,
                },
                names: all.map(|number| (*number, name(replica, *number))).collect(),
                granted: replica
                    .granted_devices(group.number)
                    .filter_map(|device| Some((device.number, *group.grants.get(&device.number)?)))
                    .collect(),
                joined,
            }
        });
        Self { devices: devices.collect(), groups: groups.collect() }
    }
}

/// What else is known.
pub struct Seen<'a> {
    /// At the broker.
    pub traffic: &'a Traffic,
    /// Of the ledger's entries.
    pub log: &'a Log,
    /// Of the agents.
    pub reports: &'a BTreeMap<String, Report>,
    /// Which devices are connected, if the broker is the hub's own.
    pub online: Option<&'a BTreeSet<String>>,
    /// When the hub began, Unix ms.
    pub started: u64,
    /// How long certificates last, in ms.
    pub lifetime_ms: u64,
    /// Now, Unix ms.
    pub now_ms: u64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// By id.
    pub nodes: Vec<Node>,
    /// In the order of their numbers.
    pub groups: Vec<Group>,
    /// The worst first.
    pub alarms: Vec<Alarm>,
}

impl View {
    /// Puts together what is known.
    pub fn new(snapshot: &Snapshot, seen: &Seen<'_>) -> Self {
        let groups: Vec<Group> = snapshot.groups.iter().map(|group| seen.group(group)).collect();
        let mut alarms: Vec<Alarm> = snapshot.groups.iter().filter_map(|group| seen.alarm_of_group(group)).collect();
        let mut of: BTreeMap<Number, Vec<&KnownGroup>> = BTreeMap::new();
        for group in &snapshot.groups {
            for number in group.granted.keys() {
                of.entry(*number).or_default().push(group);
            }
        }
        let mut nodes: Vec<Node> = Vec::with_capacity(snapshot.devices.len());
        for device in &snapshot.devices {
            let groups = of.get(&device.number).map(Vec::as_slice).unwrap_or_default();
            let mut node = seen.node(device, groups);
            let of_node = seen.alarms_of_node(&node, device.number, groups);
            node.alarms = of_node.len();
            alarms.extend(of_node);
            nodes.push(node);
        }
        nodes.sort_by(|one, other| one.id.cmp(&other.id));
        alarms.sort_by(|one, other| (one.level, one.since, &one.id).cmp(&(other.level, other.since, &other.id)));
        Self { nodes, groups, alarms }
    }
}

impl Seen<'_> {
    fn node(&self, device: &Known, groups: &[&KnownGroup]) -> Node {
        let (count, report) = (self.traffic.of_node(&device.id), self.reports.get(&device.id));
        let online = self.online.map(|online| online.contains(&device.id));
        let state = match device.revoked {
            true => NodeState::Revoked,
            false if device.certificate_ends <= self.now_ms => NodeState::Expired,
            false => NodeState::Active,
        };
        let is_out = |group: &&&KnownGroup| !group.joined.contains(&device.number);
        Node {
            id: device.id.clone(),
            number: device.number.to_string(),
            state,
            online,
            seen: count.seen,
            groups: groups.iter().map(|group| group.name.clone()).collect(),
            pending: groups.iter().filter(is_out).map(|group| group.name.clone()).collect(),
            messages: count.messages,
            sealed: report.map(|report| report.sealed),
            opened: report.map(|report| report.opened),
            refused: report.map(Report::refused_count),
            alarms: 0,
            certificate_ends: device.certificate_ends,
        }
    }

    fn group(&self, group: &KnownGroup) -> Group {
        let count = self.traffic.of_group(&group.name);
        let names = |numbers: &mut dyn Iterator<Item = &Number>| {
            let mut names: Vec<String> = numbers.filter_map(|number| group.names.get(number).cloned()).collect();
            names.sort();
            names
        };
        let (members, joined) = (names(&mut group.granted.keys()), names(&mut group.joined.iter()));
        let state = match () {
            () if self.stopped_since(group).is_some() => GroupState::Stopped,
            () if members != joined => GroupState::Waiting,
            () => GroupState::Ok,
        };
        Group {
            name: group.name.clone(),
            number: group.number.get(),
            filters: group.filters.clone(),
            epoch: group.epoch,
            members,
            joined,
            authenticity: group.authenticity,
            state,
            messages: count.messages,
            per_second: count.per_second,
        }
    }

    /// Since when nobody has a group's keys, although a device could.
    fn stopped_since(&self, group: &KnownGroup) -> Option<u64> {
        let first = group.granted.values().min().filter(|_| group.joined.is_empty())?;
        let since = self.time_of(*first);
        (self.now_ms.saturating_sub(since) > PATIENCE_MS).then_some(since)
    }

    fn time_of(&self, entry: u64) -> u64 {
        self.log.entry(entry).map_or(0, |entry| entry.at)
    }

    fn alarm_of_group(&self, group: &KnownGroup) -> Option<Alarm> {
        let since = self.stopped_since(group)?;
        let name = &group.name;
        Some(Alarm {
            id: format!("stopped:{name}"),
            level: Level::Error,
            since,
            node: None,
            group: Some(name.clone()),
            text: format!("No device has the keys of {name}: nothing is sent on its topics"),
            advice: "Start the agents of its devices, and see their logs".to_owned(),
            code: None,
        })
    }

    fn alarms_of_node(&self, node: &Node, number: Number, groups: &[&KnownGroup]) -> Vec<Alarm> {
        let id = &node.id;
        let mut alarms = self.reports.get(id).map(|report| report.alarms.clone()).unwrap_or_default();
        if node.state == NodeState::Revoked {
            return alarms;
        }
        let mut warn = |what: &str, level, since, text: String, advice: String| {
            let (group, code) = (None, None);
            alarms.push(Alarm {
                id: format!("{what}:{id}"),
                level,
                since,
                node: Some(id.clone()),
                group,
                text,
                advice,
                code,
            });
        };
        let left = node.certificate_ends.saturating_sub(self.now_ms);
        if node.state == NodeState::Expired {
            let advice = format!("Enrol it again, with a token of `sealcast device add {id}`");
            let text = format!("The certificate of {id} has ended: the broker refuses it");
            warn("certificate", Level::Error, node.certificate_ends, text, advice);
        } else if left < self.lifetime_ms / 6 {
            let advice = "Start its agent, which renews it, and see its log if it does not".to_owned();
            let since = node.certificate_ends.saturating_sub(self.lifetime_ms / 6);
            let text = format!("The certificate of {id} ends soon, and was not renewed");
            warn("certificate", Level::Warn, since, text, advice);
        }
        let away_since = node.seen.unwrap_or(self.started);
        if node.online == Some(false) && !groups.is_empty() && self.now_ms.saturating_sub(away_since) > PATIENCE_MS {
            let advice = "See whether it has power and network, and whether its agent runs".to_owned();
            warn("silent", Level::Warn, away_since, format!("{id} is not connected to the broker"), advice);
        }
        let waits = groups.iter().filter(|group| !group.joined.contains(&number));
        let granted = waits.filter_map(|group| Some((self.time_of(*group.granted.get(&number)?), &group.name)));
        if let Some((since, name)) = granted.min().filter(|(since, _)| self.now_ms.saturating_sub(*since) > PATIENCE_MS)
        {
            let text = format!("{id} is granted {name} and has no keys of it yet");
            let advice = "Start its agent, and the agent of a device that has the keys".to_owned();
            warn("pending", Level::Warn, since, text, advice);
        }
        alarms
    }
}

/// When the ledger got a device's present certificate, if that is known.
pub fn registered_at(log: &Log, device: &Device) -> Option<u64> {
    log.entry(device.registered_at).map(|entry| entry.at)
}
