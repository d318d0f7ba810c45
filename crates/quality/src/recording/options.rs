//! What whoever imports a file says about it.

use sealcast_reading::{StampFormat, Zone};

use super::{
    cell::{Column, Condition, Delimiter},
    encoding::TextEncoding,
    order::OrderOption,
    signs::{DecimalSign, Thousands},
};

/// What is said about a CSV; the rest is detected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsvOptions {
    /// How its characters are written.
    pub encoding: Option<TextEncoding>,
    /// What stands between the columns.
    pub delimiter: Option<Delimiter>,
    /// The column of the times.
    pub time_column: Option<Column>,
    /// The column of the values.
    pub value_column: Option<Column>,
    /// How the times are written.
    pub time_format: StampFormat,
    /// The zone of times that do not say theirs.
    pub time_zone: Zone,
    /// The sign before the decimals.
    pub decimal: Option<DecimalSign>,
    /// The sign between thousands.
    pub thousands: Option<Thousands>,
    /// Only rows that fulfil all of them count.
    pub conditions: Vec<Condition>,
    /// In which order the rows came to be.
    pub order: OrderOption,
}
