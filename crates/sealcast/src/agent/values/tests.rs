//! The publishing side without sockets: a proxy makes the requests, a folder on disk remembers.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use sealcast_mqtt::{
    Connack, Connect, Output, PacketId, Properties, Proxy, ProxyConfig, Publish, PublishRequest, Qos, RefuseCode,
    SessionState, Text, TopicName, Version, WillAnswer,
};

use super::*;
use crate::config::AgentFile;

const RULES: &str = "[[quality]]\nfilter = 't'\nrange = { max = 100 }\nstep = { max = 10, action = 'block' }\n\
                     time = { action = 'flag' }\nreport = { dead_band = 1 }\n\
                     [[publish]]\nfilter = 't'\ninput = { format = 'json', value = '$.v', time = '$.ts', time_format = 'ms' }\n";

fn values(dir: &Path) -> Result<Values> {
    with_rules(dir, RULES)
}

fn with_rules(dir: &Path, rules: &str) -> Result<Values> {
    let rules = toml::from_str::<AgentFile>(rules)?.validate()?.values;
    Values::new("1111".parse()?, rules, Arc::new(Store::create(dir)?), 1)
}

/// What a client's PUBLISH becomes in a proxy.
fn request(payload: String, dup: bool) -> Result<PublishRequest> {
    let mut proxy = Proxy::new(ProxyConfig::default());
    let connect = Connect {
        version: Version::V311,
        bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        properties: Properties::new(),
        client_id: Text::new("x")?,
        will: None,
        username: None,
        password: None,
    };
    proxy.handle_client(&connect.encode()?);
    while proxy.poll().is_some() {}
    proxy.accept(WillAnswer::AsIs, SessionState::default())?;
    let connack = Connack { session_present: false, code: 0, properties: Properties::new() };
    proxy.handle_broker(&connack.encode(Version::V311)?);
    let publish = Publish {
        dup,
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: Some(TopicName::new("t")?),
        packet_id: PacketId::new(1),
        properties: Properties::new(),
        payload: payload.into(),
    };
    proxy.handle_client(&publish.encode(Version::V311)?);
    std::iter::from_fn(|| proxy.poll())
        .find_map(|output| if let Output::Publish(request) = output { Some(request) } else { None })
        .context("a request")
}

fn judge(values: &Values, client: u64, value: &str, ts: u64, dup: bool) -> Result<(Judged, Option<String>)> {
    let mut request = request(format!("{{\"v\":{value},\"ts\":{ts}}}"), dup)?;
    let judged = values.publish(&mut request, client, ts);
    values.persist()?;
    Ok((judged, marks::read(&Bytes::copy_from_slice(&request.sealed_properties))?.0.check))
}

#[test]
fn what_may_not_have_arrived_is_sent_again_and_judged_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let values = values(dir.path())?;
    let pass = || (Judged::Send, Some("pass".to_owned()));
    assert_eq!(judge(&values, 1, "20", 1_000, false)?, pass());
    assert_eq!(judge(&values, 1, "20.5", 2_000, false)?.0, Judged::Acknowledge);
    // The same message again, its stamp with it, is no clock that stood still.
    assert_eq!(judge(&values, 1, "20.5", 2_000, true)?, pass());
    assert_eq!(judge(&values, 1, "20.5", 2_000, false)?, (Judged::Send, Some("flag:time".to_owned())));
    values.cut(2);
    assert_eq!(judge(&values, 1, "20.5", 3_000, false)?.0, Judged::Send, "the verdict is another one");
    assert_eq!(judge(&values, 1, "20.5", 4_000, false)?.0, Judged::Acknowledge);
    values.cut(1);
    assert_eq!(judge(&values, 3, "20.5", 5_000, false)?, pass());
    values.not_sent("t");
    assert_eq!(judge(&values, 3, "20.5", 6_000, false)?, pass());
    assert_eq!(judge(&values, 3, "20.5", 7_000, false)?.0, Judged::Acknowledge);
    // What waited for the smallest interval goes over the agent's own connection.
    values.state().settle("t", OWN_CONNECTION);
    values.cut(3);
    assert_eq!(judge(&values, 3, "20.5", 8_000, false)?.0, Judged::Acknowledge);
    values.link_refused();
    assert_eq!(judge(&values, 3, "20.5", 9_000, false)?.0, Judged::Send);
    Ok(())
}

