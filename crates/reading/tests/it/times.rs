//! Dates and times in every form in which devices and files have them.

use proptest::prelude::*;
use sealcast_reading::{
    Decoder, Encoder, Fault, InputConfig, NamedReading, OutputConfig, Reading, StampFormat, TimeFormat, Value, Zone,
    utc,
};

const NOW_MS: u64 = 1_795_737_600_000;

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn read(text: &str, zone_name: &str) -> Result<u64, Fault> {
    TimeFormat::Auto.read_text(text, &zone(zone_name)).map(|stamp| stamp.time_ms)
}

/// The time of `payload`'s member `t`.
fn stamp(config: &str, t: &str, now_ms: u64) -> Result<Option<u64>, String> {
    let config = format!("format = 'json'\nvalue = '$.v'\ntime = '$.t'\n{config}");
    let decoder = Decoder::new(toml::from_str::<InputConfig>(&config).unwrap()).unwrap();
    let payload = format!("{{\"v\":1,\"t\":{t}}}");
    let records = decoder.decode(payload.as_bytes(), now_ms).map_err(|error| error.to_string())?;
    Ok(records[0].reading.time_ms)
}

#[test]
fn case_05_tasmota_time_without_zone() {
    let check = |config: &str, t: &str, expected: u64| {
        assert_eq!(stamp(config, &format!("{t:?}"), NOW_MS), Ok(Some(expected)), "{config} {t}");
    };
    const MIDNIGHT_MS: u64 = 1_795_737_600_000;
    let at = |minutes: i64| MIDNIGHT_MS.saturating_add_signed(minutes * 60_000) + 42_000;
    assert_eq!(utc(at(25)), "2026-11-27 00:25:42Z");
    // Tasmota's own, and what others write.
    check("", "2026-11-27T00:25:42", at(25));
    check("", "2026-11-27T00:25:42+0100", at(25 - 60));
    check("", "2026-11-27T00:25:42+01", at(25 - 60));
    check("", "2026-11-27T00:25:42-05:30", at(25 + 330));
    check("", "2026-11-27 00:25:42", at(25));
    check("", "2026-11-27 00:25:42 +0100", at(25 - 60));
    check("", "2026-11-27 00:25:42 UTC", at(25));
    check("", "2026/11/27 00:25:42", at(25));
    check("", "2026-11-27T00:25:42.123456789Z", at(25) + 123);
    check("", "2026-11-27T00:25:42.1234567890123+0100", at(25 - 60) + 123);
    check("", "2026-11-27 00:25:42,5", at(25) + 500);
    check("", "20261127T002542Z", at(25));
    check("", "27.11.2026 00:25:42", at(25));
    check("", "2026-11-27T00:25:42+01:00[Europe/Berlin]", at(25 - 60));
    check("", "2026-11-27T00:25:42[Europe/Berlin]", at(25 - 60));
    // The zone is that of the stamps without one.
    for zone in ["Europe/Berlin", "europe/berlin", "+01:00", "+0100", "+01", "CET-1CEST,M3.5.0,M10.5.0/3"] {
        let config = format!("time_zone = '{zone}'");
        check(&config, "2026-11-27T00:25:42", at(25 - 60));
        check(&config, "2026-11-27T00:25:42Z", at(25));
    }
    check("time_zone = 'America/New_York'", "2026-11-27T00:25:42", at(25 + 300));
    check("time_zone = 'Asia/Kolkata'", "2026-11-27T00:25:42", at(25 - 330));
}

#[test]
fn counts_since_1970() {
    let check = |config: &str, t: &str, expected: u64| assert_eq!(stamp(config, t, NOW_MS), Ok(Some(expected)), "{t}");
    for (count, scale) in
        [("1709251200", "s"), ("1709251200000", "ms"), ("1709251200000000", "us"), ("1709251200000000000", "ns")]
    {
        check("", count, 1_709_251_200_000);
        check(&format!("time_format = {scale:?}"), count, 1_709_251_200_000);
        check("", &format!("{count:?}"), 1_709_251_200_000);
    }
    check("", "1709251200.25", 1_709_251_200_250);
    check("", "253402300799999", 253_402_300_799_999);
}

