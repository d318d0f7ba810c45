//! What the console knows, and whoever feeds it: the hub, its broker, the agents, the demo.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard},
    time::{Duration, Instant},
};

use anyhow::Result;
use sealcast_broker::Sighting;
use sealcast_group::PublicGroups;
use sealcast_hub_core::SharedReplica;
use sealcast_identity::{Certificate, DeviceId};
use sealcast_ledger::{Event, Record, Replica};
use sealcast_node::now_ms;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    access::{Attempts, Role, Session, Sessions, SignedInBy, Token, Verifier, role_of},
    actions::{Actions, Call, Orders, Outcome},
    feed::Feed,
    log::Log,
    model::{
        Alarm, Demo, FeedEvent, Group, HubState, LedgerState, Node, Place, Series, State, Totals, TotalsEvent,
        WireEvent,
    },
    reports::Reports,
    shared::Shared,
    traffic::Traffic,
    verify::{Records, Verification},
    view::{Seen, Snapshot, View},
};

/// The file in the hub's folder with the verifier of the reader's token.
const VERIFIER: &str = "console.verifier";
/// The longest that the operator's process is made to wait.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// Readers of the feed at a time.
const MAX_FEEDS: usize = 64;

/// What the console is told once.
pub struct Setup {
    /// The hub's folder.
    pub dir: PathBuf,
    /// The hub's names, the public one first.
    pub names: Vec<String>,
    /// What devices are told of the broker.
    pub broker: String,
    /// Whether that is the hub's own.
    pub own_broker: bool,
    /// Where the ledger is.
    pub place: Place,
    /// How long certificates last.
    pub lifetime: Duration,
    /// Whether the console is served over TLS.
    pub tls: bool,
    /// The port at which it is.
    pub port: u16,
    /// Where it is, for a person.
    pub url: String,
    /// The hub's copy of the ledger.
    pub replica: SharedReplica,
    /// The groups' public part, in step with it.
    pub groups: Arc<Mutex<PublicGroups>>,
    /// The devices that sign in as readers by their certificates.
    pub certificates: BTreeSet<DeviceId>,
    /// Reads the ledger's records.
    pub records: Records,
    /// Cancelled when the hub is to end.
    pub stop: CancellationToken,
}

/// See the module.
pub struct Console {
    pub(crate) setup: Setup,
    started: u64,
    pub(crate) log: Mutex<Log>,
    pub(crate) traffic: Mutex<Traffic>,
    online: Mutex<Option<BTreeSet<String>>>,
    demo: Mutex<Option<Demo>>,
    /// What the agents report.
    pub reports: Reports,
    pub(crate) feed: Arc<Feed>,
    pub(crate) sessions: Sessions,
    pub(crate) attempts: Attempts,
    pub(crate) actions: Actions,
    pub(crate) verification: Verification,
    /// The readings that nodes share.
    pub(crate) shared: Mutex<Shared>,
    /// How many may read the feed.
    pub(crate) feeds: Arc<Semaphore>,
    told: Mutex<Told>,
}

/// What the readers of the feed were told last.
#[derive(Default)]
struct Told {
    nodes: BTreeMap<String, Node>,
    groups: BTreeMap<String, Group>,
    alarms: Vec<Alarm>,
    /// Whose turn is first, of those of which counters alone have changed.
    turn: usize,
}

/// Devices that one tick tells of: the others' turn comes with the next.
const MAX_TOLD: usize = 50;

/// A new token for readers, whose verifier is kept in the hub's folder `dir`. The former one signs nobody in any more.
///
/// # Errors
/// The file cannot be written.
pub fn new_token(dir: &std::path::Path) -> Result<Token> {
    let token = Token::generate()?;
    use_token(dir, &token)?;
    Ok(token)
}

/// From now on this is the token for readers. The former one signs nobody in any more.
///
/// # Errors
/// The file cannot be written.
pub fn use_token(dir: &std::path::Path, token: &Token) -> Result<()> {
    token.verifier().write(&dir.join(VERIFIER))
}

/// A token for readers, if the hub's folder has none yet.
///
/// # Errors
/// The file cannot be read or written.
pub fn first_token(dir: &std::path::Path) -> Result<Option<Token>> {
    match Verifier::read(&dir.join(VERIFIER))? {
        Some(_) => Ok(None),
        None => new_token(dir).map(Some),
    }
}

impl Console {
    /// One that nobody has told anything yet.
    pub fn new(setup: Setup) -> Arc<Self> {
        let started = now_ms();
        Arc::new(Self {
            setup,
            started,
            log: Mutex::default(),
            traffic: Mutex::default(),
            online: Mutex::default(),
            demo: Mutex::default(),
            reports: Reports::default(),
            feed: Arc::new(Feed::new(started)),
            sessions: Sessions::default(),
            attempts: Attempts::default(),
            actions: Actions::default(),
            verification: Verification::default(),
            shared: Mutex::default(),
            feeds: Arc::new(Semaphore::new(MAX_FEEDS)),
            told: Mutex::default(),
        })
    }

