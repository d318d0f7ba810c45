//! An agent on its cores: what `sealcast-agent` does with sockets, SQLite and tasks, in a few calls.
//!
//! [`Agent::run`] does everything that can be done now. Each write may fail, or be the agent's last.

mod conn;
mod control;
mod link;
mod linking;
mod outlet;
mod sessions;

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Error, Result, ensure};
use sealcast_agent_core::{
    ByFilter, Freshness, Keyring, MaxAge, Now, RecordRules, RetainedTopics, Stale, Step,
    control::{Control, Effect, Restored, Write, restore},
    session::Memory,
    values::{ArchiveOnDisk, ValueRow, ValueRules, Values},
};
use sealcast_group::Groups;
use sealcast_quality::{RuleFilter, RuleSet, TopicSpec};
use sealcast_reading::{Decoder, InputConfig, PlainConfig};

use self::{conn::Conn, link::Link};
use crate::{
    cast::Cast,
    client::Client,
    disk::{Disk, Failed},
    ghost::{Ghost, LIVE_MS, TOLERANCE_MS},
    hub::Hub,
    net::{End, Net},
};

/// Values on `hot` topics are blocked above 60, those on `warm` ones are flagged.
const RULES: &str = "[[quality]]\nfilter = 'plant/+/hot'\nrange = { max = 60, action = 'block' }\n\
                     [[quality]]\nfilter = 'plant/+/warm'\nrange = { max = 60, action = 'flag' }\n";

/// Records that a start reads at a time.
const PAGE: usize = 64;

/// What an agent acts on.
pub struct Around<'a> {
    /// Connections.
    pub net: &'a mut Net,
    /// Where calls and answers are kept.
    pub hub: &'a mut Hub,
    /// Local clients.
    pub clients: &'a mut Vec<Client>,
    /// What must hold.
    pub ghost: &'a mut Ghost,
    /// Who is who.
    pub cast: &'a Cast,
    /// By this agent's clock.
    pub now: Now,
}

