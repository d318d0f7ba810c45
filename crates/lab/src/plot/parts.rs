//! What a picture is made of, and what each part looks like.

use std::fmt::{self, Write as _};

pub(super) const WIDTH: f64 = 960.0;
pub(super) const LEFT: f64 = 66.0;
pub(super) const RIGHT: f64 = 24.0;
pub(super) const PLOT_HEIGHT: f64 = 300.0;
pub(super) const LANE_HEIGHT: f64 = 16.0;
/// Of the legend's letters, on the wide side: the reader's font is not known.
pub(super) const LETTER: f64 = 6.5;

/// A picture.
#[derive(Debug, Clone, Default)]
pub struct Plot {
    /// The first line above it.
    pub title: String,
    /// The second.
    pub note: String,
    /// What the values are, with their unit.
    pub values: String,
    /// Lines. Together they make the scale.
    pub lines: Vec<Line>,
    /// Marked readings. Those far beyond the lines stand at the edge.
    pub marks: Vec<Marks>,
    /// Shaded times.
    pub spans: Vec<Span>,
    /// Limits that the values are held against.
    pub limits: Vec<Limit>,
    /// Strips below the plot; those in which nothing happened are left out.
    pub lanes: Vec<Lane>,
}

/// What something is, which makes its colour and shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// What was measured.
    Value,
    /// What a receiver believes.
    Held,
    /// A reading that was sent.
    Sent,
    /// A reading that was not.
    Skipped,
    /// A reading with a flag, or a time that is marked.
    Flagged,
    /// A reading that was stopped.
    Blocked,
    /// What was put in and not measured: a label, a value of the receiving agent.
    Local,
}

/// How the points of a line are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// From each to the next.
    Straight,
    /// Held until the next.
    Steps,
}

/// A line.
#[derive(Debug, Clone)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// What it is.
    pub ink: Ink,
    /// How its points are joined.
    pub join: Join,
    /// Unix ms and value, in order. A value that is no number interrupts it.
    pub points: Vec<(u64, f64)>,
}

/// Readings of one kind.
#[derive(Debug, Clone)]
pub struct Marks {
    /// For the legend.
    pub name: String,
    /// What they are.
    pub ink: Ink,
    /// The readings.
    pub points: Vec<Mark>,
}

/// One marked reading.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Unix ms.
    pub time_ms: u64,
    /// Its value. One that is no number stands at the lower edge.
    pub value: f64,
    /// What a reader who points at it is told; may be empty.
    pub text: String,
}

/// A shaded time.
#[derive(Debug, Clone)]
pub struct Span {
    /// Unix ms.
    pub from_ms: u64,
    /// Unix ms.
    pub to_ms: u64,
    /// Stands at its lower edge.
    pub name: String,
    /// Its colour.
    pub ink: Ink,
}

/// A horizontal line.
#[derive(Debug, Clone)]
pub struct Limit {
    /// Where.
    pub value: f64,
    /// Stands at its right end.
    pub name: String,
}

/// How large a part of the readings of each moment something happened to.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Stands at its left.
    pub name: String,
    /// For the legend; empty where the name says it all.
    pub legend: String,
    /// Its colour.
    pub ink: Ink,
    /// Unix ms, and whether it happened.
    pub points: Vec<(u64, bool)>,
}

impl Ink {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Held => "held",
            Self::Sent => "sent",
            Self::Skipped => "skipped",
            Self::Flagged => "flagged",
            Self::Blocked => "blocked",
            Self::Local => "local",
        }
    }

    /// The mark at x, y: kinds differ in shape, not in colour alone.
    pub(super) fn mark(self, x: f64, y: f64) -> String {
        let class = self.class();
        match self {
            Self::Blocked => format!("<path class='cross {class}' d='M{:.1} {:.1}l8 8m0-8l-8 8'/>", x - 4.0, y - 4.0),
            Self::Flagged => {
                format!("<path class='mark open {class}' d='M{:.1} {:.1}l5 9h-10z'/>", x, y - 5.5)
            }
            Self::Local => {
                format!("<rect class='mark open {class}' x='{:.1}' y='{:.1}' width='7' height='7'/>", x - 3.5, y - 3.5)
            }
            Self::Skipped => format!("<circle class='mark open {class}' cx='{x:.1}' cy='{y:.1}' r='2.5'/>"),
            _ => format!("<circle class='mark full {class}' cx='{x:.1}' cy='{y:.1}' r='2.5'/>"),
        }
    }
}

impl Plot {
    /// The smallest and largest value that are drawn: all of the lines, and the marks that are not far beyond.
    pub(super) fn scale(&self) -> (f64, f64) {
        let lines = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
        let (low, high) = extent(lines).or_else(|| extent(self.mark_values())).unwrap_or((0.0, 1.0));
        let room = (high - low).max(high.abs() * 0.02).max(1e-6) * 1.5;
        let limits = self.limits.iter().map(|limit| limit.value);
        let near = self.mark_values().chain(limits).filter(|value| (low - room..=high + room).contains(value));
        let (low, high) = extent(near.chain([low, high])).unwrap_or((low, high));
        let margin = (high - low).max(high.abs() * 0.02).max(1e-6) * 0.07;
        (low - margin, high + margin)
    }

    fn mark_values(&self) -> impl Iterator<Item = f64> {
        self.marks.iter().flat_map(|marks| marks.points.iter().map(|mark| mark.value))
    }
}

fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |found: Option<(f64, f64)>, value| {
        Some(found.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    })
}

/// Text within XML.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '\'' => f.write_str("&#39;")?,
                '"' => f.write_str("&quot;")?,
                // XML 1.0 knows no other control characters, not even escaped.
                c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A document that is being written.
pub(super) struct Svg(pub(super) String);

impl Svg {
    pub(super) fn put(&mut self, text: &str) {
        self.0.push_str(text);
    }
}
