//! The core and the journal together, without sockets: random traffic, cut connections, and crashes before, between and
//! after the commit and the release of what waited for it.
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use sealcast_broker_core::{ClassLimits, Limits, SessionKey};
use sealcast_faults::Fault;
use sealcast_mqtt::Version;

use super::*;
use world::{Sharing, World};

#[derive(Clone, Debug)]
enum Op {
    /// Publisher 0 uses QoS 1, publisher 1 QoS 2.
    Publish(usize),
    /// A client handles this many packets that have reached it.
    Run(usize, usize),
    Cut(usize),
    Connect(usize),
    Commit,
    Release,
    Crash,
    /// A commit fails, and with it the broker.
    Fail(Fault),
    Tick,
    /// Client 2 gives up its session.
    StartAnew,
}

fn ops(shared: bool) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => (0usize..2).prop_map(Op::Publish),
        8 => (0usize..4, 1usize..6).prop_map(|(client, packets)| Op::Run(client, packets)),
        1 => (0usize..4).prop_map(Op::Cut),
        3 => (0usize..4).prop_map(Op::Connect),
        6 => Just(Op::Commit),
        6 => Just(Op::Release),
        1 => Just(Op::Crash),
        1 => proptest::sample::select(&Fault::ALL).prop_map(Op::Fail),
        1 => Just(Op::Tick),
        u32::from(shared) => Just(Op::StartAnew),
    ];
    proptest::collection::vec(op, 0..300)
}

fn play(world: &mut World, ops: Vec<Op>) {
    world.settle();
    for op in ops {
        match op {
            Op::Publish(index) => world.publish(index),
            Op::Run(index, packets) => {
                for _ in 0..packets {
                    world.run(index);
                }
            }
            Op::Cut(index) => world.cut(index, true),
            Op::Connect(index) => world.connect(index),
            Op::Commit => world.commit(),
            Op::Release => world.release(),
            Op::Crash => world.crash(),
            Op::Fail(fault) => world.fail(fault),
            Op::StartAnew => world.start_anew(2),
            Op::Tick => {
                world.now_ms += 500;
                world.core.handle_timeout(world.now_ms);
                world.collect();
            }
        }
    }
    world.settle();
}

