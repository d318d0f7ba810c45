//! The door's protocol, datagram by datagram.

use std::net::SocketAddr;

use bytes::Bytes;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};

use crate::{
    Counts, Limits, Output, Refused, Server, Value,
    answer::empty,
    block::Block,
    server::{ACK_TIMEOUT_MS, ANSWER_SOON_MS},
};

const MAX: usize = 3000;

struct Peer {
    server: Server,
    address: SocketAddr,
    now_ms: u64,
}

impl Peer {
    fn new() -> Self {
        let now_ms = 7;
        let limits = Limits { max_payload_bytes: MAX, max_per_second: 100_000 };
        Self {
            server: Server::new(limits, None, 7, now_ms),
            address: SocketAddr::from(([127, 0, 0, 1], 40_000)),
            now_ms,
        }
    }

    fn send(&mut self, packet: &Packet) -> Vec<Output> {
        let bytes = packet.to_bytes_unlimited().unwrap_or_default();
        self.server.handle_datagram(self.address, &bytes, self.now_ms);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.server.poll()).collect()
    }
}

fn request(method: RequestType, id: u16, topic: &str) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    packet.header.set_type(MessageType::Confirmable);
    packet.header.code = MessageClass::Request(method);
    packet.header.message_id = id;
    packet.set_token(vec![0xab, id as u8]);
    for part in ["topics"].into_iter().chain(topic.split('/')) {
        packet.add_option(CoapOption::UriPath, part.as_bytes().to_vec());
    }
    packet
}

/// The one datagram among the outputs.
fn sent(outputs: &[Output]) -> Packet {
    let mut datagrams = outputs.iter().filter_map(|output| match output {
        Output::Send(_, bytes) => Packet::from_bytes(bytes).ok(),
        _ => None,
    });
    let first = datagrams.next();
    assert!(datagrams.next().is_none(), "one datagram: {outputs:?}");
    first.unwrap_or_default()
}

fn code(packet: &Packet) -> String {
    packet.header.get_code()
}

fn message(payload: impl Into<Bytes>) -> Value {
    Value { payload: payload.into(), content_type: None }
}

#[test]
fn a_repeated_request_is_answered_again_and_not_done_again() {
    let mut peer = Peer::new();
    let mut put = request(RequestType::Put, 1, "a/b");
    put.payload = b"21.5".to_vec();
    let outputs = peer.send(&put);
    let [Output::Publish { exchange, message }] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!((message.topic.as_str(), &message.payload[..], message.retain), ("a/b", &b"21.5"[..], false));
    assert!(peer.send(&put).is_empty(), "still under way");

    peer.server.handle_published(*exchange, Ok(()), peer.now_ms);
    let outputs = peer.outputs();
    let answer = sent(&outputs);
    assert_eq!((code(&answer).as_str(), answer.header.message_id), ("2.04", 1));
    assert_eq!(answer.get_type_and_token(), (MessageType::Acknowledgement, vec![0xab, 1]));
    assert_eq!(sent(&peer.send(&put)), answer, "the same once more");
}

trait TypeAndToken {
    fn get_type_and_token(&self) -> (MessageType, Vec<u8>);
}

impl TypeAndToken for Packet {
    fn get_type_and_token(&self) -> (MessageType, Vec<u8>) {
        (self.header.get_type(), self.get_token().to_vec())
    }
}

#[test]
fn what_takes_long_is_acknowledged_first_and_answered_until_it_is_heard() {
    let mut peer = Peer::new();
    let outputs = peer.send(&request(RequestType::Put, 1, "a/b"));
    let [Output::Publish { exchange, .. }] = outputs.as_slice() else { panic!("{outputs:?}") };
    peer.now_ms += ANSWER_SOON_MS;
    peer.server.handle_timeout(peer.now_ms);
    let ack = sent(&peer.outputs());
    assert_eq!((ack.header.get_type(), ack.header.code), (MessageType::Acknowledgement, MessageClass::Empty));
    peer.server.handle_published(*exchange, Err(Refused::Forbidden("no group".into())), peer.now_ms);
    let answer = sent(&peer.outputs());
    assert_eq!((code(&answer).as_str(), answer.payload.as_slice()), ("4.03", &b"no group"[..]));
    assert_eq!(answer.get_type_and_token(), (MessageType::Confirmable, vec![0xab, 1]));

    peer.now_ms += ACK_TIMEOUT_MS;
    peer.server.handle_timeout(peer.now_ms);
    assert_eq!(sent(&peer.outputs()), answer);
    let ack = empty(MessageType::Acknowledgement, answer.header.message_id);
    peer.server.handle_datagram(peer.address, &ack, peer.now_ms);
    assert_eq!(peer.server.poll_timeout(), None);
}

