//! Tells the hub how the agent is, for the hub's console: counts, topics whose values break a rule, and the readings that the
//! configuration shares. No other value, and no payload.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sealcast_agent_core::{
    Cause,
    values::{self, AlarmKind, SharedReading},
};
use sealcast_identity::SigningKey;
use sealcast_ledger::{LedgerId, Number};
use sealcast_ledger_client::{
    NodeReport, RemoteLedger, SharedPoint, SharedSeries, SharedVerdict, SignedReport, ValueAlarm,
};
use sealcast_node::{HubChannel, now_ms};
use sealcast_quality::Action;
use sealcast_reading::Decimal;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::client::Shared;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// What has not changed is told again after so long: a hub that was started since does not know it.
const AGAIN: Duration = Duration::from_secs(60);

/// Readings that wait while the hub does not answer; of more, the oldest are left out.
const MAX_WAITING: usize = 128;

/// See the module.
pub struct Reporter {
    /// What is reported.
    pub shared: Arc<Shared>,
    /// By which way.
    pub hub: RemoteLedger<HubChannel>,
    /// The device.
    pub number: Number,
    /// Its key.
    pub key: SigningKey,
    /// Its ledger.
    pub ledger: LedgerId,
}

impl Reporter {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<(NodeReport, Instant)> = None;
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = every.tick() => {}
            }
            waiting.append(&mut self.shared.values.with(values::Values::take_shared));
            waiting.drain(..waiting.len().saturating_sub(MAX_WAITING));
            let report = NodeReport { shared: series(&waiting), ..self.look() }.bounded();
            let same = |(before, at): &(NodeReport, Instant)| *before == report && at.elapsed() < AGAIN;
            if !self.shared.data.is_hub_answering() || told.as_ref().is_some_and(same) {
                continue;
            }
            let dated = NodeReport { at_ms: now_ms(), ..report.clone() };
            let outcome = match SignedReport::sign(&dated, self.number, &self.key, &self.ledger) {
                Ok(signed) => self.hub.report(&signed).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match outcome {
                Ok(()) => {
                    waiting.clear();
                    // The hub has these readings: the next report has newer ones.
                    told = Some((NodeReport { shared: Vec::new(), ..report }, Instant::now()));
                }
                // The console is for people to look at: nothing depends on it.
                Err(error) => debug!(error, "the hub does not take this agent's report"),
            }
        }
    }

    /// As it is now, without a time.
    fn look(&self) -> NodeReport {
        let Shared { data, events, values, .. } = &*self.shared;
        let overview = data.overview(now_ms());
        let count = |cause: &Cause| (cause.code().to_owned(), events.count(*cause));
        let alarms = values.with(|values| {
            let alarm = |alarm: &sealcast_agent_core::values::Alarm| ValueAlarm {
                topic: alarm.topic.clone(),
                is_silent: alarm.kind == AlarmKind::Silent,
                rules: alarm.checks.iter().map(|finding| finding.check.clone()).collect(),
                since_ms: alarm.since_ms,
            };
            values.alarms().map(alarm).collect()
        });
        NodeReport {
            at_ms: 0,
            sealed: overview.groups.iter().map(|group| group.sealed.messages).sum(),
            opened: overview.groups.iter().map(|group| group.opened.messages).sum(),
            refused: Cause::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect(),
            alarms,
            missing: overview.missing.iter().map(|why| (why.cause.code().to_owned(), why.text.clone())).collect(),
            shared: Vec::new(),
        }
    }
}

/// One series for each topic and name.
fn series(readings: &[SharedReading]) -> Vec<SharedSeries> {
    let mut all: BTreeMap<(&str, &str), SharedSeries> = BTreeMap::new();
    for reading in readings {
        let SharedReading { topic, name, at_ms, value, unit, action, reason, limits } = reading;
        let limit = |limit: Option<Decimal>| limit.map(Decimal::to_f64);
        let point = SharedPoint { at_ms: *at_ms, value: *value, verdict: verdict(*action), reason: reason.clone() };
        let new = || SharedSeries {
            topic: topic.clone(),
            name: name.clone(),
            unit: unit.clone(),
            min: limit(limits.min),
            max: limit(limits.max),
            step: limit(limits.step),
            points: Vec::new(),
        };
        all.entry((topic, name)).or_insert_with(new).points.push(point);
    }
    all.into_values().collect()
}

fn verdict(action: Action) -> SharedVerdict {
    match action {
        Action::Pass => SharedVerdict::Good,
        Action::Flag => SharedVerdict::Flagged,
        Action::Block => SharedVerdict::Blocked,
    }
}
