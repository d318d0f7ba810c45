//! Rows of fields (RFC 4180), with their line numbers.

use csv::{Reader, ReaderBuilder, StringRecord};

use super::{
    cell::{Delimiter, MAX_COLUMNS},
    error::RecordingError,
};

/// Rows by which the delimiter and the columns are detected.
const SAMPLE_ROWS: usize = 500;

/// One row.
#[derive(Debug, Clone)]
pub(super) struct Row<'a> {
    /// From 1.
    pub line: u64,
    fields: StringRecord,
    raw: &'a str,
}

impl Row<'_> {
    /// A field without the spaces around it; empty where the row is short.
    pub(super) fn field(&self, at: usize) -> &str {
        self.fields.get(at).unwrap_or_default().trim()
    }

    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(str::trim)
    }

    /// How many fields there are without the empty ones at the end.
    pub(super) fn filled(&self) -> usize {
        let empty = self.fields.iter().rev().take_while(|field| field.trim().is_empty()).count();
        self.len() - empty
    }

    /// The column of a quote that does not begin or end its field: a lenient reader makes `"1"5` 15.
    pub(super) fn stray_quote(&self, delimiter: Delimiter) -> Option<usize> {
        let mut rest = self.raw.trim_matches(['\r', '\n']);
        let divides = |c: char| u32::from(c) == u32::from(delimiter.byte());
        let mut column = 0;
        while !rest.is_empty() {
            if let Some(mut quoted) = rest.strip_prefix('"') {
                loop {
                    let end = quoted.find('"')?;
                    quoted = quoted.get(end + 1..)?;
                    match quoted.strip_prefix('"') {
                        Some(doubled) => quoted = doubled,
                        None => break,
                    }
                }
                rest = quoted;
                if !(rest.is_empty() || rest.starts_with(divides)) {
                    return Some(column);
                }
            } else {
                let end = rest.find(divides).unwrap_or(rest.len());
                if rest.get(..end)?.contains('"') {
                    return Some(column);
                }
                rest = rest.get(end..)?;
            }
            rest = rest.get(1..).unwrap_or_default();
            column += 1;
        }
        None
    }
}

/// Rows of a text; those without anything in them are left out.
pub(super) struct Rows<'a> {
    reader: Reader<&'a [u8]>,
    text: &'a str,
    /// Bytes and line breaks that were read.
    read: usize,
    lines: u64,
}

impl<'a> Rows<'a> {
    /// `first_line` is the number of the text's first line.
    pub(super) fn new(text: &'a str, delimiter: Delimiter, first_line: u64) -> Self {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter.byte())
            .from_reader(text.as_bytes());
        Self { reader, text, read: 0, lines: first_line }
    }

    fn next_row(&mut self) -> Result<Option<Row<'a>>, RecordingError> {
        loop {
            let mut fields = StringRecord::new();
            // Text in memory has neither I/O errors nor wrong UTF-8, and rows may be of any length.
            if !self.reader.read_record(&mut fields).unwrap_or(false) {
                return Ok(None);
            }
            let end = usize::try_from(self.reader.position().byte()).unwrap_or(self.text.len());
            let raw = self.text.get(self.read..end).unwrap_or_default();
            self.read = end;
            let breaks = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count() as u64;
            let body = raw.trim_start_matches(['\r', '\n']);
            let line = self.lines + breaks(raw) - breaks(body);
            self.lines += breaks(raw);
            // A quote that is never closed takes the rest of the file with it.
            if end == self.text.len() && body.trim_end().contains('\n') && body.matches('"').count() % 2 == 1 {
                return Err(RecordingError::Unclosed { line });
            }
            if fields.len() > MAX_COLUMNS {
                return Err(RecordingError::TooManyColumns { line });
            }
            if fields.iter().any(|field| !field.trim().is_empty()) {
                return Ok(Some(Row { line, fields, raw: body }));
            }
        }
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<Row<'a>, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

/// A text of rows, without the line that names the delimiter (`sep=;`, which spreadsheets read) and without comments before
/// the header.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    text: &'a str,
    first_line: u64,
    /// What the file says.
    pub delimiter: Option<Delimiter>,
    /// InfluxDB's annotations were among the comments.
    pub annotated: bool,
}

impl<'a> Table<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut table = Self { text, first_line: 1, delimiter: None, annotated: false };
        while let Some((line, rest)) = split_line(table.text) {
            let plain = line.trim().trim_matches('"');
            let named = plain.get(..4).filter(|start| start.eq_ignore_ascii_case("sep="));
            if table.first_line == 1 && named.is_some() {
                let mark = line.trim_end_matches(['\r', '\n']).trim_matches('"').get(4..).unwrap_or_default();
                table.delimiter = mark.parse().ok();
            } else if plain.starts_with('#') {
                table.annotated |= is_annotation(plain);
            } else if !plain.is_empty() {
                break;
            }
            (table.text, table.first_line) = (rest, table.first_line + 1);
        }
        table
    }

    pub(super) fn rows(&self, delimiter: Delimiter) -> Rows<'a> {
        Rows::new(self.text, delimiter, self.first_line)
    }

    /// The first rows.
    pub(super) fn sample(&self, delimiter: Delimiter) -> Result<Vec<Row<'a>>, RecordingError> {
        self.rows(delimiter).take(SAMPLE_ROWS).collect()
    }
}

/// InfluxDB's lines about the columns of the table below them.
pub(super) fn is_annotation(text: &str) -> bool {
    ["#group", "#datatype", "#default"].iter().any(|word| text.starts_with(word))
}

fn split_line(text: &str) -> Option<(&str, &str)> {
    if text.is_empty() {
        return None;
    }
    Some(text.split_at(text.find('\n').map_or(text.len(), |at| at + 1)))
}
