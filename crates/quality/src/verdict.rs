//! What a check says: pass, flag or block, and why, in words with the numbers.

use std::fmt;

use sealcast_reading::Decimal;
use serde::Deserialize;

/// What becomes of a reading. Ordered: the worst finding decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing is wrong.
    #[default]
    Pass,
    /// Published, and marked.
    Flag,
    /// Not published.
    Block,
}

impl Action {
    /// `pass`, `flag` or `block`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Flag => "flag",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Which check found something. The numbers are stable: they travel in the sealed envelope as bits of [`Marks`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Check {
            $($(#[$doc])* $name = $code,)*
        }

        impl Check {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name, as in the rules file.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

checks! {
    /// Outside the allowed range.
    Range = 0, "range";
    /// Too far from the last accepted value.
    Step = 1, "step";
    /// Changing too fast.
    Rate = 2, "rate";
    /// The same value for too long.
    Stuck = 3, "stuck";
    /// An outlier of its window (Hampel).
    Spike = 4, "spike";
    /// The document is not what the JSON Schema says.
    Schema = 5, "schema";
    /// The device's stamp.
    Time = 6, "time";
    /// The device's count.
    Sequence = 7, "sequence";
    /// A number with which devices say "no value".
    Sentinel = 8, "sentinel";
    /// No number at all, where numbers are judged.
    Number = 9, "number";
    /// A new level was accepted after consistent readings.
    Level = 10, "level";
    /// The message does not have the value, or another member that its format names.
    Missing = 11, "missing";
    /// Null stands where the value would be.
    Null = 12, "null";
}

/// The set of checks that found something, as bits by [`Check`] number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Marks(pub u16);

impl Marks {
    /// No check found anything.
    pub const NONE: Self = Self(0);

    /// Adds one.
    pub fn insert(&mut self, check: Check) {
        self.0 |= 1 << check as u8;
    }

    /// Whether it is in the set.
    pub fn contains(self, check: Check) -> bool {
        self.0 & (1 << check as u8) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The checks in it; bits without a check are left out.
    pub fn iter(self) -> impl Iterator<Item = Check> {
        Check::ALL.iter().copied().filter(move |check| self.contains(*check))
    }
}

impl fmt::Display for Marks {
    /// The names with commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, check) in self.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { "," }, check.as_str())?;
        }
        Ok(())
    }
}

/// Why, with the numbers. `Display` is a sentence for the person on shift. Values are in the reading's unit, times in ms.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Below the range.
    Below {
        /// The reading.
        value: Decimal,
        /// The smallest allowed.
        min: Decimal,
    },
    /// Above the range.
    Above {
        /// The reading.
        value: Decimal,
        /// The largest allowed.
        max: Decimal,
    },
    /// Too far from the last accepted value.
    Step {
        /// The reading.
        value: Decimal,
        /// The last accepted.
        last: Decimal,
        /// The largest allowed difference.
        max: Decimal,
    },
    /// Changing too fast.
    Rate {
        /// The reading.
        value: Decimal,
        /// The last accepted.
        last: Decimal,
        /// Time between them.
        over_ms: u64,
        /// The largest allowed change per second.
        max_per_s: f64,
    },
    /// The same value for too long.
    Stuck {
        /// The reading.
        value: Decimal,
        /// How many readings have had it.
        readings: u32,
        /// For how long.
        for_ms: u64,
    },
    /// An outlier of its window.
    Spike {
        /// The reading.
        value: Decimal,
        /// Median of the window.
        median: f64,
        /// The largest allowed distance from it.
        allowed: f64,
        /// How many readings the window holds.
        window: usize,
    },
    /// A new level was accepted.
    NewLevel {
        /// The reading.
        value: Decimal,
        /// The last value of the old level.
        last: Decimal,
        /// After how many readings.
        readings: u32,
    },
    /// The document does not follow its schema.
    Schema {
        /// JSON Pointer into the document (RFC 6901); empty for its root.
        at: String,
        /// What is wrong there.
        problem: String,
    },
    /// There is a schema, but the message is no JSON document.
    NotJson,
    /// A number that says "no value".
    Sentinel {
        /// The reading.
        value: Decimal,
    },
    /// No number.
    NotNumber {
        /// What stands in its place: `NaN`, `inf`, `null`, a text, ...
        found: String,
    },
    /// The message is whole, and a member that its format names is not in it.
    Lacks {
        /// What it would hold: `value`, `time` or `sequence`.
        member: &'static str,
    },
    /// Null stands where the value would be.
    Null,
    /// The stamp is before the last one.
    ClockBack {
        /// The stamp.
        time_ms: u64,
        /// How far back.
        by_ms: u64,
    },
    /// The stamp is the last one again.
    SameTime {
        /// The stamp.
        time_ms: u64,
    },
    /// Too long after the last stamp.
    TimeGap {
        /// Since the last stamp.
        gap_ms: u64,
        /// The largest allowed.
        max_ms: u64,
    },
    /// The stamp is ahead of this clock.
    Ahead {
        /// The stamp.
        time_ms: u64,
        /// How far ahead.
        by_ms: u64,
    },
    /// A clock that went back was believed.
    NewClock {
        /// The stamp.
        time_ms: u64,
        /// After how many readings.
        readings: u32,
    },
    /// The count is before the last one.
    SequenceBack {
        /// The count.
        sequence: u64,
        /// The last one.
        last: u64,
    },
    /// The count is the last one again.
    SameSequence {
        /// The count.
        sequence: u64,
    },
    /// Counts are missing.
    SequenceGap {
        /// The count.
        sequence: u64,
        /// How many are missing.
        missing: u64,
    },
    /// A count that went back was believed.
    NewSequence {
        /// The count.
        sequence: u64,
        /// After how many readings.
        readings: u32,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below { value, min } => write!(f, "{value} is below the smallest allowed value {min}"),
            Self::Above { value, max } => write!(f, "{value} is above the largest allowed value {max}"),
            Self::Step { value, last, max } => match value.checked_sub(*last) {
                Some(step) => {
                    write!(f, "{value} is {} from the last accepted {last}, at most {max} is allowed", step.abs())
                }
                None => write!(f, "{value} is more than {max} from the last accepted {last}"),
            },
            Self::Rate { value, last, over_ms, max_per_s } => {
                let rate = (value.to_f64() - last.to_f64()).abs() / (*over_ms as f64 / 1000.0);
                let over = Span(*over_ms);
                write!(f, "from {last} to {value} in {over} is {}/s, at most {max_per_s}/s is allowed", Short(rate))
            }
            Self::Stuck { value, readings, for_ms } => {
                write!(f, "{value} for {readings} readings, {} now", Span(*for_ms))
            }
            Self::Spike { value, median, allowed, window } => write!(
                f,
                "{value} is {} from the median {} of the last {window} readings, at most {} is allowed",
                Short((value.to_f64() - median).abs()),
                Short(*median),
                Short(*allowed)
            ),
            Self::NewLevel { value, last, readings } => {
                write!(f, "new level {value} accepted after {readings} consistent readings, it was {last}")
            }
            Self::Schema { at, problem } if at.is_empty() => write!(f, "the document: {problem}"),
            Self::Schema { at, problem } => write!(f, "{at}: {problem}"),
            Self::NotJson => f.write_str("the message is not a JSON document, but this topic has a schema"),
            Self::Sentinel { value } => write!(f, "{value} is this device's way to say that it has no value"),
            Self::NotNumber { found } => write!(f, "{found} is not a number"),
            Self::Lacks { member } => write!(f, "the message has no {member}"),
            Self::Null => f.write_str("the value is null"),
            Self::ClockBack { by_ms, .. } => {
                write!(f, "the device's clock went back: the stamp is {} before the last one", Span(*by_ms))
            }
            Self::SameTime { .. } => f.write_str("the stamp is that of the last reading again"),
            Self::TimeGap { gap_ms, max_ms } => {
                write!(f, "{} since the last stamp, expected within {}", Span(*gap_ms), Span(*max_ms))
            }
            Self::Ahead { by_ms, .. } => write!(f, "the stamp is {} ahead of this agent's clock", Span(*by_ms)),
            Self::NewClock { readings, .. } => {
                write!(f, "the device's clock went back and is believed after {readings} rising stamps")
            }
            Self::SequenceBack { sequence, last } => {
                write!(f, "count {sequence} after {last}: out of order, or a restart")
            }
            Self::SameSequence { sequence } => write!(f, "count {sequence} is that of the last reading again"),
            Self::SequenceGap { sequence, missing } => {
                write!(f, "count {sequence}: {missing} readings before it are missing")
            }
            Self::NewSequence { sequence, readings } => {
                write!(f, "counting from {sequence} is believed after {readings} rising counts")
            }
        }
    }
}

