//! Between agents, hub and a broker: a network that somebody else has in his hands. It carries everything, and does to what it
//! carries what a test arms it with.
//!
//! What it does to a message in its place it does not let anybody acknowledge: nothing comes back on that connection any more,
//! and the connection ends. So whatever is acknowledged has passed unharmed, and has to arrive. What it adds is acknowledged to
//! nobody.

mod fault;
mod packets;
mod records;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

pub use self::fault::{Armed, Fault, Subject, Way};
use self::{packets::Packets, records::Records};

/// How long something is held back for what it is to come behind.
const HOLD: Duration = Duration::from_millis(200);
/// How long a connection on which nothing comes back lasts.
const DEAF: Duration = Duration::from_millis(100);

/// What it can read of what it carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// Records of TLS.
    Tls,
    /// Packets of MQTT.
    Mqtt,
}

/// See the module. Ends when dropped.
pub struct StandIn {
    runtime: Runtime,
    wire: Wire,
    /// What passed on any of its lines.
    passed: Arc<Mutex<packets::Passed>>,
}

/// One participant's way to the broker.
pub struct Line {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    wire: Wire,
    passed: Arc<Mutex<packets::Passed>>,
    inner: Mutex<Inner>,
    /// Counts how often all connections were cut.
    cuts: watch::Sender<u64>,
}

struct Inner {
    broker: SocketAddr,
    armed: VecDeque<Armed>,
    held_until: Instant,
    done: BTreeMap<Fault, usize>,
}

/// What becomes of something that passes.
enum Fate {
    Pass(Vec<u8>),
    /// It comes behind what comes next.
    Hold(Vec<u8>),
    /// It passes, and nothing comes back any more.
    Deafen(Vec<u8>),
    /// It is the last that passes.
    End(Vec<u8>),
}

impl StandIn {
    pub fn new(wire: Wire) -> Self {
        Self { runtime: Runtime::new().unwrap(), wire, passed: Arc::default() }
    }

    /// Another line to this broker.
    pub fn line(&self, broker: &str) -> Line {
        let inner = Inner {
            broker: broker.parse().unwrap(),
            armed: VecDeque::new(),
            held_until: self.now(),
            done: BTreeMap::new(),
        };
        let state = State {
            wire: self.wire,
            passed: self.passed.clone(),
            inner: Mutex::new(inner),
            cuts: watch::Sender::default(),
        };
        let state = Arc::new(state);
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let line = state.clone();
        self.runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let line = line.clone();
                tokio::spawn(async move {
                    // Whoever connects does so again if the broker is away.
                    let broker = line.inner().broker;
                    if let Ok(broker) = TcpStream::connect(broker).await {
                        line.carry(client, broker).await;
                    }
                });
            }
        });
        Line { address, state }
    }

    fn now(&self) -> Instant {
        let _on = self.runtime.enter();
        Instant::now()
    }
}

impl Line {
    /// Its port on loopback, as an argument.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on it leads here.
    pub fn lead_to(&self, broker: &str) {
        self.state.inner().broker = broker.parse().unwrap();
    }

    /// Has this happen to what passes next and fits.
    pub fn arm(&self, armed: Armed) {
        self.state.inner().armed.push_back(armed);
    }

    /// What has not happened so far does not happen any more.
    pub fn disarm(&self) {
        self.state.inner().armed.clear();
    }

    /// All its connections end.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Nothing passes for so long.
    pub fn hold_up(&self, time: Duration) {
        self.state.inner().held_until = Instant::now() + time;
    }

    /// What was done to what passed, and how often.
    pub fn done(&self) -> BTreeMap<Fault, usize> {
        self.state.inner().done.clone()
    }
}

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing that is to happen to something like this.
    fn take(&self, subject: Subject, way: Way) -> Option<Armed> {
        let mut inner = self.inner();
        let at = inner.armed.iter().position(|armed| armed.fits(subject, way))?;
        let armed = inner.armed.remove(at)?;
        *inner.done.entry(armed.fault).or_default() += 1;
        Some(armed)
    }

    /// Until either side closes, or this end does.
    async fn carry(self: Arc<Self>, client: TcpStream, broker: TcpStream) {
        let mut cuts = self.cuts.subscribe();
        let _ = client.set_nodelay(true).and(broker.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        let (deaf, mut deafened) = watch::channel(None);
        let connection = Connection { line: &self, deaf, numbers: Mutex::default() };
        let ends_deaf = async {
            let _ = deafened.wait_for(Option::is_some).await;
            sleep(DEAF).await;
        };
        // What is dropped here closes both sides.
        tokio::select! {
            _ = connection.pump(Way::Up, from_client, to_broker) => {}
            _ = connection.pump(Way::Down, from_broker, to_client) => {}
            _ = cuts.changed() => {}
            () = ends_deaf => {}
        }
    }
}

struct Connection<'a> {
    line: &'a State,
    /// The way on which nothing passes any more.
    deaf: watch::Sender<Option<Way>>,
    numbers: Mutex<packets::Numbers>,
}

impl Connection<'_> {
    async fn pump(&self, way: Way, mut from: OwnedReadHalf, to: OwnedWriteHalf) -> io::Result<()> {
        let mut units: Box<dyn Units> = match self.line.wire {
            Wire::Tls => Box::new(Records::default()),
            Wire::Mqtt => Box::new(Packets::default()),
        };
        let mut out = Out { to, held: None };
        let mut buffer = vec![0; 1 << 16];
        loop {
            let Ok(read) = timeout(HOLD, from.read(&mut buffer)).await else {
                out.release().await?;
                continue;
            };
            let count = read?;
            if count == 0 {
                return Ok(());
            }
            let fates = units.feed(&buffer[..count], self, way)?;
            let until = self.line.inner().held_until;
            sleep_until(until).await;
            for fate in fates {
                if *self.deaf.borrow() != Some(way) {
                    out.suffer(fate, || self.deafen(way.back())).await?;
                }
            }
        }
    }

    /// Nothing passes on this way any more.
    fn deafen(&self, way: Way) {
        self.deaf.send_replace(Some(way));
    }
}

/// What cuts a stream into its units, and knows what can be done to one of them.
trait Units: Send {
    /// What becomes of each unit that these bytes complete.
    fn feed(&mut self, bytes: &[u8], on: &Connection<'_>, way: Way) -> io::Result<Vec<Fate>>;
}

/// Where to, and what is held back.
struct Out {
    to: OwnedWriteHalf,
    held: Option<Vec<u8>>,
}

impl Out {
    async fn suffer(&mut self, fate: Fate, deafen: impl FnOnce()) -> io::Result<()> {
        match fate {
            Fate::Hold(bytes) if self.held.is_none() => {
                self.held = Some(bytes);
                return Ok(());
            }
            Fate::Pass(bytes) | Fate::Hold(bytes) => self.to.write_all(&bytes).await?,
            Fate::Deafen(bytes) => {
                deafen();
                self.to.write_all(&bytes).await?;
            }
            Fate::End(bytes) => {
                self.to.write_all(&bytes).await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        self.release().await
    }

    async fn release(&mut self) -> io::Result<()> {
        match self.held.take() {
            Some(bytes) => self.to.write_all(&bytes).await,
            None => Ok(()),
        }
    }
}
