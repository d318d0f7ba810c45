//! Times as devices and files write them, and as they are written out. The only place with a calendar in it: `jiff`'s.
//!
//! No clock and no file is read here. Zones come from the tz database that is built in, so that two machines read the same
//! stamp alike whatever their systems have.

mod digits;
mod range;
mod stamp;
mod stamp_format;
mod zone;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Deserialize;

use crate::decimal::{Decimal, DecimalError, power_of_ten};
use crate::fault::Fault;
use crate::tree::{Kind, Node};
use range::{AFTER, BEFORE, EPOCH, MAX_TIME_MS};

pub use stamp::Stamp;
pub use stamp_format::{MAX_PATTERN_BYTES, StampFormat, StampFormatError};
pub use zone::{Zone, ZoneError};

/// Numbers from here on are ms under [`TimeFormat::Auto`]: as ms the year 1973, as seconds the year 5138.
const AUTO_MS_FROM: i128 = 100_000_000_000;
/// Numbers from here on are µs: as ms they lie after the year 9999, as µs in January 1978.
const AUTO_US_FROM: i128 = MAX_TIME_MS as i128 + 1;
/// Numbers from here on are ns: as ns the year 1973, as µs the year 5138.
const AUTO_NS_FROM: i128 = 100_000_000_000_000_000;

/// Of a device that has no time yet, the clock runs from 1970: as long as this, which is a year.
const AUTO_UNSET_BEFORE_MS: u64 = 365 * 86_400_000;
/// After that, and before 1990, no clock stands: `240331120000` and `2460401` are dates of another kind.
const AUTO_SET_FROM_MS: u64 = 631_152_000_000;
/// A count that may be a date of digits is one that is expected by now, or within a year.
const AUTO_AHEAD_MS: u64 = 365 * 86_400_000;

/// How a time is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// A text is a date and time by ISO 8601, with or without an offset, or day.month.year. A number counts from 1970:
    /// seconds below 1e11, then ms, from 2.5e14 on µs, from 1e17 on ns. A number that may be a date of digits, and one that
    /// gives a time from 1971 to 1989, are refused.
    #[default]
    Auto,
    /// Unix seconds, with decimals if there are any.
    S,
    /// Unix milliseconds.
    Ms,
    /// Unix microseconds.
    Us,
    /// Unix nanoseconds.
    Ns,
    /// RFC 3339: `2024-03-31T12:00:00.25+02:00`. A text without an offset is refused.
    Rfc3339,
}

impl TimeFormat {
    /// Unix ms, cut to whole ones. A text without an offset is read in `zone`; of a local time that comes twice, the one
    /// nearer to `now_ms` counts.
    pub(crate) fn read(self, node: &Node<'_>, zone: &Zone, now_ms: u64) -> Result<u64, Fault> {
        match (&node.kind, self) {
            (Kind::Text(text), _) => self.read_text_at(text, zone, Some(now_ms)).map(|stamp| stamp.nearest_to(now_ms)),
            (_, Self::Rfc3339) => Err(node.mismatch("a time as RFC 3339 text")),
            _ => self.read_number_at(node.number()?, Some(now_ms)),
        }
    }

    /// A time from a text; one without an offset is read in `zone`.
    ///
    /// # Errors
    /// [`Fault::Time`], or [`Fault::Number`] where only a number will do.
    pub fn read_text(self, text: &str, zone: &Zone) -> Result<Stamp, Fault> {
        self.read_text_at(text, zone, None)
    }

    fn read_text_at(self, text: &str, zone: &Zone, now_ms: Option<u64>) -> Result<Stamp, Fault> {
        let text = text.trim();
        if self == Self::Rfc3339 {
            let stamp = stamp::parse(text, zone)?;
            return if stamp.own_zone { Ok(stamp) } else { Err(Fault::Time("RFC 3339 needs an offset, such as Z")) };
        }
        match Decimal::parse(text) {
            Ok(number) => Ok(Stamp::of(self.read_number_at(number, now_ms)?)),
            Err(DecimalError::Syntax { .. }) if self == Self::Auto => stamp::parse(text, zone),
            Err(error) => Err(error.into()),
        }
    }

    /// True if a text without an offset can be read, so that a zone means something.
    pub(crate) fn wants_zone(self) -> bool {
        self == Self::Auto
    }

