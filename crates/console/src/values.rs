//! Readings as charts need them: those on the ledger with the contract's verdict, those that nodes share with their agent's.

use std::collections::BTreeMap;

use sealcast_ledger::{Event, LimitVerdict, Replica, Summary};

use crate::{
    model::{Bands, Point, Series, Source, ValueEvent, Verdict},
    names::name,
};

/// Series that are kept, those that one node shares, and points of each.
const MAX_SERIES: usize = 256;
const MAX_SHARED: usize = 32;
const MAX_POINTS: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub struct Values(BTreeMap<Key, Series>);

/// By node, group, topic, name and source.
type Key = (String, String, String, String, Source);

impl Values {
    /// Takes what the ledger said, if it is of a reading.
    pub fn observe(&mut self, replica: &Replica, summary: &Summary) -> Option<ValueEvent> {
        let Event::Reading { group, topic, value, decimals, unit, time_ms, verdict, .. } = &summary.event else {
            return None;
        };
        let group = replica.group(*group)?;
        let bands = group.limits.get(topic).map_or_else(Bands::default, |limits| bands(&limits.limits));
        let (verdict, reason) = match verdict {
            LimitVerdict::Accepted => (Verdict::Good, None),
            LimitVerdict::Refused(breach) => (Verdict::Blocked, Some(breach.to_string())),
        };
        let point = Point { at: *time_ms, value: scaled(*value, *decimals), verdict, reason };
        let value = ValueEvent {
            node: name(replica, summary.originator),
            topic: topic.to_string(),
            name: String::new(),
            group: group.name.to_string(),
            source: Source::Ledger,
            point,
        };
        self.put(value.clone(), unit.to_string(), bands);
        Some(value)
    }

    /// Takes the new points of a series.
    pub fn share(&mut self, series: Series) -> Vec<ValueEvent> {
        let Series { node, topic, name, group, source, unit, points, bands } = series;
        let event = |point| ValueEvent {
            node: node.clone(),
            topic: topic.clone(),
            name: name.clone(),
            group: group.clone(),
            source,
            point,
        };
        let events: Vec<ValueEvent> = points.into_iter().map(event).collect();
        events.iter().for_each(|event| self.put(event.clone(), unit.clone(), bands.clone()));
        events
    }

    fn put(&mut self, value: ValueEvent, unit: String, bands: Bands) {
        let ValueEvent { node, topic, name, group, source, point } = value;
        let key = (node.clone(), group.clone(), topic.clone(), name.clone(), source);
        if !self.0.contains_key(&key) {
            // A node with many series does not drive out those of others.
            let is_own = |series: &Series| series.source == Source::Node && series.node == node;
            if source == Source::Node && self.0.values().filter(|series| is_own(series)).count() >= MAX_SHARED {
                self.remove_oldest(is_own);
            } else if self.0.len() >= MAX_SERIES {
                self.remove_oldest(|_| true);
            }
        }
        let (points, unit_now, bands_now) = (Vec::new(), unit.clone(), bands.clone());
        let new = || Series { node, topic, name, group, source, unit, points, bands };
        let series = self.0.entry(key).or_insert_with(new);
        if series.points.len() == MAX_POINTS {
            series.points.remove(0);
        }
        series.points.push(point);
        (series.unit, series.bands) = (unit_now, bands_now);
    }

    /// Removes the one that has been silent longest.
    fn remove_oldest(&mut self, of: impl Fn(&Series) -> bool) {
        let some = self.0.iter().filter(|(_, series)| of(series));
        let oldest = some.min_by_key(|(_, series)| series.points.last().map(|point| point.at));
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            self.0.remove(&oldest);
        }
    }

    /// All series.
    pub fn series(&self) -> Vec<Series> {
        self.0.values().cloned().collect()
    }
}

/// The rules of the contract.
pub fn bands(limits: &sealcast_ledger::Limits) -> Bands {
    let bound = |value: i128| Some(scaled(value, limits.decimals));
    Bands {
        min: bound(limits.min).filter(|_| limits.min != i128::MIN),
        max: bound(limits.max).filter(|_| limits.max != i128::MAX),
        step: limits.max_step.map(|step| step.get() as f64 / 10_f64.powi(limits.decimals.into())),
    }
}

/// As near as a chart needs.
fn scaled(value: i128, decimals: u8) -> f64 {
    value as f64 / 10_f64.powi(decimals.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_and_points_are_bounded() {
        let mut values = Values::default();
        let put = |values: &mut Values, node: usize, at: u64| {
            let point = Point { at, value: 1.5, verdict: Verdict::Good, reason: None };
            let value = ValueEvent {
                node: node.to_string(),
                topic: "t".into(),
                name: String::new(),
                group: "g".into(),
                source: Source::Node,
                point,
            };
            values.put(value, "Cel".into(), Bands::default());
        };
        for at in 0..MAX_POINTS as u64 + 5 {
            put(&mut values, 0, at);
        }
        let series = values.series();
        assert_eq!((series[0].points.len(), series[0].points[0].at), (MAX_POINTS, 5));
        for node in 1..=MAX_SERIES {
            put(&mut values, node, 2000 + node as u64);
        }
        assert_eq!(values.series().len(), MAX_SERIES);
        assert!(!values.series().iter().any(|series| series.node == "0"), "silent longest");
    }

    #[test]
    fn a_node_that_shares_much_drives_out_its_own_series() {
        let mut values = Values::default();
        let mut share = |node: &str, topic: u64| {
            let point = Point { at: topic, value: 1.5, verdict: Verdict::Flagged, reason: Some("step".into()) };
            let (node, topic, name, group) = (node.into(), topic.to_string(), String::new(), "g".into());
            let (source, unit, bands) = (Source::Node, "Cel".into(), Bands::default());
            values.share(Series { node, topic, name, group, source, unit, points: vec![point.clone(), point], bands })
        };
        assert_eq!(share("quiet", 0).len(), 2, "both points are told");
        (1..=MAX_SERIES as u64).for_each(|topic| drop(share("loud", topic)));
        let series = values.series();
        let of = |node: &str| series.iter().filter(|series| series.node == node).count();
        assert_eq!((of("quiet"), of("loud")), (1, MAX_SHARED));
        assert!(!series.iter().any(|series| series.node == "loud" && series.topic == "1"), "its oldest");
    }
}
