//! Payloads of devices, in every format; and paths of a configuration on any document.
//!
//! Input: 0 and a payload that every format is tried on, or 1 (JSON) or 2 (CBOR), a JSONPath up to a NUL, and a payload.

use sealcast_reading::{
    Decoder, Encoder, InputConfig, JsonOutput, MAX_NODES, MAX_RECORDS, NamedReading, NumberOutput, OutputConfig,
    PlainConfig, SenmlConfig, SenmlOutput, TimeFormat, TreeConfig, Value, ValueType, exercise,
};

const NOW_MS: u64 = 1_700_000_000_000;
/// What the packs that are written are named after.
const NAME: &str = "urn:dev:x:";

pub fn run(data: &[u8]) {
    match data {
        [0, payload @ ..] => every_format(payload),
        [form @ (1 | 2), rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == 0) else { return };
            let (path, payload) = rest.split_at(end);
            let Ok(path) = std::str::from_utf8(path) else { return };
            let tree = TreeConfig { sequence: Some("$.n".to_owned()), ..tree(path, ValueType::Auto) };
            let form = if *form == 1 { InputConfig::Json } else { InputConfig::Cbor };
            for config in [form(TreeConfig { sequence: None, ..tree.clone() }), form(tree)] {
                let Ok(decoder) = Decoder::new(config) else { continue };
                if let Ok(records) = decoder.decode(payload.get(1..).unwrap_or_default(), NOW_MS) {
                    assert_eq!(records.len(), 1, "a path selects one value");
                    comes_back(&records);
                }
            }
        }
        _ => {}
    }
}

fn every_format(payload: &[u8]) {
    exercise(payload);
    let timed = |path: &str, format| TreeConfig {
        time: Some("$.t".to_owned()),
        time_format: format,
        unit_path: Some("$.u".to_owned()),
        ..tree(path, ValueType::Auto)
    };
    let mut formats = vec![
        InputConfig::Number(PlainConfig::default()),
        InputConfig::Text(PlainConfig::default()),
        InputConfig::SenmlJson(SenmlConfig::default()),
        InputConfig::SenmlCbor(SenmlConfig::default()),
    ];
    for kind in [ValueType::Auto, ValueType::Number, ValueType::Text, ValueType::Bool, ValueType::Data] {
        formats.extend([InputConfig::Json(tree("$.v", kind)), InputConfig::Cbor(tree("$.v", kind))]);
    }
    for format in [TimeFormat::Auto, TimeFormat::S, TimeFormat::Ms, TimeFormat::Ns, TimeFormat::Rfc3339] {
        formats.extend([InputConfig::Json(timed("$.v", format)), InputConfig::Cbor(timed("$.v", format))]);
    }
    let zone = "Europe/Berlin".parse().expect("a zone that is built in");
    let local = TreeConfig { time_zone: Some(zone), ..timed("$.v", TimeFormat::Auto) };
    formats.push(InputConfig::Json(local));
    for config in formats {
        let decoder = Decoder::new(config).expect("a configuration of this target");
        if let Ok(records) = decoder.decode(payload, NOW_MS) {
            assert!((1..=MAX_RECORDS.min(MAX_NODES)).contains(&records.len()));
            comes_back(&records);
        }
    }
}

fn tree(value: &str, kind: ValueType) -> TreeConfig {
    TreeConfig {
        value: value.to_owned(),
        kind,
        time: None,
        time_format: TimeFormat::Auto,
        time_zone: None,
        sequence: None,
        unit_path: None,
        unit: None,
        convert_to: None,
    }
}

/// What an output format takes of these records reads back as it was.
fn comes_back(records: &[NamedReading]) {
    let written = |config| Encoder::new(config).expect("a configuration of this target").encode(records);
    if let [record] = records {
        if let (Ok(text), Value::Number(_)) =
            (written(OutputConfig::Number(NumberOutput::default())), &record.reading.value)
        {
            let again = read(InputConfig::Number(PlainConfig::default()), &text);
            same_digits(&record.reading.value, &again[0].reading.value);
        }
        for time_format in [TimeFormat::Ms, TimeFormat::Rfc3339] {
            let output = OutputConfig::Json(JsonOutput { time_format, ..JsonOutput::default() });
            let Ok(json) = written(output) else { continue };
            let kind = if matches!(record.reading.value, Value::Data(_)) { ValueType::Data } else { ValueType::Auto };
            let input = TreeConfig {
                time: record.reading.time_ms.map(|_| "$.time".to_owned()),
                time_format,
                sequence: record.reading.sequence.map(|_| "$.sequence".to_owned()),
                unit_path: Some("$.unit".to_owned()),
                ..tree("$.value", kind)
            };
            let again = read(InputConfig::Json(input), &json);
            same_digits(&record.reading.value, &again[0].reading.value);
            assert_eq!(again[0].reading.unit, record.reading.unit);
            assert_eq!(again[0].reading.time_ms, record.reading.time_ms, "{}", String::from_utf8_lossy(&json));
            assert_eq!(again[0].reading.sequence, record.reading.sequence);
        }
    }
    let senml = SenmlOutput { name: NAME.to_owned(), secondary_units: true, ..SenmlOutput::default() };
    for (output, input) in [
        (OutputConfig::SenmlJson(senml.clone()), InputConfig::SenmlJson(SenmlConfig::default())),
        (OutputConfig::SenmlCbor(senml), InputConfig::SenmlCbor(SenmlConfig::default())),
    ] {
        let Ok(pack) = written(output) else { continue };
        let again = read(input, &pack);
        assert_eq!(again.len(), records.len());
        for (again, record) in again.iter().zip(records) {
            assert_eq!(again.name.strip_prefix(NAME), Some(record.name.as_str()));
            assert_eq!(again.reading.time_ms, record.reading.time_ms);
            // Those of no registry have become their primary units.
            if again.reading.unit == record.reading.unit {
                assert_eq!(again.reading.value, record.reading.value);
            }
        }
    }
}

fn read(config: InputConfig, bytes: &[u8]) -> Vec<NamedReading> {
    let decoder = Decoder::new(config).expect("a configuration of this target");
    let read = decoder.decode(bytes, NOW_MS);
    read.unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(bytes)))
}

/// Text keeps each digit, also zeros at the end.
fn same_digits(written: &Value, read: &Value) {
    match (written, read) {
        (Value::Number(written), Value::Number(read)) => assert!(written.same_digits(*read), "{written} is {read}"),
        _ => assert_eq!(written, read),
    }
}
