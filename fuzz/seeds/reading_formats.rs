//! Seeds: payloads as devices send them, RFC 8428's packs, and paths.

type Failure = Box<dyn std::error::Error>;

const PAYLOADS: &[(&str, &[u8])] = &[
    ("number", b" -21.50\n"),
    ("number-exponent", b"6.02e23"),
    ("number-word", b"-inf"),
    ("text", "Tür offen".as_bytes()),
    ("json-number", b"21.5"),
    ("json", br#"{"v":21.50,"t":1700000000.25,"u":"degF","n":7}"#),
    ("json-rfc3339", br#"{"v":"on","t":"2024-02-29T12:00:00.25+02:00"}"#),
    ("json-local", br#"{"v":21.4,"t":"2026-10-25 02:30:00,123456789012"}"#),
    ("json-offset", br#"{"v":21.4,"t":"2026/11/27T00:25:42 +0100"}"#),
    ("json-zone", br#"{"v":21.4,"t":"2026-03-29T02:30[Europe/Berlin]"}"#),
    ("json-ns", br#"{"v":21.4,"t":1709251200000000001}"#),
    ("json-data", br#"{"v":"_-8","t":1700000000250}"#),
    ("json-deep", br#"[[[{"v":[null,true,"\u00e9\ud83d\ude00",-0.0,1e-7]}]]]"#),
    ("cbor", b"\xa3\x61v\xfb\x40\x35\x80\0\0\0\0\0\x61t\x1a\x65\x53\xf1\0\x61u\x63Cel"),
    ("cbor-fraction", b"\xa2\x61v\xc4\x82\x21\x19\x6a\xb3\x61t\xc1\xfb\x41\xd9\x54\xfc\x40\x10\0\0"),
    ("cbor-bytes", b"\xa1\x61v\x43abc"),
    ("cbor-parts", b"\xbf\x61v\x7f\x61a\x61b\xff\xff"),
    ("cbor-half", b"\xa1\x61v\xf9\x7e\0"),
    ("cbor-big", b"\xa1\x61v\xc3\x49\x01\0\0\0\0\0\0\0\0"),
    ("senml-base", br#"[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3}]"#),
    ("senml-kinds", br#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"label","vs":"Machine Room"},{"n":"open","vb":false},{"n":"nfc-reader","vd":"aGkgCg"}]"#),
    ("senml-sum", br#"[{"n":"urn:dev:x:e","u":"J","bs":5,"s":12.5,"ut":60}]"#),
    ("senml-secondary", br#"[{"bver":26,"n":"urn:dev:x:e","u":"kWh","v":1.25}]"#),
    ("senml-cbor", b"\x82\xa4\x21\x6aurn:dev:x:\0\x61t\x01\x63Cel\x02\xc4\x82\x20\x18\xd7\xa3\0\x61o\x06\x23\x04\xf5"),
];

const PATHS: &[(&str, &str)] = &[
    ("$.main.temp", r#"{"main":{"temp":21.50},"n":3}"#),
    ("$[0]['v']", r#"[{"v":"x"}]"#),
    ("$..v", r#"{"a":[{"v":1}],"n":"4"}"#),
    ("$[?@.id == 'b' && @.v > 1].v", r#"[{"id":"a","v":3},{"id":"b","v":2}]"#),
    ("$[?match(@.id, 't.*') || length(@.id) == 1].v", r#"[{"id":"temp","v":3}]"#),
    ("$[-1:].v", r#"[{"v":1},{"v":2}]"#),
];

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let payloads = PAYLOADS.iter().map(|(name, payload)| (format!("seed-{name}"), [&[0], *payload].concat()));
    let paths = PATHS.iter().enumerate().map(|(place, (path, document))| {
        (format!("seed-path-{place}"), [&[1], path.as_bytes(), &[0], document.as_bytes()].concat())
    });
    let cbor = [b"\x02$['1']\0".as_slice(), b"\xa2\x01\x18\x2a\x61n\x05"].concat();
    Ok(payloads.chain(paths).chain([("seed-path-cbor".to_owned(), cbor)]).collect())
}
