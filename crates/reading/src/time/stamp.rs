//! Dates and times as texts.

use std::borrow::Cow;

use jiff::civil::{DateTime, Time};
use jiff::fmt::strtime;
use jiff::fmt::temporal::{Pieces, PiecesOffset};
use jiff::tz::{AmbiguousOffset, Offset};
use jiff::{SignedDuration, Timestamp, tz};

use super::range::{AFTER, BEFORE, EPOCH, MAX_TIME_MS};
use super::zone::{DATABASE, Zone, in_a_day};
use crate::fault::Fault;

/// Texts beyond this are no times.
const MAX_TEXT_BYTES: usize = 128;
/// More digits of a second than these are cut: a time is in ms anyway.
const FRACTION_DIGITS: usize = 9;

/// A time that was read from a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Unix ms, cut to whole ones. Of a local time that comes twice, the earlier one.
    pub time_ms: u64,
    /// Where a clock that is put back shows the same local time twice: the later one.
    pub later_ms: Option<u64>,
    /// A local time that its zone leaves out, since the clock is put forward there: it was read by the offset before.
    pub skipped: bool,
    /// The text says where it is: by an offset, by a zone, or as a count since 1970.
    pub own_zone: bool,
}

impl Stamp {
    pub(super) const fn of(time_ms: u64) -> Self {
        Self { time_ms, later_ms: None, skipped: false, own_zone: true }
    }

    /// Of a local time that comes twice, the one nearer to `now_ms`.
    pub fn nearest_to(self, now_ms: u64) -> u64 {
        match self.later_ms {
            Some(later_ms) if later_ms.abs_diff(now_ms) <= self.time_ms.abs_diff(now_ms) => later_ms,
            _ => self.time_ms,
        }
    }

    /// Of a local time that comes twice, the earlier one that does not lie before `previous_ms`; the earlier one if both do.
    pub fn not_before(self, previous_ms: u64) -> u64 {
        match self.later_ms {
            Some(later_ms) if self.time_ms < previous_ms && later_ms >= previous_ms => later_ms,
            _ => self.time_ms,
        }
    }
}

/// A date and time by ISO 8601 (RFC 9557 included), and what devices make of it: a space for `T`, `/` in the date, a comma
/// before the fraction, any number of digits in it, an offset without colon or minutes, `UTC` for `Z`, a space before the
/// offset, no offset. A leap second is the last ms of its minute. A date alone is its midnight.
pub(super) fn parse(text: &str, zone: &Zone) -> Result<Stamp, Fault> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(explain(text));
    }
    let cleaned;
    let (pieces, read) = match Pieces::parse(text) {
        Ok(pieces) => (pieces, text),
        Err(_) => {
            // Where dates have points, the day goes first.
            let dotted = text.as_bytes().get(2) == Some(&b'.');
            let ordered = if dotted { year_last(text, true).map(Cow::Owned) } else { clean(text) };
            cleaned = ordered.ok_or_else(|| explain(text))?;
            (Pieces::parse(cleaned.as_ref()).map_err(|_| explain(text))?, cleaned.as_ref())
        }
    };
    let mut time = pieces.time().unwrap_or(Time::midnight());
    if time.second() == 59 && read.contains(":60") {
        time = time.with().millisecond(999).build().unwrap_or(time);
    }
    let local = pieces.date().to_datetime(time);
    let named = || -> Result<Option<tz::TimeZone>, Fault> {
        let Some(annotation) = pieces.time_zone_annotation() else { return Ok(None) };
        let zone = annotation.to_time_zone_with(&DATABASE);
        zone.map(Some).map_err(|_| Fault::Time("the zone in brackets is not known"))
    };
    match pieces.to_numeric_offset() {
        Some(offset) => {
            // `Z` says that the local offset is not known (RFC 9557 §2.2), so it agrees with every zone. A zone that is not
            // known contradicts nothing.
            let numeric = matches!(pieces.offset(), Some(PiecesOffset::Numeric(_)));
            if numeric && let Ok(Some(zone)) = named() {
                agree(local, offset, &zone)?;
            }
            fixed(local, offset)
        }
        None => match named()? {
            Some(zone) => in_zone(local, &zone),
            None => resolve(local, zone.offset_at(local)),
        },
    }
}

