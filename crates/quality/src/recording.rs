//! A recording of one topic, read from CSV: what rules are learnt from and tried on.

use sealcast_reading::{Decimal, Special, Value};

/// Most readings in one recording.
pub const MAX_READINGS: usize = 10_000_000;

/// One recorded reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The device's stamp, Unix ms.
    pub time_ms: u64,
    /// Its value.
    pub value: Value,
}

/// Readings in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    /// The readings.
    pub readings: Vec<Recorded>,
}

/// A CSV that is no recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// No readings.
    #[error("there are no readings in it")]
    Empty,
    /// More than [`MAX_READINGS`].
    #[error("there are more than {MAX_READINGS} readings in it")]
    TooMany,
    /// A line without a time and a value.
    #[error("line {line}: expected a time and a value with a comma or semicolon between")]
    Columns {
        /// From 1.
        line: usize,
    },
    /// A time that can't be read.
    #[error("line {line}: {text:?} is no time: write 2024-03-31 12:00:00, RFC 3339, or Unix seconds or milliseconds")]
    Time {
        /// From 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A value that can't be read.
    #[error("line {line}: {text:?} is no number")]
    Value {
        /// From 1.
        line: usize,
        /// What stands there.
        text: String,
    },
}

impl Recording {
    /// Reads `time,value` lines; a first line that is no reading is a header, and if it names a column `value` that one is
    /// the value, else the second. Times without an offset are UTC. Empty values and `null` are no value.
    ///
    /// # Errors
    /// [`RecordingError`] with the line.
    pub fn from_csv(text: &str) -> Result<Self, RecordingError> {
        let mut readings = Vec::new();
        let mut column = 1;
        for (at, row) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = at + 1;
            if row.trim().is_empty() {
                continue;
            }
            let separator = if row.contains(';') { ';' } else { ',' };
            let field = |column: usize| row.split(separator).nth(column).map(|text| text.trim().trim_matches('"'));
            let (Some(time), Some(value)) = (field(0), field(column)) else {
                return Err(RecordingError::Columns { line });
            };
            let time_ms = parse_time(time);
            if at == 0 && time_ms.is_none() {
                let named =
                    row.split(separator).position(|name| name.trim().trim_matches('"').eq_ignore_ascii_case("value"));
                column = named.unwrap_or(1);
                continue;
            }
            let time_ms = time_ms.ok_or_else(|| RecordingError::Time { line, text: brief(time) })?;
            let value = parse_value(value).ok_or_else(|| RecordingError::Value { line, text: brief(value) })?;
            if readings.len() >= MAX_READINGS {
                return Err(RecordingError::TooMany);
            }
            readings.push(Recorded { time_ms, value });
        }
        if readings.is_empty() { Err(RecordingError::Empty) } else { Ok(Self { readings }) }
    }

    /// The first part of it, `part` from 0 to 1: what rules are learnt from.
    pub fn first(&self, part: f64) -> Self {
        let count = (self.readings.len() as f64 * part.clamp(0.0, 1.0)) as usize;
        Self { readings: self.readings.iter().take(count).cloned().collect() }
    }

    /// The median time between readings; `None` with fewer than two, or if no stamp rises.
    pub fn period_ms(&self) -> Option<u64> {
        let mut gaps: Vec<u64> = self.gaps_ms().filter(|gap| *gap > 0).collect();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied()
    }

    /// A time of arrival for each reading: they go on as the stamps do, and by one period where a stamp does not rise,
    /// since time itself never goes back.
    pub fn arrivals_ms(&self) -> Vec<u64> {
        let period_ms = self.period_ms().unwrap_or(1000);
        let mut now_ms = self.readings.first().map_or(0, |first| first.time_ms);
        let mut arrivals = Vec::with_capacity(self.readings.len());
        arrivals.extend(self.readings.first().map(|_| now_ms));
        for gap_ms in self.gaps_ms() {
            now_ms = now_ms.saturating_add(if gap_ms == 0 { period_ms } else { gap_ms });
            arrivals.push(now_ms);
        }
        arrivals
    }

    /// Between each two; 0 where the stamp does not rise.
    fn gaps_ms(&self) -> impl Iterator<Item = u64> {
        self.readings.iter().zip(self.readings.iter().skip(1)).map(|(a, b)| b.time_ms.saturating_sub(a.time_ms))
    }
}

