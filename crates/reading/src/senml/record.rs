//! A record as it stands in a pack.

use crate::decimal::Decimal;
use crate::reading::Value;

/// One record of a pack (RFC 8428 §4.1, §4.2). Times are in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PackRecord {
    /// `bn`, put before each name from here on.
    pub base_name: Option<String>,
    /// `bt`, added to each time.
    pub base_time: Option<Decimal>,
    /// `bu`, the unit of records without one.
    pub base_unit: Option<String>,
    /// `bv`, added to each value.
    pub base_value: Option<Decimal>,
    /// `bs`, added to each sum.
    pub base_sum: Option<Decimal>,
    /// `bver`.
    pub base_version: Option<u64>,
    /// `n`.
    pub name: Option<String>,
    /// `u`.
    pub unit: Option<String>,
    /// `t`.
    pub time: Option<Decimal>,
    /// `ut`: at the latest so much later there will be another reading.
    pub update_time: Option<Decimal>,
    /// `v`, `vs`, `vb` or `vd`; never [`Value::Special`].
    pub value: Option<Value>,
    /// `s`, the integral of the values over time.
    pub sum: Option<Decimal>,
}
