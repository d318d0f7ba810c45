//! Formats, units and properties, through the public API.
#![allow(clippy::unwrap_used)]

mod formats;
mod properties;
mod rfc8428;
mod times;
mod units;
