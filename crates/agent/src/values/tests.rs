//! The lock around the values, on a real disk.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use sealcast_agent_core::{
    ByFilter, Freshness, Keyring, MaxAge, Own, Stale,
    values::{Amount, ArchiveMessage, Judged, ValueRow},
};
use sealcast_identity::SigningKey;
use sealcast_ledger::{Genesis, Hash, LedgerId, Replica};
use sealcast_mqtt::{
    Connack, Connect, Output as Proxied, PacketId, Properties, Proxy, ProxyConfig, Publish, PublishRequest, Qos,
    SessionState, Text, TopicName, Version, WillAnswer,
};

use super::*;
use crate::config::AgentFile;

fn with_rules(dir: &Path, rules: &str) -> Result<Values> {
    let rules = toml::from_str::<AgentFile>(rules)?.validate()?.values;
    Values::new("1111".parse()?, rules, Arc::new(Store::create(dir)?), 1)
}

/// One that has read nothing of the ledger.
fn keyring() -> Result<Keyring> {
    let (key, device) = (Arc::new(SigningKey::generate()?), "1111".parse()?);
    let id = LedgerId { chain_id: 1, address: [1; 20] };
    let (number, certificate) = (id.number_of(&device), Hash::from([0; 32]));
    let genesis = Genesis { id, ca: *key.public(), operator: *key.public() };
    let default = MaxAge { live_ms: None, retained_ms: None, offline_ms: None, stale: Stale::Refuse };
    let freshness = Freshness { clock_tolerance_ms: 2_000, default, topics: ByFilter::default() };
    Ok(Keyring::new(Own { device, number, certificate, key }, vec![], freshness, Replica::new(genesis), []))
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
        .find_map(|output| if let Proxied::Publish(request) = output { Some(request) } else { None })
        .context("a request")
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
            request(format!("{{\"v\":{value}.{at:03}{big},\"ts\":{}}}", 1_700_000_000_000 + at * 1000), false)?;
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
    let mut request = request(r#"{"v":40,"ts":1800000000000}"#.to_owned(), false)?;
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
        let mut request = request(payload.to_owned(), false)?;
        Ok::<_, anyhow::Error>(values.with(|values| values.publish(&mut request, 1, now_ms())))
    };
    let woken = || tokio::time::timeout(Duration::ZERO, values.wake.notified());
    let keyring = keyring()?;
    values.with(|values| values.handle_timeout(&keyring, now_ms()));
    assert!(values.pause(None) > Duration::from_secs(50));
    assert_eq!(publish("20")?, Judged::Send);
    assert!(woken().await.is_err(), "nothing is due");
    assert_eq!(publish("30")?, Judged::Acknowledge);
    assert!(woken().await.is_ok(), "it waits for five seconds");
    let pause = values.pause(None);
    assert!(pause <= Duration::from_secs(5), "{pause:?}");
    assert_eq!(publish("40")?, Judged::Acknowledge);
    assert!(woken().await.is_err(), "nothing is due before that");
    assert!(matches!(publish("120")?, Judged::Blocked(_)));
    assert!(woken().await.is_ok(), "an alarm is due at once");
    Ok(())
}
