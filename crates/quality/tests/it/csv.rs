//! CSV files as loggers, dashboards, databases and spreadsheets export them.

use std::sync::Arc;

use proptest::prelude::*;
use sealcast_quality::{Check, CsvOptions, Imported, Recording, try_rules};
use sealcast_reading::{Decimal, Value, utc};

use super::{TOPIC, file};

/// Options as the command line has them: `--decimal`, `comma`.
fn options(args: &[&str]) -> CsvOptions {
    let mut options = CsvOptions::default();
    for pair in args.chunks(2) {
        let [name, value] = pair else { panic!("{pair:?}") };
        match *name {
            "--encoding" => options.encoding = Some(value.parse().unwrap()),
            "--delimiter" => options.delimiter = Some(value.parse().unwrap()),
            "--time-column" => options.time_column = Some(value.parse().unwrap()),
            "--value-column" => options.value_column = Some(value.parse().unwrap()),
            "--time-format" => options.time_format = value.parse().unwrap(),
            "--time-zone" => options.time_zone = value.parse().unwrap(),
            "--decimal" => options.decimal = Some(value.parse().unwrap()),
            "--thousands" => options.thousands = Some(value.parse().unwrap()),
            "--where" => options.conditions.push(value.parse().unwrap()),
            "--order" => options.order = value.parse().unwrap(),
            other => panic!("{other}"),
        }
    }
    options
}

fn read(csv: impl AsRef<[u8]>, args: &[&str]) -> Imported {
    let csv = csv.as_ref();
    let read = Recording::import(csv, &options(args));
    read.unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(csv)))
}

fn refused(csv: impl AsRef<[u8]>, args: &[&str]) -> String {
    match Recording::import(csv.as_ref(), &options(args)) {
        Err(error) => error.to_string(),
        Ok(read) => panic!("read as {:?}", shown(&read)),
    }
}

/// `time value` of each reading.
fn shown(read: &Imported) -> Vec<String> {
    let readings = read.recording.readings.iter();
    readings.map(|reading| format!("{} {}", utc(reading.time_ms).trim_end_matches('Z'), reading.value)).collect()
}

fn values(read: &Imported) -> Vec<String> {
    read.recording.readings.iter().map(|reading| reading.value.to_string()).collect()
}

fn numbers(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| Value::Number(Decimal::parse(text).unwrap())).collect()
}

/// The values are those numbers, to the digit.
fn check(csv: impl AsRef<[u8]>, args: &[&str], expected: &[&str]) -> Imported {
    let read = read(csv, args);
    let found: Vec<Value> = read.recording.readings.iter().map(|reading| reading.value.clone()).collect();
    assert_eq!(found, numbers(expected), "{:?}", read.understood);
    read
}

fn refuses(csv: impl AsRef<[u8]>, args: &[&str], said: &[&str]) {
    let error = refused(csv.as_ref(), args);
    for said in said {
        assert!(error.contains(said), "{said:?} is not in: {error}");
    }
}

const QUOTED: &str = "time,value\n\"2026-03-01 00:00:00\",\"21,5\"\n\"2026-03-01 00:01:00\",\"21,9\"\n";

#[test]
fn case_02_csv_quoted_comma() {
    let read = check(QUOTED, &[], &["21.5", "21.9"]);
    assert_eq!(read.understood.decimal, "comma");
    let both = format!("{QUOTED}\"2026-03-01 00:02:00\",\"1,200.5\"\n");
    refuses(&both, &[], &["line 4, column 2 (value): \"1,200.5\"", "--thousands", "--decimal"]);
    refuses(&both, &["--decimal", "comma"], &["line 4, column 2 (value)", "--thousands"]);
    let thousands = "time,value\n2026-03-01 00:00:00,\"1,200.5\"\n2026-03-01 00:01:00,21.9\n";
    check(thousands, &["--thousands", "comma"], &["1200.5", "21.9"]);
    // With thousands divided by commas, 21,5 is no number.
    refuses(&both, &["--thousands", "comma"], &["line 2, column 2", "\"21,5\" is not grouped in threes"]);
}