fn brief(text: &str) -> String {
    text.chars().take(40).collect()
}

fn parse_value(text: &str) -> Option<Value> {
    if let Ok(number) = Decimal::parse(text) {
        return Some(Value::Number(number));
    }
    let special = match text.to_ascii_lowercase().as_str() {
        "" | "null" | "none" => Special::Null,
        "nan" => Special::Nan,
        "inf" | "infinity" => Special::PositiveInfinity,
        "-inf" | "-infinity" => Special::NegativeInfinity,
        _ => return None,
    };
    Some(Value::Special(special))
}

/// Unix ms of a date and time with or without fraction and offset, or of Unix seconds (below 1e11) or ms.
fn parse_time(text: &str) -> Option<u64> {
    if let Ok(number) = Decimal::parse(text) {
        let number = number.to_f64();
        let ms = if number < 1e11 { number * 1000.0 } else { number };
        return (0.0..=253_402_300_799_999.0).contains(&ms).then_some(ms.round() as u64);
    }
    let number = |from: usize, to: usize| {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
    };
    let marks = |at: usize, allowed: &[u8]| text.as_bytes().get(at).is_some_and(|byte| allowed.contains(byte));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute) = (number(11, 13)?, number(14, 16)?);
    let shape = marks(4, b"-/") && marks(7, b"-/") && marks(10, b"T t") && marks(13, b":");
    let (second, mut rest) = if marks(16, b":") { (number(17, 19)?, text.get(19..)?) } else { (0, text.get(16..)?) };
    let mut ms = 0;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        ms = format!("{:0<3}", fraction.get(..digits)?).get(..3)?.parse().ok()?;
        rest = fraction.get(digits..)?;
    }
    let offset = match rest.as_bytes() {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1 @ b'0'..=b'2', h2 @ b'0'..=b'9', b':', m1 @ b'0'..=b'5', m2 @ b'0'..=b'9'] => {
            let two = |a: &u8, b: &u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
            (two(h1, h2) * 60 + two(m1, m2)) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !shape || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days from the civil calendar, years beginning in March so that the leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_number =
        y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    let total = ((day_number * 24 + hour) * 60 + minute - offset) * 60 + second;
    u64::try_from(total * 1000 + ms).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse_time(text), expected, "{text}");
        check("1970-01-01 00:00:00", Some(0));
        check("2013-12-02 21:15:00", Some(1_386_018_900_000));
        check("2024-02-29T12:00:00.25+02:00", Some(1_709_200_800_250));
        check("2024-03-01T00:00Z", Some(1_709_251_200_000));
        check("1386018900", Some(1_386_018_900_000));
        check("1386018900000", Some(1_386_018_900_000));
        check("2023-02-29 00:00:00", None);
        check("12:00", None);
        check("-5", None);
    }

    #[test]
    fn reads_csv() {
        let check = |text: &str, expected: Result<usize, RecordingError>| {
            assert_eq!(Recording::from_csv(text).map(|recording| recording.readings.len()), expected, "{text:?}");
        };
        check("time,unit,value\n0,C,20.50\n1,C,nan\n\n2,C,\n", Ok(3));
        check("0;1\n1;2", Ok(2));
        check("", Err(RecordingError::Empty));
        check("0,1\n1", Err(RecordingError::Columns { line: 2 }));
        check("0,1\nx,1", Err(RecordingError::Time { line: 2, text: "x".into() }));
        check("0,1\n1,warm", Err(RecordingError::Value { line: 2, text: "warm".into() }));
    }

    #[test]
    fn time_never_goes_back() {
        let recording = Recording::from_csv("10,1\n20,1\n30,1\n5,1\n15,1").unwrap();
        assert_eq!(recording.arrivals_ms(), [10_000, 20_000, 30_000, 40_000, 50_000]);
    }
}