/// A local time of a zone that the text itself names.
fn in_zone(local: DateTime, zone: &tz::TimeZone) -> Result<Stamp, Fault> {
    Ok(Stamp { own_zone: true, ..resolve(local, zone.to_ambiguous_timestamp(local).offset())? })
}

/// The offset is one that the zone has at that local time, to the minute: offsets of old are written without their seconds.
fn agree(local: DateTime, offset: Offset, zone: &tz::TimeZone) -> Result<(), Fault> {
    let near = |other: Offset| offset.seconds().abs_diff(other.seconds()) < 60;
    let agrees = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => near(offset),
        AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => near(before) || near(after),
    };
    if agrees {
        Ok(())
    } else {
        Err(Fault::Time("its offset and its zone contradict each other: leave one of them out"))
    }
}

/// By a pattern of `strptime`; what it leaves out of the time of day is zero.
pub(super) fn by_pattern(pattern: &str, text: &str, zone: &Zone) -> Result<Stamp, Fault> {
    let fields = strtime::parse(pattern, text).map_err(|_| Fault::Time("it is not written as the pattern says"))?;
    let lacks = |_| Fault::Time("the pattern leaves the day open, or that day does not exist");
    if let Some(timestamp) = fields.timestamp() {
        return Ok(Stamp::of(to_ms(timestamp.duration_since(Timestamp::UNIX_EPOCH))?));
    }
    let date = fields.to_date().map_err(lacks)?;
    let time = if fields.hour().is_some() {
        fields.to_time().map_err(|_| Fault::Time("the pattern leaves the time of day open"))?
    } else if fields.minute().is_some() || fields.second().is_some() || fields.meridiem().is_some() {
        return Err(Fault::Time("the pattern leaves the hour open"));
    } else {
        Time::midnight()
    };
    let local = date.to_datetime(time);
    let named = match fields.iana_time_zone() {
        Some(name) => Some(DATABASE.get(name).map_err(|_| Fault::Time("its zone is not known"))?),
        None => None,
    };
    match (fields.offset(), named) {
        (Some(offset), named) => {
            named.map_or(Ok(()), |zone| agree(local, offset, &zone))?;
            fixed(local, offset)
        }
        (None, Some(zone)) => in_zone(local, &zone),
        (None, None) => resolve(local, zone.offset_at(local)),
    }
}

/// Hours from 1 to 12, and nothing that says which half of the day.
pub(super) fn leaves_half_open(pattern: &str) -> bool {
    let (mut half, mut told) = (false, false);
    let mut parts = pattern.split('%').skip(1);
    while let Some(part) = parts.next() {
        // Between the sign and the letter stand flags, a width and colons.
        match part.trim_start_matches(|c: char| c.is_ascii_digit() || "-_^#:.".contains(c)).chars().next() {
            Some('I' | 'l') => half = true,
            Some('p' | 'P' | 's') => told = true,
            Some(_) => {}
            // `%%`: what follows is text.
            None => _ = parts.next(),
        }
    }
    half && !told
}

fn fixed(local: DateTime, offset: Offset) -> Result<Stamp, Fault> {
    if !in_a_day(offset) {
        return Err(Fault::Time("its offset is 24 hours or more"));
    }
    Ok(Stamp::of(at(local, offset)?))
}

/// A clock that is put back shows an hour twice: both are kept. One that is put forward leaves an hour out: a stamp in it
/// comes from a clock that was not put forward yet, so the offset before holds.
fn resolve(local: DateTime, offset: AmbiguousOffset) -> Result<Stamp, Fault> {
    let plain = |offset| Ok(Stamp { own_zone: false, ..Stamp::of(at(local, offset)?) });
    match offset {
        AmbiguousOffset::Unambiguous { offset } => plain(offset),
        AmbiguousOffset::Gap { before, .. } => Ok(Stamp { skipped: true, ..plain(before)? }),
        AmbiguousOffset::Fold { before, after } => Ok(Stamp { later_ms: Some(at(local, after)?), ..plain(before)? }),
    }
}