#[test]
fn numbers_that_could_be_two_are_refused() {
    let csv = |rows: &[&str]| {
        let rows: Vec<String> =
            rows.iter().enumerate().map(|(at, row)| format!("2026-03-01 00:{at:02}:00;{row}")).collect();
        format!("time;value\n{}\n", rows.join("\n"))
    };
    let two = "can be read in two ways: name the decimal sign with --decimal";
    refuses(csv(&["1,200"]), &[], &["line 2, column 2 (value): \"1,200\"", two]);
    refuses(csv(&["980", "1,200", "1,350"]), &[], &["line 3, column 2", two]);
    refuses(csv(&["980", "1.200", "1.350"]), &[], &["line 3, column 2", two]);
    check(csv(&["1,200"]), &["--decimal", "comma"], &["1.200"]);
    check(csv(&["1,200"]), &["--thousands", "comma"], &["1200"]);
    check(csv(&["980", "1.200"]), &["--thousands", "point"], &["980", "1200"]);
    check(csv(&["980", "1.200"]), &["--decimal", "point"], &["980", "1.200"]);
    // Others tell what the comma is.
    check(csv(&["1,200", "0,125"]), &[], &["1.200", "0.125"]);
    check(csv(&["1,200", "1250,125"]), &[], &["1.200", "1250.125"]);
    check(csv(&["1.200", "21.5"]), &[], &["1.200", "21.5"]);
    refuses(csv(&["21,5", "1.200"]), &[], &["line 3, column 2", "which is the comma", "--thousands"]);
    refuses(csv(&["21,5", "21.5"]), &[], &["line 3, column 2", "another decimal sign than line 2"]);
    refuses(csv(&["1,200,300"]), &[], &["line 2, column 2", "--thousands"]);
    check(csv(&["1,200,300", "1,000.25"]), &["--thousands", "comma"], &["1200300", "1000.25"]);
    refuses(csv(&["1,20,300"]), &["--thousands", "comma"], &["not grouped in threes"]);
    refuses(csv(&["1 200,5"]), &[], &["line 2, column 2", "--thousands"]);
    check(csv(&["1 200,5", "-1\u{a0}200,5", "7"]), &["--thousands", "space"], &["1200.5", "-1200.5", "7"]);
    check(csv(&["1'200.5"]), &["--thousands", "apostrophe"], &["1200.5"]);
    refuses(csv(&["1"]), &["--thousands", "comma", "--decimal", "comma"], &["name the same sign"]);
    for odd in ["0x1F", "12:30", "1-2", "2026-03-01", "12h30", "warm", "$5", "--5", "1.2.3", "5 6", "½"] {
        refuses(csv(&["1", odd]), &[], &["line 3, column 2 (value)", odd]);
    }
    check(
        csv(&["1e3", "-2.5E-1", "+.5", "5.", "\u{2212}4"]),
        &["--decimal", "point"],
        &["1000", "-0.25", "0.5", "5", "-4"],
    );
    // In a file with commas between columns, 1.200 has three decimals.
    check("time,value\n2026-03-01,1.200\n", &[], &["1.200"]);
}

#[test]
fn points_between_thousands_are_not_taken_for_decimals_whatever_divides() {
    for mark in ["\t", "|", ";"] {
        let csv = |rows: [&str; 2]| {
            let [first, second] = rows;
            format!("time{mark}value\n2026-03-01 00:00:00{mark}{first}\n2026-03-01 00:01:00{mark}{second}\n")
        };
        let two = "line 2, column 2 (value): \"1.200\" can be read in two ways: name the decimal sign with --decimal";
        refuses(csv(["1.200", "1.350"]), &[], &[two, "--thousands"]);
        check(csv(["1.200", "1.350"]), &["--decimal", "point"], &["1.200", "1.350"]);
        check(csv(["1.200", "1.350"]), &["--thousands", "point"], &["1200", "1350"]);
        // A zero before it, another number of decimals, or four digits before it show what it is.
        for (other, read) in [("0.125", "0.125"), ("21.5", "21.5"), ("1350.125", "1350.125"), ("-0.250", "-0.250")] {
            check(csv(["1.200", other]), &[], &["1.200", read]);
        }
    }
}

#[test]
fn counts_of_days_and_dates_of_digits_are_refused() {
    let csv = |times: [&str; 2]| format!("date,value\n{},1\n{},2\n", times[0], times[1]);
    // A spreadsheet's days, dates of six digits, MATLAB's days.
    for times in [["45382.5", "45382.75"], ["45382", "45383"], ["240331", "240401"], ["739342.5", "739343.5"]] {
        let place = format!("line 2, column 1 (date): {:?} would be a time in 1970 if it counted seconds", times[0]);
        refuses(csv(times), &[], &[&place, "--time-format: s, ms, us or ns", "as text"]);
        check(csv(times), &["--time-format", "s"], &["1", "2"]);
    }
    for times in [
        ["2024033112", "2024033113"],
        ["202403311200", "202403311201"],
        ["20240331120000", "20240331120100"],
        ["20240331120000000", "20240331120000100"],
    ] {
        refuses(csv(times), &[], &["line 2, column 1 (date)", "may be a date, or a count", "--time-format"]);
    }
    refuses(csv(["240331120000", "240331120100"]), &[], &["line 2, column 1 (date)", "before 1990", "--time-format"]);
    let read_it = read(csv(["202403311200", "202403311201"]), &["--time-format", "%Y%m%d%H%M"]);
    assert_eq!(shown(&read_it)[1], "2024-03-31 12:01:00 2");
}

