//! Each format, read and written; what is refused, and where.

use sealcast_reading::{
    ConfigError, Decimal, DecodeError, Decoder, EncodeError, Encoder, InputConfig, MAX_DEPTH, MAX_NODES, NamedReading,
    OutputConfig, Reading, Special, Unit, Value, exercise,
};

const NOW_MS: u64 = 1_710_000_000_000;

fn decoder(config: &str) -> Decoder {
    Decoder::new(toml::from_str::<InputConfig>(config).unwrap()).unwrap()
}

fn encoder(config: &str) -> Encoder {
    Encoder::new(toml::from_str::<OutputConfig>(config).unwrap()).unwrap()
}

fn read(config: &str, payload: impl AsRef<[u8]>) -> Result<Reading, DecodeError> {
    let mut records = decoder(config).decode(payload.as_ref(), NOW_MS)?;
    assert_eq!(records.len(), 1);
    Ok(records.remove(0).reading)
}

/// Reads and shows value and unit.
fn check(config: &str, payload: impl AsRef<[u8]>, expected: &str) {
    let reading = read(config, payload).unwrap();
    let unit = reading.unit.as_ref().map(|unit| format!(" {unit}")).unwrap_or_default();
    assert_eq!(format!("{}{unit}", reading.value), expected, "{config}");
}

fn refused(config: &str, payload: impl AsRef<[u8]>, says: &str) {
    let error = read(config, payload).unwrap_err();
    assert_eq!(error.to_string(), says, "{config}");
}

