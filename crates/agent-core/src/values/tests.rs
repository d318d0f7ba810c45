//! By calls, on a disk that can be full: a proxy makes the requests of clients.

mod arriving;
mod disk;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use sealcast_mqtt::{RefuseCode, TopicName};
use sealcast_quality::{Action, RuleFilter, RuleSet, TopicSpec};
use sealcast_reading::{InputConfig, OutputConfig};
use serde::Deserialize;

use super::*;
use crate::{
    ByFilter, Cause, Uncommitted,
    testing::{keyring, request},
};

const RULES: &str = "[[quality]]\nfilter = 't'\nrange = { max = 100 }\nstep = { max = 10, action = 'block' }\n\
                     time = { action = 'flag' }\nreport = { dead_band = 1 }\n\
                     [[publish]]\nfilter = 't'\ninput = { format = 'json', value = '$.v', time = '$.ts', time_format = 'ms' }\n";

/// The tables of an agent's configuration that are about values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    quality: Vec<TopicSpec>,
    #[serde(default)]
    publish: Vec<Table>,
    #[serde(default)]
    receive: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    filter: String,
    input: Option<InputConfig>,
    output: Option<OutputConfig>,
    #[serde(default)]
    flagged: Flagged,
    #[serde(default)]
    flagged_v5: Flagged,
    #[serde(default)]
    require_checked: bool,
}

pub(super) fn rules(text: &str) -> Result<Arc<ValueRules>> {
    let File { quality, publish, receive } = toml::from_str(text)?;
    let publish = publish.into_iter().map(|table| {
        let format = Format::new(table.input, table.output)?.context("a format")?;
        Ok((table.filter.parse::<RuleFilter>()?, format))
    });
    let receive = receive.into_iter().map(|table| {
        let receive = Receive {
            format: Format::new(table.input, table.output)?,
            flagged: table.flagged,
            flagged_v5: table.flagged_v5,
            divert_to: "flagged".to_owned(),
            require_checked: table.require_checked,
        };
        Ok((table.filter.parse::<RuleFilter>()?, receive))
    });
    let publish = ByFilter::new(publish.collect::<Result<_>>()?);
    let receive = ByFilter::new(receive.collect::<Result<_>>()?);
    Ok(Arc::new(ValueRules::new(Arc::new(RuleSet::new(quality)?), publish, receive, None)))
}

/// What an agent's folder holds of values.
#[derive(Default)]
struct Disk {
    rows: BTreeMap<(u8, String), Vec<u8>>,
    archive: Vec<ArchiveMessage>,
    last_archive_id: i64,
}

impl Disk {
    /// An agent that starts on it.
    fn start(&self, rules: &str) -> Result<Values> {
        let rows = self.rows.iter();
        let rows =
            rows.map(|((kind, key), value)| ValueRow { kind: *kind, key: key.clone(), value: Some(value.clone()) });
        let rows: Vec<_> = rows.collect();
        let rules = super::tests::rules(rules)?;
        let mut waiting = Amount::default();
        self.archive.iter().for_each(|message| waiting.add(Amount::of_one(message.payload.len() as u64)));
        let archive = ArchiveOnDisk { waiting, last_id: self.last_archive_id };
        let mut values = Values::new("1111".parse()?, rules, &rows, archive, 1)?;
        values.handle_timeout(&keyring(), 1);
        Ok(values)
    }

    fn write(&mut self, writes: &[ValueWrite]) {
        for write in writes {
            match write.clone() {
                ValueWrite::Row(ValueRow { kind, key, value: Some(value) }) => {
                    drop(self.rows.insert((kind, key), value))
                }
                ValueWrite::Row(ValueRow { kind, key, value: None }) => drop(self.rows.remove(&(kind, key))),
                ValueWrite::Archive(message) if message.id > self.last_archive_id => {
                    self.last_archive_id = message.id;
                    self.archive.push(message);
                }
                ValueWrite::Archive(_) => {}
            }
        }
    }

