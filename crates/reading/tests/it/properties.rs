//! Every format round-trips, and no bytes make a reader panic.

use proptest::prelude::*;
use sealcast_reading::senml::{JsonStyle, Pack, PackRecord};
use sealcast_reading::{
    Decimal, Decoder, Encoder, Fault, InputConfig, NamedReading, OutputConfig, Reading, Unit, Value, exercise,
};

const NOW_MS: u64 = 1_710_000_000_000;

fn decoder(config: &str) -> Decoder {
    Decoder::new(toml::from_str::<InputConfig>(config).unwrap()).unwrap()
}

fn encoder(config: &str) -> Encoder {
    Encoder::new(toml::from_str::<OutputConfig>(config).unwrap()).unwrap()
}

fn decimal() -> impl Strategy<Value = Decimal> {
    prop_oneof![
        (any::<i128>(), 0u8..=40).prop_map(|(mantissa, decimals)| Decimal::new(mantissa, decimals)),
        (-100_000i128..100_000, 0u8..=6).prop_map(|(mantissa, decimals)| Decimal::new(mantissa, decimals)),
        any::<f32>().prop_filter_map("in range", |float| Decimal::from_f32(float).ok()),
        any::<f64>().prop_filter_map("in range", |float| Decimal::from_f64(float).ok()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => decimal().prop_map(Value::Number),
        1 => any::<String>().prop_map(Value::Text),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Data),
    ]
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][-a-zA-Z0-9:./_]{0,20}"
}

fn reading() -> impl Strategy<Value = Reading> {
    let unit = proptest::option::of(prop_oneof![Just("Cel"), Just("K"), Just("%RH"), Just("m/s"), Just("widgets")]);
    let time = proptest::option::of((1u64 << 28) * 1000..253_402_300_799_999);
    (value(), unit, time, proptest::option::of(any::<u64>())).prop_map(|(value, unit, time_ms, sequence)| Reading {
        value,
        unit: unit.map(|unit| Unit::new(unit).unwrap()),
        time_ms,
        sequence,
    })
}

fn pack() -> impl Strategy<Value = Pack> {
    let base = (
        proptest::option::of(name()),
        proptest::option::of(decimal()),
        proptest::option::of(any::<String>()),
        proptest::option::of(decimal()),
        proptest::option::of(decimal()),
        proptest::option::of(1u64..=10),
    );
    let own = (
        proptest::option::of(any::<String>()),
        proptest::option::of(any::<String>()),
        proptest::option::of(decimal()),
        proptest::option::of(decimal()),
        proptest::option::of(value()),
        proptest::option::of(decimal()),
    );
    let record = (base, own).prop_map(|(base, own)| PackRecord {
        base_name: base.0,
        base_time: base.1,
        base_unit: base.2,
        base_value: base.3,
        base_sum: base.4,
        base_version: base.5,
        name: own.0,
        unit: own.1,
        time: own.2,
        update_time: own.3,
        value: own.4,
        sum: own.5,
    });
    proptest::collection::vec(record, 1..6).prop_map(|records| Pack { records })
}

/// Equal, and written with the same digits.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.same_digits(*b),
        _ => a == b,
    }
}

