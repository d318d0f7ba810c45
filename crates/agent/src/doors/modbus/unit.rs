//! What a [`Line`](super::line::Line) knows of one unit: when its values are due, what waits to be written, which of its values
//! can be asked for together, and how long it is left alone after a fault.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    faults::unit_pause,
    plan::{Cut, Span, cut, merge},
    settings::{ModbusUnit, Read, Write},
    value::Command,
};

/// The longest that a command waits for a pause to end: it must be tried more than once while it counts.
const COMMAND_PAUSE: Duration = Duration::from_secs(3);
/// Requests for the same that may get no answer, while the unit answers others, before the fault is sought in them.
const MAX_STRIKES: usize = 2;

/// A command that waits.
#[derive(Debug, Clone)]
pub struct Pending {
    pub command: Command,
    /// It no longer counts then.
    pub until: Instant,
    /// The turn in which it was last tried: the one that has waited longest is next.
    pub tried: u64,
}

/// A value that is polled.
#[derive(Debug)]
pub struct Point {
    pub read: Read,
    /// When it is to be read. It stays so until it is answered.
    pub due: Instant,
    /// The turn in which it was last tried: the one that has waited longest is next.
    pub tried: u64,
}

impl Point {
    pub fn span(&self) -> Span {
        Span { table: self.read.table, address: self.read.address, count: self.read.count }
    }
}

/// Requests without an answer from a unit that answers others.
#[derive(Debug, Clone, Copy)]
struct Strikes {
    count: usize,
    until: Instant,
}

/// A unit. Values and commands are named by their place in the configuration.
#[derive(Debug)]
pub struct Unit {
    pub id: u8,
    pub timeout: Duration,
    pub points: Vec<Point>,
    pub writes: Vec<Write>,
    /// The newest command for each write.
    pub commands: BTreeMap<usize, Pending>,
    cuts: BTreeSet<Cut>,
    strikes: BTreeMap<Span, Strikes>,
    /// Failures in a row.
    failures: usize,
    /// Since when and until when it is left alone.
    paused: Option<(Instant, Instant)>,
}

impl Unit {
    pub fn new(config: ModbusUnit, now: Instant) -> Self {
        let points = config.reads.into_iter().map(|read| Point { read, due: now, tried: 0 }).collect();
        Self {
            id: config.unit,
            timeout: config.timeout,
            points,
            writes: config.writes,
            commands: BTreeMap::new(),
            cuts: BTreeSet::new(),
            strikes: BTreeMap::new(),
            failures: 0,
            paused: None,
        }
    }

    /// When this value can be asked for.
    pub fn readable(&self, point: &Point) -> Instant {
        let held = self.strikes.get(&point.span()).map_or(point.due, |strikes| strikes.until.max(point.due));
        self.paused.map_or(held, |(_, until)| until.max(held))
    }

    /// When a command can be sent, or `None` if that is at once.
    pub fn writable(&self) -> Option<Instant> {
        self.paused.map(|(since, until)| until.min(since + COMMAND_PAUSE))
    }

    /// The values that can be asked for now.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = (usize, &Point)> {
        self.points.iter().enumerate().filter(move |(_, point)| self.readable(point) <= now)
    }

    /// The request for a value that is due, with what can be read along with it.
    pub fn request(&self, index: usize, now: Instant) -> Option<(Span, Vec<(Span, usize)>)> {
        let wanted = (self.points.get(index)?.span(), index);
        if self.failures > 0 {
            // Whether the unit is there, or only not able to give so much at once, shows in the smallest request.
            return Some((wanted.0, vec![wanted]));
        }
        let due: Vec<(Span, usize)> = self.due(now).map(|(index, point)| (point.span(), index)).collect();
        Some(merge(wanted, &due, &self.cuts))
    }

    /// These values are last in the queue now.
    pub fn tried(&mut self, values: &[(Span, usize)], turn: u64) {
        for (_, index) in values {
            if let Some(point) = self.points.get_mut(*index) {
                point.tried = turn;
            }
        }
    }

    /// They are answered: each is due at the next time of its schedule. Periods that were missed are not made up for.
    pub fn advance(&mut self, whole: Span, values: &[(Span, usize)], now: Instant) {
        self.strikes.remove(&whole);
        for (span, index) in values {
            self.strikes.remove(span);
            let Some(point) = self.points.get_mut(*index) else { continue };
            let late = now.saturating_duration_since(point.due).as_nanos();
            let periods = late / point.read.period.as_nanos().max(1) + 1;
            point.due += point.read.period.saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX));
        }
    }

    /// Keeps values apart from now on; false if they are one.
    pub fn part(&mut self, values: &[(Span, usize)]) -> bool {
        cut(values).is_some_and(|cut| self.cuts.insert(cut))
    }

    /// A request got no answer. If the unit answered the one before, the fault may lie in what was asked: several values
    /// are then asked for apart, and one that is lost again and again is asked for less often. True if it is surely that.
    pub fn strike(&mut self, whole: Span, values: &[(Span, usize)], now: Instant) -> bool {
        if self.failures > 0 {
            return false;
        }
        // What is due together changes; old combinations teach nothing.
        if self.strikes.len() > 2 * self.points.len() {
            self.strikes.clear();
        }
        let count = self.strikes.get(&whole).map_or(0, |strikes| strikes.count) + 1;
        let several = cut(values).is_some();
        if several && count >= MAX_STRIKES {
            self.part(values);
            self.strikes.remove(&whole);
            return false;
        }
        let until = if several { now } else { now + unit_pause(count, true) };
        self.strikes.insert(whole, Strikes { count, until });
        count >= MAX_STRIKES && !several && self.points.len() > values.len()
    }

    /// It is there.
    pub fn answers(&mut self) {
        (self.failures, self.paused) = (0, None);
    }

    /// It is left alone for a while, longer each time; `shared` if others are behind its connection.
    pub fn pause(&mut self, shared: bool, now: Instant) {
        self.failures += 1;
        self.paused = Some((now, now + unit_pause(self.failures, shared)));
    }

    /// A command that could not be sent waits again, unless a newer one is there.
    pub fn put_back(&mut self, index: usize, command: Pending) {
        self.commands.entry(index).or_insert(command);
    }
}
