//! What a fuzz target calls.

use crate::decode::{Decoder, InputConfig, PlainConfig, SenmlConfig, TreeConfig, ValueType};
use crate::encode::{Encoder, OutputConfig, SenmlOutput};
use crate::packed::{Endian, FieldConfig, FieldType, PackedConfig, Role};
use crate::senml::{JsonStyle, Pack};
use crate::time::TimeFormat;

/// Reads bytes from outside by every format, and what could be read is written and read again.
///
/// Returns how many formats could read them, so that a fuzzer's corpus can be looked at.
///
/// # Panics
/// If a pack that was read does not come back the same: that is what fuzzing looks for.
pub fn exercise(payload: &[u8]) -> usize {
    let now_ms = 1_700_000_000_000;
    let mut read = 0;
    for config in formats() {
        let Ok(decoder) = Decoder::new(config) else { continue };
        let Ok(records) = decoder.decode(payload, now_ms) else { continue };
        read += 1;
        for output in outputs() {
            let Ok(encoder) = Encoder::new(output) else { continue };
            // Refusing is fine (a NaN, a name SenML does not know); panicking is not.
            drop(encoder.encode(&records));
        }
    }
    for pack in [Pack::from_json(payload), Pack::from_cbor(payload)].into_iter().flatten() {
        drop(pack.resolve(now_ms));
        for style in [JsonStyle::default(), JsonStyle { scientific_times: true }] {
            if let Ok(json) = pack.to_json(style) {
                assert_eq!(Pack::from_json(json.as_bytes()).as_ref(), Ok(&pack), "JSON {json}");
            }
        }
        if let Ok(cbor) = pack.to_cbor() {
            assert_eq!(Pack::from_cbor(&cbor).as_ref(), Ok(&pack), "CBOR {cbor:02x?}");
        }
    }
    read
}

fn formats() -> Vec<InputConfig> {
    let tree = |value: &str, kind| TreeConfig {
        value: value.to_owned(),
        kind,
        time: None,
        time_format: TimeFormat::Auto,
        time_zone: None,
        sequence: None,
        unit_path: Some("$.u".to_owned()),
        unit: None,
        convert_to: None,
    };
    let timed = TreeConfig { time: Some("$.t".to_owned()), ..tree("$.v", ValueType::Auto) };
    let field = |kind, at, endian, role| FieldConfig {
        name: format!("f{at}"),
        at,
        kind,
        bit: (kind == FieldType::Bit).then_some(3),
        endian: Some(endian),
        scale: None,
        offset: None,
        unit: None,
        convert_to: None,
        role,
    };
    let packed = PackedConfig {
        endian: Endian::Big,
        size: None,
        fields: vec![
            field(FieldType::F64, 0, Endian::BigSwapped, Role::Value),
            field(FieldType::F32, 1, Endian::LittleSwapped, Role::Value),
            field(FieldType::I24, 2, Endian::Little, Role::Value),
            field(FieldType::Bit, 3, Endian::Big, Role::Value),
            field(FieldType::U32, 4, Endian::Big, Role::TimeS),
        ],
    };
    vec![
        InputConfig::Number(PlainConfig::default()),
        InputConfig::Text(PlainConfig::default()),
        InputConfig::Json(tree("$", ValueType::Auto)),
        InputConfig::Json(tree("$..v", ValueType::Number)),
        InputConfig::Json(timed.clone()),
        InputConfig::Cbor(tree("$", ValueType::Auto)),
        InputConfig::Cbor(tree("$[?@.v > 1]", ValueType::Text)),
        InputConfig::Cbor(timed),
        InputConfig::SenmlJson(SenmlConfig::default()),
        InputConfig::SenmlCbor(SenmlConfig::default()),
        InputConfig::Packed(packed),
    ]
}

fn outputs() -> Vec<OutputConfig> {
    let senml = SenmlOutput { name: "urn:dev:x:".to_owned(), ..SenmlOutput::default() };
    vec![
        OutputConfig::Number(crate::encode::NumberOutput::default()),
        OutputConfig::Json(crate::encode::JsonOutput::default()),
        OutputConfig::SenmlJson(senml.clone()),
        OutputConfig::SenmlCbor(senml),
    ]
}
