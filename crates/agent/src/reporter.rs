//! Tells the hub how the agent is, for the hub's console: counts, and topics whose values break a rule. Neither payloads nor
//! values.

use std::{sync::Arc, time::Duration};

use sealcast_agent_core::{Cause, values::AlarmKind};
use sealcast_identity::SigningKey;
use sealcast_ledger::{LedgerId, Number};
use sealcast_ledger_client::{NodeReport, RemoteLedger, SignedReport, ValueAlarm};
use sealcast_node::{HubChannel, now_ms};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::client::Shared;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// What has not changed is told again after so long: a hub that was started since does not know it.
const AGAIN: Duration = Duration::from_secs(60);

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
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = every.tick() => {}
            }
            let report = self.look();
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
                Ok(()) => told = Some((report, Instant::now())),
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
        let report = NodeReport {
            at_ms: 0,
            sealed: overview.groups.iter().map(|group| group.sealed.messages).sum(),
            opened: overview.groups.iter().map(|group| group.opened.messages).sum(),
            refused: Cause::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect(),
            alarms,
            missing: overview.missing.iter().map(|why| (why.cause.code().to_owned(), why.text.clone())).collect(),
        };
        report.bounded()
    }
}