#[test]
fn a_recording_may_count_from_its_start() {
    check("time,value\n0,20.5\n0.5,20.6\n", &[], &["20.5", "20.6"]);
    check("time,value\n60,1\n45382.5,2\n", &[], &["1", "2"]);
    check("time,value\n45382.5,2\n60,1\n", &[], &["1", "2"]);
    // A device that did not know the time at first.
    check("time,value\n5,1\n15,2\n1772323200,3\n", &[], &["1", "2", "3"]);
    check("time,value\n1386018900,1\n1386019200,2\n", &[], &["1", "2"]);
    check("time,value\n1970-03-01,1\n1985-01-01,2\n", &[], &["1", "2"]);
}

#[test]
fn more_columns_than_a_spreadsheet_has_are_refused() {
    let wide = |columns: usize| format!("time,value{}\n2026-03-01,1\n", ",".repeat(columns - 2));
    check(wide(16_384), &[], &["1"]);
    refuses(wide(16_385), &[], &["line 1 has more than 16384 columns", "--delimiter"]);
    refuses(",".repeat(3_000_000), &[], &["line 1 has more than 16384 columns"]);
    refuses(format!("time,value\n2026-03-01,1{}\n", ",".repeat(20_000)), &[], &["line 2 has more than"]);
}

#[test]
fn case_06_csv_column_exports() {
    let home_assistant = "entity_id,state,last_changed\nsensor.a,20.93,2026-03-01T00:00:00.000Z\nsensor.a,unavailable,2026-03-01T00:01:00.000Z\n";
    let read_it = read(home_assistant, &[]);
    assert_eq!(shown(&read_it), ["2026-03-01 00:00:00 20.93", "2026-03-01 00:01:00 null"]);
    assert_eq!((read_it.understood.rows, read_it.understood.not_numbers), (2, 1));
    assert_eq!(read_it.understood.words.get("unavailable"), Some(&1));

    let reordered = "last_changed,state\n2026-03-01T00:00:00.000Z,20.93\n2026-03-01T00:01:00.000Z,unavailable\n";
    assert_eq!(shown(&read(reordered, &[])), shown(&read_it));

    let grafana =
        "sep=,\n\"Time\",\"Temperature\"\n\"2026-03-01 00:00:00\",\"20.95 °C\"\n\"2026-03-01 00:01:00\",\"21.02 °C\"\n";
    let read_it = check(grafana, &[], &["20.95", "21.02"]);
    assert_eq!(read_it.understood.unit.as_deref(), Some("°C"));

    let offset = "timestamp,value\n2026-03-01T00:00:00.123456789+0100,20.96\n2026-03-01T00:01:00.123456789+0100,21.04\n2026-03-01T00:02:00.123456789+0100,21.05\n";
    let read_it = check(offset, &[], &["20.96", "21.04", "21.05"]);
    assert_eq!(read_it.recording.readings[0].time_ms % 1000, 123);
    assert_eq!(utc(read_it.recording.readings[0].time_ms), "2026-02-28 23:00:00Z");
    assert_eq!(read_it.understood.time_zone, None);

    let spreadsheet = "time;value\n2026-03-01 00:00:00;20,96\n2026-03-01 00:01:00;20,91\n2026-03-01 00:02:00;20,83\n";
    check(spreadsheet, &[], &["20.96", "20.91", "20.83"]);

    let thingspeak = "created_at,entry_id,field1\n2026-03-01 00:00:00 UTC,1,20.5\n2026-03-01 00:01:00 UTC,2,21.5\n2026-03-01 00:02:00 UTC,3,22.5\n";
    let read_it = check(thingspeak, &[], &["20.5", "21.5", "22.5"]);
    assert_eq!(read_it.understood.value_column.to_string(), "3 (field1)");
    assert_eq!(utc(read_it.recording.readings[0].time_ms), "2026-03-01 00:00:00Z");
}

