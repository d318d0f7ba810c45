//! Readings that nodes share, as charts need them: each with its agent's verdict.
//!
//! The clocks of nodes say when a reading was taken, and decide nothing else. Whoever is in a group can share what he likes: the
//! bounds are such that he takes no place from others.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::model::{Series, ValueEvent};

/// Series of all nodes that are kept.
const MAX_SERIES: usize = 256;
/// Series of one node that are kept.
const MAX_OF_NODE: usize = 32;
/// A series that has been silent for so long makes room for a new one.
const SILENT: Duration = Duration::from_secs(10 * 60);
/// The newest points of a series that keep their reason: more are not listed.
const MAX_REASONS: usize = 100;
/// Readings that wait for the feed: many more, and they would drive all else out of it.
const MAX_UNTOLD: usize = 512;

/// See the module. By node, group, topic and name, each with the time at which it was last heard of.
#[derive(Debug, Default)]
pub struct Shared {
    series: BTreeMap<(String, String, String, String), (Series, Instant)>,
    untold: VecDeque<ValueEvent>,
}

impl Shared {
    /// Takes new points of a series, at `now`. Those that are not newer than its last one are left out: a report whose answer
    /// was lost comes twice.
    pub fn take(&mut self, mut new: Series, now: Instant) {
        let mut points = std::mem::take(&mut new.points);
        let key = (new.node.clone(), new.group.clone(), new.topic.clone(), new.name.clone());
        if !self.series.contains_key(&key) && !self.make_room(&new.node, now) {
            return;
        }
        let (series, heard) = self.series.entry(key).or_insert_with(|| (new.clone(), now));
        (series.unit, series.bands, *heard) = (new.unit, new.bands, now);
        points.sort_by_key(|point| point.at);
        for point in points {
            if series.points.last().is_some_and(|last| point.at <= last.at) {
                continue;
            }
            if self.untold.len() == MAX_UNTOLD {
                self.untold.pop_front();
            }
            self.untold.push_back(series.add(point));
            let listed = series.points.len().saturating_sub(MAX_REASONS);
            if let Some(old) = listed.checked_sub(1).and_then(|at| series.points.get_mut(at)) {
                old.reason = None;
            }
        }
    }

    /// Whether there is a place for a new series of `node`.
    fn make_room(&mut self, node: &str, now: Instant) -> bool {
        let of_node = self.series.keys().filter(|(of, ..)| of == node).count();
        if of_node < MAX_OF_NODE && self.series.len() < MAX_SERIES {
            return true;
        }
        let some = self.series.iter().filter(|((of, ..), _)| of_node < MAX_OF_NODE || of == node);
        let silent = some.min_by_key(|(_, (_, heard))| *heard).filter(|(_, (_, heard))| now - *heard >= SILENT);
        let silent = silent.map(|(key, _)| key.clone());
        silent.is_some_and(|key| self.series.remove(&key).is_some())
    }

    /// The readings that the feed has not told yet.
    pub fn take_untold(&mut self) -> VecDeque<ValueEvent> {
        std::mem::take(&mut self.untold)
    }

    /// All series.
    pub fn series(&self) -> Vec<Series> {
        self.series.values().map(|(series, _)| series.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bands, Point, Source, Verdict};
    use crate::values::MAX_POINTS;

    fn series(node: &str, topic: usize, times: &[u64]) -> Series {
        let point = |at: &u64| Point { at: *at, value: 1.5, verdict: Verdict::Flagged, reason: Some("step".into()) };
        Series {
            node: node.into(),
            topic: topic.to_string(),
            name: String::new(),
            group: "g".into(),
            source: Source::Node,
            unit: "Cel".into(),
            points: times.iter().map(point).collect(),
            bands: Bands::default(),
        }
    }

    #[test]
    fn a_reading_that_comes_twice_is_shown_once_and_in_order() {
        let (mut shared, now) = (Shared::default(), Instant::now());
        shared.take(series("1111", 0, &[2, 1, 3]), now);
        shared.take(series("1111", 0, &[1, 2, 3, 4]), now);
        let times: Vec<_> = shared.series()[0].points.iter().map(|point| point.at).collect();
        assert_eq!(times, [1, 2, 3, 4]);
        assert_eq!(shared.take_untold().len(), 4);
        assert!(shared.take_untold().is_empty());
    }

    #[test]
    fn points_reasons_and_what_waits_are_bounded() {
        let (mut shared, now) = (Shared::default(), Instant::now());
        (1..=MAX_POINTS as u64 + 5).for_each(|at| shared.take(series("1111", 0, &[at]), now));
        let points = &shared.series()[0].points;
        assert_eq!((points.len(), points[0].at), (MAX_POINTS, 6));
        assert_eq!(points.iter().filter(|point| point.reason.is_some()).count(), MAX_REASONS);
        assert_eq!(shared.take_untold().len(), MAX_UNTOLD);
    }

    #[test]
    fn whoever_shares_much_takes_no_place_from_others() {
        let (mut shared, now) = (Shared::default(), Instant::now());
        let of = |shared: &Shared, node: &str| shared.series().iter().filter(|series| series.node == node).count();
        shared.take(series("quiet", 0, &[0]), now);
        for topic in 0..1_000 {
            shared.take(series("loud", topic, &[u64::MAX]), now);
        }
        assert_eq!((of(&shared, "quiet"), of(&shared, "loud")), (1, MAX_OF_NODE));
        for node in 0..1_000 {
            shared.take(series(&node.to_string(), 0, &[u64::MAX]), now);
        }
        assert_eq!((of(&shared, "quiet"), shared.series().len()), (1, MAX_SERIES));
        // What is heard of no more makes room.
        let later = now + SILENT;
        shared.take(series("quiet", 0, &[1]), later);
        shared.take(series("new", 0, &[1]), later);
        shared.take(series("loud", 1_000, &[1]), later);
        assert_eq!((of(&shared, "quiet"), of(&shared, "new"), shared.series().len()), (1, 1, MAX_SERIES));
        assert!(shared.series().iter().any(|series| series.topic == "1000"), "a silent one of its own");
    }
}
