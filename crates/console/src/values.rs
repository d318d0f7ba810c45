//! Readings on the ledger, as charts need them: each with the contract's verdict.

use std::collections::BTreeMap;

use sealcast_ledger::{Event, LimitVerdict, Replica, Summary};

use crate::{
    model::{Bands, Point, Series, Source, ValueEvent, Verdict},
    names::name,
};

/// Series that are kept.
const MAX_SERIES: usize = 256;
/// Points of a series that are kept.
pub const MAX_POINTS: usize = 1000;

/// See the module. By node, group and topic.
#[derive(Debug, Default)]
pub struct Values(BTreeMap<(String, String, String), Series>);

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
        let series = Series {
            node: name(replica, summary.originator),
            topic: topic.to_string(),
            name: String::new(),
            group: group.name.to_string(),
            source: Source::Ledger,
            unit: unit.to_string(),
            points: Vec::new(),
            bands,
        };
        Some(self.put(series, point))
    }

    /// Adds a point to the series that is called like `new`, which has no points.
    fn put(&mut self, new: Series, point: Point) -> ValueEvent {
        let key = (new.node.clone(), new.group.clone(), new.topic.clone());
        if self.0.len() >= MAX_SERIES && !self.0.contains_key(&key) {
            // The one that has been silent longest.
            let oldest = self.0.iter().min_by_key(|(_, series)| series.points.last().map(|point| point.at));
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.0.remove(&oldest);
            }
        }
        let series = self.0.entry(key).or_insert_with(|| new.clone());
        (series.unit, series.bands) = (new.unit, new.bands);
        series.add(point)
    }

    /// All series.
    pub fn series(&self) -> Vec<Series> {
        self.0.values().cloned().collect()
    }
}

impl Series {
    /// Adds its newest point, in the place of the oldest one if it is full. Gives what the feed tells of it.
    pub(crate) fn add(&mut self, point: Point) -> ValueEvent {
        if self.points.len() == MAX_POINTS {
            self.points.remove(0);
        }
        self.points.push(point.clone());
        ValueEvent {
            node: self.node.clone(),
            topic: self.topic.clone(),
            name: self.name.clone(),
            group: self.group.clone(),
            source: self.source,
            point,
        }
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
            let series = Series {
                node: node.to_string(),
                topic: "t".into(),
                name: String::new(),
                group: "g".into(),
                source: Source::Ledger,
                unit: "Cel".into(),
                points: Vec::new(),
                bands: Bands::default(),
            };
            values.put(series, point);
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
}
