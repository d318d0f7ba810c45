//! Time zones by name or offset.

use std::{fmt, str::FromStr, sync::LazyLock};

use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use serde::Deserialize;

/// The tz database that is built in: machines without `/usr/share/zoneinfo` read stamps like any other.
pub(super) static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone: an IANA name (`Europe/Berlin`), an offset (`+01:00`, `+0100`, `+01`), `UTC` or `Z`, or a POSIX rule
/// (`CET-1CEST,M3.5.0,M10.5.0/3`, as many devices have it in their settings).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// A text that names no zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a time zone: give an IANA name such as Europe/Berlin, an offset such as +01:00, or UTC")]
pub struct ZoneError {
    /// What stands there.
    pub name: String,
}

impl Zone {
    /// Coordinated Universal Time.
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    pub(super) fn offset_at(&self, local: DateTime) -> AmbiguousOffset {
        self.zone.to_ambiguous_timestamp(local).offset()
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::utc()
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        let name = text.trim();
        if ["utc", "gmt", "z"].iter().any(|utc| name.eq_ignore_ascii_case(utc)) {
            return Ok(Self::utc());
        }
        // As a POSIX rule, `UTC+1` would be an hour west of Greenwich. Whoever writes it means an hour east.
        let posix = name.contains(',');
        let offset = name.starts_with(['+', '-']);
        let iana = || name.contains('/') || !name.contains(|c: char| c.is_ascii_digit() || c == '+' || c == '-');
        let known = || DateTimeParser::new().parse_time_zone_with(&DATABASE, name).ok();
        let zone = if posix || offset || iana() { known() } else { DATABASE.get(name).ok() };
        let zone = zone.filter(|zone| zone.to_fixed_offset().map_or(true, in_a_day));
        zone.map(|zone| Self { name: name.to_owned(), zone }).ok_or_else(|| ZoneError { name: name.to_owned() })
    }
}

/// RFC 3339's offsets end at 23:59.
pub(super) fn in_a_day(offset: Offset) -> bool {
    offset.seconds().unsigned_abs() < 24 * 3600
}

impl TryFrom<String> for Zone {
    type Error = ZoneError;

    fn try_from(text: String) -> Result<Self, ZoneError> {
        text.parse()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
