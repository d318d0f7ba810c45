//! The bounds over all sessions of a device, and over all sessions, end to end and over a restart.

use sealcast_broker::{ClassLimits, Limits};

use crate::PATIENCE;
use crate::client::{Client, Connect};
use crate::pressure::{Broker, clean, kept};

fn limits(max_device_queued_messages: usize, max_total_queued_messages: usize) -> Limits {
    let application = ClassLimits { max_device_queued_messages, max_total_queued_messages, ..ClassLimits::default() };
    Limits { application, publish_patience: 3 * PATIENCE, ..Limits::default() }
}

fn of<'a>(device: &'a str, id: &'a str) -> Connect<'a> {
    Connect { user: Some(device), ..kept(id, true) }
}

fn leave(broker: &Broker, device: &str, id: &str, filter: &str) {
    let (mut client, _) = Client::connect(broker.addr, &of(device, id));
    assert_eq!(client.subscribe(filter, 1), 1);
    client.disconnect();
}

fn take(broker: &Broker, device: &str, id: &str, want: &[u8]) {
    let (mut client, present) = Client::connect(broker.addr, &of(device, id));
    assert!(present);
    for payload in want {
        let message = client.message();
        assert_eq!(message.payload, [*payload]);
        client.ack(0x40, message.id).unwrap();
    }
    client.nothing_more();
    client.disconnect();
}

#[test]
fn the_sessions_of_a_device_have_a_bound_together_over_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Some(dir.path()), limits(4, 1000));
    for id in ["a", "b"] {
        leave(&broker, "d", id, &format!("to/{id}"));
    }
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", true));
    for id in 1..=4 {
        let topic = if id == 4 { "to/b" } else { "to/a" };
        assert_eq!(publisher.publish_acked(topic, &[id as u8], 0, id), 0);
    }
    publisher.publish("to/b", b"x", 2, 5).unwrap();
    let (first, body) = publisher.read().unwrap();
    assert_eq!((first, &body[..3]), (0x40, &[0, 5, 0x97][..]));
    let text = String::from_utf8_lossy(&body[3..]).into_owned();
    assert!(text.contains("the queues of a device that the message is for are full"), "{text}");
    broker.stop();

    let broker = Broker::start(Some(dir.path()), limits(4, 1000));
    assert_eq!(broker.stats().queued, 4);
    let (mut old, _) = Client::connect(broker.addr, &clean("p", false));
    old.publish("to/b", &[5], 2, 5).unwrap();
    broker.until("the publisher waits", |stats| stats.held_up == 1);
    take(&broker, "d", "a", &[1, 2, 3]);
    assert_eq!(old.read().unwrap(), (0x40, vec![0, 5]));
    take(&broker, "d", "b", &[4, 5]);
    broker.until("nothing waits", |stats| (stats.queued, stats.queued_bytes) == (0, 0));
}

#[test]
fn devices_that_fill_the_queues_of_all_do_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Some(dir.path()), limits(1000, 6));
    leave(&broker, "m", "member", "members/1");
    leave(&broker, "x", "large", "anybody");
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", true));
    for id in 1..=2 {
        assert_eq!(publisher.publish_acked("members/1", &[id as u8], 0, id), 0);
        assert_eq!(publisher.publish_acked("anybody", &[id as u8], 0, id), 0);
    }
    broker.stop();

    // What is a member's is still so after a restart.
    let broker = Broker::start(Some(dir.path()), limits(1000, 6));
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", true));
    for id in 3..=6 {
        assert_eq!(publisher.publish_acked("members/1", &[id as u8], 0, id), 0);
    }
    assert_eq!(broker.stats().sessions, 2, "that of the other device has ended");
    assert_eq!(publisher.publish_acked("members/1", b"x", 0, 7), 0x97, "nothing is left that could be given up");
    let (mut reader, _) = Client::connect(broker.addr, &of("r", "reader"));
    reader.subscribe("members/2", 1);
    assert_eq!(publisher.publish_acked("members/2", b"now", 0, 8), 0, "one that reads gets its messages");
    assert_eq!(reader.message().payload, b"now");
    take(&broker, "m", "member", &[1, 2, 3, 4, 5, 6]);
    assert_eq!(publisher.publish_acked("members/1", &[7], 0, 9), 0);
}
