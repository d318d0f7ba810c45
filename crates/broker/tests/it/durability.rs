//! The broker is killed with SIGKILL in the middle of traffic; what it acknowledged must arrive in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sealcast_broker::Limits;
use tokio::net::TcpSocket;

use crate::client::{Client, Connect};
use crate::{PATIENCE, tcp_broker};

/// Not a test: the process that is killed. It is this test binary, started again.
#[test]
#[ignore = "started by the tests below"]
fn child_broker() {
    let (Ok(dir), Ok(addr)) = (std::env::var("BROKER_DIR"), std::env::var("BROKER_ADDR")) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let broker = tcp_broker(Some(Path::new(&dir)), addr.parse().unwrap(), Limits::default()).await;
        broker.stopped().await;
    });
}

struct Killable {
    child: Child,
    dir: std::path::PathBuf,
    addr: SocketAddr,
    /// What all its processes say; printed if the test fails.
    log: File,
}

impl Killable {
    fn start(dir: &Path, addr: SocketAddr) -> Self {
        let log = tempfile::tempfile().unwrap();
        Self { child: Self::spawn(dir, addr, &log), dir: dir.into(), addr, log }
    }

    fn spawn(dir: &Path, addr: SocketAddr, log: &File) -> Child {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::child_broker", "--ignored", "--nocapture"])
            .env("BROKER_DIR", dir)
            .env("BROKER_ADDR", addr.to_string())
            .stdout(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(addr).is_err() {
            assert!(Instant::now() < deadline, "the broker does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
        child
    }

    /// SIGKILL, and start again on the same port.
    fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.dir, self.addr, &self.log);
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let mut text = String::new();
            let _ = self.log.rewind().and_then(|()| self.log.read_to_string(&mut text));
            eprintln!("======== the broker's processes said:\n{text}");
        }
    }
}

/// A port that stays this test's own as long as the socket lives: it is bound and does not listen. The broker sets
/// SO_REUSEADDR as this one does, and can listen there whenever it is started.
fn reserve_port() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(crate::any_port()).unwrap();
    (socket.local_addr().unwrap(), socket)
}

fn session(id: &str, v5: bool) -> Connect<'_> {
    Connect { id, v5, expiry_s: 3600, ..Connect::default() }
}