#[test]
fn several_series_are_not_mixed() {
    let csv = "entity_id,state,last_changed\nsensor.a,20,2026-03-01T00:00:00Z\nsensor.b,900,2026-03-01T00:00:01Z\nsensor.a,21,2026-03-01T00:01:00Z\n";
    refuses(csv, &[], &["several series", "--where 'entity_id=…'", "sensor.a, sensor.b"]);
    let read_it = check(csv, &["--where", "entity_id=sensor.a"], &["20", "21"]);
    assert_eq!((read_it.understood.rows, read_it.understood.rows_left_out), (2, 1));
    check(csv, &["--where", "1=sensor.b"], &["900"]);
    refuses(csv, &["--where", "entity_id=sensor.c"], &["no row has that value", "sensor.a, sensor.b"]);
    refuses(csv, &["--where", "entity=sensor.a"], &["--where: there is no column \"entity\"", "1 (entity_id)"]);
    // Whatever is wrong in the others' rows.
    let door = csv.replace("sensor.b,900,", "binary_sensor.door,on,");
    refuses(&door, &[], &["several series", "binary_sensor.door, sensor.a"]);
    check(&door, &["--where", "entity_id=sensor.a"], &["20", "21"]);
    // Side by side.
    let wide = "time,indoor,outdoor\n2026-03-01 00:00:00,21.5,4\n2026-03-01 00:01:00,21.6,3.9\n";
    refuses(wide, &[], &["several columns hold numbers", "--value-column", "2 (indoor), 3 (outdoor)"]);
    check(wide, &["--value-column", "outdoor"], &["4", "3.9"]);
    check(wide, &["--value-column", "2"], &["21.5", "21.6"]);
    refuses(wide, &["--value-column", "garden"], &["there is no column \"garden\""]);
    refuses(wide, &["--value-column", "time"], &["the same column"]);
    // Units are series too.
    let units = "time,value,unit\n2026-03-01,1,kW\n2026-03-02,950,W\n";
    refuses(units, &[], &["several series", "unit=", "W, kW"]);
    let scaled = "time,value\n2026-03-01,1.2 kW\n2026-03-02,950 W\n";
    refuses(scaled, &[], &["line 3, column 2", "is in W, but line 2 is in kW"]);
    refuses("time,value\n2026-03-01,1.2 K\n2026-03-02,950\n", &[], &["line 3", "is in no unit, but line 2 is in K"]);
}

/// Whatever their column is called, and if it has no name.
#[test]
fn topics_tell_series_apart() {
    let rows = "2026-03-01 00:00:00,plant/1/temp,20\n2026-03-01 00:00:01,plant/2/temp,60\n2026-03-01 00:00:02,plant/1/temp,21\n";
    for (header, column) in [("", "2"), ("time,topic,value\n", "topic"), ("time,source,value\n", "source")] {
        let csv = format!("{header}{rows}");
        let choice = format!("--where '{column}=…'");
        refuses(&csv, &[], &["several series", &choice, "plant/1/temp, plant/2/temp"]);
        let one = check(&csv, &["--where", &format!("{column}=plant/1/temp")], &["20", "21"]);
        assert_eq!(one.understood.topic.as_deref(), Some("plant/1/temp"));
        let alone = csv.replace("plant/2", "plant/1");
        assert_eq!(read(&alone, &[]).understood.topic.as_deref(), Some("plant/1/temp"));
        // What is no topic beside it.
        for [first, second] in
            [["km/h", "km/h"], ["3/4", "4/4"], ["n/a", "ok"], ["a topic/b", "b"], ["01/02/2026", "02/02/2026"]]
        {
            let other = csv.replace("plant/1/temp", first).replace("plant/2/temp", second);
            assert_eq!(read(other.replace("topic", "t"), &[]).understood.topic, None, "{first}");
        }
    }
}

