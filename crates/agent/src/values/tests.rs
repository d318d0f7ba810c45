//! The lock around the values, on a real disk.

use std::{path::Path, time::Duration};

use anyhow::Result;
use sealcast_agent_core::{
    Cause,
    testing::{keyring, request},
    values::{Amount, ArchiveMessage, Judged, ValueRow},
};

use super::*;
use crate::config::AgentFile;

fn with_rules(dir: &Path, rules: &str) -> Result<Values> {
    let rules = toml::from_str::<AgentFile>(rules)?.validate()?.values;
    Values::new("1111".parse()?, rules, Arc::new(Store::create(dir)?), Arc::new(Events::new(dir)), 1)
}

#[test]
fn what_a_full_disk_does_not_take_is_written_when_it_has_room() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rules = "[[quality]]\nfilter = 't'\nstep = { max = 10, action = 'block' }\n\
                 archive = { deviation = 0.1, max_delay_ms = 1000 }\n\
                 [[publish]]\nfilter = 't'\ninput = { format = 'json', value = '$.v', time = '$.ts' }\n";
    let values = with_rules(dir.path(), rules)?;
    values.store.limit_pages(1)?;
    // The file has some free room: it is filled first.
    let full = (0..2_000_u64).find_map(|at| {
        let name = format!("filler/{at}/{}", "x".repeat(3_000));
        let row = ValueRow { kind: 9, key: name, value: Some(vec![0; 3_000]) };
        values.store.write_values(&[ValueWrite::Row(row)]).err()
    });
    assert!(full.is_some_and(|error| format!("{error:#}").contains("full")) && values.store.is_failing());
    let big = "9".repeat(30);
    let mut failed = 0;
    for at in 0..200_u64 {
        let value = if at % 2 == 0 { "20" } else { "21" };
        let mut request =
            request(format!("{{\"v\":{value}.{at:03}{big},\"ts\":{}}}", 1_700_000_000_000 + at * 1000), false);
        values.with(|values| values.publish(&mut request, 1, 1_700_000_000_000 + at * 1000));
        failed += u32::from(values.persist().is_err());
    }
    assert!(failed > 0, "the disk was full");
    values.store.limit_pages(1_000_000)?;
    assert!(values.store.probe() && !values.store.is_failing());
    values.persist()?;
    let waiting = values.store.archive()?.waiting;
    assert!(waiting.messages > 190, "{waiting:?} of 200 readings, each another value");
    drop(values);
    let again = with_rules(dir.path(), rules)?;
    let mut request = request(r#"{"v":40,"ts":1800000000000}"#.to_owned(), false);
    let judged = again.with(|values| values.publish(&mut request, 1, 1_800_000_000_000));
    assert!(matches!(judged, Judged::Blocked(_)), "the level of before is on the disk: {judged:?}");
    Ok(())
}

#[test]
fn what_waits_on_disk_is_counted_and_so_is_what_leaves_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::create(dir.path())?;
    let message = |id, payload: &[u8]| {
        let (topic, payload) = ("t".to_owned(), payload.to_owned());
        ValueWrite::Archive(ArchiveMessage { id, topic, props: bytes::Bytes::new(), payload })
    };
    assert_eq!(store.archive()?.waiting, Amount::default());
    store.write_values(&[message(1, b"1234567"), message(2, b"12345")])?;
    assert_eq!(store.archive()?.waiting, Amount { messages: 2, bytes: 12 });
    assert_eq!(store.forget_archive(&[2, 3])?, Amount::of_one(5), "there is no third");
    assert_eq!(store.forget_archive(&[2])?, Amount::default(), "it was forgotten");
    assert_eq!(store.archive()?.waiting, Amount::of_one(7));
    Ok(())
}

/// The agent's own task sleeps until what is due first; whoever makes something due before that wakes it.
#[tokio::test]
async fn what_becomes_due_earlier_wakes_the_agents_own_task() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rules = "[[quality]]\nfilter = 't'\nrange = { max = 100 }\nreport = { min_interval_ms = 5_000 }\n";
    let values = with_rules(dir.path(), rules)?;
    let publish = |payload: &str| {
        let mut request = request(payload.to_owned(), false);
        Ok::<_, anyhow::Error>(values.with(|values| values.publish(&mut request, 1, now_ms())))
    };
    let woken = || tokio::time::timeout(Duration::ZERO, values.wake.notified());
    let keyring = keyring();
    values.with(|values| values.handle_timeout(&keyring, now_ms()));
    assert!(values.pause(None) > Duration::from_secs(50));
    assert_eq!(publish("20")?, Judged::Send);
    assert!(woken().await.is_err(), "nothing is due");
    assert_eq!(publish("30")?, Judged::Acknowledge(Cause::TooSoon));
    assert!(woken().await.is_ok(), "it waits for five seconds");
    let pause = values.pause(None);
    assert!(pause <= Duration::from_secs(5), "{pause:?}");
    assert_eq!(publish("40")?, Judged::Acknowledge(Cause::TooSoon));
    assert!(woken().await.is_err(), "nothing is due before that");
    assert!(matches!(publish("120")?, Judged::Blocked(_)));
    assert!(woken().await.is_ok(), "an alarm is due at once");
    Ok(())
}