fn reconnect(addr: SocketAddr, options: &Connect<'_>) -> (Client, bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "the broker is not back");
        match Client::try_connect(addr, options) {
            Ok((client, present, 0)) => return (client, present),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Publishes until told to stop, several messages under way; `acked` holds what the broker acknowledged. A message that
/// was under way when the connection broke is given up (QoS 1) or carried through as the standard says (QoS 2).
fn publisher(addr: SocketAddr, name: String, qos: u8, stop: Arc<AtomicBool>, acked: Arc<Mutex<BTreeSet<String>>>) {
    let options = session(&name, qos == 2);
    let (mut client, _) = reconnect(addr, &options);
    let mut sent = 0u32;
    // Identifier -> payload, PUBREC seen.
    let mut open: BTreeMap<u16, (String, bool)> = BTreeMap::new();
    let mut next_id = 0u16;
    let topic = format!("load/{name}");
    loop {
        let finished = stop.load(Ordering::Relaxed);
        if finished && open.is_empty() {
            return;
        }
        let mut step = || -> std::io::Result<()> {
            while open.len() < 8 && !finished {
                next_id = next_id % 60_000 + 1;
                sent += 1;
                let payload = format!("{name} {sent}");
                open.insert(next_id, (payload.clone(), false));
                client.publish(&topic, payload.as_bytes(), qos << 1, next_id)?;
            }
            let (first, body) = client.read()?;
            let id = u16::from_be_bytes([body[0], body[1]]);
            match first {
                0x40 | 0x70 => {
                    if let Some((payload, _)) = open.remove(&id) {
                        acked.lock().unwrap().insert(payload);
                    }
                }
                0x50 => {
                    // The broker owns it from here on.
                    if let Some((payload, received)) = open.get_mut(&id) {
                        *received = true;
                        acked.lock().unwrap().insert(payload.clone());
                    }
                    client.ack(0x62, id)?;
                }
                other => panic!("unexpected packet {other:x}"),
            }
            Ok(())
        };
        if step().is_ok() {
            continue;
        }
        loop {
            (client, _) = reconnect(addr, &options);
            if qos == 1 {
                open.clear();
                break;
            }
            let again = open.iter().try_for_each(|(id, (payload, received))| {
                if *received { client.ack(0x62, *id) } else { client.publish(&topic, payload.as_bytes(), 4 | 8, *id) }
            });
            if again.is_ok() {
                break;
            }
        }
    }
}

/// Reads with a persistent session, sometimes cutting its own connection or staying away.
fn subscriber(
    addr: SocketAddr,
    id: &str,
    done: &AtomicBool,
    want: &dyn Fn(&BTreeMap<String, u32>) -> bool,
) -> BTreeMap<String, u32> {
    let options = session(id, true);
    let mut got: BTreeMap<String, u32> = BTreeMap::new();
    // QoS 2 identifiers received and not yet released.
    let mut held: BTreeSet<u16> = BTreeSet::new();
    let (mut client, _) = reconnect(addr, &options);
    let mut count = 0u32;
    let deadline = Instant::now() + 4 * PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "messages are missing: {} received", got.len());
        if done.load(Ordering::Relaxed) && want(&got) {
            return got;
        }
        let mut step = || -> std::io::Result<()> {
            let (first, body) = client.read()?;
            match first >> 4 {
                3 => {
                    let message = client.parse(first, &body);
                    let payload = String::from_utf8(message.payload).unwrap();
                    if message.qos == 1 {
                        *got.entry(payload).or_default() += 1;
                        client.ack(0x40, message.id)?;
                    } else {
                        if held.insert(message.id) {
                            *got.entry(payload).or_default() += 1;
                        }
                        client.ack(0x50, message.id)?;
                    }
                }
                6 => {
                    let id = u16::from_be_bytes([body[0], body[1]]);
                    held.remove(&id);
                    client.ack(0x70, id)?;
                }
                14 => {}
                13 => {}
                other => panic!("unexpected packet {other:x}"),
            }
            Ok(())
        };
        let ok = step().is_ok();
        count += 1;
        if ok && !count.is_multiple_of(700) {
            continue;
        }
        if ok && count.is_multiple_of(1400) {
            std::thread::sleep(Duration::from_millis(300));
        }
        let (again, present) = reconnect(addr, &options);
        assert!(present, "the session is gone");
        client = again;
    }
}

