//! Layouts of packed payloads, as they stand in a configuration, and payloads read by them.
//!
//! Input: TOML up to a NUL, then a payload.

use sealcast_reading::{
    Decimal, Decoder, InputConfig, Value,
    packed::{Endian, FieldConfig, FieldType, MAX_FIELDS, PackedConfig, Role},
};

const NOW_MS: u64 = 1_700_000_000_000;
/// Payloads are filled up to this at most: what lies beyond it is a matter of sizes alone.
const MAX_FILLED_BYTES: usize = 8192;

pub fn run(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (text, payload) = data.split_at(end);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(config) = toml::from_str::<InputConfig>(text) else { return };
    let InputConfig::Packed(layout) = config.clone() else { return };
    let Ok(decoder) = Decoder::new(config) else { return };
    assert!((1..=MAX_FIELDS).contains(&layout.fields.len()));

    let payload = payload.get(1..).unwrap_or_default();
    check(&decoder, &layout, payload);
    let needs = layout.fields.iter().map(|field| field.at + field.kind.bytes()).max().unwrap_or(0);
    let size = layout.size.unwrap_or(needs);
    assert!(size >= needs);
    if size <= MAX_FILLED_BYTES {
        let filler = [0x3f, 0x80, 0xff, 0x00, 0x12];
        let filled: Vec<u8> = payload.iter().copied().chain(filler.into_iter().cycle()).take(size).collect();
        check(&decoder, &layout, &filled);
        assert!(decoder.decode(filled.get(1..).unwrap_or_default(), NOW_MS).is_err(), "one byte is missing");
    }
}

fn check(decoder: &Decoder, layout: &PackedConfig, payload: &[u8]) {
    let Ok(records) = decoder.decode(payload, NOW_MS) else { return };
    assert!(layout.size.is_none_or(|size| size == payload.len()));
    let values: Vec<&FieldConfig> = layout.fields.iter().filter(|field| field.role == Role::Value).collect();
    assert_eq!(records.len(), values.len());
    for (record, field) in records.iter().zip(values) {
        assert_eq!(record.name, field.name);
        // NaN and infinities are not converted.
        let number = matches!(record.reading.value, Value::Number(_) | Value::Bool(_));
        let converted = field.convert_to.clone().filter(|_| number);
        assert_eq!(record.reading.unit, converted.or(field.unit.clone()));
        let plain = field.scale.is_none() && field.offset.is_none() && field.convert_to.is_none();
        if let Some(expected) = plain.then(|| by_hand(layout, field, payload)).flatten() {
            assert_eq!(record.reading.value, expected, "{field:?}");
        }
    }
}

/// The value by another way than the crate's: each byte's place is looked up. `None` for floats.
fn by_hand(layout: &PackedConfig, field: &FieldConfig, payload: &[u8]) -> Option<Value> {
    let length = field.kind.bytes();
    // Significance, from the least on, of the byte at each place.
    let significance = |place: usize| match field.endian.unwrap_or(layout.endian) {
        Endian::Big => length - 1 - place,
        Endian::Little => place,
        _ if length == 1 => 0,
        // Words from the least on, big-endian within.
        Endian::BigSwapped => place ^ 1,
        Endian::LittleSwapped => length - 1 - (place ^ 1),
    };
    let mut number = 0i128;
    for place in 0..length {
        number |= i128::from(*payload.get(field.at + place)?) << (8 * significance(place));
    }
    let signed =
        matches!(field.kind, FieldType::I8 | FieldType::I16 | FieldType::I24 | FieldType::I32 | FieldType::I64);
    match field.kind {
        FieldType::F32 | FieldType::F64 => return None,
        FieldType::Bit => return Some(Value::Bool(number >> field.bit? & 1 == 1)),
        _ if signed && number >= 1 << (8 * length - 1) => number -= 1 << (8 * length),
        _ => {}
    }
    Some(Value::Number(Decimal::new(number, 0)))
}
