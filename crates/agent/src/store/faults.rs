//! Each write of the agent's database fails, in each way in which a write can; then the file is opened anew and verified, and
//! the same write is done again.
//!
//! | write | tested here | what goes on after it |
//! | --- | --- | --- |
//! | `Write::{Record, Snapshot, State, ReadingOnLedger}` | `a_write_…`, `the_control_task_…` | `agent_core::control::tests::crashes` |
//! | `Write::{Submitted, Answered, Checkpoint, BeginAnew}` | `a_write_…` | `agent_core::control::tests::copies` |
//! | `session::Write::{Client, Subscriptions}` | `a_write_…` | `agent_core::session::tests` |
//! | `session::Write::Retained` | `a_write_…`, `retained_topics_…` | |
//! | `session::Write::Readings` | `a_write_…`, `readings_…` | |
//! | `ValueWrite::{Row, Archive}` | `a_write_…`, `an_archive_…` | `agent_core::values::tests::disk` |
//! | `forget_archive`, `forget_old_clients` | `a_write_…`, `an_archive_…` | |
//! | `make`, `replace_lost` | `a_database_that_was_not_made_…` | |
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::Path};

use sealcast_agent_core::{
    MAX_RETAINED,
    control::{QueuedReading, Write},
    session,
    values::ArchiveOnDisk,
};
use sealcast_faults::{Fault, mend};
use sealcast_ledger::{Checkpoint, Hash};
use sealcast_seal::{Changes, Row};

use super::*;

/// Most readings that wait.
const MOST: u64 = 10;

fn strike(store: &Store, fault: Fault) -> Result<()> {
    store.read(|db| fault.strike(db))
}

fn heal(store: &Store) -> Result<()> {
    store.read(mend)
}

fn state(key: &str, value: Option<&[u8]>) -> Write {
    let value = value.map(|value| Zeroizing::new(value.to_vec()));
    Write::State(sealcast_group::Write { key: key.to_owned(), value })
}

fn record(index: u64) -> Write {
    Write::Record { index, bytes: index.to_be_bytes().to_vec() }
}

fn snapshot(height: u64) -> Write {
    Write::Snapshot { height, bytes: vec![7; height as usize] }
}

fn checkpoint(number: u64) -> Write {
    Write::Checkpoint(Checkpoint { number, mark: [7; 16] })
}

fn submitted(nonce: u64, digest: u8) -> Write {
    Write::Submitted { nonce, digest: Hash::of(&[digest]) }
}

fn client(id: &str, replace_all: bool, rows: &[(&[u8], Option<&[u8]>)]) -> session::Write {
    let rows = rows.iter().map(|(key, value)| Row { key: key.to_vec(), value: value.map(<[u8]>::to_vec) }).collect();
    session::Write::Client { id: id.to_owned(), changes: Changes { replace_all, rows }, seen_ms: 5 }
}

fn subscriptions(id: &str, filters: &[&str]) -> session::Write {
    session::Write::Subscriptions {
        id: id.to_owned(),
        filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
    }
}

fn retained(topic: &str, payload: &[u8]) -> session::Write {
    let payload = Zeroizing::new(payload.to_vec());
    session::Write::Retained(Retained { topic: topic.to_owned(), time_ms: 5, props: vec![1], payload })
}

fn readings(topic: &str, values: &[&str]) -> Result<session::Write> {
    let values = values.iter().map(|value| Ok((value.parse()?, 5))).collect::<Result<_>>()?;
    Ok(session::Write::Readings { topic: topic.parse()?, values, last: 0 })
}

fn row(key: &str, value: Option<&[u8]>) -> ValueWrite {
    ValueWrite::Row(ValueRow { kind: 1, key: key.to_owned(), value: value.map(<[u8]>::to_vec) })
}

fn archived(id: i64) -> ValueWrite {
    ValueWrite::Archive(ArchiveMessage { id, topic: "a".into(), props: bytes::Bytes::new(), payload: vec![7] })
}

/// All rows of all tables, as text. Secrets are opened, since each time they are sealed as something else.
fn dump(store: &Store) -> Result<BTreeMap<String, Vec<String>>> {
    let mut tables: BTreeMap<_, _> = store.read(|db| {
        let mut names =
            db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('state', 'vault')")?;
        let names = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        let rows = |name: String| {
            let mut query = db.prepare(&format!("SELECT * FROM {name}"))?;
            let columns = query.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                let cells = (0..columns).map(|at| row.get_ref(at).map(|cell| format!("{cell:?}")));
                cells.collect::<rusqlite::Result<Vec<_>>>().map(|cells| cells.join(" "))
            };
            let rows = query.query_map([], row)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok((name, rows))
        };
        names.into_iter().map(rows).collect()
    })?;
    tables.insert("state".to_owned(), store.state()?.iter().map(|row| format!("{row:?}")).collect());
    Ok(tables)
}

