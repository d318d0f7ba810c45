//! Several series in one file, under a column whose name says nothing: the stamps show them.

use sealcast_quality::{CsvOptions, OrderOption, Recording};

/// A CSV of `(minute, word)`; the value is the row's number.
fn csv(column: &str, rows: &[(u32, &str)]) -> String {
    let mut text = format!("time,{column},value\n");
    for (at, (minute, word)) in rows.iter().enumerate() {
        let (hour, minute) = (minute / 60, minute % 60);
        text += &format!("2026-03-01 {hour:02}:{minute:02}:00,{word},{at}\n");
    }
    text
}

fn series(word: &str, minutes: impl IntoIterator<Item = u32>) -> Vec<(u32, &str)> {
    minutes.into_iter().map(|minute| (minute, word)).collect()
}

/// By time, rows of the same minute in the order of the series.
fn by_time<'a>(series: &[Vec<(u32, &'a str)>]) -> Vec<(u32, &'a str)> {
    let mut rows = series.concat();
    rows.sort_by_key(|(minute, _)| *minute);
    rows
}

fn error(text: &str, options: &CsvOptions) -> Option<String> {
    Recording::import(text.as_bytes(), options).err().map(|error| error.to_string())
}

/// It is refused with the column and the words; each series alone is read.
fn refused(rows: &[(u32, &str)]) {
    for rows in [rows.to_vec(), rows.iter().rev().copied().collect()] {
        let text = csv("probe", &rows);
        let said = error(&text, &CsvOptions::default()).unwrap_or_else(|| panic!("read as one series:\n{text}"));
        for part in ["several series, one for each probe", "--where 'probe=…'", "north, south", "--order file"] {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
        let conditions = vec!["probe=south".parse().unwrap()];
        let read = Recording::import(text.as_bytes(), &CsvOptions { conditions, ..CsvOptions::default() }).unwrap();
        assert_eq!(read.recording.readings.len(), rows.iter().filter(|(_, word)| *word == "south").count());
        // Whoever says that it is one series is believed.
        for order in [OrderOption::File, OrderOption::Time] {
            assert_eq!(error(&text, &CsvOptions { order, ..CsvOptions::default() }), None);
        }
    }
}

fn taken(rows: &[(u32, &str)]) {
    for rows in [rows.to_vec(), rows.iter().rev().copied().collect()] {
        let text = csv("probe", &rows);
        assert_eq!(error(&text, &CsvOptions::default()), None, "{text}");
    }
}

#[test]
fn series_that_share_a_file_are_refused() {
    let (north, south) = (series("north", 0..20), series("south", 0..20));
    // The same stamps, one after the other in the file, and late by a minute.
    refused(&by_time(&[north.clone(), south.clone()]));
    refused(&[north.clone(), south.clone()].concat());
    let late: Vec<(u32, &str)> = north.iter().flat_map(|(at, word)| [(at * 2 + 1, *word), (at * 2, "south")]).collect();
    refused(&late);
    // Two periods, and blocks as they were uploaded.
    refused(&by_time(&[north.clone(), series("south", (0..20).step_by(3))]));
    let uploads: Vec<Vec<(u32, &str)>> = north.chunks(5).zip(south.chunks(5)).map(|(a, b)| [a, b].concat()).collect();
    refused(&uploads.concat());
    // A clock that goes back once in one of them.
    let back = [series("south", 0..12), series("south", 11..19)].concat();
    refused(&north.iter().copied().zip(back).flat_map(|(a, b)| [a, b]).collect::<Vec<_>>());
    // Four rows are enough.
    refused(&[(0, "north"), (0, "south"), (1, "north"), (1, "south")]);
    // In no order at all.
    let shuffled: Vec<(u32, &str)> =
        (0..20).map(|at| at * 7 % 20).flat_map(|at| [(at, "north"), (at, "south")]).collect();
    refused(&shuffled);
}

#[test]
fn a_thousand_series_are_noticed_and_more_words_are_notes() {
    let csv = |probes: usize| {
        let names: Vec<String> = (0..probes).map(|at| format!("probe {at}")).collect();
        csv("place", &by_time(&names.iter().map(|name| series(name, 0..3)).collect::<Vec<_>>()))
    };
    for probes in [101, 1000] {
        let said = error(&csv(probes), &CsvOptions::default()).unwrap_or_else(|| panic!("{probes} read as one"));
        assert!(said.contains("several series, one for each place"), "{said}");
    }
    assert_eq!(error(&csv(1001), &CsvOptions::default()), None);
}

/// What nothing in the file tells apart is refused if it may be several series, and taken if that would refuse a second
/// try now and then.
#[test]
fn what_may_be_either_is_refused_unless_one_of_them_is_rare() {
    let by_turns: Vec<(u32, &str)> = (0..20).flat_map(|at| [(at, "RUN"), (at, "STOP")]).collect();
    let text = csv("status", &by_turns);
    assert!(error(&text, &CsvOptions::default()).unwrap().contains("--order file"));
    assert_eq!(error(&text, &CsvOptions { order: OrderOption::File, ..CsvOptions::default() }), None);

    let beside = |every| by_time(&[series("north", 0..240), series("south", (0..240).step_by(every))]);
    refused(&beside(9));
    taken(&beside(10));
}

#[test]
fn a_column_without_a_name_has_its_number() {
    let text = csv("probe", &by_time(&[series("north", 0..9), series("south", 0..9)]));
    let (_, rows) = text.split_once('\n').unwrap();
    let said = error(rows, &CsvOptions::default()).unwrap();
    assert!(said.contains("--where '2=…'"), "{said}");
}

#[test]
fn one_series_is_taken_whatever_else_stands_in_a_row() {
    // A status, a quality or a unit that changes while the stamps rise.
    taken(&(0..40).map(|at| (at, if at * at % 7 < 3 { "low" } else { "ok" })).collect::<Vec<_>>());
    // A constant text beside stamps that repeat and go back.
    let minutes = [0, 1, 2, 2, 3, 4, 1, 2, 3, 4, 5, 5, 6];
    taken(&series("hall", minutes));
    // The same stamps with a status that says nothing about them.
    taken(&minutes.iter().enumerate().map(|(at, minute)| (*minute, ["ok", "low", "low"][at % 3])).collect::<Vec<_>>());
    // A status that changes each time, and one minute that came twice.
    let each = |at: u32| (at, if at.is_multiple_of(2) { "ok" } else { "low" });
    taken(&[(0..20).map(each).collect(), vec![(19, "ok")], (20..40).map(each).collect::<Vec<_>>()].concat());
    // A second try in the same minute, now and then.
    let tries = (0..40).flat_map(|at| if at % 15 == 4 { vec![(at, "retry"), (at, "ok")] } else { vec![(at, "ok")] });
    taken(&tries.collect::<Vec<_>>());
    // Values that were kept while there was no network, and sent afterwards.
    taken(&[series("live", 0..10), series("live", 20..22), series("stored", 10..20), series("live", 22..40)].concat());
    // A firmware that set the clock back.
    taken(&[series("v1", 0..30), series("v2", 25..60)].concat());
    // A note of its own in each row.
    let notes: Vec<String> = (0..12).map(|at| format!("note {at}")).collect();
    taken(
        &notes
            .iter()
            .zip([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
            .map(|(note, at)| (at, note.as_str()))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn stamps_without_such_a_column_and_numbers_are_no_sign() {
    let twice: String = (0..20).map(|at| format!("2026-03-01 00:{:02}:00,{at}\n", at / 2)).collect();
    assert_eq!(error(&format!("time,value\n{twice}"), &CsvOptions::default()), None);
    // Which reading of a minute it is.
    let counted: Vec<(u32, &str)> = (0..20).flat_map(|at| [(at, "1"), (at, "2")]).collect();
    assert_eq!(error(&csv("sample", &counted), &CsvOptions::default()), None);
}
