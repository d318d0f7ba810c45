//! Which column is which. What is not named is detected by the header's words and by what stands in the first rows.

use sealcast_reading::{Decimal, Unit};

use super::{
    cell::{Column, Delimiter},
    error::RecordingError,
    number::{Written, no_number},
    options::CsvOptions,
    table::Row,
};

/// Names of a column of times, the best first: a file with several of them has one that says when the value was taken.
const TIMES: [&str; 34] = [
    "_time",
    "time",
    "timestamp",
    "last_changed",
    "last_updated",
    "created_at",
    "datetime",
    "date_time",
    "date time",
    "date/time",
    "measured_at",
    "recorded_at",
    "zeitstempel",
    "zeitpunkt",
    "zeit",
    "datum/zeit",
    "date",
    "datum",
    "ts",
    "t",
    "epoch",
    "unix",
    "unixtime",
    "unix_time",
    "time_s",
    "time_ms",
    "time_us",
    "time_ns",
    "timestamp_ms",
    "timestamp_s",
    "fecha",
    "horodatage",
    "data",
    "tijd",
];
/// Words in longer names: `Time (UTC)`.
const TIME_WORDS: [&str; 10] =
    ["time", "timestamp", "date", "datetime", "ts", "zeit", "datum", "zeitstempel", "created", "updated"];
/// Names of a column of values.
const VALUES: [&str; 8] = ["value", "_value", "state", "reading", "wert", "messwert", "valeur", "valor"];
/// Numbers that are no measurement.
const COUNTS: [&str; 17] = [
    "",
    "id",
    "entry_id",
    "index",
    "idx",
    "no",
    "no.",
    "nr",
    "nr.",
    "#",
    "row",
    "record",
    "unnamed: 0",
    "seq",
    "sequence",
    "result",
    "table",
];
/// Where ThingSpeak's channels are.
const PLACES: [&str; 6] = ["latitude", "longitude", "elevation", "lat", "lon", "lng"];
/// Columns that tell series apart.
const SERIES: [&str; 26] = [
    "entity_id",
    "device_id",
    "device",
    "deveui",
    "sensor_id",
    "sensor",
    "sensor_name",
    "series",
    "metric",
    "topic",
    "_field",
    "_measurement",
    "measurement",
    "field",
    "host",
    "location",
    "room",
    "name",
    "tags",
    "channel",
    "parameter",
    "unit",
    "units",
    "unit_of_measurement",
    "einheit",
    "statistic_id",
];

/// Which column is which, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// The header; empty without one.
    pub names: Vec<String>,
    /// Fields of a row.
    pub width: usize,
    pub time: usize,
    /// The time of day, where `time` has only the date.
    pub clock: Option<usize>,
    pub value: usize,
    /// In the order of `CsvOptions::conditions`.
    pub conditions: Vec<usize>,
    /// The one that holds MQTT topics.
    pub topic: Option<usize>,
    /// Those that tell series apart.
    pub series: Vec<usize>,
}

/// Why the columns were not found, and how much was: of several delimiters, the one under which most is understood is the
/// right one.
pub(super) struct Undetected {
    understood: u8,
    pub error: Box<RecordingError>,
}

impl Undetected {
    fn at(understood: u8) -> impl FnOnce(RecordingError) -> Self {
        move |error| Self { understood, error: Box::new(error) }
    }
}

