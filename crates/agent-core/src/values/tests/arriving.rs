//! The receiving side: verdicts, what is diverted, and what that means for the fail-safe.

use super::{super::retry::RETRY_MS, *};

const RECEIVE: &str = "[[quality]]\nfilter = 't'\n\
                       fail_safe = { on_silence = { after_ms = 5_000, publish = 'closed' }, \
                       on_blocked = { after_ms = 500, publish = 'open', topic = 'valve' } }\n\
                       [[receive]]\nfilter = 't'\nflagged = 'divert'\n\
                       [[receive]]\nfilter = 'old'\nflagged = 'drop'\n\
                       [[receive]]\nfilter = 'checked'\nrequire_checked = true\n\
                       [[receive]]\nfilter = 'json'\ninput = { format = 'json', value = '$.v' }\noutput = { format = 'number' }\n";

struct Sent {
    topic: &'static str,
    payload: &'static str,
    props: Properties,
    stale: bool,
    retained: bool,
    age_ms: u64,
}

fn sent(topic: &'static str, payload: &'static str, check: Option<&str>) -> Sent {
    let mut props = Properties::new();
    if let Some(check) = check {
        marks::add(&mut props, marks::CHECK, check);
    }
    Sent { topic, payload, props, stale: false, retained: false, age_ms: 0 }
}

/// What a client gets, in short, and what follows at once.
fn arrive(values: &mut Values, sent: &Sent, sees_flags: bool, now_ms: u64) -> Result<(String, Vec<String>)> {
    let (topic, sender) = (TopicName::new(sent.topic)?, "1112".parse()?);
    let arrived = arrived(sent, &topic, &sender, now_ms)?;
    let got = match values.arrive(&arrived, sees_flags, now_ms) {
        Incoming::Deliver(deliver) => {
            let extra: Vec<_> = deliver.extra.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            format!("{}{}", std::str::from_utf8(&deliver.payload)?, extra.concat())
        }
        Incoming::Withhold(why) => why.text,
        Incoming::Diverted => "diverted".to_owned(),
        Incoming::Nothing => "nothing".to_owned(),
    };
    Ok((got, outputs(values)))
}

fn arrived<'a>(sent: &'a Sent, topic: &'a TopicName, sender: &'a DeviceId, now_ms: u64) -> Result<Arrived<'a>> {
    Ok(Arrived {
        topic,
        sender,
        tolerance_ms: 2_000,
        frame: sent.payload.as_bytes(),
        payload: Bytes::from_static(sent.payload.as_bytes()),
        props: sent.props.encode()?,
        sealed_ms: now_ms - sent.age_ms,
        age_ms: sent.age_ms,
        retained: sent.retained,
        stale: sent.stale,
    })
}

fn outputs(values: &mut Values) -> Vec<String> {
    let text = |output| match output {
        Output::Local(Local { topic, payload, .. }) => format!("{topic} {}", String::from_utf8_lossy(&payload)),
        Output::Refused { topic, why, .. } => format!("{topic} {}", why.cause),
        Output::FailSafe { output: FailSafeOutput::Publish { .. }, .. } => "began".to_owned(),
        Output::FailSafe { output: FailSafeOutput::Ended { .. }, .. } => "ended".to_owned(),
    };
    std::iter::from_fn(|| values.poll_output()).map(text).collect()
}

