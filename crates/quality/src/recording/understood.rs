//! What was understood of a file, for whoever looks at the figures that come of it.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// How a file was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Understood {
    /// The column of the times.
    pub time_column: ColumnUsed,
    /// The column of the times of day, where the other one has only dates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_column: Option<ColumnUsed>,
    /// The column of the values.
    pub value_column: ColumnUsed,
    /// Conditions on the rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// The MQTT topic of all rows, if a column holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// What stands between the columns.
    pub delimiter: String,
    /// The sign before the decimals.
    pub decimal: String,
    /// The sign between thousands, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thousands: Option<String>,
    /// The unit behind the numbers, as it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The zone of stamps without one; `None` if each has its own.
    pub time_zone: Option<String>,
    /// Stamps without a zone of their own.
    pub stamps_without_zone: usize,
    /// Stamps in an hour that comes twice, since clocks are put back.
    pub stamps_twice: usize,
    /// Stamps in an hour that is left out, since clocks are put forward.
    pub stamps_skipped: usize,
    /// The order of the rows, in words.
    pub order: String,
    /// Stamps that lie before the reading before them; after sorting, none.
    pub stamps_back: usize,
    /// Stamps that are equal to that of the reading before them.
    pub stamps_repeated: usize,
    /// The encoding of the text.
    pub encoding: String,
    /// Rows that were read.
    pub rows: usize,
    /// Rows that the conditions left out.
    pub rows_left_out: usize,
    /// Rows whose value is no number.
    pub not_numbers: usize,
    /// What stands in those, each with its count.
    pub words: BTreeMap<String, usize>,
}

/// A column, by place and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnUsed {
    /// From 1.
    pub number: usize,
    /// Its name; `None` without a header.
    pub name: Option<String>,
}

impl fmt::Display for ColumnUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({name})", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

impl Understood {
    /// A line for each thing.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.columns(), self.marks(), self.zone(), self.rows_in_order(), self.numbers()];
        lines.retain(|line| !line.is_empty());
        lines
    }

    fn columns(&self) -> String {
        let clock = self.clock_column.as_ref().map(|clock| format!(" and {clock}")).unwrap_or_default();
        let conditions = match self.conditions.as_slice() {
            [] => String::new(),
            conditions => format!("; only rows with {}", conditions.join(", ")),
        };
        format!("columns: time {}{clock}, value {}{conditions}", self.time_column, self.value_column)
    }

    fn marks(&self) -> String {
        let thousands = self.thousands.as_ref().map(|sign| format!(", thousands {sign}")).unwrap_or_default();
        let unit = self.unit.as_ref().map(|unit| format!(", unit {unit}")).unwrap_or_default();
        format!(
            "separator: {}, decimal sign: {}{thousands}{unit}, encoding: {}",
            self.delimiter, self.decimal, self.encoding
        )
    }

    fn zone(&self) -> String {
        let mut text = match &self.time_zone {
            None => "time zone: each stamp names its own".to_owned(),
            Some(zone) if self.stamps_without_zone == self.rows => {
                format!("time zone: {zone}, because the stamps name none")
            }
            Some(zone) => format!("time zone: {zone} for the {} stamps that name none", self.stamps_without_zone),
        };
        if self.stamps_twice > 0 {
            text += &format!(
                "; stamps in an hour that comes twice: {}, read as its first time unless the stamp would then go back",
                self.stamps_twice
            );
        }
        if self.stamps_skipped > 0 {
            text += &format!(
                "; stamps in an hour that the zone skips: {}, read as if the clock had not been put forward yet",
                self.stamps_skipped
            );
        }
        text
    }

    fn rows_in_order(&self) -> String {
        let mut text = format!("order: {}", self.order);
        if self.stamps_back > 0 {
            text += &format!("; stamps that go back: {}", self.stamps_back);
        }
        if self.stamps_repeated > 0 {
            text += &format!("; repeated stamps: {}", self.stamps_repeated);
        }
        text
    }

    fn numbers(&self) -> String {
        let mut text = format!("rows: {}", self.rows);
        if self.rows_left_out > 0 {
            text += &format!("; left out by the conditions: {}", self.rows_left_out);
        }
        if self.not_numbers > 0 {
            let word = |(word, count): (&String, &usize)| {
                format!("{} {count}", if word.is_empty() { "empty" } else { word.as_str() })
            };
            let words: Vec<String> = self.words.iter().map(word).collect();
            text += &format!("; not numbers: {} ({})", self.not_numbers, words.join(", "));
        } else {
            text += "; not numbers: none";
        }
        text
    }
}
