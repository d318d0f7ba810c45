//! The agents' reports of themselves, on their way to the console.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sealcast_chain::Reports;
use sealcast_console::{
    Alarm, Bands, Console, Level, Point, Quality, QualityState, Refusals, Report, Series, Source, Verdict,
};
use sealcast_hub_core::SharedReplica;
use sealcast_identity::DeviceId;
use sealcast_ledger_client::{NodeReport, SharedPoint, SharedSeries, SharedVerdict, SignedReport, ValueAlarm};
use sealcast_node::{now_ms, output::printable};

/// Agents report every five seconds. What comes sooner is not taken: each report costs the readers of the console something.
const PAUSE: Duration = Duration::from_secs(2);
/// So much may a device's clock be ahead.
const MAX_AHEAD_MS: u64 = 5 * 60 * 1_000;

/// Hands what devices have signed to `console`, the newest report of each. Without a console it is taken and shown nowhere.
pub fn taken(replica: SharedReplica, console: Option<Arc<Console>>) -> Reports {
    let newest: Mutex<BTreeMap<DeviceId, (u64, Instant)>> = Mutex::default();
    Box::new(move |node, signed| {
        let Some(console) = &console else { return Ok(()) };
        let (device, mut report) = read(&replica, node, signed)?;
        // Whoever had the key once must not keep the device's later reports away.
        let latest_ms = now_ms().saturating_add(MAX_AHEAD_MS);
        if report.at_ms > latest_ms {
            return Err("it is of a time to come: compare the clocks of the device and of the hub".to_owned());
        }
        let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at_ms, came)) = newest.get(&device) {
            if report.at_ms <= *at_ms {
                return Err("a newer report of this device is known".to_owned());
            }
            if came.elapsed() < PAUSE {
                return Err("the device's last report has just come".to_owned());
            }
        }
        newest.insert(device.clone(), (report.at_ms, Instant::now()));
        for readings in std::mem::take(&mut report.shared) {
            if let Some(series) = series(&replica, &device, readings, latest_ms) {
                console.share(series);
            }
        }
        console.reports.put(node, shown(node, report));
        Ok(())
    })
}

fn read(replica: &SharedReplica, node: &str, signed: &SignedReport) -> Result<(DeviceId, NodeReport), String> {
    let replica = replica.read().unwrap_or_else(PoisonError::into_inner);
    let device = node.parse().ok().and_then(|id| replica.device_by_id(&id)).filter(|device| device.is_active());
    let device = device.ok_or("the ledger has no such active device")?;
    let report = signed.verify(device.number, &device.key, &replica.genesis().id).map_err(|error| error.to_string())?;
    Ok((device.id.clone(), report))
}

/// Readings that a device shares, if it is in the group of their topic.
fn series(replica: &SharedReplica, device: &DeviceId, readings: SharedSeries, latest_ms: u64) -> Option<Series> {
    let SharedSeries { topic, name, unit, min, max, step, points } = readings;
    // Neither may look like something else on the page.
    let (name, unit) = (printable(&name), printable(&unit));
    let replica = replica.read().unwrap_or_else(PoisonError::into_inner);
    let number = replica.group_for_topic(&topic)?;
    if !replica.is_granted(number, replica.device_by_id(device)?.number) {
        return None;
    }
    let group = replica.group(number)?.name.to_string();
    let point = |point: SharedPoint| Point {
        at: point.at_ms,
        value: point.value,
        verdict: match point.verdict {
            SharedVerdict::Good => Verdict::Good,
            SharedVerdict::Flagged => Verdict::Flagged,
            SharedVerdict::Blocked => Verdict::Blocked,
        },
        reason: point.reason.as_deref().map(printable),
    };
    let points = points.into_iter().filter(|point| point.at_ms <= latest_ms).map(point).collect();
    let bands = Bands { min, max, step };
    Some(Series { node: device.to_string(), topic, name, group, source: Source::Node, unit, points, bands })
}

/// As the console shows it.
fn shown(node: &str, report: NodeReport) -> Report {
    let NodeReport { at_ms: _, sealed, opened, refused, alarms, missing, shared: _ } = report;
    let now = now_ms();
    let of_values = alarms.iter().map(|alarm| value_alarm(node, alarm));
    let of_groups = missing.iter().map(|(code, text)| Alarm {
        id: format!("{code}:{node}"),
        level: Level::Warn,
        since: now,
        node: Some(node.to_owned()),
        group: None,
        text: format!("{node} cannot seal: {text}"),
        advice: format!("See {code} in docs/reasons.md"),
        code: Some(code.clone()),
    });
    Report {
        at: now,
        sealed,
        opened,
        refused: refused.into_iter().filter(|(_, count)| *count > 0).map(refusals).collect(),
        alarms: of_values.chain(of_groups).collect(),
        quality: alarms.into_iter().map(quality).collect(),
    }
}