/// What there is left on disk.
fn rows(world: &World) -> i64 {
    let count =
        "SELECT (SELECT count(*) FROM delivery) + (SELECT count(*) FROM message) + (SELECT count(*) FROM inbound)";
    world.db.query_row(count, [], |row| row.get(0)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_acknowledged_arrives_in_order_and_qos_2_once(
        ops in ops(false),
        // Queues that are full all the time, and ones that never are.
        max_queued_messages in prop_oneof![Just(1usize), Just(4), Just(100_000)],
        // The same for those of the device to which all clients belong, and for all.
        (max_device_queued_messages, max_total_queued_messages) in
            prop_oneof![Just((1usize, 1_000_000usize)), Just((4, 1)), Just((1_000_000, 5)), Just((1_000_000, 1_000_000))],
        version in prop_oneof![Just(Version::V311), Just(Version::V5)],
    ) {
        let publish_patience = Duration::from_secs(2);
        let application = ClassLimits {
            max_queued_messages,
            max_device_queued_messages,
            max_total_queued_messages,
            ..ClassLimits::default()
        };
        let limits = Limits { max_inflight: 4, application, publish_patience, ..Limits::default() };
        let mut world = World::new(limits, version, Sharing::Not);
        play(&mut world, ops);
        for subscriber in 2..4 {
            for publisher in 0..2 {
                let got = &world.clients[subscriber].got[publisher];
                let distinct: BTreeSet<u32> = got.iter().copied().collect();
                let acked = &world.clients[publisher].acked;
                prop_assert!(acked.is_subset(&distinct), "lost: {:?}", acked.difference(&distinct));
                let mut seen = BTreeSet::new();
                let first: Vec<u32> = got.iter().copied().filter(|number| seen.insert(*number)).collect();
                // A client that sends a refused message again has put it behind those that it sent meanwhile.
                let least = max_queued_messages.min(max_device_queued_messages).min(max_total_queued_messages);
                let refused = version == Version::V5 && least < 100_000;
                prop_assert!(refused || first.is_sorted(), "out of order: {:?}", first);
                if (subscriber, publisher) == (3, 1) {
                    prop_assert_eq!(distinct.len(), got.len(), "QoS 2 twice: {:?}", got);
                }
            }
        }
        prop_assert_eq!(rows(&world), 0, "something is left behind on disk");
        prop_assert_eq!((world.core.stats().queued, world.core.stats().queued_bytes), (0, 0));
    }

    #[test]
    fn what_was_acknowledged_reaches_a_member_of_the_share_although_another_ends(
        ops in ops(true),
        sharing in prop_oneof![Just(Sharing::Kept), Just(Sharing::Passing)],
        max_queued_messages in prop_oneof![Just(1usize), Just(4), Just(100_000)],
    ) {
        let application = ClassLimits { max_queued_messages, ..ClassLimits::default() };
        let limits = Limits { max_inflight: 4, application, ..Limits::default() };
        let mut world = World::new(limits, Version::V5, sharing);
        play(&mut world, ops);
        for publisher in 0..2 {
            let got = |subscriber: usize| world.clients[subscriber].got[publisher].iter().copied();
            let got: BTreeSet<u32> = got(2).chain(got(3)).collect();
            let acked = &world.clients[publisher].acked;
            prop_assert!(acked.is_subset(&got), "lost: {:?}", acked.difference(&got));
        }
        prop_assert_eq!(rows(&world), 0, "something is left behind on disk");
        prop_assert_eq!((world.core.stats().queued, world.core.stats().queued_bytes), (0, 0));
    }
}

#[test]
fn after_a_failed_write_nothing_is_reported_and_what_was_is_there() {
    for fault in Fault::ALL {
        let dir = tempfile::tempdir().unwrap();
        let session = |id: u64| {
            let key = SessionKey { device: "d".into(), client_id: id.to_string().into() };
            vec![JournalRecord::Session { id, key, expiry_s: 100 }]
        };
        // Writes these, and reads what is there then.
        let write = |ids: &[u64]| {
            let (durable, mut reports) = tokio_mpsc::unbounded_channel();
            let (mut journal, _) = Journal::open(dir.path(), durable).unwrap();
            let appended: Vec<u64> = ids.iter().map(|id| journal.append(session(*id))).collect();
            journal.close().unwrap();
            assert_eq!(std::iter::from_fn(|| reports.blocking_recv()).last(), appended.last().copied());
            let (_journal, restored) = Journal::open(dir.path(), tokio_mpsc::unbounded_channel().0).unwrap();
            let ids: Vec<u64> = restored.sessions.iter().map(|session| session.id).collect();
            assert_eq!(ids.last(), Some(&restored.last_session));
            ids
        };
        assert_eq!(write(&[1]), [1]);

        let (durable, mut reports) = tokio_mpsc::unbounded_channel();
        let db = rusqlite::Connection::open(dir.path().join("broker.db")).unwrap();
        fault.strike(&db).unwrap();
        let (batches, queue) = mpsc::channel();
        batches.send((1, session(2))).unwrap();
        batches.send((2, session(3))).unwrap();
        assert!(run(db, &queue, &durable).is_err());
        drop(durable);
        assert_eq!(reports.blocking_recv(), None, "{fault:?}");

        let expected: &[u64] = if fault.is_persisted() { &[1, 2, 3] } else { &[1] };
        assert_eq!(write(&[]), expected, "{fault:?}");
        assert_eq!(write(&[2, 3, 4]), [1, 2, 3, 4], "{fault:?}, again");
    }
}

#[test]
fn a_later_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Journal::open(dir.path(), tokio_mpsc::unbounded_channel().0);
    drop(open().unwrap());
    let db = rusqlite::Connection::open(dir.path().join("broker.db")).unwrap();
    db.pragma_update(None, "user_version", FORMAT + 1).unwrap();
    drop(db);
    let error = open().err().unwrap();
    assert!(matches!(&error, JournalError::Format { found, .. } if *found == FORMAT + 1), "{error}");
}

/// As the first versions made it, with one message that waits for one session.
const FORMAT_1: &str = "
CREATE TABLE session (
  id INTEGER PRIMARY KEY, device TEXT NOT NULL, client_id TEXT NOT NULL, expiry_s INTEGER NOT NULL,
  disconnected_ms INTEGER, UNIQUE (device, client_id)) STRICT;