#[test]
fn dates_of_digits_are_not_taken_for_counts() {
    let check = |t: &str| {
        let error = read(t, "UTC").unwrap_err().to_string();
        assert!(error.contains("may be a date, or a count since 1970: name the time format"), "{t}: {error}");
        // An agent's numbers and quoted numbers, in JSON.
        for t in [t.to_owned(), format!("{t:?}")] {
            let error = stamp("", &t, NOW_MS).unwrap_err();
            assert!(error.contains("($.t): not a time: it may be a date, or a count"), "{t}: {error}");
        }
    };
    // To the day, the hour, the minute, the second, the ms.
    for t in ["20240331", "2024033112", "202403311200", "20240331120000", "20240331120000123"] {
        check(t);
        check(&format!("{t}.5"));
    }
    for t in ["1970010100", "2099123123", "20240229235960", "199001010000"] {
        check(t);
    }
    // In CBOR: {"v": 1, "t": 202403311200}.
    let config = toml::from_str::<InputConfig>("format = 'cbor'\nvalue = '$.v'\ntime = '$.t'").unwrap();
    let mut cbor = b"\xa2\x61v\x01\x61t\x1b".to_vec();
    cbor.extend_from_slice(&202_403_311_200u64.to_be_bytes());
    let error = Decoder::new(config).unwrap().decode(&cbor, NOW_MS).unwrap_err().to_string();
    assert!(error.contains("it may be a date, or a count"), "{error}");
    // Whoever names the unit has a count.
    assert_eq!(stamp("time_format = 's'", "2024033112", NOW_MS), Ok(Some(2_024_033_112_000)));
    assert_eq!(stamp("time_format = 'ms'", "202403311200", NOW_MS), Ok(Some(202_403_311_200)));
}

#[test]
fn seconds_that_look_like_dates_are_seconds_when_their_years_come() {
    // No such month, day or hour; and seconds from 1990 on.
    for (t, expected) in [
        ("1386018900", 1_386_018_900_000),
        ("631152000", 631_152_000_000),
        ("999999999", 999_999_999_000),
        ("1969123123", 1_969_123_123_000),
        ("2024133112", 2_024_133_112_000),
        ("2023022912", 2_023_022_912_000),
        ("2024033125", 2_024_033_125_000),
        ("2100010100", 2_100_010_100_000),
    ] {
        assert_eq!(read(t, "UTC"), Ok(expected), "{t}");
        assert_eq!(stamp("", t, NOW_MS), Ok(Some(expected)), "{t}");
    }
    let (t, time_ms) = ("2024033112", 2_024_033_112_000);
    let day_ms = 86_400_000;
    assert!(stamp("", t, time_ms - 366 * day_ms).is_err());
    for now_ms in [time_ms - 364 * day_ms, time_ms, time_ms + 1000 * day_ms] {
        assert_eq!(stamp("", t, now_ms), Ok(Some(time_ms)));
        assert_eq!(stamp("", &format!("{t:?}"), now_ms), Ok(Some(time_ms)));
    }
}

#[test]
fn counts_before_1990_must_be_named() {
    // A clock that was never set, for a year.
    for (t, expected) in [("0", 0), ("12.5", 12_500), ("45382.5", 45_382_500), ("31535999", 31_535_999_000)] {
        assert_eq!(stamp("", t, NOW_MS), Ok(Some(expected)), "{t}");
    }
    // Dates of six and twelve digits, and no clock's counts in any unit.
    for t in [
        "31536000",
        "631151999",
        "240331120000",
        "261127002542",
        "631151999999",
        "254000000000000",
        "150000000000000000",
    ] {
        for t in [t.to_owned(), format!("{t:?}")] {
            let error = stamp("", &t, NOW_MS).unwrap_err();
            assert!(error.contains("lies before 1990: if it is one, name its unit, such as s or ms"), "{t}: {error}");
        }
    }
    assert_eq!(stamp("time_format = 's'", "31536000", NOW_MS), Ok(Some(31_536_000_000)));
    assert_eq!(stamp("time_format = 'ms'", "240331120000", NOW_MS), Ok(Some(240_331_120_000)));
    // Texts say it clearly.
    assert_eq!(stamp("", "\"1985-01-01T00:00:00Z\"", NOW_MS), Ok(Some(473_385_600_000)));
}

