//! The examples of RFC 8428, without the line breaks that its page width made.

use sealcast_reading::senml::{JsonStyle, Pack};
use sealcast_reading::{Decoder, InputConfig, SenmlConfig, Value};

/// 2024-03-09T16:00:00Z.
const NOW_MS: u64 = 1_710_000_000_000;
const AS_IN_THE_RFC: JsonStyle = JsonStyle { scientific_times: true };

/// §5.1.1.
const SINGLE: &str = r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#;

/// §5.1.2, first.
const MULTIPLE: &str =
    r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]"#;

/// §5.1.2, second.
const SINCE: &str = concat!(
    r#"[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},"#,
    r#"{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"current","t":-3,"v":1.4},"#,
    r#"{"n":"current","t":-2,"v":1.5},{"n":"current","t":-1,"v":1.6},{"n":"current","v":1.7}]"#,
);

/// §6: the same in CBOR (the last record says `t` there).
const SINCE_CBOR: &str = concat!(
    "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a",
    "22fb41d303a15b00106223614120050067766f6c7461676501615602fb405e06",
    "6666666666a3006763757272656e74062402fb3ff3333333333333a300676375",
    "7272656e74062302fb3ff4cccccccccccda3006763757272656e74062202fb3f",
    "f6666666666666a3006763757272656e74062102f93e00a3006763757272656e",
    "74062002fb3ff999999999999aa3006763757272656e74060002fb3ffb333333",
    "333333",
);

/// §5.1.3.
const MEASUREMENTS: &str = concat!(
    r#"[{"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},{"u":"lon","v":24.30621},"#,
    r#"{"u":"lat","v":60.07965},{"t":60,"v":20.3},{"u":"lon","t":60,"v":24.30622},{"u":"lat","t":60,"v":60.07965},"#,
    r#"{"t":120,"v":20.7},{"u":"lon","t":120,"v":24.30623},{"u":"lat","t":120,"v":60.07966},"#,
    r#"{"u":"%EL","t":150,"v":98},{"t":180,"v":21.2},{"u":"lon","t":180,"v":24.30628},"#,
    r#"{"u":"lat","t":180,"v":60.07967}]"#,
);

/// §5.1.4: the same resolved.
const RESOLVED: &str = concat!(
    r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067464e+09,"v":20},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067464e+09,"v":24.30621},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067464e+09,"v":60.07965},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067524e+09,"v":20.3},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067524e+09,"v":24.30622},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067524e+09,"v":60.07965},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067584e+09,"v":20.7},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067584e+09,"v":24.30623},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067584e+09,"v":60.07966},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"%EL","t":1.320067614e+09,"v":98},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067644e+09,"v":21.2},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067644e+09,"v":24.30628},"#,
    r#"{"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067644e+09,"v":60.07967}]"#,
);

/// §5.1.5.
const TYPES: &str = concat!(
    r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},{"n":"label","vs":"Machine Room"},"#,
    r#"{"n":"open","vb":false},{"n":"nfc-reader","vd":"aGkgCg"}]"#,
);

/// §5.1.6.
const COLLECTION: &str = concat!(
    r#"[{"bn":"2001:db8::2/","bt":1.320078429e+09,"n":"temperature","u":"Cel","v":25.2},"#,
    r#"{"n":"humidity","u":"%RH","v":30},{"bn":"2001:db8::1/","n":"temperature","u":"Cel","v":12.3},"#,
    r#"{"n":"humidity","u":"%RH","v":67}]"#,
);

/// §5.1.7.
const ACTUATOR: &str = concat!(
    r#"[{"bn":"urn:dev:ow:10e2073a01080063:"},{"n":"temp","u":"Cel","v":23.1},{"n":"heat","u":"/","v":1},"#,
    r#"{"n":"fan","u":"/","v":0}]"#,
);
const LIGHTS_ON: &str = r#"[{"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":1},{"n":"2001:db8::4","v":1}]"#;
const LIGHTS_OFF: &str = concat!(
    r#"[{"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":0.5},{"n":"2001:db8::4","v":0.5},"#,
    r#"{"n":"2001:db8::3","t":0.1,"v":0},{"n":"2001:db8::4","t":0.1,"v":0}]"#,
);

fn pack(json: &str) -> Pack {
    Pack::from_json(json.as_bytes()).unwrap()
}

#[test]
fn every_example_comes_back_byte_for_byte() {
    for example in [SINGLE, MULTIPLE, SINCE, MEASUREMENTS, RESOLVED, TYPES, COLLECTION, ACTUATOR, LIGHTS_ON, LIGHTS_OFF]
    {
        let read = pack(example);
        assert_eq!(read.to_json(AS_IN_THE_RFC).unwrap(), example);
        assert_eq!(Pack::from_cbor(&read.to_cbor().unwrap()).unwrap(), read, "{example}");
    }
}

#[test]
fn cbor_example_comes_back_byte_for_byte_and_is_the_json_example() {
    let bytes = hex::decode(SINCE_CBOR).unwrap();
    let read = Pack::from_cbor(&bytes).unwrap();
    assert_eq!(hex::encode(read.to_cbor().unwrap()), SINCE_CBOR);

    let mut from_json = pack(SINCE);
    assert_eq!(read.resolve(NOW_MS).unwrap(), from_json.resolve(NOW_MS).unwrap());
    from_json.records.last_mut().unwrap().time = Some(0i64.into());
    assert_eq!(hex::encode(from_json.to_cbor().unwrap()), SINCE_CBOR);
}

