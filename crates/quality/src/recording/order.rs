//! In which order the rows of a file came to be.

use std::{fmt, str::FromStr};

use sealcast_reading::{Stamp, Value};

use super::{cell::CsvOptionError, readings::Recorded};

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OrderOption {
    /// By how many steps from one stamp to another one go back: up to a third, as they stand in the file; from two thirds on,
    /// the other way round; in between, by their stamps.
    #[default]
    Auto,
    /// As they stand in the file.
    File,
    /// By their stamps.
    Time,
}

impl FromStr for OrderOption {
    type Err = CsvOptionError;

    fn from_str(text: &str) -> Result<Self, CsvOptionError> {
        match text {
            "auto" => Ok(Self::Auto),
            "file" => Ok(Self::File),
            "time" => Ok(Self::Time),
            _ => Err(CsvOptionError("give auto, file or time")),
        }
    }
}

/// What was done about the order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing: oldest first.
    Kept,
    /// Newest first: turned round.
    Reversed,
    /// Neither: sorted by stamp.
    Sorted,
}

impl Order {
    /// Of the steps from one stamp to another one, at most a third goes back: the order of arrival, with a clock that was
    /// set back here and there, which is a fault for the rule `time` to find. At least two thirds go back: newest first, and
    /// turned round the same holds. Anything between is no order of arrival.
    fn of(rows: &[(Stamp, Value)]) -> Self {
        let pairs = || rows.iter().zip(rows.iter().skip(1)).map(|((a, _), (b, _))| (a.time_ms, b.time_ms));
        let back = pairs().filter(|(a, b)| b < a).count();
        let steps = pairs().filter(|(a, b)| b != a).count();
        if back * 3 <= steps {
            Self::Kept
        } else if back * 3 >= steps * 2 {
            Self::Reversed
        } else {
            Self::Sorted
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "as in the file",
            Self::Reversed => "the file has the newest first; reversed",
            Self::Sorted => "the file is not in order of time; sorted by time",
        })
    }
}

/// The readings in the order in which they came, and what their stamps are like then.
pub(super) struct Ordered {
    pub readings: Vec<Recorded>,
    pub order: Order,
    /// Stamps before the one above them, and equal to it.
    pub back: usize,
    pub repeated: usize,
}

pub(super) fn arrange(mut rows: Vec<(Stamp, Value)>, option: OrderOption) -> Ordered {
    let order = match option {
        OrderOption::Auto => Order::of(&rows),
        OrderOption::File => Order::Kept,
        OrderOption::Time => Order::Sorted,
    };
    match order {
        Order::Kept => {}
        Order::Reversed => rows.reverse(),
        // Stable: rows of the same stamp stay as they stand.
        Order::Sorted => rows.sort_by_key(|(stamp, _)| stamp.time_ms),
    }
    let (mut back, mut repeated) = (0, 0);
    let mut previous_ms = None;
    let mut readings = Vec::with_capacity(rows.len());
    for (stamp, value) in rows {
        // In an hour that comes twice, stamps that would go back belong to its second time.
        let time_ms = stamp.not_before(previous_ms.unwrap_or(0));
        back += usize::from(previous_ms.is_some_and(|previous| time_ms < previous));
        repeated += usize::from(previous_ms == Some(time_ms));
        previous_ms = Some(time_ms);
        readings.push(Recorded { time_ms, value });
    }
    Ordered { readings, order, back, repeated }
}
