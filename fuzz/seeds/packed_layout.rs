//! Seeds: layouts of thermometers, radio payloads and registers.

type Failure = Box<dyn std::error::Error>;

const LAYOUTS: &[(&str, &str, &[u8])] = &[
    (
        "radio",
        r#"format = "packed"
endian = "big"
size = 5
fields = [
  { name = "temp", at = 0, type = "i16", scale = 0.1, offset = -40, unit = "Cel" },
  { name = "open", at = 2, type = "bit", bit = 3 },
  { name = "count", at = 3, type = "u16", role = "sequence" },
]
"#,
        b"\x02\x58\x08\0\x07",
    ),
    (
        "registers",
        r#"format = "packed"
endian = "big_swapped"
fields = [
  { name = "power", at = 0, type = "f32", unit = "kW", convert_to = "W" },
  { name = "energy", at = 4, type = "u64", scale = "1e-3", endian = "little_swapped", unit = "kWh" },
  { name = "time", at = 12, type = "u32", role = "time_s", endian = "little" },
]
"#,
        b"\x00\x00\x3f\x80\0\0\0\0\0\0\0\x01\0\xf1\x53\x65",
    ),
    (
        "all",
        r#"format = "packed"
fields = [
  { name = "a", at = 0, type = "u8" }, { name = "b", at = 1, type = "i8" },
  { name = "c", at = 2, type = "u16", endian = "little" }, { name = "d", at = 4, type = "u24" },
  { name = "e", at = 7, type = "i24", endian = "little" }, { name = "f", at = 10, type = "i32", endian = "big_swapped" },
  { name = "g", at = 14, type = "u32", endian = "little_swapped" }, { name = "h", at = 18, type = "i64" },
  { name = "i", at = 26, type = "f64", endian = "big_swapped" }, { name = "t", at = 34, type = "u64", role = "time_ms" },
]
"#,
        &[0x80; 42],
    ),
    ("refused", "format = \"packed\"\nfields = [{ at = 65534, type = \"u32\", bit = 9 }]\n", b""),
];

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let seed = |(name, text, payload): &(&str, &str, &[u8])| {
        (format!("seed-{name}"), [text.as_bytes(), &[0], payload].concat())
    };
    Ok(LAYOUTS.iter().map(seed).collect())
}