#[test]
fn an_offset_does_not_contradict_its_zone() {
    let contradicts = "its offset and its zone contradict each other";
    for text in [
        "2024-03-31T12:00:00+05:00[Europe/Berlin]",
        "2024-03-31 12:00:00+01:00[Europe/Berlin]",
        "2024-01-31T12:00:00+02:00[Europe/Berlin]",
        "2024-01-31T12:00:00+02:00[+01:00]",
        "2024-01-31T12:00:00+00:00[Europe/Berlin]",
    ] {
        let error = read(text, "UTC").unwrap_err().to_string();
        assert!(error.contains(contradicts), "{text}: {error}");
    }
    for (text, expected) in [
        ("2024-03-31T12:00:00+02:00[Europe/Berlin]", "2024-03-31 10:00:00Z"),
        ("2024-01-31T12:00:00+01:00[Europe/Berlin]", "2024-01-31 11:00:00Z"),
        // Both times of an hour that comes twice, and UTC where the local offset is not known.
        ("2026-10-25T02:30:00+02:00[Europe/Berlin]", "2026-10-25 00:30:00Z"),
        ("2026-10-25T02:30:00+01:00[Europe/Berlin]", "2026-10-25 01:30:00Z"),
        ("2024-03-31T12:00:00Z[Europe/Berlin]", "2024-03-31 12:00:00Z"),
    ] {
        assert_eq!(read(text, "UTC").map(utc), Ok(expected.to_owned()), "{text}");
    }
    let pattern = "%Y-%m-%d %H:%M %z %Q".parse::<StampFormat>().unwrap();
    assert!(pattern.read("2024-03-31 12:00 +0200 Europe/Berlin", &Zone::utc()).is_ok());
    let error = pattern.read("2024-03-31 12:00 +0500 Europe/Berlin", &Zone::utc()).unwrap_err().to_string();
    assert!(error.contains(contradicts), "{error}");
}

#[test]
fn the_zone_of_a_pattern_counts() {
    let pattern = "%Y-%m-%d %H:%M %Q".parse::<StampFormat>().unwrap();
    let check = |text: &str, expected: &str| {
        let stamp = pattern.read(text, &zone("Asia/Tokyo")).unwrap();
        assert_eq!((utc(stamp.time_ms).as_str(), stamp.own_zone), (expected, true), "{text}");
    };
    check("2024-03-31 12:00 America/New_York", "2024-03-31 16:00:00Z");
    check("2024-03-31 12:00 Europe/Berlin", "2024-03-31 10:00:00Z");
    check("2024-03-31 12:00 +0500", "2024-03-31 07:00:00Z");
    let error = pattern.read("2024-03-31 12:00 Europe/Nowhere", &Zone::utc()).unwrap_err().to_string();
    assert!(error.contains("zone is not known") || error.contains("not written as the pattern says"), "{error}");
}