#[test]
fn measurements_resolve_to_the_resolved_example_byte_for_byte() {
    let resolved: Pack = pack(MEASUREMENTS).resolve(NOW_MS).unwrap().into_iter().collect();
    assert_eq!(resolved.to_json(AS_IN_THE_RFC).unwrap(), RESOLVED);
    // Resolving what is resolved changes nothing.
    let again: Pack = pack(RESOLVED).resolve(NOW_MS).unwrap().into_iter().collect();
    assert_eq!(again.to_json(AS_IN_THE_RFC).unwrap(), RESOLVED);
}

#[test]
fn resolved_records_are_in_the_order_of_time() {
    let resolved = pack(SINCE).resolve(NOW_MS).unwrap();
    let values: Vec<_> = resolved.iter().map(|record| record.value.as_ref().unwrap().to_string()).collect();
    assert_eq!(values, ["1.2", "1.3", "1.4", "1.5", "1.6", "120.1", "1.7"]);
    assert_eq!(resolved[0].time.unwrap().to_string(), "1276020071.001");
    assert!(resolved.iter().all(|record| record.version == Some(5)));
}

#[test]
fn base_name_and_time_go_on_past_a_new_base_name() {
    let records = read(COLLECTION, SenmlConfig::default()).unwrap();
    let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(
        names,
        ["2001:db8::2/temperature", "2001:db8::2/humidity", "2001:db8::1/temperature", "2001:db8::1/humidity"]
    );
    assert!(records.iter().all(|record| record.reading.time_ms == Some(1_320_078_429_000)));
}

#[test]
fn every_type_of_value_is_read() {
    let records = read(TYPES, SenmlConfig::default()).unwrap();
    let values: Vec<_> = records.into_iter().map(|record| record.reading.value).collect();
    assert_eq!(values[1], Value::Text("Machine Room".to_owned()));
    assert_eq!(values[2], Value::Bool(false));
    assert_eq!(values[3], Value::Data(b"hi \n".to_vec()));
}

#[test]
fn one_record_is_selected_by_its_resolved_name() {
    let select = Some("urn:dev:ow:10e2073a01080063:heat".to_owned());
    let records = read(ACTUATOR, SenmlConfig { select, ..SenmlConfig::default() }).unwrap();
    assert_eq!(records.len(), 1);
    let missing = SenmlConfig { select: Some("heat".to_owned()), ..SenmlConfig::default() };
    let records = read(ACTUATOR, missing).unwrap();
    assert!(matches!(&records[..], [none] if none.name == "heat" && none.reading.is_empty()), "{records:?}");
}

#[test]
fn relative_times_are_from_now() {
    let records = read(r#"[{"n":"a","v":1,"t":-2.5},{"n":"b","v":2}]"#, SenmlConfig::default()).unwrap();
    assert_eq!(records[0].reading.time_ms, Some(NOW_MS - 2500));
    assert_eq!(records[1].reading.time_ms, None);
}

#[test]
fn base_values_and_sums_are_added_with_all_digits() {
    let json = r#"[{"bn":"a","bv":20.00,"bs":1000000000000000000000.5,"v":0.1,"s":1},{"n":"b","s":0.25}]"#;
    let resolved = pack(json).resolve(NOW_MS).unwrap();
    assert_eq!(resolved[0].value.as_ref().unwrap().to_string(), "20.10");
    assert_eq!(resolved[0].sum.unwrap().to_string(), "1000000000000000000001.5");
    assert_eq!(resolved[1].sum.unwrap().to_string(), "1000000000000000000000.75");
    assert_eq!(resolved[1].value, None);
}

#[test]
fn broken_packs_are_refused_with_their_record() {
    let check = |json: &str, record: Option<usize>, says: &str| {
        let error = read(json, SenmlConfig::default()).unwrap_err();
        assert_eq!(error.position.record, record, "{json}: {error}");
        assert!(error.to_string().contains(says), "{json}: {error}");
    };
    check("{}", None, "array of records");
    check("[]", None, "no records");
    check(r#"[{"bn":"a"}]"#, None, "no records");
    check("[1]", Some(0), "at byte 1");
    check(r#"[{"n":"a","v":1},{"v":1}]"#, Some(1), "no name");
    check(r#"[{"n":"a b","v":1}]"#, Some(0), "letters, digits");
    check(r#"[{"n":"-a","v":1}]"#, Some(0), "begin");
    check(r#"[{"n":"a","v":1,"vb":true}]"#, Some(0), "more than one");
    check(r#"[{"n":"a","u":"V"}]"#, Some(0), "neither");
    check(r#"[{"n":"a","v":"1"}]"#, Some(0), "at byte 14 (v): expected a number, found a text");
    check(r#"[{"n":"a","vd":"?"}]"#, Some(0), "base64");
    check(r#"[{"n":"a","v":1,"must_":0}]"#, Some(0), "must be understood");
    check(r#"[{"n":"a","v":1,"bver":11}]"#, Some(0), "version 11");
    check(r#"[{"n":"a","v":1,"bver":10},{"n":"b","v":1,"bver":26}]"#, Some(1), "different versions");
    // What is not known and may be passed over is passed over.
    assert!(read(r#"[{"n":"a","v":1,"other":[1,2]}]"#, SenmlConfig::default()).is_ok());
}

fn read(json: &str, config: SenmlConfig) -> Result<Vec<sealcast_reading::NamedReading>, sealcast_reading::DecodeError> {
    Decoder::new(InputConfig::SenmlJson(config)).unwrap().decode(json.as_bytes(), NOW_MS)
}