/// One check's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// Flag or block, as the rule says.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check.as_str(), self.reason)
    }
}

/// All that the checks say of one reading.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    findings: Vec<Finding>,
    checked: bool,
}

impl Verdict {
    /// No rule applies: handed on untouched.
    pub const UNCHECKED: Self = Self { findings: Vec::new(), checked: false };

    pub(crate) fn checked() -> Self {
        Self { findings: Vec::new(), checked: true }
    }

    pub(crate) fn add(&mut self, check: Check, action: Action, reason: Reason) {
        self.findings.push(Finding { check, action, reason });
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(Check) -> bool) {
        self.findings.retain(|finding| keep(finding.check));
    }

    pub(crate) fn worst_first(&mut self) {
        self.findings.sort_by_key(|finding| (std::cmp::Reverse(finding.action), finding.check));
    }

    /// What becomes of the reading.
    pub fn action(&self) -> Action {
        self.findings.iter().map(|finding| finding.action).max().unwrap_or_default()
    }

    /// Whether a rule applied at all.
    pub fn is_checked(&self) -> bool {
        self.checked
    }

    /// The worst first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Which checks found something that blocks or flags.
    pub fn marks(&self) -> Marks {
        let mut marks = Marks::NONE;
        for finding in self.findings.iter().filter(|finding| finding.action != Action::Pass) {
            marks.insert(finding.check);
        }
        marks
    }
}