#[test]
fn nothing_acknowledged_is_lost_over_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, _reserved) = reserve_port();
    let mut broker = Killable::start(dir.path(), addr);
    for (id, options) in [("sub", 1), ("sub2", 2)] {
        let (mut client, present) = Client::connect(addr, &session(id, true));
        assert!(!present);
        client.subscribe("load/#", options);
        client.disconnect();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicBool::new(false));
    let acked: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let publishers: Vec<_> = [("one", 1), ("two", 2), ("three", 1)]
        .map(|(name, qos)| {
            let (stop, acked) = (stop.clone(), acked.clone());
            std::thread::spawn(move || publisher(addr, name.to_owned(), qos, stop, acked))
        })
        .into();
    let readers: Vec<_> = ["sub", "sub2"]
        .map(|id| {
            let (done, acked) = (done.clone(), acked.clone());
            std::thread::spawn(move || {
                subscriber(addr, id, &done, &|got| {
                    let acked = acked.lock().unwrap();
                    // Asked at each message: the count first, which is nearly always enough.
                    got.len() >= acked.len() && acked.iter().all(|payload| got.contains_key(payload))
                })
            })
        })
        .into();
    let kills = AtomicUsize::new(0);
    // At another point of the traffic each time.
    let until_more = |more: usize| {
        let (goal, deadline) = (acked.lock().unwrap().len() + more, Instant::now() + PATIENCE);
        while acked.lock().unwrap().len() < goal {
            assert!(Instant::now() < deadline, "no traffic");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    for more in [400, 150, 700, 90, 500, 250] {
        until_more(more);
        broker.kill_and_restart();
        kills.fetch_add(1, Ordering::Relaxed);
    }
    until_more(100);
    stop.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.join().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    // The readers look whenever something arrives: give each a last push.
    let (mut last, _) = reconnect(addr, &Connect { id: "last", clean: true, ..Connect::default() });
    last.publish_acked("load/end", b"end", 0, 1);
    let all = acked.lock().unwrap().clone();
    for (reader, exactly_once) in readers.into_iter().zip([false, true]) {
        let got = reader.join().unwrap();
        let missing: Vec<_> = all.iter().filter(|payload| !got.contains_key(*payload)).collect();
        assert!(missing.is_empty(), "{} of {} lost: {:?}", missing.len(), all.len(), &missing[..missing.len().min(9)]);
        if exactly_once {
            let twice: Vec<_> = got.iter().filter(|(payload, n)| payload.starts_with("two") && **n > 1).collect();
            assert!(twice.is_empty(), "QoS 2 twice: {twice:?}");
        }
    }
    assert!(all.len() > 100, "only {} messages", all.len());
    eprintln!("{} acknowledged messages over {} kills: none lost", all.len(), kills.load(Ordering::Relaxed));
}

/// The first member of a share has three messages that it was never sent and one that it has not acknowledged. Once the
/// broker has said that its session is gone, they are another member's, whatever happens to the broker.
#[test]
fn what_an_ended_session_leaves_to_its_share_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, _reserved) = reserve_port();
    let mut broker = Killable::start(dir.path(), addr);
    let window = Connect { receive_max: Some(1), ..session("first", true) };
    let (mut first, _) = Client::connect(addr, &window);
    first.subscribe("$share/s/work/#", 1);
    let (mut publisher, _) = Client::connect(addr, &Connect { id: "p", clean: true, ..Connect::default() });
    for id in 1..=4 {
        assert_eq!(publisher.publish_acked("work/1", &[id as u8], 0, id), 0);
    }
    assert_eq!(first.message().payload, [1]);
    let (mut second, _) = Client::connect(addr, &session("second", true));
    second.subscribe("$share/s/work/#", 1);
    second.disconnect();
    // A restart does not forget by which share they came.
    broker.kill_and_restart();
    let (_anew, present) = reconnect(addr, &Connect { clean: true, ..window });
    assert!(!present);
    broker.kill_and_restart();
    let (mut second, present) = reconnect(addr, &session("second", true));
    assert!(present);
    for want in 1..=4 {
        let message = second.message();
        assert_eq!(message.payload, [want]);
        second.ack(0x40, message.id).unwrap();
    }
    second.nothing_more();
}

/// A session that ends with its connection ends with the broker too; what shares are owed is not lost with it.
#[test]
fn what_a_session_leaves_to_its_share_that_was_to_end_with_its_connection_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, _reserved) = reserve_port();
    let mut broker = Killable::start(dir.path(), addr);
    let (mut first, _) = Client::connect(addr, &session("first", true));
    first.subscribe("$share/s/work/#", 1);
    first.disconnect();
    let (mut publisher, _) = Client::connect(addr, &Connect { id: "p", clean: true, ..Connect::default() });
    assert_eq!(publisher.publish_acked("work/1", b"x", 0, 1), 0);
    let (mut second, _) = Client::connect(addr, &session("second", true));
    second.subscribe("$share/s/work/#", 1);
    second.disconnect();
    let (_first, present) = Client::connect(addr, &Connect { expiry_s: 0, ..session("first", true) });
    assert!(present);
    broker.kill_and_restart();
    let (mut second, _) = reconnect(addr, &session("second", true));
    assert_eq!(second.message().payload, b"x");
}