#[test]
fn numbers_keep_their_digits() {
    let number = r#"format = "number""#;
    check(number, "21.50", "21.50");
    check(number, " +7\r\n", "7");
    check(number, "-.5e-1", "-0.05");
    check(number, "1e3", "1000");
    check(number, "0.1000000000000000055511151231257827021", "0.1000000000000000055511151231257827021");
    check(number, "NaN", "NaN");
    check("format = \"number\"\nunit = \"°F\"\nconvert_to = \"Cel\"", "72.5", "22.50 Cel");
    refused(number, "", "at byte 0: payload is empty, expected a number");
    refused(number, " 21,5", "at byte 3: not a number such as 21.5");
    refused(number, "1e40", "at byte 0: number has more than 38 digits");
    refused(number, b"21\xff", "at byte 2: text is not UTF-8");
    check(r#"format = "text""#, " on ", "\" on \"");
}

#[test]
fn json_values_are_found_by_path() {
    let json = |value: &str| format!("format = \"json\"\nvalue = {value:?}");
    let payload = r#"{"main":{"temp":21.50,"list":[1,2.10,{"id":"x","v":3.00}]},"a.b":5,"on":"OFF","n":null}"#;
    check(&json("$.main.temp"), payload, "21.50");
    check(&json("$.main.list[1]"), payload, "2.10");
    check(&json("$['main'].list[-1].v"), payload, "3.00");
    check(&json("$.main.list[?@.id=='x'].v"), payload, "3.00");
    check(&json("$..temp"), payload, "21.50");
    check(&json("$['a.b']"), payload, "5");
    check(&json("$.n"), payload, "null");
    check(&json("$"), "  true ", "true");
    check(&format!("{}\ntype = \"bool\"", json("$.on")), payload, "false");
    check(&format!("{}\ntype = \"number\"", json("$")), "\"21.50\"", "21.50");
    check(&format!("{}\ntype = \"text\"", json("$")), "21.50", "\"21.50\"");
    check(&format!("{}\ntype = \"data\"", json("$")), "\"aGkgCg\"", "4 bytes");
    check(&json("$"), r#""\u00e9\ud83d\ude00\n""#, "\"é😀\\n\"");

    check(&json("$.missing"), payload, "nothing");
    check(&json("$.main.missing.deeper"), payload, "nothing");
    refused(&json("$.main"), payload, "at byte 8 ($.main): expected a single value, found an object");
    let many = "$.main.list[*]: the path selects 3 values, it must select one: narrow it, for example with an index \
                or a filter";
    refused(&json("$.main.list[*]"), payload, many);
}

#[test]
fn json_time_sequence_and_unit_are_read() {
    let config = r#"
        format = "json"
        value = "$.v"
        time = "$.t"
        sequence = "$.s"
        unit_path = "$.u"
        unit = "K"
        convert_to = "Cel"
    "#;
    let time = |text: &str| read(config, format!(r#"{{"v":300.00,"s":7,"t":{text}}}"#)).map(|it| it.time_ms.unwrap());
    assert_eq!(time("1710000000"), Ok(1_710_000_000_000));
    assert_eq!(time("1710000000.1234"), Ok(1_710_000_000_123));
    assert_eq!(time("1710000000123"), Ok(1_710_000_000_123));
    assert_eq!(time(r#""2024-03-09T16:00:00Z""#), Ok(1_710_000_000_000));
    assert_eq!(time(r#""2024-03-09T18:30:00.25+02:30""#), Ok(1_710_000_000_250));
    for wrong in ["-1", "\"2024-13-09T16:00:00Z\"", "\"2023-02-29T16:00:00Z\"", "\"noon\"", "1e21", "true"] {
        assert!(time(wrong).is_err(), "{wrong}");
    }
    let reading = read(config, r#"{"v":72.5,"s":7,"t":1710000000,"u":"°F"}"#).unwrap();
    assert_eq!(
        (reading.value.to_string(), reading.unit, reading.sequence),
        ("22.50".into(), Some(Unit::CELSIUS), Some(7))
    );
    refused(
        config,
        r#"{"v":1,"t":0,"s":-1}"#,
        "at byte 17 ($.s): sequence number must be an integer from 0 to 18446744073709551615",
    );
}

#[test]
fn a_whole_document_without_a_member_is_read() {
    let config = "value = '$.v'\ntype = 'number'\ntime = '$.t'\nsequence = '$.s'\nunit_path = '$.u'\nunit = 'K'\n\
                  convert_to = 'Cel'";
    let json = format!("format = 'json'\n{config}");
    let known = |text: &str| {
        let reading = read(&json, text).unwrap();
        (reading.value.to_string(), reading.is_empty(), reading.time_ms, reading.sequence)
    };
    assert_eq!(known(r#"{"battery":100,"voltage":3015}"#), ("nothing".into(), true, None, None));
    assert_eq!(known(r#"{"v":null,"t":1710000000,"s":7}"#), ("null".into(), true, Some(1_710_000_000_000), Some(7)));
    assert_eq!(known(r#"{"t":1710000000,"s":7}"#), ("nothing".into(), true, Some(1_710_000_000_000), Some(7)));
    assert_eq!(known(r#"{"v":300.00,"t":null,"s":null,"u":null}"#), ("26.85".into(), false, None, None));
    assert_eq!(known("[1]"), ("nothing".into(), true, None, None));
    // What is there is read as strictly as before, and what is no document is no message without a value.
    refused(&json, r#"{"v":"unavailable"}"#, "at byte 5 ($.v): not a number such as 21.5");
    refused(
        &json,
        r#"{"s":1.5}"#,
        "at byte 5 ($.s): sequence number must be an integer from 0 to 18446744073709551615",
    );
    assert!(read(&json, "offline").unwrap_err().to_string().starts_with("at byte 0: "));
    refused(&json, "", "at byte 0: payload is empty, expected JSON");

    let decode = |config: &str, payload: &[u8]| {
        let records = decoder(config).decode(payload, NOW_MS).unwrap();
        records.iter().map(|record| format!("{}={}", record.name, record.reading.value)).collect::<Vec<_>>()
    };
    // {"v": undefined}, {}
    let cbor = format!("format = 'cbor'\n{config}");
    assert_eq!(decode(&cbor, &[0xa1, 0x61, b'v', 0xf7]), ["=null"]);
    assert_eq!(decode(&cbor, &[0xa0]), ["=nothing"]);
    let senml = "format = 'senml_json'";
    assert_eq!(decode(&format!("{senml}\nselect = 'b'"), br#"[{"n":"a","v":1}]"#), ["b=nothing"]);
    assert_eq!(decode(senml, br#"[{"n":"a","s":5},{"n":"b","v":1}]"#), ["a=nothing", "b=1"]);
}

#[test]
fn json_faults_name_their_byte() {
    let json = "format = \"json\"\nvalue = \"$.a\"";
    refused(json, "", "at byte 0: payload is empty, expected JSON");
    refused(json, "{\"a\" 1}", "at byte 5: expected `:` after a member name");
    refused(json, "{\"a\":1", "at byte 6: payload ends inside JSON");
    refused(json, "{\"a\":01}", "at byte 6: a number must not begin with 0");
    refused(json, "{\"a\":NaN}", "at byte 5: expected a JSON value");
    refused(json, "{\"a\":1}}", "at byte 7: something follows after the end of the JSON value");
    refused(json, "{\"a\":1,\"a\":2}", "at byte 11: member `a` stands twice in the same object");
    refused(json, r#"{"a":"\ud800"}"#, "at byte 12: half of a surrogate pair in a string");
    refused(json, "{\"a\":1e99}", "at byte 5 ($.a): number has more than 38 digits");
    let deep = format!("{}1{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
    refused(json, deep, "at byte 33: nested deeper than 32 levels");
    let wide = format!("[{}1]", "1,".repeat(MAX_NODES));
    assert!(read(json, wide).unwrap_err().to_string().ends_with("more than 65536 values"));
    let large = vec![b' '; (1 << 20) + 1];
    refused(json, large, "payload has 1048577 bytes, more than 1048576");
}

#[test]
fn cbor_numbers_keep_their_digits() {
    let cbor = "format = \"cbor\"\nvalue = \"$\"";
    let check = |bytes: &str, expected: &str| check(cbor, hex::decode(bytes).unwrap(), expected);
    check("c4822119086a", "21.54");
    check("c48221190866", "21.50");
    check("c4820302", "2000");
    check("c5822003", "1.5");
    check("fa41ac0000", "21.5");
    check("fa3dcccccd", "0.1");
    check("fb3fb999999999999a", "0.1");
    check("f92e66", "0.1");
    check("f93e00", "1.5");
    check("f90001", "0.00000006");
    check("f97bff", "65500");
    check("f97e00", "NaN");
    check("fb7ff0000000000000", "inf");
    check("f6", "null");
    check("3903e7", "-1000");
    check("c249010000000000000000", "18446744073709551616");
    check("c349010000000000000000", "-18446744073709551617");
    check("d9d9f701", "1");
    check("7f61616162ff", "\"ab\"");
    check("5f41004101ff", "2 bytes");
    check("f5", "true");
}

#[test]
fn cbor_members_are_found_by_path() {
    let cbor = |value: &str| format!("format = \"cbor\"\nvalue = {value:?}");
    // {1: 21.5, "v": [10, 20]}
    let payload = hex::decode("a201f94d606176820a14").unwrap();
    check(&cbor("$['1']"), &payload, "21.5");
    check(&cbor("$.v[1]"), &payload, "20");
    check(&cbor("$.v[?@ > 10]"), &payload, "20");
    let refused = |bytes: &str, says: &str| {
        let error = read(&cbor("$"), hex::decode(bytes).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), says);
    };
    refused("", "at byte 0: payload ends inside CBOR");
    refused("0101", "at byte 1: something follows after the end of the CBOR item");
    refused("6261", "at byte 1: payload ends inside CBOR");
    refused("9bffffffffffffffff", "at byte 9: payload ends inside CBOR");
    refused("ff", "at byte 0: a break where no item is open");
    refused("a2010101", "at byte 4: payload ends inside CBOR");
    refused("a201010102", "at byte 4: member `1` stands twice in the same object");
    refused("c4820102c4", "at byte 4: something follows after the end of the CBOR item");
    refused("c401", "at byte 0: the item in this tag is not what the tag says");
    refused("c482390fff01", "at byte 0 ($): number has more than 255 decimals");
    refused(&"c1".repeat(40), "at byte 33: nested deeper than 32 levels");
}

#[test]
fn packed_fields_are_scaled_exactly() {
    let config = r#"
        format = "packed"
        size = 16
        fields = [
            { name = "temp", at = 0, type = "i16", scale = 0.1, offset = -40, unit = "degF", convert_to = "Cel" },
            { name = "open", at = 2, type = "bit", bit = 3 },
            { name = "flow", at = 3, type = "f32", endian = "big_swapped", unit = "m3/s" },
            { name = "low", at = 7, type = "i24", endian = "little" },
            { at = 10, type = "u32", role = "time_s" },
            { at = 14, type = "u16", role = "sequence" },
        ]
    "#;
    let payload = hex::decode(concat!("0465", "08", "cccd3dcc", "feffff", "65ec8780", "0102")).unwrap();
    let records = decoder(config).decode(&payload, NOW_MS).unwrap();
    let shown: Vec<_> = records.iter().map(|it| format!("{} {}", it.name, it.reading.value)).collect();
    assert_eq!(shown, ["temp 22.50", "open true", "flow 0.1", "low -2"]);
    for record in &records {
        assert_eq!((record.reading.time_ms, record.reading.sequence), (Some(1_710_000_000_000), Some(258)));
    }
    let error = decoder(config).decode(&payload[1..], NOW_MS).unwrap_err();
    assert_eq!(error.to_string(), "at byte 15: payload has 15 bytes, the layout needs 16");
}

#[test]
fn packed_byte_orders() {
    let check = |endian: &str, bytes: &str| {
        let config = format!("format = \"packed\"\nendian = {endian:?}\nfields = [{{ at = 0, type = \"u32\" }}]");
        let reading = read(&config, hex::decode(bytes).unwrap()).unwrap();
        assert_eq!(reading.number(), Some(Decimal::from(0x0102_0304_u64)), "{endian}");
    };
    check("big", "01020304");
    check("little", "04030201");
    check("big_swapped", "03040102");
    check("little_swapped", "02010403");
}

#[test]
fn configurations_are_checked() {
    let refuse = |config: &str, says: &str| {
        let error = match toml::from_str::<InputConfig>(config) {
            Ok(config) => Decoder::new(config).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(says), "{config}: {error}");
    };
    refuse("format = \"json\"\nvalue = \"$.a\"\ntypo = 1", "unknown field `typo`");
    refuse("format = \"number\"\ntypo = 1", "unknown field `typo`");
    refuse("format = \"yaml\"", "unknown variant `yaml`");
    refuse("format = \"json\"\nvalue = \"a\"", "`value` is not a JSONPath");
    refuse("format = \"number\"\nunit = \"V\"\nconvert_to = \"A\"", "different quantities");
    refuse("format = \"number\"\nunit = \"furlong\"\nconvert_to = \"m\"", "no registry");
    refuse("format = \"packed\"\nfields = []", "1 to 256 fields");
    refuse("format = \"packed\"\nfields = [{ at = 65535, type = \"u16\" }]", "beyond 65535");
    refuse("format = \"packed\"\nfields = [{ at = 0, type = \"bit\" }]", "belong together");
    refuse("format = \"packed\"\nfields = [{ at = 0, type = \"bit\", bit = 8 }]", "belong together");
    refuse("format = \"packed\"\nfields = [{ at = 0, type = \"u8\", role = \"sequence\" }]", "at least one value");
    refuse("format = \"packed\"\nsize = 1\nfields = [{ at = 0, type = \"u16\" }]", "less than the fields");
    refuse("format = \"packed\"\nfields = [{ at = 0, type = \"u8\" }, { at = 1, type = \"u8\" }]", "two values");
    let name = toml::from_str::<OutputConfig>("format = \"senml_json\"\nname = \"a b\"").unwrap();
    assert!(matches!(Encoder::new(name), Err(ConfigError::Name { .. })));
    assert!(toml::from_str::<OutputConfig>("format = \"json\"\ntypo = 1").is_err());
}

fn record(value: Value, unit: Option<&str>) -> NamedReading {
    let unit = unit.map(|unit| Unit::new(unit).unwrap());
    let reading = Reading { value, unit, time_ms: Some(1_710_000_000_250), sequence: Some(7) };
    NamedReading { name: "temp".to_owned(), reading }
}

fn number(text: &str, unit: &str) -> NamedReading {
    record(Value::Number(Decimal::parse(text).unwrap()), Some(unit))
}

#[test]
fn outputs() {
    let check = |config: &str, record: &NamedReading, expected: &str| {
        let bytes = encoder(config).encode(std::slice::from_ref(record)).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{config}");
    };
    let temp = number("72.50", "degF");
    check("format = \"number\"", &temp, "72.50");
    check("format = \"number\"\nconvert_to = \"Cel\"\ndecimals = 1", &temp, "22.5");
    check(
        "format = \"json\"",
        &temp,
        r#"{"name":"temp","value":72.50,"unit":"degF","time":1710000000250,"sequence":7}"#,
    );
    check(
        "format = \"json\"\nname = \"\"\nsequence = \"\"\nunit = \"\"\nvalue = \"t\"\ntime_format = \"rfc3339\"",
        &temp,
        r#"{"t":72.50,"time":"2024-03-09T16:00:00.250Z"}"#,
    );
    // SenML has no Fahrenheit.
    let senml = "format = \"senml_json\"\nname = \"urn:dev:x:\"";
    check(senml, &temp, r#"[{"n":"urn:dev:x:temp","u":"Cel","t":1710000000.25,"v":22.500}]"#);
    let energy = number("1.5", "kWh");
    check(senml, &energy, r#"[{"n":"urn:dev:x:temp","u":"J","t":1710000000.25,"v":5400000}]"#);
    check(
        &format!("{senml}\nsecondary_units = true"),
        &energy,
        r#"[{"bver":26,"n":"urn:dev:x:temp","u":"kWh","t":1710000000.25,"v":1.5}]"#,
    );
    check("format = \"number\"", &record(Value::Bool(true), None), "1");
    let words = record(Value::Text("a\"\\\n\u{1}é".to_owned()), None);
    check("format = \"json\"\ntime = \"\"\nsequence = \"\"\nname = \"\"", &words, r#"{"value":"a\"\\\n\u0001é"}"#);
}

#[test]
fn what_an_output_cannot_carry_is_refused() {
    let refuse = |config: &str, record: NamedReading, says: &str| {
        let error = encoder(config).encode(&[record]).unwrap_err().to_string();
        assert!(error.contains(says), "{config}: {error}");
    };
    refuse("format = \"number\"", record(Value::Text("x".into()), None), "plain number");
    refuse("format = \"json\"", record(Value::Special(Special::Nan), None), "JSON cannot carry NaN");
    refuse("format = \"senml_cbor\"", record(Value::Special(Special::Null), None), "SenML cannot carry null");
    refuse("format = \"json\"", record(Value::Special(Special::Absent), None), "JSON cannot carry nothing");
    refuse("format = \"number\"\nconvert_to = \"Cel\"", record(Value::Number(Decimal::ZERO), None), "has no unit");
    let mut early = number("1", "V");
    early.reading.time_ms = Some(1000);
    refuse("format = \"senml_json\"", early, "relative to now");
    let mut unnamed = number("1", "V");
    unnamed.name.clear();
    refuse("format = \"senml_json\"", unnamed, "set `name`");
    let two = [number("1", "V"), number("2", "V")];
    assert_eq!(encoder("format = \"number\"").encode(&two), Err(EncodeError::Count { count: 2 }));
    assert_eq!(encoder("format = \"json\"").encode(&[]), Err(EncodeError::Count { count: 0 }));
}

#[test]
fn the_fuzz_entry_reads_what_it_should() {
    // Text, packed, JSON by `$..v` and, without the value, by `$.v`, SenML.
    assert_eq!(exercise(br#"[{"n":"a","v":1,"t":1}]"#), 5);
    assert_eq!(exercise(b""), 1);
}
