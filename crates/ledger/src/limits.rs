//! What readings must keep to, and the verdict on each: the contract's `_judge`, kept alike.

use std::{collections::BTreeSet, fmt, num::NonZeroU128, str::FromStr};

use crate::{Number, Refusal, text::check_text};

/// Most devices that a topic's limits can list.
pub const MAX_REPORTERS: usize = 64;

/// A unit for people, as SenML writes it (RFC 8428, section 12.1): up to 32 bytes of UTF-8 without control characters, or
/// nothing. The ledger does not convert.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct UnitText(String);

impl UnitText {
    /// Longest unit, in bytes.
    pub const MAX_BYTES: usize = 32;

    /// The unit.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        check_text("unit", bytes, 0, Self::MAX_BYTES).map(|text| Self(text.to_owned()))
    }
}

impl FromStr for UnitText {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for UnitText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UnitText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What readings of one topic must keep to. Numbers are in units of `10^-decimals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Smallest value.
    pub min: i128,
    /// Largest value.
    pub max: i128,
    /// Largest distance from the device's last accepted value; `None`: any.
    pub max_step: Option<NonZeroU128>,
    /// Digits after the point. A reading with fewer is scaled, one with more is accepted if they are zeros.
    pub decimals: u8,
    /// What the values are in.
    pub unit: UnitText,
    /// What is asked of sequence numbers.
    pub sequence: SequenceRule,
    /// Who may report, of the devices that are granted the group.
    pub reporters: Reporters,
}

/// What is asked of a device's sequence numbers for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SequenceRule {
    /// Each is greater than the one before.
    #[default]
    Increasing,
    /// Each is the next: a gap is a refused reading, and the one after the gap is judged by itself again.
    Gapless,
}

/// Who may report a topic, of the devices that are granted the group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reporters {
    /// All of them.
    #[default]
    Granted,
    /// These, at most 64. None at all closes the topic.
    Listed(Vec<Number>),
}

/// Whether the ledger accepts a reading. Refused ones are on the ledger too, and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitVerdict {
    /// It keeps to the limits.
    Accepted,
    /// It does not.
    Refused(Breach),
}

impl LimitVerdict {
    /// The contract's number of it.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Refused(breach) => breach.code(),
        }
    }

    /// Whether it is [`Accepted`](Self::Accepted).
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        *self == Self::Accepted
    }
}

impl fmt::Display for LimitVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Refused(breach) => write!(f, "refused: {breach}"),
        }
    }
}

/// Which limit a reading breaks: the first, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// The limits list who may report, and not this device.
    NotAReporter,
    /// The sequence number was used, or is from before.
    SequenceNotGreater {
        /// The greatest so far.
        last: u64,
    },
    /// Sequence numbers are missing.
    SequenceGap {
        /// The one that should have come.
        expected: u64,
    },
    /// Digits beyond those that the limits have.
    TooPrecise {
        /// How many those have after the point.
        decimals: u8,
    },
    /// Below the smallest value.
    BelowMin {
        /// The smallest, in the limits' decimals.
        min: i128,
        /// How many those are.
        decimals: u8,
    },
    /// Above the largest value.
    AboveMax {
        /// The largest, in the limits' decimals.
        max: i128,
        /// How many those are.
        decimals: u8,
    },
    /// Too far from the last accepted value.
    StepTooLarge {
        /// That value, in the limits' decimals.
        last: i128,
        /// The largest step.
        max_step: NonZeroU128,
        /// How many decimals the limits have.
        decimals: u8,
    },
}

impl Breach {
    /// The contract's number of it.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::NotAReporter => 1,
            Self::SequenceNotGreater { .. } => 2,
            Self::SequenceGap { .. } => 3,
            Self::TooPrecise { .. } => 4,
            Self::BelowMin { .. } => 5,
            Self::AboveMax { .. } => 6,
            Self::StepTooLarge { .. } => 7,
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAReporter => f.write_str("the topic's limits do not list this device"),
            Self::SequenceNotGreater { last } => write!(f, "sequence number is not greater than the last one, {last}"),
            Self::SequenceGap { expected } => write!(f, "sequence numbers are missing: {expected} was expected"),
            Self::TooPrecise { decimals } => write!(f, "more than {decimals} decimals"),
            Self::BelowMin { min, decimals } => write!(f, "below the smallest value, {}", decimal(*min, *decimals)),
            Self::AboveMax { max, decimals } => write!(f, "above the largest value, {}", decimal(*max, *decimals)),
            Self::StepTooLarge { last, max_step, decimals } => {
                let step = magnitude(max_step.get(), *decimals);
                write!(f, "more than {step} from the last accepted value, {}", decimal(*last, *decimals))
            }
        }
    }
}

/// A topic's limits as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicLimits {
    /// What they are.
    pub limits: Limits,
    /// How often they were set. Each time, sequences and steps begin anew.
    pub version: u64,
    /// Index of the record that set them.
    pub set_at: u64,
}

/// One device's readings of one topic, as counted by the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stream {
    /// How many were accepted.
    pub accepted: u64,
    /// How many were refused.
    pub refused: u64,
    /// The greatest sequence number under the limits of `version`, accepted or not.
    pub sequence: u64,
    /// The last accepted value under these limits, in their decimals.
    pub value: Option<i128>,
    /// Of the limits that the last reading was judged by; 0 before the first, and for a device that may not report.
    pub version: u64,
}

/// How many readings of a device the ledger has, on all topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReadingCounts {
    /// How many were accepted.
    pub accepted: u64,
    /// How many were refused.
    pub refused: u64,
}

impl TopicLimits {
    /// Whether the limits let this device report. It must also be granted the group.
    #[must_use]
    pub fn lists(&self, device: Number) -> bool {
        match &self.limits.reporters {
            Reporters::Granted => true,
            Reporters::Listed(devices) => devices.contains(&device),
        }
    }

    /// Judges a reading of `device`, and gives the stream after it.
    pub(crate) fn judge(&self, stream: &Stream, device: Number, said: &crate::Reading) -> (LimitVerdict, Stream) {
        let mut after = *stream;
        let verdict = match self.breach(&mut after, device, said) {
            None => {
                after.accepted = after.accepted.saturating_add(1);
                LimitVerdict::Accepted
            }
            Some(breach) => {
                after.refused = after.refused.saturating_add(1);
                LimitVerdict::Refused(breach)
            }
        };
        (verdict, after)
    }

    fn breach(&self, stream: &mut Stream, device: Number, said: &crate::Reading) -> Option<Breach> {
        let limits = &self.limits;
        if !self.lists(device) {
            return Some(Breach::NotAReporter);
        }
        if stream.version == self.version {
            let last = stream.sequence;
            if said.sequence <= last {
                return Some(Breach::SequenceNotGreater { last });
            }
            stream.sequence = said.sequence;
            if limits.sequence == SequenceRule::Gapless && said.sequence != last + 1 {
                return Some(Breach::SequenceGap { expected: last + 1 });
            }
        } else {
            *stream = Stream { sequence: said.sequence, value: None, version: self.version, ..*stream };
        }

        let decimals = limits.decimals;
        let Limits { min, max, .. } = *limits;
        let scaled = if said.decimals <= decimals {
            match power_of_ten(decimals - said.decimals).and_then(|unit| said.value.checked_mul(unit)) {
                Some(scaled) => scaled,
                // Beyond 128 bits, where no limit is.
                None if said.value < 0 => return Some(Breach::BelowMin { min, decimals }),
                None => return Some(Breach::AboveMax { max, decimals }),
            }
        } else {
            match power_of_ten(said.decimals - decimals) {
                Some(unit) if said.value % unit == 0 => said.value / unit,
                _ => return Some(Breach::TooPrecise { decimals }),
            }
        };
        if scaled < min {
            return Some(Breach::BelowMin { min, decimals });
        }
        if scaled > max {
            return Some(Breach::AboveMax { max, decimals });
        }
        if let (Some(last), Some(max_step)) = (stream.value, limits.max_step)
            && scaled.abs_diff(last) > max_step.get()
        {
            return Some(Breach::StepTooLarge { last, max_step, decimals });
        }
        stream.value = Some(scaled);
        None
    }
}

impl Limits {
    /// What the types do not already keep, in the contract's order.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.min > self.max {
            return Err(Refusal::BadRange { min: self.min, max: self.max });
        }
        if self.decimals > crate::MAX_DECIMALS {
            let (value, max) = (self.decimals.into(), crate::MAX_DECIMALS.into());
            return Err(Refusal::BadValue { field: "decimals".into(), value, min: 0, max });
        }
        match &self.reporters {
            Reporters::Granted => Ok(()),
            Reporters::Listed(devices) => crate::text::check_length("reporters", devices.len(), 0, MAX_REPORTERS),
        }
    }

    /// The devices that are listed; empty if all that are granted may report.
    #[must_use]
    pub fn listed(&self) -> BTreeSet<Number> {
        match &self.reporters {
            Reporters::Granted => BTreeSet::new(),
            Reporters::Listed(devices) => devices.iter().copied().collect(),
        }
    }
}

/// At most 38 decimals, so at most 10^38.
fn power_of_ten(exponent: u8) -> Option<i128> {
    10_i128.checked_pow(exponent.into())
}

/// `value / 10^decimals` in digits.
pub(crate) fn decimal(value: i128, decimals: u8) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, magnitude(value.unsigned_abs(), decimals))
}

fn magnitude(value: u128, decimals: u8) -> String {
    if decimals == 0 {
        return value.to_string();
    }
    let digits = format!("{value:0>0$}", usize::from(decimals) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(decimals));
    format!("{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn writes_decimals_without_loss() {
        for (value, decimals, expected) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (-5, 1, "-0.5"),
            (12345, 2, "123.45"),
            (-12345, 5, "-0.12345"),
            (i128::MIN, 38, "-1.70141183460469231731687303715884105728"),
        ] {
            assert_eq!(decimal(value, decimals), expected);
        }
    }
}