/// A member whose session ends with its connection is online, and preferred. What it has not acknowledged is another
/// member's after a crash of the broker, and so is what it was never sent.
#[test]
fn what_a_passing_member_of_a_share_has_not_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, _reserved) = reserve_port();
    let mut broker = Killable::start(dir.path(), addr);
    let (mut kept, _) = Client::connect(addr, &session("kept", true));
    kept.subscribe("$share/s/work/#", 1);
    kept.disconnect();
    let passing = Connect { receive_max: Some(1), expiry_s: 0, ..session("passing", true) };
    let (mut passing, _) = Client::connect(addr, &passing);
    passing.subscribe("$share/s/work/#", 1);
    let (mut publisher, _) = Client::connect(addr, &Connect { id: "p", clean: true, ..Connect::default() });
    for id in 1..=3 {
        assert_eq!(publisher.publish_acked("work/1", &[id as u8], 0, id), 0);
    }
    assert_eq!(passing.message().payload, [1]);
    broker.kill_and_restart();
    let (mut kept, present) = reconnect(addr, &session("kept", true));
    assert!(present);
    for want in 1..=3 {
        let message = kept.message();
        assert_eq!(message.payload, [want]);
        kept.ack(0x40, message.id).unwrap();
    }
    kept.nothing_more();
    let (_passing, present) = reconnect(addr, &session("passing", true));
    assert!(!present, "its session has ended with the broker");
}

#[test]
fn sessions_subscriptions_and_retained_messages_survive() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, _reserved) = reserve_port();
    let mut broker = Killable::start(dir.path(), addr);
    let (mut reader, _) = Client::connect(addr, &session("s", false));
    reader.subscribe("a/+", 1);
    reader.subscribe("gone", 1);
    reader.send(0xA2, &[0, 9, 0, 4, b'g', b'o', b'n', b'e']).unwrap();
    assert_eq!(reader.read().unwrap().0, 0xB0);
    let (mut publisher, _) = Client::connect(addr, &Connect { id: "p", clean: true, ..Connect::default() });
    publisher.publish_acked("a/1", b"kept", 1, 1);
    publisher.publish_acked("a/2", b"emptied", 1, 2);
    publisher.publish_acked("a/2", b"", 1, 3);
    broker.kill_and_restart();
    let (mut reader, present) = Client::connect(addr, &session("s", false));
    assert!(present);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for _ in 0..3 {
        let message = reader.message();
        seen.push(message.payload);
        reader.ack(0x40, message.id).unwrap();
    }
    assert_eq!(seen, [&b"kept"[..], b"emptied", b""]);
    let (mut fresh, _) = Client::connect(addr, &Connect { id: "f", clean: true, ..Connect::default() });
    fresh.subscribe("#", 1);
    let message = fresh.message();
    assert_eq!((message.topic.as_str(), &message.payload[..], message.retain), ("a/1", &b"kept"[..], true));
    fresh.ack(0x40, message.id).unwrap();
    let (mut publisher, _) = Client::connect(addr, &Connect { id: "p", clean: true, ..Connect::default() });
    publisher.publish_acked("gone", b"", 0, 1);
    publisher.publish_acked("a/3", b"live", 0, 2);
    assert_eq!(reader.message().payload, b"live");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_do_not_share_a_folder() {
    use sealcast_broker::{Broker, BrokerConfig, JournalError, ListenerConfig, StartError};
    let dir = tempfile::tempdir().unwrap();
    let first = tcp_broker(Some(dir.path()), crate::any_port(), Limits::default()).await;
    let config = BrokerConfig {
        listeners: vec![ListenerConfig::Tcp { addr: crate::any_port() }],
        data_dir: Some(dir.path().into()),
        limits: Limits::default(),
    };
    let second = Broker::start(config, Arc::new(crate::TestPolicy), None).await;
    assert!(matches!(second, Err(StartError::Journal(JournalError::Sqlite { .. }))));
    // A clean stop frees it, and several brokers live side by side.
    assert!(first.shutdown(PATIENCE).await);
    let again = tcp_broker(Some(dir.path()), crate::any_port(), Limits::default()).await;
    let other = tcp_broker(None, crate::any_port(), Limits::default()).await;
    assert!(again.shutdown(PATIENCE).await && other.shutdown(PATIENCE).await);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let broker = tcp_broker(Some(dir.path()), crate::any_port(), Limits::default()).await;
        let addr = broker.addrs()[0];
        tokio::task::spawn_blocking(move || {
            let (mut client, _) = Client::connect(addr, &session("s", true));
            client.publish_acked("r", b"kept", 1, 1);
        })
        .await
        .unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        }
        assert!(broker.shutdown(PATIENCE).await);
        // One that an earlier version made.
        std::fs::set_permissions(dir.path().join("broker.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
}
