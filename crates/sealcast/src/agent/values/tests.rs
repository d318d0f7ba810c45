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
    Values::new("1111".parse()?, rules, Arc::new(Store::open(dir)?), 1)
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
    assert!(blocked.reason.contains("120 is above") && !blocked.summary.contains("120"), "{blocked:?}");
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
