//! Times as devices write them, and as they are written out.

use serde::Deserialize;

use crate::decimal::{Decimal, power_of_ten};
use crate::fault::Fault;
use crate::tree::{Kind, Node};

/// Times are from 1970 to the end of the year 9999.
pub(crate) const MAX_TIME_MS: u64 = 253_402_300_799_999;

/// Numbers from here on are ms under [`TimeFormat::Auto`]: as ms the year 1973, as seconds the year 5138.
const AUTO_MS_FROM: i128 = 100_000_000_000;

/// How a time is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// RFC 3339 if it is a text that looks so; a number is Unix seconds below 1e11 and Unix ms from there on.
    #[default]
    Auto,
    /// Unix seconds, with decimals if there are any.
    S,
    /// Unix milliseconds.
    Ms,
    /// Unix microseconds.
    Us,
    /// RFC 3339: `2024-03-31T12:00:00.25+02:00`.
    Rfc3339,
}

impl TimeFormat {
    /// Unix ms, cut to whole ones.
    pub(crate) fn read(self, node: &Node<'_>) -> Result<u64, Fault> {
        match (&node.kind, self) {
            (Kind::Text(text), Self::Rfc3339) => parse_rfc3339(text),
            (Kind::Text(text), _) => match Decimal::parse(text.trim()) {
                Ok(number) => self.read_number(number),
                Err(_) if self == Self::Auto => parse_rfc3339(text),
                Err(error) => Err(error.into()),
            },
            (_, Self::Rfc3339) => Err(node.mismatch("a time as RFC 3339 text")),
            _ => self.read_number(node.number()?),
        }
    }

    /// Unix ms from a number.
    pub(crate) fn read_number(self, number: Decimal) -> Result<u64, Fault> {
        let exponent = match self {
            Self::S => 3,
            Self::Auto if number < Decimal::new(AUTO_MS_FROM, 0) => 3,
            Self::Us => -3,
            _ => 0,
        };
        scaled_floor(number, exponent)
    }
}

/// `floor(number * 10^exponent)` as a time.
fn scaled_floor(number: Decimal, exponent: i32) -> Result<u64, Fault> {
    if number.is_negative() {
        return Err(Fault::Time("it lies before 1970"));
    }
    let shift = i32::from(number.decimals()) - exponent;
    let power = power_of_ten(shift.unsigned_abs());
    let scaled = match power {
        Some(power) if shift >= 0 => Some(number.mantissa() / power),
        Some(power) => number.mantissa().checked_mul(power),
        None => Some(0),
    };
    let time = scaled.and_then(|ms| u64::try_from(ms).ok()).filter(|&ms| ms <= MAX_TIME_MS);
    time.ok_or(Fault::Time("it lies after the year 9999"))
}

/// Rounds SenML's seconds to Unix ms.
pub(crate) fn seconds_to_ms(seconds: Decimal) -> Result<u64, Fault> {
    // Doubles of seconds carry noise below the microsecond; cutting would lose a whole ms to it.
    let thousandths = seconds.round(3);
    let shift = power_of_ten(3 - u32::from(thousandths.decimals().min(3))).unwrap_or(1);
    let ms = thousandths.mantissa().checked_mul(shift);
    if thousandths.is_negative() {
        return Err(Fault::Time("it lies before 1970"));
    }
    let time = ms.and_then(|ms| u64::try_from(ms).ok()).filter(|&ms| ms <= MAX_TIME_MS);
    time.ok_or(Fault::Time("it lies after the year 9999"))
}

/// Unix ms as seconds with as few decimals as it takes.
pub(crate) fn ms_to_seconds(time_ms: u64) -> Decimal {
    Decimal::new(i128::from(time_ms), 3).normalize()
}

/// RFC 3339 §5.6, any offset; fractions are cut to ms, a leap second is the last ms of its minute.
fn parse_rfc3339(text: &str) -> Result<u64, Fault> {
    const FORM: Fault = Fault::Time("expected RFC 3339 like 2024-03-31T12:00:00Z");
    let text = text.trim();
    let digits = |range: std::ops::Range<usize>| -> Result<i64, Fault> {
        let part = text.get(range).ok_or(FORM)?;
        if !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(FORM);
        }
        part.parse().map_err(|_| FORM)
    };
    let mark = |at: usize, marks: &[u8]| match text.as_bytes().get(at) {
        Some(byte) if marks.contains(byte) => Ok(()),
        _ => Err(FORM),
    };
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    mark(4, b"-")?;
    mark(7, b"-")?;
    mark(10, b"Tt ")?;
    mark(13, b":")?;
    mark(16, b":")?;

    let mut rest = text.get(19..).ok_or(FORM)?;
    let mut ms = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let shown = fraction.get(..length.min(3)).filter(|shown| !shown.is_empty()).ok_or(FORM)?;
        ms = shown.parse::<i64>().map_err(|_| FORM)? * [0, 100, 10, 1].get(shown.len()).copied().unwrap_or(1);
        rest = fraction.get(length..).ok_or(FORM)?;
    }
    let offset_minutes = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = text.len() - 5;
            let (hours, minutes) = (digits(at..at + 2)?, digits(at + 3..at + 5)?);
            if hours > 23 || minutes > 59 {
                return Err(FORM);
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return Err(FORM),
    };
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 60 {
        return Err(Fault::Time("no such day or hour"));
    }
    let (second, ms) = if second == 60 { (59, 999) } else { (second, ms) };
    let minutes = (days_from_epoch(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    let time = (minutes * 60 + second) * 1000 + ms;
    u64::try_from(time)
        .map_err(|_| Fault::Time("it lies before 1970"))
        .and_then(|time| if time <= MAX_TIME_MS { Ok(time) } else { Err(Fault::Time("it lies after the year 9999")) })
}

/// RFC 3339 in UTC with ms.
pub(crate) fn write_rfc3339(time_ms: u64) -> String {
    let (seconds, ms) = (time_ms.min(MAX_TIME_MS) / 1000, time_ms % 1000);
    let (days, second) = (seconds / 86400, seconds % 86400);
    let mut left = i64::try_from(days).unwrap_or_default();
    let mut year = 1970;
    // At most some eight thousand turns are spared by going through whole 400 years first.
    year += left / 146_097 * 400;
    left %= 146_097;
    while left >= days_in_year(year) {
        left -= days_in_year(year);
        year += 1;
    }
    let mut month = 1;
    while left >= days_in(year, month) {
        left -= days_in(year, month);
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z", left + 1)
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_year(year: i64) -> i64 {
    if leap(year) { 366 } else { 365 }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Days of the years before, counted from year 0, whose leap days are one in 4, less one in 100, plus one in 400.
    let before = |year: i64| {
        let last = year - 1;
        year * 365 + last.div_euclid(4) - last.div_euclid(100) + last.div_euclid(400)
    };
    let months: i64 = (1..month).map(|earlier| days_in(year, earlier)).sum();
    before(year) - before(1970) + months + day - 1
}

/// A time in ms in another format's unit, for output.
pub(crate) fn write_number(format: TimeFormat, time_ms: u64) -> Decimal {
    match format {
        TimeFormat::S => ms_to_seconds(time_ms),
        TimeFormat::Us => Decimal::new(i128::from(time_ms) * 1000, 0),
        _ => Decimal::from(time_ms),
    }
}
