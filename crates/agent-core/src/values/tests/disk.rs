//! Each write as failed, and as failed but persisted; and the next run.

use super::{super::retry::RETRY_MS, *};
use crate::Why;

const ARCHIVED: &str = "[[quality]]\nfilter = 't'\nstep = { max = 10, action = 'block' }\n\
                        archive = { deviation = 0.1, max_delay_ms = 1000 }\n\
                        [[publish]]\nfilter = 't'\ninput = { format = 'json', value = '$.v', time = '$.ts', time_format = 'ms' }\n";
const T0: u64 = 1_700_000_000_000;

/// Readings that go up and down, so that each is a point of the archive, and persists after each but the failing ones.
fn zigzag(disk: &mut Disk, values: &mut Values, fails: impl Fn(u64) -> bool, persisted: bool) -> Result<()> {
    for at in 0..40 {
        let value = if at % 2 == 0 { 20 } else { 25 };
        let now_ms = T0 + at * 1_000;
        let mut request = request(format!("{{\"v\":{value},\"ts\":{now_ms}}}"), false);
        values.publish(&mut request, 1, now_ms);
        let step = values.take_writes();
        if fails(at) {
            fail(values, step, persisted.then_some(&mut *disk), now_ms);
        } else {
            assert!(disk.commit(step).is_empty());
        }
    }
    Ok(())
}

fn times(archive: &[ArchiveMessage]) -> Vec<String> {
    let time = |message: &ArchiveMessage| {
        let pack: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        format!("{} {}", pack[0]["t"], pack[0]["v"])
    };
    archive.iter().map(time).collect()
}

