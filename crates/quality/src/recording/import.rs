//! From the bytes of a CSV to a recording.

use std::collections::{BTreeMap, BTreeSet};

use sealcast_reading::{Decimal, Fault, Stamp, StampFormat, TimeFormat, Value};

use super::{
    cell::{Condition, Delimiter},
    columns::{self, Columns},
    encoding::TextEncoding,
    error::{CellFault, Place, RecordingError},
    interleaved::{self, Groups},
    number::{Evidence, NumberFormat, Written, no_number},
    options::CsvOptions,
    order::{self, OrderOption},
    readings::{MAX_READINGS, Recording},
    signs::{DecimalSign, Thousands},
    table::{Row, Table, is_annotation},
    understood::{ColumnUsed, Understood},
};

/// So many series are named where there are several in one file.
pub const MAX_SERIES_NAMED: usize = 20;

/// So many columns are looked at for the names of series.
const MAX_SERIES_COLUMNS: usize = 16;

/// A recording that counts from a start has a stamp below this, which is 20 000 s. Spreadsheets' counts of days lie above
/// it since 1954, dates such as `240331` since the year 2002.
const NEAR_0_BEFORE_MS: u64 = 20_000_000;
const IN_1970_BEFORE_MS: u64 = 365 * 86_400_000;

/// A recording, and how the file was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The readings, oldest first.
    pub recording: Recording,
    /// What was understood.
    pub understood: Understood,
}

impl Recording {
    /// Reads a CSV with everything in it detected, see [`Recording::import`].
    ///
    /// # Errors
    /// [`RecordingError`] with the line and the column.
    pub fn from_csv(text: &str) -> Result<Self, RecordingError> {
        Self::import(text.as_bytes(), &CsvOptions::default()).map(|imported| imported.recording)
    }

    /// Reads a CSV (RFC 4180) as loggers, dashboards and spreadsheets export it. What `options` leave open is detected, and
    /// handed back. What could mean two things is refused: a number, an order of day and month, a column, a series.
    ///
    /// # Errors
    /// [`RecordingError`] with the line, the column and the option that helps.
    pub fn import(bytes: &[u8], options: &CsvOptions) -> Result<Imported, RecordingError> {
        let encoding = options.encoding.unwrap_or_else(|| TextEncoding::detect(bytes));
        let mut text = encoding.decode(bytes).ok_or(RecordingError::Encoding { encoding })?;
        // Line ends of old Macintoshes.
        if text.contains('\r') && !text.contains('\n') {
            text = text.replace('\r', "\n").into();
        }
        if let Some(other) = other_format(&text) {
            return Err(RecordingError::NotCsv(other));
        }
        let table = Table::new(&text);
        let delimiter = match options.delimiter.or(table.delimiter) {
            Some(delimiter) => delimiter,
            None => columns::delimiter(|delimiter| table.sample(delimiter), options, table.annotated)?,
        };
        let sample = table.sample(delimiter)?;
        let found = Columns::detect(&sample, options, table.annotated);
        // A single column is no table: what divides it is the question, not which column is which.
        let columns = found.map_err(|undetected| match sample.first() {
            Some(row) if row.len() < 2 => {
                RecordingError::Fields { line: row.line, found: row.len(), wanted: 2, delimiter }
            }
            _ => *undetected.error,
        })?;
        let import = Import { table, delimiter, columns: &columns, options };
        // First of all: what is wrong in a row of another series is of no interest.
        import.check_series()?;
        import.read(import.number_format()?, encoding)
    }
}

/// Counts that give a time in 1970.
struct Counts {
    /// The first of them, as a fault.
    early: Option<RecordingError>,
    least_ms: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { early: None, least_ms: u64::MAX }
    }
}

struct Import<'a> {
    table: Table<'a>,
    delimiter: Delimiter,
    columns: &'a Columns,
    options: &'a CsvOptions,
}

