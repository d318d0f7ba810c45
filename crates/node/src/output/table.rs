//! Tables that fit the terminal. What is not read by a person at a terminal has every cell in full.

use std::io::IsTerminal as _;

use anyhow::Result;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{line, printable::printable};

/// Between two columns.
const GAP: usize = 2;
/// A column that may be cut keeps so much, or its title.
const LEAST: usize = 8;
/// What stands below its row begins so far right.
const INDENT: usize = 4;

/// What becomes of a column that makes the table wider than the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// Nothing: somebody needs it for the next command.
    Whole,
    /// Its longest cells are cut, with `…` at the end.
    Cut,
    /// It stands below each row, in as many lines as it needs.
    Below,
}

/// A column's title, and what becomes of it in a narrow terminal.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    fit: Fit,
}

impl From<&'static str> for Column {
    /// Nothing of it is ever cut.
    fn from(title: &'static str) -> Self {
        Self { title, fit: Fit::Whole }
    }
}

impl Column {
    /// Its cells may be cut.
    pub const fn cut(title: &'static str) -> Self {
        Self { title, fit: Fit::Cut }
    }

    /// Its sentences move below their rows.
    pub const fn below(title: &'static str) -> Self {
        Self { title, fit: Fit::Below }
    }
}

/// A table with a header, columns as wide as their widest cell, or as the terminal lets them be.
pub fn table<const N: usize>(header: [impl Into<Column>; N], rows: &[[String; N]]) -> Result<()> {
    lay_out(header.map(Into::into), rows, terminal_width()).iter().try_for_each(|row| line(row))
}

/// The same, or this sentence if there are no rows.
pub fn table_or<const N: usize>(sentence: &str, header: [impl Into<Column>; N], rows: &[[String; N]]) -> Result<()> {
    if rows.is_empty() { line(sentence) } else { table(header, rows) }
}

/// Columns of the terminal that standard output is; `None` if it is none.
fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    let (terminal_size::Width(width), _) = terminal_size::terminal_size_of(&stdout).filter(|_| stdout.is_terminal())?;
    // A terminal that does not know its size says 0.
    Some(usize::from(width)).filter(|width| *width > 0)
}

fn lay_out<const N: usize>(header: [Column; N], rows: &[[String; N]], most: Option<usize>) -> Vec<String> {
    let cells: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let width = |(at, column): (usize, &Column)| {
        let widest = cells.iter().filter_map(|row| row.get(at)).map(|cell| cell.width()).max();
        widest.unwrap_or(0).max(column.title.width())
    };
    let mut widths: Vec<usize> = header.iter().enumerate().map(width).collect();
    let mut below = None;
    if let Some(most) = most.filter(|most| total(&widths) > *most) {
        below = header.iter().position(|column| column.fit == Fit::Below);
        if let Some(width) = below.and_then(|at| widths.get_mut(at)) {
            *width = 0;
        }
        shrink(&mut widths, &header, most);
    }
    let titles = header.map(|column| column.title.to_owned());
    let mut lines = vec![in_line(&titles, &widths)];
    for row in &cells {
        lines.push(in_line(row, &widths));
        let sentence = below.and_then(|at| row.get(at)).zip(most);
        lines.extend(sentence.map(|(text, most)| wrapped(text, most)).unwrap_or_default());
    }
    lines
}

/// Columns that have a width, with the gaps between them.
fn total(widths: &[usize]) -> usize {
    let shown = widths.iter().filter(|width| **width > 0);
    (shown.clone().sum::<usize>() + shown.count() * GAP).saturating_sub(GAP)
}

/// Makes the widest column that may be cut narrower until all fit, as far as that goes.
fn shrink(widths: &mut [usize], header: &[Column], most: usize) {
    let mut excess = total(widths).saturating_sub(most);
    while excess > 0 {
        let can_be_cut = widths
            .iter_mut()
            .zip(header)
            .filter(|(width, column)| column.fit == Fit::Cut && **width > column.title.width().max(LEAST));
        let Some((widest, _)) = can_be_cut.max_by_key(|(width, _)| **width) else { return };
        *widest -= 1;
        excess -= 1;
    }
}

fn in_line<const N: usize>(row: &[String; N], widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in row.iter().zip(widths).filter(|(_, width)| **width > 0) {
        let cell = cut(cell, *width);
        let padding = width.saturating_sub(cell.width()) + GAP;
        text.push_str(&cell);
        text.extend(std::iter::repeat_n(' ', padding));
    }
    text.truncate(text.trim_end().len());
    text
}

/// `text` within `width` columns of a terminal.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut text: String = text.chars().take_while(fits).collect();
    text.push('…');
    text
}

/// `text` in lines of at most `most` columns, indented. A word that is longer has a line of its own.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut().filter(|line| line.width() + 1 + word.width() <= most) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(format!("{:INDENT$}{word}", "")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const N: usize>(rows: &[[&str; N]]) -> Vec<[String; N]> {
        rows.iter().map(|row| row.map(str::to_owned)).collect()
    }

    #[test]
    fn a_cell_makes_no_line_and_moves_no_cursor() {
        let rows = rows(&[["a\u{1b}[2J", "why"], ["b\nc", "why"], ["\u{9b}2Kd", "why"], ["e\u{202e}f", "why"]]);
        assert_eq!(
            lay_out(["TOPIC", "WHY"].map(Column::from), &rows, None),
            ["TOPIC       WHY", "a\\u{1b}[2J  why", "b\\nc        why", "\\u{9b}2Kd   why", "e\\u{202e}f  why"]
        );
    }

    #[test]
    fn columns_are_as_wide_as_a_terminal_shows_them() {
        let rows = rows(&[["温度", "1"], ["e\u{301}", "2"], ["Ärger", "3"]]);
        assert_eq!(
            lay_out(["T", "N"].map(Column::from), &rows, None),
            ["T      N", "温度   1", "e\u{301}      2", "Ärger  3"]
        );
    }

    #[test]
    fn the_widest_that_may_be_cut_is_cut_until_the_table_fits() {
        let header = ["DEVICE".into(), Column::cut("STATE"), Column::cut("GROUPS")];
        let rows = rows(&[["a-very-long-device-name", "revoked: stolen", "hsu0001 hsu0002 meters 温度温度"]]);
        let whole = lay_out(header, &rows, None);
        assert_eq!(whole, lay_out(header, &rows, Some(80)));
        assert_eq!(
            lay_out(header, &rows, Some(60)),
            [
                "DEVICE                   STATE            GROUPS",
                "a-very-long-device-name  revoked: stolen  hsu0001 hsu0002 m…"
            ]
        );
        for most in 45..80 {
            let lines = lay_out(header, &rows, Some(most));
            assert!(lines.iter().all(|line| line.width() <= most && !line.ends_with(' ')), "{most}: {lines:#?}");
            assert!(lines[1].starts_with("a-very-long-device-name  "), "{most}: {lines:#?}");
        }
        // Too narrow for what is needed: the terminal breaks the lines, and nothing more is cut.
        assert_eq!(lay_out(header, &rows, Some(5)), lay_out(header, &rows, Some(43)));
    }

    #[test]
    fn a_sentence_stands_below_its_row_in_full() {
        let header = ["CODE".into(), Column::below("WHY")];
        let rows = rows(&[["topic-no-group", "no group covers it: create one"], ["x", "y"]]);
        assert_eq!(lay_out(header, &rows, Some(46))[1], "topic-no-group  no group covers it: create one");
        assert_eq!(
            lay_out(header, &rows, Some(25)),
            ["CODE", "topic-no-group", "    no group covers it:", "    create one", "x", "    y"]
        );
    }
}