#[test]
fn a_pattern_says_which_half_of_the_day() {
    for pattern in ["%d/%m/%Y %I:%M", "%Y-%m-%d %l:%M", "%Y-%m-%d %-I:%M", "%Y-%m-%d %_2I:%M AM", "%I %%p", "%%%I"] {
        let error = pattern.parse::<StampFormat>().unwrap_err().to_string();
        assert!(error.contains("without AM or PM (%p): add %p, or give %H"), "{pattern}: {error}");
    }
    for pattern in ["%d/%m/%Y %I:%M %p", "%Y-%m-%d %P %-I:%M", "%Y-%m-%d %H:%M", "%Y %%I"] {
        assert!(pattern.parse::<StampFormat>().is_ok(), "{pattern}");
    }
    for (pattern, text) in [("%Y-%m-%d %M", "2024-03-31 45"), ("%Y-%m-%d %p", "2024-03-31 PM")] {
        let error = pattern.parse::<StampFormat>().unwrap().read(text, &Zone::utc()).unwrap_err().to_string();
        assert!(error.contains("leaves the hour open"), "{pattern}: {error}");
    }
}

#[test]
fn what_is_no_time() {
    let check = |text: &str, said: &str| {
        let error = read(text, "UTC").unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    };
    check("2023-02-29 00:00:00", "does not exist");
    check("2024-01-01T25:00:00Z", "does not exist");
    check("2024-01-01T00:00:00+24:00", "24 hours or more");
    check("2024-01-01 00:00:00 CET", "does not belong to a time");
    check("2024-01-01T00:00:00[Europe/Nowhere]", "zone in brackets");
    check("03/04/2026 12:00", "order of day, month and year");
    check("3/4/2026", "order of day, month and year");
    check("20260301", "may be a date, or a count");
    check("20260301120000", "may be a date, or a count");
    check("03.13.2026 12:00", "expected a date and time");
    check("12:00", "expected a date and time");
    check("", "expected a date and time");
    check("yesterday", "expected a date and time");
    check("1969-12-31T23:59:59Z", "before 1970");
    check("1970-01-01T00:30:00+01:00", "before 1970");
    check("-5", "before 1970");
    check("9999-12-31T23:59:59-01:00", "after the year 9999");
    check(&"2".repeat(1000), "38 digits");
    check(&"2026-".repeat(1000), "");
    assert!(TimeFormat::Rfc3339.read_text("2026-11-27T00:25:42", &Zone::utc()).is_err());
    assert!(TimeFormat::Rfc3339.read_text("2026-11-27T00:25:42+01:00", &Zone::utc()).is_ok());
    // An agent says where.
    let error = stamp("", "\"27/11/2026 00:25\"", NOW_MS).unwrap_err();
    assert!(error.starts_with("at byte 11 ($.t): not a time: the order of day, month and year"), "{error}");
}

#[test]
fn zones() {
    for name in ["Europe/Berlin", "UTC", "utc", "Z", "+00:00", "-0930", "+14", "EST5EDT,M3.2.0,M11.1.0", "Etc/GMT+1"] {
        assert!(name.parse::<Zone>().is_ok(), "{name}");
    }
    // To POSIX, UTC+1 is west of Greenwich; nobody means that.
    for name in ["", "Berlin", "UTC+1", "GMT-2", "CEST-2", "+25:00", "01:00", "Europe/Nowhere", "+1:00:00:00"] {
        let error = name.parse::<Zone>().map_or_else(|error| error.to_string(), |zone| format!("{zone:?}"));
        assert!(error.contains("is not a time zone: give an IANA name"), "{name}: {error}");
    }
    let refused = |config: &str| {
        let config = format!("format = 'json'\nvalue = '$'\n{config}");
        match toml::from_str::<InputConfig>(&config) {
            Ok(config) => Decoder::new(config).map_or_else(|error| error.to_string(), |_| "taken".to_owned()),
            Err(error) => error.to_string(),
        }
    };
    assert!(refused("time = '$'\ntime_zone = 'Berlin'").contains("\"Berlin\" is not a time zone"));
    assert!(refused("time_zone = 'UTC'").contains("it needs a `time`"));
    assert!(refused("time = '$'\ntime_zone = 'UTC'\ntime_format = 'ms'").contains("name their own zone"));
    assert_eq!(refused("time = '$'\ntime_zone = 'UTC'"), "taken");
}