proptest! {
    #[test]
    fn decimals_come_back_with_their_digits(number in decimal()) {
        let back = Decimal::parse(&number.to_string()).unwrap();
        prop_assert!(back.same_digits(number), "{number:?} {back:?}");
        prop_assert_eq!(number.to_f64(), number.to_string().parse::<f64>().unwrap());
        prop_assert_eq!(number.normalize(), number);
    }

    #[test]
    fn floats_come_back(float in any::<f64>(), single in any::<f32>()) {
        if let Ok(number) = Decimal::from_f64(float) {
            prop_assert_eq!(number.to_f64(), float);
        }
        if let Ok(number) = Decimal::from_f32(single) {
            prop_assert_eq!(number.to_f64() as f32, single);
        }
    }

    #[test]
    fn order_is_that_of_the_numbers(a in -1000i128..1000, b in -1000i128..1000, x in 0u8..4, y in 0u8..4) {
        let exact = (a * 10i128.pow(3 - u32::from(x))).cmp(&(b * 10i128.pow(3 - u32::from(y))));
        let (left, right) = (Decimal::new(a, x), Decimal::new(b, y));
        prop_assert_eq!(left.cmp(&right), exact);
        prop_assert_eq!(right.cmp(&left), exact.reverse());
        // Out of any common scale, too.
        let (huge, tiny) = (Decimal::new(i128::MAX, 0), Decimal::new(b, 200));
        prop_assert!(huge > tiny && Decimal::new(i128::MIN, 0) < tiny);
        let sum = left.checked_add(right).unwrap();
        prop_assert_eq!(sum.checked_sub(right).unwrap(), left);
    }

    #[test]
    fn conversion_and_back_gives_the_digits(mantissa in -10_000_000i128..10_000_000, decimals in 0u8..6, pair in 0usize..8) {
        let pairs = [("degF", "Cel"), ("K", "Cel"), ("km/h", "m/s"), ("mm/h", "m/s"), ("kWh", "J"), ("mV", "V"),
            ("Wh/km", "J/m"), ("degF", "K")];
        let (from, to) = pairs[pair];
        let (from, to) = (Unit::new(from).unwrap(), Unit::new(to).unwrap());
        let number = Decimal::new(mantissa, decimals);
        for (from, to) in [(&from, &to), (&to, &from)] {
            let there = from.convert(number, to).unwrap();
            let back = to.convert(there, from).unwrap();
            prop_assert_eq!(back.round(decimals), number, "{} {} {} {}", number, from, there, to);
        }
    }

    #[test]
    fn packs_come_back(pack in pack()) {
        for style in [JsonStyle::default(), JsonStyle { scientific_times: true }] {
            let json = pack.to_json(style).unwrap();
            prop_assert_eq!(&Pack::from_json(json.as_bytes()).unwrap(), &pack, "{}", json);
        }
        let back = Pack::from_cbor(&pack.to_cbor().unwrap()).unwrap();
        prop_assert_eq!(&back, &pack);
        for (a, b) in back.records.iter().zip(&pack.records) {
            if let (Some(a), Some(b)) = (&a.value, &b.value) {
                prop_assert!(same(a, b), "{:?} {:?}", a, b);
            }
        }
        // Each record of a resolved pack stands for itself.
        if let Ok(resolved) = pack.resolve(NOW_MS) {
            let alone: Pack = resolved.iter().cloned().collect();
            let again = alone.resolve(NOW_MS).unwrap();
            prop_assert_eq!(again.len(), resolved.len());
        }
    }

    #[test]
    fn readings_come_back_from_senml(reading in reading(), name in name()) {
        for format in ["senml_json", "senml_cbor"] {
            let record = NamedReading { name: name.clone(), reading: reading.clone() };
            let bytes = encoder(&format!("format = {format:?}")).encode(std::slice::from_ref(&record)).unwrap();
            let back = decoder(&format!("format = {format:?}")).decode(&bytes, NOW_MS).unwrap();
            prop_assert_eq!(back.len(), 1);
            prop_assert_eq!(&back[0].name, &name);
            prop_assert!(same(&back[0].reading.value, &reading.value), "{:?}", back);
            prop_assert_eq!(&back[0].reading.unit, &reading.unit);
            prop_assert_eq!(back[0].reading.time_ms, reading.time_ms);
        }
    }

    #[test]
    fn readings_come_back_from_json(reading in reading()) {
        let kind = match reading.value {
            Value::Data(_) => "data",
            _ => "auto",
        };
        for format in ["ms", "us", "s", "rfc3339"] {
            let record = NamedReading { name: String::new(), reading: reading.clone() };
            let bytes = encoder(&format!("format = \"json\"\ntime_format = {format:?}")).encode(&[record]).unwrap();
            let mut config = format!(
                "format = \"json\"\nvalue = \"$.value\"\ntype = {kind:?}\nunit_path = \"$.unit\"\ntime_format = {format:?}\n"
            );
            if reading.time_ms.is_some() {
                config += "time = \"$.time\"\n";
            }
            if reading.sequence.is_some() {
                config += "sequence = \"$.sequence\"\n";
            }
            let back = decoder(&config).decode(&bytes, NOW_MS).unwrap();
            prop_assert!(same(&back[0].reading.value, &reading.value), "{:?}", back);
            prop_assert_eq!(&back[0].reading, &reading);
        }
    }

    #[test]
    fn numbers_come_back(number in decimal()) {
        let record = NamedReading { name: String::new(), reading: Reading::new(Value::Number(number)) };
        let bytes = encoder("format = \"number\"").encode(&[record]).unwrap();
        let back = decoder("format = \"number\"").decode(&bytes, NOW_MS).unwrap();
        prop_assert!(back[0].reading.number().unwrap().same_digits(number));
    }

    #[test]
    fn packed_integers_are_read_exactly(raw in any::<i32>(), before in 0usize..4, little in any::<bool>(), scale in 1i64..1000) {
        let mut payload = vec![0xaa; before];
        payload.extend_from_slice(&if little { raw.to_le_bytes() } else { raw.to_be_bytes() });
        let endian = if little { "little" } else { "big" };
        let config = format!(
            "format = \"packed\"\nendian = {endian:?}\nfields = [{{ at = {before}, type = \"i32\", scale = \"{}\" }}]",
            Decimal::new(scale.into(), 3),
        );
        let back = decoder(&config).decode(&payload, NOW_MS).unwrap();
        let expected = Decimal::new(i128::from(raw) * i128::from(scale), 3);
        prop_assert!(back[0].reading.number().unwrap().same_digits(expected));
    }

    #[test]
    fn arbitrary_bytes_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        exercise(&payload);
    }

    #[test]
    fn near_json_never_panics(payload in r#"(\[|\{|"[nvtub]{1,2}":|-?[0-9]{1,3}(\.[0-9]{1,3})?(e-?[0-9]{1,3})?|"[a-z\\"]{0,4}"|,|\]|\}){0,24}"#) {
        exercise(payload.as_bytes());
    }

    #[test]
    fn json_is_what_another_reader_takes_for_json(
        text in r#"(\[|\{|"[ab]":|-?[0-9]{1,2}(\.[0-9]{1,2})?(e-?[0-9])?|"(a|\\n|\\u00e9|\\ud83d|\\ude00|\\x)?"|,|null|true|\]|\}| ){0,12}"#,
    ) {
        let ours = decoder("format = \"json\"\nvalue = \"$\"").decode(text.as_bytes(), NOW_MS);
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        match ours.err().map(|error| error.fault) {
            // Stricter on purpose.
            Some(Fault::Duplicate { .. }) => {}
            Some(Fault::Syntax(_)) => prop_assert!(theirs.is_err(), "{}", text),
            _ => prop_assert!(theirs.is_ok(), "{}", text),
        }
    }

    #[test]
    fn short_and_general_paths_find_the_same(
        document in r#"\{"a":(1|\[[12](,\{"b":[3-5]\})?\]|\{"a":[67]\})(,"b":(8|\{"a":\[9\]\}))?\}"#,
        steps in proptest::collection::vec(prop_oneof![Just("['a']"), Just("[\"b\"]"), Just("[0]"), Just("[1]")], 1..4),
    ) {
        let value = |path: String| {
            let config = format!("format = \"json\"\nvalue = {path:?}");
            decoder(&config).decode(document.as_bytes(), NOW_MS).map_err(|error| error.fault)
        };
        // Spaces between the steps take the way of the general query.
        prop_assert_eq!(value(format!("${}", steps.concat())), value(format!("$ {}", steps.join(" "))));
    }

    #[test]
    fn a_damaged_pack_never_panics(pack in pack(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for mut bytes in [pack.to_cbor().unwrap(), pack.to_json(JsonStyle::default()).unwrap().into_bytes()] {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            exercise(&bytes);
            exercise(&bytes[..at]);
        }
    }

    #[test]
    fn arbitrary_configurations_never_panic(path in any::<String>(), unit in any::<String>(), at in any::<u32>()) {
        for config in [
            format!("format = \"json\"\nvalue = {path:?}"),
            format!("format = \"number\"\nunit = {unit:?}\nconvert_to = \"Cel\""),
            format!("format = \"packed\"\nfields = [{{ at = {at}, type = \"f64\", name = {unit:?} }}]"),
        ] {
            if let Ok(config) = toml::from_str::<InputConfig>(&config)
                && let Ok(decoder) = Decoder::new(config)
            {
                drop(decoder.decode(b"{\"a\":[1,2,{\"b\":3}]}", NOW_MS));
            }
        }
    }
}
