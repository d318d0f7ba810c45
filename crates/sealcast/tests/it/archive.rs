//! Archives: how true they are, and that each point arrives, whatever is killed or refused.

use serde_json::Value;

use crate::{
    harness::{Agent, Hub, PATIENCE, unique, until},
    values::{MARKER, V5, V5_MARKED, message_with, publish_all},
};

/// Messages for an archive that wait on the agent's disk and hold `text`.
fn archived(agent: &Agent, text: &str) -> i64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(agent.dir.join("agent.sqlite"), flags).unwrap();
    let count = "SELECT count(*) FROM archive WHERE instr(CAST(payload AS TEXT), ?1) > 0";
    db.query_row(count, [text], |row| row.get(0)).unwrap()
}

#[test]
fn an_archive_is_never_farther_than_its_deviation_also_when_the_agent_is_killed() {
    let mut hub = Hub::start();
    let rules = "
        [[quality]]
        filter = 'hsu0001/t'
        range = { max = 1000 }
        report = { dead_band = 30 }
        archive = { deviation = 0.5, max_delay_ms = 2000, topic = 'hsu0001/history' }
        [[quality]]
        filter = 'hsu0001/sensor/+'
        archive = { deviation = 0.5, max_delay_ms = 500 }
        [[publish]]
        filter = 'hsu0001/t'
        input = { format = 'json', value = '$.v', time = '$.ts', time_format = 'ms', unit = 'Cel' }
        [[publish]]
        filter = 'hsu0001/sensor/+'
        input = { format = 'json', value = '$.v' }";
    // Neither converted nor a value of now.
    let policy = "
        [[receive]]
        filter = 'hsu0001/archive/#'
        input = { format = 'number' }
        [[quality]]
        filter = 'hsu0001/archive/#'
        fail_safe = { on_silence = { after_ms = 500, publish = 'open' } }";
    let [mut sender, receiver] = hub.pair("hsu0001", [rules, policy]);
    let mut history = receiver.subscribe("hsu0001/history", &V5);
    let mut plain = receiver.subscribe("hsu0001/t", &["-t", MARKER]);
    let mut derived = receiver.subscribe("hsu0001/archive/#", &V5_MARKED);

    // A slow wave with noise: 300 readings, one a second by the device's clock.
    let start_ms = 1_700_000_000_000_u64;
    let value = |at: u64| {
        let noise = (at * 7919 % 13) as f64 / 26.0;
        (((at as f64 / 40.0).sin() * 20.0 + 50.0 + noise) * 100.0).round() / 100.0
    };
    let readings: Vec<(u64, f64)> = (0..300).map(|at| (start_ms + at * 1000, value(at))).collect();
    let mut points: Vec<(u64, f64)> = Vec::new();
    let mut collect = |last_ms: u64| {
        while points.iter().all(|(time_ms, _)| *time_ms < last_ms) {
            let line = history.message(PATIENCE).expect("a point of the archive");
            assert!(line.contains("sealcast-check:pass") && line.contains("sealcast-sender:1111"), "{line}");
            let pack = line.split(' ').find(|part| part.starts_with('[')).unwrap();
            let pack: Vec<Value> = serde_json::from_str(pack).unwrap();
            for record in pack {
                assert_eq!((&record["n"], &record["u"]), (&"hsu0001/t".into(), &"Cel".into()), "{line}");
                points.push(((record["t"].as_f64().unwrap() * 1000.0).round() as u64, record["v"].as_f64().unwrap()));
            }
        }
    };
    for part in readings.chunks(100) {
        publish_all(&sender, "hsu0001/t", part);
        // At once: what is held, and what was let out and not sent, is on its disk.
        sender.kill();
        sender.restart();
    }
    publish_all(&sender, "hsu0001/sensor/7", &readings[..1]);
    let line = message_with(&mut derived, "hsu0001/archive/hsu0001/sensor/7 ");
    assert!(!line.contains("sealcast-check") && line.contains("sealcast-archive:1"), "no rule checks it: {line}");
    // Within the longest delay the last one is there, and what was let out before it came before it.
    collect(readings[299].0);
    // No fail-safe.
    receiver.nothing_before_marker(MARKER, &mut derived);

    points.sort_by_key(|(time_ms, _)| *time_ms);
    points.dedup();
    assert!(points.len() * 2 < readings.len(), "{} points for {} readings", points.len(), readings.len());
    for (time_ms, value) in &readings {
        let after = points.partition_point(|(time, _)| time < time_ms);
        let (t1, v1) = *points.get(after).unwrap_or_else(|| panic!("nothing represents {value} at {time_ms}"));
        let line = match after.checked_sub(1).map(|before| points[before]) {
            Some((t0, v0)) => v0 + (v1 - v0) * (time_ms - t0) as f64 / (t1 - t0) as f64,
            None => v1,
        };
        assert!((line - value).abs() <= 0.5 + 1e-9, "{value} at {time_ms}, line {line}");
    }
    // What report on change leaves out is archived all the same.
    let sent = receiver.before_marker(MARKER, &mut plain).len();
    assert!(sent > 0 && sent < points.len(), "{sent} sent, {} archived", points.len());

    // Let out while the broker is away, and then killed: it waits on the disk.
    publish_all(&sender, "hsu0001/t", &[(start_ms + 300_000, value(300))]);
    hub.kill();
    until("it is let out", || archived(&sender, "\"t\":1700000300") > 0);
    sender.kill();
    hub.restart();
    let mut history = receiver.subscribe("hsu0001/history", &[]);
    sender.restart();
    message_with(&mut history, "\"t\":1700000300");
    until("what the broker has acknowledged is off the disk", || archived(&sender, "") == 0);
}