    /// Writes a step, and gives what follows.
    fn commit(&mut self, step: Step<ValueWrite, Due>) -> Vec<Due> {
        let written = |writes: &[ValueWrite]| {
            self.write(writes);
            Ok::<_, ()>(())
        };
        step.commit(written).unwrap()
    }

    fn persist(&mut self, values: &mut Values) {
        let step = values.take_writes();
        assert!(self.commit(step).is_empty(), "nothing follows what clients judged");
    }
}

/// A write that failed, after it came to the disk if there is one.
fn fail(values: &mut Values, step: Step<ValueWrite, Due>, persisted: Option<&mut Disk>, now_ms: u64) {
    let failed = step.commit(|writes| {
        if let Some(disk) = persisted {
            disk.write(writes);
        }
        Err("full")
    });
    let Uncommitted { step, .. } = failed.unwrap_err();
    values.put_back(step, now_ms);
}

fn judge(
    disk: &mut Disk,
    values: &mut Values,
    client: u64,
    value: &str,
    ts: u64,
    dup: bool,
) -> Result<(Judged, Option<String>)> {
    let mut request = request(format!("{{\"v\":{value},\"ts\":{ts}}}"), dup);
    let judged = values.publish(&mut request, client, ts);
    disk.persist(values);
    Ok((judged, marks::read(&Bytes::copy_from_slice(&request.sealed_properties))?.0.check))
}

#[test]
fn what_may_not_have_arrived_is_sent_again_and_judged_once() -> Result<()> {
    let mut disk = Disk::default();
    let mut values = disk.start(RULES)?;
    let pass = || (Judged::Send, Some("pass".to_owned()));
    assert_eq!(judge(&mut disk, &mut values, 1, "20", 1_000, false)?, pass());
    assert_eq!(judge(&mut disk, &mut values, 1, "20.5", 2_000, false)?.0, Judged::Acknowledge(Cause::Unchanged));
    // The same message again, its stamp with it, is no clock that stood still.
    assert_eq!(judge(&mut disk, &mut values, 1, "20.5", 2_000, true)?, pass());
    assert_eq!(judge(&mut disk, &mut values, 1, "20.5", 2_000, false)?, (Judged::Send, Some("flag:time".to_owned())));
    values.cut(2);
    assert_eq!(judge(&mut disk, &mut values, 1, "20.5", 3_000, false)?.0, Judged::Send, "the verdict is another one");
    assert_eq!(judge(&mut disk, &mut values, 1, "20.5", 4_000, false)?.0, Judged::Acknowledge(Cause::Unchanged));
    values.cut(1);
    assert_eq!(judge(&mut disk, &mut values, 3, "20.5", 5_000, false)?, pass());
    values.not_sent("t");
    assert_eq!(judge(&mut disk, &mut values, 3, "20.5", 6_000, false)?, pass());
    assert_eq!(judge(&mut disk, &mut values, 3, "20.5", 7_000, false)?.0, Judged::Acknowledge(Cause::Unchanged));
    // What waited for the smallest interval goes over the agent's own connection.
    values.reports.send("t", OWN_CONNECTION);
    values.cut(3);
    assert_eq!(judge(&mut disk, &mut values, 3, "20.5", 8_000, false)?.0, Judged::Acknowledge(Cause::Unchanged));
    values.link_refused();
    assert_eq!(judge(&mut disk, &mut values, 3, "20.5", 9_000, false)?.0, Judged::Send);
    Ok(())
}