#[test]
fn the_next_run_remembers_the_level_and_the_alarm() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let first = values(dir.path())?;
    judge(&first, 1, "20", 1_000, false)?;
    let (judged, _) = judge(&first, 1, "120", 2_000, false)?;
    let Judged::Blocked(blocked) = judged else { anyhow::bail!("{judged:?}") };
    assert_eq!(blocked.code, RefuseCode::ImplementationSpecific);
    assert!(blocked.reason.contains("120 is above"), "{blocked:?}");
    assert_eq!(blocked.summary, "blocked by range: 120 is above the largest allowed value 100");
    // As after SIGKILL: nothing is written at the end.
    drop(first);

    let second = values(dir.path())?;
    assert_eq!(second.state().alarms.due(3_000).len(), 1);
    let (judged, _) = judge(&second, 1, "40", 3_000, false)?;
    assert!(matches!(judged, Judged::Blocked(_)), "20 was the last accepted: {judged:?}");
    assert_eq!(judge(&second, 1, "21", 4_000, false)?, (Judged::Send, Some("pass".to_owned())));
    assert!(second.state().alarms.due(5_000).iter().all(|alarm| alarm.over_ms == Some(4_000)));
    drop(second);
    assert!(values(dir.path())?.state().alarms.due(6_000).is_empty());
    Ok(())
}

#[test]
fn an_alarm_ends_with_its_rules() -> Result<()> {
    let dir = tempfile::tempdir()?;
    judge(&values(dir.path())?, 1, "120", 1_000, false)?;
    let due = with_rules(dir.path(), "")?.state().alarms.due(2_000);
    assert!(matches!(&due[..], [alarm] if alarm.over_ms.is_some()), "{due:?}");
    Ok(())
}

#[test]
fn a_rule_that_only_passes_marks_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rules = "[[quality]]\nfilter = 't'\nrange = { max = 100, action = 'pass' }\n\
                 [[publish]]\nfilter = 't'\ninput = { format = 'json', value = '$.v' }\n";
    let values = with_rules(dir.path(), rules)?;
    assert_eq!(judge(&values, 1, "120", 1_000, false)?, (Judged::Send, Some("pass".to_owned())));
    Ok(())
}

/// A message of the topic as it is.
fn publish(values: &Values, payload: &str, now_ms: u64) -> Result<(Judged, String, marks::Said)> {
    let mut request = request(payload.to_owned(), false)?;
    let judged = values.publish(&mut request, 1, now_ms);
    values.persist()?;
    let payload = String::from_utf8(request.payload.to_vec())?;
    Ok((judged, payload, marks::read(&Bytes::copy_from_slice(&request.sealed_properties))?.0))
}