#[test]
fn a_point_of_an_archive_that_the_broker_refuses_arrives_later() {
    let mut hub = Hub::start();
    hub.configure("[limits]\nmax_queued_messages = 3");
    let rules = "
        [[quality]]
        filter = 'hsu0001/t'
        archive = { deviation = 0.1, max_delay_ms = 200, topic = 'hsu0001/history' }
        [[publish]]
        filter = 'hsu0001/t'
        input = { format = 'json', value = '$.v', time = '$.ts', time_format = 'ms' }";
    let [sender, receiver] = hub.pair("hsu0001", [rules, ""]);
    let session = ["-i", "historian", "-c"];
    receiver.subscribe("hsu0001/history", &session).end();
    // Nobody reads, and the broker has no room for more.
    let mut points = 0;
    until("the broker refuses a point", || {
        publish_all(&sender, "hsu0001/t", &[(1_700_000_000_000 + points * 1000, (points % 2 * 50) as f64)]);
        points += 1;
        sender.log.count("archive waits on disk") > 0
    });
    let mut history = receiver.subscribe("hsu0001/history", &session);
    let mut missing: std::collections::BTreeSet<u64> = (0..points).collect();
    while !missing.is_empty() {
        let line = history.message(PATIENCE).unwrap_or_else(|| panic!("{missing:?} of {points} are missing"));
        let pack: Vec<Value> = serde_json::from_str(line.strip_prefix("hsu0001/history ").unwrap()).unwrap();
        for record in pack {
            missing.remove(&(record["t"].as_u64().unwrap() - 1_700_000_000));
        }
    }
    until("nothing waits any more", || archived(&sender, "") == 0);
    assert_eq!(sender.log.count("archive waits on disk"), 1, "it is said once");
}

#[test]
fn an_archive_whose_group_has_no_key_does_not_stop_the_others() {
    let hub = Hub::start();
    let rules = "
        key_wait_ms = 100
        [[quality]]
        filter = 'hsu0001/keyless'
        archive = { deviation = 0.1, max_delay_ms = 200, topic = 'vault/history' }
        [[quality]]
        filter = 'hsu0001/t'
        archive = { deviation = 0.1, max_delay_ms = 200, topic = 'hsu0001/history' }
        [[publish]]
        filter = 'hsu0001/keyless'
        input = { format = 'json', value = '$.v', time = '$.ts', time_format = 'ms' }
        [[publish]]
        filter = 'hsu0001/t'
        input = { format = 'json', value = '$.v', time = '$.ts', time_format = 'ms' }";
    let [sender, mut receiver] = hub.pair("hsu0001", [rules, ""]);
    hub.group("vault", "vault/#", &["1112"]);
    until("the group is founded", || receiver.try_publish("vault/x", "1", &[]));
    // Nobody is there to add the sender.
    receiver.kill();
    hub.operate(&["group", "grant", "vault", "1111"]);
    until("the sender waits for a key", || {
        sender.refusal(&unique("vault/probe"), "1", &[]);
        sender.log.count("waits until a member adds it") > 0
    });
    publish_all(&sender, "hsu0001/keyless", &[(1_700_000_000_000, 1.0)]);
    until("its point waits", || archived(&sender, "hsu0001/keyless") == 1);
    let mut history = sender.subscribe("hsu0001/history", &[]);
    publish_all(&sender, "hsu0001/t", &[(1_700_000_000_000, 1.0)]);
    message_with(&mut history, "hsu0001/t");
    assert_eq!(archived(&sender, "hsu0001/keyless"), 1);
    receiver.restart();
    until("both have arrived", || archived(&sender, "") == 0);
}
