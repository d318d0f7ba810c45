//! Several series in one file, told apart by a column whose name is not a known one: the stamps show it.
//!
//! Words alone do not say what they are. `RUN` and `STOP` by turns, two readings with the same stamp, look like two probes
//! that are read together, and so are refused: `--order file` takes them, while two probes that are taken for one would be
//! noticed by nobody. A second try now and then looks like a probe that is read seldom, and so one that has less than a
//! tenth of the rows is not looked for.

use std::collections::BTreeMap;

/// A column with more words than this holds notes, not the names of series.
const MAX_GROUPS: usize = 1000;

/// The words of one column, row by row, as numbers in the order in which they came up.
#[derive(Default)]
pub(super) struct Groups {
    numbers: BTreeMap<String, u16>,
    of_row: Vec<u16>,
}

impl Groups {
    /// Takes the next row's word. False if there are too many.
    pub(super) fn push(&mut self, word: &str) -> bool {
        let number = match self.numbers.get(word) {
            Some(number) => *number,
            None if self.numbers.len() >= MAX_GROUPS => return false,
            None => {
                // At most MAX_GROUPS.
                let number = self.numbers.len() as u16;
                self.numbers.insert(word.to_owned(), number);
                number
            }
        };
        self.of_row.push(number);
        true
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.numbers.keys().map(String::as_str)
    }

    /// Whether each group is a series of its own: its stamps rise, or fall, while those of all groups together repeat and
    /// go to and fro. In the order of time, the groups take turns all the time: that tells them from a status, a firmware
    /// version or a mark for values that were sent late, which change now and then.
    pub(super) fn are_series(&self, stamps_ms: &[u64]) -> bool {
        let mut sizes = [0_usize; MAX_GROUPS];
        for group in &self.of_row {
            if let Some(size) = sizes.get_mut(usize::from(*group)) {
                *size += 1;
            }
        }
        let rows = self.of_row.len();
        let others = rows - sizes.iter().max().copied().unwrap_or(0);
        // Few rows beside the largest group are exceptions in one series.
        if self.numbers.len() < 2 || rows < 2 * self.numbers.len() || others * 10 < rows {
            return false;
        }
        let mut in_time: Vec<(u64, u16)> = stamps_ms.iter().copied().zip(self.of_row.iter().copied()).collect();
        let explained = |rows: &[(u64, u16)]| {
            let together = not_rising(rows.iter().map(|(stamp, _)| (*stamp, 0)));
            let apart = not_rising(rows.iter().copied());
            together * 3 >= others * 2 && apart * 10 <= together
        };
        let as_in_file = explained(&in_time);
        in_time.reverse();
        let newest_first = explained(&in_time);
        in_time.reverse();
        in_time.sort_by_key(|(stamp, _)| *stamp);
        let turns = in_time.iter().zip(in_time.iter().skip(1)).filter(|((_, a), (_, b))| a != b).count();
        (as_in_file || newest_first || explained(&in_time)) && turns * 4 >= others * 3
    }
}

/// Whether some stamps repeat or go back, whichever end of the file is the newer one.
pub(super) fn are_mixed(stamps_ms: &[u64]) -> bool {
    let steps = || stamps_ms.iter().zip(stamps_ms.iter().skip(1));
    steps().any(|(a, b)| b <= a) && steps().any(|(a, b)| b >= a)
}

/// Rows whose stamp is not after all earlier ones of their group.
fn not_rising(rows: impl Iterator<Item = (u64, u16)>) -> usize {
    let mut newest: [Option<u64>; MAX_GROUPS] = [None; MAX_GROUPS];
    rows.filter(|(stamp, group)| {
        let Some(newest) = newest.get_mut(usize::from(*group)) else { return false };
        let late = newest.is_some_and(|newest| *stamp <= newest);
        *newest = (*newest).max(Some(*stamp));
        late
    })
    .count()
}
