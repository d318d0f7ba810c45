//! How far times go.

use jiff::civil::{DateTime, date};

use crate::fault::Fault;

/// Times are from 1970 to the end of the year 9999. (`jiff`'s time stamps end a day earlier, so it is its civil dates, in
/// UTC, that stand for them.)
pub(super) const MAX_TIME_MS: u64 = 253_402_300_799_999;

/// 1970, in UTC.
pub(super) const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

pub(super) const BEFORE: Fault = Fault::Time("it lies before 1970");
pub(super) const AFTER: Fault = Fault::Time("it lies after the year 9999");