/// A database in which each table has something that the writes below change.
fn prepared(dir: &Path) -> Result<Store> {
    let store = Store::create(dir)?;
    store.commit(&[record(0), snapshot(1), state("a", Some(b"1")), state("b", Some(b"1"))])?;
    store.commit(&[checkpoint(1), submitted(1, 1), submitted(1, 2), submitted(2, 3)])?;
    store.commit_session(&[client("pump", false, &[(b"k", Some(b"w")), (b"l", Some(b"w"))])], MOST)?;
    store.commit_session(&[subscriptions("pump", &["a", "b"])], MOST)?;
    store.commit_session(&[retained("t", b"27"), retained("u", b"1"), readings("r", &["1", "2"])?], MOST)?;
    store.write_values(&[row("a", Some(b"1")), row("b", Some(b"1")), archived(1), archived(2)])?;
    Ok(store)
}

type Act = Box<dyn Fn(&Store) -> Result<()>>;

/// Each write. Done twice, those of the first list are the same as done once; those of the second list go on.
fn writes() -> Result<[Vec<(&'static str, Act)>; 2]> {
    fn control(writes: Vec<Write>) -> Act {
        Box::new(move |store| Ok(store.commit(&writes)?))
    }
    fn session(writes: Vec<session::Write>) -> Act {
        Box::new(move |store| store.commit_session(&writes, MOST).map(drop))
    }
    fn values(writes: Vec<ValueWrite>) -> Act {
        Box::new(move |store| store.write_values(&writes))
    }
    let on_ledger = Write::ReadingOnLedger { topic: "r".parse()?, sequence: 1 };
    let windows = client("pump", false, &[(b"k", Some(b"x")), (b"l", None), (b"m", Some(b"y"))]);
    let others = (0..=MAX_CLIENTS_KEPT).map(|at| client(&format!("c{at}"), false, &[(b"k", Some(b"w"))]));
    let others: Vec<_> = others.collect();
    let repeatable: Vec<(&str, Act)> = vec![
        (
            "records, state and a reading",
            control(vec![record(1), snapshot(2), state("a", None), state("b", Some(b"2")), on_ledger]),
        ),
        ("what is submitted, and a checkpoint", control(vec![submitted(3, 4), checkpoint(2)])),
        ("an answer", control(vec![Write::Answered { nonce: 1 }])),
        ("that the folder is a copy", control(vec![Write::BeginAnew { before_ms: 6 }])),
        ("replay windows", session(vec![windows])),
        ("all replay windows", session(vec![client("pump", true, &[(b"n", Some(b"z"))])])),
        ("what a client is subscribed to", session(vec![subscriptions("pump", &["b", "c"])])),
        ("a new client", session(vec![client("valve", false, &[(b"k", Some(b"x"))])])),
        ("retained messages", session(vec![retained("t", b"28"), retained("u", b""), retained("v", b"1")])),
        ("values and archive messages", values(vec![row("a", None), row("b", Some(b"2")), archived(3), archived(4)])),
        ("an archive message that was sent", Box::new(|store| store.forget_archive(&[1]).map(drop))),
        (
            "clients of long ago",
            Box::new(move |store| {
                store.commit_session(&others, MOST)?;
                store.forget_old_clients()
            }),
        ),
    ];
    Ok([repeatable, vec![("readings", session(vec![readings("r", &["3"])?, readings("s", &["4"])?]))]])
}

/// What a write makes of the prepared database when it is done so many times, and nothing fails.
fn done(act: &Act, times: usize) -> Result<BTreeMap<String, Vec<String>>> {
    let dir = tempfile::tempdir()?;
    let store = prepared(dir.path())?;
    (0..times).try_for_each(|_| act(&store))?;
    dump(&store)
}

#[test]
fn a_write_that_failed_is_on_disk_whole_or_not_at_all_and_can_be_done_again() -> Result<()> {
    let [repeatable, going_on] = writes()?;
    let all = repeatable.into_iter().map(|case| (case, false)).chain(going_on.into_iter().map(|case| (case, true)));
    for ((name, act), goes_on) in all {
        let (before, after) = (done(&act, 0)?, done(&act, 1)?);
        assert_ne!(before, after, "{name} changes nothing");
        for fault in Fault::ALL {
            let dir = tempfile::tempdir()?;
            let store = prepared(dir.path())?;
            strike(&store, fault)?;
            assert!(act(&store).is_err(), "{name}, {fault:?}");
            drop(store);
            let store = Store::open(dir.path(), None)?;
            let left = dump(&store)?;
            // Of two transactions the second one did not begin.
            if name != "clients of long ago" {
                assert_eq!(
                    left,
                    if fault.is_persisted() { after.clone() } else { before.clone() },
                    "{name}, {fault:?}"
                );
            }
            act(&store)?;
            let times = if goes_on && fault.is_persisted() { 2 } else { 1 };
            assert_eq!(dump(&store)?, done(&act, times)?, "{name}, {fault:?}, again");
        }
    }
    Ok(())
}

/// The connection to the disk is the same one as before: what is in memory goes with what is on disk.
#[test]
fn after_a_write_that_failed_the_store_goes_on_without_being_opened_again() -> Result<()> {
    let [repeatable, going_on] = writes()?;
    for (name, act) in repeatable.into_iter().chain(going_on) {
        for fault in Fault::ALL {
            let dir = tempfile::tempdir()?;
            let store = prepared(dir.path())?;
            strike(&store, fault)?;
            assert!(act(&store).is_err());
            assert!(store.is_failing() && !store.probe(), "{name}, {fault:?}");
            let on_disk = |store: &Store| retained_topics_of(store);
            assert_eq!(on_disk(&store)?, counted(&store), "{name}, {fault:?}");
            heal(&store)?;
            assert!(store.probe() && !store.is_failing());
            act(&store)?;
            assert_eq!(on_disk(&store)?, counted(&store), "{name}, {fault:?}, again");
        }
    }
    Ok(())
}

fn retained_topics_of(store: &Store) -> Result<Vec<String>> {
    Ok(store.retained()?.into_iter().map(|message| message.topic).collect())
}

/// The topics that the store counts.
fn counted(store: &Store) -> Vec<String> {
    store.retained_topics().iter().map(str::to_owned).collect()
}

#[test]
fn retained_topics_are_counted_as_they_are_on_disk() -> Result<()> {
    let kept = |topic: &str, payload: &[u8]| {
        let session::Write::Retained(message) = retained(topic, payload) else { unreachable!() };
        message
    };
    for fault in Fault::ALL {
        let dir = tempfile::tempdir()?;
        let store = prepared(dir.path())?;
        strike(&store, fault)?;
        // As a session does: it makes room, and then writes.
        for message in [kept("t", b""), kept("new", b"1")] {
            store.retained_topics().keep(&message)?;
            store.commit_session(&[session::Write::Retained(message)], MOST).unwrap_err();
        }
        let expected: &[_] = if fault.is_persisted() { &["new", "u"] } else { &["t", "u"] };
        assert_eq!(counted(&store), expected, "{fault:?}");
        // Clients that try again and again do not use the places up.
        for topic in 0..2 * MAX_RETAINED {
            let message = kept(&topic.to_string(), b"1");
            if store.retained_topics().keep(&message).is_err() {
                assert!(fault.is_persisted(), "{topic} topics, of which none was written");
                break;
            }
            if !fault.is_persisted() {
                store.commit_session(&[session::Write::Retained(message)], MOST).unwrap_err();
            }
        }
    }
    Ok(())
}

/// Numbers on the ledger: each reading has one of its own, and none is left out. A publisher that got no acknowledgement
/// publishes again, so what failed but was persisted is there twice, as after a kill before the acknowledgement.
#[test]
fn readings_have_numbers_without_gap_or_double() -> Result<()> {
    for fault in Fault::ALL {
        let dir = tempfile::tempdir()?;
        let store = prepared(dir.path())?;
        strike(&store, fault)?;
        store.commit_session(&[readings("r", &["3", "4"])?], MOST).unwrap_err();
        drop(store);
        let store = Store::open(dir.path(), None)?;
        store.commit_session(&[readings("r", &["3", "4"])?], MOST)?;
        let mut taken = Vec::new();
        while let [QueuedReading { topic, sequence, value, .. }] = &store.oldest_readings()?[..] {
            taken.push((*sequence, *value));
            store.commit(&[Write::ReadingOnLedger { topic: topic.clone(), sequence: *sequence }])?;
        }
        let values: &[i128] = if fault.is_persisted() { &[1, 2, 3, 4, 3, 4] } else { &[1, 2, 3, 4] };
        let expected: Vec<_> = (1..).zip(values.iter().copied()).collect();
        assert_eq!(taken, expected, "{fault:?}");
    }
    Ok(())
}

/// Also if what only seemed to fail was sent and taken off the disk before it is tried again.
#[test]
fn an_archive_message_is_neither_lost_nor_doubled() -> Result<()> {
    let waiting = |store: &Store| -> Result<Vec<i64>> {
        Ok(store.archive_after(0, 100)?.into_iter().map(|message| message.id).collect())
    };
    for fault in Fault::ALL {
        for sent in [false, true] {
            let dir = tempfile::tempdir()?;
            let store = prepared(dir.path())?;
            strike(&store, fault)?;
            let lost = [archived(3), archived(4)];
            store.write_values(&lost).unwrap_err();
            heal(&store)?;
            let found = waiting(&store)?;
            assert_eq!(found, if fault.is_persisted() { vec![1, 2, 3, 4] } else { vec![1, 2] }, "{fault:?}");
            if sent {
                strike(&store, fault)?;
                store.forget_archive(&found).unwrap_err();
                heal(&store)?;
                let count = if fault.is_persisted() { 0 } else { found.len() as u64 };
                assert_eq!(store.forget_archive(&found)?.messages, count);
            }
            // The next message comes with those that failed.
            store.write_values(&[&lost[..], &[archived(5)]].concat())?;
            let expected = match (sent, fault.is_persisted()) {
                (false, _) => vec![1, 2, 3, 4, 5],
                (true, false) => vec![3, 4, 5],
                (true, true) => vec![5],
            };
            assert_eq!(waiting(&store)?, expected, "{fault:?}, {sent}");
            drop(store);
            let ArchiveOnDisk { waiting, last_id } = Store::open(dir.path(), None)?.archive()?;
            assert_eq!((waiting.messages, last_id), (expected.len() as u64, 5));
        }
    }
    Ok(())
}

#[test]
fn what_a_folder_says_of_its_past_is_what_was_written() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = prepared(dir.path())?;
    let digest = |digest| Hash::of(&[digest]);
    let mut past = store.past()?;
    past.submitted.sort();
    let mut expected = vec![(1, digest(1)), (1, digest(2)), (2, digest(3))];
    expected.sort();
    assert_eq!((past.checkpoint, past.submitted), (Some(Checkpoint { number: 1, mark: [7; 16] }), expected));
    store.commit(&[checkpoint(u64::MAX), Write::Answered { nonce: 1 }])?;
    drop(store);
    let store = Store::open(dir.path(), None)?;
    let past = store.past()?;
    assert_eq!(past.checkpoint.map(|checkpoint| checkpoint.number), Some(u64::MAX));
    assert_eq!(past.submitted, [(2, digest(3))]);
    // What the clients have retained since stays.
    let newer = session::Write::Retained(Retained {
        topic: "newer".into(),
        time_ms: 9,
        props: Vec::new(),
        payload: Zeroizing::new(b"28".to_vec()),
    });
    store.commit_session(&[newer], MOST)?;
    store.commit(&[Write::BeginAnew { before_ms: 9 }])?;
    assert_eq!(store.past()?.checkpoint, None);
    assert_eq!(store.retained()?.into_iter().map(|kept| kept.topic).collect::<Vec<_>>(), ["newer"]);
    Ok(())
}

