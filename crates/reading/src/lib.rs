//! Formats and units: bytes to readings and back, without sockets or clocks.
//!
//! A [`Decoder`] reads a payload by a declared format ([`InputConfig`]: number, text, JSON, CBOR, SenML, packed binary) into
//! [`NamedReading`]s, an [`Encoder`] writes them ([`OutputConfig`]: number, JSON, SenML in JSON or CBOR). Between the two, every
//! format is the same [`Reading`].
//!
//! Numbers are [`Decimal`]s: the digits of the payload, never a float's. What cannot be read is an error with its position
//! ([`DecodeError`]), and nothing of that payload is handed on.
//!
//! Bounds on what comes from outside: [`MAX_PAYLOAD_BYTES`], [`MAX_DEPTH`], [`MAX_NODES`], [`MAX_RECORDS`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cbor;
mod config_error;
mod decimal;
mod decode;
mod encode;
mod exercise;
mod fault;
mod json;
pub mod packed;
mod path;
mod reading;
pub mod senml;
mod time;
mod tree;
mod unit;

pub use config_error::ConfigError;
pub use decimal::{Decimal, DecimalError, MAX_DECIMALS};
pub use decode::{Decoder, Expected, InputConfig, PlainConfig, SenmlConfig, TreeConfig, ValueType};
pub use encode::{EncodeError, Encoder, JsonOutput, NumberOutput, OutputConfig, SenmlOutput};
pub use exercise::exercise;
pub use fault::{DecodeError, Fault, Position};
pub use packed::PackedConfig;
pub use path::MAX_PATH_BYTES;
pub use reading::{ConvertError, NamedReading, Reading, Special, Value};
pub use senml::MAX_RECORDS;
pub use time::{MAX_PATTERN_BYTES, Stamp, StampFormat, StampFormatError, TimeFormat, Zone, ZoneError, utc};
pub use tree::{MAX_DEPTH, MAX_NODES, MAX_PAYLOAD_BYTES};
pub use unit::{MAX_UNIT_BYTES, Standing, Unit, UnitError};