    /// Unix ms from a number, which under [`Self::Auto`] must be a count and nothing else. `now_ms` is known where the number
    /// has just come from a device.
    fn read_number_at(self, number: Decimal, now_ms: Option<u64>) -> Result<u64, Fault> {
        let time_ms = self.read_number(number);
        if self != Self::Auto {
            return time_ms;
        }
        // In the years in which the seconds look like dates, they are what is expected.
        let expected =
            |ms: u64| now_ms.is_some_and(|now_ms| ms >= AUTO_SET_FROM_MS && ms <= now_ms.saturating_add(AUTO_AHEAD_MS));
        if digits::may_be_date(number) && !time_ms.as_ref().is_ok_and(|ms| expected(*ms)) {
            return Err(Fault::Time(
                "it may be a date, or a count since 1970: name the time format, or write 2024-03-31",
            ));
        }
        match time_ms {
            Ok(ms) if (AUTO_UNSET_BEFORE_MS..AUTO_SET_FROM_MS).contains(&ms) => Err(Fault::Time(
                "as a count since 1970 it lies before 1990: if it is one, name its unit, such as s or ms",
            )),
            time_ms => time_ms,
        }
    }

    /// Unix ms from a number that is a count.
    pub(crate) fn read_number(self, number: Decimal) -> Result<u64, Fault> {
        let exponent = match self {
            Self::S => 3,
            Self::Ms | Self::Rfc3339 => 0,
            Self::Us => -3,
            Self::Ns => -6,
            Self::Auto if number < Decimal::new(AUTO_MS_FROM, 0) => 3,
            Self::Auto if number < Decimal::new(AUTO_US_FROM, 0) => 0,
            Self::Auto if number < Decimal::new(AUTO_NS_FROM, 0) => -3,
            Self::Auto => -6,
        };
        scaled_floor(number, exponent)
    }
}

/// `floor(number * 10^exponent)` as a time.
fn scaled_floor(number: Decimal, exponent: i32) -> Result<u64, Fault> {
    if number.is_negative() {
        return Err(BEFORE);
    }
    let shift = i32::from(number.decimals()) - exponent;
    let power = power_of_ten(shift.unsigned_abs());
    let scaled = match power {
        Some(power) if shift >= 0 => Some(number.mantissa() / power),
        Some(power) => number.mantissa().checked_mul(power),
        None => Some(0),
    };
    bounded(scaled)
}

fn bounded(time_ms: Option<i128>) -> Result<u64, Fault> {
    time_ms.and_then(|ms| u64::try_from(ms).ok()).filter(|&ms| ms <= MAX_TIME_MS).ok_or(AFTER)
}

/// Rounds SenML's seconds to Unix ms.
pub(crate) fn seconds_to_ms(seconds: Decimal) -> Result<u64, Fault> {
    // Doubles of seconds carry noise below the microsecond; cutting would lose a whole ms to it.
    let thousandths = seconds.round(3);
    let shift = power_of_ten(3 - u32::from(thousandths.decimals().min(3))).unwrap_or(1);
    if thousandths.is_negative() {
        return Err(BEFORE);
    }
    bounded(thousandths.mantissa().checked_mul(shift))
}

/// Unix ms as seconds with as few decimals as it takes.
pub(crate) fn ms_to_seconds(time_ms: u64) -> Decimal {
    Decimal::new(i128::from(time_ms), 3).normalize()
}

/// A time in ms in another format's unit, for output.
pub(crate) fn write_number(format: TimeFormat, time_ms: u64) -> Decimal {
    match format {
        TimeFormat::S => ms_to_seconds(time_ms),
        TimeFormat::Us => Decimal::new(i128::from(time_ms) * 1000, 0),
        TimeFormat::Ns => Decimal::new(i128::from(time_ms) * 1_000_000, 0),
        _ => Decimal::from(time_ms),
    }
}

/// RFC 3339 in UTC with ms: `2026-11-22T16:45:13.250Z`.
pub(crate) fn write_rfc3339(time_ms: u64) -> String {
    DateTimePrinter::new().precision(Some(3)).datetime_to_string(&civil(time_ms)) + "Z"
}

/// A time in Unix ms as people read it, cut to seconds: `2026-11-22 16:45:13Z`.
pub fn utc(time_ms: u64) -> String {
    // Whole seconds: a printer may round.
    let seconds = civil(time_ms.min(MAX_TIME_MS) / 1000 * 1000);
    DateTimePrinter::new().separator(b' ').precision(Some(0)).datetime_to_string(&seconds) + "Z"
}

/// Later times than can be written are the last that can.
fn civil(time_ms: u64) -> DateTime {
    let ms = i64::try_from(time_ms.min(MAX_TIME_MS)).unwrap_or_default();
    EPOCH.saturating_add(SignedDuration::from_millis(ms))
}