fn refusals((code, count): (String, u64)) -> Refusals {
    let text = format!("See {code} in docs/reasons.md");
    Refusals { code, count, text }
}

fn quality(alarm: ValueAlarm) -> Quality {
    let text = words(&alarm);
    let state = if alarm.is_silent { QualityState::Silent } else { QualityState::Blocked };
    Quality { topic: alarm.topic, state, text, since: alarm.since_ms }
}

fn value_alarm(node: &str, alarm: &ValueAlarm) -> Alarm {
    Alarm {
        id: format!("values:{node}:{}", alarm.topic),
        level: Level::Warn,
        since: alarm.since_ms,
        node: Some(node.to_owned()),
        group: None,
        text: format!("{} of {node}: {}", alarm.topic, words(alarm)),
        advice: "Look at the sensor, then at its rules (docs/quality.md)".to_owned(),
        code: None,
    }
}

fn words(alarm: &ValueAlarm) -> String {
    match alarm.is_silent {
        true => "no value comes".to_owned(),
        false if alarm.rules.is_empty() => "values are blocked".to_owned(),
        false => format!("values are blocked by {}", alarm.rules.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use anyhow::{Context as _, Result};
    use sealcast_ledger::{
        Authenticity, Body, Granted, GroupCreated, GroupNumber, Hash, LedgerId, Policy, Replica,
        testing::{Cast, MemoryLedger},
    };

    use super::*;

    fn readings(topic: &str, unit: &str) -> SharedSeries {
        let point =
            |at_ms| SharedPoint { at_ms, value: 21.5, verdict: SharedVerdict::Flagged, reason: Some("step".into()) };
        SharedSeries {
            topic: topic.to_owned(),
            name: String::new(),
            unit: unit.to_owned(),
            min: None,
            max: Some(60.0),
            step: None,
            points: vec![point(7), point(u64::MAX)],
        }
    }

    #[test]
    fn readings_are_shown_of_devices_in_the_topics_group_and_of_no_time_to_come() -> Result<()> {
        let cast = Cast::new(LedgerId { chain_id: 1, address: [1; 20] }, 2)?;
        let (mut ledger, mut replica) = (MemoryLedger::new(cast.genesis), Replica::new(cast.genesis));
        let policy = Policy {
            epoch_max_age_s: None,
            epoch_max_messages: None,
            retention: 4,
            authenticity: Authenticity::Signature,
            ledger_max_age_s: None,
        };
        let (ca, operator) = (cast.genesis.id.ca(), cast.genesis.id.operator());
        let group = GroupCreated { name: "hsu0001".parse()?, filters: vec!["a/#".parse()?], policy };
        for (by, body) in [
            (ca, cast.registration(0, Hash::of(b"0"))),
            (ca, cast.registration(1, Hash::of(b"1"))),
            (operator, Body::GroupCreated(group)),
            (operator, Body::Granted(Granted { group: GroupNumber::new(1).context("not 0")?, device: cast.number(0) })),
        ] {
            replica.apply(&ledger.submit(&cast.sign(&replica, by, &body)?, 1)?)?;
        }
        let replica: SharedReplica = Arc::new(RwLock::new(replica));
        let of =
            |device: usize, topic: &str| series(&replica, &cast.devices[device], readings(topic, "\u{202e}Cel"), 9);

        let shown = of(0, "a/t").context("shown")?;
        assert_eq!((shown.node.as_str(), shown.group.as_str(), shown.bands.max), ("1111", "hsu0001", Some(60.0)));
        assert_eq!(
            shown.points.iter().map(|point| (point.at, point.verdict)).collect::<Vec<_>>(),
            [(7, Verdict::Flagged)]
        );
        assert_eq!(shown.unit, "\\u{202e}Cel", "no text turns what stands beside it");
        assert_eq!(of(1, "a/t"), None, "not in the group");
        assert_eq!(of(0, "b/t"), None, "of no group");
        Ok(())
    }
}