#[test]
fn an_hour_that_comes_twice_is_taken_for_the_nearer_one() {
    let config = "time_zone = 'Europe/Berlin'";
    // 2026-10-25 03:00 CEST is 02:00 CET.
    let (summer_ms, winter_ms) = (1_792_888_200_000, 1_792_891_800_000);
    assert_eq!((utc(summer_ms), utc(winter_ms)), ("2026-10-25 00:30:00Z".into(), "2026-10-25 01:30:00Z".into()));
    let local = "\"2026-10-25T02:30:00\"";
    for (now_ms, expected) in [
        (summer_ms, summer_ms),
        (summer_ms + 2_000, summer_ms),
        (summer_ms - 600_000, summer_ms),
        (winter_ms + 2_000, winter_ms),
        (winter_ms - 60_000, winter_ms),
        (winter_ms + 86_400_000, winter_ms),
    ] {
        assert_eq!(stamp(config, local, now_ms), Ok(Some(expected)), "{}", utc(now_ms));
    }
    // Stamps in a row: the second 02:30 is later.
    let both = TimeFormat::Auto.read_text("2026-10-25T02:30:00", &zone("Europe/Berlin")).unwrap();
    assert_eq!((both.time_ms, both.later_ms), (summer_ms, Some(winter_ms)));
    assert_eq!(both.not_before(summer_ms), summer_ms);
    assert_eq!(both.not_before(summer_ms + 1), winter_ms);
    assert_eq!(both.not_before(winter_ms + 1), summer_ms);
}

#[test]
fn an_hour_that_is_left_out_is_that_of_a_clock_not_put_forward() {
    let stamp = TimeFormat::Auto.read_text("2026-03-29T02:30:00", &zone("Europe/Berlin")).unwrap();
    assert_eq!((utc(stamp.time_ms).as_str(), stamp.skipped), ("2026-03-29 01:30:00Z", true));
}

#[test]
fn formats_of_files() {
    let check = |format: &str, text: &str, expected: &str| {
        let stamp = format.parse::<StampFormat>().unwrap().read(text, &zone("Europe/Berlin"));
        assert_eq!(stamp.map(|stamp| utc(stamp.time_ms)).as_deref(), Ok(expected), "{format} {text}");
    };
    check("dmy", "03/04/2026 12:00", "2026-04-03 10:00:00Z");
    check("mdy", "03/04/2026 12:00", "2026-03-04 11:00:00Z");
    check("dmy", "3-4-2026 9:05:07", "2026-04-03 07:05:07Z");
    check("dmy", "03.04.2026", "2026-04-02 22:00:00Z");
    check("dmy", "03/04/2026T12:00:00Z", "2026-04-03 12:00:00Z");
    // Points are between days and months everywhere.
    check("auto", "27.11.2026 00:25:42", "2026-11-26 23:25:42Z");
    check("auto", "2026-11-27 00:25", "2026-11-26 23:25:00Z");
    check("%d/%m/%y %I:%M %p", "27/11/26 12:25 AM", "2026-11-26 23:25:00Z");
    check("%m/%d/%Y", "11/27/2026", "2026-11-26 23:00:00Z");
    check("%Y%m%d%H%M%S", "20261127002542", "2026-11-26 23:25:42Z");
    check("%a %b %e %H:%M:%S %Y", "Fri Nov 27 00:25:42 2026", "2026-11-26 23:25:42Z");
    check("%Y-%m-%d %H:%M:%S %z", "2026-11-27 00:25:42 -0500", "2026-11-27 05:25:42Z");
    check("%Y-%m-%d %H:%M:%S CET", "2026-11-27 00:25:42 CET", "2026-11-26 23:25:42Z");
    check("%s", "1709251200", "2024-03-01 00:00:00Z");
    check("ns", "1709251200000000001", "2024-03-01 00:00:00Z");
    for format in ["", "ymd", "d/m/y", "DMY"] {
        assert!(format.parse::<StampFormat>().is_err(), "{format}");
    }
    for (format, text) in
        [("dmy", "31/02/2026"), ("mdy", "27/11/2026"), ("dmy", "1/2/26"), ("%d/%m", "1/2"), ("ms", "now")]
    {
        assert!(format.parse::<StampFormat>().unwrap().read(text, &Zone::utc()).is_err(), "{format} {text}");
    }
}