    /// Takes a record, which the replica and then the groups have just taken: while both are locked.
    pub fn observe(&self, replica: &Replica, groups: &PublicGroups, record: &Record, event: Event) {
        let (entry, value) = lock(&self.log).observe(replica, groups, record, event);
        self.feed.push(&FeedEvent::Entry(entry));
        if let Some(value) = value {
            self.feed.push(&FeedEvent::Value(value));
        }
    }

    /// Takes new readings that a node shares. Whoever calls has made sure that they are the node's.
    pub fn share(&self, series: Series) {
        lock(&self.shared).take(series, Instant::now());
    }

    /// Takes messages of the hub's own broker.
    pub fn take(&self, messages: &[Sighting]) {
        let (replica, now_ms) = (self.replica(), now_ms());
        let mut traffic = lock(&self.traffic);
        for message in messages {
            traffic.take(&replica, message, now_ms);
        }
    }

    /// Which devices are connected to the hub's own broker.
    pub fn set_online(&self, devices: BTreeSet<String>) {
        *lock(&self.online) = Some(devices);
    }

    /// How far the demo has come.
    pub fn set_demo(&self, demo: Demo) {
        self.feed.push(&FeedEvent::Demo(demo.clone()));
        *lock(&self.demo) = Some(demo);
    }

    /// Whether somebody is signed in.
    pub fn is_watched(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Whether the hub is the demo's.
    pub fn is_demo(&self) -> bool {
        lock(&self.demo).is_some()
    }

    /// In the demo: what a node's application got of the newest message on `topic`; `None`: nothing.
    pub fn set_read(&self, topic: &str, node: &str, text: Option<String>) {
        let wire = lock(&self.traffic).read(topic, node, text);
        if let Some(wire) = wire {
            self.feed.push(&FeedEvent::Wire(WireEvent { messages: vec![wire] }));
        }
    }

    /// A call of the operator's process, which has shown that it has the operator's key. `None` if another such process is
    /// connected, or the call is malformed.
    pub async fn call(&self, call: Call) -> Option<Orders> {
        let verifier = Verifier::from_hex(&call.verifier)?;
        let outcomes = self.actions.hear(verifier, call.outcomes, Instant::now())?;
        self.tell_outcomes(outcomes);
        let actions = self.actions.wait(Duration::from_millis(call.wait_ms).min(MAX_WAIT)).await;
        Some(Orders { actions, console: self.setup.url.clone() })
    }

    /// What is due ten times a second.
    pub(crate) fn tell_traffic(&self) {
        let mut traffic = lock(&self.traffic);
        if self.sessions.is_empty() {
            return traffic.pass_over();
        }
        let news = traffic.news(now_ms());
        drop(traffic);
        if let Some((wire, links)) = news {
            self.feed.push(&FeedEvent::Wire(wire));
            self.feed.push(&FeedEvent::Links(links));
        }
    }

    /// What is due once a second. `since`: how long ago it was done last.
    pub(crate) fn tick(&self, since: Duration) {
        lock(&self.traffic).look(since);
        self.tell_outcomes(self.actions.expire(Instant::now()));
        // Whoever signed in by a token or a certificate that is good no more has to sign in again.
        let (reader, operator) = (self.reader(), self.actions.verifier());
        self.sessions.keep_only(|role, by| match (by, role) {
            (SignedInBy::Token(verifier), Role::Reader) => Some(*verifier) == reader,
            (SignedInBy::Token(verifier), Role::Operator) => Some(*verifier) == operator,
            (SignedInBy::Certificate(certificate), role) => self.role_of(certificate) == Ok(role),
        });
        let shared = lock(&self.shared).take_untold();
        if self.sessions.is_empty() {
            return;
        }
        shared.into_iter().for_each(|value| self.feed.push(&FeedEvent::Value(value)));
        let (totals, ledger, hub) = (self.totals(), self.ledger(), self.hub());
        self.feed.push(&FeedEvent::Totals(Box::new(TotalsEvent { at: now_ms(), totals, ledger, hub })));
        let mut told = lock(&self.told);
        let view = self.view();
        told.turn = told.turn.wrapping_add(MAX_TOLD);
        let turn = told.turn;
        for node in changed(&told.nodes, view.nodes, turn, |node| &node.id).into_iter().take(MAX_TOLD) {
            self.feed.push(&FeedEvent::Node(Box::new(node.clone())));
            told.nodes.insert(node.id.clone(), node);
        }
        for group in changed(&told.groups, view.groups, turn, |group| &group.name).into_iter().take(MAX_TOLD) {
            self.feed.push(&FeedEvent::Group(Box::new(group.clone())));
            told.groups.insert(group.name.clone(), group);
        }
        if told.alarms != view.alarms {
            self.feed.push(&FeedEvent::Alarms(view.alarms.clone()));
            told.alarms = view.alarms;
        }
    }

    /// Begins a session; gives its cookie. Whoever is the first one loads all of it, and is told what changes from here on.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn sign_in(&self, role: Role, verifier: Verifier, now: Instant) -> Result<(String, Session)> {
        let _told = self.look_if_first();
        self.sessions.begin(role, verifier, now)
    }