#[test]
fn exports_of_other_tools() {
    // InfluxDB 2, annotated, two tables.
    let influx = "#group,false,false,true,true,false,false,true,true\r\n#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string\r\n#default,_result,,,,,,,\r\n,result,table,_start,_stop,_time,_value,_field,room\r\n,,0,2026-02-28T00:00:00Z,2026-03-02T00:00:00Z,2026-03-01T00:00:00Z,20.5,temp,a\r\n,,0,2026-02-28T00:00:00Z,2026-03-02T00:00:00Z,2026-03-01T00:01:00Z,20.6,temp,a\r\n\r\n#group,false,false,true,true,false,false,true,true\r\n#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string\r\n#default,_result,,,,,,,\r\n,result,table,_start,_stop,_time,_value,_field,room\r\n,,1,2026-02-28T00:00:00Z,2026-03-02T00:00:00Z,2026-03-01T00:00:00Z,19.5,temp,b\r\n";
    refuses(influx, &[], &["several series", "--where 'room=…'", "a, b"]);
    let read_it = check(influx, &["--where", "room=a"], &["20.5", "20.6"]);
    assert_eq!(read_it.understood.time_column.to_string(), "6 (_time)");
    let other = influx.replace("_field,room\r\n,,1", "_field,floor\r\n,,1");
    refuses(&other, &[], &["line 11 begins another table"]);
    // InfluxDB 1, in ns.
    let ns = "name,time,value\ntemp,1772323200000000000,20.5\ntemp,1772323260000000000,20.6\n";
    assert_eq!(shown(&read(ns, &[])), ["2026-03-01 00:00:00 20.5", "2026-03-01 00:01:00 20.6"]);
    // pandas.
    let pandas = ",timestamp,value\n0,2026-03-01 00:00:00+00:00,20.5\n1,2026-03-01 00:01:00+00:00,\n";
    assert_eq!(values(&read(pandas, &[])), ["20.5", "null"]);
    // PostgreSQL, TimescaleDB.
    let psql = "time|device|value\n2026-03-01 00:00:00.5+01|a|1\n2026-03-01 00:00:01.25+01|a|2\n";
    assert_eq!(shown(&read(psql, &[])), ["2026-02-28 23:00:00 1", "2026-02-28 23:00:01 2"]);
    // Prometheus and Grafana, ms and several names.
    check("\"Series\";\"Time\";\"Value\"\n\"up\";\"2026-03-01T00:00:00+00:00\";\"1\"\n", &[], &["1"]);
    check("Time,{job=\"x\"}\n1772323200000,0.5\n", &[], &["0.5"]);
    // A German spreadsheet: day, month, year; date and time of day apart.
    let german = "Datum;Uhrzeit;Messwert\n01.03.2026;00:00:00;20,96\n02.03.2026;00:01:00;20,91\n";
    let read_it = read(german, &["--time-zone", "Europe/Berlin"]);
    assert_eq!(shown(&read_it), ["2026-02-28 23:00:00 20.96", "2026-03-01 23:01:00 20.91"]);
    assert_eq!(read_it.understood.clock_column.map(|column| column.number), Some(2));
    check("date,time,value\n2026-03-01,00:05,1\n2026-03-01,00:06,2\n", &[], &["1", "2"]);
    let read_it = read("Date;Time;T\n01/03/2026;9:05:00;1,5\n", &["--time-format", "dmy", "--time-zone", "+01"]);
    assert_eq!(shown(&read_it), ["2026-03-01 08:05:00 1.5"]);
    // All of a ThingSpeak channel.
    let channel = "created_at,entry_id,field1,field2,latitude,longitude,elevation,status\n2026-03-01T01:00:00+01:00,1,20.5,40,52.1,13.2,30,\n";
    refuses(channel, &[], &["several columns hold numbers", "3 (field1), 4 (field2);".trim_end_matches(';')]);
    assert_eq!(shown(&read(channel, &["--value-column", "field2"])), ["2026-03-01 00:00:00 40"]);
    // Tabs, comments before the header, a delimiter at each line's end, blank lines, old line ends.
    check(
        "# logger 7\n# calibrated 2025\n\nTime (UTC)\tT [degC]\t\n2026-03-01 00:00:00\t1.5\t\n\n2026-03-01 00:01:00\t2\t\n",
        &[],
        &["1.5", "2"],
    );
    check("time,value\r2026-03-01 00:00:00,1\r2026-03-01 00:01:00,2\r", &[], &["1", "2"]);
    // A multi-line text in another column.
    check(
        "time,note,value\n2026-03-01 00:00:00,\"two\nlines, and a \"\"quote\"\"\",1\n2026-03-01 00:01:00,,2\n",
        &[],
        &["1", "2"],
    );
    // No header.
    check("2026-03-01 00:00:00,1\n2026-03-01 00:01:00,2\n", &[], &["1", "2"]);
    check("0;1\n1;2", &[], &["1", "2"]);
    refuses("2026-03-01 00:00:00,1,2\n2026-03-01 00:01:00,2,3\n", &[], &["several columns hold numbers", "2, 3"]);
    check("2026-03-01 00:00:00,1,2\n2026-03-01 00:01:00,2,3\n", &["--value-column", "3"], &["2", "3"]);
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    refuses("", &[], &["no readings"]);
    refuses("time,value\n", &[], &["no readings"]);
    for (other, looks) in [
        ("{\"time\":1,\"value\":2}\n{\"time\":2,\"value\":2}\n", "JSON"),
        (" [[\"2026-03-01\", 20]]", "JSON"),
        ("\u{7f}ELF\u{2}\u{1}\u{1}\0\0\0,\0\n", "binary data"),
    ] {
        refuses(other, &[], &["it is not a CSV but looks like", looks]);
    }
    refuses("only text", &[], &["line 1 has 1 field; 2 are expected (separator: comma)"]);
    refuses(
        "time,value\n2026-03-01 00:00:00,1\nyesterday,2\n",
        &[],
        &["line 3, column 1 (time): \"yesterday\" is not a time", "--time-format"],
    );
    refuses(
        "time,value\n2026-03-01 00:00:00,1\n2026-03-01 00:01:00\n",
        &[],
        &["line 3 has 1 field; 2 are expected", "--delimiter"],
    );
    // A decimal comma that nothing protects.
    refuses("time,value\n2026-03-01 00:00:00,20,96\n", &[], &["line 2 has 3 fields; 2 are expected", "--delimiter"]);
    refuses("0,5;1,5\n1,5;2,5\n", &[], &["--delimiter"]);
    let ambiguous = "date,value\n03/04/2026 12:00,1\n04/04/2026 12:00,2\n";
    refuses(
        ambiguous,
        &[],
        &["line 2, column 1 (date): \"03/04/2026 12:00\"", "order of day, month and year", "--time-format"],
    );
    assert_eq!(shown(&read(ambiguous, &["--time-format", "dmy"]))[0], "2026-04-03 12:00:00 1");
    assert_eq!(shown(&read(ambiguous, &["--time-format", "mdy"]))[0], "2026-03-04 12:00:00 1");
    assert_eq!(shown(&read(ambiguous, &["--time-format", "%d/%m/%Y %H:%M"]))[0], "2026-04-03 12:00:00 1");
    refuses("time,value\n20260301,1\n20260302,2\n", &[], &["line 2, column 1", "may be a date", "--time-format"]);
    assert_eq!(shown(&read("time,value\n20260301,1\n", &["--time-format", "%Y%m%d"])), ["2026-03-01 00:00:00 1"]);
    refuses("a,b\n1,2\n3,4\n", &[], &["no column holds times", "--time-column", "1 (a), 2 (b)"]);
    refuses("begin,end,value\n2026-03-01,2026-03-02,1\n", &[], &["several columns hold times", "--time-column"]);
    check("begin,end,value\n2026-03-01,2026-03-02,1\n", &["--time-column", "end"], &["1"]);
    refuses("time,value\n2026-03-01,\"1\n2026-03-02,2\n", &[], &["line 2 opens a quote that is never closed"]);
    refuses(
        "time,value\n2026-03-01,\"1\"5\n2026-03-02,2\n",
        &[],
        &["line 2, column 2 (value)", "the field has a quote inside"],
    );
    refuses(
        "time,value\n2026-03-01,12345678901234567890123456789012345678901\n",
        &[],
        &["line 2, column 2", "38 digits"],
    );
    // The line is the file's, whatever stands above.
    refuses(
        "sep=;\r\n\r\n# x\r\ntime;value\r\n\r\n2026-03-01;\"1\"\r\n\r\n2026-03-02;on\r\n",
        &[],
        &["line 8, column 2 (value): \"on\""],
    );
}

