//! Units, and the digits that a conversion gives.

use sealcast_reading::{Decimal, Standing, Unit, UnitError};

fn check(value: &str, from: &str, to: &str, expected: &str) {
    let value = Decimal::parse(value).unwrap();
    let result = Unit::new(from).unwrap().convert(value, &Unit::new(to).unwrap()).unwrap();
    assert_eq!(result.to_string(), expected, "{value} {from} in {to}");
}

#[test]
fn temperatures() {
    check("72.5", "degF", "Cel", "22.50");
    check("72.6", "degF", "Cel", "22.556");
    check("32", "degF", "Cel", "0.0");
    check("-40", "degF", "Cel", "-40.0");
    check("295.15", "K", "Cel", "22.00");
    check("0", "K", "Cel", "-273.15");
    check("22.5", "Cel", "degF", "72.5");
    check("22.5", "Cel", "K", "295.65");
    check("0", "K", "°F", "-459.67");
}

#[test]
fn every_secondary_unit_has_its_scale() {
    let one = [
        ("ms", "s", "0.001"),
        ("min", "s", "60"),
        ("h", "s", "3600"),
        ("MHz", "Hz", "1000000"),
        ("kW", "W", "1000"),
        ("kVA", "VA", "1000"),
        ("kvar", "var", "1000"),
        ("Ah", "C", "3600"),
        ("Wh", "J", "3600"),
        ("kWh", "J", "3600000"),
        ("varh", "vars", "3600"),
        ("kvarh", "vars", "3600000"),
        ("kVAh", "VAs", "3600000"),
        ("Wh/km", "J/m", "3.6"),
        ("KiB", "B", "1024"),
        ("GB", "B", "1000000000"),
        ("Mbit/s", "bit/s", "1000000"),
        ("B/s", "bit/s", "8"),
        ("MB/s", "bit/s", "8000000"),
        ("mV", "V", "0.001"),
        ("mA", "A", "0.001"),
        ("dBm", "dBW", "-29"),
        ("ug/m3", "kg/m3", "0.000000001"),
        ("mm/h", "m/s", "0.00000028"),
        ("m/h", "m/s", "0.00028"),
        ("ppm", "/", "0.000001"),
        ("/100", "/", "0.01"),
        ("/1000", "/", "0.001"),
        ("hPa", "Pa", "100"),
        ("mm", "m", "0.001"),
        ("cm", "m", "0.01"),
        ("km", "m", "1000"),
        ("km/h", "m/s", "0.28"),
    ];
    for (from, to, expected) in one {
        assert_eq!(Unit::new(from).unwrap().standing(), Some(Standing::Secondary), "{from}");
        assert_eq!(Unit::new(from).unwrap().to_primary(), Some(Unit::new(to).unwrap()), "{from}");
        check("1", from, to, expected);
    }
    check("3.6", "km/h", "m/s", "1.00");
    check("100", "km/h", "m/s", "27.78");
    check("12.5", "kWh", "J", "45000000");
    check("3600", "mm/h", "m/s", "0.0010000");
}

#[test]
fn what_does_not_convert_is_refused() {
    let unit = |symbol| Unit::new(symbol).unwrap();
    let convert = |from, to| unit(from).convert(Decimal::from(1i64), &unit(to));
    assert!(matches!(convert("V", "A"), Err(UnitError::Different { .. })));
    assert!(matches!(convert("furlong", "m"), Err(UnitError::Unknown { .. })));
    assert!(matches!(convert("C", "Cel"), Err(UnitError::Different { .. })));
    assert_eq!(convert("furlong", "furlong"), Ok(Decimal::from(1i64)));
    let huge = Decimal::new(i128::MAX, 0);
    assert!(matches!(unit("kWh").convert(huge, &unit("J")), Err(UnitError::Overflow { .. })));
    assert_eq!(Unit::new(""), Err(UnitError::Malformed));
    assert_eq!(Unit::new(&"x".repeat(33)), Err(UnitError::Malformed));
    assert_eq!(Unit::new("a\u{7}"), Err(UnitError::Malformed));
}