#[test]
fn case_04_messages_without_the_value_pass_are_flagged_or_blocked() -> Result<()> {
    const INPUT: &str =
        "[[publish]]\nfilter = 't'\ninput = { format = 'json', value = '$.temperature', type = 'number' }\n";
    const BY_MISSING: &str = "blocked by missing: the message has no value";
    const OTHERS: [&str; 3] = [
        r#"{"battery":100,"voltage":3015}"#,
        r#"{"battery":93.5,"humidity":43.5,"linkquality":255,"temperature":null}"#,
        r#"{"state":"ON","linkquality":99}"#,
    ];
    let check = |rules: &str, output: &str, expected: [&str; 3]| {
        let dir = tempfile::tempdir()?;
        let rules = format!("[[quality]]\nfilter = 't'\nrange = {{ min = -20, max = 60 }}\n{rules}\n{INPUT}{output}");
        let values = with_rules(dir.path(), &rules)?;
        for (sent, expected) in OTHERS.into_iter().zip(expected) {
            let (judged, payload, said) = publish(&values, sent, 1_000)?;
            let got = match judged {
                Judged::Blocked(blocked) => blocked.summary,
                Judged::Acknowledge => "not sent".to_owned(),
                Judged::Send => {
                    assert!(said.empty, "{rules}");
                    format!(
                        "{} {}",
                        said.check.unwrap_or_default(),
                        if payload == sent { "as it was" } else { &payload }
                    )
                }
            };
            assert_eq!(got, expected, "{rules} {sent}");
        }
        Ok::<_, anyhow::Error>(())
    };
    check("", "", ["pass as it was"; 3])?;
    check("missing = 'flag'", "", ["flag:missing as it was", "pass as it was", "flag:missing as it was"])?;
    check("missing = 'block'", "", [BY_MISSING, "pass as it was", BY_MISSING])?;
    check("null = 'flag'", "", ["pass as it was", "flag:null as it was", "pass as it was"])?;
    check("null = 'block'", "", ["pass as it was", "blocked by null: the value is null", "pass as it was"])?;
    // As a value alone there is nothing to write; JSON has a word for it.
    check("", "output = { format = 'number' }", ["not sent"; 3])?;
    check("missing = 'flag'", "output = { format = 'json' }", ["not sent", r#"pass {"value":null}"#, "not sent"])?;
    check("missing = 'block'", "output = { format = 'number' }", [BY_MISSING, "not sent", BY_MISSING])
}

#[test]
fn case_04_a_message_without_the_value_ends_no_alarm_and_is_no_report() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rules = "[[quality]]\nfilter = 't'\nrange = { max = 60 }\nreport = { dead_band = 1 }\nnull = 'pass'\n\
                 [[publish]]\nfilter = 't'\ninput = { format = 'json', value = '$.v' }\n";
    let values = with_rules(dir.path(), rules)?;
    assert_eq!(publish(&values, r#"{"v":20}"#, 1_000)?.0, Judged::Send);
    assert_eq!(publish(&values, r#"{"v":20.5}"#, 2_000)?.0, Judged::Acknowledge);
    assert!(matches!(publish(&values, r#"{"v":70}"#, 3_000)?.0, Judged::Blocked(_)));
    let over = || values.state().alarms.due(10_000).iter().any(|alarm| alarm.over_ms.is_some());
    for other in [r#"{"battery":1}"#, r#"{"v":null}"#] {
        assert_eq!(publish(&values, other, 4_000)?.0, Judged::Send);
        assert!(!over(), "{other}");
    }
    assert_eq!(publish(&values, r#"{"v":20.1}"#, 5_000)?.0, Judged::Send, "the first good one after an alarm");
    assert!(over());
    assert_eq!(publish(&values, r#"{"v":20.2}"#, 6_000)?.0, Judged::Acknowledge);
    // A document that is none is a fault, as ever.
    assert!(matches!(publish(&values, "offline", 7_000)?.0, Judged::Blocked(_)));
    assert!(matches!(publish(&values, r#"{"v":"unavailable","x":{}"#, 7_000)?.0, Judged::Blocked(_)));
    Ok(())
}

#[test]
fn what_a_full_disk_does_not_take_is_written_when_it_has_room() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rules = "[[quality]]\nfilter = 't'\nstep = { max = 10, action = 'block' }\n\
                 archive = { deviation = 0.1, max_delay_ms = 1000 }\n\
                 [[publish]]\nfilter = 't'\ninput = { format = 'json', value = '$.v', time = '$.ts' }\n";
    let pages = |values: &Values, most: &str| -> Result<()> {
        let pragma = format!("PRAGMA max_page_count = {most}");
        values.store.read(|db| db.query_row(&pragma, [], |_| Ok(())))
    };
    let values = with_rules(dir.path(), rules)?;
    pages(&values, "1")?;
    // The file has some free room: it is filled first.
    let full = (0..2_000_u64).find_map(|at| {
        let name = format!("filler/{at}/{}", "x".repeat(3_000));
        let row = ValueRow { kind: 9, key: name, value: Some(vec![0; 3_000]) };
        values.store.write_values(&[row], &[]).err()
    });
    assert!(full.is_some_and(|error| format!("{error:#}").contains("full")) && values.store.is_failing());
    let big = "9".repeat(30);
    let mut failed = 0;
    for at in 0..200_u64 {
        let value = if at % 2 == 0 { "20" } else { "21" };
        let mut request =
            request(format!("{{\"v\":{value}.{at:03}{big},\"ts\":{}}}", 1_700_000_000_000 + at * 1000), false)?;
        values.publish(&mut request, 1, 1_700_000_000_000 + at * 1000);
        failed += u32::from(values.persist().is_err());
    }
    assert!(failed > 0, "the disk was full");
    pages(&values, "1000000")?;
    assert!(values.store.probe() && !values.store.is_failing());
    values.persist()?;
    let waiting: i64 = values.store.read(|db| db.query_row("SELECT count(*) FROM archive", [], |row| row.get(0)))?;
    assert!(waiting > 190, "{waiting} points of 200 readings, each another value");
    drop(values);
    let again = with_rules(dir.path(), rules)?;
    let (judged, ..) = publish(&again, r#"{"v":40,"ts":1800000000000}"#, 1_800_000_000_000)?;
    assert!(matches!(judged, Judged::Blocked(_)), "the level of before is on the disk: {judged:?}");
    Ok(())
}

#[test]
fn what_cannot_be_read_says_where() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let values = values(dir.path())?;
    let mut request = request("{\"v\":1,}".into(), false)?;
    let Judged::Blocked(blocked) = values.publish(&mut request, 1, 1) else { anyhow::bail!("not blocked") };
    assert_eq!(blocked.code, RefuseCode::PayloadFormatInvalid);
    assert!(blocked.reason.contains("at byte 7"), "{}", blocked.reason);
    Ok(())
}
