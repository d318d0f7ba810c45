//! Dates without anything between their digits.

use jiff::civil::Date;

use crate::decimal::{Decimal, power_of_ten};

/// `20260301`, with the hour, the minute, the second and the ms behind it or not. As counts since 1970, those lie in 1970,
/// from 2032 to 2036, in 1976, and in the years after 2590. What stands behind a point does not matter.
pub(super) fn may_be_date(number: Decimal) -> bool {
    let whole = power_of_ten(u32::from(number.decimals())).map(|power| number.mantissa() / power);
    let Some(whole) = whole.and_then(|whole| u64::try_from(whole).ok()) else { return false };
    // From the end, what stands behind the day: how many values each part has.
    let parts: &[u64] = match whole.checked_ilog10().map(|digits| digits + 1) {
        Some(8) => &[],
        Some(10) => &[HOURS],
        Some(12) => &[MINUTES, HOURS],
        Some(14) => &[SECONDS, MINUTES, HOURS],
        Some(17) => &[THOUSANDTHS, SECONDS, MINUTES, HOURS],
        _ => return false,
    };
    let mut rest = whole;
    for values in parts {
        let size = if *values == THOUSANDTHS { 1000 } else { 100 };
        if rest % size >= *values {
            return false;
        }
        rest /= size;
    }
    let (year, month, day) = (rest / 10_000, rest / 100 % 100, rest % 100);
    let part = |part: u64| i8::try_from(part).unwrap_or_default();
    (1970..2100).contains(&year)
        && i16::try_from(year).is_ok_and(|year| Date::new(year, part(month), part(day)).is_ok())
}

/// Some write midnight as 24:00.
const HOURS: u64 = 25;
const MINUTES: u64 = 60;
/// With leap seconds.
const SECONDS: u64 = 61;
const THOUSANDTHS: u64 = 1000;