fn at(local: DateTime, offset: Offset) -> Result<u64, Fault> {
    to_ms(local.duration_since(EPOCH) - SignedDuration::from_secs(offset.seconds().into()))
}

fn to_ms(since_epoch: SignedDuration) -> Result<u64, Fault> {
    if since_epoch.is_negative() {
        return Err(BEFORE);
    }
    u64::try_from(since_epoch.as_millis()).ok().filter(|ms| *ms <= MAX_TIME_MS).ok_or(AFTER)
}

/// The text as ISO 8601 has it, if it is one of the ways in which it is usually missed.
fn clean(text: &str) -> Option<Cow<'_, str>> {
    let mut text = Cow::Borrowed(text);
    if let [year @ .., b'/', _, _, b'/', _, _] = text.as_bytes().get(..10)?
        && year.iter().all(u8::is_ascii_digit)
    {
        text = Cow::Owned(text.replacen('/', "-", 2));
    }
    // `UTC`, `GMT` and a space before the offset.
    let upper = text.to_ascii_uppercase();
    if let Some(local) = ["UTC", "GMT"].iter().find_map(|utc| upper.strip_suffix(utc)) {
        text = Cow::Owned(format!("{}Z", local.trim_end()));
    } else if let Some((local, offset)) = text.rsplit_once(' ')
        && local.contains(':')
        && offset.starts_with(['+', '-', 'Z', 'z'])
    {
        text = Cow::Owned(format!("{}{offset}", local.trim_end()));
    }
    // Several spaces between date and time.
    if let Some((date, time)) = text.split_once("  ") {
        text = Cow::Owned(format!("{date} {}", time.trim_start()));
    }
    if let Some(from) = text.find(['.', ',']).map(|mark| mark + 1) {
        let digits = text.bytes().skip(from).take_while(u8::is_ascii_digit).count();
        if digits > FRACTION_DIGITS {
            let (kept, cut) = (text.get(..from + FRACTION_DIGITS)?, text.get(from + digits..)?);
            text = Cow::Owned(format!("{kept}{cut}"));
        }
    }
    Some(text)
}

/// `31/03/2024…` or `03/31/2024…` with the year first.
pub(super) fn year_last(text: &str, day_first: bool) -> Option<String> {
    let (date, time) = text.split_at(text.find([' ', 'T', 't']).unwrap_or(text.len()));
    let date = date.trim_end_matches(',');
    let mark = date.chars().find(|c| matches!(c, '/' | '.' | '-'))?;
    let mut parts = date.split(mark);
    let (first, second, year) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if parts.next().is_some() || !digits(first, 2) || !digits(second, 2) || !digits(year, 4) || year.len() != 4 {
        return None;
    }
    let (day, month) = if day_first { (first, second) } else { (second, first) };
    // Hours below ten are often of one digit there.
    let clock = time.trim_start_matches([' ', 'T', 't']);
    let zero = if clock.as_bytes().get(1) == Some(&b':') { "0" } else { "" };
    let between = if clock.is_empty() { "" } else { " " };
    Some(format!("{year}-{month:0>2}-{day:0>2}{between}{zero}{clock}"))
}

fn explain(text: &str) -> Fault {
    let shape: Vec<u8> = text.bytes().take(11).map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }).collect();
    match shape.as_slice() {
        [b'0', b'0', b'0', b'0', b'-', b'0', b'0', b'-', b'0', b'0', b'T' | b't' | b' '] => Fault::Time(
            "it has a day, hour or offset that does not exist, or something follows it that does not belong to a time",
        ),
        [b'0', b'0', b'/' | b'-', ..] | [b'0', b'/' | b'-', ..] => {
            Fault::Time("the order of day, month and year is not clear")
        }
        _ => {
            Fault::Time("expected a date and time like 2024-03-31T12:00:00, with or without an offset like Z or +01:00")
        }
    }
}