#[test]
fn readings_of_a_shared_topic_are_told_with_what_the_checks_found() -> Result<()> {
    let disk = &mut Disk::default();
    let flags = "[[quality]]\nfilter = 't'\nrange = { max = 100 }\nstep = { max = 10, action = 'flag' }\n";
    let start = |text: &str, shared: &str| -> Result<Values> {
        let rules = Arc::unwrap_or_clone(rules(text)?).with_shared(vec![shared.parse()?]);
        Ok(Values::new("1111".parse()?, Arc::new(rules), &[], ArchiveOnDisk::default(), 1)?)
    };
    let publish = |disk: &mut Disk, values: &mut Values, payload: &str, now_ms| {
        values.publish(&mut request(payload.to_owned(), false), 1, now_ms);
        disk.persist(values);
    };
    let mut values = start(flags, "+")?;
    for (at, payload) in ["20", "40", "120", "no number"].into_iter().enumerate() {
        publish(disk, &mut values, payload, 1_000 + at as u64);
    }
    let told: Vec<_> = values.take_shared();
    let found: Vec<_> = told.iter().map(|one| (one.at_ms, one.value, one.action, one.reason.as_deref())).collect();
    let step = "step: 40 is 20 from the last accepted 20, at most 10 is allowed";
    let range = "range: 120 is above the largest allowed value 100";
    assert_eq!(
        found,
        [
            (1_000, 20.0, Action::Pass, None),
            (1_001, 40.0, Action::Flag, Some(step)),
            (1_002, 120.0, Action::Block, Some(range)),
        ]
    );
    let limits = told[0].limits;
    assert_eq!((limits.min, limits.max, limits.step), (None, Some("100".parse()?), Some("10".parse()?)));
    assert!(values.take_shared().is_empty(), "told once");

    let mut without_rules = start("", "t")?;
    publish(disk, &mut without_rules, "20", 1_000);
    publish(disk, &mut without_rules, "no number", 2_000);
    assert_eq!(without_rules.take_shared().len(), 1);
    let mut not_shared = start(flags, "other")?;
    publish(disk, &mut not_shared, "20", 1_000);
    assert!(not_shared.take_shared().is_empty());
    for at in 0..1_000 {
        publish(disk, &mut without_rules, "20", at);
    }
    let (told, last) = (without_rules.take_shared(), 999);
    assert!(told.len() < 1_000 && told.last().is_some_and(|one| one.at_ms == last), "the newest are kept");
    Ok(())
}

#[test]
fn the_next_run_remembers_the_level_and_the_alarm() -> Result<()> {
    let mut disk = Disk::default();
    let mut first = disk.start(RULES)?;
    judge(&mut disk, &mut first, 1, "20", 1_000, false)?;
    let (judged, _) = judge(&mut disk, &mut first, 1, "120", 2_000, false)?;
    let Judged::Blocked(blocked) = judged else { anyhow::bail!("{judged:?}") };
    assert_eq!(blocked.code, RefuseCode::ImplementationSpecific);
    assert!(blocked.reason.contains("120 is above"), "{blocked:?}");
    assert_eq!(blocked.summary, "blocked by range: 120 is above the largest allowed value 100");
    // As after SIGKILL: nothing is written at the end.
    drop(first);

    let mut second = disk.start(RULES)?;
    assert_eq!(second.alarms.due(3_000).len(), 1);
    let (judged, _) = judge(&mut disk, &mut second, 1, "40", 3_000, false)?;
    assert!(matches!(judged, Judged::Blocked(_)), "20 was the last accepted: {judged:?}");
    assert_eq!(judge(&mut disk, &mut second, 1, "21", 4_000, false)?, (Judged::Send, Some("pass".to_owned())));
    assert!(second.alarms.due(5_000).iter().all(|alarm| alarm.over_ms == Some(4_000)));
    drop(second);
    assert!(disk.start(RULES)?.alarms.due(6_000).is_empty());
    Ok(())
}

#[test]
fn an_alarm_ends_with_its_rules() -> Result<()> {
    let mut disk = Disk::default();
    {
        let mut values = disk.start(RULES)?;
        judge(&mut disk, &mut values, 1, "120", 1_000, false)?;
    }
    let due = disk.start("")?.alarms.due(2_000);
    assert!(matches!(&due[..], [alarm] if alarm.over_ms.is_some()), "{due:?}");
    Ok(())
}