/// A database is there with all its tables or not at all, however often making it failed.
#[test]
fn a_database_that_was_not_made_to_its_end_is_made_by_the_next_try() -> Result<()> {
    for new_state in [false, true] {
        let dir = tempfile::tempdir()?;
        let make = || if new_state { Store::replace_lost(dir.path(), None) } else { Store::make(dir.path(), None) };
        // A lost database's log, with what it held, is not the new one's.
        let lost = tempfile::tempdir()?;
        let store = prepared(lost.path())?;
        std::fs::copy(lost.path().join(format!("{FILE}-wal")), dir.path().join(format!("{FILE}-wal")))?;
        drop(store);
        let temporary = dir.path().join(format!("{FILE}.new"));
        std::fs::create_dir(&temporary)?;
        for _ in 0..2 {
            make().unwrap_err();
            let error = Store::require(dir.path()).map_or_else(|error| format!("{error:#}"), |()| String::new());
            assert!(error.contains("missing"), "{error}");
        }
        std::fs::remove_dir(&temporary)?;
        // The process died before the file had its name.
        std::fs::write(&temporary, [7; 4096])?;
        // As earlier versions left it whose disk became full before the tables were made.
        let half = Connection::open(dir.path().join(FILE))?;
        half.pragma_update(None, "journal_mode", "WAL")?;
        drop(half);
        assert!(std::fs::metadata(dir.path().join(FILE))?.len() > 0);
        let error = Store::open(dir.path(), None).map_or_else(|error| format!("{error:#}"), |_| String::new());
        assert!(error.contains("is empty") && error.contains("--new-state"), "{error}");
        make()?;
        let store = Store::open(dir.path(), None)?;
        assert!(store.records(0, 9)?.is_empty());
        store.commit(&[record(0)])?;
        drop(store);
        // It succeeded without saying so: enrolling again keeps what is there.
        Store::make(dir.path(), None)?;
        assert_eq!(Store::open(dir.path(), None)?.records(0, 9)?.len(), 1);
    }
    Ok(())
}
