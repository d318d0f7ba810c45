//! A server that sends and does not read: what cannot be written is bounded.

use super::*;

/// The server sends, the caller acknowledges, and nothing can be written.
#[test]
fn acknowledgements_that_cannot_be_written_count_as_messages_that_came() {
    for version in [V311, V5] {
        let mut pair = Pair::open(version);
        for id in 1..=CONFIG.receive_maximum {
            assert!(pair.client.wants_input());
            pair.deliver_and_acknowledge(id);
        }
        if version == V5 {
            pair.deliver(Qos::AtLeastOnce, Some(9), &[]);
            assert!(matches!(pair.told()[..], [Output::Closed(CloseReason::Protocol(_))]));
            assert_eq!(pair.sent(), [PacketType::Puback, PacketType::Puback, PacketType::Disconnect]);
        } else {
            assert!(!pair.client.wants_input());
            // Here the server does not listen. It is not the caller that holds it up.
            pair.after(30);
            pair.after(20);
            assert_eq!(pair.told(), closed(CloseReason::Silent));
        }
    }
}

#[test]
fn a_caller_that_does_not_acknowledge_holds_up_the_server_and_no_silence_is_counted() {
    let mut pair = Pair::open(V311);
    (1..=CONFIG.receive_maximum).for_each(|id| pair.deliver(Qos::AtLeastOnce, Some(id), &[]));
    assert_eq!((pair.told().len(), pair.client.wants_input()), (2, false));
    pair.after(30);
    assert_eq!(pair.sent(), [PacketType::Pingreq]);
    pair.after(20);
    assert!(pair.client.is_open());
}

/// A server that sends PINGRESP on its own would else be asked for one each time, by pings that nobody reads.
#[test]
fn a_ping_that_has_not_left_is_not_answered_and_none_goes_behind_it() {
    let mut pair = Pair::open(V5);
    for _ in 0..100 {
        pair.after(15);
        pair.hear(&[0xD0, 0]);
    }
    assert_eq!(pair.sent(), [PacketType::Pingreq]);
    let now = pair.now;
    pair.client.ping("mine", now).unwrap();
    pair.hear(&[0xD0, 0, 0xD0, 0]);
    assert_eq!(pair.told(), []);
    assert_eq!(pair.sent(), [PacketType::Pingreq]);
    pair.hear(&[0xD0, 0]);
    assert_eq!(pair.told(), [Output::Pong("mine")]);
}

/// A server that answers what it cannot have got would else make room for more of it, without end.
#[test]
fn requests_that_cannot_be_written_are_bounded() {
    let mut pair = Pair::open(V5);
    let now = pair.now;
    for id in 1..=u16::try_from(MAX_REQUESTS).unwrap() {
        pair.client.subscribe(&[("a", Qos::AtLeastOnce)], "s").unwrap();
        pair.client.ping("p", now).unwrap();
        pair.hear(&frame(0x90, &[&id.to_be_bytes()[..], &[0, 1]].concat()));
        pair.hear(&[0xD0, 0]);
    }
    let rejected = |token| Err(Rejected { token, error: RequestError::Full });
    assert_eq!(pair.client.unsubscribe(&["a"], "u"), rejected("u"));
    assert_eq!(pair.client.ping("p", now), rejected("p"));
    assert_eq!((pair.told(), pair.sent().len()), (vec![], 2 * MAX_REQUESTS));
    pair.hear(&frame(0x90, &[0, 1, 0, 1]));
    assert_eq!(pair.told(), [Output::Subscribed("s", vec![Ok(Qos::AtLeastOnce)])]);
}
