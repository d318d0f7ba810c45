//! Groups that a device was granted and has lost. Nothing is refused on their topics once a client knows, so `sealcast why`
//! reads it from the folder's copy of the ledger.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use sealcast_agent_core::{Cause, Incident, Way};
use sealcast_ledger::{Event, GroupNumber, Number, Replica, Summary};
use sealcast_topic::overlap;

use crate::{Folder, stored_records};

/// Those with topics that `filter` matches. The copy was verified when it was written.
pub fn lost_groups(dir: &Path, filter: &str) -> Result<Vec<Incident>> {
    let folder = Folder::open(dir)?;
    let own = folder.genesis().id.number_of(&folder.device);
    let mut replica = Replica::new(folder.genesis());
    let (mut granted, mut lost) = (Vec::new(), BTreeMap::new());
    for record in stored_records(dir)? {
        let event = replica.apply_without_signature_check(&record)?;
        if subject(&event) != Some(own) {
            continue;
        }
        let now: Vec<GroupNumber> =
            replica.groups().map(|group| group.number).filter(|group| replica.is_granted(*group, own)).collect();
        let summary =
            Summary { index: record.index, time_s: record.time_s, originator: record.entry.originator(), event };
        for group in granted.iter().filter(|group| !now.contains(group)) {
            lost.insert(*group, (summary.index, summary.time_s, replica.describe(&summary)));
        }
        lost.retain(|group, _| !now.contains(group));
        granted = now;
    }
    let incident = |(group, (index, time_s, what)): (GroupNumber, (u64, u64, String))| {
        let group = replica.group(group)?;
        if !group.filters.iter().any(|of| overlap(of.as_str(), filter)) {
            return None;
        }
        let (name, device) = (&group.name, &folder.device);
        Some(Incident {
            topic: None,
            way: Way::Ledger,
            client: String::new(),
            code: Cause::NotMember,
            sender: None,
            detail: format!(
                "this device lost the group {name} by entry {index} ({what}). `sealcast group grant {name} {device}` lets it in \
                 again"
            ),
            count: 1,
            first_ms: time_s.saturating_mul(1000),
            last_ms: time_s.saturating_mul(1000),
        })
    };
    Ok(lost.into_iter().filter_map(incident).collect())
}

/// Whose grants an event is about.
fn subject(event: &Event) -> Option<Number> {
    match event {
        Event::DeviceRegistered { device, .. }
        | Event::DeviceRevoked { device, .. }
        | Event::Granted { device, .. }
        | Event::Revoked { device, .. } => Some(*device),
        _ => None,
    }
}