impl fmt::Display for Verdict {
    /// All reasons, the worst first, with `; ` between; empty if nothing was found.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.findings.iter().enumerate() {
            write!(f, "{}{finding}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// A time span for people: `250 ms`, `1.5 s`, `55 min`, `3 h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(
    /// In ms.
    pub u64,
);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{} ms", self.0),
            1_000..120_000 => write!(f, "{} s", Short(ms / 1e3)),
            120_000..7_200_000 => write!(f, "{} min", Short(ms / 6e4)),
            7_200_000..172_800_000 => write!(f, "{} h", Short(ms / 3.6e6)),
            _ => write!(f, "{} days", Short(ms / 8.64e7)),
        }
    }
}

/// A statistic with four significant digits at most after the point.
pub(crate) struct Short(pub f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if size >= 1e15 || (size != 0.0 && size < 1e-4) {
            return write!(f, "{:.3e}", self.0);
        }
        let decimals = if size >= 1000.0 {
            0
        } else if size >= 1.0 {
            2
        } else {
            4
        };
        let text = format!("{:.decimals$}", self.0);
        f.write_str(if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sentences() {
        let check = |reason: Reason, text: &str| assert_eq!(reason.to_string(), text);
        let number = |text: &str| text.parse::<Decimal>().unwrap();
        check(
            Reason::Above { value: number("130.50"), max: number("120") },
            "130.50 is above the largest allowed value 120",
        );
        check(
            Reason::Step { value: number("10.5"), last: number("25"), max: number("5") },
            "10.5 is 14.5 from the last accepted 25, at most 5 is allowed",
        );
        check(
            Reason::Rate { value: number("30"), last: number("20"), over_ms: 4000, max_per_s: 2.0 },
            "from 20 to 30 in 4 s is 2.5/s, at most 2/s is allowed",
        );
        check(
            Reason::ClockBack { time_ms: 0, by_ms: 3_300_000 },
            "the device's clock went back: the stamp is 55 min before the last one",
        );
        check(
            Reason::Spike { value: number("85"), median: 20.123456, allowed: 0.5, window: 11 },
            "85 is 64.88 from the median 20.12 of the last 11 readings, at most 0.5 is allowed",
        );
        assert_eq!(Span(300_000).to_string(), "5 min");
        assert_eq!(Span(90_000).to_string(), "90 s");
    }

    #[test]
    fn marks_name_checks() {
        let mut marks = Marks::NONE;
        assert!(marks.is_empty());
        marks.insert(Check::Level);
        marks.insert(Check::Range);
        assert_eq!(marks.to_string(), "range,level");
        assert_eq!(Marks(u16::MAX).iter().count(), Check::ALL.len());
    }
}
