//! The recording that `try` and `learn` read: its options are the same for both.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use sealcast_quality::{
    Column, Condition, CsvOptions, DecimalSign, Delimiter, Imported, OrderOption, Recording, TextEncoding, Thousands,
};
use sealcast_reading::{StampFormat, Zone};

use super::Window;
use crate::files;

/// What `--window` takes.
const WINDOW_EXAMPLE: &str = "'2024-05-01 06:00:00/2024-05-01 08:00:00'";
/// Larger files are refused: they are read into memory.
const MAX_FILE_BYTES: usize = 1 << 30;

/// Where a recording is, and what is said about how it is written. What is not said is detected.
#[derive(clap::Args)]
pub struct DataOptions {
    /// CSV file with a time and a value in each row.
    #[arg(value_name = "DATA.csv")]
    pub path: PathBuf,
    /// The character between the columns: , ; | or tab [default: detected].
    #[arg(long, help_heading = "How the CSV is written", value_name = "CHARACTER")]
    delimiter: Option<Delimiter>,
    /// The column of the times, by name or by number from 1 [default: detected].
    #[arg(long, help_heading = "How the CSV is written", value_name = "COLUMN")]
    time_column: Option<Column>,
    /// The column of the values, by name or by number from 1 [default: detected].
    #[arg(long, help_heading = "How the CSV is written", value_name = "COLUMN")]
    value_column: Option<Column>,
    /// How times are written: dmy (31/03/2024 12:00), mdy, s, ms, us, ns, rfc3339, or a pattern such as '%d/%m/%y %I:%M %p'
    /// [default: the year first; day.month.year; or a count since 1970].
    #[arg(long, help_heading = "How the CSV is written", value_name = "FORMAT")]
    time_format: Option<StampFormat>,
    /// The zone of times that do not say theirs: Europe/Berlin, +01:00 [default: UTC].
    #[arg(long, help_heading = "How the CSV is written", value_name = "ZONE", allow_hyphen_values = true)]
    time_zone: Option<Zone>,
    /// The sign before the decimals: point or comma [default: detected].
    #[arg(long, help_heading = "How the CSV is written", value_name = "SIGN")]
    decimal: Option<DecimalSign>,
    /// The sign between thousands: comma, point, space or apostrophe [default: none].
    #[arg(long, help_heading = "How the CSV is written", value_name = "SIGN")]
    thousands: Option<Thousands>,
    /// Use only rows with this value in this column. Can be repeated: all conditions must hold.
    #[arg(long = "where", help_heading = "How the CSV is written", value_name = "COLUMN=VALUE")]
    conditions: Vec<Condition>,
    /// The order of the rows: file (leave it), time (sort), auto (reverse newest first, sort a mixed order).
    #[arg(long, help_heading = "How the CSV is written", default_value = "auto")]
    order: OrderOption,
    /// The encoding, by a name of the WHATWG list: utf-8, utf-16le, windows-1252, latin1, iso-8859-15, shift_jis, gbk, ...
    /// [default: detected].
    #[arg(long, help_heading = "How the CSV is written")]
    encoding: Option<TextEncoding>,
}

impl DataOptions {
    /// Reads the file.
    pub fn read(&self) -> Result<Imported> {
        let bytes = files::read_bytes(&self.path, MAX_FILE_BYTES)?;
        let options = CsvOptions {
            encoding: self.encoding,
            delimiter: self.delimiter,
            time_column: self.time_column.clone(),
            value_column: self.value_column.clone(),
            time_format: self.format(),
            time_zone: self.zone(),
            decimal: self.decimal,
            thousands: self.thousands,
            conditions: self.conditions.clone(),
            order: self.order,
        };
        Recording::import(&bytes, &options)
            .with_context(|| format!("{} is not a recording that can be read", self.path.display()))
    }

    /// Two times with `/` between, as the recording writes them or as they are printed.
    pub fn window(&self, text: &str) -> Result<Window> {
        let zone = self.zone();
        // A date may have slashes too: the one is meant that leaves a time on both sides.
        let read = |text: &str| {
            let stamp = self.format().read(text, &zone).or_else(|_| StampFormat::default().read(text, &zone));
            stamp.map(|stamp| stamp.time_ms)
        };
        let between = text.match_indices('/').filter_map(|(at, _)| Some((text.get(..at)?, text.get(at + 1..)?)));
        let halves: Vec<(&str, &str)> = between.collect();
        let times = halves.iter().find_map(|(from, to)| Some((read(from).ok()?, read(to).ok()?)));
        let (from_ms, to_ms) = match (times, halves.as_slice()) {
            (Some(times), _) => times,
            (None, [(from, to)]) => {
                let time = |time: &str| {
                    read(time).with_context(|| {
                        format!("--window {text}: {time:?} cannot be read; give for example {WINDOW_EXAMPLE}")
                    })
                };
                (time(from)?, time(to)?)
            }
            _ => anyhow::bail!("--window {text}: give two times with / between them, for example {WINDOW_EXAMPLE}"),
        };
        ensure!(from_ms < to_ms, "--window {text}: the window must end after it begins");
        Ok(Window { from_ms, to_ms })
    }

    fn format(&self) -> StampFormat {
        self.time_format.clone().unwrap_or_default()
    }

    fn zone(&self) -> Zone {
        self.time_zone.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        data: DataOptions,
    }

    fn data(args: &[&str]) -> DataOptions {
        Cli::try_parse_from(["try", "x.csv"].iter().chain(args)).map_or_else(|error| panic!("{error}"), |cli| cli.data)
    }

    #[test]
    fn windows_are_two_times() {
        let length =
            |args: &[&str], text: &str| data(args).window(text).map(|window| window.to_ms - window.from_ms).ok();
        assert_eq!(length(&[], "2024-05-01 06:00:00/2024-05-01T08:00:00Z"), Some(7_200_000));
        assert_eq!(length(&["--time-zone", "-02:00"], "2024-05-01 06:00:00/2024-05-01T08:00:00Z"), None);
        assert_eq!(length(&["--time-zone", "+02:00"], "2024-05-01 06:00:00/2024-05-01T08:00:00Z"), Some(14_400_000));
        assert_eq!(length(&["--time-format", "dmy"], "01/05/2024 06:00/01/05/2024 08:00"), Some(7_200_000));
        for text in ["", "2024-05-01", "2024-05-01 08:00:00/2024-05-01 06:00:00", "now/then"] {
            assert_eq!(length(&[], text), None, "{text}");
        }
    }
}