    /// The cookie of a certificate's session, as [`Self::sign_in`] has one for a token, and whether the session begins now.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn sign_in_by(&self, role: Role, certificate: Certificate) -> Result<(String, bool)> {
        let _told = self.look_if_first();
        self.sessions.of_certificate(role, certificate, Instant::now())
    }

    /// What the owner of a certificate, which the CA has issued, may do.
    ///
    /// # Errors
    /// Why they may not sign in by it.
    pub(crate) fn role_of(&self, certificate: &Certificate) -> Result<Role, &'static str> {
        role_of(&self.replica(), &self.setup.certificates, certificate, now_ms())
    }

    /// While this is held, nobody else becomes the first one.
    fn look_if_first(&self) -> MutexGuard<'_, Told> {
        let mut told = lock(&self.told);
        if self.sessions.is_empty() {
            let View { nodes, groups, alarms } = self.view();
            told.nodes = nodes.into_iter().map(|node| (node.id.clone(), node)).collect();
            told.groups = groups.into_iter().map(|group| (group.name.clone(), group)).collect();
            told.alarms = alarms;
        }
        told
    }

    /// The verifier of the token for readers.
    pub(crate) fn reader(&self) -> Option<Verifier> {
        match Verifier::read(&self.setup.dir.join(VERIFIER)) {
            Ok(verifier) => verifier,
            Err(error) => {
                tracing::warn!("nobody can sign in to the console as a reader: {error:#}");
                None
            }
        }
    }

    fn tell_outcomes(&self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            self.feed.push(&FeedEvent::Action(outcome));
        }
    }

    pub(crate) fn state(&self) -> State {
        // Read first: an event that comes meanwhile is told again, and none is missed.
        let event = self.feed.newest().to_string();
        let View { nodes, groups, alarms } = self.view();
        State {
            at: now_ms(),
            event,
            hub: self.hub(),
            ledger: self.ledger(),
            totals: self.totals(),
            nodes,
            groups,
            alarms,
            demo: lock(&self.demo).clone(),
        }
    }

    pub(crate) fn view(&self) -> View {
        let snapshot = {
            let replica = self.replica();
            let groups = lock(&self.setup.groups);
            Snapshot::take(&replica, &groups)
        };
        let (reports, online) = (self.reports.all(), lock(&self.online).clone());
        let lifetime_ms = u64::try_from(self.setup.lifetime.as_millis()).unwrap_or(u64::MAX);
        let (log, traffic) = (lock(&self.log), lock(&self.traffic));
        let seen = Seen {
            traffic: &traffic,
            log: &log,
            reports: &reports,
            online: online.as_ref(),
            started: self.started,
            lifetime_ms,
            now_ms: now_ms(),
        };
        View::new(&snapshot, &seen)
    }

    fn totals(&self) -> Totals {
        let all = lock(&self.traffic).all;
        let mut totals = Totals { messages: all.messages, per_second: all.per_second, ..Totals::default() };
        self.reports.sum(&mut totals);
        totals
    }

    fn ledger(&self) -> LedgerState {
        let replica = self.replica();
        let id = replica.current_id();
        LedgerState {
            chain_id: id.chain_id,
            contract: format!("0x{}", hex::encode(id.address)),
            height: replica.height(),
            head: replica.head().to_string(),
            place: self.setup.place,
            last: replica.last_time_s().saturating_mul(1000),
        }
    }

    pub(crate) fn hub(&self) -> HubState {
        HubState {
            name: self.name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            broker: self.setup.broker.clone(),
            own_broker: self.setup.own_broker,
            operator: self.actions.is_connected(Instant::now()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.setup.names.first().map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn replica(&self) -> RwLockReadGuard<'_, Replica> {
        self.setup.replica.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that are new or not as they were told: what is more than counters first, the others from `turn` on.
fn changed<T: Weighed>(told: &BTreeMap<String, T>, now: Vec<T>, turn: usize, id: fn(&T) -> &String) -> Vec<T> {
    let changed = now.into_iter().filter(|it| told.get(id(it)) != Some(it));
    let is_count = |it: &T| told.get(id(it)).is_some_and(|before| before.differs_in_counts_only(it));
    let (mut counts, mut others): (Vec<T>, Vec<T>) = changed.partition(is_count);
    let first = turn.checked_rem(counts.len()).unwrap_or_default();
    counts.rotate_left(first);
    others.append(&mut counts);
    others
}

trait Weighed: PartialEq {
    fn differs_in_counts_only(&self, other: &Self) -> bool;
}

impl Weighed for Node {
    fn differs_in_counts_only(&self, other: &Self) -> bool {
        let Self { seen, messages, sealed, opened, refused, .. } = *other;
        Self { seen, messages, sealed, opened, refused, ..self.clone() } == *other
    }
}

impl Weighed for Group {
    fn differs_in_counts_only(&self, other: &Self) -> bool {
        let Self { messages, per_second, .. } = *other;
        Self { messages, per_second, ..self.clone() } == *other
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
