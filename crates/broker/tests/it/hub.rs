use std::sync::Arc;

use bytes::Bytes;
use sealcast_broker::{HandleError, Intercepted, Interception, Interceptor, Limits, Qos};

use crate::client::{Client, Connect};
use crate::{PATIENCE, any_port, intercepted, tcp_broker};

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_publishes_and_hears_who_asked() {
    let broker = tcp_broker(None, any_port(), Limits::default()).await;
    let addr = broker.addrs()[0];
    let handle = broker.handle().clone();
    let mut requests = handle.subscribe("sealcast/v1/rpc/+/request", 16).await.unwrap();
    let client = tokio::task::spawn_blocking(move || {
        let options = Connect { id: "c", v5: true, clean: true, user: Some("1111"), ..Connect::default() };
        let (mut client, _) = Client::connect(addr, &options);
        client.subscribe("sealcast/v1/rpc/1111/response", 1);
        client.publish_acked("sealcast/v1/rpc/1111/request", b"ask", 0, 1);
        client.message().payload
    });
    let request = requests.recv().await.unwrap();
    assert_eq!((&*request.topic, request.sender), ("sealcast/v1/rpc/1111/request", Some("1111".into())));
    handle.publish("sealcast/v1/rpc/1111/response", "answer", Qos::AtLeastOnce, false).await.unwrap();
    assert_eq!(client.await.unwrap(), b"answer");
    assert!(matches!(handle.publish("a/+", "", Qos::AtMostOnce, false).await, Err(HandleError::Topic(_))));
    assert!(broker.shutdown(PATIENCE).await);
    assert_eq!(handle.publish("a", "", Qos::AtMostOnce, false).await, Err(HandleError::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_gets_what_nobody_subscribes_to_and_holds_nothing_up() {
    let broker = tcp_broker(None, any_port(), Limits::default()).await;
    let handle = broker.handle();
    handle.publish("before", "kept", Qos::AtLeastOnce, true).await.unwrap();
    let (mut all, mut slow) = (handle.tap(8).await.unwrap(), handle.tap(1).await.unwrap());
    for text in ["one", "two"] {
        handle.publish("a", text, Qos::AtLeastOnce, false).await.unwrap();
    }
    let mut next = async || all.recv().await.unwrap();
    assert_eq!([&*next().await.start, &*next().await.start], [b"one", b"two"]);
    assert_eq!(&*slow.recv().await.unwrap().start, b"one");
    handle.publish("a", vec![7; 1000], Qos::AtLeastOnce, false).await.unwrap();
    let large = next().await;
    assert_eq!((large.bytes, large.start.len()), (1000, 256));
    drop((all, slow));
    handle.publish("a", "three", Qos::AtLeastOnce, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_is_cut_off() {
    let broker = tcp_broker(None, any_port(), Limits::default()).await;
    let addr = broker.addrs()[0];
    let options = Connect { id: "c", v5: true, expiry_s: 100, user: Some("1111"), ..Connect::default() };
    let (client, _) = tokio::task::spawn_blocking(move || Client::connect(addr, &options)).await.unwrap();
    assert_eq!(broker.handle().disconnect_device("1111").await, Ok(1));
    assert_eq!(tokio::task::spawn_blocking(move || client.closed()).await.unwrap(), Some(0x98));
    assert_eq!(broker.handle().stats().await.unwrap().sessions, 0);
}

struct Panics;

impl Interceptor for Panics {
    fn publish(&self, _: Option<&str>, _: &mut Intercepted) -> Interception {
        panic!("in a test")
    }
}

/// One thread, so that what the panic says is this test's own.
#[tokio::test]
async fn a_broker_whose_core_panics_has_stopped_and_says_so() {
    let broker = intercepted(None, any_port(), Limits::default(), Some(Arc::new(Panics))).await;
    let published = broker.handle().publish("a", "", Qos::AtMostOnce, false).await;
    assert_eq!(published, Err(HandleError::Stopped));
    tokio::time::timeout(PATIENCE, broker.stopped()).await.unwrap();
    assert!(broker.failure().unwrap().starts_with("the broker panicked"), "{:?}", broker.failure());
}

struct Hostile;

impl Interceptor for Hostile {
    fn publish(&self, sender: Option<&str>, message: &mut Intercepted) -> Interception {
        match message.topic.as_str() {
            "drop" => return Interception::Drop,
            "move" => message.topic = "moved".into(),
            "flip" => message.payload = Bytes::from(format!("flipped {}", sender.unwrap_or("hub"))),
            _ => {}
        }
        Interception::Forward
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interceptor_drops_moves_changes_and_injects() {
    let broker = intercepted(None, any_port(), Limits::default(), Some(Arc::new(Hostile))).await;
    let addr = broker.addrs()[0];
    let (sender, receiver) = std::sync::mpsc::channel();
    let client = tokio::task::spawn_blocking(move || {
        let (mut client, _) = Client::connect(addr, &Connect { id: "c", clean: true, ..Connect::default() });
        client.subscribe("#", 1);
        sender.send(()).unwrap();
        (0..4)
            .map(|_| {
                let message = client.message();
                if message.qos > 0 {
                    client.ack(0x40, message.id).unwrap();
                }
                (message.topic, String::from_utf8(message.payload).unwrap())
            })
            .collect::<Vec<_>>()
    });
    tokio::task::spawn_blocking(move || receiver.recv().unwrap()).await.unwrap();
    tokio::task::spawn_blocking(move || {
        let (mut publisher, _) = Client::connect(addr, &Connect { id: "p", clean: true, ..Connect::default() });
        publisher.publish_acked("drop", b"1", 0, 1);
        publisher.publish("move", b"2", 0, 0).unwrap();
        publisher.publish_acked("flip", b"3", 0, 2);
    })
    .await
    .unwrap();
    broker.handle().publish("flip", "", Qos::AtLeastOnce, false).await.unwrap();
    broker.handle().inject("flip", "made up", Qos::AtLeastOnce, false).await.unwrap();
    let want = [("moved", "2"), ("flip", "flipped anonymous"), ("flip", "flipped hub"), ("flip", "made up")];
    assert_eq!(client.await.unwrap(), want.map(|(t, p)| (t.to_owned(), p.to_owned())));
}