#[test]
fn no_numbers_are_counted() {
    let words = ["unavailable", "unknown", "null", "None", "", "NaN", "n/a", "undefined", "Unavailable", "-", "inf"];
    let rows: Vec<String> =
        words.iter().enumerate().map(|(at, word)| format!("2026-03-01 00:{at:02}:00,{word}")).collect();
    let csv = format!("time,value\n{}\n2026-03-01 01:00:00,5\n", rows.join("\n"));
    let read = read(csv, &[]);
    assert_eq!((read.understood.rows, read.understood.not_numbers), (words.len() + 1, words.len()));
    assert_eq!(read.understood.words.get("unavailable"), Some(&2));
    assert!(
        read.understood.lines().iter().any(|line| line.contains("not numbers: 11 (empty 1, - 1, ")),
        "{:?}",
        read.understood.lines()
    );
}

#[test]
fn every_encoding() {
    let text = "Zeit;Außen\n2026-03-01 00:00:00;20,96 °C\n2026-03-01 00:01:00;20,91 °C\n";
    let utf16 = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let latin = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<u8>>();
    for (bytes, encoding) in [
        (text.as_bytes().to_vec(), "UTF-8"),
        ([b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat(), "UTF-8"),
        ([b"\xff\xfe".as_slice(), &utf16(u16::to_le_bytes)].concat(), "UTF-16LE"),
        ([b"\xfe\xff".as_slice(), &utf16(u16::to_be_bytes)].concat(), "UTF-16BE"),
        (utf16(u16::to_le_bytes), "UTF-16LE"),
        (utf16(u16::to_be_bytes), "UTF-16BE"),
        (latin, "windows-1252"),
    ] {
        let read = check(&bytes, &[], &["20.96", "20.91"]);
        assert_eq!(read.understood.encoding, encoding);
        assert_eq!(read.understood.unit.as_deref(), Some("°C"), "{encoding}");
        assert_eq!(read.understood.value_column.name.as_deref(), Some("Außen"));
    }
    let japanese = b"\x8e\x9e\x8d\x8f,value\n2026-03-01,5\n";
    assert_eq!(read(japanese, &["--encoding", "shift_jis"]).understood.time_column.name.as_deref(), Some("時刻"));
    refuses(japanese, &["--encoding", "utf-8"], &["it is not UTF-8 text", "--encoding"]);
    refuses(b"\xff\xfe\x00\xd8", &[], &["it is not UTF-16LE text"]);
}

#[test]
fn case_11_csv_newest_first() {
    let csv = "timestamp,value\n2026-03-01 00:03:00,21.39\n2026-03-01 00:02:00,21.35\n2026-03-01 00:01:00,21.30\n2026-03-01 00:00:00,21.28\n";
    let read_it = check(csv, &[], &["21.28", "21.30", "21.35", "21.39"]);
    assert!(
        read_it.understood.lines().contains(&"order: the file has the newest first; reversed".to_owned()),
        "{:?}",
        read_it.understood
    );
    let rules = Arc::new(file("[[quality]]\nfilter = \"#\"\nrate = { max_per_s = 0.005 }\ntime = {}").unwrap());
    let trial = try_rules(&rules, TOPIC, &read_it.recording);
    assert_eq!(trial.counts().passed, 4, "{:?}", trial.counts());
    assert_eq!(read_it.recording.period_ms(), Some(60_000));
    // As it stands, if that is asked for.
    check(csv, &["--order", "file"], &["21.39", "21.35", "21.30", "21.28"]);
}

#[test]
fn a_clock_that_goes_back_is_kept_whatever_the_order() {
    let minutes = [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7];
    let rows: Vec<String> =
        minutes.iter().enumerate().map(|(at, minute)| format!("2026-03-01 00:{minute:02}:00,{at}")).collect();
    let oldest_first = read(format!("time,value\n{}\n", rows.join("\n")), &[]);
    let rows: Vec<String> = rows.into_iter().rev().collect();
    let newest_first = read(format!("time,value\n{}\n", rows.join("\n")), &[]);
    assert_eq!(oldest_first.recording, newest_first.recording);
    let rules = Arc::new(file("[[quality]]\nfilter = \"#\"\ntime = {}").unwrap());
    for read in [oldest_first, newest_first] {
        assert_eq!((read.understood.stamps_back, read.understood.stamps_repeated), (1, 0));
        let counts = try_rules(&rules, TOPIC, &read.recording).counts();
        assert_eq!(counts.by_check.get(&Check::Time), Some(&1), "{counts:?}");
    }
}

#[test]
fn no_order_is_sorted_and_repeated_stamps_are_kept() {
    let minutes = [5, 1, 4, 2, 8, 3, 7, 6, 0, 4];
    let rows: Vec<String> = minutes.iter().map(|minute| format!("2026-03-01 00:{minute:02}:00,{minute}")).collect();
    let csv = format!("time,value\n{}\n", rows.join("\n"));
    let read_it = check(&csv, &[], &["0", "1", "2", "3", "4", "4", "5", "6", "7", "8"]);
    assert_eq!(read_it.understood.order, "the file is not in order of time; sorted by time");
    assert_eq!((read_it.understood.stamps_back, read_it.understood.stamps_repeated), (0, 1));
    check("0,1\n2,2\n1,3\n", &["--order", "time"], &["1", "3", "2"]);
    let read_it = check("0,1\n2,2\n3,4\n4,5\n1,3\n", &[], &["1", "2", "4", "5", "3"]);
    assert_eq!((read_it.understood.order.as_str(), read_it.understood.stamps_back), ("as in the file", 1));
}

#[test]
fn the_hour_that_comes_twice() {
    let berlin: &[&str] = &["--time-zone", "Europe/Berlin"];
    let times = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"];
    let rows: Vec<String> = times.iter().map(|time| format!("2026-10-25 {time},1")).collect();
    let expected = ["23:30", "00:00", "00:30", "01:00", "01:30", "02:00"];
    for rows in [rows.clone(), rows.into_iter().rev().collect()] {
        let read = read(format!("time,value\n{}\n", rows.join("\n")), berlin);
        let found: Vec<String> = shown(&read).iter().map(|text| text[11..16].to_owned()).collect();
        assert_eq!(found, expected);
        assert_eq!((read.understood.stamps_twice, read.understood.stamps_back), (4, 0));
        assert!(
            read.understood.lines()[2].contains("stamps in an hour that comes twice: 4,"),
            "{:?}",
            read.understood.lines()
        );
    }
    let read = read("time,value\n2026-03-29 02:30,1\n", berlin);
    assert_eq!(
        (shown(&read).as_slice(), read.understood.stamps_skipped),
        (["2026-03-29 01:30:00 1".to_owned()].as_slice(), 1)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A recording that is written in any of these ways comes back as it was, or is refused: never as another one.
    #[test]
    fn recordings_come_back(
        rows in prop::collection::vec((0u64..86_400_000, -10_000_000i128..10_000_000), 1..60),
        decimals in 0u8..5,
        delimiter in prop_oneof![Just(','), Just(';'), Just('\t'), Just('|')],
        comma in any::<bool>(),
        quoted in any::<bool>(),
        newest_first in any::<bool>(),
        header in any::<bool>(),
        line_end in prop_oneof![Just("\n"), Just("\r\n")],
        utf16 in any::<bool>(),
        named in any::<bool>(),
    ) {
        let mut time_ms = 1_772_323_200_000;
        let mut expected = Vec::new();
        for (gap_ms, mantissa) in rows {
            time_ms += gap_ms;
            expected.push((time_ms, Decimal::new(mantissa, decimals)));
        }
        let mut lines: Vec<String> = expected.iter().map(|(time_ms, number)| {
            let time = format!("{}.{:03}", utc(*time_ms).trim_end_matches('Z'), time_ms % 1000);
            let number = number.to_string();
            let number = if comma { number.replace('.', ",") } else { number };
            let quote = if quoted || number.contains(delimiter) { "\"" } else { "" };
            format!("{quote}{time}{quote}{delimiter}{quote}{number}{quote}")
        }).collect();
        if newest_first {
            lines.reverse();
        }
        if header {
            lines.insert(0, format!("time{delimiter}value"));
        }
        let text = lines.join(line_end);
        let bytes = if utf16 { text.encode_utf16().flat_map(u16::to_le_bytes).collect() } else { text.into_bytes() };
        let args: &[&str] = if named { &["--decimal", if comma { "comma" } else { "point" }] } else { &[] };
        match Recording::import(&bytes, &options(args)) {
            Ok(read) => {
                // Newest first with equal stamps, one beside the other, may be seen as in order.
                let mut found: Vec<(u64, Value)> = read.recording.readings.into_iter().map(|it| (it.time_ms, it.value)).collect();
                let mut expected: Vec<(u64, Value)> = expected.into_iter().map(|(at, number)| (at, Value::Number(number))).collect();
                let steps = expected.windows(2).any(|pair| pair[0].0 != pair[1].0);
                if newest_first && !steps {
                    found.sort_by_key(|(_, value)| value.to_string());
                    expected.sort_by_key(|(_, value)| value.to_string());
                }
                prop_assert_eq!(found, expected);
            }
            Err(error) => prop_assert!(!named && decimals == 3 && error.to_string().contains("--decimal"), "{}", error),
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), choice in 0usize..6) {
        let args: [&[&str]; 6] = [&[], &["--decimal", "comma"], &["--thousands", "space"], &["--where", "1=a"], &["--time-format", "dmy"], &["--encoding", "utf-16be"]];
        let _ = Recording::import(&bytes, &options(args[choice]));
    }

    #[test]
    fn near_csv_never_panics(text in "(sep=.\n)?(#[a-z]{0,3}\n)?([a-z_]{0,6}[,;|]){0,3}[a-z]{0,5}\r?\n(((2026-03-0[0-9] ?[0-9:]{0,8})?|\"[0-9,.]{0,6}\"?|[0-9.,]{0,6}( °C)?|nan|a)[,;|\n]){0,20}") {
        let _ = Recording::from_csv(&text);
    }
}
