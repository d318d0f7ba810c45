//! A recording of one topic: what rules are learnt from and tried on.

mod cell;
mod columns;
mod encoding;
mod error;
mod import;
mod interleaved;
mod number;
mod options;
mod order;
mod readings;
mod signs;
mod table;
mod understood;

pub use cell::{Column, Condition, CsvOptionError, Delimiter};
pub use encoding::TextEncoding;
pub use error::{CellFault, Place, RecordingError};
pub use import::{Imported, MAX_SERIES_NAMED};
pub use options::CsvOptions;
pub use order::{Order, OrderOption};
pub use readings::{MAX_READINGS, Recorded, Recording};
pub use signs::{DecimalSign, Thousands};
pub use understood::{ColumnUsed, Understood};