impl<'a> Import<'a> {
    /// The rows that fulfil the conditions, with how many do not.
    fn rows(&self, mut handle: impl FnMut(&Row<'a>) -> Result<(), RecordingError>) -> Result<usize, RecordingError> {
        let columns = self.columns;
        let header =
            |row: &Row<'_>| !columns.names.is_empty() && row.fields().eq(columns.names.iter().map(String::as_str));
        let mut left_out = 0;
        let mut new_table = false;
        for row in self.table.rows(self.delimiter) {
            let row = row?;
            // A file of several tables, or of several files, repeats its header.
            if header(&row) {
                new_table = false;
                continue;
            }
            if is_annotation(row.field(0)) {
                new_table = true;
                continue;
            }
            if new_table {
                return Err(RecordingError::AnotherTable { line: row.line });
            }
            self.check_shape(&row)?;
            let conditions = columns.conditions.iter().zip(&self.options.conditions);
            if conditions.into_iter().any(|(at, condition)| row.field(*at) != condition.value) {
                left_out += 1;
                continue;
            }
            handle(&row)?;
        }
        Ok(left_out)
    }

    fn check_shape(&self, row: &Row<'_>) -> Result<(), RecordingError> {
        let columns = self.columns;
        let needed = columns.time.max(columns.value).max(columns.clock.unwrap_or(0));
        if row.len() <= needed || row.filled() > columns.width {
            let (line, delimiter) = (row.line, self.delimiter);
            return Err(RecordingError::Fields { line, found: row.len(), wanted: columns.width, delimiter });
        }
        match row.stray_quote(self.delimiter).filter(|at| columns.uses(*at)) {
            Some(at) => Err(RecordingError::Quote { place: self.place(row, at) }),
            None => Ok(()),
        }
    }

    fn place(&self, row: &Row<'_>, at: usize) -> Place {
        Place { line: row.line, column: at + 1, name: self.columns.name(at).to_owned() }
    }

    fn fault(&self, row: &Row<'_>, at: usize, text: &str, fault: CellFault) -> RecordingError {
        RecordingError::Cell { place: self.place(row, at), text: text.chars().take(40).collect(), fault }
    }

    /// The decimal sign by the whole column: a number with something else than three digits behind the sign tells it.
    fn number_format(&self) -> Result<NumberFormat, RecordingError> {
        let thousands = self.options.thousands;
        if let Some(decimal) = self.options.decimal.or(thousands.and_then(Thousands::decimal)) {
            if thousands.and_then(Thousands::decimal).is_some_and(|other| other != decimal) {
                return Err(RecordingError::SameSign);
            }
            return Ok(NumberFormat { decimal, thousands });
        }
        let at = self.columns.value;
        let mut told: Option<(DecimalSign, u64)> = None;
        let mut either: BTreeMap<bool, RecordingError> = BTreeMap::new();
        self.rows(|row| {
            let text = row.field(at);
            match Written::split(text).map_or(Evidence::None, |written| written.evidence(thousands)) {
                Evidence::None => {}
                Evidence::Decimal(sign) => match told {
                    Some((first, line)) if first != sign => {
                        return Err(self.fault(row, at, text, CellFault::Mixed { line }));
                    }
                    Some(_) => {}
                    None => told = Some((sign, row.line)),
                },
                Evidence::Either(sign) => {
                    let fault = || self.fault(row, at, text, CellFault::Ambiguous);
                    either.entry(sign == DecimalSign::Comma).or_insert_with(fault);
                }
            }
            Ok(())
        })?;
        let decimal = match (told, either.remove(&true), either.remove(&false)) {
            (Some((sign, _)), _, _) => sign,
            (None, Some(comma), _) => return Err(comma),
            // Where commas are decimal signs, something else divides, and points stand between thousands.
            (None, None, Some(point)) if self.delimiter != Delimiter::COMMA => return Err(point),
            (None, None, _) => DecimalSign::Point,
        };
        Ok(NumberFormat { decimal, thousands })
    }

    fn read(&self, numbers: NumberFormat, encoding: TextEncoding) -> Result<Imported, RecordingError> {
        let columns = self.columns;
        let mut rows: Vec<(Stamp, Value)> = Vec::new();
        let mut words: BTreeMap<String, usize> = BTreeMap::new();
        let mut unit: Option<(String, u64)> = None;
        let mut counts = Counts::default();
        let mut topic: Option<String> = None;
        let rows_left_out = self.rows(|row| {
            let stamp = self.stamp(row)?;
            self.count(row, stamp, &mut counts);
            // One of its rows says it: a file with several topics was refused.
            if let Some(text) = columns.topic.filter(|_| topic.is_none()).map(|at| row.field(at)) {
                topic = Some(text.to_owned()).filter(|text| !text.is_empty());
            }
            let text = row.field(columns.value);
            let value = if let Some(special) = no_number(text) {
                *words.entry(text.to_lowercase()).or_default() += 1;
                Value::Special(special)
            } else {
                let fault = |fault| self.fault(row, columns.value, text, fault);
                let written = Written::split(text).ok_or_else(|| fault(CellFault::Number))?;
                let number = written.read(numbers).map_err(fault)?;
                let (first, line) = unit.get_or_insert_with(|| (written.unit.to_owned(), row.line));
                if first != written.unit {
                    let named = |unit: &str| if unit.is_empty() { "no unit".to_owned() } else { unit.to_owned() };
                    let (found, first) = (named(written.unit), named(first));
                    return Err(fault(CellFault::Unit { found, first, line: *line }));
                }
                Value::Number(number)
            };
            if rows.len() >= MAX_READINGS {
                return Err(RecordingError::TooMany);
            }
            rows.push((stamp, value));
            Ok(())
        })?;
        if rows.is_empty() {
            return Err(self.nothing(rows_left_out));
        }
        if let Some(early) = counts.early.filter(|_| counts.least_ms >= NEAR_0_BEFORE_MS) {
            return Err(early);
        }
        self.check_interleaved(&rows)?;
        let count = |test: fn(&Stamp) -> bool| rows.iter().filter(|(stamp, _)| test(stamp)).count();
        let stamps_without_zone = count(|stamp| !stamp.own_zone);
        let used = |at: usize| ColumnUsed {
            number: at + 1,
            name: Some(columns.name(at).to_owned()).filter(|name| !name.is_empty()),
        };
        let mut understood = Understood {
            time_column: used(columns.time),
            clock_column: columns.clock.map(used),
            value_column: used(columns.value),
            conditions: self.options.conditions.iter().map(Condition::to_string).collect(),
            topic,
            delimiter: self.delimiter.to_string(),
            decimal: numbers.decimal.to_string(),
            thousands: numbers.thousands.map(|sign| sign.to_string()),
            unit: unit.map(|(unit, _)| unit).filter(|unit| !unit.is_empty()),
            time_zone: (stamps_without_zone > 0).then(|| self.options.time_zone.to_string()),
            stamps_without_zone,
            stamps_twice: count(|stamp| stamp.later_ms.is_some()),
            stamps_skipped: count(|stamp| stamp.skipped),
            order: String::new(),
            stamps_back: 0,
            stamps_repeated: 0,
            encoding: encoding.to_string(),
            rows: rows.len(),
            rows_left_out,
            not_numbers: words.values().sum(),
            words,
        };
        let ordered = order::arrange(rows, self.options.order);
        understood.order = ordered.order.to_string();
        (understood.stamps_back, understood.stamps_repeated) = (ordered.back, ordered.repeated);
        Ok(Imported { recording: Recording { readings: ordered.readings }, understood })
    }

    fn stamp(&self, row: &Row<'_>) -> Result<Stamp, RecordingError> {
        let Columns { time, clock, .. } = *self.columns;
        let joined;
        let mut text = row.field(time);
        if let Some(clock) = clock {
            joined = format!("{text} {}", row.field(clock));
            text = &joined;
        }
        let fault = |why: String| self.fault(row, time, text, CellFault::Time(why));
        let stamp = self.options.time_format.read(text, &self.options.time_zone);
        stamp.map_err(|why| fault(if let Fault::Time(why) = why { why.to_owned() } else { why.to_string() }))
    }

    /// Notes a stamp that is a count and may be none.
    fn count(&self, row: &Row<'_>, stamp: Stamp, counts: &mut Counts) {
        let at = self.columns.time;
        let text = row.field(at);
        let auto = self.options.time_format == StampFormat::Plain(TimeFormat::Auto);
        // Counts of 1971 to 1989 are refused one by one.
        if !auto || stamp.time_ms >= IN_1970_BEFORE_MS || self.columns.clock.is_some() || Decimal::parse(text).is_err()
        {
            return;
        }
        counts.early.get_or_insert_with(|| self.fault(row, at, text, CellFault::Early));
        counts.least_ms = counts.least_ms.min(stamp.time_ms);
    }

    fn check_series(&self) -> Result<(), RecordingError> {
        let columns = self.columns;
        if columns.series.is_empty() {
            return Ok(());
        }
        let mut series: Vec<BTreeSet<String>> = vec![BTreeSet::new(); columns.series.len()];
        self.rows(|row| {
            for (seen, at) in series.iter_mut().zip(&columns.series) {
                let name = row.field(*at);
                if !name.is_empty() && seen.len() <= MAX_SERIES_NAMED && !seen.contains(name) {
                    seen.insert(name.to_owned());
                }
            }
            Ok(())
        })?;
        let several = columns.series.iter().zip(&series).find(|(_, seen)| seen.len() > 1);
        let Some((at, seen)) = several else { return Ok(()) };
        Err(RecordingError::Series { column: self.called(*at), values: named(seen) })
    }

    /// Series that a column of any other name tells apart. Whoever names the order of the rows has seen what the stamps do.
    fn check_interleaved(&self, rows: &[(Stamp, Value)]) -> Result<(), RecordingError> {
        let stamps_ms: Vec<u64> = rows.iter().map(|(stamp, _)| stamp.time_ms).collect();
        if self.options.order != OrderOption::Auto || !interleaved::are_mixed(&stamps_ms) {
            return Ok(());
        }
        let free = (0..self.columns.width).filter(|at| !self.columns.uses(*at)).take(MAX_SERIES_COLUMNS);
        let mut columns: Vec<(usize, Groups)> = free.map(|at| (at, Groups::default())).collect();
        self.rows(|row| {
            columns.retain_mut(|(at, groups)| groups.push(row.field(*at)));
            Ok(())
        })?;
        // Numbers are measured or counted: they name no series unless the header says so.
        let text = |groups: &Groups| groups.words().any(|word| !word.is_empty() && Decimal::parse(word).is_err());
        let found = columns.iter().find(|(_, groups)| text(groups) && groups.are_series(&stamps_ms));
        let Some((at, groups)) = found else { return Ok(()) };
        let column = self.called(*at);
        Err(RecordingError::Interleaved { column, values: named(&groups.words().map(str::to_owned).collect()) })
    }

    /// How an option names the column: by its number where it has no name.
    fn called(&self, at: usize) -> String {
        let name = Some(self.columns.name(at)).filter(|name| !name.is_empty());
        name.map_or_else(|| (at + 1).to_string(), str::to_owned)
    }

    /// Why there is no row.
    fn nothing(&self, rows_left_out: usize) -> RecordingError {
        let first = self.columns.conditions.first().zip(self.options.conditions.first());
        let Some((at, condition)) = first.filter(|_| rows_left_out > 0) else { return RecordingError::Empty };
        let mut seen = BTreeSet::new();
        for row in self.table.rows(self.delimiter).flatten().skip(usize::from(!self.columns.names.is_empty())) {
            if seen.len() <= MAX_SERIES_NAMED {
                seen.insert(row.field(*at).to_owned());
            }
        }
        RecordingError::NoRow { condition: condition.to_string(), values: named(&seen) }
    }
}

/// A row begins with neither a brace nor a bracket, and text has no NUL.
fn other_format(text: &str) -> Option<&'static str> {
    if text.contains('\0') {
        Some("binary data")
    } else if text.trim_start_matches('\u{feff}').trim_start().starts_with(['{', '[']) {
        Some("JSON")
    } else {
        None
    }
}

fn named(seen: &BTreeSet<String>) -> String {
    let mut names: Vec<&str> = seen.iter().take(MAX_SERIES_NAMED).map(String::as_str).collect();
    if seen.len() > MAX_SERIES_NAMED {
        names.push("…");
    }
    names.join(", ")
}