impl Columns {
    /// By the first rows.
    pub(super) fn detect(rows: &[Row<'_>], options: &CsvOptions, annotated: bool) -> Result<Self, Undetected> {
        let Some(first) = rows.first() else { return Err(Undetected::at(0)(RecordingError::Empty)) };
        let sample = Sample { rows, options };
        let names: Vec<String> = first.fields().map(str::to_owned).collect();
        let (time, header) = sample.time_column(&names).map_err(Undetected::at(0))?;
        let names = if header { names } else { Vec::new() };
        let width = if header { names.len() } else { first.filled() };
        let body = Sample { rows: if header { rows.get(1..).unwrap_or_default() } else { rows }, options };
        if header && body.rows.is_empty() {
            return Err(Undetected::at(1)(RecordingError::Empty));
        }
        let mut columns =
            Self { names, width, time, clock: None, value: 0, conditions: Vec::new(), topic: None, series: Vec::new() };
        columns.clock = body.clock_column(&columns);
        for condition in &options.conditions {
            let at = columns.find("--where", &condition.column).map_err(Undetected::at(1))?;
            columns.conditions.push(at);
        }
        columns.value = body.value_column(&columns).map_err(Undetected::at(2))?;
        if columns.value == time {
            return Err(Undetected::at(2)(RecordingError::SameColumn));
        }
        columns.topic = body.topic_column(&columns);
        columns.series = columns.tell_apart(annotated);
        Ok(columns)
    }

    pub(super) fn name(&self, at: usize) -> &str {
        self.names.get(at).map_or("", String::as_str)
    }

    /// Columns whose fields must be read without doubt.
    pub(super) fn uses(&self, at: usize) -> bool {
        at == self.time
            || at == self.value
            || self.clock == Some(at)
            || self.conditions.contains(&at)
            || self.series.contains(&at)
    }

    fn find(&self, option: &'static str, column: &Column) -> Result<usize, RecordingError> {
        let found = column.find(&self.names).or_else(|| column.number(self.width));
        found.ok_or_else(|| RecordingError::NoSuchColumn {
            option,
            column: column.to_string(),
            columns: list(&self.names, 0..self.width),
        })
    }

    fn tell_apart(&self, annotated: bool) -> Vec<usize> {
        let taken = |at: usize| at == self.time || at == self.value || self.conditions.contains(&at);
        // InfluxDB's own columns, and tags of any name.
        let influx = annotated || (self.names.iter().any(|name| name == "_value") && self.names.len() > 2);
        let wanted = |name: &str| {
            let name = name.to_ascii_lowercase();
            let tag = influx && !["", "result", "table", "_start", "_stop", "_time", "_value"].contains(&name.as_str());
            tag || SERIES.contains(&name.as_str())
        };
        let apart = |at: &usize| self.topic == Some(*at) || self.names.get(*at).is_some_and(|name| wanted(name));
        (0..self.width).filter(|at| !taken(*at) && Some(*at) != self.clock && apart(at)).collect()
    }
}

/// Names, or numbers where there are none, as a person reads them.
pub(super) fn list(names: &[String], columns: impl IntoIterator<Item = usize>) -> String {
    const MOST: usize = 30;
    let mut columns = columns.into_iter();
    let one = |at: usize| match names.get(at).filter(|name| !name.is_empty()) {
        Some(name) => format!("{} ({name})", at + 1),
        None => (at + 1).to_string(),
    };
    let mut texts: Vec<String> = columns.by_ref().take(MOST).map(one).collect();
    if columns.next().is_some() {
        texts.push("…".to_owned());
    }
    texts.join(", ")
}

struct Sample<'a> {
    rows: &'a [Row<'a>],
    options: &'a CsvOptions,
}