/// Why an agent does not go on.
#[derive(Debug)]
pub enum Stop {
    /// It has died, as it was told to.
    Died,
    /// It did what no agent may do.
    Broken(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

/// See the module.
pub struct Agent {
    /// Its place among the devices.
    pub device: usize,
    /// Its disk.
    pub disk: Disk,
    /// By how much its clock is wrong, ms.
    pub skew_ms: u64,
    process: Option<Process>,
}

/// What an agent has in memory.
struct Process {
    control: Control,
    keyring: Keyring,
    values: Values,
    retained: RetainedTopics,
    record: RecordRules,
    link: Link,
    /// Connections of clients.
    conns: BTreeMap<usize, Conn>,
    /// What is remembered of clients that have none.
    memories: BTreeMap<String, Memory>,
    /// A step of the control plane that the disk does not take, and when it is tried again.
    stuck: Option<(Step<Write, Effect>, u64)>,
}

impl Agent {
    /// An agent whose disk is empty.
    pub fn new(device: usize) -> Self {
        let skew_ms = [0, 150, 300, 400][device % 4];
        Self { device, disk: Disk::default(), skew_ms, process: None }
    }

    /// The time by its clock.
    pub fn clock(&self, now: Now) -> Now {
        Now { unix_ms: now.unix_ms + self.skew_ms, ..now }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Its keyring, while it runs.
    pub fn keyring(&self) -> Option<&Keyring> {
        self.process.as_ref().map(|process| &process.keyring)
    }

    /// It starts from what is on its disk.
    pub fn start(&mut self, around: &mut Around<'_>) -> Result<(), Stop> {
        self.disk.reborn();
        let (cast, now) = (around.cast, around.now);
        let files = &self.disk.files;
        let mut groups = self.check_disk(cast, now)?;
        let page = |from| {
            let from = usize::try_from(from)?;
            anyhow::Ok(files.records.iter().skip(from).take(PAGE).cloned().collect())
        };
        let Restored { replica, snapshot_at } =
            restore(cast.genesis, &mut groups, files.snapshot.as_deref(), page, now.unix_ms)?;
        let own = cast.own(self.device);
        let rules = rules()?;
        let rows: Vec<_> = files.values.iter().map(row).collect();
        let plain = Decoder::new(InputConfig::Number(PlainConfig::default()))?;
        self.process = Some(Process {
            control: Control::new(own.clone(), groups, files.past.clone(), now.unix_ms).with_snapshot_at(snapshot_at),
            keyring: Keyring::new(own.clone(), Vec::new(), freshness()?, replica),
            values: Values::new(own.device, rules.clone(), &rows, ArchiveOnDisk::default(), now.unix_ms)?,
            retained: RetainedTopics::new(files.retained.keys().cloned()),
            record: RecordRules::new(ByFilter::default(), rules, plain),
            link: Link::default(),
            conns: BTreeMap::new(),
            memories: BTreeMap::new(),
            stuck: None,
        });
        self.run(around)
    }

    /// That the stored replica and the stored groups fit each other.
    pub fn check_disk(&self, cast: &Cast, now: Now) -> Result<Groups> {
        let files = &self.disk.files;
        let groups = Groups::new(cast.me(self.device)?, &cast.genesis, files.state.clone(), now.unix_ms);
        let groups = groups.context("the groups on disk")?;
        let (next, records) = (groups.next_entry(), files.records.len() as u64);
        ensure!(next == records, "the groups on disk go to record {next}, and there are {records} records");
        Ok(groups)
    }

    /// It is gone, with all that it had in memory. What it has written to its connections arrives.
    pub fn kill(&mut self, around: &mut Around<'_>) {
        self.process = None;
        let device = self.device;
        let own = |end| matches!(end, End::Control { device: of } | End::Client { device: of, .. } if of == device);
        for conn in around.net.of(own) {
            around.net.end_up(conn);
        }
        for client in 0..around.clients.len() {
            if crate::ghost::device_of(client) == device {
                around.clients[client].lost();
            }
        }
    }

    /// Everything that can be done now.
    pub fn run(&mut self, around: &mut Around<'_>) -> Result<(), Stop> {
        loop {
            let mut any = self.run_link(around)?;
            any |= self.run_control(around)?;
            any |= self.run_values(around)?;
            any |= self.run_sessions(around)?;
            if !any {
                return Ok(());
            }
        }
    }

    /// When it has something to do although nothing happens, by [`Now::run_ms`].
    pub fn poll_timeout(&self, now: Now) -> Option<u64> {
        let process = self.process.as_ref()?;
        let by_run = |unix_ms: u64| now.run_ms.saturating_add(unix_ms.saturating_sub(now.unix_ms));
        let control = match &process.stuck {
            Some((_, again_ms)) => *again_ms,
            None => by_run(process.control.poll_timeout()),
        };
        let sessions = process.conns.values().filter_map(|conn| conn.poll_timeout(now));
        let values = process.values.poll_timeout().map(by_run);
        sessions.chain(values).chain(process.link.poll_timeout()).chain([control]).min()
    }

    /// The parts of the running agent, and its disk.
    fn parts(&mut self) -> Option<(&mut Process, &mut Disk)> {
        Some((self.process.as_mut()?, &mut self.disk))
    }
}

/// What a failed write means where nothing can be tried again.
fn fatal(failed: Failed) -> Option<Stop> {
    match failed {
        Failed::Disk => None,
        Failed::Died => Some(Stop::Died),
        Failed::Broken(error) => Some(Stop::Broken(error)),
    }
}

fn row(((kind, key), value): (&(u8, String), &Vec<u8>)) -> ValueRow {
    ValueRow { kind: *kind, key: key.clone(), value: Some(value.clone()) }
}

#[derive(serde::Deserialize)]
struct Tables {
    quality: Vec<TopicSpec>,
}

fn rules() -> Result<Arc<ValueRules>> {
    let Tables { quality } = toml::from_str(RULES)?;
    let quality = Arc::new(RuleSet::new(quality)?);
    Ok(Arc::new(ValueRules::new(quality, ByFilter::default(), ByFilter::default(), None)))
}

/// Nothing is too old, except on the topics that say so.
fn freshness() -> Result<Freshness> {
    let default = MaxAge { live_ms: None, retained_ms: None, offline_ms: None, stale: Stale::Refuse };
    let limit = Some(LIVE_MS);
    let live = MaxAge { live_ms: limit, retained_ms: limit, offline_ms: limit, stale: Stale::Refuse };
    let topics = ByFilter::new(vec![("plant/+/live".parse::<RuleFilter>()?, live)]);
    Ok(Freshness { clock_tolerance_ms: TOLERANCE_MS, ledger_ms: None, default, topics })
}