#[test]
fn people_read() {
    for (time_s, text) in [
        (0, "1970-01-01 00:00:00Z"),
        (951_782_399, "2000-02-28 23:59:59Z"),
        (951_868_799, "2000-02-29 23:59:59Z"),
        (1_795_365_913, "2026-11-22 16:45:13Z"),
    ] {
        assert_eq!(utc(time_s * 1000 + 999), text);
    }
    assert_eq!(utc(u64::MAX), "9999-12-31 23:59:59Z");
}

proptest! {
    /// Whatever is written is read as what it was, with any offset and as local time of any zone.
    #[test]
    fn times_come_back(time_ms in 90_000_000u64..253_402_200_000_000, minutes in -839i64..=840, place in 0usize..7) {
        let output = toml::from_str::<OutputConfig>("format = 'json'\ntime_format = 'rfc3339'").unwrap();
        let reading = Reading { value: Value::Bool(true), unit: None, time_ms: Some(time_ms), sequence: None };
        let json = Encoder::new(output).unwrap().encode(&[NamedReading { name: String::new(), reading }]).unwrap();
        let text = String::from_utf8(json).unwrap().split('"').nth(5).unwrap().to_owned();
        prop_assert_eq!(read(&text, "Asia/Tokyo"), Ok(time_ms));
        prop_assert_eq!(read(&utc(time_ms), "Asia/Tokyo"), Ok(time_ms / 1000 * 1000));

        let local = utc(time_ms.saturating_add_signed(minutes * 60_000));
        let local = local.trim_end_matches('Z');
        let sign = if minutes < 0 { '-' } else { '+' };
        let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
        for offset in [format!("{sign}{hours:02}:{rest:02}"), format!("{sign}{hours:02}{rest:02}"), format!(" {sign}{hours:02}:{rest:02}")] {
            prop_assert_eq!(read(&format!("{local}{offset}"), "Asia/Tokyo"), Ok(time_ms / 1000 * 1000), "{}{}", local, offset);
        }
        // One of the offsets that the zone has there.
        let zone = zone(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "UTC"][place]);
        let read = TimeFormat::Auto.read_text(local, &zone).unwrap();
        prop_assert!(!read.own_zone);
        prop_assert!(read.time_ms.abs_diff(time_ms) <= 30 * 3_600_000);
        if let Some(later_ms) = read.later_ms {
            prop_assert!(later_ms > read.time_ms);
            prop_assert_eq!(read.nearest_to(later_ms), later_ms);
            prop_assert_eq!(read.nearest_to(read.time_ms), read.time_ms);
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>(), near in "[0-9]{1,4}[-/.]?[0-9]{1,2}[-/.]?[0-9]{0,4}[T ]{0,2}[0-9:.,]{0,20}(Z|UTC| ?[+-][0-9:]{0,9})?(\\[[A-Za-z/]{0,9}\\])?",
        format in prop_oneof![Just("auto"), Just("dmy"), Just("mdy"), Just("%Y-%m-%d %H:%M:%S"), Just("%s"), Just("ns")],
        name in any::<String>(), pattern in "%[a-zA-Z%:.0-9]{0,6}") {
        for text in [&text, &near] {
            for format in [format, &pattern] {
                // Half of the day may be left open.
                let Ok(format) = format.parse::<StampFormat>() else { continue };
                if let Ok(stamp) = format.read(text, &zone("Europe/Berlin")) {
                    prop_assert!(stamp.time_ms <= 253_402_300_799_999);
                }
            }
        }
        let _ = name.parse::<Zone>();
    }
}