#[test]
fn what_an_application_gets() -> Result<()> {
    let mut values = Disk::default().start(RECEIVE)?;
    let mut check = |sent: &Sent, v3: &str, v5: &str| {
        for (sees_flags, expected) in [(false, v3), (true, v5)] {
            assert_eq!(arrive(&mut values, sent, sees_flags, 10_000)?.0, expected, "{} {sees_flags}", sent.payload);
        }
        Ok::<_, anyhow::Error>(())
    };
    check(&sent("t", "20", None), "20", "20")?;
    check(&sent("t", "21", Some("pass")), "21 sealcast-check=pass", "21 sealcast-check=pass")?;
    check(&sent("t", "99", Some("flag:range")), "diverted", "99 sealcast-check=flag:range")?;
    let dropped = "1112: flag:range: flagged values are dropped here";
    check(&sent("old", "99", Some("flag:range")), dropped, "99 sealcast-check=flag:range")?;
    check(&sent("checked", "20", Some("pass")), "20 sealcast-check=pass", "20 sealcast-check=pass")?;
    let unchecked = "1112: its sender's agent did not check it, and `require_checked` is set";
    check(&sent("checked", "20", None), unchecked, unchecked)?;
    let stale = Sent { stale: true, retained: true, age_ms: 9_000, ..sent("other", "7", Some("flag:step")) };
    let too_old = "1112: too old for a client that could not see that it is";
    check(&stale, too_old, "7 sealcast-age-ms=9000 sealcast-check=flag:step,stale")?;
    check(&sent("json", r#"{"v":20.50}"#, None), "20.50", "20.50")?;
    check(&sent("json", r#"{"w":1}"#, None), "nothing", "nothing")?;
    let broken = arrive(&mut values, &sent("json", "{", None), true, 10_000)?.0;
    assert!(broken.starts_with("1112: it cannot be converted: "), "{broken}");
    Ok(())
}

#[test]
fn a_flagged_message_is_diverted_once_whoever_gets_it() -> Result<()> {
    let mut values = Disk::default().start(RECEIVE)?;
    let (one, other) = (sent("t", "99", Some("flag:range")), sent("t", "98", Some("flag:range")));
    assert_eq!(arrive(&mut values, &one, false, 1_000)?, ("diverted".into(), vec!["flagged/t 99".into()]));
    assert_eq!(arrive(&mut values, &one, false, 1_001)?, ("diverted".into(), vec![]), "another client's copy");
    assert_eq!(arrive(&mut values, &other, false, 1_002)?.1, ["flagged/t 98"]);
    Ok(())
}

#[test]
fn the_fail_safe_begins_by_silence_and_by_what_is_held_back_and_ends_by_a_good_value() -> Result<()> {
    let (mut values, keyring) = (Disk::default().start(RECEIVE)?, keyring());
    assert_eq!(values.poll_timeout(), Some(5_001), "nothing came since it started");
    values.handle_timeout(&keyring, 5_001);
    assert_eq!(outputs(&mut values), ["t closed", "began"], "the valve first");
    assert_eq!(values.standing().len(), 1);
    let old = Sent { retained: true, age_ms: 6_000, ..sent("t", "20", None) };
    assert_eq!(arrive(&mut values, &old, true, 7_000)?.1, [""; 0], "older than a silence may be");
    assert_eq!(arrive(&mut values, &sent("t", "20", None), true, 7_000)?.1, ["ended"]);
    assert!(values.standing().is_empty());

    // It is shown to a client that sees that it is flagged, but held back from those that could not.
    assert_eq!(arrive(&mut values, &sent("t", "99", Some("flag:range")), true, 8_000)?.1, [""; 0]);
    assert_eq!(values.poll_timeout(), Some(8_500));
    values.handle_timeout(&keyring, 8_500);
    assert_eq!(outputs(&mut values), ["valve open", "began"]);
    // Points of the past neither end nor begin it.
    let mut archive = sent("t", "20", Some("pass"));
    marks::add(&mut archive.props, marks::ARCHIVE, "1");
    assert_eq!(arrive(&mut values, &archive, true, 9_000)?.1, [""; 0]);
    assert_eq!(arrive(&mut values, &sent("t", "21", None), true, 9_500)?.1, ["ended"]);
    Ok(())
}

#[test]
fn an_alarm_counts_from_whoever_may_raise_it() -> Result<()> {
    let mut values = Disk::default().start(RECEIVE)?;
    let before = values.poll_timeout();
    let alarm = |topic: &str, kind: &str, over: &str| {
        format!(
            r#"{{"device":"1112","topic":"{topic}","kind":"{kind}","reason":"","checks":[],"since_ms":1,"last_ms":900,"count":1{over}}}"#
        )
    };
    let hear = |values: &mut Values, payload: String, granted: bool| -> Result<Option<u64>> {
        let (topic, sender) = (TopicName::new("t/alarm/1112/t")?, "1112".parse()?);
        let sent = sent("t", "", None);
        let alarm = Arrived { payload: payload.into(), ..arrived(&sent, &topic, &sender, 1_000)? };
        values.hear_alarm(&alarm, |about| granted && about == "t", 1_000);
        Ok(values.poll_timeout())
    };
    for (payload, granted) in [
        (alarm("t", "blocked", ""), false),
        (alarm("other", "blocked", ""), true),
        (alarm("t", "silent", ""), true),
        (alarm("t", "blocked", r#","over_ms":950"#), true),
        ("no alarm".to_owned(), true),
    ] {
        assert_eq!(hear(&mut values, payload.clone(), granted)?, before, "{payload} {granted}");
    }
    assert_eq!(hear(&mut values, alarm("t", "blocked", ""), true)?, Some(1_500));
    // A client gets it as it is, but not in the name of another device.
    let mut message = sent("t/alarm/1112/t", "{}", None);
    marks::add(&mut message.props, marks::ALARM, "1");
    assert_eq!(arrive(&mut values, &message, true, 1_000)?.0, "{} sealcast-alarm=1");
    message.topic = "t/alarm/1111/t";
    assert!(arrive(&mut values, &message, true, 1_000)?.0.contains("in the name of 1111"));
    Ok(())
}

#[test]
fn what_waits_for_a_key_is_tried_for_a_minute() -> Result<()> {
    let (mut values, keyring) = (Disk::default().start(RECEIVE)?, keyring());
    let brought = |topic: &str| Brought {
        topic: topic.to_owned(),
        payload: Bytes::from_static(b"sealed"),
        retain: false,
        dup: None,
    };
    values.handle_timeout(&keyring, 5_001);
    values.brought(&keyring, brought("whatever the broker likes"), 6_000);
    assert_eq!(values.poll_timeout(), None);
    values.brought(&keyring, brought("t"), 6_000);
    let mut tries = 0;
    while let Some(due_ms) = values.poll_timeout() {
        tries += 1;
        assert_eq!(due_ms, 6_000 + tries * RETRY_MS);
        values.handle_timeout(&keyring, due_ms);
    }
    assert_eq!(tries, 61);
    Ok(())
}