#[test]
fn what_a_failing_disk_does_not_take_is_written_by_the_next_success() -> Result<()> {
    let mut healthy = Disk::default();
    let mut values = healthy.start(ARCHIVED)?;
    zigzag(&mut healthy, &mut values, |_| false, false)?;
    assert!(healthy.archive.len() > 30, "{} points", healthy.archive.len());
    for persisted in [false, true] {
        let mut disk = Disk::default();
        let mut values = disk.start(ARCHIVED)?;
        zigzag(&mut disk, &mut values, |at| (10..30).contains(&at), persisted)?;
        disk.persist(&mut values);
        assert_eq!(disk.rows, healthy.rows, "{persisted}");
        assert_eq!(times(&disk.archive), times(&healthy.archive), "{persisted}: each point once");
        assert_eq!(values.archives().waiting().messages, disk.archive.len() as u64);
        // The next run has the level of before, whatever failed.
        let mut values = disk.start(ARCHIVED)?;
        let (judged, ..) = publish(&mut disk, &mut values, r#"{"v":40,"ts":1800000000000}"#, 1_800_000_000_000)?;
        assert!(matches!(judged, Judged::Blocked(_)), "{judged:?}");
        assert!(values.archives().waiting().messages >= healthy.archive.len() as u64);
    }
    Ok(())
}

#[test]
fn of_rows_that_failed_the_newest_is_written() -> Result<()> {
    let mut disk = Disk::default();
    let mut values = disk.start(RULES)?;
    let mut failing = |values: &mut Values, value: &str, now_ms: u64, persisted: bool| {
        values.publish(&mut request(format!("{{\"v\":{value},\"ts\":{now_ms}}}"), false), 1, now_ms);
        let step = values.take_writes();
        fail(values, step, persisted.then_some(&mut disk), now_ms);
        Ok::<_, anyhow::Error>(disk.rows.keys().filter(|(kind, _)| *kind == kind::ALARM).count())
    };
    failing(&mut values, "20", 1_000, false)?;
    assert_eq!(failing(&mut values, "120", 2_000, true)?, 1, "an alarm");
    assert_eq!(failing(&mut values, "21", 3_000, false)?, 1, "its end was not written");
    disk.persist(&mut values);
    assert!(disk.rows.keys().all(|(kind, _)| *kind != kind::ALARM), "the end counts");
    assert!(values.take_writes().is_empty());
    assert!(disk.start(RULES)?.alarms.due(4_000).is_empty());
    Ok(())
}

const KEPT: &str = "[[quality]]\nfilter = 't'\nreport = { min_interval_ms = 5_000 }\nrange = { max = 100 }\n";

#[test]
fn a_report_that_waited_leaves_once_its_row_is_on_disk() -> Result<()> {
    let (mut disk, keyring) = (Disk::default(), keyring());
    let mut values = disk.start(KEPT)?;
    assert_eq!(publish(&mut disk, &mut values, "20", 1_000)?.0, Judged::Send);
    assert_eq!(publish(&mut disk, &mut values, "30", 2_000)?.0, Judged::Acknowledge(Cause::TooSoon));
    assert_eq!(values.poll_timeout(), Some(6_000));
    values.handle_timeout(&keyring, 6_000);
    assert_eq!(values.poll_timeout(), Some(0), "at once");
    let step = values.take_due(6_000);
    fail(&mut values, step, None, 6_000);
    assert_eq!(values.poll_timeout(), Some(6_000 + RETRY_MS));
    assert!(disk.commit(values.take_due(6_500)).is_empty(), "not before the retry");
    let mut due = disk.commit(values.take_due(7_000));
    let report = due.pop().context("the report")?;
    assert_eq!((due.len(), &report.topic[..], &report.message.payload[..]), (0, "t", &b"30"[..]));
    assert_eq!(report.message.recorded, Some((Bytes::from_static(b"30"), 2_000)));

    // The connection does not take it: it waits on.
    values.not_sent_own(report, &Unsent::NotYet(Why::new(Cause::NoGroup, "no connection")), 7_000);
    assert_eq!(values.poll_timeout(), Some(8_000));
    let report = disk.commit(values.take_due(8_000)).pop().context("the report")?;
    // A newer one is sent meanwhile: this one has nothing to say any more.
    values.reports.send("t", 1);
    values.not_sent_own(report, &Unsent::NotYet(Why::new(Cause::NoGroup, "no connection")), 8_000);
    assert!(disk.commit(values.take_due(9_000)).is_empty());
    Ok(())
}

#[test]
fn an_alarm_is_told_once_it_is_on_disk_and_until_it_was_taken() -> Result<()> {
    let mut disk = Disk::default();
    let mut values = disk.start(KEPT)?;
    let mut request = request("120".into(), false);
    assert!(matches!(values.publish(&mut request, 1, 1_000), Judged::Blocked(_)));
    assert_eq!(values.poll_timeout(), Some(0));
    let step = values.take_due(1_000);
    fail(&mut values, step, None, 1_000);
    let told = |due: &[Due]| -> Vec<(String, bool, bool)> {
        due.iter().map(|due| (due.topic.clone(), due.message.retain, due.is_end())).collect()
    };
    let mut due = disk.commit(values.take_due(2_000));
    assert_eq!(told(&due), [("t/alarm/1111/t".to_owned(), true, false)]);
    values.not_sent_own(due.remove(0), &Unsent::NotYet(Why::new(Cause::NoGroup, "no key")), 2_000);
    assert_eq!(values.poll_timeout(), Some(3_000));
    // A new connection: no reason to wait.
    values.link_up();
    let mut due = disk.commit(values.take_due(2_100));
    values.sent(due.remove(0), 2_100);
    assert_eq!(values.poll_timeout(), None);

    assert_eq!(publish(&mut disk, &mut values, "20", 3_000)?.0, Judged::Send);
    let mut due = disk.commit(values.take_due(3_000));
    assert_eq!(told(&due), [("t/alarm/1111/t".to_owned(), false, true)]);
    values.sent(due.remove(0), 3_000);
    assert!(disk.commit(values.take_due(4_000)).is_empty());
    Ok(())
}

#[test]
fn a_clock_that_is_set_back_does_not_put_off_a_retry() -> Result<()> {
    let mut disk = Disk::default();
    let mut values = disk.start(KEPT)?;
    values.publish(&mut request("120".into(), false), 1, T0);
    let step = values.take_due(T0);
    fail(&mut values, step, None, T0);
    assert_eq!(disk.commit(values.take_due(T0 - 3_600_000)).len(), 1);
    Ok(())
}
