//! A device that sends many things on one topic, and the checked value only in some of them, as zigbee2mqtt does.

use std::time::Duration;

use crate::{
    harness::{Hub, PATIENCE, Process},
    values::V5,
};

const OTHERS: [&str; 3] = [
    r#"{"battery":100,"voltage":3015}"#,
    r#"{"battery":93.5,"humidity":43.5,"linkquality":255,"temperature":null}"#,
    r#"{"state":"ON","linkquality":99}"#,
];

fn next(process: &mut Process) -> String {
    process.message(PATIENCE).expect("a message")
}

#[test]
fn case_04_messages_without_the_checked_member_arrive_and_the_value_may_still_be_silent() {
    let hub = Hub::start();
    let input = "input = { format = 'json', value = '$.temperature', type = 'number' }";
    let rules = format!(
        "
        [[quality]]
        filter = 'hsu0001/z2m/+'
        range = {{ min = -20, max = 60 }}
        record = 'chain'
        [[publish]]
        filter = 'hsu0001/z2m/+'
        {input}
        [[quality]]
        filter = 'hsu0001/flag/+'
        range = {{ max = 60 }}
        missing = 'flag'
        null = 'block'
        [[publish]]
        filter = 'hsu0001/flag/+'
        {input}
        [[quality]]
        filter = 'hsu0001/quiet/1'
        silent = {{ after_ms = 1500 }}
        [[publish]]
        filter = 'hsu0001/quiet/1'
        {input}
        [[publish]]
        filter = 'hsu0001/number'
        {input}
        output = {{ format = 'number' }}"
    );
    let policy = format!(
        "
        [[receive]]
        filter = 'hsu0001/z2m/+'
        require_checked = true
        [[receive]]
        filter = 'hsu0001/plain'
        {input}
        output = {{ format = 'number' }}
        [[quality]]
        filter = 'hsu0001/quiet/1'
        fail_safe = {{ on_silence = {{ after_ms = 1500, publish = 'open', topic = 'hsu0001/valve' }} }}"
    );
    let [sender, receiver] = hub.pair("hsu0001", [&rules, &policy]);
    let mut sees = receiver.subscribe("hsu0001/z2m/#", &V5);
    for message in OTHERS {
        assert_eq!(sender.refusal("hsu0001/z2m/sensor", message, &[]), "");
        let line = next(&mut sees);
        assert!(line.starts_with(&format!("hsu0001/z2m/sensor {message} ")), "unchanged: {line}");
        assert!(line.contains("sealcast-check:pass") && line.contains("sealcast-no-value:1"), "{line}");
    }
    // The value is checked where it is, and what is no document is none.
    sender.refusal("hsu0001/z2m/sensor", r#"{"temperature":21.5,"battery":99}"#, &[]);
    let line = next(&mut sees);
    assert!(line.contains(r#"{"temperature":21.5,"battery":99}"#) && !line.contains("sealcast-no-value"), "{line}");
    let said = sender.refusal("hsu0001/z2m/sensor", r#"{"temperature":121.5}"#, &[]);
    assert!(said.contains("Implementation specific"), "{said}");
    let said = sender.refusal("hsu0001/z2m/sensor", "offline", &[]);
    assert!(said.contains("Payload format invalid"), "{said}");

    let mut flagged = receiver.subscribe("hsu0001/flag/#", &V5);
    sender.refusal("hsu0001/flag/sensor", OTHERS[0], &[]);
    let line = next(&mut flagged);
    assert!(line.contains(OTHERS[0]) && line.contains("sealcast-check:flag:missing"), "{line}");
    let said = sender.refusal("hsu0001/flag/sensor", OTHERS[1], &[]);
    assert!(said.contains("Implementation specific"), "{said}");

    // A number alone: what has none is acknowledged, and nothing comes of it on either side.
    let mut number = receiver.subscribe("hsu0001/number", &[]);
    let mut plain = receiver.subscribe("hsu0001/plain", &[]);
    for message in [OTHERS[0], OTHERS[1], r#"{"temperature":7}"#] {
        assert_eq!(sender.refusal("hsu0001/number", message, &[]), "");
        assert_eq!(sender.refusal("hsu0001/plain", message, &[]), "");
    }
    assert_eq!((next(&mut number), next(&mut plain)), ("hsu0001/number 7".into(), "hsu0001/plain 7".into()));

    // A device that says other things goes on being silent about its value: an alarm, and the valve opens.
    let mut alarms = receiver.subscribe("hsu0001/alarm/#", &[]);
    let mut valve = receiver.subscribe("hsu0001/valve", &[]);
    sender.refusal("hsu0001/quiet/1", r#"{"temperature":20}"#, &[]);
    let (mut silent, mut open) = (false, false);
    for _ in 0..200 {
        sender.refusal("hsu0001/quiet/1", OTHERS[0], &[]);
        sender.refusal("hsu0001/quiet/1", OTHERS[1], &[]);
        let short = Duration::from_millis(100);
        silent |= alarms.message(short).is_some_and(|line| line.contains("\"kind\":\"silent\""));
        open |= valve.message(short).as_deref() == Some("hsu0001/valve open");
        if silent && open {
            break;
        }
    }
    assert!(silent && open, "alarm {silent}, valve {open}");
    sender.refusal("hsu0001/quiet/1", OTHERS[2], &[]);
    let still = receiver.subscribe("hsu0001/valve", &[]).message(PATIENCE);
    assert_eq!(still.as_deref(), Some("hsu0001/valve open"), "it stands until a value comes");
}