CREATE TABLE subscription (
  session INTEGER NOT NULL, filter TEXT NOT NULL, options INTEGER NOT NULL, sub_id INTEGER,
  PRIMARY KEY (session, filter)) STRICT, WITHOUT ROWID;
CREATE TABLE message (
  seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL, retain INTEGER NOT NULL,
  properties BLOB NOT NULL, expires_ms INTEGER, sender TEXT) STRICT;
CREATE TABLE delivery (
  seq_no INTEGER PRIMARY KEY, session INTEGER NOT NULL, message INTEGER NOT NULL, qos INTEGER NOT NULL,
  retain INTEGER NOT NULL, sub_ids TEXT NOT NULL, packet_id INTEGER, released INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX delivery_session ON delivery (session);
CREATE TABLE inbound (
  session INTEGER NOT NULL, packet_id INTEGER NOT NULL, PRIMARY KEY (session, packet_id)) STRICT, WITHOUT ROWID;
CREATE TABLE retained (
  topic TEXT PRIMARY KEY, seq INTEGER NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,
  properties BLOB NOT NULL, expires_ms INTEGER, sender TEXT) STRICT, WITHOUT ROWID;
INSERT INTO session VALUES (3, 'd', 'c', 100, NULL);
INSERT INTO message VALUES (7, 't', x'61', 1, 0, x'00', NULL, NULL);
INSERT INTO delivery VALUES (9, 3, 7, 1, 0, '5', NULL, 0);
PRAGMA user_version = 1;";

/// What format 2 changed, with messages by one share and by three. The last one has been sent at QoS 2.
const FORMAT_2: &str = "
ALTER TABLE delivery ADD COLUMN shares BLOB;
INSERT INTO delivery VALUES (10, 3, 7, 1, 0, '5', NULL, 0, CAST('$share/s/t' AS BLOB));
INSERT INTO delivery VALUES (
  11, 3, 7, 1, 0, '', NULL, 0, x'2473686172652f612f74002473686172652f622f74002473686172652f632f74');
INSERT INTO delivery VALUES (12, 3, 7, 2, 0, '', 1, 1, x'2473686172652f612f74002473686172652f622f74');
PRAGMA user_version = 2;";

/// Opens a journal of an older format, which fails in each way before it succeeds twice; order, share and packet identifier of what waits for its session.
fn brought_up_to_date(older: &[&str]) -> Vec<(u64, Option<String>, Option<u16>)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broker.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    older.iter().for_each(|format| db.execute_batch(format).unwrap());
    let format = || -> i64 {
        let db = rusqlite::Connection::open(&path).unwrap();
        db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    let old = format();
    drop(db);
    for fault in Fault::ALL {
        let mut db = rusqlite::Connection::open(&path).unwrap();
        fault.strike(&db).unwrap();
        prepare(&mut db).unwrap_err();
        drop(db);
        assert_eq!(format(), if fault.is_persisted() { FORMAT } else { old }, "{fault:?}");
    }
    let open = || {
        let (mut journal, mut restored) = Journal::open(dir.path(), tokio_mpsc::unbounded_channel().0).unwrap();
        journal.close().unwrap();
        let session = restored.sessions.pop().unwrap();
        let found = session.deliveries.iter();
        found.map(|(id, delivery)| (delivery.order, delivery.share.as_deref().map(str::to_owned), *id)).collect()
    };
    let found: Vec<_> = open();
    assert_eq!(found, open());
    let columns = |db: &rusqlite::Connection| -> Vec<(String, String)> {
        let mut statement = db.prepare("SELECT name, type FROM pragma_table_info('delivery')").unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let new = rusqlite::Connection::open_in_memory().unwrap();
    new.execute_batch(SCHEMA).unwrap();
    assert_eq!(columns(&rusqlite::Connection::open(&path).unwrap()), columns(&new));
    found
}

#[test]
fn older_formats_are_read_and_brought_up_to_date() {
    assert_eq!(brought_up_to_date(&[FORMAT_1]), [(9, None, None)]);
    let share = |name: &str| Some(format!("$share/{name}/t"));
    assert_eq!(
        brought_up_to_date(&[FORMAT_1, FORMAT_2]),
        [
            (9, None, None),
            (10, share("s"), None),
            (11, share("a"), None),
            (12, share("a"), Some(1)),
            (13, share("b"), None),
            (14, share("c"), None),
        ]
    );
}