#[test]
fn a_rule_that_only_passes_marks_nothing() -> Result<()> {
    let mut disk = Disk::default();
    let rules = "[[quality]]\nfilter = 't'\nrange = { max = 100, action = 'pass' }\n\
                 [[publish]]\nfilter = 't'\ninput = { format = 'json', value = '$.v' }\n";
    let mut values = disk.start(rules)?;
    assert_eq!(judge(&mut disk, &mut values, 1, "120", 1_000, false)?, (Judged::Send, Some("pass".to_owned())));
    Ok(())
}

/// A message of the topic as it is.
fn publish(disk: &mut Disk, values: &mut Values, payload: &str, now_ms: u64) -> Result<(Judged, String, marks::Said)> {
    let mut request = request(payload.to_owned(), false);
    let judged = values.publish(&mut request, 1, now_ms);
    disk.persist(values);
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
        let mut disk = Disk::default();
        let rules = format!("[[quality]]\nfilter = 't'\nrange = {{ min = -20, max = 60 }}\n{rules}\n{INPUT}{output}");
        let mut values = disk.start(&rules)?;
        for (sent, expected) in OTHERS.into_iter().zip(expected) {
            let (judged, payload, said) = publish(&mut disk, &mut values, sent, 1_000)?;
            let got = match judged {
                Judged::Blocked(blocked) => blocked.summary,
                Judged::Acknowledge(_) => "not sent".to_owned(),
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
    let mut disk = Disk::default();
    let rules = "[[quality]]\nfilter = 't'\nrange = { max = 60 }\nreport = { dead_band = 1 }\nnull = 'pass'\n\
                 [[publish]]\nfilter = 't'\ninput = { format = 'json', value = '$.v' }\n";
    let mut values = disk.start(rules)?;
    assert_eq!(publish(&mut disk, &mut values, r#"{"v":20}"#, 1_000)?.0, Judged::Send);
    assert_eq!(publish(&mut disk, &mut values, r#"{"v":20.5}"#, 2_000)?.0, Judged::Acknowledge(Cause::Unchanged));
    assert!(matches!(publish(&mut disk, &mut values, r#"{"v":70}"#, 3_000)?.0, Judged::Blocked(_)));
    let over = |values: &Values| values.alarms.due(10_000).iter().any(|alarm| alarm.over_ms.is_some());
    for other in [r#"{"battery":1}"#, r#"{"v":null}"#] {
        assert_eq!(publish(&mut disk, &mut values, other, 4_000)?.0, Judged::Send);
        assert!(!over(&values), "{other}");
    }
    assert_eq!(
        publish(&mut disk, &mut values, r#"{"v":20.1}"#, 5_000)?.0,
        Judged::Send,
        "the first good one after an alarm"
    );
    assert!(over(&values));
    assert_eq!(publish(&mut disk, &mut values, r#"{"v":20.2}"#, 6_000)?.0, Judged::Acknowledge(Cause::Unchanged));
    // A document that is none is a fault, as ever.
    assert!(matches!(publish(&mut disk, &mut values, "offline", 7_000)?.0, Judged::Blocked(_)));
    assert!(matches!(publish(&mut disk, &mut values, r#"{"v":"unavailable","x":{}"#, 7_000)?.0, Judged::Blocked(_)));
    Ok(())
}

#[test]
fn what_cannot_be_read_says_where() -> Result<()> {
    let mut values = Disk::default().start(RULES)?;
    let mut request = request("{\"v\":1,}".into(), false);
    let Judged::Blocked(blocked) = values.publish(&mut request, 1, 1) else { anyhow::bail!("not blocked") };
    assert_eq!(blocked.code, RefuseCode::PayloadFormatInvalid);
    assert!(blocked.reason.contains("at byte 7"), "{}", blocked.reason);
    Ok(())
}