impl Sample<'_> {
    /// What stands in a column, without what is empty.
    fn filled(&self, at: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| row.field(at)).filter(|field| !field.is_empty())
    }

    fn is_time(&self, text: &str) -> bool {
        self.options.time_format.read(text, &self.options.time_zone).is_ok()
    }

    /// The column of times, and whether the first row is a header.
    fn time_column(&self, first: &[String]) -> Result<(usize, bool), RecordingError> {
        let is_time = |at: usize| first.get(at).is_some_and(|text| self.is_time(text));
        if let Some(column) = &self.options.time_column {
            if let Some(at) = column.find(first) {
                return Ok((at, true));
            }
            let at = column.number(first.len()).ok_or_else(|| RecordingError::NoSuchColumn {
                option: "--time-column",
                column: column.to_string(),
                columns: list(first, 0..first.len()),
            })?;
            return Ok((at, !is_time(at) && self.rows.len() > 1));
        }
        let body = Self { rows: if self.rows.len() > 1 { &self.rows[1..] } else { self.rows }, options: self.options };
        let times = |at: usize| body.filled(at).next().is_some() && body.filled(at).all(|text| self.is_time(text));
        let named = |name: &str| first.iter().position(|text| text.eq_ignore_ascii_case(name));
        // A name that fits a column of something else ("date" of a calendar week) does not hide one with times.
        let known: Vec<usize> = TIMES.iter().filter_map(|name| named(name)).collect();
        if let Some(at) = known.iter().copied().find(|at| times(*at)).or(known.first().copied()) {
            return Ok((at, true));
        }
        let date = |at: &usize| times(*at) && body.filled(*at).all(|text| Decimal::parse(text).is_err());
        let worded = |at: &usize| {
            let name = first.get(*at).map(|name| name.to_lowercase()).unwrap_or_default();
            !is_time(*at) && name.split(|c: char| !c.is_alphanumeric()).any(|word| TIME_WORDS.contains(&word))
        };
        let all = || 0..first.len();
        let worded: Vec<usize> = all().filter(worded).filter(|at| times(*at)).collect();
        let dates: Vec<usize> = all().filter(date).collect();
        let what = match (worded.as_slice(), dates.as_slice()) {
            ([at], _) | ([], [at]) => return Ok((*at, !is_time(*at))),
            ([], [])
                if is_time(0) && first.iter().skip(1).any(|text| looks_numeric(text) || no_number(text).is_some()) =>
            {
                return Ok((0, false));
            }
            // One column of texts: the line says better than the header that this is not a time.
            ([], []) => "no column holds times that can be read without their format",
            _ => "several columns hold times",
        };
        Err(RecordingError::TimeColumn { what, columns: list(first, all()) })
    }

    /// A column of times of day, if the times are dates only.
    fn clock_column(&self, columns: &Columns) -> Option<usize> {
        let date_only = |text: &str| !text.contains(':') && Decimal::parse(text).is_err();
        let clock = |text: &str| {
            let time = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
            let mut parts = time.split(':');
            let two = |part: Option<&str>| part.is_some_and(|part| (1..=2).contains(&part.len()) && digits(part));
            let begins = two(parts.next()) && two(parts.next());
            begins && parts.all(|part| part.starts_with(|c: char| c.is_ascii_digit()))
        };
        let every =
            |at: usize, test: &dyn Fn(&str) -> bool| self.filled(at).next().is_some() && self.filled(at).all(test);
        if !every(columns.time, &date_only) {
            return None;
        }
        let mut clocks = (0..columns.width).filter(|at| *at != columns.time && every(*at, &clock));
        clocks.next().filter(|_| clocks.next().is_none())
    }

    /// The column named `topic`, or one under any other name, or none, that holds nothing but topics.
    fn topic_column(&self, columns: &Columns) -> Option<usize> {
        let taken = |at: &usize| [Some(columns.time), Some(columns.value), columns.clock].contains(&Some(*at));
        let named = columns.names.iter().position(|name| name.eq_ignore_ascii_case("topic")).filter(|at| !taken(at));
        let is_topic = |text: &str| looks_like_topic(text) && !self.is_time(text);
        let all = |at: &usize| self.filled(*at).next().is_some() && self.filled(*at).all(is_topic);
        named.or_else(|| (0..columns.width).find(|at| !taken(at) && all(at)))
    }

    fn value_column(&self, columns: &Columns) -> Result<usize, RecordingError> {
        if let Some(column) = &self.options.value_column {
            return columns.find("--value-column", column);
        }
        let lower = |at: usize| columns.name(at).to_lowercase();
        let taken = |at: usize| at == columns.time || columns.clock == Some(at) || columns.conditions.contains(&at);
        let named = VALUES.iter().filter_map(|name| (0..columns.width).find(|at| lower(*at) == *name && !taken(*at)));
        if let Some(at) = named.into_iter().next() {
            return Ok(at);
        }
        let free = || (0..columns.width).filter(|at| !taken(*at));
        let counts = |at: &usize| {
            !columns.names.is_empty()
                && (COUNTS.contains(&lower(*at).as_str()) || PLACES.contains(&lower(*at).as_str()))
        };
        let numeric = |at: &usize| self.filled(*at).find(|text| no_number(text).is_none()).is_some_and(looks_numeric);
        // A second column of dates is no value, though a year could be one.
        let time = |at: &usize| self.filled(*at).all(|text| Decimal::parse(text).is_err() && self.is_time(text));
        let found: Vec<usize> = free().filter(|at| !counts(at) && numeric(at) && !time(at)).collect();
        let all: Vec<usize> = free().collect();
        match (found.as_slice(), all.as_slice()) {
            ([at], _) | ([], [at]) => Ok(*at),
            ([], _) => {
                Err(RecordingError::ValueColumn { what: "no column holds numbers", columns: list(&columns.names, all) })
            }
            _ => Err(RecordingError::ValueColumn {
                what: "several columns hold numbers",
                columns: list(&columns.names, found),
            }),
        }
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn looks_numeric(text: &str) -> bool {
    Written::split(text).is_some()
}

/// Levels of words. `m/s` is a unit, `3/4` a fraction.
fn looks_like_topic(text: &str) -> bool {
    let is_level = |level: &str| {
        !level.is_empty() && !level.contains(|c: char| c.is_whitespace() || c.is_control() || "+#".contains(c))
    };
    let is_unit = || Unit::new(text).is_ok_and(|unit| unit.standing().is_some());
    text.contains('/')
        && text.contains(char::is_alphabetic)
        && text.split('/').all(is_level)
        && !looks_numeric(text)
        && !is_unit()
}

/// What divides the fields: the delimiter under which most of the sample is understood.
pub(super) fn delimiter<'a>(
    sample: impl Fn(Delimiter) -> Result<Vec<Row<'a>>, RecordingError>,
    options: &CsvOptions,
    annotated: bool,
) -> Result<Delimiter, RecordingError> {
    let mut best: Option<(u8, usize, Delimiter)> = None;
    let mut alike = Vec::new();
    for delimiter in Delimiter::KNOWN {
        let Ok(rows) = sample(delimiter) else { continue };
        let width = rows.iter().map(Row::len).min().unwrap_or(0);
        if rows.iter().map(Row::len).max().is_none_or(|most| most < 2) {
            continue;
        }
        if width > 1 && rows.iter().all(|row| row.len() == width) {
            alike.push(delimiter);
        }
        let understood =
            Columns::detect(&rows, options, annotated).map_or_else(|undetected| undetected.understood, |_| 3);
        if best.is_none_or(|(most, columns, _)| (most, columns) < (understood, width)) {
            best = Some((understood, width, delimiter));
        }
    }
    match best {
        // `0,5;1,5` is a number and two, or two numbers.
        Some((_, _, Delimiter::COMMA)) if alike.contains(&Delimiter::SEMICOLON) => Err(RecordingError::Delimiter),
        Some((_, _, delimiter)) => Ok(delimiter),
        None => Ok(Delimiter::COMMA),
    }
}