#[test]
fn blocks_are_put_together_in_order_and_within_the_limit() {
    let mut peer = Peer::new();
    let block = |id, num, more, bytes: usize| {
        let mut put = request(RequestType::Put, id, "a/b");
        put.add_option(CoapOption::Block1, Block { num, more, szx: 6 }.encode());
        put.payload = vec![num as u8; bytes];
        put
    };
    assert_eq!(code(&sent(&peer.send(&block(1, 0, true, 1024)))), "2.31");
    assert_eq!(code(&sent(&peer.send(&block(1, 0, true, 1024)))), "2.31", "a repetition adds nothing");
    let outputs = peer.send(&block(2, 1, false, 10));
    let [Output::Publish { exchange, message }] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(message.payload.len(), 1034);
    peer.server.handle_published(*exchange, Ok(()), peer.now_ms);
    assert_eq!(sent(&peer.outputs()).get_first_option(CoapOption::Block1), Some(&vec![0x16]));

    assert_eq!(code(&sent(&peer.send(&block(3, 1, true, 1024)))), "4.08", "block 0 is missing");
    assert_eq!(code(&sent(&peer.send(&block(4, 0, true, 1000)))), "4.00", "not full");
    assert_eq!(code(&sent(&peer.send(&block(5, 0, true, 1024)))), "2.31");
    assert_eq!(code(&sent(&peer.send(&block(6, 1, true, 1024)))), "2.31");
    assert_eq!(code(&sent(&peer.send(&block(7, 2, true, 1024)))), "4.13");
}

#[test]
fn a_large_value_is_fetched_block_by_block_from_one_snapshot() {
    let mut peer = Peer::new();
    let outputs = peer.send(&request(RequestType::Get, 1, "a/b"));
    let [Output::Last { exchange, .. }] = outputs.as_slice() else { panic!("{outputs:?}") };
    peer.server.handle_last(*exchange, Ok(Some(message(vec![b'x'; 2500]))), peer.now_ms);
    let first = sent(&peer.outputs());
    assert_eq!((first.payload.len(), first.get_first_option(CoapOption::Block2)), (1024, Some(&vec![0x0e])));
    let mut get = request(RequestType::Get, 2, "a/b");
    get.add_option(CoapOption::Block2, Block { num: 2, more: false, szx: 6 }.encode());
    let last = sent(&peer.send(&get));
    assert_eq!((last.payload.len(), last.get_first_option(CoapOption::Block2)), (452, Some(&vec![0x26])));
    assert_eq!(last.get_first_option(CoapOption::ETag), first.get_first_option(CoapOption::ETag));
}

