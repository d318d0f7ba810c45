//! Numbers, times and names as a person reads them.

use sealcast_reading::utc;

/// For what is not known.
pub const NOT_KNOWN: &str = "-";

/// `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The same, or [`NOT_KNOWN`].
pub fn count_or_not(number: Option<u64>) -> String {
    number.map_or_else(|| NOT_KNOWN.to_owned(), count)
}

/// Messages a second: `0.4`, `312`.
pub fn rate(per_second: f64) -> String {
    if per_second < 100.0 { format!("{per_second:.1}") } else { count(per_second.round() as u64) }
}

/// A length of time by its largest unit: `3 min`.
pub fn span(ms: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min")];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| ms >= *unit).unwrap_or((1000, "s"));
    format!("{} {name}", ms / unit)
}

/// How far a time is from now: `3 min ago`, `in 5 d`.
pub fn relative(ms: u64, now_ms: u64) -> String {
    if ms > now_ms + 1000 {
        return format!("in {}", span(ms - now_ms));
    }
    match now_ms.saturating_sub(ms) {
        0..2000 => "now".to_owned(),
        ago => format!("{} ago", span(ago)),
    }
}

/// A time of the day, UTC.
pub fn time(ms: u64) -> String {
    let text = utc(ms);
    text.get(11..19).unwrap_or(&text).to_owned()
}

/// The plural where there is not one.
pub fn plural(number: usize, word: &str) -> String {
    format!("{} {word}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        let counts = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        assert!(counts.into_iter().all(|(number, text)| count(number) == text));
        assert_eq!((rate(0.42), rate(99.96), rate(1234.4)), ("0.4".into(), "100.0".into(), "1,234".into()));
        assert_eq!((span(900), span(61_000), span(7_200_000)), ("0 s".into(), "1 min".into(), "2 h".into()));
        let now = 1_000_000_000;
        assert_eq!((relative(now - 5000, now), relative(now + 90_000, now)), ("5 s ago".into(), "in 1 min".into()));
        assert_eq!((relative(now + 500, now), relative(now, now)), ("now".into(), "now".into()));
        assert_eq!(time(1_795_365_913_000), "16:45:13");
        assert_eq!((plural(1, "node"), plural(2, "node")), ("1 node".into(), "2 nodes".into()));
    }
}