#[test]
fn a_slow_observer_gets_the_newest_and_one_that_resets_nothing_more() {
    let mut peer = Peer::new();
    let mut get = request(RequestType::Get, 1, "a/b");
    get.add_option(CoapOption::Observe, Vec::new());
    let outputs = peer.send(&get);
    let [Output::Observe { exchange, observer, .. }] = outputs.as_slice() else { panic!("{outputs:?}") };
    let observer = *observer;
    peer.server.handle_last(*exchange, Ok(None), peer.now_ms);
    let registered = sent(&peer.outputs());
    assert_eq!(code(&registered), "2.05");
    assert!(registered.get_first_option(CoapOption::Observe).is_some());

    peer.server.handle_news(observer, message("1"), peer.now_ms);
    let first = sent(&peer.outputs());
    assert_eq!((first.payload.as_slice(), first.header.get_type()), (&b"1"[..], MessageType::Confirmable));
    peer.server.handle_news(observer, message("2"), peer.now_ms);
    peer.server.handle_news(observer, message("3"), peer.now_ms);
    assert!(peer.outputs().is_empty());
    let ack = empty(MessageType::Acknowledgement, first.header.message_id);
    peer.server.handle_datagram(peer.address, &ack, peer.now_ms);
    let newest = sent(&peer.outputs());
    assert_eq!(newest.payload, b"3");
    assert_eq!(newest.get_token(), [0xab, 1]);
    peer.server.handle_datagram(peer.address, &empty(MessageType::Reset, newest.header.message_id), peer.now_ms);
    assert!(matches!(peer.outputs().as_slice(), [Output::Unobserve(gone)] if *gone == observer));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let check = |packet: Packet, expected: &str| {
        let answer = sent(&Peer::new().send(&packet));
        assert_eq!(code(&answer), expected, "{}", String::from_utf8_lossy(&answer.payload));
    };
    check(request(RequestType::Delete, 1, "a/b"), "4.05");
    check(request(RequestType::Put, 1, "a/#"), "4.00");
    check(request(RequestType::Put, 1, "a/+"), "4.00");
    let mut unknown = request(RequestType::Get, 1, "a");
    unknown.add_option(CoapOption::Unknown(2049), vec![1]);
    check(unknown, "4.02");
    let mut proxied = request(RequestType::Get, 1, "a");
    proxied.add_option(CoapOption::ProxyUri, b"coap://x".to_vec());
    check(proxied, "5.05");
    let mut query = request(RequestType::Put, 1, "a");
    query.add_option(CoapOption::UriQuery, b"retian=1".to_vec());
    check(query, "4.00");
    let mut elsewhere = request(RequestType::Get, 1, "a");
    elsewhere.clear_option(CoapOption::UriPath);
    check(elsewhere, "4.04");
}

#[test]
fn any_bytes_are_safe_and_nothing_grows_without_end() {
    let mut peer = Peer::new();
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..50_000u32 {
        let mut bytes: Vec<u8> = if round % 2 == 0 {
            (0..random() % 40).map(|_| random() as u8).collect()
        } else {
            let method = if round % 3 == 0 { RequestType::Get } else { RequestType::Put };
            let mut packet = request(method, random() as u16, "a/b");
            packet.add_option(CoapOption::Block1, vec![random() as u8]);
            packet.add_option(CoapOption::Observe, vec![random() as u8 & 1]);
            packet.payload = vec![0; (random() % 64) as usize];
            packet.to_bytes_unlimited().unwrap_or_default()
        };
        if let Some(length) = (random() as usize).checked_rem(bytes.len()) {
            bytes[length] ^= random() as u8;
        }
        peer.address.set_port(random() as u16 | 1);
        peer.now_ms += random() % 200;
        peer.server.handle_datagram(peer.address, &bytes, peer.now_ms);
        peer.server.handle_timeout(peer.now_ms);
        for output in peer.outputs() {
            match output {
                Output::Publish { exchange, .. } => peer.server.handle_published(exchange, Ok(()), peer.now_ms),
                Output::Last { exchange, .. } => peer.server.handle_last(exchange, Ok(None), peer.now_ms),
                Output::Observe { exchange, observer, .. } => {
                    peer.server.handle_last(exchange, Ok(Some(message("1"))), peer.now_ms);
                    peer.server.handle_news(observer, message(vec![1; 5000]), peer.now_ms);
                }
                Output::Send(..) | Output::Unobserve(_) => {}
            }
        }
        peer.outputs();
    }
    let (counts, most) = (peer.server.counts(), Counts::MOST);
    assert!(counts.exchanges <= most.exchanges && counts.seen <= most.seen);
    assert!(counts.uploads <= most.uploads && counts.downloads <= most.downloads);
    assert!(counts.observers <= most.observers && counts.pending <= most.pending);
}
